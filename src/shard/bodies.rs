//! Messages that lie in the log alone: out of memory once they are durable, back when they are due.
//!
//! Promise: a queue costs memory for its slots and for the few messages that are sent next, however
//! long it is. A message is left to the log only when its record is durable.
//!
//! ```text
//!   record ─▶ note_place (edge) ─▶ durable ─▶ Outbound::settle: message out of memory
//!   pump reaches it ─▶ Effect::Fetch ─▶ read by the edge ─▶ on_fetched ─▶ pump goes on
//! ```

use super::Shard;
use super::effects::Effect;
use super::slots::Key;
use crate::codec::Reason;
use crate::session::Message;
use crate::topic::Filter;
use shards::Millis;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use tracing::error;

/// What a message is fetched from the log for.
#[derive(Clone, Debug, PartialEq)]
pub enum Purpose {
    /// To be sent to the client of this session: the delivery with this sequence number.
    Deliver(Key, u64),
    /// To be given to another member of this shared subscription.
    HandOn {
        /// Full text of the shared filter.
        filter: Filter,
        /// Whose delivery it is until then.
        session: Key,
        /// Its sequence number.
        sequence: u64,
    },
}

/// The message that was read last, while somebody has it: who else waits for it shares it.
#[derive(Debug, Default)]
pub struct LastRead(Option<(u64, Weak<Message>)>);

impl LastRead {
    /// The message of the record with this log position, if it was read last.
    pub fn get(&self, lsn: u64) -> Option<Arc<Message>> {
        self.0.as_ref().filter(|(read, _)| *read == lsn)?.1.upgrade()
    }

    /// This one was read.
    pub fn note(&mut self, lsn: u64, message: &Arc<Message>) {
        self.0 = Some((lsn, Arc::downgrade(message)));
    }
}

/// Deliveries whose record is not durable, in the order of their log positions.
#[derive(Debug, Default)]
pub(super) struct Bodies {
    unsettled: VecDeque<Unsettled>,
    /// So many of them, the oldest, have their place.
    placed: usize,
}

#[derive(Debug)]
struct Unsettled {
    lsn: u64,
    at: u32,
    key: Key,
    sequence: u64,
}

impl Shard {
    /// The record of a delivery has this log position.
    pub(super) fn note_delivery(&mut self, key: Key, sequence: u64, lsn: u64) {
        if let Some(session) = self.clients.sessions.get_mut(key) {
            session.outbound.note_position(sequence, lsn);
            self.bodies.unsettled.push_back(Unsettled { lsn, at: 0, key, sequence });
        }
    }

    /// The record with this log position lies at this place of its batch. Told in the order of the
    /// records, before they are durable.
    pub fn note_place(&mut self, lsn: u64, at: u32) {
        let Bodies { unsettled, placed } = &mut self.bodies;
        for delivery in unsettled.range_mut(*placed..).take_while(|entry| entry.lsn <= lsn) {
            if delivery.lsn == lsn {
                delivery.at = at;
            }
            *placed += 1;
        }
    }

    /// Messages of durable records need not stay in memory, and those of `QoS` 2 may leave.
    pub(super) fn settle_bodies(&mut self, now: Millis) {
        let durable = self.clients.durable;
        while self.bodies.unsettled.front().is_some_and(|entry| entry.lsn <= durable) {
            let Some(Unsettled { at, key, sequence, .. }) = self.bodies.unsettled.pop_front()
            else {
                return;
            };
            self.bodies.placed = self.bodies.placed.saturating_sub(1);
            let Some(session) = self.clients.sessions.get_mut(key) else { continue };
            session.outbound.settle(sequence, at, session.connection.is_none());
            if session.connection.is_some() && session.outbound.has_waiting() {
                self.progress(key, now);
            }
        }
    }

    /// Asks for the messages that sessions could send if they were in memory.
    pub(super) fn fetch_wanted(&mut self) {
        let mut starved = std::mem::take(&mut self.starved);
        self.clients.take_starved(&mut starved);
        let mut wanted = Vec::new();
        for key in starved.drain(..) {
            if let Some(session) = self.clients.sessions.get_mut(key) {
                session.outbound.wanted(&mut wanted);
            }
            for (sequence, lsn, at) in wanted.drain(..) {
                self.fetch((lsn, at), Purpose::Deliver(key, sequence));
            }
        }
        self.starved = starved;
    }

    pub(super) fn fetch(&mut self, place: (u64, u32), purpose: Purpose) {
        let (lsn, at) = place;
        self.effects.list.push(Effect::Fetch { lsn, at, purpose });
    }

    /// A message has come from the log.
    pub fn on_fetched(&mut self, purpose: Purpose, message: Arc<Message>, now: Millis) {
        match purpose {
            Purpose::Deliver(key, sequence) => {
                self.revoke_fetched(key, sequence, &message);
                let Some(session) = self.clients.sessions.get_mut(key) else { return };
                session.outbound.fetched(sequence, message);
                self.progress(key, now);
            }
            Purpose::HandOn { filter, session, sequence } => {
                self.hand_on_fetched(&filter, (session, sequence), &message, now);
            }
        }
    }

    /// The record with this log position cannot be read. True if the message is not needed from
    /// there any more: it is over, or the cleaner has written it again, and its old segment has
    /// gone before its turn to be read came. Then it comes from its new place.
    pub fn is_read_elsewhere(&mut self, purpose: &Purpose, lsn: u64, now: Millis) -> bool {
        let (Purpose::Deliver(key, sequence) | Purpose::HandOn { session: key, sequence, .. }) =
            purpose;
        let session = self.clients.sessions.get(*key);
        let Some(slot) = session.and_then(|session| session.outbound.slot(*sequence)) else {
            return true;
        };
        if slot.lsn == lsn {
            return false;
        }
        if let Some(message) = slot.message.clone() {
            self.on_fetched(purpose.clone(), message, now);
        } else if let Purpose::HandOn { .. } = purpose {
            self.fetch((slot.lsn, slot.at), purpose.clone());
        } else {
            self.progress(*key, now);
        }
        true
    }

    /// Ends the connection of a session whose next message cannot be read.
    pub(super) fn end_stopped(&mut self, key: Key, now: Millis) {
        if let Some(session) = self.clients.sessions.get(key)
            && session.outbound.is_stopped()
            && let Some(conn) = session.connection
        {
            self.end_connection(conn, Reason::UnspecifiedError, now);
        }
    }

    /// A message cannot be read: the client is cut off, so that it is not skipped silently, but not
    /// before it has acknowledged what comes before it; at the next connection it is tried again.
    pub fn on_unreadable(&mut self, purpose: &Purpose, now: Millis) {
        match purpose {
            Purpose::Deliver(key, sequence) => {
                let Some(session) = self.clients.sessions.get_mut(*key) else { return };
                let client = session.client_id.as_str();
                error!(client, sequence, "a queued message cannot be read from the log");
                session.outbound.note_unreadable(*sequence);
                self.end_stopped(*key, now);
            }
            Purpose::HandOn { filter, session, sequence } => {
                error!(filter = filter.as_str(), "a queued message cannot be read from the log");
                self.leave_unreadable(*session, *sequence);
            }
        }
    }
}
