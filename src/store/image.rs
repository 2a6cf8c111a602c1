//! State of a shard as its log tells it.
//!
//! Promise: applying the records of a log in order gives the state they were written from, and it
//! gives the same state from where a cleaned log begins: whatever is true was written again before
//! its older record was dropped. Bodies of queued messages are not kept, only where they lie.
//! Not here: reading the log (`shards::log`), what follows from the state (`shard`).
//!
//! ```text
//!  decode ─Record─▶ apply ── … ─▶ finish ─▶ sessions, queues, retained messages, exchanges
//! ```
//!
//! What the order of records may look like in a cleaned log, and what is made of it:
//!
//! - anything of a session before its head: kept under its number, dropped by `finish` if no head
//!   follows;
//! - a delivery again: the newer place counts, its state does not go back;
//! - `Owned` of an unknown delivery: it is one whose message is no longer needed;
//! - `Done`, `Released`, `Settled` of something unknown: what it ends was in a dropped segment. A
//!   copy cannot follow, because only what is still true is written again.

mod queue;
#[cfg(test)]
pub(super) mod tests;

pub use queue::{Extra, Queue, Waiting};

use crate::codec::{PacketId, SubscribeOptions};
use crate::session::{ClientId, Message};
use crate::store::record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
use crate::topic::Filter;
use shards::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where a record lies in its shard's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Its number.
    pub lsn: u64,
    /// Where its frame begins, as the log counts.
    pub offset: u32,
    /// Bytes of the frame.
    pub bytes: u32,
}

/// State of one session.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SessionImage {
    /// Newest head; after [`Image::finish`] there is one, and its `next_sequence` is past all
    /// deliveries.
    pub head: Option<SessionHead>,
    /// Will.
    pub will: Option<StoredWill>,
    /// Options and subscription identifier (0 = none) by filter.
    pub filters: BTreeMap<Filter, (SubscribeOptions, u32)>,
    /// `QoS` 2 identifiers of the publisher that are held.
    pub received: BTreeSet<PacketId>,
    /// Deliveries that are not over.
    pub queue: Queue,
    /// Deliveries from this sequence number on were not sent: they came while the client was away.
    pub sent_before: u64,
    /// No delivery that was seen had this sequence number or a higher one.
    next_sequence: u64,
}

/// The retained message of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Retained {
    /// The message.
    pub message: Arc<Message>,
    /// Where it lies.
    pub place: Place,
}

/// A message that other shards have not taken yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The message.
    pub message: Arc<Message>,
    /// Where it lies.
    pub place: Place,
    /// Parts that are not settled; never empty.
    pub parts: Vec<Part>,
}

/// How much there is, counted one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions.
    pub sessions: usize,
    /// Their subscriptions.
    pub filters: usize,
    /// Their wills.
    pub wills: usize,
    /// `QoS` 2 identifiers held for publishers.
    pub received: usize,
    /// Deliveries that are not over.
    pub waiting: usize,
    /// Topics, payloads and properties of their messages.
    pub waiting_bytes: u64,
    /// Retained messages.
    pub retained: usize,
    /// Their topics, payloads and properties.
    pub retained_bytes: u64,
    /// Exchanges with parts that are not settled.
    pub exchanges: usize,
    /// Dropped: session numbers without a head. Not 0 only if the log was cut by an operator.
    pub headless: usize,
    /// Dropped: deliveries to them.
    pub headless_waiting: usize,
    /// Dropped: sessions whose client identifier has a newer session. Not 0 only if the log was
    /// cut by an operator.
    pub replaced: usize,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// By number.
    pub sessions: BTreeMap<SessionNumber, SessionImage>,
    /// By topic.
    pub retained: BTreeMap<Arc<str>, Retained>,
    /// Highest exchange applied here, by the shard that sent it.
    pub applied: BTreeMap<u16, u64>,
    /// Exchanges of this shard with parts that are not settled, by number.
    pub exchanges: BTreeMap<u64, Exchange>,
    /// Number for the next session: no record names it or a higher one.
    pub next_session: u64,
    /// Number for the next exchange of this shard; see [`fence`].
    pub next_exchange: u64,
    /// Newest time of day, in milliseconds since 1970.
    pub clock_ms: u64,
    /// LSN of the last record that was applied.
    pub last_lsn: u64,
    /// Whose retained messages were seen, until [`Image::finish`].
    publishers: BTreeSet<ClientId>,
}

