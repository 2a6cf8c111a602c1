//! Who may do what: one [`authorise`] for every hand-over of a message.
//!
//! Promise: a right that no rule gives is not there. Where rules exist, what they do not allow is
//! denied; an empty rule file denies everything. Two things no rule lifts: `$SYS` is published by
//! the server alone, and `$CONTROL` is closed.
//!
//! Rules are looked up in two stages, as Mosquitto does (`acl_file` in mosquitto.conf(5)): first
//! those of the user, or of anonymous clients, or those that came with a token; then the patterns
//! that hold for everybody. In each stage a denial wins over whatever allows; what the first stage
//! decides, the second does not change.
//!
//! A name never widens a rule: `%c` and `%u` are compared with one level of the topic, they are not
//! pasted into a filter (see [`rules`](Rules)).
//!
//! ```text
//!   acl file, roles ──▶ Builder ──▶ Access ◀── authorise(access, who, action, topic) ◀── shard
//!   token claims ─────▶ Rules ────▶ Identity.claims ──▶ who
//! ```
//!
//! Not here: who somebody is (`Identity` is made elsewhere), what happens to what is denied
//! (`shard`).

mod build;
mod fault;
mod file;
mod identity;
mod network;
mod rights;
mod rules;
#[cfg(test)]
mod tests;

pub use build::{Builder, RoleRules};
pub use fault::{AclError, AclFault};
pub use identity::{Identity, users};
pub use network::{Network, NoNetwork};
pub use rights::{Action, Rights};
pub use rules::Rules;

use ahash::AHashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Whom a decision is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// Client identifier, `%c` of patterns.
    pub client_id: &'a str,
    /// User name, `%u` of patterns; `None` = anonymous.
    pub user: Option<&'a str>,
    /// Rules that came with the client's token. They take the place of those of its user.
    pub claims: Option<&'a Rules>,
    /// Where it connects from, as far as that is known. No rule asks for it.
    pub address: Option<IpAddr>,
    /// Number of the listener it came in by, which may have rules of its own. `None` = nobody knows
    /// any more: what the rules of some open listener with these users allow is allowed.
    pub listener: Option<u16>,
    /// Whose user it is, for who has no listener.
    pub users: Users<'a>,
}

/// Whose users: one name is two users of two sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Users<'a> {
    /// Nobody knows, or it is nobody's user.
    #[default]
    Unknown,
    /// Those of the broker.
    Common,
    /// Those of listeners that have them of their own, by [`Identity::users`].
    Own(&'a str),
}

impl Users<'_> {
    fn may_be(self, set: Option<&str>) -> bool {
        match self {
            Users::Unknown => true,
            Users::Common => set.is_none(),
            Users::Own(mine) => set == Some(mine),
        }
    }
}

/// What is special about one listener.
#[derive(Clone, Debug)]
pub struct At {
    /// Place of its rules, if they are its own.
    pub own: Option<usize>,
    /// Clients may come in by it.
    pub is_open: bool,
    /// Whose users log in there; `None` = those of the broker.
    pub users: Option<Arc<str>>,
}

/// Answer of [`authorise`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Reason 0x87.
    Deny,
}

/// All rules of the broker, compiled. Never changed: a reload makes another.
#[derive(Debug)]
pub struct Access {
    /// Without rules everything is allowed.
    ruled: bool,
    sets: Vec<Rules>,
    /// Places in `sets` by user name.
    users: AHashMap<Box<str>, Box<[u32]>>,
    /// Sets of every client with a user name.
    named: Box<[u32]>,
    /// Sets of clients without one.
    anonymous: Box<[u32]>,
    /// Second stage, for everybody.
    patterns: Rules,
    /// Rules of listeners that have their own instead of these.
    own: Vec<Arc<Access>>,
    /// By the number of the listener; further ones have nothing of their own.
    listeners: Vec<At>,
    /// Whose users are under which rules at listeners that are open; no two are the same.
    open: Vec<(Option<Arc<str>>, Option<usize>)>,
}

impl Default for Access {
    fn default() -> Self {
        Access::allow_all()
    }
}

impl Access {
    /// No rules: everybody may do everything that is not closed to all.
    pub fn allow_all() -> Self {
        Access {
            ruled: false,
            sets: Vec::new(),
            users: AHashMap::new(),
            named: Box::default(),
            anonymous: Box::default(),
            patterns: Rules::default(),
            own: Vec::new(),
            listeners: Vec::new(),
            open: Vec::new(),
        }
    }

