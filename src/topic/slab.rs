//! Values under small stable keys.

use std::num::NonZeroU32;

/// Values per chunk, so that growth moves no more than one chunk. With 1024 a chunk would be as
/// large as the tables of the front caches, among which the allocator keeps what has gone.
const CHUNK_SLOTS: usize = 2048;

/// Key of a value in a [`Slab`]; an `Option<Key>` takes four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key(NonZeroU32);

/// Set in a key that is [`marked`](Key::marked).
const MARK: u32 = 1 << 31;

impl Key {
    fn of_slot(slot: usize) -> Key {
        let number = u32::try_from(slot + 1).ok().filter(|number| *number < MARK);
        let number = number.and_then(NonZeroU32::new);
        Key(number.expect("an index holds fewer than 2^31 values; memory ends long before"))
    }

    /// The key with a mark, which tells the keys of two slabs apart. It is no key of a slab.
    pub(super) const fn marked(self) -> Key {
        Key(self.0.saturating_add(MARK))
    }

    /// The key that was marked; `None` if there is no mark.
    pub(super) const fn unmarked(self) -> Option<Key> {
        match self.0.get().checked_sub(MARK) {
            Some(number) => match NonZeroU32::new(number) {
                Some(number) => Some(Key(number)),
                None => None,
            },
            None => None,
        }
    }

