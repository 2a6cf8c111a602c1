//! Hash table of slab keys.

use hashbrown::HashTable;

use super::slab::Key;

/// Finds keys of a slab by a hash of the values; the values stay in the slab.
///
/// Eight bytes and one control byte per bucket. The hash is stored, so growing reads no value.
/// It is cut into parts that grow at different moments, so that no insertion has to move all:
/// a million keys in one table would stop the shard for tens of milliseconds.
#[derive(Debug)]
pub(super) struct KeyTable([HashTable<Hashed>; PARTS]);

const PARTS: usize = 32;

#[derive(Clone, Copy, Debug)]
struct Hashed {
    hash: u32,
    key: Key,
}

impl KeyTable {
    pub(super) const fn new() -> Self {
        KeyTable([const { HashTable::new() }; PARTS])
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(HashTable::len).sum()
    }

    /// The key with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Key) -> bool) -> Option<Key> {
        let hash = shortened(hash);
        let part = self.0.get(part_of(hash))?;
        part.find(spread(hash), |e| e.hash == hash && is_it(e.key)).map(|e| e.key)
    }

    /// Adds a key that is not in the table.
    pub(super) fn insert(&mut self, hash: u64, key: Key) {
        let hash = shortened(hash);
        self.part_mut(hash).insert_unique(spread(hash), Hashed { hash, key }, |e| spread(e.hash));
    }

    /// Removes a key that was inserted with this hash.
    ///
    /// # Panics
    /// If it was not inserted.
    pub(super) fn remove(&mut self, hash: u64, key: Key) {
        let hash = shortened(hash);
        let Ok(entry) = self.part_mut(hash).find_entry(spread(hash), |e| e.key == key) else {
            panic!("{key:?} is in the table, because it was inserted with this hash");
        };
        entry.remove();
    }

    fn part_mut(&mut self, hash: u32) -> &mut HashTable<Hashed> {
        self.0.get_mut(part_of(hash)).expect("the top five bits choose one of 32 parts")
    }
}

/// 32 of the 64 bits are stored; that is enough for a table of 2^32 keys at most.
fn shortened(hash: u64) -> u32 {
    let [_, _, _, _, bytes @ ..] = hash.to_le_bytes();
    u32::from_le_bytes(bytes)
}

/// The parts are chosen by the top five bits, which place a key within its part only by way of
/// [`spread`].
const fn part_of(hash: u32) -> usize {
    (hash >> 27) as usize
}

const _: () = assert!(part_of(u32::MAX) == PARTS - 1);

/// The table uses the low bits and the top seven, so the stored 32 are spread over 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
