//! Keeps the log short: what still holds of its oldest segment goes to its end, then it is removed.
//!
//! Promise: a segment goes only when everything of it that still holds is durable elsewhere. The
//! work is done in small steps, each waiting until the one before is durable, so that clients do
//! not feel it; at most half of the log is dead. A segment that cannot be read stays, and is tried
//! again later. No I/O: what is read and released goes through [`CleanedLog`].
//!
//! ```text
//!   Idle ─▶ Counting ─ log too long ─▶ Reading ─ chunk ─▶ Reviving ─▶ Settling ─ durable ─┐
//!     ▲                                   ▲                                               │
//!     └──────── release ◀─ Ending ◀───────┴───────────────────────────────────────────────┘
//! ```
//! A turn counts [`Pace::counted_per_step`] sessions and deliveries or revives
//! [`Pace::work_per_step`] records and deliveries at most, and one record.

use super::{Census, Shard};
use crate::store::{self, Record, Wall};
use shards::Millis;
use shards::log::{Chunk, Cursor, Lsn, ReadFault, SegmentInfo, StoredRecord};
use std::vec::IntoIter;
use tracing::{debug, error};

/// First pause after a segment could not be read; doubles up to the longest.
const RETRY_MS: u64 = 10_000;
/// Longest pause before it is tried again.
const RETRY_MS_MAX: u64 = 600_000;

/// What the cleaner wants of a shard's log.
pub trait CleanedLog {
    /// Everything up to this record may be acknowledged.
    fn settled(&self) -> Lsn;
    /// Number the next record will have.
    fn next_lsn(&self) -> Lsn;
    /// Room runs out, so that a short log is cleaned too.
    fn is_full(&self) -> bool;
    /// Segments that were not released, the oldest first; the last one is being written.
    fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_;
    /// Begins to read the records that begin in a segment, from here on and about so many bytes;
    /// [`Cleaner::on_chunk`] brings them. False if too many reads wait.
    fn walk(&mut self, from: Cursor, bytes: usize) -> bool;
    /// No record that begins before this segment is needed any more.
    fn release_before(&mut self, segment: u64);
    /// A named step is reached, at which tests end the process.
    fn point(&self, name: &'static str);
}

/// How fast the cleaner works, and when it begins.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// A log with fewer segments is left alone, unless the disk is full.
    pub segments_min: usize,
    /// How often it is looked whether the log is too long.
    pub look_ms: u64,
    /// Bytes that are read in one step.
    pub step_bytes: usize,
    /// Time between two steps.
    pub step_ms: u64,
    /// Sessions and deliveries that are counted in a turn.
    pub counted_per_step: usize,
    /// Records and their deliveries that are revived in a turn.
    pub work_per_step: usize,
}

impl Default for Pace {
    /// 25 MiB/s at most; a turn counts for less than a millisecond, or revives for about one.
    fn default() -> Self {
        Pace {
            segments_min: 4,
            look_ms: 1_000,
            step_bytes: 256 * 1024,
            step_ms: 10,
            counted_per_step: 16_384,
            work_per_step: 1_024,
        }
    }
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// What still holds is being counted.
    Counting(Box<Census>),
    /// A chunk of this segment is being read.
    Reading { segment: u64 },
    /// These records of it come next.
    Reviving { segment: u64, records: IntoIter<StoredRecord>, next: Option<Cursor> },
    /// What was emitted again up to this position is not durable; then it goes on at the cursor.
    Settling { segment: u64, lsn: u64, next: Option<Cursor> },
    /// The segment is read and all of it is durable elsewhere up to this position.
    Ending { segment: u64, lsn: u64 },
}

/// See the module.
#[derive(Debug, Default)]
pub struct Cleaner {
    pace: Pace,
    state: State,
    due: Millis,
    /// The log was short enough, and this was the number of its next record.
    counted: Lsn,
    /// Attempts in a row that have failed.
    failed: u32,
}

impl Cleaner {
    /// One that works at another pace than usual.
    pub fn new(pace: Pace) -> Cleaner {
        Cleaner { pace, ..Cleaner::default() }
    }

