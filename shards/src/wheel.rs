//! Hashed timing wheel. Pure.
//!
//! Promise: a key comes out never before its deadline and at most one tick after it (if asked).
//! Not here: cancelling. A user checks on expiry whether the deadline still holds and inserts it
//! again otherwise, so that activity costs one store and no wheel operation.

use crate::time::Millis;

/// Slots of the wheel. A deadline further away than `SLOTS` ticks stays for more than one round.
const SLOTS: u64 = 512;
const WORDS: usize = 8;
/// Room for so many keys is kept by a slot that is empty.
const SLOT_SPARE_MAX: usize = 64;

/// Timers of one shard. Holds as many keys as its user inserts: one per thing that waits.
#[derive(Debug)]
pub struct Wheel<K> {
    tick_ms: u64,
    /// All ticks up to this one have been expired.
    done: u64,
    /// Keys with the tick they are due at; a slot holds the ticks that are equal modulo `SLOTS`.
    slots: Vec<Slot<K>>,
    occupied: [u64; WORDS],
    /// The smallest tick in the wheel; `u64::MAX` if it is empty.
    earliest: u64,
    count: usize,
}

#[derive(Debug)]
struct Slot<K> {
    keys: Vec<(u64, K)>,
    earliest: u64,
}

impl<K> Wheel<K> {
    /// An empty wheel. Deadlines are rounded up to a multiple of `tick_ms`.
    ///
    /// # Panics
    /// If `tick_ms` is 0.
    pub fn new(now: Millis, tick_ms: u64) -> Wheel<K> {
        assert!(tick_ms > 0, "a tick takes time");
        let slots = (0..SLOTS).map(|_| Slot { keys: Vec::new(), earliest: u64::MAX }).collect();
        let done = now.0 / tick_ms;
        Wheel { tick_ms, done, slots, occupied: [0; WORDS], earliest: u64::MAX, count: 0 }
    }

    /// Wants `key` back at `deadline`. The past means the next tick. O(1).
    pub fn insert(&mut self, deadline: Millis, key: K) {
        let tick = deadline.0.div_ceil(self.tick_ms).max(self.done + 1);
        let slot_index = slot_of(tick);
        if let Some(slot) = self.slots.get_mut(slot_index) {
            slot.keys.push((tick, key));
            slot.earliest = slot.earliest.min(tick);
            self.count += 1;
        }
        self.mark(slot_index, true);
        self.earliest = self.earliest.min(tick);
    }

    /// Appends every key whose deadline has come, in no promised order.
    ///
    /// Costs the keys in the slots passed since the last call.
    pub fn expire(&mut self, now: Millis, due: &mut Vec<K>) {
        let until = now.0 / self.tick_ms;
        if until <= self.done {
            return;
        }
        if self.earliest <= until {
            let first = self.done + 1;
            let last = until.min(first + SLOTS - 1);
            for tick in first..=last {
                self.expire_slot(slot_of(tick), until, due);
            }
            self.earliest = self.smallest();
        }
        self.done = until;
        debug_assert!(self.earliest > self.done, "a due key was left behind");
    }

    /// When [`Self::expire`] has something to give, at the earliest. `None` if the wheel is empty.
    pub fn next_deadline(&self) -> Option<Millis> {
        (self.count > 0).then(|| Millis(self.earliest.saturating_mul(self.tick_ms)))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.count
    }

    /// No keys.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn expire_slot(&mut self, slot_index: usize, until: u64, due: &mut Vec<K>) {
        let Some(slot) = self.slots.get_mut(slot_index) else { return };
        if slot.earliest > until {
            return;
        }
        let before = due.len();
        due.extend(slot.keys.extract_if(.., |(tick, _)| *tick <= until).map(|(_, key)| key));
        self.count -= due.len() - before;
        slot.earliest = slot.keys.iter().map(|(tick, _)| *tick).min().unwrap_or(u64::MAX);
        let empty = slot.keys.is_empty();
        if slot.keys.capacity() > SLOT_SPARE_MAX && slot.keys.len() * 4 < slot.keys.capacity() {
            // A storm is over.
            slot.keys.shrink_to(slot.keys.len() * 2);
        }
        if empty {
            self.mark(slot_index, false);
        }
    }

    fn mark(&mut self, slot_index: usize, occupied: bool) {
        if let Some(word) = self.occupied.get_mut(slot_index / 64) {
            let bit = 1u64 << (slot_index % 64);
            if occupied {
                *word |= bit;
            } else {
                *word &= !bit;
            }
        }
    }

    fn smallest(&self) -> u64 {
        let mut smallest = u64::MAX;
        for (word_index, &word) in self.occupied.iter().enumerate() {
            let mut bits = word;
            while bits != 0 {
                let slot_index = word_index * 64 + bits.trailing_zeros() as usize;
                let slot = self.slots.get(slot_index);
                smallest = smallest.min(slot.map_or(u64::MAX, |slot| slot.earliest));
                bits &= bits - 1;
            }
        }
        smallest
    }
}

const fn slot_of(tick: u64) -> usize {
    (tick % SLOTS) as usize
}

const _: () = assert!(SLOTS == 64 * WORDS as u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_ahead_comes_once_and_does_not_wake_before() {
        let mut wheel = Wheel::new(Millis(5), 100);
        let deadline = Millis(3 * 24 * 3_600_000);
        wheel.insert(deadline, 'd');
        assert_eq!(wheel.next_deadline(), Some(deadline));
        let mut due = Vec::new();
        wheel.expire(Millis(deadline.0 - 1), &mut due);
        assert!(due.is_empty());
        wheel.expire(deadline, &mut due);
        assert_eq!(due, ['d']);
        assert_eq!(wheel.next_deadline(), None);
    }

    proptest! {
        /// Against a sorted list.
        #[test]
        fn keys_come_out_in_time(
            tick_ms in 1u64..200,
            steps in proptest::collection::vec((0u64..120_000, 0u64..20_000), 1..60),
        ) {
            let mut now = 1_000;
            let mut wheel = Wheel::new(Millis(now), tick_ms);
            let mut model: Vec<(u64, usize)> = Vec::new();
            for (key, (ahead, pass)) in steps.into_iter().enumerate() {
                wheel.insert(Millis(now + ahead), key);
                model.push((now + ahead, key));
                now += pass;
                let mut due = Vec::new();
                wheel.expire(Millis(now), &mut due);
                for key in due {
                    let at = model.iter().position(|&(_, k)| k == key).expect("known and new");
                    prop_assert!(model.remove(at).0 <= now, "too early");
                }
                for &(deadline, _) in &model {
                    prop_assert!(deadline + tick_ms > now, "too late");
                }
                prop_assert_eq!(wheel.len(), model.len());
                let next = model.iter().map(|&(deadline, _)| deadline).min();
                match (next, wheel.next_deadline()) {
                    (None, None) => {}
                    (Some(deadline), Some(Millis(wake))) => {
                        prop_assert!(wake < deadline + 2 * tick_ms && wake > now);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
