//! How long the log would be if it held nothing but what still holds.
//!
//! Promise: a message counts once, however many sessions wait for it, about as exactly as the
//! square root of [`SAMPLE_MAX`] allows; nothing is kept beside the sessions for it, and each step
//! has a bound. What changes while it is counted may be missed or counted.
//!
//! Of the log positions of the messages those are looked at whose hash ends in so many zeros that
//! they fit into the sample; it stands for all of them.

use super::Shard;
use crate::session::State;
use ahash::{AHashMap, RandomState};

/// About the bytes of the records of one session: head, will.
const SESSION_BYTES: u64 = 128;
/// About the bytes of the record of one subscription.
const FILTER_BYTES: u64 = 64;
/// About the bytes of the record of one delivery besides its message.
const DELIVERY_BYTES: u64 = 32;
/// About the bytes of the record of one message besides its topic, payload and properties: frame,
/// publisher. Without them a log of small messages would seem half dead, and be cleaned for ever.
const MESSAGE_BYTES: u64 = 64;
/// Messages in the sample.
const SAMPLE_MAX: usize = 4_096;

/// A count that has been begun.
#[derive(Debug, Default)]
pub struct Census {
    /// Where it goes on: a session's place, and a sequence number in it.
    place: u32,
    sequence: u64,
    deliveries: u64,
    /// One in `2^shift` messages is in the sample.
    shift: u32,
    /// Bytes of messages, by log position.
    sample: AHashMap<u64, u32>,
    hash: RandomState,
}

impl Census {
    fn note(&mut self, lsn: u64, bytes: u32) {
        if !self.takes(lsn) {
            return;
        }
        self.sample.insert(lsn, bytes);
        while self.sample.len() > SAMPLE_MAX {
            self.shift += 1;
            let mut sample = std::mem::take(&mut self.sample);
            sample.retain(|lsn, _| self.takes(*lsn));
            self.sample = sample;
        }
    }

    fn takes(&self, lsn: u64) -> bool {
        self.hash.hash_one(lsn).trailing_zeros() >= self.shift
    }

    fn message_bytes(&self) -> u64 {
        let sampled: u64 =
            self.sample.values().map(|bytes| MESSAGE_BYTES + u64::from(*bytes)).sum();
        sampled << self.shift.min(32)
    }
}

impl Shard {
    /// Counts on: at most so many deliveries and sessions in all. True when it is complete.
    pub fn count(&self, census: &mut Census, most: usize) -> bool {
        let mut left = most;
        while left > 0 {
            if census.place >= self.clients.sessions.places() {
                return true;
            }
            left -= 1;
            let Some(session) = self.clients.sessions.at(census.place) else {
                census.place += 1;
                continue;
            };
            let mut slots = session.outbound.slots_from(census.sequence);
            for slot in slots.by_ref().take(left) {
                left -= 1;
                census.sequence = slot.sequence + 1;
                if slot.state != State::Done && slot.is_logged() {
                    census.deliveries += 1;
                    census.note(slot.lsn, slot.weight_bytes);
                }
            }
            if slots.next().is_none() {
                (census.place, census.sequence) = (census.place + 1, 0);
            }
        }
        false
    }

    /// About the bytes that the log would have if it held nothing but what still holds.
    pub fn live_bytes(&self, census: &Census) -> u64 {
        let filters = self.subscriptions.len() + self.subscriptions.shared_len();
        census.message_bytes()
            + census.deliveries * DELIVERY_BYTES
            + self.retained.bytes() as u64
            + self.retained.len() as u64 * MESSAGE_BYTES
            + self.clients.sessions.len() as u64 * SESSION_BYTES
            + filters as u64 * FILTER_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once() {
        let mut census = Census::default();
        for _ in 0..1_000 {
            census.note(7, 300);
            census.note(8, 50);
        }
        assert_eq!(census.message_bytes(), 350 + 2 * MESSAGE_BYTES);
    }

    #[test]
    fn many_messages_are_estimated_in_bounded_memory() {
        let mut census = Census { hash: RandomState::with_seeds(1, 2, 3, 4), ..Census::default() };
        for lsn in 0..300_000 {
            census.note(lsn, 136);
            census.note(lsn / 2, 136);
        }
        assert!(census.sample.len() <= SAMPLE_MAX, "{}", census.sample.len());
        let bytes = census.message_bytes();
        assert!((55_000_000..65_000_000).contains(&bytes), "{bytes} instead of 60,000,000");
    }
}
