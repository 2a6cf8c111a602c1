//! What the audit log hears of clients: who came, who was refused, who lost what.
//!
//! Promise: an event names client, user and address and holds no secret; of events that anybody can
//! cause a shard tells [`LINES_PER_S`] of each kind in a second, and with the next one how many it
//! did not tell. Where no audit log is kept an event costs one comparison.

use super::Shard;
use super::login::shorten;
use super::slots::Key;
use crate::access::Action;
use crate::auth::Login;
use crate::codec::Reason;
use shards::{ConnId, Millis};
use std::cell::Cell;
use std::fmt;
use tracing::info;

/// Where in the log it stands who comes and goes: a part of the broker whose level can be set.
pub const CONNECTIONS: &str = "culex::connections";
/// Lines of one kind and one second.
const LINES_PER_S: u32 = 20;

/// Events that anybody can cause as often as he likes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A login was refused.
    Login,
    /// A client was not let do something.
    Denied,
    /// A client took the connection of another.
    TakeOver,
    /// The broker ended a connection.
    Kicked,
}

/// Counts lines.
#[derive(Debug, Default)]
pub(super) struct Trail {
    kinds: [Pace; 4],
}

#[derive(Debug, Default)]
struct Pace {
    second: Cell<u64>,
    count: Cell<u32>,
    untold: Cell<u64>,
}

impl Trail {
    /// This event may be told; gives how many before it were not.
    fn may_tell(&self, kind: Kind, now: Millis) -> Option<u64> {
        let pace = self.kinds.get(kind as usize)?;
        let second = now.0 / 1000;
        if pace.second.replace(second) != second {
            pace.count.set(0);
        }
        if pace.count.get() >= LINES_PER_S {
            pace.untold.set(pace.untold.get() + 1);
            return None;
        }
        pace.count.set(pace.count.get() + 1);
        Some(pace.untold.take())
    }
}

impl Shard {
    /// A client came in.
    pub(super) fn audit_login(&self, key: Key, login: &Login, session_present: bool) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        info!(
            target: "audit",
            event = "login",
            outcome = "ok",
            client = shorten(session.client_id.as_str()),
            user = session.identity.user.as_deref().map(shorten),
            peer = login.address.map(tracing::field::display),
            listener = login.listener,
            session_present,
            shard = self.place.shard,
        );
        if !session_present && session.expiry_s > 0 {
            let (client, expiry_s) = (shorten(session.client_id.as_str()), session.expiry_s);
            info!(target: "audit", event = "session_created", client, expiry_s);
        }
    }

    /// A client did not come in.
    pub(super) fn audit_refusal(&self, login: &Login, cause: fmt::Arguments<'_>, now: Millis) {
        let Some(untold) = self.trail.may_tell(Kind::Login, now) else { return };
        info!(
            target: "audit",
            event = "login",
            outcome = "refused",
            %cause,
            client = shorten(&login.client_id),
            user = login.user.as_deref().map(shorten),
            peer = login.address.map(tracing::field::display),
            listener = login.listener,
            shard = self.place.shard,
            untold,
        );
    }

    /// The connection of a session goes to another one.
    pub(super) fn audit_take_over(&self, key: Key, login: &Login, now: Millis) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let Some(untold) = self.trail.may_tell(Kind::TakeOver, now) else { return };
        info!(
            target: "audit",
            event = "take_over",
            client = shorten(session.client_id.as_str()),
            user = session.identity.user.as_deref().map(shorten),
            peer = login.address.map(tracing::field::display),
            shard = self.place.shard,
            untold,
        );
    }

    /// A client was not let publish or subscribe.
    pub(super) fn audit_denied(&self, key: Key, action: Action, topic: &str) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let Some(untold) = self.trail.may_tell(Kind::Denied, self.now) else { return };
        info!(
            target: "audit",
            event = "denied",
            action = ?action,
            topic = shorten(topic),
            client = shorten(session.client_id.as_str()),
            user = session.identity.user.as_deref().map(shorten),
            shard = self.place.shard,
            untold,
        );
    }

    /// The broker ends a connection.
    pub(super) fn audit_kicked(&self, conn: ConnId, reason: Reason, now: Millis) {
        let session = self.clients.session_of(conn).and_then(|key| self.clients.sessions.get(key));
        let Some(session) = session else { return };
        let Some(untold) = self.trail.may_tell(Kind::Kicked, now) else { return };
        info!(
            target: "audit",
            event = "disconnected",
            cause = ?reason,
            client = shorten(session.client_id.as_str()),
            user = session.identity.user.as_deref().map(shorten),
            shard = self.place.shard,
            untold,
        );
    }

    /// A session that outlives connections is over.
    pub(super) fn audit_session_end(&self, key: Key, cause: &'static str) {
        let Some(session) = self.clients.sessions.get(key).filter(|one| one.expiry_s > 0) else {
            return;
        };
        let client = shorten(session.client_id.as_str());
        let user = session.identity.user.as_deref().map(shorten);
        info!(target: "audit", event = "session_ended", cause, client, user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_of_later() {
        let trail = Trail::default();
        let told = |ms| (0..50).filter_map(|_| trail.may_tell(Kind::Denied, Millis(ms))).count();
        assert_eq!(told(5_000), 20);
        assert_eq!(trail.may_tell(Kind::Login, Millis(5_000)), Some(0), "each kind by itself");
        assert_eq!(trail.may_tell(Kind::Denied, Millis(6_000)), Some(30));
        assert_eq!(trail.may_tell(Kind::Denied, Millis(6_000)), Some(0));
    }
}
