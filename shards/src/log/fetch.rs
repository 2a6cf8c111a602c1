//! Reads records back: one by its place, or those of a segment in steps. Which bytes are wanted
//! comes out, the bytes come in; no I/O. Both wait for what is not written yet.
//!
//! Promise: what is given back is what was appended: the checksum of the record holds, and for a
//! [`Walk`] that of each batch. Memory: one record, or the budget of a step and one record.

use thiserror::Error;

use super::batch::{self, HEADER_BYTES};
use super::place::{Extent, Index, Place};
use super::record::{self, FrameFault, HEAD_BYTES_MAX, Unfinished};
use super::{BATCH_BYTES_MAX, BLOCK_BYTES, Log, Lsn, offset, whole_blocks};

/// Read at once for a record whose length is not known yet.
const FIRST_READ_BYTES: usize = 4 * BLOCK_BYTES;

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Where it lies.
    pub place: Place,
    /// Its type.
    pub kind: u8,
    /// Its content.
    pub body: Vec<u8>,
}

/// Why a record cannot be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadFault {
    /// No such record was written, or its segment was released.
    #[error("the record is not in the log")]
    Gone,
    /// The disk said so; this is an `errno`.
    #[error("the record cannot be read: {}", std::io::Error::from_raw_os_error(*.0))]
    Io(i32),
    /// The bytes are not those that were written.
    #[error("the record is damaged: {0}")]
    Damaged(FrameFault),
    /// The batch is not the one that was written there.
    #[error("the batch at byte {1:#x} of segment {0} is damaged")]
    Batch(u64, u64),
}

/// What a [`Fetch`] or [`Walk`] needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// These whole blocks.
    Read(Extent),
    /// Nothing before the log has written more.
    Wait,
    /// Nothing any more.
    Done,
}

impl Step {
    fn read(extent: Extent, log: &Log) -> Step {
        if log.is_written(&extent) { Step::Read(extent) } else { Step::Wait }
    }
}

/// One record on its way. While [`Fetch::next`] asks, [`Fetch::feed`].
#[derive(Debug)]
pub struct Fetch {
    place: Place,
    extent: Extent,
    /// Next byte in the extent; 0 at a batch that goes on with the record.
    at: usize,
    frame: Vec<u8>,
    frame_bytes: Option<usize>,
}

impl Fetch {
    /// Looks up where the record lies; it must have been written ([`Log::settled`]).
    ///
    /// # Errors
    /// [`ReadFault::Gone`].
    pub fn begin(log: &Log, place: Place) -> Result<Fetch, ReadFault> {
        Fetch::begin_in(log.index(), place)
    }

    /// The same in a log that nobody writes.
    pub(crate) fn begin_in(index: &Index, place: Place) -> Result<Fetch, ReadFault> {
        let extent = index.find(place.lsn).ok_or(ReadFault::Gone)?;
        let at = usize::try_from(place.at).unwrap_or(usize::MAX);
        if !(HEADER_BYTES..extent.bytes).contains(&at) {
            return Err(ReadFault::Gone);
        }
        Ok(Fetch { place, extent, at, frame: Vec::new(), frame_bytes: None })
    }

    /// What to do next.
    pub fn next(&self, log: &Log) -> Step {
        Step::read(self.wanted(), log)
    }

    /// Whole blocks to be read.
    pub(crate) fn wanted(&self) -> Extent {
        let start = self.at / BLOCK_BYTES * BLOCK_BYTES;
        let bytes = match self.frame_bytes {
            Some(_) if self.at == 0 => self.extent.bytes,
            Some(frame_bytes) => whole_blocks(self.at - start + frame_bytes - self.frame.len()),
            None => FIRST_READ_BYTES,
        };
        Extent {
            offset: self.extent.offset + offset(start),
            bytes: bytes.min(self.extent.bytes - start),
            ..self.extent
        }
    }

