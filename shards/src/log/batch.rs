//! Batch: the unit of writing, of the checksum, and of all-or-nothing.
//!
//! ```text
//! 0x00 4  "MQWL"        0x04 2  format    0x06 2  flags (0x1 closing, 0x2 opening: no records)
//! 0x08 8  epoch
//! 0x10 8  batch_no      +1 each within an epoch
//! 0x18 8  first_lsn     of the first record that ends in this batch
//! 0x20 8  durable_lsn   last record known durable when this batch was sealed
//! 0x28 8  prev_hash     hash of the batch before
//! 0x30 4  body_bytes    0x34 4  record_count: records that end in this batch
//! 0x38 4  rest_bytes    of the body belong to a record that began in an earlier batch
//! 0x3c 4  crc32c of 0x00..0x3c and the body
//! 0x40 …  body, then zero up to the next block
//! ```
//! The hash of a batch is xxh3-64 of 0x00 up to the end of its body.

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::block::{self, Fields};
use super::{AlignedBuffer, BATCH_BYTES_MAX, FORMAT, Lsn, whole_blocks};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 0x40;
const CHECKED_BYTES: usize = 0x3c;
const MAGIC: [u8; 4] = *b"MQWL";
const CLOSING: u16 = 0x1;
const OPENING: u16 = 0x2;

const _: () = assert!(HEADER_BYTES.is_multiple_of(8));

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Holds records or parts of one.
    Records,
    /// First of an opening; empty.
    Opening,
    /// Last before an orderly end; empty.
    Closing,
}

/// Fields of a batch that its writer chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What it is for.
    pub kind: Kind,
    /// Bytes at the start of the body that belong to a record begun in an earlier batch.
    pub rest_bytes: u32,
    /// Epoch of the opening that wrote it.
    pub epoch: u64,
    /// +1 each within an epoch.
    pub batch_no: u64,
    /// LSN of the first record that ends here, or of the one that is being continued.
    pub first_lsn: Lsn,
    /// Last record known durable when this was sealed.
    pub durable_lsn: Lsn,
    /// Hash of the batch before.
    pub prev_hash: u64,
    /// Records that end here.
    pub record_count: u32,
}

impl BatchHeader {
    /// LSN after the last record that ends here.
    pub fn end_lsn(&self) -> Lsn {
        self.first_lsn.plus(u64::from(self.record_count))
    }

    fn flags(&self) -> u16 {
        match self.kind {
            Kind::Records => 0,
            Kind::Opening => OPENING,
            Kind::Closing => CLOSING,
        }
    }
}

/// A batch that was read and whose checksum holds.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Its fields.
    pub header: BatchHeader,
    /// Record frames.
    pub body: &'a [u8],
    /// What the next batch must carry as `prev_hash`.
    pub hash: u64,
    /// Bytes on disk, padding included.
    pub total_bytes: usize,
}

/// Why no batch of this format begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchFault {
    /// The header is zero: never written, or zeroed.
    #[error("there is no batch")]
    Zero,
    /// The magic number is missing.
    #[error("the magic number is missing")]
    Magic,
    /// The length is above the limit or beyond the end of the segment.
    #[error("the length is impossible")]
    Length,
    /// Torn or rotten.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum holds, the version is unknown.
    #[error("it was written in format {0}, known is {FORMAT}")]
    Format(u16),
    /// The checksum holds, flags or reserved bytes are unknown.
    #[error("a field has an impossible value")]
    Field,
    /// Bytes after the body are not zero.
    #[error("the padding is not zero")]
    Padding,
}

/// An empty buffer for a batch of at most `batch_bytes_max`, with room for the header.
///
/// # Panics
/// If that is more than [`BATCH_BYTES_MAX`].
pub fn begin(batch_bytes_max: usize) -> AlignedBuffer {
    assert!(batch_bytes_max <= BATCH_BYTES_MAX, "longer than any reader takes");
    let mut buffer = AlignedBuffer::new(batch_bytes_max);
    buffer.pad(HEADER_BYTES);
    buffer
}

