//! Retained messages: each lives on the shard that owns its topic; subscribers ask all owners.
//!
//! Promise: after its SUBACK a subscriber gets the retained message of each matching topic, or a
//! newer one, and never an older one after a newer one. Three things make it so: a shard says
//! "settled" to new interest only when the retained messages it sent before are stored (the fence);
//! owners are asked after that; and a topic that was delivered live since SUBSCRIBE is left out of
//! the hand-out. The hand-out takes a batch at a time, as the client's window and output have room;
//! a session has one at a time, and at most one for each filter it holds.

use super::Shard;
use super::journal::Held;
use super::mail::{Mail, Ticket};
use super::settings::Settings;
use super::slots::Key;
use super::subscribe::Wanted;
use crate::access::{Action, Verdict, authorise};
use crate::session::{DropCause, Grant, Message, Publication, Settlement};
use crate::store::{Record, Source};
use crate::topic::{Filter, RetainedTree, TopicName};
use ahash::{AHashMap, AHashSet};
use shards::Millis;
use std::collections::VecDeque;
use std::sync::Arc;

/// Messages of one batch of a hand-out.
const BATCH_MESSAGES_MAX: usize = 64;
/// Entries looked at for one batch: a filter that matches nothing must not stop the shard.
const BATCH_VISITS_MAX: usize = 4096;
/// Topics and payloads of one batch; the message that passes it is the last.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Topics remembered as delivered live during one hand-out, with [`LIVE_TOPIC_BYTES`] for each.
/// Beyond it a subscriber may get an older retained message after a newer one.
const LIVE_BYTES_MAX: usize = 4 << 20;
/// What one remembered topic costs besides its text.
const LIVE_TOPIC_BYTES: usize = 64;

/// This shard's part of the retained store, and its clients' hand-outs.
#[derive(Debug)]
pub(super) struct Retained {
    tree: RetainedTree<Arc<Message>>,
    bytes: usize,
    /// Retained messages sent to each owner, and confirmed by it.
    sent: Vec<u64>,
    stored: Vec<u64>,
    /// Interest that waits for confirmations: counts to be reached, and whom to tell.
    fences: VecDeque<(Vec<u64>, Ticket)>,
    queries: AHashMap<u64, Query>,
    next_query: u64,
    messages_max: usize,
    bytes_max: usize,
}

/// One hand-out to one session.
#[derive(Debug)]
struct Query {
    session: Key,
    wanted: Wanted,
    /// Owner that is asked now, and the one after the last.
    shard: usize,
    end: usize,
    after: Option<Box<str>>,
    /// For its SUBACK, or for the owner that is asked.
    waits: bool,
    live: AHashSet<Box<str>>,
    live_bytes: usize,
}

/// What became of a message that was to be retained.
enum Stored {
    Kept,
    /// Its topic has no retained message now.
    Deleted {
        /// It had one.
        there: bool,
        /// The store has no room for the message.
        full: bool,
    },
}

impl Retained {
    /// For what is retained from now on.
    pub(super) fn reconfigure(&mut self, settings: &Settings) {
        self.messages_max = settings.retained_messages_max;
        self.bytes_max = settings.retained_bytes_max;
    }

