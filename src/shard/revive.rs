//! The cleaner's question to the shard: what of this old record is still true?
//!
//! Before the oldest segment of the log goes, each of its records is shown to the shard, in order.
//! What still holds is emitted again, as it holds now; when that is durable, the segment may go.
//! Records that only take something back (`Done`, `Unsubscribe`, `SessionEnd`, ...) are never
//! needed again: what they took back was in the same or in an earlier segment.
//!
//! Promise: replaying the log without the segment gives the same state. Each thing is emitted once
//! for a segment, however often it was recorded there, unless that are very many.

use super::Shard;
use super::journal::{Logged, UNKNOWN};
use crate::codec::PacketId;
use crate::session::{Message, State};
use crate::store::{Entry, Onward, Publish, Record, SessionNumber, Source};
use crate::topic::{Filter, TopicName};
use ahash::AHashSet;
use shards::Millis;
use std::num::NonZeroU32;
use std::sync::Arc;

/// So many things of a kind are remembered as emitted for a segment; then it is forgotten, and one
/// may be emitted twice. Longer lists would take long to grow and to drop.
const REVIVED_MAX: usize = 1 << 14;

/// What was emitted again for this segment.
#[derive(Debug, Default)]
pub(super) struct Revived {
    filters: AHashSet<(SessionNumber, Filter)>,
    topics: AHashSet<Arc<str>>,
    ids: AHashSet<(SessionNumber, PacketId)>,
}

/// Remembers it; false if it was known.
fn note<T: std::hash::Hash + Eq>(known: &mut AHashSet<T>, new: T) -> bool {
    if known.len() >= REVIVED_MAX {
        known.clear();
    }
    known.insert(new)
}

impl Shard {
    /// Emits again what still holds of a record with this position in a segment that is to go.
    pub fn revive(&mut self, lsn: u64, record: Record) {
        match record {
            Record::Session(head) => self.revive_head(lsn, head.session),
            Record::Will { session, will: Some(_) } => self.revive_will(lsn, session),
            Record::Subscribe { session, filter, .. } => self.revive_filter(session, filter),
            Record::Publish(publish) => self.revive_publish(lsn, publish),
            Record::Received { session, id } => self.revive_received(session, id),
            Record::Owned { session, sequence } => self.revive_owned(session, sequence),
            Record::Will { will: None, .. }
            | Record::SessionEnd { .. }
            | Record::Unsubscribe { .. }
            | Record::Released { .. }
            | Record::Done { .. }
            | Record::RetainDeleted { .. }
            | Record::Applied { .. }
            | Record::Settled { .. }
            | Record::Clock { .. } => {}
        }
    }

    /// The segment has no more records. Gives the position that has to be durable before it goes.
    pub fn revive_rest(&mut self, now: Millis) -> u64 {
        self.revived = Revived::default();
        for (origin, exchange) in (0u16..).zip(self.exchanges.applied.clone()) {
            if exchange > 0 {
                self.effects.record(Record::Applied { origin, exchange });
            }
        }
        let wall_ms = now.0.saturating_add(self.settings.wall_offset_ms);
        self.effects.record(Record::Clock { wall_ms })
    }

    /// Position of the last record that was emitted.
    pub fn last_position(&self) -> u64 {
        self.effects.lsn
    }

    fn logged(&self, session: SessionNumber) -> Option<Logged> {
        self.journal.sessions.get(&session).copied()
    }

    fn revive_head(&mut self, lsn: u64, session: SessionNumber) {
        // A newer head stands in a later segment, or was emitted for this one.
        if let Some(logged) = self.logged(session)
            && (logged.head_lsn == lsn || logged.head_lsn == UNKNOWN)
        {
            self.record_head(logged.key, logged.offline_since_ms);
        }
    }