    /// The record, if all of it lies in `bytes`, which begin at this offset of the segment of
    /// [`Self::wanted`].
    pub(crate) fn find_in(
        &self,
        begin: u64,
        bytes: &[u8],
    ) -> Option<Result<StoredRecord, ReadFault>> {
        let place = |at: u64| usize::try_from(at.checked_sub(begin)?).ok();
        let from = place(self.extent.offset + offset(self.at))?;
        let rest = bytes.get(from..place(self.extent.end())?.min(bytes.len()))?;
        let (head, body) = match record::lengths(rest) {
            Ok(lengths) => lengths,
            Err(_) if rest.len() < HEAD_BYTES_MAX => return None,
            Err(fault) => return Some(Err(ReadFault::Damaged(fault))),
        };
        let opened = record::open(rest.get(..head + body)?);
        let stored = opened.map(|(kind, body)| StoredRecord {
            place: self.place,
            kind,
            body: body.to_vec(),
        });
        Some(stored.map_err(ReadFault::Damaged))
    }

    /// Takes the bytes that were wanted; gives the record when it is whole.
    ///
    /// # Errors
    /// Why it cannot be given.
    pub fn feed(&mut self, log: &Log, bytes: &[u8]) -> Result<Option<StoredRecord>, ReadFault> {
        self.feed_in(log.index(), bytes)
    }

    /// The same in a log that nobody writes.
    pub(crate) fn feed_in(
        &mut self,
        index: &Index,
        bytes: &[u8],
    ) -> Result<Option<StoredRecord>, ReadFault> {
        let short = ReadFault::Damaged(FrameFault::Length);
        let mut limit = self.extent.bytes;
        let mut skipped = self.at % BLOCK_BYTES;
        if self.at == 0 {
            // The record's own checksum covers what is taken from here.
            let rest_bytes = batch::rest_bytes(bytes, self.place.lsn);
            limit =
                HEADER_BYTES + rest_bytes.ok_or(ReadFault::Damaged(FrameFault::Continuation))?;
            (self.at, skipped) = (HEADER_BYTES, HEADER_BYTES);
        }
        let part = bytes.get(skipped..).filter(|part| !part.is_empty()).ok_or(short)?;
        let part = part.get(..limit.saturating_sub(self.at)).unwrap_or(part);
        self.frame.extend_from_slice(part);
        let frame_bytes = if let Some(frame_bytes) = self.frame_bytes {
            frame_bytes
        } else {
            let (head, body) = record::lengths(&self.frame).map_err(ReadFault::Damaged)?;
            head + body
        };
        self.frame_bytes = Some(frame_bytes);
        self.at += part.len();
        if self.frame.len() >= frame_bytes {
            self.frame.truncate(frame_bytes);
            return self.finish().map(Some);
        }
        if part.is_empty() {
            return Err(short);
        }
        if self.at >= limit {
            let next = index.continuation(&self.extent, self.place.lsn);
            self.extent = next.ok_or(ReadFault::Gone)?;
            self.at = 0;
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<StoredRecord, ReadFault> {
        let (kind, body) = record::open(&self.frame).map_err(ReadFault::Damaged)?;
        let head_bytes = self.frame.len() - body.len();
        let mut body = std::mem::take(&mut self.frame);
        body.drain(..head_bytes);
        Ok(StoredRecord { place: self.place, kind, body })
    }
}

/// Where the next step of a [`Walk`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Segment.
    pub segment: u64,
    /// Byte in it.
    pub offset: u64,
}

impl Cursor {
    /// At the first record that begins in this segment.
    pub fn start(segment: u64) -> Cursor {
        Cursor { segment, offset: 0 }
    }
}

/// What a step has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Records that begin in the segment, in order.
    pub records: Vec<StoredRecord>,
    /// Where to go on; `None`: that was the end of the segment.
    pub next: Option<Cursor>,
}

