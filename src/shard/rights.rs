//! Rights of sessions: what changes them, and what a change does to what is under way.
//!
//! Promise: what is handed out now was allowed by the rules of now. Each change of rights raises an
//! epoch. Live messages go by lists of receivers that were made under the present epoch
//! ([`matches_allowed`](crate::topic::Subscriptions::matches_allowed)); messages that
//! wait are looked through before the first of them leaves under a new epoch; retained messages are
//! decided on one by one. So a message costs one comparison where there are no rules, and nothing
//! more where there are, as long as its topic is in use.

use super::Shard;
use super::slots::Key;
use crate::access::{Access, Action, Identity, Verdict, Who, authorise};
use crate::session::{Author, DropCause, Message};
use shards::ConnId;
use std::sync::Arc;

impl Shard {
    /// New rules; they hold from now on for everybody, whatever was allowed before.
    ///
    /// Subscriptions stay: one whose right is gone is silent, and speaks again with the right.
    pub fn set_access(&mut self, access: Arc<Access>) {
        self.access = access;
        self.guarded = self.claimed || self.access.is_ruled();
        self.access_epoch = self.access_epoch.wrapping_add(1);
        self.subscriptions.forget();
    }

    /// Says who is at the other end of a connection whose CONNECT was not accepted yet.
    pub fn identify(&mut self, conn: ConnId, identity: Identity) {
        self.claimed |= identity.claims.is_some();
        self.guarded |= self.claimed;
        if let Some(connection) = self.clients.connection_mut(conn) {
            let listener = connection.identity.listener;
            connection.identity = Identity { listener, ..identity };
        }
    }

    /// The session goes on with another identity, or with the same one.
    pub(super) fn take_identity(&mut self, key: Key, identity: Identity) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let alike = self.access.are_alike(session.identity.listener, identity.listener);
        if alike && session.identity.is_same(&identity) {
            session.identity.listener = identity.listener;
            return;
        }
        let user = identity.user.clone();
        self.clients.count_user(user.as_ref());
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        self.writer = None;
        let before = std::mem::replace(&mut session.identity, identity);
        session.access_epoch = self.access_epoch.wrapping_sub(1);
        for filter in &session.filters {
            self.subscriptions.forget_topics_of(*filter);
        }
        self.clients.discount_user(before.user.as_ref());
        if before.user != user {
            self.tell_user(user.as_ref());
            self.tell_user(before.user.as_ref());
        }
    }

    /// Drops what waits for a session that may not have it any more.
    ///
    /// O(1), once for each epoch O(messages held).
    pub(super) fn revoke_waiting(&mut self, key: Key) {
        let epoch = self.access_epoch;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        if session.access_epoch == epoch {
            return;
        }
        session.access_epoch = epoch;
        let mut outbound = std::mem::take(&mut session.outbound);
        let who = session.who();
        let may = |message: &Message| {
            authorise(&self.access, who, Action::Receive, message.topic()) == Verdict::Allow
        };
        let mut ended = Vec::new();
        let revoked = outbound.revoke(may, &mut ended);
        session.outbound = outbound;
        self.clients.ended_unsent(key, ended);
        self.clients.counters.drop_many(DropCause::Denied, revoked);
    }

    /// A message that waited has come from the log, perhaps after a restart: drops it if the
    /// session may not have it any more.
    pub(super) fn revoke_fetched(&mut self, key: Key, sequence: u64, message: &Message) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let (who, topic) = (session.who(), message.topic());
        let allowed =
            !self.guarded || authorise(&self.access, who, Action::Receive, topic) == Verdict::Allow;
        if !allowed && session.outbound.withdraw(sequence) {
            self.clients.ended_unsent(key, vec![sequence]);
            self.clients.counters.drop(DropCause::Denied);
        }
    }

    /// Who wrote a retained message may still write it.
    pub(super) fn author_may(&self, message: &Message) -> bool {
        let user = match message.author() {
            Author::Vouched => return true,
            Author::Anonymous => None,
            Author::User(user) => Some(&**user),
        };
        let client_id = message.publisher().as_str();
        // By which listener it came, and of which users, is not kept with the message.
        let who = Who { client_id, user, ..Who::default() };
        authorise(&self.access, who, Action::Publish, message.topic()) == Verdict::Allow
    }
}
