//! How often one client identifier may change its connection.
//!
//! Two clients with one identifier that both come back at once throw each other out for ever. From
//! a rate on the one that comes is refused, and the one that is there stays.

use crate::auth::bucket::Buckets;
use ahash::RandomState;
use shards::Millis;

/// Identifiers that are remembered; beyond that those that were not taken over for longest are
/// forgotten.
const REMEMBERED_MAX: usize = 16_384;
const MINUTE_MS: u64 = 60_000;

/// See the module.
#[derive(Debug)]
pub(super) struct TakeOvers {
    hasher: RandomState,
    /// A minute each.
    buckets: Buckets,
}

impl TakeOvers {
    /// `key` is secret, so that nobody can aim at another's bucket.
    pub(super) fn new(key: (u64, u64)) -> Self {
        let hasher = RandomState::with_seeds(key.1, key.0, key.0.rotate_left(32), !key.1);
        TakeOvers { hasher, buckets: Buckets::new(REMEMBERED_MAX) }
    }

    /// Counts one more take-over of this identifier. False = there were too many; 0 = no limit.
    /// O(1).
    pub(super) fn take(&mut self, client: &str, per_min_max: u32, now: Millis) -> bool {
        if per_min_max == 0 {
            return true;
        }
        let key = self.hasher.hash_one(client);
        let level_ms = self.buckets.level_ms(key, now) + MINUTE_MS.div_ceil(per_min_max.into());
        if level_ms > MINUTE_MS + MINUTE_MS.div_ceil(per_min_max.into()) / 2 {
            return false;
        }
        self.buckets.set(key, level_ms, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_s_worth_passes_at_once_and_then_the_rate() {
        let mut all = TakeOvers::new((1, 2));
        let mut taken = |ms, count| (0..count).filter(|_| all.take("a", 6, Millis(ms))).count();
        assert_eq!(taken(0, 100), 6);
        assert_eq!(taken(9_000, 100), 1);
        assert_eq!(taken(20_000, 100), 1);
        assert_eq!(taken(120_000, 100), 6);
        assert!(all.take("b", 6, Millis(0)), "each identifier by itself");
        assert!((0..1000).all(|_| all.take("c", 0, Millis(0))), "no limit");
    }

    #[test]
    fn memory_is_bounded() {
        let mut all = TakeOvers::new((1, 2));
        for number in 0..3 * REMEMBERED_MAX {
            assert!(all.take(&number.to_string(), 6, Millis(0)));
            assert!(all.buckets.len() <= REMEMBERED_MAX);
        }
    }
}
