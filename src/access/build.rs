//! From what administrators write to compiled rules.

use super::file::{self, Drafts};
use super::rules::Draft;
use super::{Access, AclError, AclFault, Rules};
use ahash::AHashMap;
use std::collections::BTreeMap;

/// Users of a role that stands for every client with a user name.
const EVERY_USER: &str = "*";
/// Users of a role that stands for every client without one.
const ANONYMOUS: &str = "anonymous";

/// A role: some rules for some users.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoleRules<'a> {
    /// User names; `*` = every client with a user name, `anonymous` = every client without.
    pub users: &'a [String],
    /// Filters of topics that may be published to.
    pub publish: &'a [String],
    /// Filters of topics that may be subscribed to and received.
    pub subscribe: &'a [String],
    /// Filters of topics that may be neither, whatever other roles of the user say.
    pub deny: &'a [String],
}

/// Collects rules. What it builds denies whatever they do not allow, even if there are none.
#[derive(Debug, Default)]
pub struct Builder {
    sets: Vec<Rules>,
    users: BTreeMap<String, Vec<u32>>,
    named: Vec<u32>,
    anonymous: Vec<u32>,
    patterns: Draft,
}

impl Builder {
    /// No rules: what is built of it denies everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the rules of a file in Mosquitto's format.
    ///
    /// # Errors
    /// The first line that is not of the format; nothing of the file was added then.
    pub fn file(&mut self, text: &str) -> Result<(), AclError> {
        let Drafts { anonymous, users, patterns } = file::read(text)?;
        let place = self.add(anonymous.compile(false));
        self.anonymous.push(place);
        for (user, draft) in users {
            let place = self.add(draft.compile(false));
            self.users.entry(user).or_default().push(place);
        }
        self.patterns.append(patterns);
        Ok(())
    }

    /// Adds a role; `%c` and `%u` in its filters stand for names.
    ///
    /// # Errors
    /// The first text that is not what it should be.
    pub fn role(&mut self, role: RoleRules<'_>) -> Result<(), AclFault> {
        if role.users.iter().any(String::is_empty) {
            return Err(AclFault::NoUser);
        }
        if role.users.iter().any(|user| user.contains('\0')) {
            return Err(AclFault::NullInUser);
        }
        let [publish, subscribe, deny] =
            [role.publish, role.subscribe, role.deny].map(|list| list.iter().map(String::as_str));
        let rules = Rules::new(publish, subscribe, deny)?;
        let place = self.add(rules);
        for user in role.users {
            match user.as_str() {
                EVERY_USER => self.named.push(place),
                ANONYMOUS => self.anonymous.push(place),
                user => self.users.entry(user.to_owned()).or_default().push(place),
            }
        }
        Ok(())
    }

    /// All of it, compiled.
    pub fn build(self) -> Access {
        let users: AHashMap<Box<str>, Box<[u32]>> = self
            .users
            .into_iter()
            .map(|(user, places)| (user.into_boxed_str(), places.into_boxed_slice()))
            .collect();
        Access {
            ruled: true,
            sets: self.sets,
            users,
            named: self.named.into_boxed_slice(),
            anonymous: self.anonymous.into_boxed_slice(),
            patterns: self.patterns.compile(true),
            own: Vec::new(),
            listeners: Vec::new(),
            open: Vec::new(),
        }
    }

    /// # Panics
    /// With 2³² sets, for which no memory suffices.
    fn add(&mut self, rules: Rules) -> u32 {
        self.sets.push(rules);
        u32::try_from(self.sets.len() - 1).expect("fewer sets than 2^32")
    }
}
