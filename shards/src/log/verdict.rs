//! What a reading of the log can end with.

use super::survey::Corruption;
use super::{Index, Lsn, Manifest};

/// What to do about damage to acknowledged data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Refuse.
    Strict,
    /// Cut at the first damage; what follows stays in its files and is never read again.
    PointInTime,
    /// Leave out what cannot be read.
    Salvage,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every byte is accounted for.
    Clean,
    /// The end was being written when the writer stopped; nothing of it was acknowledged.
    TornTail {
        /// Bytes in blocks that are not zero after the cut.
        discarded_bytes: u64,
    },
    /// Acknowledged data cannot be read.
    Corrupt(Corruption),
}

/// Acknowledged records that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Segment of the damage.
    pub segment: u64,
    /// Its first byte there.
    pub offset: u64,
    /// First missing record.
    pub first_lsn: Lsn,
    /// First record after it that could be read, or one after the last known to be durable.
    pub end_lsn: Lsn,
}

/// Where a new opening of the log goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The newest manifest.
    pub manifest: Manifest,
    /// Losses were accepted.
    pub salvaged: bool,
    /// Last record that was recovered.
    pub last_lsn: Lsn,
    /// Number of the next record. May be raised, never lowered.
    pub next_lsn: Lsn,
    /// Number of the next batch.
    pub next_batch_no: u64,
    /// Last batch that was recovered; 0 if none.
    pub prev_batch_no: u64,
    /// Its hash.
    pub prev_hash: u64,
    /// Sequence of the newest mark.
    pub mark_sequence: u64,
    /// Segment of that batch, to be synced before anything else.
    pub last_segment: Option<u64>,
    /// Number for the next segment that is made.
    pub next_segment: u64,
    /// Segments of zeros that are there already and have their names on stable storage, rising;
    /// above `last_segment`, below `next_segment`.
    pub spares: Vec<u64>,
    /// Where the recovered records lie.
    pub index: Index,
}

impl Resume {
    /// A log in which nothing was written yet.
    pub fn fresh(manifest: Manifest) -> Resume {
        let next_segment = manifest.first_segment;
        Resume {
            manifest,
            salvaged: false,
            last_lsn: Lsn(0),
            next_lsn: Lsn(1),
            next_batch_no: 1,
            prev_batch_no: 0,
            prev_hash: 0,
            mark_sequence: 0,
            last_segment: None,
            next_segment,
            spares: Vec::new(),
            index: Index::default(),
        }
    }
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// What was found.
    pub verdict: Verdict,
    /// How to go on; `None`: the start is refused.
    pub resume: Option<Resume>,
    /// What [`Mode::Salvage`] left out, at most 1024 entries.
    pub losses: Vec<Loss>,
    /// How many there are.
    pub loss_count: u64,
    /// Segments that hold nothing that was recovered, after the last that does.
    pub unused: Vec<u64>,
    /// Segment files of another log or with a wrong number: they must be moved away.
    pub foreign: Vec<u64>,
}
