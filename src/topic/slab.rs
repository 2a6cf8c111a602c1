//! Values under small stable keys.

use std::num::NonZeroU32;

/// Values per chunk, so that growth moves no more than one chunk.
const CHUNK_SLOTS: usize = 1024;

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
/// Memory is kept after removals, at the highest count there was, until no value is left.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Slot<T>>>,
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
        Slab { chunks: Vec::new(), vacant: None, count: 0 }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// O(1); the lowest unused key if none was given back.
    pub(super) fn insert(&mut self, value: T) -> Key {
        self.count += 1;
        if let Some(key) = self.vacant {
            let slot = self.slot_mut(key).expect("vacant keys are those of existing slots");
            let Slot::Vacant { next } = std::mem::replace(slot, Slot::Full(value)) else {
                unreachable!("a slot of the vacant list is vacant");
            };
            self.vacant = next;
            return key;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK_SLOTS) {
            // The first chunk grows by itself: most indexes are small.
            let capacity = if self.chunks.is_empty() { 0 } else { CHUNK_SLOTS };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let chunks_before = self.chunks.len() - 1;
        let chunk = self.chunks.last_mut().expect("one was pushed if there was none");
        let key = Key::of_slot(chunks_before * CHUNK_SLOTS + chunk.len());
        chunk.push(Slot::Full(value));
        key
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let next = self.vacant;
        let slot = self.slot_mut(key)?;
        match std::mem::replace(slot, Slot::Vacant { next }) {
            Slot::Full(value) => {
                self.vacant = Some(key);
                self.count -= 1;
                if self.count == 0 {
                    *self = Slab::new();
                }
                Some(value)
            }
            vacant @ Slot::Vacant { .. } => {
                *slot = vacant;
                None
            }
        }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let slot = key.slot();
        match self.chunks.get(slot / CHUNK_SLOTS)?.get(slot % CHUNK_SLOTS)? {
            Slot::Full(value) => Some(value),
            Slot::Vacant { .. } => None,
        }
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slot_mut(key)? {
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
        self.chunks.iter().flatten().filter_map(|slot| match slot {
            Slot::Full(value) => Some(value),
            Slot::Vacant { .. } => None,
        })
    }

    fn slot_mut(&mut self, key: Key) -> Option<&mut Slot<T>> {
        let slot = key.slot();
        self.chunks.get_mut(slot / CHUNK_SLOTS)?.get_mut(slot % CHUNK_SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_keys_are_reused() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..3000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(keys[7]), Some(7));
        assert_eq!(slab.remove(keys[7]), None);
        assert_eq!(slab.remove(keys[2999]), Some(2999));
        assert_eq!(slab.len(), 2998);
        assert_eq!((slab.insert(-1), slab.insert(-2)), (keys[2999], keys[7]));
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
    fn a_mark_comes_off_again() {
        let key = Slab::new().insert(());
        assert_eq!(key.marked().unmarked(), Some(key));
        assert_eq!(key.unmarked(), None);
    }
}
