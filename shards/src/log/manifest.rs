//! Manifest: two blocks in one file, written in turn; the valid one with the higher version holds.
//!
//! ```text
//! 0x00 4  "MQMF"            0x04 2  format    0x06 2  flags (0x1 closed cleanly)
//! 0x08 10 broker            0x18 2  shard     0x1a 2  shards
//! 0x1c 4  segment_blocks    of newly made segments
//! 0x20 8  version           it stands in block version mod 2
//! 0x28 8  snapshot          number, 0 if none
//! 0x30 8  first_segment     where reading begins
//! 0x38 8  active_segment    first segment of the newest opening, 0 before the first
//! 0x40 8  epoch             of the newest opening
//! 0x48 8  batch_no          last durable batch when it was written
//! 0x50 8  durable_lsn       last durable record when it was written
//! ```

use super::block::{self, BlockFault, BlockWriter};
use super::{BLOCK_BYTES, Identity, Lsn};

const MAGIC: [u8; 4] = *b"MQMF";
const CLOSED: u16 = 0x1;

/// What the newest manifest block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The log was closed in order: nothing may follow `batch_no`, nothing before may be missing.
    pub closed: bool,
    /// Shards the directory was written with.
    pub shards: u16,
    /// Length of new segments in blocks.
    pub segment_blocks: u32,
    /// +1 each time it is written.
    pub version: u64,
    /// Number of the snapshot, 0 if none.
    pub snapshot: u64,
    /// Where reading begins.
    pub first_segment: u64,
    /// First segment of the newest opening, 0 before the first.
    pub active_segment: u64,
    /// Epoch of the newest opening.
    pub epoch: u64,
    /// Last batch that was durable when this was written.
    pub batch_no: u64,
    /// Last record that was durable when this was written.
    pub durable_lsn: Lsn,
}

impl Manifest {
    /// Manifest of a new log.
    pub fn fresh(shards: u16, segment_blocks: u32) -> Manifest {
        Manifest {
            closed: true,
            shards,
            segment_blocks,
            version: 0,
            snapshot: 0,
            first_segment: 1,
            active_segment: 0,
            epoch: 0,
            batch_no: 0,
            durable_lsn: Lsn(0),
        }
    }

    /// The block on disk.
    ///
    /// # Panics
    /// If a field has a value that [`Manifest::decode`] refuses.
    pub fn encode(&self, identity: &Identity) -> Vec<u8> {
        assert!(self.is_possible(), "a manifest that no reader would take");
        BlockWriter::new(MAGIC, if self.closed { CLOSED } else { 0 }, identity)
            .u16(self.shards)
            .u32(self.segment_blocks)
            .u64(self.version)
            .u64(self.snapshot)
            .u64(self.first_segment)
            .u64(self.active_segment)
            .u64(self.epoch)
            .u64(self.batch_no)
            .u64(self.durable_lsn.0)
            .finish()
    }

    /// Reads the block at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<Manifest, BlockFault> {
        let (flags, mut fields) = block::open(bytes, MAGIC, identity)?;
        let manifest = Manifest {
            closed: flags & CLOSED != 0,
            shards: fields.u16(),
            segment_blocks: fields.u32(),
            version: fields.u64(),
            snapshot: fields.u64(),
            first_segment: fields.u64(),
            active_segment: fields.u64(),
            epoch: fields.u64(),
            batch_no: fields.u64(),
            durable_lsn: Lsn(fields.u64()),
        };
        let known = flags & !CLOSED == 0;
        if known && manifest.is_possible() { Ok(manifest) } else { Err(BlockFault::Field) }
    }

    fn is_possible(&self) -> bool {
        let opened = self.active_segment >= self.first_segment || self.active_segment == 0;
        self.segment_blocks >= 2 && self.shards > 0 && self.first_segment > 0 && opened
    }

    /// Where its block stands in the file: never where the one before stands.
    pub fn offset(&self) -> u64 {
        (self.version % 2) * super::offset(BLOCK_BYTES)
    }
}

/// The newest whole block of the file.
///
/// # Errors
/// What is wrong with the first block, if neither is whole.
pub fn newest(file: &[u8], identity: &Identity) -> Result<Manifest, BlockFault> {
    let second = file.get(BLOCK_BYTES..).unwrap_or_default();
    match (Manifest::decode(file, identity), Manifest::decode(second, identity)) {
        (Ok(a), Ok(b)) => Ok(if a.version > b.version { a } else { b }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(fault), Err(_)) => Err(fault),
    }
}

/// The file of a new log: version 0, and room for version 1.
///
/// # Panics
/// If it has another version.
pub fn fresh(manifest: &Manifest, identity: &Identity) -> Vec<u8> {
    assert!(manifest.version == 0, "a new log begins with version 0");
    let mut file = manifest.encode(identity);
    file.resize(2 * BLOCK_BYTES, 0);
    file
}
