//! Results by topic, in front of an index.

use std::fmt;
use std::rc::Rc;

use ahash::RandomState;
use hashbrown::HashTable;

use super::name::TopicName;

/// Longest topic that is kept.
const TOPIC_BYTES_MAX: usize = 256;

/// Topics that were asked for and are remembered without what the index said: about as many as are
/// kept.
const MISSED: usize = 1 << 14;

/// Counters for filters with one level before the first wildcard.
const SHALLOW_COUNTERS: usize = 256;

/// Counters for filters with two or more levels before the first wildcard.
const DEEP_COUNTERS: usize = 1024;

/// What an index said about recent topics.
///
/// A hit costs one hash of the topic and allocates nothing. When full, an entry that was not
/// asked for since the hand came by last gives way (the clock algorithm), so topics seen once do
/// not push out those in use. Topics over 256 bytes are not kept.
///
/// A change of the index is told by [`invalidate`](Self::invalidate): a filter without wildcards
/// drops its own topic; one with wildcards raises a counter chosen by its first two literal levels.
/// An entry remembers the sum of the three counters its topic depends on; since counters only
/// grow, an equal sum means that none has changed. So clients that come with `dev/<id>/#` leave
/// nearly everything else in place.
pub struct FrontCache<T> {
    table: HashTable<Entry<T>>,
    hasher: RandomState,
    entries_max: usize,
    weight: usize,
    weight_max: usize,
    /// Parts of the hashes of topics that were asked for and are not here; by other parts of them.
    missed: Box<[u16]>,
    /// Bucket the clock hand is at.
    hand: usize,
    counters: Counters,
}

struct Entry<T> {
    topic: Box<str>,
    value: Rc<T>,
    stamp: u64,
    weight: u32,
    slots: Slots,
    used: bool,
}

/// Counts changes of wildcard filters, by their first literal levels.
struct Counters {
    root: u64,
    shallow: [u64; SHALLOW_COUNTERS],
    deep: [u64; DEEP_COUNTERS],
}

/// The two counters, beside `root`, that a topic depends on.
#[derive(Clone, Copy)]
struct Slots {
    shallow: u8,
    deep: u16,
}

impl<T> FrontCache<T> {
    /// A cache of at most `entries_max` topics whose values weigh at most `weight_max` in all.
    ///
    /// What weight means is the caller's choice; see [`insert`](Self::insert).
    ///
    /// # Panics
    /// If `entries_max` is 0.
    pub fn new(entries_max: usize, weight_max: usize) -> Self {
        assert!(entries_max > 0);
        FrontCache {
            table: HashTable::new(),
            hasher: RandomState::new(),
            entries_max,
            weight: 0,
            weight_max,
            missed: vec![0; MISSED].into_boxed_slice(),
            hand: 0,
            counters: Counters {
                root: 0,
                shallow: [0; SHALLOW_COUNTERS],
                deep: [0; DEEP_COUNTERS],
            },
        }
    }

    /// Number of topics, out of date ones included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Is there no topic.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// What was inserted for a topic, if no change has been told since. O(1), no allocation.
    pub fn get(&mut self, topic: TopicName<'_>) -> Option<Rc<T>> {
        let topic = topic.as_str();
        if topic.len() > TOPIC_BYTES_MAX {
            return None;
        }
        let hash = self.hasher.hash_one(topic);
        let entry = self.table.find_mut(hash, |e| *e.topic == *topic)?;
        if entry.stamp != self.counters.stamp(entry.slots) {
            return None;
        }
        entry.used = true;
        Some(Rc::clone(&entry.value))
    }

    /// Whether a topic that is not here was asked for not long ago. If not, keeping it would rather
    /// push out another than serve anybody: with far more topics than places, what is kept for one
    /// is gone before it comes again. O(1), no allocation.
    pub fn is_worth_keeping(&mut self, topic: TopicName<'_>) -> bool {
        let hash = self.hasher.hash_one(topic.as_str()).to_le_bytes();
        let [low, high, _, _, tag_low, tag_high, _, _] = hash;
        let place = usize::from(u16::from_le_bytes([low, high])) % MISSED;
        let tag = u16::from_le_bytes([tag_low, tag_high]);
        let Some(missed) = self.missed.get_mut(place) else { return false };
        std::mem::replace(missed, tag) == tag
    }

