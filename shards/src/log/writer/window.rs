//! What is written next: batches into windows, windows into segments.

use super::{Log, POOL_MAX, write_block};
use crate::log::batch::{self, BatchHeader, HEADER_BYTES, Kind};
use crate::log::operation::{Action, File, Write};
use crate::log::place::Extent;
use crate::log::state::{Draft, Phase, Segment, Window};
use crate::log::{AlignedBuffer, BLOCK_BYTES, Lsn, SegmentHeader, offset, whole_blocks};

impl Log {
    /// Seals all that waits, as far as the segment has room; or begins the next segment. False if
    /// there is nothing to do, or no segment is ready.
    pub(super) fn begin_window(&mut self) -> bool {
        // While opening only the marker is written, records wait for the manifest.
        let opening = self.phase == Phase::Opening;
        if opening && self.marker_sealed {
            return false;
        }
        let filled = self.open.buffer.len() > HEADER_BYTES || self.open.kind != Kind::Records;
        if filled {
            self.finish_draft(Kind::Records);
        }
        let Some(first) = self.full.front() else { return false };
        let first_bytes = offset(whole_blocks(first.buffer.len()));
        let segment_bytes = self.settings.segment_bytes;
        if self.active.is_none_or(|segment| segment_bytes - segment.end < first_bytes) {
            // Nothing is written to a segment before all of the segment before it is durable.
            self.unsynced.wanted = self.unsynced.window.is_some();
            return self.unsynced.wanted || self.begin_segment();
        }
        let mut window = Window { writes_out: 0, pending_bytes: 0, end_lsn: Lsn(0), batch_no: 0 };
        while let Some(draft) = self.full.pop_front() {
            let Some(segment) = &mut self.active else { break };
            let bytes = offset(whole_blocks(draft.buffer.len()));
            let fits = segment_bytes - segment.end >= bytes;
            if !fits || (opening && window.writes_out > 0) {
                self.full.push_front(draft);
                break;
            }
            let place = *segment;
            segment.end += bytes;
            self.seal(draft, place, &mut window);
        }
        self.window_bytes = window.pending_bytes;
        self.window = Some(window);
        true
    }

    fn seal(&mut self, mut draft: Draft, place: Segment, window: &mut Window) {
        self.marker_sealed = true;
        window.pending_bytes += draft.buffer.len() - HEADER_BYTES;
        let header = BatchHeader {
            kind: draft.kind,
            rest_bytes: u32::try_from(draft.rest_bytes).expect("a batch has at most 1 MiB"),
            epoch: self.epoch,
            batch_no: self.next_batch_no,
            first_lsn: draft.first_lsn,
            durable_lsn: self.durable,
            prev_hash: self.prev_hash,
            record_count: draft.record_count,
        };
        self.prev_hash = batch::seal(&mut draft.buffer, &header);
        self.prev_batch_no = header.batch_no;
        self.next_batch_no += 1;
        window.writes_out += 1;
        window.end_lsn = header.end_lsn();
        window.batch_no = header.batch_no;
        if draft.kind == Kind::Records {
            let (segment, bytes) = (place.number, draft.buffer.len());
            let extent = Extent { segment, offset: place.end, bytes };
            self.index.add_batch(draft.first_lsn, &extent, draft.rest_bytes > 0);
        }
        self.outbox.push_back(Write::new(File::Segment(place.number), place.end, draft.buffer));
    }

    /// The header of the next segment, if one is ready: synced before any batch in it.
    fn begin_segment(&mut self) -> bool {
        let Some(number) = self.spares.pop_front() else { return false };
        let header = SegmentHeader {
            salvaged: self.salvaged && self.active.is_none(),
            segment_blocks: self.settings.segment_blocks(),
            segment: number,
            epoch: self.epoch,
            first_lsn: self.full.front().map_or(self.next_lsn, |draft| draft.first_lsn),
            first_batch_no: self.next_batch_no,
            prev_batch_no: self.prev_batch_no,
            prev_hash: self.prev_hash,
            prev_epoch: self.prev_epoch,
        };
        let block = header.encode(&self.settings.identity);
        self.active = Some(Segment { number, end: offset(BLOCK_BYTES) });
        self.index.add_segment(number, header.first_lsn);
        self.steps.push_back(write_block(File::Segment(number), 0, &block));
        self.steps.push_back(Action::Sync(File::Segment(number)));
        true
    }

    /// The open batch is full; the next one is of `kind`.
    pub(super) fn finish_draft(&mut self, kind: Kind) {
        let mut buffer = match self.pool.pop() {
            Some(buffer) => buffer,
            None => batch::begin(self.settings.batch_bytes_max),
        };
        buffer.clear();
        buffer.pad(HEADER_BYTES);
        let next = Draft { buffer, kind, rest_bytes: 0, first_lsn: self.next_lsn, record_count: 0 };
        let draft = std::mem::replace(&mut self.open, next);
        if draft.buffer.len() > HEADER_BYTES || draft.kind != Kind::Records {
            self.full.push_back(draft);
        } else {
            self.recycle(draft.buffer);
        }
    }

    pub(super) fn recycle(&mut self, buffer: AlignedBuffer) {
        if self.pool.len() < POOL_MAX {
            self.pool.push(buffer);
        }
    }
}
