//! The table of connections of one shard. Pure.
//!
//! Promise: an idle connection is one [`Entry`] and nothing else; an index is not used again
//! before its entry was removed.

use std::os::fd::OwnedFd;

use crate::chunks::Chunks;
use crate::conn::{ConnId, GENERATION_MASK};
use crate::handler::{Accepted, Cause};

/// Extras kept for reuse; more are given back to the allocator.
const EXTRAS_SPARE_MAX: usize = 128;
/// Bytes of kept input an extra may hold on to while it is spare.
const KEPT_SPARE_BYTES_MAX: usize = 4096;

/// Facts about a connection, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flag(u16);

impl Flag {
    /// Home: receives are multishot.
    pub(crate) const STREAM: Flag = Flag(1);
    /// A receive is armed.
    pub(crate) const RECEIVING: Flag = Flag(1 << 1);
    /// A send is in flight.
    pub(crate) const SENDING: Flag = Flag(1 << 2);
    /// The handler wants no bytes.
    pub(crate) const PAUSED: Flag = Flag(1 << 3);
    /// The armed receive has been cancelled; its completion is still to come.
    pub(crate) const CANCELLED: Flag = Flag(1 << 4);
    /// The peer sends nothing any more.
    pub(crate) const ENDED: Flag = Flag(1 << 5);
    /// To be closed after the send in flight; incoming bytes are dropped.
    pub(crate) const FLUSHING: Flag = Flag(1 << 6);
    /// All is sent and our direction ended; waits for the peer's end.
    pub(crate) const DRAINING: Flag = Flag(1 << 7);
    /// Ends; its operations are cancelled.
    pub(crate) const CLOSING: Flag = Flag(1 << 8);
    /// The handler knows that it has ended.
    pub(crate) const TOLD: Flag = Flag(1 << 9);
    /// Goes to another shard as soon as nothing is armed.
    pub(crate) const LEAVING: Flag = Flag(1 << 10);

    /// Will be cut at a time that is set.
    pub(crate) const LINGERING: Flag = Flag(1 << 11);

    const fn or(self, other: Flag) -> Flag {
        Flag(self.0 | other.0)
    }
}

/// The handler has let go of the connection, or knows that it has ended.
const GONE: Flag = Flag::FLUSHING.or(Flag::DRAINING).or(Flag::CLOSING).or(Flag::LEAVING);

/// One connection.
#[derive(Debug)]
pub(crate) struct Entry<L> {
    pub(crate) fd: Option<OwnedFd>,
    generation: u32,
    flags: u16,
    occupied: bool,
    extra: Option<Box<Extra<L>>>,
}

/// What only some connections have: those not home yet, paused, or ending.
#[derive(Debug)]
pub(crate) struct Extra<L> {
    /// Where it came from; until it is home.
    pub(crate) accepted: Option<Accepted>,
    /// Bytes received and not delivered.
    pub(crate) kept: Vec<u8>,
    /// How the stream ended behind the kept bytes.
    pub(crate) end: Option<Cause>,
    /// Where it goes.
    pub(crate) leaving: Option<(usize, L)>,
    /// Bytes dropped while draining.
    pub(crate) drained_bytes: usize,
}

impl<L> Extra<L> {
    fn new() -> Extra<L> {
        Extra { accepted: None, kept: Vec::new(), end: None, leaving: None, drained_bytes: 0 }
    }

    fn is_blank(&self) -> bool {
        self.accepted.is_none()
            && self.kept.is_empty()
            && self.end.is_none()
            && self.leaving.is_none()
            && self.drained_bytes == 0
    }
}

impl<L> Entry<L> {
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags & flag.0 != 0
    }

    pub(crate) fn set(&mut self, flag: Flag) {
        self.flags |= flag.0;
    }

    pub(crate) fn clear(&mut self, flag: Flag) {
        self.flags &= !flag.0;
    }

    /// The handler still deals with it.
    pub(crate) fn is_open(&self) -> bool {
        !self.has(GONE)
    }

    pub(crate) fn extra(&self) -> Option<&Extra<L>> {
        self.extra.as_deref()
    }
}

/// All connections of a shard.
#[derive(Debug)]
pub(crate) struct Slab<L> {
    entries: Chunks<Entry<L>>,
    free: Vec<u32>,
    extras: Vec<Box<Extra<L>>>,
    count: usize,
    count_max: usize,
    /// Generation of new places: above those of all that were given back.
    first_generation: u32,
}

