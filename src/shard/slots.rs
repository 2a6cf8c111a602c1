//! Slots with generations: an index that was reused is not mistaken for its former owner.

use shards::Chunks;

/// Names one entry of [`Slots`] for its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Place.
    pub index: u32,
    /// Number of the owner of that place.
    pub generation: u32,
}

/// A growing array with free places.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Chunks<(u32, Option<T>)>,
    free: Vec<u32>,
    /// Generation of new places: above those of all that were given back.
    first_generation: u32,
}

/// Memory of free places is given back when a multiple of this is in use, 0 too.
const SHRINK_STEP: usize = 256;

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { entries: Chunks::default(), free: Vec::new(), first_generation: 0 }
    }
}

impl<T> Slots<T> {
    /// Puts a value in a free place. O(1).
    ///
    /// # Panics
    /// With 2³² entries, which no limit allows.
    pub(super) fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop()
            && let Some((generation, entry)) = self.entries.get_mut(index as usize)
        {
            *entry = Some(value);
            return Key { index, generation: *generation };
        }
        let index = u32::try_from(self.entries.len()).expect("sessions_max is below 2^32");
        let generation = self.first_generation;
        self.entries.push((generation, Some(value)));
        Key { index, generation }
    }

    /// Takes a value out; its key is dead from now on.
    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = entry.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index);
        if self.len().is_multiple_of(SHRINK_STEP) {
            self.shrink();
        }
        Some(value)
    }

    /// Gives the memory of the last places back if all of them are free.
    fn shrink(&mut self) {
        let first = &mut self.first_generation;
        let is_used = |(_, entry): &(u32, Option<T>)| entry.is_some();
        if self.entries.shrink(is_used, |(next, _)| *first = (*first).max(*next)) {
            let places = self.entries.len();
            self.free.retain(|index| (*index as usize) < places);
            self.free.shrink_to_fit();
        }
    }

    /// The value of a live key.
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let (generation, entry) = self.entries.get(key.index as usize)?;
        entry.as_ref().filter(|_| *generation == key.generation)
    }

    /// The value of a live key, to change.
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (generation, entry) = self.entries.get_mut(key.index as usize)?;
        entry.as_mut().filter(|_| *generation == key.generation)
    }

    /// The value at a place.
    pub(super) fn at(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)?.1.as_ref()
    }

    /// The live entry at a place, to change, and its key.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<(Key, &mut T)> {
        let (generation, entry) = self.entries.get_mut(index as usize)?;
        let generation = *generation;
        entry.as_mut().map(|entry| (Key { index, generation }, entry))
    }

    /// The key of the live entry at a place.
    pub(super) fn key_at(&self, index: u32) -> Option<Key> {
        let (generation, entry) = self.entries.get(index as usize)?;
        entry.as_ref().map(|_| Key { index, generation: *generation })
    }

    /// Places, live or free.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.entries.len()).unwrap_or(u32::MAX)
    }

    /// Live entries.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The keys of all live entries.
    pub(super) fn keys(&self) -> Vec<Key> {
        let indexes = 0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        indexes.filter_map(|index| self.key_at(index)).collect()
    }

    /// All live entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.entries.iter().filter_map(|(_, entry)| entry.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_key_does_not_reach_the_next_owner() {
        let mut slots = Slots::default();
        let first = slots.insert("a");
        assert_eq!(slots.remove(first), Some("a"));
        let second = slots.insert("b");
        assert_eq!(second.index, first.index);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"b"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn places_that_were_given_back_begin_with_another_generation() {
        let mut slots = Slots::default();
        let keys: Vec<Key> = (0..3000).map(|n| slots.insert(n)).collect();
        for key in keys.iter().skip(1) {
            assert!(slots.remove(*key).is_some());
        }
        slots.remove(keys[0]);
        assert_eq!((slots.len(), slots.entries.len(), slots.free.len()), (0, 0, 0));
        let again: Vec<Key> = (0..3000).map(|n| slots.insert(n)).collect();
        assert!(keys.iter().all(|key| slots.get(*key).is_none()));
        assert!(again.iter().zip(0..).all(|(key, n)| slots.get(*key) == Some(&n)));
        for key in again.iter().rev().take(1500) {
            slots.remove(*key);
        }
        assert_eq!((slots.len(), slots.entries.len()), (1500, 2048));
        assert_eq!(slots.insert(7).index, 1500);
    }
}
