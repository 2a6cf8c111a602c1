//! What the log wants done, as values. The driver performs them and gives each back.

use std::fmt;

use super::AlignedBuffer;

/// A file of the log's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum File {
    /// `wal-<number, 16 hex digits>.seg`
    Segment(u64),
    /// `wal-<number, 16 hex digits>.seg.tmp`: not filled with zeros yet.
    Draft(u64),
    /// `commit-ring`
    Ring,
    /// `manifest`
    Manifest,
}

impl fmt::Display for File {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            File::Segment(number) => write!(out, "wal-{number:016x}.seg"),
            File::Draft(number) => write!(out, "wal-{number:016x}.seg.tmp"),
            File::Ring => out.write_str("commit-ring"),
            File::Manifest => out.write_str("manifest"),
        }
    }
}

/// Operations of one lane come one after the other, except the writes of one window; the lanes do
/// not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Batches and their syncs; acknowledgements wait for it.
    Commit,
    /// Segments for later.
    Prepare,
    /// Commit ring, not waited for.
    Mark,
    /// Segments that nobody needs any more.
    Release,
}

/// One thing to do. It comes back through [`super::Log::complete`] with its [`Outcome`].
#[derive(Debug)]
pub struct Operation {
    /// Who waits for it.
    pub lane: Lane,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Write [`Write::bytes`] at [`Write::offset`].
    Write(Write),
    /// fdatasync: everything written to the file before is on stable storage.
    Sync(File),
    /// Create the file, or empty it.
    Create(File),
    /// Give the file another name.
    Rename(File, File),
    /// Sync the directory: names created, changed and removed before are on stable storage.
    SyncDirectory,
    /// Remove the file.
    Remove(File),
}

/// A write that may take several attempts.
#[derive(Debug)]
pub struct Write {
    /// Where to.
    pub file: File,
    pub(super) offset: u64,
    pub(super) buffer: AlignedBuffer,
    pub(super) done_bytes: usize,
    pub(super) stalls: u32,
}

impl Write {
    /// Writes `buffer` at `offset`, a multiple of 4 KiB.
    pub fn new(file: File, offset: u64, buffer: AlignedBuffer) -> Write {
        Write { file, offset, buffer, done_bytes: 0, stalls: 0 }
    }

    /// Offset of this attempt in the file; a multiple of 4 KiB.
    pub fn offset(&self) -> u64 {
        self.offset + super::offset(self.done_bytes)
    }

    /// What this attempt has to write; address and length are multiples of 4 KiB.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.as_slice().get(self.done_bytes..).unwrap_or_default()
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The first so many bytes of [`Write::bytes`] were written.
    Wrote(usize),
    /// Anything but a write succeeded.
    Done,
    /// It failed with this `errno`.
    Failed(i32),
}