impl<L> Slab<L> {
    pub(crate) fn new(count_max: usize) -> Slab<L> {
        Slab {
            entries: Chunks::default(),
            free: Vec::new(),
            extras: Vec::new(),
            count: 0,
            count_max,
            first_generation: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Entries there is memory for, free ones too.
    pub(crate) fn places(&self) -> usize {
        self.entries.len()
    }

    /// A new entry, or the descriptor back if the table is full.
    pub(crate) fn insert(&mut self, fd: OwnedFd) -> Result<ConnId, OwnedFd> {
        if self.count >= self.count_max {
            return Err(fd);
        }
        let index = self.free.pop().unwrap_or_else(|| {
            let generation = self.first_generation;
            let blank = Entry { fd: None, generation, flags: 0, occupied: false, extra: None };
            self.entries.push(blank);
            u32::try_from(self.entries.len() - 1).expect("count_max is a u32")
        });
        let entry = self.entries.get_mut(index as usize).expect("free or just pushed");
        assert!(!entry.occupied, "a free index is not in use");
        entry.fd = Some(fd);
        entry.flags = 0;
        entry.occupied = true;
        self.count += 1;
        Ok(ConnId::new(index, entry.generation))
    }

    pub(crate) fn get(&self, conn: ConnId) -> Option<&Entry<L>> {
        let entry = self.entries.get(conn.index())?;
        (entry.occupied && entry.generation == conn.generation()).then_some(entry)
    }

    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Entry<L>> {
        let entry = self.entries.get_mut(conn.index())?;
        (entry.occupied && entry.generation == conn.generation()).then_some(entry)
    }

    /// The entry if the handler still deals with it.
    pub(crate) fn open_mut(&mut self, conn: ConnId) -> Option<&mut Entry<L>> {
        self.get_mut(conn).filter(|entry| entry.is_open())
    }

    /// The extra of a connection, made if it has none.
    pub(crate) fn extra_mut(&mut self, conn: ConnId) -> Option<&mut Extra<L>> {
        if self.get(conn)?.extra.is_none() {
            let extra = self.extras.pop().unwrap_or_else(|| Box::new(Extra::new()));
            self.get_mut(conn)?.extra = Some(extra);
        }
        self.get_mut(conn)?.extra.as_deref_mut()
    }

    /// Gives a blank extra back.
    pub(crate) fn trim(&mut self, conn: ConnId) {
        let Some(entry) = self.get_mut(conn) else { return };
        if let Some(extra) = entry.extra.take_if(|extra| extra.is_blank()) {
            self.recycle(extra);
        }
    }

    /// Ends the entry; the descriptor closes unless it was taken.
    pub(crate) fn remove(&mut self, conn: ConnId) {
        let Some(entry) = self.get_mut(conn) else { return };
        entry.fd = None;
        entry.occupied = false;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        let extra = entry.extra.take();
        self.free.push(conn.slot());
        self.count -= 1;
        if let Some(extra) = extra {
            self.recycle(extra);
        }
    }

    /// Gives the memory of the last places back if all of them are free.
    pub(crate) fn shrink(&mut self) {
        let first = &mut self.first_generation;
        let next = |entry: &Entry<L>| *first = (*first).max(entry.generation);
        if self.entries.shrink(|entry| entry.occupied, next) {
            let places = self.entries.len();
            self.free.retain(|index| (*index as usize) < places);
            self.free.shrink_to_fit();
        }
        self.extras.clear();
    }

    /// Names of all connections.
    pub(crate) fn names(&self) -> Vec<ConnId> {
        (0u32..)
            .zip(self.entries.iter())
            .filter(|(_, entry)| entry.occupied)
            .map(|(index, entry)| ConnId::new(index, entry.generation))
            .collect()
    }

    fn recycle(&mut self, mut extra: Box<Extra<L>>) {
        if self.extras.len() < EXTRAS_SPARE_MAX {
            let mut kept = std::mem::take(&mut extra.kept);
            *extra = Extra::new();
            if kept.capacity() <= KEPT_SPARE_BYTES_MAX {
                kept.clear();
                extra.kept = kept;
            }
            self.extras.push(extra);
        }
    }
}

const _: () = assert!(size_of::<Entry<u64>>() <= 64);

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn fd() -> OwnedFd {
        File::open("/dev/null").expect("exists").into()
    }

    #[test]
    fn an_old_name_does_not_find_the_new_connection() {
        let mut slab: Slab<()> = Slab::new(1);
        let first = slab.insert(fd()).expect("room");
        assert!(slab.insert(fd()).is_err());
        slab.remove(first);
        let second = slab.insert(fd()).expect("room");
        assert_eq!(first.index(), second.index());
        assert!(slab.get(first).is_none());
        assert!(slab.get(second).is_some());
    }

    #[test]
    fn a_place_that_was_given_back_has_another_name() {
        let mut slab: Slab<()> = Slab::new(2);
        let first = slab.insert(fd()).expect("room");
        slab.remove(first);
        slab.shrink();
        assert!(slab.entries.is_empty() && slab.free.is_empty());
        let second = slab.insert(fd()).expect("room");
        assert_eq!(second.index(), first.index());
        assert!(slab.get(first).is_none() && slab.get(second).is_some());
    }

    #[test]
    fn an_idle_entry_is_small() {
        assert!(size_of::<Entry<[u64; 9]>>() <= 32);
    }
}
