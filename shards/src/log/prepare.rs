//! Makes segments ahead of need: created under a draft name, filled with zeros, synced, renamed,
//! directory synced. A sync on the hot path then finds no metadata to write, and the name of a
//! segment never shows a file that is not whole.

use super::operation::{Action, File, Outcome, Write};
use super::{AlignedBuffer, offset};

/// Zeros written at a time by a log that has little to do: few enough that a commit does not wait
/// long behind them.
const CHUNK_BYTES: usize = 128 << 10;
/// The same if windows are longer: each write has its price, and a commit that writes as much
/// waits for itself as long.
const CHUNK_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Step {
    Create,
    Fill,
    Sync,
    Rename,
    SyncDirectory,
    /// After an error: what was begun is removed; no error of this is reported.
    Remove(File),
}

/// One segment being made.
#[derive(Debug)]
pub(super) struct Preparation {
    segment: u64,
    segment_bytes: u64,
    filled_bytes: u64,
    step: Step,
    waiting: bool,
    error: Option<i32>,
    /// The zeros of the last write, for the next one.
    zeros: Option<AlignedBuffer>,
}

/// What came of an operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Going,
    Ready,
    /// With the `errno`; the name may be used again.
    GivenUp(i32),
}

impl Preparation {
    pub(super) fn new(segment: u64, segment_bytes: u64) -> Preparation {
        Preparation {
            segment,
            segment_bytes,
            filled_bytes: 0,
            step: Step::Create,
            waiting: false,
            error: None,
            zeros: None,
        }
    }

    pub(super) fn segment(&self) -> u64 {
        self.segment
    }

    /// What to do next, while windows are of about this length.
    pub(super) fn next(&mut self, window_bytes: usize) -> Option<Action> {
        if self.waiting {
            return None;
        }
        self.waiting = true;
        let (draft, whole) = (File::Draft(self.segment), File::Segment(self.segment));
        Some(match self.step {
            Step::Create => Action::Create(draft),
            Step::Fill => {
                let rest = self.segment_bytes - self.filled_bytes;
                let most = window_bytes.clamp(CHUNK_BYTES, CHUNK_BYTES_MAX).next_power_of_two();
                let bytes = usize::try_from(rest).unwrap_or(most).min(most);
                // A longer one of busier times is not used: small commits would wait for it.
                let zeros = self.zeros.take().filter(|zeros| zeros.len() == bytes);
                let zeros = zeros.unwrap_or_else(|| AlignedBuffer::zeroed(bytes));
                Action::Write(Write::new(draft, self.filled_bytes, zeros))
            }
            Step::Sync => Action::Sync(draft),
            Step::Rename => Action::Rename(draft, whole),
            Step::SyncDirectory => Action::SyncDirectory,
            Step::Remove(file) => Action::Remove(file),
        })
    }

    pub(super) fn complete(&mut self, action: Action, outcome: Outcome) -> Progress {
        assert!(self.waiting, "an outcome without an operation");
        self.waiting = false;
        if let Action::Write(write) = action {
            self.zeros = Some(write.buffer);
        }
        if let Step::Remove(_) = self.step {
            return Progress::GivenUp(self.error.unwrap_or_default());
        }
        match outcome {
            Outcome::Wrote(bytes) if bytes > 0 => {
                // A short write is no error here: zeros go on where they ended, at a whole block.
                let block = offset(super::BLOCK_BYTES);
                let written = offset(bytes) / block * block;
                if written == 0 {
                    return self.give_up(0);
                }
                self.filled_bytes += written;
                assert!(self.filled_bytes <= self.segment_bytes, "wrote more than was asked");
                if self.filled_bytes == self.segment_bytes {
                    self.step = Step::Sync;
                }
                Progress::Going
            }
            Outcome::Wrote(_) => self.give_up(0),
            Outcome::Failed(errno) => self.give_up(errno),
            Outcome::Done => {
                self.step = match self.step {
                    Step::Create => Step::Fill,
                    Step::Sync => Step::Rename,
                    Step::Rename => Step::SyncDirectory,
                    Step::SyncDirectory => return Progress::Ready,
                    Step::Fill | Step::Remove(_) => unreachable!("handled above"),
                };
                Progress::Going
            }
        }
    }

    fn give_up(&mut self, errno: i32) -> Progress {
        let renamed = self.step == Step::SyncDirectory;
        let file = if renamed { File::Segment(self.segment) } else { File::Draft(self.segment) };
        self.error = Some(errno);
        self.step = Step::Remove(file);
        Progress::Going
    }
}
