//! What the writer is in the middle of.

use std::collections::VecDeque;

use super::batch::Kind;
use super::settings::Failure;
use super::{AlignedBuffer, Lsn};

/// A batch that is not sealed yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) buffer: AlignedBuffer,
    pub(super) kind: Kind,
    pub(super) rest_bytes: usize,
    pub(super) first_lsn: Lsn,
    pub(super) record_count: u32,
}

/// Batches that one sync makes durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) writes_out: usize,
    pub(super) pending_bytes: usize,
    pub(super) end_lsn: Lsn,
    pub(super) batch_no: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No record is written before the opening is durable.
    Opening,
    Open,
    Closing,
    Closed,
    Failed(Failure),
}

/// What of the commit lane is out besides the writes of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Out {
    Nothing,
    Step,
    Sync,
}

/// Commit ring: is there something new to say, and is a mark being written?
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Marks {
    pub(super) due: bool,
    pub(super) out: bool,
    /// The mark in flight is to be synced.
    pub(super) calm: bool,
}

/// Segments that nobody needs any more.
#[derive(Debug, Default)]
pub(super) struct Release {
    /// Everything before this one.
    pub(super) before: u64,
    /// The manifest does not say so yet.
    pub(super) wanted: bool,
    /// The manifest that says so is on its way.
    pub(super) manifest_out: bool,
    /// To be removed.
    pub(super) files: VecDeque<u64>,
    pub(super) out: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) end: u64,
}