    /// When [`Cleaner::step`] is wanted next.
    pub fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Reading { .. } => None,
            State::Idle
            | State::Counting(_)
            | State::Reviving { .. }
            | State::Settling { .. }
            | State::Ending { .. } => Some(self.due),
        }
    }

    /// Goes on, if it is time.
    pub fn step(&mut self, log: &mut impl CleanedLog, shard: &mut Shard, wall: Wall, now: Millis) {
        if now < self.due {
            return;
        }
        let durable = log.settled().0;
        self.due = now.after(self.pace.step_ms);
        self.state = match std::mem::take(&mut self.state) {
            State::Idle if self.has_enough_segments(log) && log.next_lsn() != self.counted => {
                State::Counting(Box::default())
            }
            State::Idle => {
                self.due = now.after(self.pace.look_ms);
                State::Idle
            }
            State::Counting(mut census) => {
                if shard.count(&mut census, self.pace.counted_per_step) {
                    self.decide(log, shard.live_bytes(&census), now)
                } else {
                    State::Counting(census)
                }
            }
            State::Reviving { segment, records, next } => {
                self.revive(shard, wall, (segment, records, next), now)
            }
            State::Settling { segment, lsn, next } if lsn <= durable => {
                log.point("clean.durable");
                if let Some(cursor) = next {
                    self.read(log, segment, cursor)
                } else {
                    log.point("clean.rest");
                    State::Ending { segment, lsn: shard.revive_rest(now) }
                }
            }
            State::Ending { segment, lsn } if lsn <= durable => {
                log.point("clean.release");
                log.release_before(segment + 1);
                debug!(segment, "cleaning is over");
                self.failed = 0;
                State::Idle
            }
            waiting @ (State::Settling { .. } | State::Ending { .. } | State::Reading { .. }) => {
                waiting
            }
        };
        if matches!(self.state, State::Reviving { .. }) {
            self.due = now;
        }
    }

    /// Begins with the oldest segment if the log has more than twice the bytes that it needs.
    fn decide(&mut self, log: &mut impl CleanedLog, live_bytes: u64, now: Millis) -> State {
        let bytes = log.segments().map(|segment| segment.bytes).sum::<u64>();
        let oldest = log.segments().next().filter(|_| bytes / 2 > live_bytes);
        let Some(oldest) = oldest.filter(|_| self.has_enough_segments(log)) else {
            self.due = now.after(self.pace.look_ms);
            self.counted = log.next_lsn();
            return State::Idle;
        };
        let segment = oldest.number;
        debug!(segment, "cleaning begins");
        self.read(log, segment, Cursor::start(segment))
    }

    /// A part of the segment was read: what still holds is emitted again, a little in each turn.
    pub fn on_chunk(&mut self, chunk: Result<Chunk, ReadFault>, now: Millis) {
        let State::Reading { segment } = self.state else { return };
        self.due = now;
        self.state = match chunk {
            Ok(Chunk { records, next }) => {
                State::Reviving { segment, records: records.into_iter(), next }
            }
            Err(why) => self.stuck(segment, &why.to_string(), now),
        };
    }

    fn read(&self, log: &mut impl CleanedLog, segment: u64, cursor: Cursor) -> State {
        if log.walk(cursor, self.pace.step_bytes) {
            State::Reading { segment }
        } else {
            // Later.
            State::Settling { segment, lsn: 0, next: Some(cursor) }
        }
    }

    /// Shows the shard as many records as a turn may.
    fn revive(
        &mut self,
        shard: &mut Shard,
        wall: Wall,
        (segment, mut records, next): (u64, IntoIter<StoredRecord>, Option<Cursor>),
        now: Millis,
    ) -> State {
        let mut work = 0;
        while work < self.pace.work_per_step {
            let Some(record) = records.next() else {
                return State::Settling { segment, lsn: shard.last_position(), next };
            };
            match store::decode(record.kind, &record.body, wall) {
                Ok(Some(decoded)) => {
                    if let Record::Publish(publish) = &decoded {
                        work += publish.entries.len();
                    }
                    shard.revive(record.place.lsn.0, decoded);
                }
                Ok(None) => {}
                Err(fault) => return self.stuck(segment, &fault.to_string(), now),
            }
            work += 1;
        }
        State::Reviving { segment, records, next }
    }

    /// The segment stays, and what was emitted of it does no harm: it is tried again after a pause.
    fn stuck(&mut self, segment: u64, why: &str, now: Millis) -> State {
        let pause_ms = (RETRY_MS << self.failed.min(16)).min(RETRY_MS_MAX);
        self.failed += 1;
        self.due = now.after(pause_ms);
        error!(segment, %why, again_in_s = pause_ms / 1_000, "the log cannot be cleaned and grows");
        State::Idle
    }

    /// The last segment is being written.
    fn has_enough_segments(&self, log: &impl CleanedLog) -> bool {
        let few = if log.is_full() { 1 } else { self.pace.segments_min };
        log.segments().nth(few).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cleaner_looks_at_once() {
        assert_eq!(Cleaner::default().deadline(), Some(Millis(0)));
    }

    #[test]
    fn what_cannot_be_read_is_tried_again_ever_later_but_within_ten_minutes() {
        let mut cleaner = Cleaner::default();
        let now = Millis(5_000);
        for pause_s in [10, 20, 40, 80, 160, 320, 600, 600].into_iter().chain([600; 40]) {
            cleaner.state = State::Reading { segment: 1 };
            cleaner.on_chunk(Err(ReadFault::Io(5)), now);
            assert_eq!(cleaner.deadline(), Some(now.after(pause_s * 1_000)));
        }
    }
}
