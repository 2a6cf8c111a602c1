//! Where the records of a log lie: from a record's number to the blocks that hold it.
//!
//! Promise: every batch with records that was sealed or recovered, and whose segment was not
//! released, is found. Memory: 16 bytes for each batch, which has at least one block.

use std::collections::VecDeque;

use super::{BLOCK_BYTES, Lsn, offset};

/// Where a record begins. Stays true until its segment is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The record.
    pub lsn: Lsn,
    /// First byte of its frame, counted from the start of the batch in which it begins.
    pub at: u32,
}

/// One batch in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Segment.
    pub segment: u64,
    /// First byte, a multiple of 4 KiB.
    pub offset: u64,
    /// Length with padding, a multiple of 4 KiB.
    pub bytes: usize,
}

impl Extent {
    /// Offset after it.
    pub fn end(&self) -> u64 {
        self.offset + offset(self.bytes)
    }
}

/// What is known of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// No record that ends in it has a lower number.
    pub first_lsn: Lsn,
    /// Bytes of its batches with records.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    first_lsn: Lsn,
    block: u32,
    blocks: u16,
    /// Its first record began in an earlier batch.
    goes_on: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    number: u64,
    first_lsn: Lsn,
    bytes: u64,
    entries: Vec<Entry>,
    /// Its header is damaged: reading cannot begin here and find what it found when it came from
    /// the segment before.
    headless: bool,
}

impl Segment {
    fn extent(&self, entry: &Entry) -> Extent {
        Extent {
            segment: self.number,
            offset: u64::from(entry.block) * offset(BLOCK_BYTES),
            bytes: usize::from(entry.blocks) * BLOCK_BYTES,
        }
    }
}

/// All batches with records, by segment and offset; their numbers never fall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    segments: VecDeque<Segment>,
}

impl Index {
    pub(super) fn add_segment(&mut self, number: u64, first_lsn: Lsn) {
        self.add(number, first_lsn, false);
    }

    fn add(&mut self, number: u64, first_lsn: Lsn, headless: bool) {
        if self.segments.back().is_none_or(|last| last.number < number) {
            let (bytes, entries) = (0, Vec::new());
            self.segments.push_back(Segment { number, first_lsn, bytes, entries, headless });
        }
    }

    /// The next batch. What does not follow the one before is left out: only bytes that no writer
    /// wrote can ask for it.
    pub(super) fn add_batch(&mut self, first_lsn: Lsn, extent: &Extent, goes_on: bool) {
        self.add(extent.segment, first_lsn, true);
        let block = u32::try_from(extent.offset / offset(BLOCK_BYTES));
        let blocks = u16::try_from(extent.bytes / BLOCK_BYTES);
        let (Ok(block), Ok(blocks)) = (block, blocks) else { return };
        let Some(segment) = self.segments.back_mut() else { return };
        let follows = segment
            .entries
            .last()
            .is_none_or(|last| last.first_lsn <= first_lsn && last.block < block);
        if follows && segment.number == extent.segment {
            segment.entries.push(Entry { first_lsn, block, blocks, goes_on });
            segment.bytes += offset(extent.bytes);
        }
    }

    /// The batch in which this record begins, if it was ever written. O(log batches), and one step
    /// for each further batch of a record that spans them.
    pub fn find(&self, lsn: Lsn) -> Option<Extent> {
        let mut at = self.segments.partition_point(|segment| segment.first_lsn <= lsn);
        while let Some(before) = at.checked_sub(1) {
            at = before;
            let segment = self.segments.get(at)?;
            let end = segment.entries.partition_point(|entry| entry.first_lsn <= lsn);
            for entry in segment.entries.iter().take(end).rev() {
                if entry.first_lsn < lsn || !entry.goes_on {
                    return Some(segment.extent(entry));
                }
            }
        }
        None
    }

    /// The batch with records that follows.
    pub fn after(&self, extent: &Extent) -> Option<Extent> {
        self.at_or_after(extent.segment, extent.end())
    }

    /// The same, if it goes on with this record. None: the record was never finished.
    pub fn continuation(&self, extent: &Extent, lsn: Lsn) -> Option<Extent> {
        let next = self.entry_from(extent.segment, extent.end());
        next.filter(|(_, first_lsn)| *first_lsn == lsn).map(|(extent, _)| extent)
    }

