//! Single blocks of 4 KiB: segment header, commit mark and manifest share this frame.
//!
//! ```text
//! 0x000 4    magic
//! 0x004 2    format version u16
//! 0x006 2    flags u16
//! 0x008 10   broker
//! 0x018 2    shard u16
//! 0x01a …    fields of the kind
//! …          zero
//! 0xffc 4    crc32c of 0x000..0xffc
//! ```
//! Lengths in this map are hexadecimal, integers little endian.

use thiserror::Error;

use super::{BLOCK_BYTES, FORMAT, Identity};

const CHECKED_BYTES: usize = BLOCK_BYTES - 4;

/// Why 4 KiB are not the block they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BlockFault {
    /// Never written, or zeroed.
    #[error("the block is zero")]
    Zero,
    /// The file ends inside the block.
    #[error("the file ends inside the block")]
    Short,
    /// Torn, rotten, or something else.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum holds, the kind is another.
    #[error("the block is of another kind")]
    Magic,
    /// The checksum holds, the version is unknown.
    #[error("the block was written in format {0}, known is {FORMAT}")]
    Format(u16),
    /// The checksum holds, the broker or the shard is another.
    #[error("the block belongs to another broker or shard")]
    Foreign,
    /// The checksum holds, a field has an impossible value.
    #[error("a field has an impossible value")]
    Field,
}

/// Appends fields of one block.
pub(super) struct BlockWriter {
    bytes: Vec<u8>,
}

impl BlockWriter {
    pub(super) fn new(magic: [u8; 4], flags: u16, identity: &Identity) -> BlockWriter {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(&identity.broker);
        bytes.extend_from_slice(&identity.shard.to_le_bytes());
        BlockWriter { bytes }
    }

    pub(super) fn u16(mut self, value: u16) -> BlockWriter {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> BlockWriter {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> BlockWriter {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Zero padding and the checksum.
    pub(super) fn finish(mut self) -> Vec<u8> {
        assert!(self.bytes.len() <= CHECKED_BYTES, "too many fields for a block");
        self.bytes.resize(CHECKED_BYTES, 0);
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        assert!(self.bytes.len() == BLOCK_BYTES, "a block is 4 KiB");
        self.bytes
    }
}

/// Fields of a block whose frame was checked.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    /// The next `N` bytes; zero beyond the end, which no caller reaches after a length check.
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else { return [0; N] };
        self.rest = rest;
        *head
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

/// Checks the frame of the block at the start of `bytes`; gives its flags and its fields.
pub(super) fn open<'a>(
    bytes: &'a [u8],
    magic: [u8; 4],
    identity: &Identity,
) -> Result<(u16, Fields<'a>), BlockFault> {
    let Some(block) = bytes.get(..BLOCK_BYTES) else { return Err(BlockFault::Short) };
    if is_zero(block) {
        return Err(BlockFault::Zero);
    }
    let (checked, crc) = block.split_at(CHECKED_BYTES);
    if Fields::new(crc).u32() != crc32c::crc32c(checked) {
        return Err(BlockFault::Checksum);
    }
    let mut fields = Fields::new(checked);
    if fields.take::<4>() != magic {
        return Err(BlockFault::Magic);
    }
    let format = fields.u16();
    if format != FORMAT {
        return Err(BlockFault::Format(format));
    }
    let flags = fields.u16();
    let owner = Identity { broker: fields.take(), shard: fields.u16() };
    if owner != *identity {
        return Err(BlockFault::Foreign);
    }
    Ok((flags, fields))
}

/// Is every byte zero?
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
