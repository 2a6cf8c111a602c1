//! Write-ahead log of one shard: format, group commit, recovery decision. No I/O.
//!
//! Promise: a record is reported durable only after every byte of it was written and a sync that
//! was begun afterwards succeeded; after a crash at any moment [`Scan`] gives back a prefix of
//! what was appended that holds every durable record, or says where acknowledged data is damaged.
//! Not here: files (the driver performs [`Operation`]s), what a record means, snapshots.
//!
//! ```text
//!   append ─▶ open batch ─▶ seal ─▶ Write … Write ─▶ Sync ─▶ durable() rises
//!                 ▲ fills while the window before it is in flight │
//!                 └───────────────────────────────────────────────┘
//!   after a crash:  survey (manifest, ring, heads) ─▶ Scan (segments) ─▶ Outcome ─▶ Log::open
//! ```
//!
//! The byte maps are in `docs/durability.md` and at the types.

pub mod batch;
mod block;
mod buffer;
pub mod fetch;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod manifest;
pub mod operation;
pub mod place;
mod prepare;
pub mod record;
pub mod ring;
pub mod scan;
pub mod segment;
pub mod settings;
mod state;
pub mod survey;
pub mod verdict;
pub mod writer;

pub use block::BlockFault;
pub use buffer::AlignedBuffer;
pub use fetch::{Chunk, Cursor, Fetch, ReadFault, Step, StoredRecord, Walk};
pub use manifest::Manifest;
pub use operation::{Action, File, Lane, Operation, Outcome, Write};
pub use place::{Extent, Index, Place, SegmentInfo};
pub use record::Record;
pub use ring::Mark;
pub use scan::Scan;
pub use segment::SegmentHeader;
pub use settings::{Commit, Failure, Refused, Settings, Urgency};
pub use survey::{Cause, Corruption, Found, Survey, survey};
pub use verdict::{Loss, Mode, Recovered, Resume, Verdict};
pub use writer::Log;

/// Unit of alignment of everything in a log file.
pub const BLOCK_BYTES: usize = 0x1000;
/// Length of a segment file in a broker.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Longest batch with header and padding.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Longest body of a record: the longest MQTT packet and room for what the broker adds.
pub const RECORD_BYTES_MAX: usize = (256 << 20) + (1 << 20);
/// Version of the format in every block and batch.
pub const FORMAT: u16 = 1;
/// Bit of a record type: a reader that does not know the type must refuse the log.
pub const MUST_UNDERSTAND: u8 = 0x80;

/// Number of a record in its shard's log: +1 each, never used twice. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The one after this.
    #[must_use]
    pub fn next(self) -> Lsn {
        self.plus(1)
    }

    /// The one `count` further; saturates, which [`Scan`] refuses as damage.
    #[must_use]
    pub fn plus(self, count: u64) -> Lsn {
        Lsn(self.0.saturating_add(count))
    }
}

/// Whose log this is. A file with another identity is foreign and never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn once when the data directory is made.
    pub broker: [u8; 16],
    /// Number of the shard.
    pub shard: u16,
}

/// `bytes` as an offset in a file.
pub(crate) fn offset(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize has at most 64 bits on every target of this crate")
}

/// `bytes` rounded up to whole blocks.
pub(crate) fn whole_blocks(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}