    fn revive_will(&mut self, lsn: u64, session: SessionNumber) {
        if let Some(logged) = self.logged(session)
            && (logged.will_lsn == lsn || logged.will_lsn == UNKNOWN)
        {
            self.record_will(logged.key);
        }
    }

    fn revive_filter(&mut self, session: SessionNumber, filter: Filter) {
        let Some(logged) = self.logged(session) else { return };
        let Some(found) = self.subscriptions.get(&filter, logged.key.index) else { return };
        if note(&mut self.revived.filters, (session, filter.clone())) {
            let identifier = found.identifier.map_or(0, NonZeroU32::get);
            let options = found.options;
            self.effects.record(Record::Subscribe { session, filter, options, identifier });
        }
    }

    fn revive_received(&mut self, session: SessionNumber, id: PacketId) {
        let Some(logged) = self.logged(session) else { return };
        let inbound = self.clients.sessions.get(logged.key).and_then(|s| s.inbound.as_deref());
        if inbound.is_some_and(|inbound| inbound.holds(id))
            && note(&mut self.revived.ids, (session, id))
        {
            self.effects.record(Record::Received { session, id });
        }
    }

    fn revive_owned(&mut self, session: SessionNumber, sequence: u64) {
        let Some(logged) = self.logged(session) else { return };
        let slot = self.clients.sessions.get(logged.key).and_then(|s| s.outbound.slot(sequence));
        if slot.is_some_and(|slot| slot.state == State::Released) {
            self.effects.record(Record::Owned { session, sequence });
        }
    }

    /// A message: what of its deliveries is not over, its place in the retained store, its exchange
    /// with other shards, the identifier of its publisher.
    fn revive_publish(&mut self, lsn: u64, publish: Publish) {
        let Publish { message, from, retained, entries, onward } = publish;
        if let Source::Received(session, id) = from {
            self.revive_received(session, id);
        }
        let mut owned = Vec::new();
        let mut kept = Vec::new();
        for entry in entries {
            let Some(logged) = self.logged(entry.session) else { continue };
            let session = self.clients.sessions.get_mut(logged.key);
            let Some(outbound) = session.map(|session| &mut session.outbound) else { continue };
            // A delivery that was emitted again since lies further on.
            let Some(slot) = outbound.slot(entry.sequence).filter(|slot| slot.lsn == lsn) else {
                continue;
            };
            if slot.state == State::Released {
                owned.push((entry.session, entry.sequence));
            }
            let sent = entry.sent || slot.state != State::Queued;
            outbound.take_back(entry.sequence, &message);
            kept.push((logged.key, Entry { sent, ..entry }));
        }
        let retained = retained && self.is_retained(&message);
        let onward = onward.and_then(|onward| self.open_parts(onward.exchange));
        if kept.is_empty() && !retained && onward.is_none() {
            return;
        }
        let (keys, entries): (Vec<_>, Vec<_>) = kept.into_iter().unzip();
        let takers = keys.into_iter().zip(entries.iter().map(|entry| entry.sequence));
        let takers: Vec<_> = takers.collect();
        let publish = Publish { message, from: Source::Plain, retained, entries, onward };
        let lsn = self.effects.record(Record::Publish(publish));
        for (key, sequence) in takers {
            self.note_delivery(key, sequence, lsn);
        }
        for (session, sequence) in owned {
            self.effects.record(Record::Owned { session, sequence });
        }
    }

    /// What other shards have not taken yet of an exchange.
    fn open_parts(&self, exchange: u64) -> Option<Onward> {
        let parts = self.exchanges.open.get(&exchange)?.parts.clone();
        (!parts.is_empty()).then_some(Onward { exchange, parts })
    }

    /// The message is the retained one of its topic now, and was not emitted for this segment.
    fn is_retained(&mut self, message: &Message) -> bool {
        let topic = TopicName::trusted(message.topic());
        self.retained.get(topic).is_some_and(|stored| **stored == *message)
            && note(&mut self.revived.topics, Arc::from(message.topic()))
    }
}