    /// The first batch with records at or after this byte, in this segment or a later one.
    pub fn at_or_after(&self, segment: u64, from: u64) -> Option<Extent> {
        self.entry_from(segment, from).map(|(extent, _)| extent)
    }

    fn entry_from(&self, segment: u64, from: u64) -> Option<(Extent, Lsn)> {
        let at = self.segments.partition_point(|known| known.number < segment);
        self.segments.iter().skip(at).find_map(|known| {
            let from = if known.number == segment { from } else { 0 };
            let block = u32::try_from(from.div_ceil(offset(BLOCK_BYTES))).unwrap_or(u32::MAX);
            let at = known.entries.partition_point(|entry| entry.block < block);
            known.entries.get(at).map(|entry| (known.extent(entry), entry.first_lsn))
        })
    }

    /// Segments in the order of their numbers.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.segments.iter().map(|segment| {
            let Segment { number, first_lsn, bytes, .. } = *segment;
            SegmentInfo { number, first_lsn, bytes }
        })
    }

    /// The first segment with at least this number; an earlier one if reading cannot begin there.
    pub(super) fn first_from(&self, number: u64) -> Option<u64> {
        let at = self.segments.partition_point(|segment| segment.number < number);
        let wanted = self.segments.get(at)?;
        let readable = self.segments.iter().take(at + 1).rev().find(|segment| !segment.headless);
        // Without any the log begins where it began.
        Some(readable.or(self.segments.front()).unwrap_or(wanted).number)
    }

    /// Forgets the segments after `number`: they were begun and hold nothing.
    pub(super) fn forget_after(&mut self, number: u64) {
        let at = self.segments.partition_point(|segment| segment.number <= number);
        self.segments.truncate(at);
    }

    /// Forgets the segments before `number` and gives theirs.
    pub(super) fn forget_before(&mut self, number: u64) -> Vec<u64> {
        let at = self.segments.partition_point(|segment| segment.number < number);
        self.segments.drain(..at).map(|segment| segment.number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(segment: u64, block: u64, blocks: usize) -> Extent {
        Extent { segment, offset: block * 0x1000, bytes: blocks * BLOCK_BYTES }
    }

    /// Records 1 to 3; 4 begins, goes on in two batches, ends in the next segment together with 5.
    fn index() -> Index {
        let mut index = Index::default();
        index.add_segment(1, Lsn(1));
        index.add_batch(Lsn(1), &extent(1, 1, 1), false);
        index.add_batch(Lsn(3), &extent(1, 2, 2), false);
        index.add_batch(Lsn(4), &extent(1, 4, 2), false);
        index.add_segment(3, Lsn(4));
        index.add_batch(Lsn(4), &extent(3, 1, 2), true);
        index.add_batch(Lsn(4), &extent(3, 3, 1), true);
        index
    }

    #[test]
    fn record_is_found_where_it_begins() {
        let index = index();
        let found = |lsn| index.find(Lsn(lsn));
        assert_eq!(found(0), None);
        assert_eq!(found(1), Some(extent(1, 1, 1)));
        assert_eq!(found(2), Some(extent(1, 1, 1)));
        assert_eq!(found(3), Some(extent(1, 2, 2)));
        assert_eq!(found(4), Some(extent(1, 4, 2)));
        assert_eq!(found(5), Some(extent(3, 3, 1)));
    }

    #[test]
    fn batches_follow_over_segments() {
        let index = index();
        assert_eq!(index.after(&extent(1, 4, 2)), Some(extent(3, 1, 2)));
        assert_eq!(index.after(&extent(3, 3, 1)), None);
        assert_eq!(index.at_or_after(2, 0x9000), Some(extent(3, 1, 2)));
    }

    #[test]
    fn released_segments_are_forgotten() {
        let mut index = index();
        assert_eq!(index.first_from(2), Some(3));
        assert_eq!(index.forget_before(3), [1]);
        assert_eq!(index.find(Lsn(1)), None);
        assert_eq!(index.find(Lsn(4)), None, "its start is gone");
        assert_eq!(index.find(Lsn(5)), Some(extent(3, 3, 1)));
        assert_eq!(
            index.segments().map(|info| (info.number, info.bytes)).collect::<Vec<_>>(),
            [(3, 0x3000)]
        );
    }
}
