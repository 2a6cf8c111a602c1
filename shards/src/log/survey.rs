//! What can be known before segments are read: manifest, commit ring, and the first block of each
//! segment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::batch::BatchFault;
use super::block::BlockFault;
use super::operation::File;
use super::record::FrameFault;
use super::{Identity, Lsn, Manifest, Mark, SegmentHeader, manifest, ring};

/// Why something is taken for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A manifest, mark or segment header cannot be read.
    Block(BlockFault),
    /// The segment's number is not the one in its file name.
    Misnamed,
    /// A batch cannot be read.
    Batch(BatchFault),
    /// A whole batch of another epoch, or not the next one.
    NotNext,
    /// A whole batch that does not follow the one before it.
    Chain,
    /// The records of a whole batch cannot be read.
    Frames(FrameFault),
    /// The file is shorter than its header says.
    Truncated,
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Block(fault) => fault.fmt(out),
            Cause::Misnamed => out.write_str("the number is not the one in the file name"),
            Cause::Batch(fault) => fault.fmt(out),
            Cause::NotNext => out.write_str("a batch stands here that is not the next one"),
            Cause::Chain => out.write_str("the batch does not follow the one before it"),
            Cause::Frames(fault) => fault.fmt(out),
            Cause::Truncated => out.write_str("the file is shorter than it was made"),
        }
    }
}

/// How it is known that what is damaged had been acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The file must always be readable.
    Itself,
    /// Commit ring or manifest say it was durable.
    Mark,
    /// The header of this later segment was written when it was durable.
    Header(u64),
    /// A later batch says so, in this segment, at this offset.
    Batch(u64, u64),
}

/// Acknowledged data that cannot be read. The start is refused with exit status 65.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corruption {
    /// Where.
    pub file: File,
    /// Byte in the file.
    pub offset: u64,
    /// First record that is missing.
    pub first_lsn: Lsn,
    /// Last record known to have been durable; what is missing ends there or before.
    pub durable_lsn: Lsn,
    /// What is wrong.
    pub cause: Cause,
    /// Why it is no torn tail.
    pub proof: Proof,
}

impl fmt::Display for Corruption {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Corruption { file, offset, first_lsn, durable_lsn, cause, .. } = self;
        write!(out, "{file} at byte {offset:#x}: {cause}; acknowledged records ")?;
        write!(out, "{} to {} are damaged", first_lsn.0, durable_lsn.0)
    }
}

/// One segment file, as far as its first block tells.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) segment: u64,
    pub(super) header: Option<SegmentHeader>,
}

/// What is known about a log that is there.
#[derive(Clone, Debug)]
pub struct Survey {
    pub(super) manifest: Manifest,
    pub(super) mark: Mark,
    /// By number.
    pub(super) heads: Vec<Head>,
    /// Which segment says that it goes on after this batch: the highest number.
    pub(super) successors: BTreeMap<(u64, u64), u64>,
    /// Epochs that belong to this log.
    pub(super) epochs: BTreeSet<u64>,
    /// Files of another log or with a wrong number.
    pub(super) foreign: Vec<u64>,
    /// Manifest and ring could be read.
    pub(super) whole: bool,
    /// Damage that needs no reading on.
    pub(super) damage: Option<Corruption>,
}

