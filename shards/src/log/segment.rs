//! First block of a segment file. It is synced before the first batch of the segment is written,
//! and written only when all batches before it are durable: it is a proof of both.
//!
//! ```text
//! 0x00 4  "MQSG"            0x04 2  format    0x06 2  flags (0x1 losses before it were accepted)
//! 0x08 10 broker            0x18 2  shard     0x1a 2  zero
//! 0x1c 4  segment_blocks    length of the file in blocks of 4 KiB
//! 0x20 8  segment           number, as in the file name
//! 0x28 8  epoch             of its batches: drawn at each opening of the log
//! 0x30 8  first_lsn         of its first batch
//! 0x38 8  first_batch_no    of its first batch
//! 0x40 8  prev_batch_no     last batch before it, 0 if none; with prev_hash it names the place
//! 0x48 8  prev_hash         in the log that this segment continues
//! 0x50 8  prev_epoch        of the opening before, 0 if none
//! ```

use super::block::{self, BlockFault, BlockWriter, Fields};
use super::{BLOCK_BYTES, Identity, Lsn};

const MAGIC: [u8; 4] = *b"MQSG";
const SALVAGED: u16 = 0x1;

/// What the first block of a segment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The operator accepted what is missing before this segment.
    pub salvaged: bool,
    /// Length of the file in blocks.
    pub segment_blocks: u32,
    /// Number, as in the file name.
    pub segment: u64,
    /// Epoch of its batches.
    pub epoch: u64,
    /// LSN of its first record.
    pub first_lsn: Lsn,
    /// Number of its first batch.
    pub first_batch_no: u64,
    /// Number of the last batch before it; 0 if there is none.
    pub prev_batch_no: u64,
    /// Hash of that batch; 0 if there is none.
    pub prev_hash: u64,
    /// Epoch of the opening before; 0 if there is none.
    pub prev_epoch: u64,
}

impl SegmentHeader {
    /// The block on disk.
    ///
    /// # Panics
    /// If a field has a value that [`SegmentHeader::decode`] refuses.
    pub fn encode(&self, identity: &Identity) -> Vec<u8> {
        assert!(self.is_possible(), "a header that no reader would take");
        let flags = if self.salvaged { SALVAGED } else { 0 };
        BlockWriter::new(MAGIC, flags, identity)
            .u16(0)
            .u32(self.segment_blocks)
            .u64(self.segment)
            .u64(self.epoch)
            .u64(self.first_lsn.0)
            .u64(self.first_batch_no)
            .u64(self.prev_batch_no)
            .u64(self.prev_hash)
            .u64(self.prev_epoch)
            .finish()
    }

    /// Reads the block at the start of `bytes`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8], identity: &Identity) -> Result<SegmentHeader, BlockFault> {
        let (flags, mut fields) = block::open(bytes, MAGIC, identity)?;
        let reserved = fields.u16();
        let header = SegmentHeader {
            salvaged: flags & SALVAGED != 0,
            segment_blocks: fields.u32(),
            segment: fields.u64(),
            epoch: fields.u64(),
            first_lsn: Lsn(fields.u64()),
            first_batch_no: fields.u64(),
            prev_batch_no: fields.u64(),
            prev_hash: fields.u64(),
            prev_epoch: fields.u64(),
        };
        let known = reserved == 0 && flags & !SALVAGED == 0;
        if known && header.is_possible() { Ok(header) } else { Err(BlockFault::Field) }
    }

    /// Whose segment it is, and its number, as a block says that nothing is known about. It is to
    /// be decoded with that identity then.
    pub fn peek(bytes: &[u8]) -> (Identity, u64) {
        let broker = bytes.get(0x08..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        let mut fields = Fields::new(bytes.get(0x18..).unwrap_or_default());
        let shard = fields.u16();
        let _zero_and_blocks = (fields.u16(), fields.u32());
        (Identity { broker, shard }, fields.u64())
    }

    fn is_possible(&self) -> bool {
        self.segment_blocks >= 2
            && self.first_batch_no > self.prev_batch_no
            && self.first_lsn.0 > 0
            && (self.prev_batch_no > 0 || self.prev_hash == 0)
    }

    /// Length of the file.
    pub fn segment_bytes(&self) -> u64 {
        u64::from(self.segment_blocks) * super::offset(BLOCK_BYTES)
    }
}