    /// Keeps what the index says now about a topic.
    ///
    /// `weight` is counted against the total; what weighs more than a quarter of it, and topics
    /// over 256 bytes, are not kept. O(1) on average.
    pub fn insert(&mut self, topic: TopicName<'_>, value: Rc<T>, weight: usize) {
        let topic = topic.as_str();
        let Ok(weight) = u32::try_from(weight) else { return };
        if topic.len() > TOPIC_BYTES_MAX || weight as usize > self.weight_max / 4 {
            return;
        }
        let hash = self.hasher.hash_one(topic);
        self.remove(hash, topic);
        while self.table.len() >= self.entries_max
            || self.weight + weight as usize > self.weight_max
        {
            self.evict();
        }
        let slots = self.slots(topic);
        let stamp = self.counters.stamp(slots);
        let topic = Box::from(topic);
        let entry = Entry { topic, value, stamp, weight, slots, used: false };
        let hasher = &self.hasher;
        self.table.insert_unique(hash, entry, |e| hasher.hash_one(&*e.topic));
        self.weight += weight as usize;
    }

    /// Tells that what the index says about topics of this filter path may have changed. O(1).
    pub fn invalidate(&mut self, path: &str) {
        let Some(wildcard_at) = path.find(['+', '#']) else {
            self.remove(self.hasher.hash_one(path), path);
            return;
        };
        let literal = path.get(..wildcard_at).unwrap_or_default();
        let literal_levels = literal.bytes().filter(|b| *b == b'/').count();
        self.counters.raise(self.slots(path), literal_levels);
    }

    /// Tells that anything may have changed. O(1).
    pub fn invalidate_all(&mut self) {
        self.counters.root += 1;
    }

    /// The counters of a topic's, or filter path's, first level and first two levels.
    fn slots(&self, path: &str) -> Slots {
        let mut ends = path.match_indices('/').map(|(at, _)| at);
        let first = ends.next().unwrap_or(path.len());
        let second = ends.next().unwrap_or(path.len());
        let hash_to = |end: usize| self.hasher.hash_one(path.get(..end)).to_le_bytes();
        let [shallow, ..] = hash_to(first);
        let [low, high, ..] = hash_to(second);
        let deep = u16::from_le_bytes([low, high]) % DEEP_COUNTERS_U16;
        Slots { shallow, deep }
    }

    fn remove(&mut self, hash: u64, topic: &str) {
        if let Ok(entry) = self.table.find_entry(hash, |e| *e.topic == *topic) {
            self.weight -= entry.remove().0.weight as usize;
        }
    }

    /// Removes one entry; the table is not empty.
    ///
    /// The second round at the latest finds one, since the first clears the marks.
    fn evict(&mut self) {
        for _ in 0..=self.table.num_buckets() * 2 {
            self.hand = (self.hand + 1) % self.table.num_buckets();
            let Ok(mut bucket) = self.table.get_bucket_entry(self.hand) else { continue };
            let entry = bucket.get_mut();
            if entry.used && entry.stamp == self.counters.stamp(entry.slots) {
                entry.used = false;
                continue;
            }
            self.weight -= bucket.remove().0.weight as usize;
            return;
        }
        unreachable!("one of the entries has no mark after the first round");
    }
}

const DEEP_COUNTERS_U16: u16 = 1024;
const _: () = assert!(DEEP_COUNTERS_U16 as usize == DEEP_COUNTERS);
const _: () = assert!(u8::MAX as usize == SHALLOW_COUNTERS - 1);

impl Counters {
    /// Raises the counter of a filter with so many levels before its first wildcard.
    fn raise(&mut self, slots: Slots, literal_levels: usize) {
        let counter = match literal_levels {
            0 => Some(&mut self.root),
            1 => self.shallow.get_mut(usize::from(slots.shallow)),
            _ => self.deep.get_mut(usize::from(slots.deep)),
        };
        *counter.expect("slots are reduced to the number of counters") += 1;
    }

    fn stamp(&self, slots: Slots) -> u64 {
        let shallow = self.shallow.get(usize::from(slots.shallow)).copied().unwrap_or_default();
        let deep = self.deep.get(usize::from(slots.deep)).copied().unwrap_or_default();
        self.root + shallow + deep
    }
}

impl<T> fmt::Debug for FrontCache<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FrontCache");
        out.field("len", &self.len()).field("weight", &self.weight).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