    const fn slot(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Values under keys that are given out and, after removal, reused.
///
/// Memory of a chunk without values is given back, unless it is the next to be filled: what a wave
/// of values needed does not stay for the sake of a few that are left.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks that are not full, each once; the last one is filled first.
    roomy: Vec<usize>,
    count: usize,
}

#[derive(Debug)]
struct Chunk<T> {
    slots: Vec<Slot<T>>,
    vacant: Option<Key>,
    count: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Vacant { next: Option<Key> },
    Full(T),
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Slab { chunks: Vec::new(), roomy: Vec::new(), count: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// O(1).
    pub(super) fn insert(&mut self, value: T) -> Key {
        let at = if let Some(at) = self.roomy.last() {
            *at
        } else {
            self.chunks.push(Chunk::new());
            self.roomy.push(self.chunks.len() - 1);
            self.chunks.len() - 1
        };
        let chunk = self.chunks.get_mut(at).expect("a chunk that is not full is a chunk");
        let key = chunk.insert(at, value);
        if chunk.count == CHUNK_SLOTS {
            self.roomy.pop();
        }
        self.count += 1;
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let at = key.slot() / CHUNK_SLOTS;
        let chunk = self.chunks.get_mut(at)?;
        let value = chunk.remove(key)?;
        let (left, last) = (chunk.count, self.roomy.last().copied());
        if left == CHUNK_SLOTS - 1 {
            self.roomy.push(at);
            if let Some(last) = last {
                self.give_back(last);
            }
        } else if last != Some(at) {
            self.give_back(at);
        }
        self.count -= 1;
        if self.count == 0 {
            *self = Slab::new();
        }
        Some(value)
    }

    /// Frees the memory of a chunk, if it has no values; its keys are given out again all the same.
    fn give_back(&mut self, at: usize) {
        if let Some(chunk) = self.chunks.get_mut(at).filter(|chunk| chunk.count == 0) {
            *chunk = Chunk::new();
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = key.slot();
        match self.chunks.get(slot / CHUNK_SLOTS)?.slots.get(slot % CHUNK_SLOTS)? {
            Slot::Full(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let slot = key.slot();
        match self.chunks.get_mut(slot / CHUNK_SLOTS)?.slots.get_mut(slot % CHUNK_SLOTS)? {
            Slot::Full(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    /// The value of a key that the caller knows to be in use.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn at(&self, key: Key) -> &T {
        self.get(key).expect("the caller holds a key in use")
    }

    /// The value of a key that the caller knows to be in use.
    ///
    /// # Panics
    /// If it is not.
    pub(super) fn at_mut(&mut self, key: Key) -> &mut T {
        self.get_mut(key).expect("the caller holds a key in use")
    }

    /// All values, in the order of their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| &chunk.slots).filter_map(|slot| match slot {
            Slot::Full(value) => Some(value),
            Slot::Vacant { .. } => None,
        })
    }
}

impl<T> Chunk<T> {
    const fn new() -> Self {
        Chunk { slots: Vec::new(), vacant: None, count: 0 }
    }

    /// Adds a value to the chunk at this place among all, which is not full.
    fn insert(&mut self, at: usize, value: T) -> Key {
        self.count += 1;
        let Some(key) = self.vacant else {
            if self.slots.capacity() == 0 && at > 0 {
                // The first chunk grows by itself: most indexes are small.
                self.slots.reserve_exact(CHUNK_SLOTS);
            }
            let key = Key::of_slot(at * CHUNK_SLOTS + self.slots.len());
            self.slots.push(Slot::Full(value));
            return key;
        };
        let slot = self.slots.get_mut(key.slot() % CHUNK_SLOTS);
        let slot = slot.expect("vacant keys are those of existing slots");
        let Slot::Vacant { next } = std::mem::replace(slot, Slot::Full(value)) else {
            unreachable!("a slot of the vacant list is vacant");
        };
        self.vacant = next;
        key
    }

    fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.slots.get_mut(key.slot() % CHUNK_SLOTS)?;
        match std::mem::replace(slot, Slot::Vacant { next: self.vacant }) {
            Slot::Full(value) => {
                self.vacant = Some(key);
                self.count -= 1;
                Some(value)
            }
            vacant @ Slot::Vacant { .. } => {
                *slot = vacant;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn removed_keys_are_reused() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(keys[7]), Some(7));
        assert_eq!(slab.remove(keys[7]), None);
        assert_eq!(slab.remove(keys[2999]), Some(2999));
        assert_eq!(slab.len(), 2998);
        assert_eq!((slab.insert(-2), slab.insert(-1)), (keys[7], keys[2999]));
        assert_eq!(slab.get(keys[7]), Some(&-2));
        assert_eq!(slab.iter().count(), 3000);
        assert_eq!(slab.at(keys[1024]), &1024);
    }

    #[test]
    fn an_empty_slab_begins_anew() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3000).map(|n| slab.insert(n)).collect();
        for key in &keys {
            assert!(slab.remove(*key).is_some());
        }
        assert_eq!((slab.len(), slab.chunks.len(), slab.get(keys[5])), (0, 0, None));
        assert_eq!(slab.insert(1), keys[0]);
    }

    #[test]
    fn a_wave_leaves_no_memory_behind() {
        let mut slab = Slab::new();
        slab.insert(0);
        for _ in 0..2 {
            let keys: Vec<Key> = (1..100_000).map(|n| slab.insert(n)).collect();
            for (key, n) in keys.iter().zip(1..) {
                assert_eq!(slab.get(*key), Some(&n));
                assert_eq!(slab.remove(*key), Some(n));
            }
            let kept: usize = slab.chunks.iter().map(|chunk| chunk.slots.capacity()).sum();
            assert!(kept <= 2 * CHUNK_SLOTS, "room for {kept}");
            assert_eq!(slab.iter().collect::<Vec<_>>(), [&0]);
        }
    }

    #[test]
    fn it_is_a_map() {
        let (mut slab, mut model, mut random) = (Slab::new(), BTreeMap::new(), 1_u64);
        for turn in 0..60_000_u64 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Waves up to some thousand values, and back to nearly none.
            let grows = random >> 61 < if turn / 10_000 % 2 == 0 { 6 } else { 1 };
            let some = model.keys().nth(usize::try_from(random >> 40 & 63).unwrap()).copied();
            match some.filter(|_| !grows) {
                None => assert_eq!(model.insert(slab.insert(turn), turn), None),
                Some(key) => assert_eq!(slab.remove(key), model.remove(&key)),
            }
            assert_eq!(slab.len(), model.len());
        }
        assert!(model.iter().all(|(key, value)| slab.get(*key) == Some(value)));
        assert!(slab.iter().eq(model.values()));
    }

    #[test]
    fn a_mark_comes_off_again() {
        let key = Slab::new().insert(());
        assert_eq!(key.marked().unmarked(), Some(key));
        assert_eq!(key.unmarked(), None);
    }
}
