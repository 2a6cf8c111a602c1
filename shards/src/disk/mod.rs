//! The log on a disk: data directory, recovery at the start, and the pump that performs the log's
//! operations on the shard's ring.
//!
//! Promise: one process has a directory at a time; nothing is changed in it before all of it was
//! read and accepted; nothing is removed that was not read as unneeded. While shards run, none is
//! ever blocked by the disk: every operation is an entry of the ring, its end an event of a turn.
//! Not here: when something is durable (log), what a record means.
//!
//! ```text
//!   Directory::open ─▶ recover (reads) ─▶ Recovery::begin (writes, syncs) ─▶ Opened
//!                                                                             │ start_with_logs
//!   handler ── append ─▶ ShardLog ── Operation ─▶ Errand ─▶ ring              ▼
//!   on_durable ◀── settled rises ◀── Outcome ◀── completion          ShardLog on its shard
//! ```
//! Without an engine: [`Examination`] reads and changes nothing, [`OfflineLog`] appends,
//! [`Relayout`] changes the number of shards.

mod broker_file;
mod directory;
pub(crate) mod errand;
mod error;
mod examination;
pub(crate) mod faults;
mod files;
mod layout;
mod offline;
mod pump;
mod reads;
mod recovery;
mod relayout;
mod segment_file;
mod stats;
mod windows;

pub use broker_file::{BROKER_FILE_BYTES, Broker};
pub use directory::Directory;
pub use error::DirectoryError;
pub use examination::{Examination, read_segment_file};
pub use faults::{point, points_are_set};
pub use offline::OfflineLog;
pub use pump::ShardLog;
pub(crate) use reads::Answer;
pub use recovery::{Opened, Recovery};
pub use relayout::Relayout;
pub use stats::{LATENCY_STEPS, LogStats};

use crate::log;

/// When an acknowledgement may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When what it acknowledges is on stable storage.
    Fsync,
    /// When it has been written; synced every `ms`. The end of the process loses nothing; a crash
    /// of the system or a power failure loses what was written since the last sync, at most about
    /// `ms` and the time a sync takes.
    Interval {
        /// Milliseconds, at least 1.
        ms: u64,
    },
}

/// Settings of every shard's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When an acknowledgement may leave.
    pub durability: Durability,
    /// Length of new segments; a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Longest batch; see [`log::Settings::batch_bytes_max`].
    pub batch_bytes_max: usize,
    /// Bytes of records that may wait for the disk; beyond, records are refused.
    pub pending_bytes_max: usize,
    /// Segments kept ready, the one for a full disk included.
    pub spares: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            durability: Durability::Fsync,
            segment_bytes: log::SEGMENT_BYTES,
            batch_bytes_max: log::BATCH_BYTES_MAX,
            pending_bytes_max: 16 * log::BATCH_BYTES_MAX,
            spares: 2,
        }
    }
}

impl Settings {
    /// The first setting that cannot work, in words.
    pub fn fault(&self) -> Option<&'static str> {
        let block = log::BLOCK_BYTES;
        if !self.segment_bytes.is_multiple_of(log::offset(block))
            || u32::try_from(self.segment_bytes / log::offset(block)).is_err()
        {
            Some("segment_bytes must be a multiple of 4096 and less than 16 TiB")
        } else if !self.batch_bytes_max.is_multiple_of(block)
            || !(block..=log::BATCH_BYTES_MAX).contains(&self.batch_bytes_max)
        {
            Some("batch_bytes_max must be a multiple of 4096 and at most 1048576")
        } else if self.segment_bytes < log::offset(block + self.batch_bytes_max) {
            Some("segment_bytes must have room for a batch and 4096 bytes more")
        } else if self.pending_bytes_max == 0 || self.spares == 0 {
            Some("pending_bytes_max and spares must be at least 1")
        } else if self.durability == (Durability::Interval { ms: 0 }) {
            Some("an interval must be at least 1 ms")
        } else {
            None
        }
    }

    fn of_log(&self, identity: log::Identity) -> log::Settings {
        log::Settings {
            identity,
            segment_bytes: self.segment_bytes,
            batch_bytes_max: self.batch_bytes_max,
            pending_bytes_max: self.pending_bytes_max,
            spares: self.spares,
            commit: match self.durability {
                Durability::Fsync => log::Commit::Sync,
                Durability::Interval { .. } => log::Commit::Interval,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_do_not_fit_are_named() {
        let good = Settings::default();
        assert_eq!(good.fault(), None);
        let bad = [
            Settings { segment_bytes: 4097, ..good.clone() },
            Settings { segment_bytes: 1 << 20, ..good.clone() },
            Settings { segment_bytes: 1 << 44, ..good.clone() },
            Settings { batch_bytes_max: 0, ..good.clone() },
            Settings { batch_bytes_max: 2 << 20, ..good.clone() },
            Settings { pending_bytes_max: 0, ..good.clone() },
            Settings { spares: 0, ..good.clone() },
            Settings { durability: Durability::Interval { ms: 0 }, ..good },
        ];
        for settings in bad {
            assert!(settings.fault().is_some(), "{settings:?}");
        }
    }
}
