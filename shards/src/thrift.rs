//! When a shard gives memory back to the system. Pure.

use crate::time::Millis;

/// Weight of letters in the outboxes that is a wave: the shards that take them free what this one
/// has made, and the allocator does not see that before this one uses it again.
pub(crate) const WAVE_WEIGHT: usize = 4_096;
/// Times after a wave: what follows from it on other shards takes a while.
const AFTER_MS: [u64; 2] = [1_000, 8_000];

/// Times at which memory is given back: after a wave of work and never else, so that a shard that
/// has nothing to do sleeps, and one that is busy keeps what it will need again.
#[derive(Debug, Default)]
pub(crate) struct Thrift {
    next: Option<(Millis, usize)>,
}

impl Thrift {
    /// There was a wave just now.
    pub(crate) fn wave(&mut self, now: Millis) {
        self.set(now, 0);
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.next.map(|(due, _)| due)
    }

    /// Whether it is time; each time is told once.
    pub(crate) fn is_due(&mut self, now: Millis) -> bool {
        let Some((_, round)) = self.next.filter(|(due, _)| *due <= now) else { return false };
        self.set(now, round + 1);
        true
    }

    fn set(&mut self, now: Millis, round: usize) {
        self.next = AFTER_MS.get(round).map(|ms| (now.after(*ms), round));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_given_back_twice_after_the_last_wave() {
        let mut thrift = Thrift::default();
        assert!(thrift.next_deadline().is_none() && !thrift.is_due(Millis(5)));
        thrift.wave(Millis(0));
        thrift.wave(Millis(500));
        assert!(!thrift.is_due(Millis(1_499)));
        assert!(thrift.is_due(Millis(1_500)));
        assert_eq!(thrift.next_deadline(), Some(Millis(9_500)));
        assert!(thrift.is_due(Millis(9_500)));
        assert!(thrift.next_deadline().is_none());
    }
}
