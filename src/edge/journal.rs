//! The log of one shard, between its records and the engine's log.
//!
//! Promise: records reach the log in the order the shard emitted them, so that its positions are
//! the log's; one that the log cannot take yet stays here, first in line, and nobody is told that
//! it is durable. Not here: what a record means (`shard`), when something is durable (engine).
//!
//! ```text
//!   Effect::Record ─▶ encode ─▶ log.append ─▶ note_place
//!   Effect::Fetch  ─▶ log.read ─▶ on_record ─▶ decode ─▶ on_fetched
//! ```

use super::points::Points;
use crate::shard::{CleanedLog, Cleaner, LastRead, Purpose, Shard};
use crate::store::{self, Record, Wall};
use shards::disk::point;
use shards::log::{Chunk, Cursor, Lsn, Place, ReadFault, Refused, SegmentInfo, StoredRecord};
use shards::{Millis, ShardLog};
use std::collections::VecDeque;
use tracing::{error, warn};

/// What the edge knows of its shard's log.
#[derive(Debug)]
pub(super) struct Journal {
    wall: Wall,
    /// Buffer for one record.
    body: Vec<u8>,
    /// Records that the log did not take yet, oldest first. Their number is bounded by what the
    /// clients do before they are paused: see `Driver::on_bytes`.
    backlog: VecDeque<(u8, Box<[u8]>)>,
    /// Log positions of what is being read, and what for; the token is the place.
    fetches: Vec<Option<(u64, Purpose)>>,
    free: Vec<usize>,
    /// Reads that the log did not take yet, oldest first: one for each message that a session
    /// waits for at most.
    late: VecDeque<(Place, u64)>,
    last_read: LastRead,
    cleaner: Cleaner,
    pub(super) points: Points,
}

impl Journal {
    pub(super) fn new(wall: Wall) -> Self {
        Journal {
            wall,
            body: Vec::new(),
            backlog: VecDeque::new(),
            fetches: Vec::new(),
            free: Vec::new(),
            late: VecDeque::new(),
            last_read: LastRead::default(),
            cleaner: Cleaner::default(),
            points: Points::default(),
        }
    }

    /// Writes a record that the shard emitted at this position.
    ///
    /// # Panics
    /// If the log counts otherwise than the shard: every acknowledgement would be a lie.
    pub(super) fn append(&mut self, log: &mut ShardLog, shard: &mut Shard, record: &mut Record) {
        self.body.clear();
        let kind = store::encode(record, self.wall, &mut self.body);
        if self.backlog.is_empty() {
            match log.append_urgent(kind, &self.body) {
                Ok(place) => {
                    self.points.record(place.lsn.0, record);
                    shard.note_place(place.lsn.0, place.at);
                    return shard.recycle_record(record);
                }
                Err(Refused::Full | Refused::DiskFull) => {}
                Err(refused) => return given_up(refused),
            }
        }
        self.backlog.push_back((kind, Box::from(self.body.as_slice())));
    }

    /// Tries again what the log did not take.
    pub(super) fn retry(&mut self, log: &mut ShardLog, shard: &mut Shard) {
        while let Some((kind, body)) = self.backlog.front() {
            match log.append_urgent(*kind, body) {
                Ok(place) => shard.note_place(place.lsn.0, place.at),
                Err(Refused::Full | Refused::DiskFull) => return,
                Err(refused) => given_up(refused),
            }
            self.backlog.pop_front();
        }
    }

    /// Lets the cleaner go on, if it is time.
    pub(super) fn clean(&mut self, log: &mut ShardLog, shard: &mut Shard, now: Millis) {
        self.cleaner.step(log, shard, self.wall, now);
    }

    /// A part of a segment was read for the cleaner.
    pub(super) fn on_chunk(&mut self, chunk: Result<Chunk, ReadFault>, now: Millis) {
        point("clean.read");
        self.cleaner.on_chunk(chunk, now);
    }

    /// When [`Journal::clean`] is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        self.cleaner.deadline()
    }

    /// Records wait here.
    pub(super) fn is_behind(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Begins to read the message of a record.
    pub(super) fn fetch(&mut self, log: &mut ShardLog, place: (u64, u32), purpose: Purpose) {
        let (lsn, at) = place;
        let token = self.free.pop().unwrap_or_else(|| {
            self.fetches.push(None);
            self.fetches.len() - 1
        });
        if let Some(entry) = self.fetches.get_mut(token) {
            *entry = Some((lsn, purpose));
        }
        self.late.push_back((Place { lsn: Lsn(lsn), at }, token as u64));
        self.read_late(log);
    }

    /// Gives the log the reads that wait here, as far as it takes them.
    pub(super) fn read_late(&mut self, log: &mut ShardLog) {
        while let Some((place, token)) = self.late.front() {
            if log.read(*place, *token).is_err() {
                return;
            }
            self.late.pop_front();
        }
    }

    fn take(&mut self, token: u64) -> Option<(u64, Purpose)> {
        let token = usize::try_from(token).ok()?;
        let fetch = self.fetches.get_mut(token)?.take()?;
        self.free.push(token);
        Some(fetch)
    }

    /// A record was read.
    pub(super) fn on_record(
        &mut self,
        shard: &mut Shard,
        token: u64,
        read: Result<StoredRecord, ReadFault>,
        now: Millis,
    ) {
        let Some((lsn, purpose)) = self.take(token) else { return };
        let message = read.map_err(|fault| fault.to_string()).and_then(|record| {
            if let Some(message) = self.last_read.get(lsn) {
                return Ok(message);
            }
            let message = store::decode_message(record.kind, &record.body, self.wall)
                .map_err(|fault| fault.to_string())?;
            self.last_read.note(lsn, &message);
            Ok(message)
        });
        match message {
            Ok(message) => shard.on_fetched(purpose, message, now),
            // The cleaner may have been faster.
            Err(_) if shard.is_read_elsewhere(&purpose, lsn, now) => {}
            Err(why) => {
                error!(%why, "a record cannot be read back");
                shard.on_unreadable(&purpose, now);
            }
        }
    }
}

impl CleanedLog for ShardLog {
    fn settled(&self) -> Lsn {
        self.durable()
    }

    fn next_lsn(&self) -> Lsn {
        self.next_lsn()
    }

    fn is_full(&self) -> bool {
        self.is_full()
    }

    fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.segments()
    }

    fn walk(&mut self, from: Cursor, bytes: usize) -> bool {
        self.walk(from, bytes, 0).is_ok()
    }

    fn release_before(&mut self, segment: u64) {
        self.release_before(segment);
    }

    fn point(&self, name: &'static str) {
        point(name);
    }
}

/// The log has failed or is being closed: what is not durable now was never acknowledged.
fn given_up(refused: Refused) {
    warn!(%refused, "a record is not written");
}
