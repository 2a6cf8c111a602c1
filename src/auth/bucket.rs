//! Leaky buckets by key: how much has happened lately, for very many at a time.
//!
//! Promise: memory is bounded; what is forgotten first is what was not filled for longest. Time is
//! an argument.

use ahash::AHashMap;
use shards::Millis;

/// Levels in milliseconds of leaking, each at its time.
#[derive(Debug)]
pub struct Buckets {
    count_max: usize,
    /// Two generations: when the young one is half of the maximum it becomes the old one, and what
    /// was not filled since is forgotten.
    young: AHashMap<u64, Bucket>,
    old: AHashMap<u64, Bucket>,
}

/// It leaks a millisecond in a millisecond.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    level_ms: u64,
    at: Millis,
}

impl Buckets {
    /// All are empty; at most `count_max` are remembered.
    pub fn new(count_max: usize) -> Buckets {
        Buckets { count_max, young: AHashMap::new(), old: AHashMap::new() }
    }

    /// How full one is. O(1).
    pub fn level_ms(&self, key: u64, now: Millis) -> u64 {
        let found = self.young.get(&key).or_else(|| self.old.get(&key));
        found.map_or(0, |bucket| bucket.level_ms.saturating_sub(now.0.saturating_sub(bucket.at.0)))
    }

    /// It is that full now. O(1).
    pub fn set(&mut self, key: u64, level_ms: u64, now: Millis) {
        self.young.insert(key, Bucket { level_ms, at: now });
        if self.young.len() >= self.count_max / 2 {
            self.old = std::mem::take(&mut self.young);
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_stays_and_the_rest_is_forgotten() {
        let mut buckets = Buckets::new(8);
        assert_eq!(buckets.len(), 0);
        for key in 0..100 {
            buckets.set(key, 10, Millis(0));
            buckets.set(1000, 10, Millis(0));
            assert!(buckets.len() <= 8);
        }
        assert_eq!((buckets.level_ms(1000, Millis(3)), buckets.level_ms(0, Millis(0))), (7, 0));
        assert_eq!(buckets.level_ms(1000, Millis(11)), 0);
    }
}