impl Image {
    /// Takes the next record of the log, which lies at `place`.
    ///
    /// O(log n) on the average, also if deliveries come in any order.
    pub fn apply(&mut self, place: Place, record: Record) {
        debug_assert!(place.lsn > self.last_lsn, "records come in order");
        self.last_lsn = place.lsn;
        match record {
            Record::Session(head) => self.session(head.session).set_head(head),
            Record::SessionEnd { session } => {
                self.see(session);
                self.sessions.remove(&session);
            }
            Record::Will { session, will } => self.session(session).will = will,
            Record::Subscribe { session, filter, options, identifier } => {
                self.session(session).filters.insert(filter, (options, identifier));
            }
            Record::Unsubscribe { session, filter } => {
                self.session(session).filters.remove(&filter);
            }
            Record::Publish(publish) => self.publish(place, publish),
            Record::Received { session, id } => {
                self.session(session).received.insert(id);
            }
            Record::Released { session, id } => {
                self.session(session).received.remove(&id);
            }
            Record::Owned { session, sequence } => self.session(session).own(sequence),
            Record::Done { session, sequence, more } => {
                let session = self.session(session);
                let last = sequence.saturating_add(u64::from(more));
                session.see(last);
                for sequence in sequence..=last {
                    session.queue.remove(sequence);
                }
            }
            Record::RetainDeleted { topic } => {
                self.retained.remove(&topic);
            }
            Record::Applied { origin, exchange } => self.applied(origin, exchange),
            Record::Settled { exchange, shard } => self.settle(exchange, shard),
            Record::Clock { wall_ms } => self.clock_ms = self.clock_ms.max(wall_ms),
        }
    }

    fn publish(&mut self, place: Place, publish: Publish) {
        let Publish { mut message, from, retained, entries, onward } = publish;
        if retained {
            self.share_publisher(&mut message);
        }
        match from {
            Source::Plain => {}
            Source::Received(session, id) => {
                self.session(session).received.insert(id);
            }
            Source::Will(session) => self.session(session).will = None,
            Source::Exchange { origin, exchange } => self.applied(origin, exchange),
        }
        for entry in entries {
            self.session(entry.session).queue(entry, &message, place);
        }
        if retained {
            self.retain(&message, place);
        }
        if let Some(Onward { exchange, parts }) = onward {
            self.next_exchange = self.next_exchange.max(exchange.saturating_add(1));
            if parts.is_empty() {
                self.exchanges.remove(&exchange);
            } else {
                self.exchanges.insert(exchange, Exchange { message, place, parts });
            }
        }
    }

    /// Retained messages of one client share its identifier.
    fn share_publisher(&mut self, message: &mut Arc<Message>) {
        let Some(message) = Arc::get_mut(message) else { return };
        if let Some(known) = self.publishers.get(message.publisher()) {
            message.share_publisher(known);
        } else {
            self.publishers.insert(message.publisher().clone());
        }
    }

    /// A retained message without payload is the deletion of the one before. [MQTT-3.3.1-6]
    fn retain(&mut self, message: &Arc<Message>, place: Place) {
        if message.payload().is_empty() {
            self.retained.remove(message.topic());
        } else {
            let message = Arc::clone(message);
            let topic = Arc::clone(message.shared_topic());
            self.retained.insert(topic, Retained { message, place });
        }
    }

    fn applied(&mut self, origin: u16, exchange: u64) {
        let highest = self.applied.entry(origin).or_default();
        *highest = exchange.max(*highest);
    }