    /// The same, with rules of their own for some listeners, which are told of by their numbers.
    #[must_use]
    pub fn with_own(self, own: Vec<Arc<Access>>, listeners: Vec<At>) -> Self {
        let mut open = Vec::new();
        for at in listeners.iter().filter(|at| at.is_open) {
            let one = (at.users.clone(), at.own);
            if !open.contains(&one) {
                open.push(one);
            }
        }
        Access { own, listeners, open, ..self }
    }

    /// The rules that a listener has of its own.
    pub fn own_of(&self, number: u16) -> Option<&Arc<Access>> {
        let place = self.listeners.get(usize::from(number))?.own?;
        self.own.get(place)
    }

    /// Are there rules; without any, only clients with claims have less than all rights.
    pub fn is_ruled(&self) -> bool {
        self.ruled || self.own.iter().any(|own| own.is_ruled())
    }

    /// The same rules hold at both listeners.
    pub fn are_alike(&self, one: Option<u16>, other: Option<u16>) -> bool {
        self.own.is_empty() || one == other
    }

    /// The rules of one listener.
    fn of_listener(&self, number: u16) -> &Access {
        self.own_of(number).map_or(self, |own| own)
    }

    /// Some listener by which this client may come has rules that allow it.
    fn allows_somewhere(&self, who: Who<'_>, action: Action, topic: &str) -> bool {
        let allows = |one: &Access| one.decide(who, action, topic) == Verdict::Allow;
        if self.own.is_empty() {
            return allows(self);
        }
        let at = self.open.iter().filter(|(users, _)| who.users.may_be(users.as_deref()));
        let mut rules =
            at.map(|(_, own)| own.and_then(|own| self.own.get(own)).map_or(self, |own| own));
        rules.any(allows)
    }

    fn decide(&self, who: Who<'_>, action: Action, topic: &str) -> Verdict {
        if !self.ruled && who.claims.is_none() {
            return Verdict::Allow;
        }
        let first = match who.claims {
            Some(claims) => claims.decide(who, action, topic),
            None => self.sets_of(who.user).fold(rules::Found::default(), |found, set| {
                found.with(set.decide(who, action, topic))
            }),
        };
        let verdict = first.verdict(action);
        let verdict = verdict.or_else(|| self.patterns.decide(who, action, topic).verdict(action));
        verdict.unwrap_or(Verdict::Deny)
    }

    /// The sets of the first stage.
    fn sets_of(&self, user: Option<&str>) -> impl Iterator<Item = &Rules> {
        let (common, own) = match user {
            Some(user) => (&self.named, self.users.get(user)),
            None => (&self.anonymous, None),
        };
        let places = common.iter().chain(own.into_iter().flatten());
        places.filter_map(|place| self.sets.get(*place as usize))
    }
}

/// Decides about one action of a client on one topic. The only place where rights are decided.
///
/// `topic` is a valid topic name, for [`Action::Subscribe`] the path of a valid filter. A filter is
/// allowed if some topic that it matches may be allowed, and no single denial takes in all of it:
/// whoever may read `a/#` may subscribe to `#`, and gets of it what it may read, because every
/// message is decided on again for its own topic. (Mosquitto's file grants every subscription and
/// filters messages alone.)
///
/// Cost: for a topic of `l` levels and a set of `n` rules O(l log n) as long as few rules have `+`
/// where others differ, never more than O(n log n); for a filter the same, where a `+` in it visits
/// every level that rules name there. Nothing is allocated as long as
/// there is one way to go on.
///
/// Source: MQTT 5.0 §4.7.2 (topics beginning with `$` are the server's to define), §5.4.2.
pub fn authorise(access: &Access, who: Who<'_>, action: Action, topic: &str) -> Verdict {
    if is_closed(action, topic) {
        return Verdict::Deny;
    }
    match who.listener {
        Some(listener) => access.of_listener(listener).decide(who, action, topic),
        None if access.allows_somewhere(who, action, topic) => Verdict::Allow,
        None => Verdict::Deny,
    }
}

/// What nobody may do, whatever the rules say.
fn is_closed(action: Action, topic: &str) -> bool {
    if !topic.starts_with('$') {
        return false;
    }
    match topic.split('/').next() {
        Some("$CONTROL") => true,
        Some("$SYS") => action == Action::Publish,
        Some(_) | None => false,
    }
}
