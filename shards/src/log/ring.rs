//! Commit ring: a file of 64 blocks, written in turn, that say how far the log was durable. It
//! closes the gap that the last batch leaves: no later batch vouches for it.
//!
//! ```text
//! 0x00 4  "MQCR"      0x04 2  format    0x06 2  flags, zero
//! 0x08 10 broker      0x18 2  shard     0x1a 6  zero
//! 0x20 8  sequence    +1 with each block; it stands in slot sequence mod 0x40
//! 0x28 8  epoch       of the batch
//! 0x30 8  batch_no    last durable batch
//! 0x38 8  durable_lsn last durable record
//! ```

use super::block::{self, BlockFault, BlockWriter};
use super::{BLOCK_BYTES, Identity, Lsn};

const MAGIC: [u8; 4] = *b"MQCR";

/// Blocks in the ring.
pub const RING_SLOTS: u64 = 64;

const RING_BYTES: usize = 64 * BLOCK_BYTES;

/// How far the log was durable at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// +1 with each mark ever written.
    pub sequence: u64,
    /// Epoch of the batch.
    pub epoch: u64,
    /// Last durable batch.
    pub batch_no: u64,
    /// Last durable record.
    pub durable_lsn: Lsn,
}

impl Mark {
    /// The block on disk.
    pub fn encode(&self, identity: &Identity) -> Vec<u8> {
        BlockWriter::new(MAGIC, 0, identity)
            .u16(0)
            .u32(0)
            .u64(self.sequence)
            .u64(self.epoch)
            .u64(self.batch_no)
            .u64(self.durable_lsn.0)
            .finish()
    }

    /// Reads the block at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<Mark, BlockFault> {
        let (flags, mut fields) = block::open(bytes, MAGIC, identity)?;
        let reserved = fields.u16() != 0 || fields.u32() != 0 || flags != 0;
        if reserved {
            return Err(BlockFault::Field);
        }
        Ok(Mark {
            sequence: fields.u64(),
            epoch: fields.u64(),
            batch_no: fields.u64(),
            durable_lsn: Lsn(fields.u64()),
        })
    }

    /// Where its block stands in the file.
    pub fn offset(&self) -> u64 {
        (self.sequence % RING_SLOTS) * super::offset(BLOCK_BYTES)
    }
}

/// The newest mark of a ring, or `None` if no block is whole. Torn blocks are normal: marks are
/// written without waiting, and the one before is still there.
pub fn newest(ring: &[u8], identity: &Identity) -> Option<Mark> {
    let marks = ring.chunks(BLOCK_BYTES).filter_map(|block| Mark::decode(block, identity).ok());
    marks.max_by_key(|mark| mark.sequence)
}

/// A ring that says nothing is durable yet.
pub fn fresh(identity: &Identity) -> Vec<u8> {
    let mut ring = Mark::default().encode(identity);
    ring.resize(RING_BYTES, 0);
    ring
}
