//! Group commit: many records share one write and one sync; while a window is in flight the next
//! batch fills.
//!
//! Promise: [`Log::durable`] covers a record only after all bytes of its window were written and a
//! sync that was issued afterwards succeeded. At most one sync of batches is in flight. A window
//! lies in one segment, and nothing is written to a segment before all of the segment before it is
//! durable. After the first error nothing is written, synced or accepted any more.
//!
//! ```text
//!   Idle ──▶ (segment full: header ─▶ sync) ──▶ writes of the window ──▶ sync ──▶ durable ─▶ Idle
//! ```

use std::collections::VecDeque;

use super::batch::{self, BatchHeader, HEADER_BYTES, Kind};
use super::operation::{Action, File, Lane, Operation, Outcome, Write};
use super::prepare::{Preparation, Progress};
use super::record;
use super::settings::{Failure, Refused, Settings};
use super::state::{Draft, Marks, Out, Phase, Segment, Window};
use super::{
    AlignedBuffer, BLOCK_BYTES, Lsn, Manifest, Mark, RECORD_BYTES_MAX, Resume, SegmentHeader,
    offset, whole_blocks,
};

/// Attempts of one write that may end without a whole block more.
const STALLS_MAX: u32 = 3;
/// Buffers kept for later batches.
const POOL_MAX: usize = 4;

/// One shard's log, as its writer sees it.
///
/// The driver loop: [`Log::append`] as often as there are records, then [`Log::next`] until `None`;
/// whenever an operation ends, [`Log::complete`] and again `next`.
#[derive(Debug)]
pub struct Log {
    settings: Settings,
    phase: Phase,
    epoch: u64,
    prev_epoch: u64,
    manifest: Manifest,
    salvaged: bool,
    marker_sealed: bool,
    /// Nothing was recovered: reading will begin at this opening.
    first: bool,
    // What the next sealed batch continues.
    next_batch_no: u64,
    prev_batch_no: u64,
    prev_hash: u64,
    sequence: u64,
    // Records taken but not sealed.
    next_lsn: Lsn,
    open: Draft,
    full: VecDeque<Draft>,
    pending_bytes: usize,
    pool: Vec<AlignedBuffer>,
    // Commit lane: steps one after the other, then a window.
    steps: VecDeque<Action>,
    out: Out,
    outbox: VecDeque<Write>,
    window: Option<Window>,
    durable: Lsn,
    durable_batch_no: u64,
    marks: Marks,
    // Segments.
    active: Option<Segment>,
    spares: VecDeque<u64>,
    preparation: Option<Preparation>,
    prepare_error: Option<i32>,
    next_segment: u64,
}

impl Log {
    /// Begins a new opening of the log after [`super::Scan`] has read it; `epoch` is drawn at
    /// random and was never used before. Records may be appended at once; they are written when
    /// the opening is durable, and only then is anything durable that was recovered.
    ///
    /// # Panics
    /// If the sizes do not fit together, or the epoch is that of the opening before.
    pub fn open(settings: Settings, resume: &Resume, epoch: u64) -> Log {
        let segment_blocks = settings.segment_blocks();
        assert!(epoch != resume.manifest.epoch, "an epoch is never used twice");
        let first_lsn = resume.next_lsn;
        let open = Draft {
            buffer: batch::begin(settings.batch_bytes_max),
            kind: Kind::Opening,
            rest_bytes: 0,
            first_lsn,
            record_count: 0,
        };
        // What was recovered may have lived in a cache alone.
        let steps = resume.last_segment.map(|last| Action::Sync(File::Segment(last)));
        Log {
            phase: Phase::Opening,
            epoch,
            prev_epoch: resume.manifest.epoch,
            manifest: Manifest { segment_blocks, closed: false, ..resume.manifest.clone() },
            salvaged: resume.salvaged,
            marker_sealed: false,
            first: resume.last_segment.is_none(),
            next_batch_no: resume.next_batch_no,
            prev_batch_no: resume.prev_batch_no,
            prev_hash: resume.prev_hash,
            sequence: resume.mark_sequence,
            next_lsn: first_lsn,
            open,
            full: VecDeque::new(),
            pending_bytes: 0,
            pool: Vec::new(),
            steps: steps.into_iter().collect(),
            out: Out::Nothing,
            outbox: VecDeque::new(),
            window: None,
            durable: resume.last_lsn,
            durable_batch_no: resume.prev_batch_no,
            marks: Marks::default(),
            active: None,
            spares: VecDeque::new(),
            preparation: None,
            prepare_error: None,
            next_segment: resume.next_segment,
            settings,
        }
    }

