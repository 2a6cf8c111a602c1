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
//!
//! With [`Commit::Interval`] windows follow each other without a sync until [`Log::sync_now`], or
//! until the segment is full; what [`Log::durable`] says stays true, [`Log::settled`] is ahead.

mod complete;
mod window;

use std::collections::VecDeque;

use super::batch::{self, HEADER_BYTES, Kind};
use super::operation::{Action, File, Lane, Operation, Outcome, Write};
use super::prepare::Preparation;
use super::record;
use super::settings::{Commit, Failure, Refused, Settings, Urgency};
use super::state::{Draft, Marks, Out, Phase, Release, Segment, Trouble, Unsynced, Window};
use super::{
    AlignedBuffer, BLOCK_BYTES, Extent, Index, Lsn, Manifest, Place, RECORD_BYTES_MAX, Resume,
    SegmentInfo, offset, whole_blocks,
};

/// Attempts of one write that may end without a whole block more.
const STALLS_MAX: u32 = 3;
/// Buffers kept for later batches while there is much to do: as many as may wait for the disk.
const POOL_MAX: usize = 16;
/// And when there is nothing.
const POOL_CALM: usize = 1;

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
    first_lsn: Lsn,
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
    /// Of the window that was begun last.
    window_bytes: usize,
    unsynced: Unsynced,
    written: Lsn,
    /// Segment, and the byte up to which it was written.
    written_end: (u64, u64),
    durable: Lsn,
    durable_batch_no: u64,
    marks: Marks,
    // Segments.
    active: Option<Segment>,
    spares: VecDeque<u64>,
    preparation: Option<Preparation>,
    trouble: Trouble,
    next_segment: u64,
    index: Index,
    release: Release,
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
            first_lsn,
            next_lsn: first_lsn,
            open,
            full: VecDeque::new(),
            pending_bytes: 0,
            pool: Vec::new(),
            steps: steps.into_iter().collect(),
            out: Out::Nothing,
            outbox: VecDeque::new(),
            window: None,
            window_bytes: 0,
            unsynced: Unsynced::default(),
            written: resume.last_lsn,
            written_end: (resume.last_segment.unwrap_or_default(), u64::MAX),
            durable: resume.last_lsn,
            durable_batch_no: resume.prev_batch_no,
            marks: Marks::default(),
            active: None,
            spares: resume.spares.iter().copied().collect(),
            preparation: None,
            trouble: Trouble::default(),
            next_segment: resume.next_segment,
            index: resume.index.clone(),
            release: Release::default(),
            settings,
        }
    }

    /// Takes one record and says where it will lie. O(bytes); allocates a buffer per batch at most.
    ///
    /// # Errors
    /// Why it was not taken; nothing has changed then.
    ///
    /// # Panics
    /// Never for any record: the asserts compare two counts of the same bytes.
    pub fn append(&mut self, kind: u8, body: &[u8], urgency: Urgency) -> Result<Place, Refused> {
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
        if urgency == Urgency::Usual {
            if self.is_short_of_space(frame_bytes) {
                return Err(Refused::DiskFull);
            }
            if self.awaits_segment_for(frame_bytes) {
                return Err(Refused::Full);
            }
        }
        let (head, head_bytes) = record::head(kind, body);
        assert!(head_bytes + body.len() == frame_bytes, "two counts of one frame");
        let room = self.settings.batch_bytes_max - self.open.buffer.len();
        let marker = self.open.kind != Kind::Records;
        if marker || (frame_bytes > room && self.open.buffer.len() > HEADER_BYTES) {
            self.finish_draft(Kind::Records);
        }
        self.pending_bytes += frame_bytes;
        let at = u32::try_from(self.open.buffer.len()).expect("a batch has at most 1 MiB");
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
        Ok(Place { lsn, at })
    }

    /// No segment can be made, and a record of so many bytes would need the reserve: room of one
    /// segment, which is kept for records that free space. After a start on a full disk that is the
    /// segment that is being written.
    pub fn is_short_of_space(&self, frame_bytes: usize) -> bool {
        self.trouble.errno.is_some() && self.needs_reserve(frame_bytes)
    }

    /// What is ready will soon be no more than the reserve, and whether a further segment can be
    /// made is not known yet: who brings more should wait until it is.
    pub fn awaits_segment(&self) -> bool {
        self.awaits_segment_for(self.settings.batch_bytes_max)
    }

    fn awaits_segment_for(&self, frame_bytes: usize) -> bool {
        // A record that is longer than all of the spares together is not kept waiting for more.
        let being_made = self.spares.len() < self.settings.spares;
        self.trouble.errno.is_none() && being_made && self.needs_reserve(frame_bytes)
    }

    /// A record of so many bytes has no room in what is ready besides the reserve.
    fn needs_reserve(&self, frame_bytes: usize) -> bool {
        if self.settings.spares < 2 {
            return false;
        }
        let Settings { segment_bytes, batch_bytes_max, .. } = self.settings;
        let drafts = self.full.iter().chain([&self.open]);
        let drafts = drafts.map(|draft| offset(whole_blocks(draft.buffer.len()))).sum::<u64>();
        let reserve = segment_bytes - offset(BLOCK_BYTES);
        let here = self.active.map_or(0, |segment| segment_bytes - segment.end);
        let room = here + offset(self.spares.len()) * reserve;
        room < reserve + drafts + offset(frame_bytes) + offset(batch_bytes_max)
    }

    /// All records up to this one are on stable storage.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// All records up to this one may be acknowledged: they are durable or, with
    /// [`Commit::Interval`], written.
    pub fn settled(&self) -> Lsn {
        match self.settings.commit {
            Commit::Sync => self.durable,
            Commit::Interval => self.written.max(self.durable),
        }
    }

    /// Was something written that no sync covers yet? Only with [`Commit::Interval`] does that
    /// last.
    pub fn is_unsynced(&self) -> bool {
        self.unsynced.window.is_some() || self.window.is_some()
    }

    /// Syncs what has been written, as soon as nothing else is in flight.
    pub fn sync_now(&mut self) {
        self.unsynced.wanted = self.is_unsynced();
    }

    /// What it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Was this record appended in this opening, and is it not settled yet?
    pub(crate) fn is_coming(&self, lsn: Lsn) -> bool {
        (self.first_lsn.max(self.settled().next())..self.next_lsn).contains(&lsn)
    }

    /// Have these bytes been written, so that they can be read?
    pub fn is_written(&self, extent: &Extent) -> bool {
        (extent.segment, extent.end()) <= self.written_end
    }

    /// Bytes of a segment that were written and can be read.
    pub(crate) fn written_until(&self, segment: u64) -> u64 {
        let (writing, end) = self.written_end;
        match segment.cmp(&writing) {
            std::cmp::Ordering::Less => u64::MAX,
            std::cmp::Ordering::Equal => end,
            std::cmp::Ordering::Greater => 0,
        }
    }

    /// Where the batches lie.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The segment that is being written; `None` before the opening has begun one.
    pub fn active_segment(&self) -> Option<u64> {
        self.active.map(|segment| segment.number)
    }

    /// No record that begins in a segment before this one is needed any more: reading will begin
    /// here at the next start. What replaces them has settled before this call. When that is on
    /// stable storage, and then the manifest that says so, the files are removed.
    /// The segment that is being written stays, and one in which a record begins that is not
    /// durable yet.
    pub fn release_before(&mut self, segment: u64) {
        let mut before = segment.min(self.active.map_or(0, |active| active.number));
        let next = self.durable.next();
        if next < self.next_lsn
            && let Some(extent) = self.index.find(next)
        {
            // A long record may begin there.
            before = before.min(extent.segment);
        }
        if before <= self.release.before {
            // Who asks again and again would put it off for ever.
            return;
        }
        self.release.before = before;
        self.release.after = self.settled();
        self.release.wanted = true;
    }

    /// Segments that were not released, the oldest first; the last one is being written.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        let first = self.release.before;
        self.index.segments().filter(move |segment| segment.number >= first)
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

    /// Why no segment could be made ready, until one is. None is tried before
    /// [`Log::retry_preparation`].
    pub fn prepare_error(&self) -> Option<i32> {
        self.trouble.errno
    }

    /// Tries again to make segments ready, after a while or when space was freed.
    pub fn retry_preparation(&mut self) {
        self.trouble.retry = true;
    }

    /// Nothing was appended for a while (100 ms): lets the commit ring catch up, and syncs it.
    pub fn idle(&mut self) -> Option<Operation> {
        self.pool.truncate(POOL_CALM);
        let mark = self.mark_if_due()?;
        self.marks.calm = true;
        Some(mark)
    }

    /// Has the commit ring something to catch up with, so that [`Log::idle`] is of use?
    pub fn is_mark_due(&self) -> bool {
        self.phase == Phase::Open && self.marks.due && !self.marks.out
    }

    fn mark_if_due(&mut self) -> Option<Operation> {
        self.is_mark_due().then(|| self.mark())
    }

    /// Takes no more records; when all are durable says so in ring and manifest. Before
    /// [`Log::is_open`] nothing was written: what was appended is dropped, and the next start finds
    /// what this one found.
    pub fn close(&mut self) {
        match self.phase {
            Phase::Opening => self.phase = Phase::Closed,
            Phase::Open => {
                self.phase = Phase::Closing;
                self.finish_draft(Kind::Closing);
            }
            Phase::Closing | Phase::Closed | Phase::Failed(_) => {}
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
            && let Some(mark) = self.mark_if_due()
        {
            return Some(mark);
        }
        if self.marks.calm && !self.marks.out {
            (self.marks.calm, self.marks.out) = (false, true);
            return Some(Operation { lane: Lane::Mark, action: Action::Sync(File::Ring) });
        }
        if self.release.out.is_none()
            && let Some(number) = self.release.files.pop_front()
        {
            self.release.out = Some(number);
            let action = Action::Remove(File::Segment(number));
            return Some(Operation { lane: Lane::Release, action });
        }
        if self.preparation.is_none()
            && self.spares.len() < self.settings.spares.max(1)
            && (self.trouble.errno.is_none() || self.trouble.retry)
        {
            self.trouble.retry = false;
            let bytes = self.settings.segment_bytes;
            self.preparation = Some(Preparation::new(self.next_segment, bytes));
            self.next_segment += 1;
        }
        let action = self.preparation.as_mut()?.next(self.window_bytes)?;
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
            Lane::Prepare => self.complete_preparation(action, outcome),
            Lane::Release => self.complete_release(),
            Lane::Commit => self.complete_commit(action, outcome),
            Lane::Mark => self.complete_mark(action, outcome),
        }
    }
}

fn write_block(file: File, at: u64, block: &[u8]) -> Action {
    assert!(block.len() == BLOCK_BYTES, "headers, marks and manifests are single blocks");
    Action::Write(Write::new(file, at, AlignedBuffer::holding(block)))
}
