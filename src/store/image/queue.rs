//! Deliveries of one session, in the order of their sequence numbers.

use super::Place;
use crate::codec::Qos;
use crate::session::State;
use crate::store::record::Entry;
use crate::topic::Filter;
use shards::Millis;
use std::collections::BTreeMap;

/// One delivery that is not over.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// Place in the order of the session's messages; fixes the packet identifier.
    pub sequence: u64,
    /// The newest record with the message; meaningless if it is [`State::Released`].
    pub place: Place,
    /// What few deliveries have.
    pub extra: Option<Box<Extra>>,
    /// End of the message expiry interval, or `Millis::MAX`.
    pub expires_at: Millis,
    weight_bytes: u32,
    /// `QoS` of the delivery, 1 or 2.
    pub qos: Qos,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Where it stands: queued, sent or released; `Done` only inside the queue.
    pub state: State,
}

/// What few deliveries have.
#[derive(Clone, Debug, PartialEq)]
pub struct Extra {
    /// Subscription identifiers to send.
    pub identifiers: Box<[u32]>,
    /// Shared subscription that chose the session.
    pub share: Option<Filter>,
}

const _: () = assert!(size_of::<Waiting>() <= 48, "a million of them must fit");

impl Waiting {
    pub(super) fn new(entry: Entry, message: (u32, Millis), place: Place) -> Self {
        let Entry { session: _, sequence, qos, retain, sent, identifiers, share } = entry;
        let plain = identifiers.is_empty() && share.is_none();
        Waiting {
            sequence,
            place,
            extra: (!plain).then(|| Box::new(Extra { identifiers, share })),
            expires_at: message.1,
            weight_bytes: message.0,
            qos,
            retain,
            state: if sent { State::Sent } else { State::Queued },
        }
    }

    /// A `QoS` 2 delivery of which only PUBREL and PUBCOMP are left.
    pub(super) fn released(sequence: u64) -> Self {
        Waiting {
            sequence,
            place: Place::default(),
            extra: None,
            expires_at: Millis::MAX,
            weight_bytes: 0,
            qos: Qos::ExactlyOnce,
            retain: false,
            state: State::Released,
        }
    }

    /// Topic, payload and properties of the message; 0 if the message is not needed any more.
    pub fn weight_bytes(&self) -> u64 {
        u64::from(self.weight_bytes)
    }
}

/// Deliveries of one session that are not over.
///
/// At most 60 bytes each while they come in the order of their numbers: 48, and a quarter for those
/// that follow. Those that come late, which only the cleaner of the log causes, wait in a tree
/// until they are an eighth of all.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// By rising sequence number; those that are done are taken out from time to time.
    sorted: Vec<Waiting>,
    done: usize,
    /// None of them is in `sorted`.
    late: BTreeMap<u64, Waiting>,
}

impl Queue {
    /// How many.
    pub fn len(&self) -> usize {
        self.sorted.len() - self.done + self.late.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, by rising sequence number. O(1) to begin with after [`super::Image::finish`].
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        let mut sorted =
            self.sorted.iter().filter(|waiting| waiting.state != State::Done).peekable();
        let mut late = self.late.values().peekable();
        std::iter::from_fn(move || match (sorted.peek(), late.peek()) {
            (Some(a), Some(b)) if b.sequence < a.sequence => late.next(),
            (None, _) => late.next(),
            (Some(_), _) => sorted.next(),
        })
    }

    /// All of them, by rising sequence number.
    pub fn into_sorted(mut self) -> Vec<Waiting> {
        self.tidy();
        self.sorted
    }

    /// Memory outside the structure, without what `Extra` and late ones take.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.sorted.capacity() * size_of::<Waiting>()
    }

    /// Adds a delivery, or gives a known one its newer place.
    pub(super) fn put(&mut self, mut waiting: Waiting) {
        if let Some(known) = self.find(waiting.sequence) {
            // The state of a delivery does not go back.
            match known.state {
                State::Released => return,
                State::Sent => waiting.state = State::Sent,
                State::Queued | State::Done => {}
            }
            *known = waiting;
            return;
        }
        if self.sorted.last().is_none_or(|last| last.sequence < waiting.sequence) {
            self.push(waiting);
            return;
        }
        self.late.insert(waiting.sequence, waiting);
        if self.late.len() > 64 + self.sorted.len() / 8 {
            self.tidy();
        }
    }

    /// Its message is not needed any more.
    pub(super) fn own(&mut self, sequence: u64) {
        match self.find(sequence) {
            Some(known) => *known = Waiting::released(sequence),
            None => self.put(Waiting::released(sequence)),
        }
    }

    /// It is over, if it is there.
    pub(super) fn remove(&mut self, sequence: u64) {
        if self.late.remove(&sequence).is_some() {
            return;
        }
        let Some(known) = self.find(sequence) else { return };
        // Nothing of a delivery that is over is kept in memory for long.
        known.extra = None;
        known.state = State::Done;
        self.done += 1;
        if self.done > 16 + self.sorted.len() / 4 {
            self.sorted.retain(|waiting| waiting.state != State::Done);
            self.done = 0;
        }
    }

    /// All into one list, without those that are done.
    pub(super) fn tidy(&mut self) {
        if !self.late.is_empty() || self.done > 0 {
            let mut merged = Vec::with_capacity(self.len());
            let mut late = std::mem::take(&mut self.late).into_values().peekable();
            for waiting in self.sorted.drain(..) {
                while let Some(earlier) = late.next_if(|late| late.sequence < waiting.sequence) {
                    merged.push(earlier);
                }
                if waiting.state != State::Done {
                    merged.push(waiting);
                }
            }
            merged.extend(late);
            self.sorted = merged;
            self.done = 0;
        }
    }

    fn find(&mut self, sequence: u64) -> Option<&mut Waiting> {
        let at = self.sorted.binary_search_by_key(&sequence, |waiting| waiting.sequence);
        match at {
            Ok(at) => self.sorted.get_mut(at).filter(|waiting| waiting.state != State::Done),
            Err(_) => self.late.get_mut(&sequence),
        }
    }

    /// A growing list may hold twice what is in it; a million deliveries must not.
    fn push(&mut self, waiting: Waiting) {
        if self.sorted.len() == self.sorted.capacity() {
            self.sorted.reserve_exact(4 + self.sorted.len() / 4);
        }
        self.sorted.push(waiting);
    }
}

impl PartialEq for Queue {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
