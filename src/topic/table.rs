//! Hash table of slab keys.

use super::slab::Key;

/// Finds keys of a slab by a hash of the values; the values stay in the slab.
///
/// Open addressing with steps of one: eight bytes per bucket and at most four buckets of five in
/// use, so a search reads one cache line, seldom two. The hash is stored, so growing reads no
/// value. The table is cut into parts that grow at different moments, so that no insertion has to
/// move all: a million keys in one table would stop the shard for tens of milliseconds.
#[derive(Debug)]
pub(super) struct KeyTable([Part; PARTS]);

const PARTS: usize = 32;

/// Buckets of a part that has any; a power of two.
const BUCKETS_MIN: usize = 4;

#[derive(Debug)]
struct Part {
    /// None, or a power of two of them with at least one empty.
    buckets: Vec<Option<Hashed>>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Hashed {
    hash: u32,
    key: Key,
}

const _: () = assert!(size_of::<Option<Hashed>>() == 8, "eight buckets in a cache line");

impl KeyTable {
    pub(super) const fn new() -> Self {
        KeyTable([const { Part { buckets: Vec::new(), count: 0 } }; PARTS])
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|part| part.count).sum()
    }

    /// The key with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Key) -> bool) -> Option<Key> {
        let hash = shortened(hash);
        let part = self.0.get(part_of(hash))?;
        part.place(hash, |found| found.hash == hash && is_it(found.key)).map(|(_, key)| key)
    }

    /// Adds a key that is not in the table.
    pub(super) fn insert(&mut self, hash: u64, key: Key) {
        let hash = shortened(hash);
        self.part_mut(hash).insert(Hashed { hash, key });
    }

    /// Removes a key that was inserted with this hash.
    ///
    /// # Panics
    /// If it was not inserted.
    pub(super) fn remove(&mut self, hash: u64, key: Key) {
        let hash = shortened(hash);
        let part = self.part_mut(hash);
        let Some((at, _)) = part.place(hash, |found| found.key == key) else {
            panic!("{key:?} is in the table, because it was inserted with this hash");
        };
        part.remove(at);
    }

    fn part_mut(&mut self, hash: u32) -> &mut Part {
        self.0.get_mut(part_of(hash)).expect("the top five bits choose one of 32 parts")
    }
}

impl Part {
    /// The first bucket from that of the hash on, up to an empty one, for which `is_it` holds.
    fn place(&self, hash: u32, mut is_it: impl FnMut(Hashed) -> bool) -> Option<(usize, Key)> {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        while let Some(found) = *self.buckets.get(at)? {
            if is_it(found) {
                return Some((at, found.key));
            }
            at = (at + 1) & mask;
        }
        None
    }

    fn insert(&mut self, new: Hashed) {
        if (self.count + 1) * 5 > self.buckets.len() * 4 {
            self.resize((self.buckets.len() * 2).max(BUCKETS_MIN));
        }
        self.put(new);
        self.count += 1;
    }

    fn put(&mut self, new: Hashed) {
        let mask = self.mask();
        let mut at = new.hash as usize & mask;
        while let Some(bucket) = self.buckets.get_mut(at) {
            if bucket.is_none() {
                *bucket = Some(new);
                return;
            }
            at = (at + 1) & mask;
        }
    }

    /// Empties a bucket; those after it move up, so that none is cut off from that of its hash.
    fn remove(&mut self, at: usize) {
        let mask = self.mask();
        let (mut hole, mut next) = (at, at);
        loop {
            next = (next + 1) & mask;
            let Some(moving) = self.buckets.get(next).copied().flatten() else { break };
            let from_home = next.wrapping_sub(moving.hash as usize) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.set(hole, Some(moving));
                hole = next;
            }
        }
        self.set(hole, None);
        self.count -= 1;
        if self.count == 0 {
            self.buckets = Vec::new();
        } else if self.count * 8 < self.buckets.len() && self.buckets.len() > BUCKETS_MIN {
            self.resize(self.buckets.len() / 2);
        }
    }

    fn set(&mut self, at: usize, value: Option<Hashed>) {
        if let Some(bucket) = self.buckets.get_mut(at) {
            *bucket = value;
        }
    }

    fn resize(&mut self, buckets: usize) {
        let old = std::mem::replace(&mut self.buckets, vec![None; buckets]);
        old.into_iter().flatten().for_each(|kept| self.put(kept));
    }

    const fn mask(&self) -> usize {
        self.buckets.len().wrapping_sub(1)
    }
}

/// 32 of the 64 bits are stored; that is enough for a table of 2^32 keys at most.
fn shortened(hash: u64) -> u32 {
    let [_, _, _, _, bytes @ ..] = hash.to_le_bytes();
    u32::from_le_bytes(bytes)
}

/// The parts are chosen by the top five bits; the low ones place a key within its part.
const fn part_of(hash: u32) -> usize {
    (hash >> 27) as usize
}

const _: () = assert!(part_of(u32::MAX) == PARTS - 1);

#[cfg(test)]
mod tests {
    use super::super::slab::Slab;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_eq!(KeyTable::new().find(7, |_| true), None);
    }

    proptest! {
        #[test]
        fn keys_are_found_whatever_is_added_and_removed(
            changes in prop::collection::vec((prop::bool::weighted(0.6), 0..24_u64), 1..400),
        ) {
            // Few buckets and few hashes, so that chains meet and wrap around.
            let mut slab = Slab::new();
            let keys: Vec<Key> = (0..24).map(|n| slab.insert(n)).collect();
            let mut table = KeyTable::new();
            let mut model = BTreeMap::new();
            for (add, number) in changes {
                let key = keys[usize::try_from(number).unwrap()];
                let hash = (number % 7 * 3) << 32;
                if add && model.insert(number, key).is_none() {
                    table.insert(hash, key);
                } else if !add && model.remove(&number).is_some() {
                    table.remove(hash, key);
                }
                prop_assert_eq!(table.len(), model.len());
                for (number, key) in keys.iter().enumerate() {
                    let hash = (number as u64 % 7 * 3) << 32;
                    let found = table.find(hash, |found| found == *key);
                    prop_assert_eq!(found, model.get(&(number as u64)).copied());
                }
            }
        }
    }
}
