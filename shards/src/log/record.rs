//! Record frames inside batches, and records longer than a batch.
//!
//! ```text
//! 0  4     crc32c of all that follows
//! 4  1..5  body length, 7 bits per byte, low bits first, no needless byte
//! .  1     type
//! .  …     body
//! ```
//! A frame that does not fit into one batch begins a batch of its own and goes on at the start of
//! the next ones. It counts in the batch in which it ends.

use thiserror::Error;

use super::batch::Batch;
use super::batch::HEADER_BYTES;
use super::block::Fields;
use super::{Lsn, Place, RECORD_BYTES_MAX};

/// Most bytes before the body of a record.
pub const HEAD_BYTES_MAX: usize = 4 + 5 + 1;

/// A record as it was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its number.
    pub lsn: Lsn,
    /// Its type; the log does not know what it means.
    pub kind: u8,
    /// Its content.
    pub body: &'a [u8],
    /// Segment of the batch in which it ends.
    pub segment: u64,
    /// Offset of that batch.
    pub offset: u64,
    /// First byte of its frame in the batch in which it begins.
    pub at: u32,
}

impl Record<'_> {
    /// Where it can be read again.
    pub fn place(&self) -> Place {
        Place { lsn: self.lsn, at: self.at }
    }
}

/// Why a body whose batch checksum holds is no sequence of frames. Only a faulty writer does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameFault {
    /// A length is impossible, or ends where it may not.
    #[error("a record has an impossible length")]
    Length,
    /// The checksum of a record does not match.
    #[error("the checksum of a record does not match")]
    Checksum,
    /// The batch says it goes on with a record, but none was begun, or the other way round.
    #[error("a record that spans batches is broken off")]
    Continuation,
    /// More or fewer records end here than the header says.
    #[error("the number of records does not match")]
    Count,
}

/// Everything of a frame that stands before the body, and its length.
pub(super) fn head(kind: u8, body: &[u8]) -> ([u8; HEAD_BYTES_MAX], usize) {
    assert!(body.len() <= RECORD_BYTES_MAX, "the caller checks the length");
    let mut head = [0; HEAD_BYTES_MAX];
    let mut bytes = 4;
    let mut put = |byte: u8| {
        if let Some(place) = head.get_mut(bytes) {
            *place = byte;
        }
        bytes += 1;
    };
    let mut rest = body.len();
    while rest >= 0x80 {
        put(low_bits(rest) | 0x80);
        rest >>= 7;
    }
    put(low_bits(rest));
    put(kind);
    let crc = crc32c::crc32c(head.get(4..bytes).unwrap_or_default());
    let crc = crc32c::crc32c_append(crc, body);
    if let Some(place) = head.first_chunk_mut() {
        *place = crc.to_le_bytes();
    }
    (head, bytes)
}

fn low_bits(number: usize) -> u8 {
    u8::try_from(number & 0x7f).expect("seven bits fit")
}

/// Bytes of a frame before the body.
pub(super) fn head_bytes(body_bytes: usize) -> usize {
    let mut bytes = 4 + 1 + 1;
    let mut rest = body_bytes >> 7;
    while rest > 0 {
        bytes += 1;
        rest >>= 7;
    }
    bytes
}

/// Length of the head and of the body of the frame at the start of `bytes`.
pub(super) fn lengths(bytes: &[u8]) -> Result<(usize, usize), FrameFault> {
    let mut body_bytes: usize = 0;
    let varint = bytes.get(4..).ok_or(FrameFault::Length)?;
    for (index, byte) in varint.iter().take(5).enumerate() {
        body_bytes |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let minimal = index == 0 || *byte != 0;
            let known = minimal && body_bytes <= RECORD_BYTES_MAX;
            return if known { Ok((4 + index + 2, body_bytes)) } else { Err(FrameFault::Length) };
        }
    }
    Err(FrameFault::Length)
}

/// Type and body of a whole frame.
pub(super) fn open(frame: &[u8]) -> Result<(u8, &[u8]), FrameFault> {
    let opened = content(frame)?;
    let (crc, checked) = frame.split_at(4);
    if Fields::new(crc).u32() != crc32c::crc32c(checked) {
        return Err(FrameFault::Checksum);
    }
    Ok(opened)
}

/// The same of a frame whose checksum was looked at.
fn content(frame: &[u8]) -> Result<(u8, &[u8]), FrameFault> {
    let (head_bytes, body_bytes) = lengths(frame)?;
    if frame.len() != head_bytes + body_bytes {
        return Err(FrameFault::Length);
    }
    let (head, body) = frame.split_at(head_bytes);
    let kind = head.last().copied().ok_or(FrameFault::Length)?;
    Ok((kind, body))
}

