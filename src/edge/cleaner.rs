//! Keeps the log short: what still holds of its oldest segment goes to its end, then it is removed.
//!
//! Promise: a segment goes only when everything of it that still holds is durable elsewhere. The
//! work is done in small steps, each waiting until the one before is durable, so that clients do
//! not feel it; at most half of the log is dead.
//!
//! ```text
//!   Idle ─ log too long ─▶ Reading ─ chunk ─▶ revive ─▶ Settling ─ durable ─▶ Reading … ─▶ release
//! ```

use crate::shard::Shard;
use crate::store::{self, Wall};
use shards::Millis;
use shards::ShardLog;
use shards::disk::point;
use shards::log::{Chunk, Cursor, ReadFault};
use tracing::{debug, error};

/// A log with fewer segments is left alone, unless the disk is full.
const SEGMENTS_MIN: usize = 4;
/// How often it is looked whether the log is too long.
const LOOK_MS: u64 = 1_000;
/// Bytes of one step.
const STEP_BYTES: usize = 256 * 1024;
/// Time between two steps: with the size of a step the budget of the cleaner, 25 MiB/s.
const STEP_MS: u64 = 10;

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    /// A chunk of this segment is being read.
    Reading { segment: u64 },
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
}

impl Cleaner {
    /// When [`Cleaner::step`] is wanted next.
    pub(super) fn deadline(&self) -> Option<Millis> {
        match self.state {
            State::Reading { .. } | State::Stuck => None,
            State::Idle | State::Settling { .. } | State::Ending { .. } => Some(self.due),
        }
    }

    /// Goes on, if it is time.
    pub(super) fn step(&mut self, log: &mut ShardLog, shard: &mut Shard, now: Millis) {
        if now < self.due {
            return;
        }
        let durable = log.durable().0;
        match self.state {
            State::Idle => {
                self.due = now.after(LOOK_MS);
                if let Some(segment) = oldest_if_too_long(log, shard) {
                    debug!(segment, "cleaning begins");
                    self.read(log, segment, Cursor::start(segment));
                }
            }
            State::Settling { segment, lsn, next } if lsn <= durable => {
                self.due = now.after(STEP_MS);
                point("clean.durable");
                if let Some(cursor) = next {
                    self.read(log, segment, cursor);
                } else {
                    point("clean.rest");
                    let lsn = shard.revive_rest(now);
                    self.state = State::Ending { segment, lsn };
                }
            }
            State::Ending { segment, lsn } if lsn <= durable => {
                point("clean.release");
                log.release_before(segment + 1);
                debug!(segment, "cleaning is over");
                self.state = State::Idle;
                self.due = now;
            }
            State::Settling { .. } | State::Ending { .. } => self.due = now.after(STEP_MS),
            State::Reading { .. } | State::Stuck => {}
        }
    }

    fn read(&mut self, log: &mut ShardLog, segment: u64, cursor: Cursor) {
        self.state = match log.walk(cursor, STEP_BYTES, 0) {
            Ok(()) => State::Reading { segment },
            // Too many reads wait; later.
            Err(_) => State::Settling { segment, lsn: 0, next: Some(cursor) },
        };
    }

    /// A part of the segment was read: what still holds is emitted again.
    pub(super) fn on_chunk(
        &mut self,
        shard: &mut Shard,
        chunk: Result<Chunk, ReadFault>,
        wall: Wall,
        now: Millis,
    ) {
        let State::Reading { segment } = self.state else { return };
        point("clean.read");
        let revived = chunk.map_err(|fault| fault.to_string()).and_then(|chunk| {
            for record in &chunk.records {
                let decoded = store::decode(record.kind, &record.body, wall);
                let decoded = decoded.map_err(|fault| fault.to_string())?;
                if let Some(decoded) = decoded {
                    shard.revive(record.place.lsn.0, decoded);
                }
            }
            Ok(chunk.next)
        });
        self.due = now.after(STEP_MS);
        self.state = match revived {
            Ok(next) => State::Settling { segment, lsn: shard.last_position(), next },
            Err(why) => {
                error!(segment, %why, "the log cannot be cleaned and will grow");
                State::Stuck
            }
        };
    }
}

/// The segment to be cleaned, if the log has more than twice the bytes that it needs.
fn oldest_if_too_long(log: &ShardLog, shard: &Shard) -> Option<u64> {
    let (mut count, mut bytes, mut oldest) = (0, 0, None);
    for segment in log.segments() {
        count += 1;
        bytes += segment.bytes;
        oldest = oldest.or(Some(segment.number));
    }
    // The last one is being written.
    let few = if log.is_full() { 1 } else { SEGMENTS_MIN };
    if count <= few || bytes / 2 <= shard.live_bytes() {
        return None;
    }
    oldest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cleaner_looks_at_once() {
        assert_eq!(Cleaner::default().deadline(), Some(Millis(0)));
    }
}