    pub(super) fn new(settings: &Settings, shards: usize) -> Self {
        Retained {
            tree: RetainedTree::new(),
            bytes: 0,
            sent: vec![0; shards],
            stored: vec![0; shards],
            fences: VecDeque::new(),
            queries: AHashMap::new(),
            next_query: 0,
            messages_max: settings.retained_messages_max,
            bytes_max: settings.retained_bytes_max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(super) fn get(&self, topic: TopicName<'_>) -> Option<&Arc<Message>> {
        self.tree.get(topic)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A retained message is sent to its owner, or will be.
    pub(super) fn note_sent(&mut self, owner: usize) {
        if let Some(sent) = self.sent.get_mut(owner) {
            *sent += 1;
        }
    }

    /// True if nothing is on its way to an owner; else the ticket is kept until it has arrived.
    pub(super) fn fence(&mut self, ticket: Ticket) -> bool {
        let clear = self.sent == self.stored;
        if !clear {
            self.fences.push_back((self.sent.clone(), ticket));
        }
        clear
    }

    fn store(&mut self, message: &Arc<Message>) -> Stored {
        let topic = TopicName::trusted(message.topic());
        if message.payload().is_empty() {
            // [MQTT-3.3.1-6] [MQTT-3.3.1-7]
            return Stored::Deleted { there: self.remove(topic), full: false };
        }
        let old_bytes = self.tree.get(topic).map(|old| old.weight_bytes());
        let bytes = self.bytes - old_bytes.unwrap_or(0) + message.weight_bytes();
        let full = old_bytes.is_none() && self.tree.len() >= self.messages_max;
        if full || bytes > self.bytes_max {
            // Nothing is better than the older message: readers would take it for the last one.
            return Stored::Deleted { there: self.remove(topic), full: true };
        }
        // [MQTT-3.3.1-5]
        self.tree.insert(message.shared_topic(), Arc::clone(message));
        self.bytes = bytes;
        Stored::Kept
    }

    /// True if there was one.
    fn remove(&mut self, topic: TopicName<'_>) -> bool {
        let old = self.tree.remove(topic);
        self.bytes -= old.as_ref().map_or(0, |old| old.weight_bytes());
        old.is_some()
    }

    /// The next messages for a filter after a topic.
    fn batch(
        &mut self,
        filter: &Filter,
        after: Option<&str>,
        now: Millis,
    ) -> (Vec<Arc<Message>>, Option<Box<str>>) {
        let slice = self.tree.slice(filter, after, BATCH_MESSAGES_MAX, BATCH_VISITS_MAX);
        let (mut messages, mut expired) = (Vec::new(), Vec::new());
        let (mut bytes, mut next) = (0, slice.next);
        for (topic, message) in slice.matches {
            if bytes >= BATCH_BYTES_MAX {
                next = messages.last().map(|last: &Arc<Message>| Box::from(last.topic()));
                break;
            }
            if message.is_expired(now) {
                expired.push(Box::<str>::from(topic));
                continue;
            }
            bytes += message.weight_bytes();
            messages.push(Arc::clone(message));
        }
        for topic in expired {
            self.remove(TopicName::trusted(&topic));
        }
        (messages, next)
    }
}

impl Shard {
    /// Sends a retained message to its owner. Gives the number of letters that will be settled.
    pub(super) fn retain(&mut self, message: &Publication<'_>, ticket: Option<Ticket>) -> u32 {
        let owner = self.home.of(message.topic.as_str());
        if owner == self.place.shard {
            self.store_retained(message.owned());
            return 0;
        }
        self.retained.note_sent(owner);
        let message = Arc::clone(message.owned());
        let mail = Mail::Retain { message, ticket };
        if self.exchanges.has_unsent_retains(owner) {
            // [MQTT-3.3.1-5] Not past an older one that waits for the log.
            self.hold(self.effects.lsn, Held::Mail(owner, Box::new(mail)));
        } else {
            self.effects.mail(owner, mail);
        }
        1
    }

    /// Stores a retained message here, or deletes it; `commit` has to follow.
    pub(super) fn store_retained(&mut self, message: &Arc<Message>) {
        let stored = self.retained.store(message);
        // The server's own messages have no publisher, and are made anew after a start.
        let recorded = self.settings.recording && !message.publisher().as_str().is_empty();
        match stored {
            Stored::Kept => self.journal.retained = recorded,
            Stored::Deleted { there, full } => {
                if there && recorded {
                    let topic = Arc::from(message.topic());
                    self.effects.record(Record::RetainDeleted { topic });
                }
                if full {
                    self.clients.counters.drop(DropCause::RetainedFull);
                }
            }
        }
    }

    /// Tells a publisher's shard that its retained message is stored: durably, if somebody waits.
    pub(super) fn confirm_retained(&mut self, to: usize, lsn_before: u64, ticket: Option<Ticket>) {
        let lsn = self.effects.lsn;
        match ticket {
            Some(ticket) if lsn != lsn_before && lsn > self.clients.durable => {
                self.hold(lsn, Held::RetainStored(to, ticket));
            }
            Some(_) | None => self.effects.mail(to, Mail::RetainStored { ticket }),
        }
    }

    /// An owner has stored one of our retained messages.
    pub(super) fn on_retain_stored(&mut self, from: usize, ticket: Option<Ticket>, now: Millis) {
        if let Some(stored) = self.retained.stored.get_mut(from) {
            *stored += 1;
        }
        if let Some(ticket) = ticket {
            // Being retained is no match: that is said by the subscribers alone.
            self.on_settled(ticket, Settlement::Unmatched, now);
        }
        let retained = &mut self.retained;
        let stored = &retained.stored;
        let reached = |(counts, _): &(Vec<u64>, Ticket)| {
            counts.iter().zip(stored).all(|(count, stored)| count <= stored)
        };
        let mut open = Vec::new();
        while retained.fences.front().is_some_and(reached) {
            open.extend(retained.fences.pop_front().map(|(_, ticket)| ticket));
        }
        for ticket in open {
            self.settle(Some(ticket), true);
        }
    }

    /// Prepares to hand out the retained messages of a new subscription: from now on live messages
    /// are noted. Takes the place of an earlier hand-out for the same filter; there can be one only
    /// if the session had the subscription (`was_new` false), since it ends with it.
    pub(super) fn prepare_query(&mut self, key: Key, wanted: Wanted, was_new: bool) -> u64 {
        if !was_new {
            self.cancel_query(key, &wanted.filter);
        }
        let all = 0..self.place.shards;
        let owner = self.home.of(wanted.filter.path());
        let asked = if wanted.filter.has_wildcard() { all } else { owner..owner + 1 };
        let number = self.retained.next_query;
        self.retained.next_query += 1;
        let query = Query {
            session: key,
            wanted,
            shard: asked.start,
            end: asked.end,
            after: None,
            waits: true,
            live: AHashSet::new(),
            live_bytes: 0,
        };
        if let Some(session) = self.clients.sessions.get_mut(key) {
            session.queries.push(number);
            self.retained.queries.insert(number, query);
        }
        number
    }

    /// SUBACK has been written: the hand-out may begin.
    pub(super) fn release_query(&mut self, number: u64) {
        if let Some(query) = self.retained.queries.get_mut(&number) {
            query.waits = false;
        }
    }

    /// Ends the hand-out for a filter, if there is one. [MQTT-3.10.4-2] O(hand-outs of a session).
    pub(super) fn cancel_query(&mut self, key: Key, filter: &Filter) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let queries = &self.retained.queries;
        let holds = |number: &&u64| queries.get(number).is_some_and(|q| q.wanted.filter == *filter);
        if let Some(number) = session.queries.iter().find(holds).copied() {
            self.end_query(key, number);
        }
    }

    /// Goes on with the first hand-out of a session that got room; then with the next.
    pub(super) fn drive_queries(&mut self, key: Key, now: Millis) {
        while let Some(session) = self.clients.sessions.get(key)
            && let Some(number) = session.queries.first().copied()
        {
            if !self.drive_query(key, number, now) {
                return;
            }
            self.end_query(key, number);
        }
    }

    /// Asks the next owner, if the client has room for a batch. True if all have answered.
    fn drive_query(&mut self, key: Key, number: u64, now: Millis) -> bool {
        let (here, empty) = (self.place.shard, self.retained.is_empty());
        loop {
            let Some(query) = self.retained.queries.get_mut(&number) else { return true };
            if query.shard == query.end {
                return true;
            }
            if query.waits || !self.clients.has_batch_room(key, BATCH_BYTES_MAX) {
                return false;
            }
            let (filter, after) = (query.wanted.filter.clone(), query.after.clone());
            if query.shard == here && (empty || !filter.has_wildcard()) {
                let (messages, next) = self.retained.batch(&filter, after.as_deref(), now);
                self.hand_out(number, &messages, next, now);
                continue;
            }
            // An owner that has messages is asked by letter even if it is this shard: between two
            // batches the other clients have their turn.
            query.waits = true;
            let owner = query.shard;
            self.effects.mail(owner, Mail::RetainedQuery { query: number, filter, after });
            return false;
        }
    }

    /// Forgets a hand-out; an answer that is still on its way finds nothing.
    pub(super) fn end_query(&mut self, key: Key, number: u64) {
        self.retained.queries.remove(&number);
        if let Some(session) = self.clients.sessions.get_mut(key) {
            // Nearly always the first.
            if let Some(at) = session.queries.iter().position(|other| *other == number) {
                session.queries.remove(at);
            }
            if session.queries.is_empty() {
                session.queries = Vec::new();
            }
        }
    }

    /// The session ends, and with it all its hand-outs.
    pub(super) fn end_queries(&mut self, key: Key) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        for number in std::mem::take(&mut session.queries) {
            self.retained.queries.remove(&number);
        }
    }

    pub(super) fn answer_query(
        &mut self,
        from: usize,
        query: u64,
        filter: &Filter,
        after: Option<&str>,
        now: Millis,
    ) {
        let (messages, next) = self.retained.batch(filter, after, now);
        self.effects.mail(from, Mail::RetainedBatch { query, messages, next });
    }

    pub(super) fn on_batch(
        &mut self,
        number: u64,
        messages: &[Arc<Message>],
        next: Option<Box<str>>,
        now: Millis,
    ) {
        let Some(key) = self.retained.queries.get(&number).map(|query| query.session) else {
            return;
        };
        self.hand_out(number, messages, next, now);
        self.drive_queries(key, now);
    }

    /// Delivers one batch, as far as the client can take it, and remembers where to go on.
    fn hand_out(
        &mut self,
        number: u64,
        messages: &[Arc<Message>],
        next: Option<Box<str>>,
        now: Millis,
    ) {
        for message in messages {
            let Some(query) = self.retained.queries.get_mut(&number) else { return };
            let (key, qos) = (query.session, query.wanted.qos);
            if !self.clients.can_take(key, qos.min(message.qos()), message.weight_bytes()) {
                query.waits = false;
                return;
            }
            query.after = Some(Box::from(message.topic()));
            let Some(session) = self.clients.sessions.get(key) else { return };
            // [MQTT-3.8.3-3] No Local holds for retained messages of the client's own too.
            let own = query.wanted.no_local && session.client_id == *message.publisher();
            let (who, topic) = (session.who(), message.topic());
            // The reader must have the right, and the writer must still have it.
            let denied = authorise(&self.access, who, Action::Receive, topic) == Verdict::Deny
                || !self.author_may(message);
            let Some(query) = self.retained.queries.get(&number) else { return };
            if own || denied || query.live.contains(message.topic()) {
                continue;
            }
            let identifiers = query.wanted.identifier;
            let identifiers = identifiers.as_slice();
            // A retained message handed out to a new subscription has RETAIN set (§3.3.1.3).
            let grant = Grant { qos, retain: true, identifiers, share: None };
            self.clients.layouts.reset();
            let publication = message.publication();
            let outcome = self.clients.deliver(key.index, &publication, (&grant, false), now);
            if self.settings.recording {
                self.draft(key.index, &publication, &grant, outcome);
                self.commit(&publication, Source::Plain, None);
            }
        }
        if let Some(query) = self.retained.queries.get_mut(&number) {
            query.waits = false;
            query.shard += usize::from(next.is_none());
            query.after = next;
        }
    }

    /// A live message goes to a session: its retained predecessor must not follow it.
    pub(super) fn note_live(&mut self, client: u32, topic: TopicName<'_>) {
        let Some(session) = self.clients.sessions.at(client) else { return };
        for number in &session.queries {
            let Some(query) = self.retained.queries.get_mut(number) else { continue };
            let bytes = query.live_bytes + topic.as_str().len() + LIVE_TOPIC_BYTES;
            if bytes <= LIVE_BYTES_MAX
                && query.wanted.filter.matches(topic)
                && query.live.insert(Box::from(topic.as_str()))
            {
                query.live_bytes = bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Input, Peer, Place, Shard};
    use super::*;
    use crate::codec::{Connect, Properties, Version};
    use crate::codec::{Packet, PacketId, Subscribe, SubscribeFilter, SubscribeOptions};
    use shards::ConnId;

    #[test]
    fn a_session_that_ends_leaves_no_hand_out() {
        let (now, conn) = (Millis(0), ConnId::new(0, 0));
        let place = Place { shard: 0, shards: 2 };
        let mut shard = Shard::new(Settings::default(), place, now);
        let client_id = (0..100).map(|n| n.to_string()).find(|id| shard.home_of(id) == 0).unwrap();
        shard.handle(Input::Opened { conn, deadline: now }, now);
        let connect = Connect {
            version: Version::V311,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties::default(),
            client_id: &client_id,
            will: None,
            username: None,
            password: None,
        };
        shard.handle(Input::Connect { conn, peer: &Peer::default(), connect }, now);
        let options = SubscribeOptions {
            qos: crate::codec::Qos::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: crate::codec::RetainHandling::Always,
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id: PacketId::new(1).unwrap(),
            properties: Properties::default(),
            filters: vec![SubscribeFilter { filter: "#", options }],
        });
        shard.handle(Input::Packet { conn, packet }, now);
        assert_eq!(shard.retained.queries.len(), 1);
        shard.handle(Input::Closed { conn }, now);
        assert_eq!(shard.retained.queries.len(), 0);
    }
}