    /// Takes one record and gives its number. O(bytes); allocates a buffer per batch at most.
    ///
    /// # Errors
    /// Why it was not taken; nothing has changed then.
    ///
    /// # Panics
    /// Never for any record: the asserts compare two counts of the same bytes.
    pub fn append(&mut self, kind: u8, body: &[u8]) -> Result<Lsn, Refused> {
        match self.phase {
            Phase::Opening | Phase::Open => {}
            Phase::Closing | Phase::Closed => return Err(Refused::Closing),
            Phase::Failed(_) => return Err(Refused::Failed),
        }
        if body.len() > RECORD_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        let frame_bytes = record::head_bytes(body.len()) + body.len();
        // One record may always wait, however long it is.
        let waiting = self.pending_bytes;
        if waiting > 0 && waiting + frame_bytes > self.settings.pending_bytes_max {
            return Err(Refused::Full);
        }
        let (head, head_bytes) = record::head(kind, body);
        assert!(head_bytes + body.len() == frame_bytes, "two counts of one frame");
        let room = self.settings.batch_bytes_max - self.open.buffer.len();
        let marker = self.open.kind != Kind::Records;
        if marker || (frame_bytes > room && self.open.buffer.len() > HEADER_BYTES) {
            self.finish_draft(Kind::Records);
        }
        self.pending_bytes += frame_bytes;
        self.open.buffer.extend(head.get(..head_bytes).unwrap_or_default());
        let mut rest = body;
        loop {
            let room = self.settings.batch_bytes_max - self.open.buffer.len();
            let (part, after) = rest.split_at(rest.len().min(room));
            self.open.buffer.extend(part);
            rest = after;
            if rest.is_empty() {
                break;
            }
            self.finish_draft(Kind::Records);
            let room = self.settings.batch_bytes_max - HEADER_BYTES;
            self.open.rest_bytes = rest.len().min(room);
        }
        let lsn = self.next_lsn;
        self.next_lsn = lsn.next();
        self.open.record_count += 1;
        Ok(lsn)
    }

    /// All records up to this one are on stable storage.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Number the next record will have.
    pub fn next_lsn(&self) -> Lsn {
        self.next_lsn
    }

    /// Is the opening durable, so that clients may be served?
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Was everything written and the log closed in order?
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// The first error, if there was one. The process should end with exit status 74.
    pub fn failure(&self) -> Option<Failure> {
        if let Phase::Failed(failure) = self.phase { Some(failure) } else { None }
    }

    /// Bytes of records that are not durable yet.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Segments that could be begun at once.
    pub fn spares(&self) -> usize {
        self.spares.len()
    }

    /// Why no segment could be made ready; none is tried until [`Log::retry_preparation`].
    pub fn prepare_error(&self) -> Option<i32> {
        self.prepare_error
    }

    /// Tries again to make segments ready, after a while or when space was freed.
    pub fn retry_preparation(&mut self) {
        self.prepare_error = None;
    }

    /// Nothing was appended for a while (100 ms): lets the commit ring catch up.
    pub fn idle(&mut self) -> Option<Operation> {
        let calm = self.phase == Phase::Open && self.marks.due && !self.marks.out;
        calm.then(|| self.mark())
    }

    /// Takes no more records; when all are durable says so in ring and manifest.
    ///
    /// # Panics
    /// Before [`Log::is_open`].
    pub fn close(&mut self) {
        assert!(self.phase != Phase::Opening, "an opening is never closed");
        if self.phase == Phase::Open {
            self.phase = Phase::Closing;
            self.finish_draft(Kind::Closing);
        }
    }

    /// What to do next; `None` until something completes or is appended.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: None is not the end")]
    pub fn next(&mut self) -> Option<Operation> {
        if let Phase::Failed(_) | Phase::Closed = self.phase {
            return None;
        }
        if let Some(action) = self.next_commit() {
            return Some(Operation { lane: Lane::Commit, action });
        }
        if self.window.is_some()
            && let Some(mark) = self.idle()
        {
            return Some(mark);
        }
        if self.preparation.is_none()
            && self.spares.len() < self.settings.spares.max(1)
            && self.prepare_error.is_none()
        {
            let bytes = self.settings.segment_bytes;
            self.preparation = Some(Preparation::new(self.next_segment, bytes));
            self.next_segment += 1;
        }
        let action = self.preparation.as_mut()?.next()?;
        Some(Operation { lane: Lane::Prepare, action })
    }

