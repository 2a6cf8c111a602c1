//! Sizes of a log, and why it refuses.

use std::{fmt, io};

use thiserror::Error;

use super::operation::File;
use super::{BATCH_BYTES_MAX, BLOCK_BYTES, Identity, SEGMENT_BYTES, offset};

/// When records may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// When a sync has covered them.
    Sync,
    /// When they are written; the driver asks for syncs. A crash of the system may lose what was
    /// written since the last one.
    Interval,
}

/// May this record use what is kept for a full disk?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// No.
    Usual,
    /// Yes: it frees space.
    FreesSpace,
}

/// Sizes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose log it is.
    pub identity: Identity,
    /// Length of new segments; a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// Longest batch; a multiple of 4 KiB, at most 1 MiB and what a segment holds.
    pub batch_bytes_max: usize,
    /// Bytes of records that may wait for the disk; beyond, [`Log::append`] refuses.
    pub pending_bytes_max: usize,
    /// Segments kept ready. With two or more, the last one is kept for
    /// [`Urgency::FreesSpace`] while no further one can be made.
    pub spares: usize,
    /// When records may be acknowledged.
    pub commit: Commit,
}

impl Settings {
    /// The sizes of a broker.
    pub fn new(identity: Identity) -> Settings {
        Settings {
            identity,
            segment_bytes: SEGMENT_BYTES,
            batch_bytes_max: BATCH_BYTES_MAX,
            pending_bytes_max: 16 * BATCH_BYTES_MAX,
            spares: 2,
            commit: Commit::Sync,
        }
    }

    /// Length of new segments in blocks.
    ///
    /// # Panics
    /// If the sizes do not fit together.
    pub fn segment_blocks(&self) -> u32 {
        let (block, batch) = (offset(BLOCK_BYTES), offset(self.batch_bytes_max));
        assert!(self.segment_bytes.is_multiple_of(block), "segments are whole blocks");
        assert!(self.batch_bytes_max.is_multiple_of(BLOCK_BYTES), "batches are whole blocks");
        assert!((BLOCK_BYTES..=BATCH_BYTES_MAX).contains(&self.batch_bytes_max), "batch limit");
        assert!(self.segment_bytes >= block + batch, "a batch fits into a segment");
        u32::try_from(self.segment_bytes / block).expect("a segment has less than 16 TiB")
    }
}

/// Why something was not taken; nothing has changed. Who asked still has what was to be written
/// and keeps it, or refuses it to where it came from: no refused record is ever lost here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The log failed before.
    #[error("the log has failed")]
    Failed,
    /// The log is being closed.
    #[error("the log is being closed")]
    Closing,
    /// `pending_bytes_max` bytes wait for the disk, or room that a usual record could have is still
    /// being made. Ask again when [`Log::durable`] has risen or an operation has ended.
    #[error("too many bytes wait for the disk")]
    Full,
    /// No segment can be made; what room is left is kept for records that free space.
    #[error("the disk is full")]
    DiskFull,
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("the record is too long")]
    TooLong,
}

/// The first error; the log does nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// File of the operation, if it was about one.
    pub file: Option<File>,
    /// `errno`, or `None` if a write made no progress.
    pub errno: Option<i32>,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.file {
            Some(file) => write!(out, "{file}: ")?,
            None => out.write_str("directory: ")?,
        }
        match self.errno {
            Some(errno) => io::Error::from_raw_os_error(errno).fmt(out),
            None => out.write_str("a write made no progress"),
        }
    }
}
