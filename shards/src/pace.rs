//! When a shard lets events gather before it wakes. Pure.
//!
//! To be woken costs several times what one small message costs. Where many connections each bring
//! something now and then, a shard would be woken for nearly every message; it then sleeps a little
//! longer and finds several. Who waits for answers is not slowed down: a connection that is heard
//! again after a short time is taken for one whose next message depends on what it was sent, and
//! where such connections are more than a few, nothing gathers.

use crate::time::Millis;

/// Longest time that events gather, counted from when the shard goes to sleep: what comes later
/// wakes it at once.
pub(crate) const GATHER_US: u32 = 100;
/// So many events wake the shard before that.
pub(crate) const GATHER_EVENTS: u32 = 32;
/// A connection that is heard again within this time may be waiting for us.
const REGULAR_MS: u32 = 4;
/// Receives of a millisecond, from connections that do not wait, from which on events gather.
const STRANGERS_MIN: u32 = 8;
/// Less than one in so many receives may be of a connection that may be waiting.
const REGULAR_SHARE: u32 = 4;

/// What was received in this millisecond, and what that of the last one says.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    at: Millis,
    strangers: u32,
    regulars: u32,
    gathers: bool,
}

impl Pace {
    /// Something was received of a connection that was last heard at `last`.
    pub(crate) fn received(&mut self, last: Stamp, now: Millis) {
        self.turn_to(now);
        if Stamp::of(now).since(last) < REGULAR_MS {
            self.regulars += 1;
        } else {
            self.strangers += 1;
        }
    }

    /// Whether a shard that goes to sleep now does better to wait a little for more.
    pub(crate) fn gathers(&mut self, now: Millis) -> bool {
        self.turn_to(now);
        self.gathers
    }

    fn turn_to(&mut self, now: Millis) {
        if now == self.at {
            return;
        }
        let follows = now.since(self.at) == 1;
        let few_regulars = self.regulars * REGULAR_SHARE < self.strangers;
        self.gathers = follows && few_regulars && self.strangers >= STRANGERS_MIN;
        *self = Pace { at: now, gathers: self.gathers, ..Pace::default() };
    }
}

/// A time in as little room as each connection has for it: milliseconds, without the upper half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp(u32);

impl Stamp {
    pub(crate) fn of(now: Millis) -> Stamp {
        let [a, b, c, d, ..] = now.0.to_le_bytes();
        Stamp(u32::from_le_bytes([a, b, c, d]))
    }

    /// After 50 days a connection may be taken for one that was just heard, which does no harm.
    fn since(self, earlier: Stamp) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(receives: &[(u64, u64)], now: u64) -> bool {
        let mut pace = Pace::default();
        for &(last, at) in receives {
            pace.received(Stamp::of(Millis(last)), Millis(at));
        }
        pace.gathers(Millis(now))
    }

    #[test]
    fn many_that_come_now_and_then_gather() {
        let many: Vec<_> = (0..10).map(|n| (n, 100)).collect();
        assert!(after(&many, 101));
        assert!(!after(&many, 102), "nobody came for a millisecond");
        assert!(!after(&many, 100), "the millisecond is not over");
        assert!(!after(&many[..5], 101), "few wakes cost little");
    }

    #[test]
    fn who_waits_for_answers_is_not_slowed_down() {
        let mut mixed: Vec<_> = (0..10).map(|n| (n, 100)).collect();
        mixed.extend([(98, 100), (99, 100)]);
        assert!(after(&mixed, 101));
        mixed.extend([(97, 100)]);
        assert!(!after(&mixed, 101));
        let dialogue: Vec<_> = (0..100).map(|_| (100, 100)).collect();
        assert!(!after(&dialogue, 101));
    }

    #[test]
    fn stamps_outlive_their_range() {
        let late = Millis(u64::from(u32::MAX) + 3);
        assert_eq!(Stamp::of(late).since(Stamp::of(Millis(u64::from(u32::MAX)))), 3);
    }
}