/// A record of which some batches were read and more must follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unfinished {
    frame: Vec<u8>,
    total_bytes: usize,
}

/// The frames of one body, checked.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    /// A record that began in an earlier batch and ends here.
    finished: Option<Vec<u8>>,
    /// A record whose start was lost ends here.
    pub(super) headless: bool,
    /// Bytes before `whole` in the body.
    rest_bytes: usize,
    /// Whole frames, one after the other.
    whole: &'a [u8],
    /// Start or middle of a record that goes on in the next batch.
    pub(super) unfinished: Option<Unfinished>,
}

/// Cuts the body of `batch` into frames and checks each. `begun` is what the batches before left
/// open; without it, the rest of a record is an error, or is skipped if `headless_ok`.
///
/// Memory: the bytes of a record that spans batches, at most `RECORD_BYTES_MAX`.
pub(super) fn split<'a>(
    batch: &Batch<'a>,
    begun: Option<Unfinished>,
    headless_ok: bool,
) -> Result<Frames<'a>, FrameFault> {
    let rest_bytes = usize::try_from(batch.header.rest_bytes).map_err(|_| FrameFault::Length)?;
    let (part, whole) = batch.body.split_at_checked(rest_bytes).ok_or(FrameFault::Length)?;
    let mut frames =
        Frames { finished: None, headless: false, rest_bytes, whole, unfinished: None };
    let mut count: u32 = 0;
    let missing = begun.as_ref().map_or(0, |begun| begun.total_bytes - begun.frame.len());
    match begun {
        Some(_) if part.is_empty() || part.len() > missing => {
            return Err(FrameFault::Continuation);
        }
        Some(Unfinished { mut frame, total_bytes }) => {
            frame.extend_from_slice(part);
            if frame.len() < total_bytes {
                if !whole.is_empty() {
                    return Err(FrameFault::Continuation);
                }
                frames.unfinished = Some(Unfinished { frame, total_bytes });
            } else {
                open(&frame)?;
                frames.finished = Some(frame);
                count = 1;
            }
        }
        None if !part.is_empty() && !headless_ok => return Err(FrameFault::Continuation),
        None => {}
    }
    let mut rest = whole;
    while !rest.is_empty() {
        let (head_bytes, body_bytes) = lengths(rest)?;
        let total_bytes = head_bytes + body_bytes;
        if total_bytes > rest.len() {
            // Only a frame that begins its batch may go on in the next one.
            let alone = rest.len() == batch.body.len() && rest.len() >= head_bytes;
            if !alone {
                return Err(FrameFault::Length);
            }
            frames.whole = &[];
            frames.unfinished = Some(Unfinished { frame: rest.to_vec(), total_bytes });
            break;
        }
        let (frame, after) = rest.split_at(total_bytes);
        open(frame)?;
        count += 1;
        rest = after;
    }
    frames.headless = headless_ok && !part.is_empty() && frames.finished.is_none();
    let headless_end = frames.headless && count + 1 == batch.header.record_count;
    if headless_end || count == batch.header.record_count {
        frames.headless = headless_end;
        Ok(frames)
    } else {
        Err(FrameFault::Count)
    }
}

impl Frames<'_> {
    /// Gives every record that ends here, in order, beginning with number `lsn`.
    pub(super) fn each(
        &self,
        first_lsn: Lsn,
        (segment, offset): (u64, u64),
        sink: &mut impl FnMut(Record<'_>),
    ) {
        let mut lsn = if self.headless { first_lsn.next() } else { first_lsn };
        let mut give = |frame: &[u8], at: usize| {
            let (kind, body) = content(frame).expect("split() opened this frame");
            let at = u32::try_from(at).expect("a batch has at most 1 MiB");
            sink(Record { lsn, kind, body, segment, offset, at });
            lsn = lsn.next();
        };
        if let Some(frame) = &self.finished {
            // What spans batches begins one.
            give(frame, HEADER_BYTES);
        }
        let (mut rest, mut at) = (self.whole, HEADER_BYTES + self.rest_bytes);
        while !rest.is_empty() {
            let (head_bytes, body_bytes) = lengths(rest).expect("split() measured this frame");
            let (frame, after) = rest.split_at(head_bytes + body_bytes);
            give(frame, at);
            at += frame.len();
            rest = after;
        }
    }
}