/// Writes the header of the batch whose body stands in `buffer`, and pads it; gives its hash.
///
/// # Panics
/// If the buffer was not made by [`begin`] or is longer than a batch may be.
pub fn seal(buffer: &mut AlignedBuffer, header: &BatchHeader) -> u64 {
    let end = buffer.len();
    assert!((HEADER_BYTES..=BATCH_BYTES_MAX).contains(&end), "not a batch");
    let body_bytes = u32::try_from(end - HEADER_BYTES).expect("a batch has at most 1 MiB");
    assert!(header.kind == Kind::Records || body_bytes == 0, "a marker holds no records");
    assert!(header.rest_bytes <= body_bytes, "the rest lies in the body");
    let mut fields = Vec::with_capacity(HEADER_BYTES);
    fields.extend_from_slice(&MAGIC);
    fields.extend_from_slice(&FORMAT.to_le_bytes());
    fields.extend_from_slice(&header.flags().to_le_bytes());
    for number in
        [header.epoch, header.batch_no, header.first_lsn.0, header.durable_lsn.0, header.prev_hash]
    {
        fields.extend_from_slice(&number.to_le_bytes());
    }
    fields.extend_from_slice(&body_bytes.to_le_bytes());
    fields.extend_from_slice(&header.record_count.to_le_bytes());
    fields.extend_from_slice(&header.rest_bytes.to_le_bytes());
    let body = buffer.as_slice().get(HEADER_BYTES..).unwrap_or_default();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&fields), body);
    fields.extend_from_slice(&crc.to_le_bytes());
    let (head, _) = buffer.as_mut_slice().split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&fields);
    let hash = xxh3_64(buffer.as_slice());
    buffer.pad(whole_blocks(end));
    debug_assert!(parse(buffer.as_slice()).is_ok_and(|batch| batch.hash == hash));
    hash
}

/// Epoch and number of the batch that seems to begin here, unchecked. Cheap filter for a search.
pub fn peek(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut fields = Fields::new(bytes.get(..HEADER_BYTES)?);
    if fields.take::<4>() != MAGIC {
        return None;
    }
    fields.u32();
    Some((fields.u64(), fields.u64()))
}

/// How many bytes at the start of the body of the batch that seems to begin here belong to record
/// `lsn`, which began in an earlier batch; unchecked.
pub(super) fn rest_bytes(bytes: &[u8], lsn: Lsn) -> Option<usize> {
    let mut fields = Fields::new(bytes.get(..HEADER_BYTES)?);
    if fields.take::<4>() != MAGIC {
        return None;
    }
    fields.take::<{ 0x18 - 4 }>();
    let first_lsn = Lsn(fields.u64());
    fields.take::<{ 0x38 - 0x20 }>();
    let rest_bytes = usize::try_from(fields.u32()).ok()?;
    let known = first_lsn == lsn && rest_bytes <= BATCH_BYTES_MAX - HEADER_BYTES;
    known.then_some(rest_bytes)
}

/// Reads the batch at the start of `bytes`, which reach to the end of the segment.
///
/// # Errors
/// Why there is none. Cost: at most 1 MiB is read.
pub fn parse(bytes: &[u8]) -> Result<Batch<'_>, BatchFault> {
    let Some(head) = bytes.get(..HEADER_BYTES) else { return Err(BatchFault::Length) };
    if block::is_zero(head) {
        return Err(BatchFault::Zero);
    }
    let mut fields = Fields::new(head);
    if fields.take::<4>() != MAGIC {
        return Err(BatchFault::Magic);
    }
    let (format, flags) = (fields.u16(), fields.u16());
    let mut header = BatchHeader {
        kind: Kind::Records,
        epoch: fields.u64(),
        batch_no: fields.u64(),
        first_lsn: Lsn(fields.u64()),
        durable_lsn: Lsn(fields.u64()),
        prev_hash: fields.u64(),
        record_count: 0,
        rest_bytes: 0,
    };
    let body_bytes = usize::try_from(fields.u32()).unwrap_or(usize::MAX);
    header.record_count = fields.u32();
    header.rest_bytes = fields.u32();
    let crc = fields.u32();
    if body_bytes > BATCH_BYTES_MAX - HEADER_BYTES {
        return Err(BatchFault::Length);
    }
    let end = HEADER_BYTES + body_bytes;
    let Some(written) = bytes.get(..whole_blocks(end)) else { return Err(BatchFault::Length) };
    let (framed, padding) = written.split_at(end);
    let (_, body) = framed.split_at(HEADER_BYTES);
    let checked = head.get(..CHECKED_BYTES).unwrap_or_default();
    if crc != crc32c::crc32c_append(crc32c::crc32c(checked), body) {
        return Err(BatchFault::Checksum);
    }
    if format != FORMAT {
        return Err(BatchFault::Format(format));
    }
    header.kind = match flags {
        0 => Kind::Records,
        OPENING => Kind::Opening,
        CLOSING => Kind::Closing,
        _ => return Err(BatchFault::Field),
    };
    let marker_with_body = header.kind != Kind::Records && body_bytes > 0;
    let rest_bytes = usize::try_from(header.rest_bytes).unwrap_or(usize::MAX);
    if rest_bytes > body_bytes || marker_with_body {
        return Err(BatchFault::Field);
    }
    if !block::is_zero(padding) {
        return Err(BatchFault::Padding);
    }
    Ok(Batch { header, body, hash: xxh3_64(framed), total_bytes: written.len() })
}
