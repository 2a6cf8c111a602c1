//! How fast one client is read: a bucket of packets and one of bytes, filled by time.
//!
//! Who is faster is not cut off: it is not read until what it has taken in advance is paid back,
//! and TCP holds it up from there. A burst of one second's worth passes.

use shards::Millis;

/// Rates; 0 = no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Packets per second.
    pub packets_per_s: u64,
    /// Bytes per second.
    pub bytes_per_s: u64,
}

/// What one client may still take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    packets: Bucket,
    bytes: Bucket,
}

/// What is left, in thousandths; below zero it was taken in advance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    level: i64,
    at: Millis,
}

impl Rates {
    /// There is a limit.
    pub(super) fn is_on(self) -> bool {
        self.packets_per_s > 0 || self.bytes_per_s > 0
    }

    /// The allowance of a client that has taken nothing.
    pub(super) fn full(self, now: Millis) -> Allowance {
        Allowance {
            packets: Bucket::full(self.packets_per_s, now),
            bytes: Bucket::full(self.bytes_per_s, now),
        }
    }

    /// Takes packets and bytes. Gives the time until all is paid back, if it is in advance.
    pub(super) fn spend(
        self,
        allowance: &mut Allowance,
        packets: u64,
        bytes: u64,
        now: Millis,
    ) -> Option<u64> {
        let packets = allowance.packets.spend(packets, self.packets_per_s, now);
        packets.max(allowance.bytes.spend(bytes, self.bytes_per_s, now))
    }
}

impl Bucket {
    /// A second's worth.
    pub(super) fn full(per_s: u64, now: Millis) -> Bucket {
        Bucket { level: thousandths(per_s), at: now }
    }

    /// Takes one, if there is one. Who comes in vain takes nothing, so that no crowd of them keeps
    /// the bucket empty for others.
    pub(super) fn take(&mut self, per_s: u64, now: Millis) -> bool {
        let room = per_s == 0 || (self.spend(0, per_s, now).is_none() && self.level >= 1000);
        if room {
            self.spend(1, per_s, now);
        }
        room
    }

    /// Takes `count`. Gives the milliseconds until it is paid back, if it is in advance.
    pub(super) fn spend(&mut self, count: u64, per_s: u64, now: Millis) -> Option<u64> {
        if per_s == 0 {
            return None;
        }
        let full = thousandths(per_s);
        let elapsed_ms = now.0.saturating_sub(self.at.0).min(1_000_000);
        let income = i64::try_from(elapsed_ms.saturating_mul(per_s)).unwrap_or(i64::MAX);
        self.at = now;
        self.level = self.level.saturating_add(income).min(full);
        self.level = self.level.saturating_sub(thousandths(count));
        (self.level < 0).then(|| self.level.unsigned_abs().div_ceil(per_s))
    }
}

fn thousandths(count: u64) -> i64 {
    i64::try_from(count.saturating_mul(1000)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_passes_and_the_rest_is_paid_back() {
        let mut bucket = Bucket::full(10, Millis(0));
        assert_eq!(bucket.spend(10, 10, Millis(0)), None);
        assert_eq!(bucket.spend(5, 10, Millis(0)), Some(500));
        assert_eq!(bucket.spend(0, 10, Millis(400)), Some(100));
        assert_eq!(bucket.spend(0, 10, Millis(500)), None);
        // Never more than a second's worth is saved.
        assert_eq!(bucket.spend(10, 10, Millis(1_000_000)), None);
        assert_eq!(bucket.spend(1, 10, Millis(1_000_000)), Some(100));
    }

    #[test]
    fn who_comes_in_vain_takes_nothing() {
        let mut bucket = Bucket::full(2, Millis(0));
        let taken: Vec<bool> = (0..5).map(|_| bucket.take(2, Millis(0))).collect();
        assert_eq!(taken, [true, true, false, false, false]);
        assert!(!bucket.take(2, Millis(499)));
        assert!(bucket.take(2, Millis(500)));
        assert!((0..9).all(|_| bucket.take(0, Millis(500))));
    }

    #[test]
    fn the_slower_of_two_rates_counts() {
        let rates = Rates { packets_per_s: 10, bytes_per_s: 1000 };
        let mut allowance = rates.full(Millis(0));
        assert_eq!(rates.spend(&mut allowance, 11, 500, Millis(0)), Some(100));
        assert_eq!(rates.spend(&mut allowance, 0, 1500, Millis(0)), Some(1000));
        assert!(!Rates::default().is_on());
        let rates = Rates::default();
        assert_eq!(rates.spend(&mut allowance, 1 << 40, 1 << 60, Millis(0)), None);
    }

    #[test]
    fn numbers_have_no_end() {
        let mut bucket = Bucket::full(u64::MAX, Millis(0));
        assert_eq!(bucket.spend(u64::MAX, u64::MAX, Millis(u64::MAX)), None);
        let mut bucket = Bucket::full(1, Millis(0));
        assert!(bucket.spend(u64::MAX, 1, Millis(0)).is_some());
        assert!(bucket.spend(u64::MAX, 1, Millis(0)).is_some());
    }
}
