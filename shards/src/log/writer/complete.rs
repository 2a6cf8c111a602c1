//! What the writer makes of the outcomes of its operations.

use super::{Log, STALLS_MAX, write_block};
use crate::log::batch::Kind;
use crate::log::operation::{Action, File, Lane, Operation, Outcome, Write};
use crate::log::prepare::Progress;
use crate::log::settings::{Commit, Failure};
use crate::log::state::{Out, Phase};
use crate::log::{BLOCK_BYTES, Lsn, Mark};

impl Log {
    pub(super) fn complete_preparation(&mut self, action: Action, outcome: Outcome) {
        let preparation = self.preparation.as_mut().expect("only one that runs has operations");
        match preparation.complete(action, outcome) {
            Progress::Going => return,
            Progress::Ready => {
                self.spares.push_back(preparation.segment());
                self.trouble.errno = None;
            }
            Progress::GivenUp(errno) => self.trouble.errno = Some(errno),
        }
        self.preparation = None;
    }

    /// A file that could not be removed is tried again at the next start.
    pub(super) fn complete_release(&mut self) {
        assert!(self.release.out.take().is_some(), "an outcome without an operation");
        self.trouble.retry |= self.trouble.errno.is_some();
    }

    pub(super) fn complete_commit(&mut self, action: Action, outcome: Outcome) {
        match (action, outcome) {
            // A failed sync is never tried again: the kernel may have dropped the pages.
            (action, Outcome::Failed(errno)) => self.fail_at(&action, errno),
            (Action::Write(write), Outcome::Wrote(bytes)) => self.wrote(write, bytes),
            (_, _) if self.out == Out::Sync => self.synced(),
            (_, _) => {
                assert!(self.out == Out::Step, "an outcome without an operation");
                self.out = Out::Nothing;
                self.finish_steps();
            }
        }
    }

    pub(super) fn complete_mark(&mut self, action: Action, outcome: Outcome) {
        match (action, outcome) {
            (action, Outcome::Failed(errno)) => self.fail_at(&action, errno),
            (Action::Write(write), Outcome::Wrote(bytes)) if bytes < write.bytes().len() => {
                // A mark is not worth a second attempt: the next one says more.
                self.marks.out = false;
                self.marks.due = true;
                if bytes == 0 {
                    self.fail(Failure { file: Some(write.file), errno: None });
                }
            }
            (_, _) => self.marks.out = false,
        }
    }

    fn fail_at(&mut self, action: &Action, errno: i32) {
        let file = match action {
            Action::Write(write) => Some(write.file),
            Action::Sync(file) | Action::Create(file) | Action::Remove(file) => Some(*file),
            Action::Rename(source, _) => Some(*source),
            Action::SyncDirectory => None,
        };
        self.fail(Failure { file, errno: Some(errno) });
    }

    fn fail(&mut self, failure: Failure) {
        self.phase = Phase::Failed(failure);
        self.steps.clear();
        self.outbox.clear();
    }

    fn wrote(&mut self, mut write: Write, bytes: usize) {
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
        match &mut self.window {
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
        }
    }

    /// The window is written in full: a sync that is issued now covers it.
    fn end_window(&mut self) {
        let Some(mut window) = self.window.take() else { return };
        assert!(window.writes_out == 0, "all of the window was written");
        assert!(window.end_lsn > self.written, "written never goes back");
        self.written = Lsn(window.end_lsn.0 - 1);
        self.written_end = self.active.map_or((0, 0), |segment| (segment.number, segment.end));
        if self.settings.commit == Commit::Interval {
            self.pending_bytes -= std::mem::take(&mut window.pending_bytes);
        }
        if let Some(before) = self.unsynced.window {
            window.pending_bytes += before.pending_bytes;
        }
        self.unsynced.window = Some(window);
    }

    fn synced(&mut self) {
        let window = self.unsynced.window.take().expect("a sync of batches belongs to a window");
        assert!(window.end_lsn > self.durable, "durable never goes back");
        self.out = Out::Nothing;
        self.unsynced.wanted = false;
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
        self.put_manifest();
    }

    fn put_manifest(&mut self) {
        let block = self.manifest.encode(&self.settings.identity);
        self.steps.push_back(write_block(File::Manifest, self.manifest.offset(), &block));
        self.steps.push_back(Action::Sync(File::Manifest));
    }

    /// The manifest moves on; the files go when it is on stable storage.
    fn begin_release(&mut self) -> bool {
        let due = self.phase == Phase::Open && self.durable >= self.release.after;
        if !due || !std::mem::take(&mut self.release.wanted) {
            return false;
        }
        let first = self.index.first_from(self.release.before).unwrap_or_default();
        if self.index.segments().next().is_none_or(|oldest| oldest.number >= first) {
            return false;
        }
        let manifest = &mut self.manifest;
        manifest.version += 1;
        manifest.first_segment = first;
        // The first segment of this opening may be among those that go.
        manifest.active_segment = manifest.active_segment.max(first);
        manifest.batch_no = self.durable_batch_no;
        manifest.durable_lsn = self.durable;
        self.release.manifest_out = true;
        self.put_manifest();
        true
    }

    fn finish_steps(&mut self) {
        if !self.steps.is_empty() || self.active.is_none() || self.window.is_some() {
            return;
        }
        if std::mem::take(&mut self.release.manifest_out) {
            self.release.files.extend(self.index.forget_before(self.manifest.first_segment));
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

    pub(super) fn mark(&mut self) -> Operation {
        let mark = self.next_mark();
        self.marks.out = true;
        let block = mark.encode(&self.settings.identity);
        let action = write_block(File::Ring, mark.offset(), &block);
        Operation { lane: Lane::Mark, action }
    }

    pub(super) fn next_commit(&mut self) -> Option<Action> {
        while self.out == Out::Nothing {
            if let Some(step) = self.steps.pop_front() {
                self.out = Out::Step;
                return Some(step);
            }
            if let Some(write) = self.outbox.pop_front() {
                return Some(Action::Write(write));
            }
            match &self.window {
                Some(window) if window.writes_out > 0 => return None,
                Some(_) => self.end_window(),
                None => {}
            }
            if self.unsynced.window.is_some() && self.is_sync_due() {
                self.out = Out::Sync;
                let segment = self.active.expect("a window lies in a segment").number;
                return Some(Action::Sync(File::Segment(segment)));
            }
            if !self.begin_release() && !self.begin_window() {
                return None;
            }
        }
        None
    }

    fn is_sync_due(&self) -> bool {
        self.settings.commit == Commit::Sync || self.unsynced.wanted || self.phase != Phase::Open
    }
}