impl Survey {
    /// The newest manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn header(&self, segment: u64) -> Option<&SegmentHeader> {
        let at = self.heads.binary_search_by_key(&segment, |head| head.segment).ok()?;
        self.heads.get(at)?.header.as_ref()
    }

    /// The next segment file after this number.
    pub(super) fn after(&self, segment: u64) -> Option<u64> {
        let at = self.heads.partition_point(|head| head.segment <= segment);
        self.heads.get(at).map(|head| head.segment)
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Found {
    /// No log, or one whose making was not finished: begin with [`super::Resume::fresh`].
    Nothing,
    /// A log.
    Log(Box<Survey>),
}

/// Looks at everything but the batches. A missing file is an empty slice; `heads` are the first
/// blocks of all segment files, by the number in their name, rising.
pub fn survey(
    identity: &Identity,
    manifest_file: &[u8],
    ring_file: &[u8],
    heads: &[(u64, &[u8])],
) -> Found {
    let mut damage = None;
    let mut damaged = |file: File, cause: Cause| {
        let nothing = Lsn(0);
        damage.get_or_insert(Corruption {
            file,
            offset: 0,
            first_lsn: nothing,
            durable_lsn: nothing,
            cause,
            proof: Proof::Itself,
        });
    };
    debug_assert!(heads.is_sorted_by_key(|(segment, _)| *segment), "by number");
    let newest_mark = ring::newest(ring_file, identity);
    let newest_manifest = manifest::newest(manifest_file, identity);
    let begun = newest_mark.is_some_and(|mark| mark.batch_no > 0);
    if newest_manifest.is_err() && heads.is_empty() && !begun {
        return Found::Nothing;
    }
    let whole = newest_manifest.is_ok() && newest_mark.is_some();
    if newest_mark.is_none() {
        let fault = Mark::decode(ring_file, identity).err().unwrap_or(BlockFault::Checksum);
        damaged(File::Ring, Cause::Block(fault));
    }
    let (known, foreign, zero_heads) = read_heads(identity, heads, &mut damaged);
    let headers = || known.iter().filter_map(|head| head.header.as_ref());
    let manifest = newest_manifest.unwrap_or_else(|fault| {
        damaged(File::Manifest, Cause::Block(fault));
        let blocks = headers().map(|header| header.segment_blocks).next_back();
        // Segments that were made and never begun do not count.
        let first_segment = known.get(zero_heads).map_or(1, |head| head.segment);
        Manifest { first_segment, ..Manifest::fresh(1, blocks.unwrap_or(2)) }
    });
    let mark = highest_mark(newest_mark, &manifest);
    let mut successors = BTreeMap::new();
    for header in headers() {
        // By rising number: the last one stays.
        successors.insert((header.prev_batch_no, header.prev_hash), header.segment);
    }
    let mut epochs = BTreeSet::from([manifest.epoch]);
    epochs.extend(headers().flat_map(|header| [header.epoch, header.prev_epoch]));
    epochs.remove(&0);
    let heads = known;
    Found::Log(Box::new(Survey {
        manifest,
        mark,
        heads,
        successors,
        epochs,
        foreign,
        whole,
        damage,
    }))
}

/// The headers; the numbers of foreign files; how many of the first files were never begun.
fn read_heads(
    identity: &Identity,
    heads: &[(u64, &[u8])],
    damaged: &mut impl FnMut(File, Cause),
) -> (Vec<Head>, Vec<u64>, usize) {
    let mut known: Vec<Head> = Vec::with_capacity(heads.len());
    let (mut foreign, mut zero_heads) = (Vec::new(), 0);
    for (segment, block) in heads {
        let header = match SegmentHeader::decode(block, identity) {
            Ok(header) if header.segment == *segment => Some(header),
            // The checksum holds: no crash does this, whatever the segment holds.
            Ok(_) => {
                damaged(File::Segment(*segment), Cause::Misnamed);
                foreign.push(*segment);
                continue;
            }
            Err(BlockFault::Foreign) => {
                damaged(File::Segment(*segment), Cause::Block(BlockFault::Foreign));
                foreign.push(*segment);
                continue;
            }
            Err(fault) => {
                if matches!(fault, BlockFault::Format(_)) {
                    damaged(File::Segment(*segment), Cause::Block(fault));
                }
                zero_heads += usize::from(fault == BlockFault::Zero && zero_heads == known.len());
                None
            }
        };
        known.push(Head { segment: *segment, header });
    }
    (known, foreign, zero_heads)
}

/// The ring's, or the manifest's if that knows more.
fn highest_mark(ring: Option<Mark>, manifest: &Manifest) -> Mark {
    let mark = ring.unwrap_or_default();
    if manifest.batch_no <= mark.batch_no {
        return mark;
    }
    Mark {
        sequence: mark.sequence,
        epoch: manifest.epoch,
        batch_no: manifest.batch_no,
        durable_lsn: manifest.durable_lsn,
    }
}