    fn settle(&mut self, exchange: u64, shard: u16) {
        self.next_exchange = self.next_exchange.max(exchange.saturating_add(1));
        if let Some(open) = self.exchanges.get_mut(&exchange) {
            open.parts.retain(|part| part.shard != shard);
            if open.parts.is_empty() {
                self.exchanges.remove(&exchange);
            }
        }
    }

    fn see(&mut self, session: SessionNumber) {
        self.next_session = self.next_session.max(session.0.saturating_add(1));
    }

    fn session(&mut self, session: SessionNumber) -> &mut SessionImage {
        self.see(session);
        self.sessions.entry(session).or_default()
    }

    /// After the last record: drops what belongs to no session, puts the queues in order, and
    /// counts.
    pub fn finish(&mut self) -> Counts {
        self.publishers = BTreeSet::new();
        let mut counts = Counts::default();
        let mut newest: BTreeMap<ClientId, SessionNumber> = BTreeMap::new();
        for (number, session) in &self.sessions {
            if let Some(head) = &session.head {
                // By rising number: the last one stays.
                newest.insert(head.client.clone(), *number);
            }
        }
        self.sessions.retain(|number, session| {
            let Some(head) = &mut session.head else {
                counts.headless += 1;
                counts.headless_waiting += session.queue.len();
                return false;
            };
            head.next_sequence = head.next_sequence.max(session.next_sequence);
            // Sessions that have ended have no client.
            let is_newest =
                head.client.as_str().is_empty() || newest.get(&head.client) == Some(number);
            counts.replaced += usize::from(!is_newest);
            is_newest
        });
        for session in self.sessions.values_mut() {
            session.queue.tidy();
            counts.sessions += 1;
            counts.filters += session.filters.len();
            counts.wills += usize::from(session.will.is_some());
            counts.received += session.received.len();
            counts.waiting += session.queue.len();
            counts.waiting_bytes += session.queue.iter().map(Waiting::weight_bytes).sum::<u64>();
        }
        counts.retained = self.retained.len();
        let weights = self.retained.values().map(|retained| weight_bytes(&retained.message));
        counts.retained_bytes = weights.map(u64::from).sum();
        counts.exchanges = self.exchanges.len();
        counts
    }
}

/// Sets where each shard goes on counting exchanges: past all that any shard has applied. `images`
/// are those of all shards, in their order, before the first is used.
///
/// An exchange that has settled everywhere leaves no trace in the log of its origin once that was
/// cleaned. A shard that drops what it has applied must not see the number again.
pub fn fence(images: &mut [Image]) {
    let mut highest: BTreeMap<u16, u64> = BTreeMap::new();
    for (origin, exchange) in images.iter().flat_map(|image| &image.applied) {
        let known = highest.entry(*origin).or_default();
        *known = exchange.max(known).to_owned();
    }
    for (origin, image) in (0u16..).zip(images) {
        let applied = highest.get(&origin).map_or(0, |exchange| exchange.saturating_add(1));
        image.next_exchange = image.next_exchange.max(applied).max(1);
    }
}

impl SessionImage {
    fn set_head(&mut self, head: SessionHead) {
        self.next_sequence = self.next_sequence.max(head.next_sequence);
        self.sent_before = head.offline_since_ms.map_or(u64::MAX, |_| head.next_sequence);
        self.head = Some(head);
    }

    fn see(&mut self, sequence: u64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
    }

    fn own(&mut self, sequence: u64) {
        self.see(sequence);
        self.queue.own(sequence);
    }

    fn queue(&mut self, entry: Entry, message: &Message, place: Place) {
        self.see(entry.sequence);
        let expires_at = message.expires_at().unwrap_or(Millis::MAX);
        self.queue.put(Waiting::new(entry, (weight_bytes(message), expires_at), place));
    }
}

fn weight_bytes(message: &Message) -> u32 {
    // A packet has less than 2^28 bytes.
    u32::try_from(message.weight_bytes()).unwrap_or(u32::MAX)
}
