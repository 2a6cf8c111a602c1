//! Keeps the log short: what still holds of its oldest segment goes to its end, then it is removed.
//!
//! Promise: a segment goes only when everything of it that still holds is durable elsewhere. The
//! work is done in small steps, each waiting until the one before is durable, so that clients do
//! not feel it; at most half of the log is dead.
//!
//! ```text
//!   Idle ─▶ Counting ─ log too long ─▶ Reading ─ chunk ─▶ Reviving ─▶ Settling ─ durable ─┐
//!     ▲                                   ▲                                               │
//!     └──────── release ◀─ Ending ◀───────┴───────────────────────────────────────────────┘
//! ```
//! A turn counts [`COUNTED_PER_STEP`] sessions and deliveries or revives [`WORK_PER_STEP`] records and
//! deliveries at most, and one record.

use crate::shard::{Census, Shard};
use crate::store::{self, Record, Wall};
use shards::Millis;
use shards::ShardLog;
use shards::disk::point;
use shards::log::{Chunk, Cursor, Lsn, ReadFault, StoredRecord};
use std::vec::IntoIter;
use tracing::{debug, error};

/// A log with fewer segments is left alone, unless the disk is full.
const SEGMENTS_MIN: usize = 4;
/// How often it is looked whether the log is too long.
const LOOK_MS: u64 = 1_000;
/// Bytes of one step.
const STEP_BYTES: usize = 256 * 1024;
/// Time between two steps: with the size of a step the budget of the cleaner, 25 MiB/s.
const STEP_MS: u64 = 10;
/// Sessions and deliveries that are counted in a turn: less than a millisecond.
const COUNTED_PER_STEP: usize = 16_384;
/// Records and their deliveries that are revived in a turn: about a millisecond.
const WORK_PER_STEP: usize = 1_024;

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
    /// It could not be read: the log is left as it is.
    Stuck,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cleaner {
    state: State,
    due: Millis,
    /// The log was short enough, and this was the number of its next record.
    counted: Lsn,
}

impl Cleaner {
    /// When [`Cleaner::step`] is wanted next.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Reading { .. } | State::Stuck => None,
            State::Idle
            | State::Counting(_)
            | State::Reviving { .. }
            | State::Settling { .. }
            | State::Ending { .. } => Some(self.due),
        }
    }

    /// Goes on, if it is time.
    pub(super) fn step(&mut self, log: &mut ShardLog, shard: &mut Shard, wall: Wall, now: Millis) {
        if now < self.due {
            return;
        }
        let durable = log.durable().0;
        self.due = now.after(STEP_MS);
        self.state = match std::mem::take(&mut self.state) {
            State::Idle if has_enough_segments(log) && log.next_lsn() != self.counted => {
                State::Counting(Box::default())
            }
            State::Idle => {
                self.due = now.after(LOOK_MS);
                State::Idle
            }
            State::Counting(mut census) => {
                if shard.count(&mut census, COUNTED_PER_STEP) {
                    self.decide(log, shard.live_bytes(&census), now)
                } else {
                    State::Counting(census)
                }
            }
            State::Reviving { segment, records, next } => {
                revive(shard, wall, segment, records, next)
            }
            State::Settling { segment, lsn, next } if lsn <= durable => {
                point("clean.durable");
                if let Some(cursor) = next {
                    read(log, segment, cursor)
                } else {
                    point("clean.rest");
                    State::Ending { segment, lsn: shard.revive_rest(now) }
                }
            }
            State::Ending { segment, lsn } if lsn <= durable => {
                point("clean.release");
                log.release_before(segment + 1);
                debug!(segment, "cleaning is over");
                State::Idle
            }
            waiting @ (State::Settling { .. }
            | State::Ending { .. }
            | State::Reading { .. }
            | State::Stuck) => waiting,
        };
        if matches!(self.state, State::Reviving { .. }) {
            self.due = now;
        }
    }

    /// Begins with the oldest segment if the log has more than twice the bytes that it needs.
    fn decide(&mut self, log: &mut ShardLog, live_bytes: u64, now: Millis) -> State {
        let bytes = log.segments().map(|segment| segment.bytes).sum::<u64>();
        let oldest = log.segments().next().filter(|_| bytes / 2 > live_bytes);
        let Some(oldest) = oldest.filter(|_| has_enough_segments(log)) else {
            self.due = now.after(LOOK_MS);
            self.counted = log.next_lsn();
            return State::Idle;
        };
        let segment = oldest.number;
        debug!(segment, "cleaning begins");
        read(log, segment, Cursor::start(segment))
    }

    /// A part of the segment was read: what still holds is emitted again, a little in each turn.
    pub(super) fn on_chunk(&mut self, chunk: Result<Chunk, ReadFault>, now: Millis) {
        let State::Reading { segment } = self.state else { return };
        point("clean.read");
        self.due = now;
        self.state = match chunk {
            Ok(Chunk { records, next }) => {
                State::Reviving { segment, records: records.into_iter(), next }
            }
            Err(why) => stuck(segment, &why.to_string()),
        };
    }
}

fn read(log: &mut ShardLog, segment: u64, cursor: Cursor) -> State {
    match log.walk(cursor, STEP_BYTES, 0) {
        Ok(()) => State::Reading { segment },
        // Too many reads wait; later.
        Err(_) => State::Settling { segment, lsn: 0, next: Some(cursor) },
    }
}

/// Shows the shard as many records as a turn may.
fn revive(
    shard: &mut Shard,
    wall: Wall,
    segment: u64,
    mut records: IntoIter<StoredRecord>,
    next: Option<Cursor>,
) -> State {
    let mut work = 0;
    while work < WORK_PER_STEP {
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
            Err(fault) => return stuck(segment, &fault.to_string()),
        }
        work += 1;
    }
    State::Reviving { segment, records, next }
}

fn stuck(segment: u64, why: &str) -> State {
    error!(segment, %why, "the log cannot be cleaned and will grow");
    State::Stuck
}

/// The last segment is being written.
fn has_enough_segments(log: &ShardLog) -> bool {
    let few = if log.is_full() { 1 } else { SEGMENTS_MIN };
    log.segments().nth(few).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cleaner_looks_at_once() {
        assert_eq!(Cleaner::default().deadline(), Some(Millis(0)));
    }
}