/// One step through a segment. While [`Walk::next`] asks, [`Walk::feed`].
#[derive(Debug)]
pub struct Walk {
    segment: u64,
    wanted: Option<Extent>,
    begun: Option<Unfinished>,
    /// The batch that was read last, and the record that goes on after it.
    broken_off: Option<(Extent, Lsn)>,
    chunk: Chunk,
}

impl Walk {
    /// Takes as many batches from the cursor on as have `bytes_max` together, at least one.
    pub fn begin(log: &Log, cursor: Cursor, bytes_max: usize) -> Walk {
        let index = log.index();
        let bytes_max = bytes_max.min(BATCH_BYTES_MAX);
        let here = |extent: &Extent| extent.segment == cursor.segment;
        let mut wanted = index.at_or_after(cursor.segment, cursor.offset).filter(here);
        while let Some(extent) = &mut wanted {
            let next = index.after(extent).filter(here);
            let Some(next) = next.filter(|next| next.offset == extent.end()) else { break };
            if extent.bytes + next.bytes > bytes_max {
                break;
            }
            extent.bytes += next.bytes;
        }
        let next = wanted.map(|extent| Cursor { offset: extent.end(), ..cursor });
        let chunk = Chunk { records: Vec::new(), next };
        Walk { segment: cursor.segment, wanted, begun: None, broken_off: None, chunk }
    }

    /// What to do next; after [`Step::Done`]: [`Walk::finish`].
    pub fn next(&mut self, log: &Log) -> Step {
        if let Some((extent, lsn)) = self.broken_off {
            self.wanted = log.index().continuation(&extent, lsn);
            if self.wanted.is_none() && log.is_coming(lsn) {
                return Step::Wait;
            }
            // Else an opening of the log ended within the record: it never was one.
            self.broken_off = None;
        }
        self.wanted.map_or(Step::Done, |extent| Step::read(extent, log))
    }

    /// Takes the bytes that were wanted.
    ///
    /// # Errors
    /// Why they are of no use.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), ReadFault> {
        let Some(extent) = self.wanted.take() else { return Ok(()) };
        let (mut at, mut end_lsn) = (0, Lsn(0));
        while at < extent.bytes {
            let fault = ReadFault::Batch(extent.segment, extent.offset + offset(at));
            let batch = batch::parse(bytes.get(at..).unwrap_or_default()).map_err(|_| fault)?;
            let going_on = self.begun.is_some();
            let mut frames = record::split(&batch, self.begun.take(), true);
            // If the batch is whole, what is missing between was left out by a salvage.
            let lost = going_on && frames.is_err();
            if lost {
                frames = record::split(&batch, None, true);
            }
            let frames = frames.map_err(ReadFault::Damaged)?;
            let place = (extent.segment, extent.offset + offset(at));
            // Of the next segment only what begins in this one.
            let elsewhere = extent.segment != self.segment;
            let (mut first_only, mut full) = (going_on && elsewhere, lost && elsewhere);
            frames.each(batch.header.first_lsn, place, &mut |record| {
                if !full {
                    let (place, kind, body) = (record.place(), record.kind, record.body.to_vec());
                    self.chunk.records.push(StoredRecord { place, kind, body });
                }
                full |= std::mem::take(&mut first_only);
            });
            self.begun = frames.unfinished;
            end_lsn = batch.header.end_lsn();
            at += batch.total_bytes;
        }
        if extent.segment == self.segment {
            self.chunk.next = Some(Cursor { segment: self.segment, offset: extent.end() });
        }
        // It goes on in the next batch, which may lie in the next segment.
        self.broken_off = self.begun.is_some().then_some((extent, end_lsn));
        Ok(())
    }

    /// The records.
    pub fn finish(mut self, log: &Log) -> Chunk {
        let index = log.index();
        let rest = self.chunk.next.and_then(|next| index.at_or_after(next.segment, next.offset));
        if rest.is_none_or(|extent| extent.segment != self.segment) {
            self.chunk.next = None;
        }
        self.chunk
    }
}