    /// Takes an operation back. Outcomes after the first error change nothing.
    ///
    /// # Panics
    /// If the outcome does not belong to the operation.
    pub fn complete(&mut self, operation: Operation, outcome: Outcome) {
        if let Phase::Failed(_) | Phase::Closed = self.phase {
            return;
        }
        let Operation { lane, action } = operation;
        if let Action::Write(write) = &action
            && let Outcome::Wrote(bytes) = outcome
        {
            assert!(bytes <= write.bytes().len(), "wrote more than was asked");
        } else {
            assert!(!matches!(outcome, Outcome::Wrote(_)), "only a write writes");
        }
        match lane {
            Lane::Prepare => self.complete_preparation(outcome),
            Lane::Commit | Lane::Mark => self.complete_commit(lane, action, outcome),
        }
    }

    fn complete_preparation(&mut self, outcome: Outcome) {
        let preparation = self.preparation.as_mut().expect("only one that runs has operations");
        match preparation.complete(outcome) {
            Progress::Going => return,
            Progress::Ready => self.spares.push_back(preparation.segment()),
            Progress::GivenUp(errno) => self.prepare_error = Some(errno),
        }
        self.preparation = None;
    }

    fn complete_commit(&mut self, lane: Lane, action: Action, outcome: Outcome) {
        let file = match &action {
            Action::Write(write) => Some(write.file),
            Action::Sync(file) | Action::Create(file) | Action::Remove(file) => Some(*file),
            Action::Rename(source, _) => Some(*source),
            Action::SyncDirectory => None,
        };
        match (action, outcome) {
            // A failed sync is never tried again: the kernel may have dropped the pages.
            (_, Outcome::Failed(errno)) => self.fail(Failure { file, errno: Some(errno) }),
            (Action::Write(write), Outcome::Wrote(bytes)) => self.wrote(lane, write, bytes),
            (_, _) if self.out == Out::Sync => self.synced(),
            (_, _) => {
                assert!(self.out == Out::Step, "an outcome without an operation");
                self.out = Out::Nothing;
                self.finish_steps();
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.phase = Phase::Failed(failure);
        self.steps.clear();
        self.outbox.clear();
    }

    fn wrote(&mut self, lane: Lane, mut write: Write, bytes: usize) {
        let rest = write.bytes().len() - bytes;
        if rest > 0 {
            // Direct I/O goes on at a whole block.
            let blocks = bytes / BLOCK_BYTES * BLOCK_BYTES;
            write.done_bytes += blocks;
            write.stalls = if blocks > 0 { 0 } else { write.stalls + 1 };
            if bytes == 0 || write.stalls >= STALLS_MAX {
                self.fail(Failure { file: Some(write.file), errno: None });
                return;
            }
        }
        match lane {
            Lane::Mark if rest > 0 => {
                // A mark is not worth a second attempt: the next one says more.
                self.marks.out = false;
                self.marks.due = true;
            }
            Lane::Mark => self.marks.out = false,
            Lane::Commit | Lane::Prepare => match &mut self.window {
                Some(window) if rest == 0 => {
                    window.writes_out -= 1;
                    self.recycle(write.buffer);
                }
                Some(_) => self.outbox.push_back(write),
                None if rest == 0 => {
                    self.out = Out::Nothing;
                    self.finish_steps();
                }
                None => {
                    self.out = Out::Nothing;
                    self.steps.push_front(Action::Write(write));
                }
            },
        }
    }

    fn synced(&mut self) {
        let window = self.window.take().expect("a sync of batches belongs to a window");
        assert!(window.writes_out == 0, "synced before all was written");
        assert!(window.end_lsn > self.durable, "durable never goes back");
        self.out = Out::Nothing;
        self.durable = Lsn(window.end_lsn.0 - 1);
        self.durable_batch_no = window.batch_no;
        self.pending_bytes -= window.pending_bytes;
        self.marks.due = true;
        match self.phase {
            Phase::Opening => self.put_down(false),
            Phase::Closing if self.full.is_empty() && self.open.kind == Kind::Records => {
                self.put_down(true);
            }
            Phase::Open | Phase::Closing | Phase::Closed | Phase::Failed(_) => {}
        }
    }

    /// Ring and manifest say what has been reached, and are synced.
    fn put_down(&mut self, closed: bool) {
        let mark = self.next_mark();
        let block = mark.encode(&self.settings.identity);
        self.steps.push_back(write_block(File::Ring, mark.offset(), &block));
        self.steps.push_back(Action::Sync(File::Ring));
        let active = self.active.expect("something was written").number;
        let manifest = &mut self.manifest;
        if self.first {
            manifest.first_segment = active;
            self.first = false;
        }
        manifest.version += 1;
        manifest.closed = closed;
        manifest.batch_no = self.durable_batch_no;
        manifest.durable_lsn = self.durable;
        if !closed {
            manifest.epoch = self.epoch;
            manifest.active_segment = active;
        }
        let block = manifest.encode(&self.settings.identity);
        self.steps.push_back(write_block(File::Manifest, self.manifest.offset(), &block));
        self.steps.push_back(Action::Sync(File::Manifest));
    }

    fn finish_steps(&mut self) {
        if !self.steps.is_empty() || self.active.is_none() || self.window.is_some() {
            return;
        }
        // The last step of an opening or closing is the manifest; a new segment's header is
        // followed by its first window.
        match self.phase {
            Phase::Opening if self.manifest.epoch == self.epoch => self.phase = Phase::Open,
            Phase::Closing if self.manifest.closed => self.phase = Phase::Closed,
            Phase::Opening | Phase::Open | Phase::Closing | Phase::Closed | Phase::Failed(_) => {}
        }
    }

    fn next_mark(&mut self) -> Mark {
        self.sequence += 1;
        self.marks.due = false;
        Mark {
            sequence: self.sequence,
            epoch: self.epoch,
            batch_no: self.durable_batch_no,
            durable_lsn: self.durable,
        }
    }

    fn mark(&mut self) -> Operation {
        let mark = self.next_mark();
        self.marks.out = true;
        let block = mark.encode(&self.settings.identity);
        let action = write_block(File::Ring, mark.offset(), &block);
        Operation { lane: Lane::Mark, action }
    }

    fn next_commit(&mut self) -> Option<Action> {
        if self.out != Out::Nothing {
            return None;
        }
        if self.window.is_none() && self.steps.is_empty() {
            self.begin_window();
        }
        if let Some(step) = self.steps.pop_front() {
            self.out = Out::Step;
            return Some(step);
        }
        if let Some(write) = self.outbox.pop_front() {
            return Some(Action::Write(write));
        }
        let window = self.window.as_ref()?;
        if window.writes_out > 0 {
            return None;
        }
        self.out = Out::Sync;
        let segment = self.active.expect("a window lies in a segment").number;
        Some(Action::Sync(File::Segment(segment)))
    }

    /// Seals all that waits, as far as the segment has room; or begins the next segment.
    fn begin_window(&mut self) {
        // While opening only the marker is written, records wait for the manifest.
        let opening = self.phase == Phase::Opening;
        if opening && self.marker_sealed {
            return;
        }
        let filled = self.open.buffer.len() > HEADER_BYTES || self.open.kind != Kind::Records;
        if filled {
            self.finish_draft(Kind::Records);
        }
        let Some(first) = self.full.front() else { return };
        let first_bytes = offset(whole_blocks(first.buffer.len()));
        let segment_bytes = self.settings.segment_bytes;
        if self.active.is_none_or(|segment| segment_bytes - segment.end < first_bytes) {
            self.begin_segment();
            return;
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
        self.window = Some(window);
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
        self.outbox.push_back(Write::new(File::Segment(place.number), place.end, draft.buffer));
    }

    /// The header of the next segment, if one is ready: synced before any batch in it.
    fn begin_segment(&mut self) {
        let Some(number) = self.spares.pop_front() else { return };
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
        self.steps.push_back(write_block(File::Segment(number), 0, &block));
        self.steps.push_back(Action::Sync(File::Segment(number)));
    }

    /// The open batch is full; the next one is of `kind`.
    fn finish_draft(&mut self, kind: Kind) {
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

    fn recycle(&mut self, buffer: AlignedBuffer) {
        if self.pool.len() < POOL_MAX {
            self.pool.push(buffer);
        }
    }
}

fn write_block(file: File, at: u64, block: &[u8]) -> Action {
    assert!(block.len() == BLOCK_BYTES, "headers, marks and manifests are single blocks");
    Action::Write(Write::new(file, at, AlignedBuffer::holding(block)))
}
