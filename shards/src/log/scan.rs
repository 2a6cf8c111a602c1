//! Reads a log after its writer has gone, and decides: all there, torn tail, or damage.
//!
//! Promise: never panics, whatever the bytes; holds one segment (given by the caller) and one
//! record in memory. Records are given as they are read; they count only if [`Scan::finish`] says
//! that the log may be used.
//!
//! ```text
//!   Reading ──batch is next──▶ its records ──▶ Reading (in the segment that follows it, if any)
//!      └─it is not─▶ proof that it was durable? ─yes─▶ Corrupt ─▶ (mode) refuse, cut, or skip
//!                            └─no─▶ Searching all that follows for a proof ─none─▶ torn tail
//! ```

use super::batch::{self, Batch, BatchFault, Kind};
use super::block::{self, BlockFault};
use super::operation::File;
use super::place::{Extent, Index};
use super::record::{self, Record, Unfinished};
use super::survey::{Cause, Corruption, Proof, Survey};
use super::verdict::{Loss, Mode, Recovered, Resume, Verdict};
use super::{BLOCK_BYTES, Lsn, SegmentHeader, offset};

/// LSNs left out at each opening, so that none is used twice even if other shards saw numbers of
/// records that were never durable here.
pub const LSN_FENCE: u64 = 1 << 20;
/// Losses listed one by one; more are only counted.
const LOSSES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Reading,
    /// Looking for a proof in this segment, from this byte on.
    Searching(u64, usize),
    /// Looking for the next whole batch.
    Skipping,
    Done,
}

/// Where reading stands, and what must come next.
#[derive(Clone, Debug, Default)]
struct Place {
    segment: u64,
    at: usize,
    epoch: u64,
    next_lsn: Lsn,
    next_batch_no: u64,
    last_batch_no: u64,
    last_hash: u64,
    /// Segment of the last batch that was taken.
    last_segment: u64,
    /// The next batch can be checked against `last_hash`.
    chained: bool,
}

/// One reading of a log. While [`Scan::wanted`] names a segment, [`Scan::feed`] its bytes.
#[derive(Debug)]
pub struct Scan {
    survey: Survey,
    mode: Mode,
    checks: Checks,
    phase: Phase,
    place: Place,
    first_segment: u64,
    /// Reading may have begun in the middle of a record: its start was released or left out.
    headless: bool,
    unfinished: Option<Unfinished>,
    index: Index,
    stopped_by: Cause,
    verdict: Verdict,
    discarded_bytes: u64,
    losses: Vec<Loss>,
    loss_count: u64,
    highest_batch_no: u64,
    highest_lsn: Lsn,
    refused: bool,
    /// Length of the segment file that is being read.
    file_bytes: u64,
}

/// Which checks are made. All of them, except in tests that prove that one is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checks {
    /// All.
    All,
    /// Whole batches are taken without looking at `prev_hash`.
    AllButTheChain,
}

impl Scan {
    /// Begins to read what `survey` found.
    pub fn new(survey: Survey, mode: Mode) -> Scan {
        Scan::with_checks(survey, mode, Checks::All)
    }

    /// [`Scan::new`] for tests that prove that a check is needed.
    pub fn with_checks(survey: Survey, mode: Mode, checks: Checks) -> Scan {
        let mut scan = Scan {
            mode,
            checks,
            phase: Phase::Reading,
            place: Place { next_lsn: Lsn(1), next_batch_no: 1, chained: true, ..Place::default() },
            first_segment: survey.manifest.first_segment,
            headless: true,
            unfinished: None,
            index: Index::default(),
            stopped_by: Cause::Batch(BatchFault::Zero),
            verdict: Verdict::Clean,
            discarded_bytes: 0,
            losses: Vec::new(),
            loss_count: 0,
            highest_batch_no: 0,
            highest_lsn: Lsn(0),
            refused: false,
            file_bytes: 0,
            survey,
        };
        scan.start();
        scan
    }

    /// The segment whose bytes must be given next; `None`: all was read.
    pub fn wanted(&self) -> Option<u64> {
        match self.phase {
            Phase::Reading | Phase::Skipping => Some(self.place.segment),
            Phase::Searching(segment, _) => Some(segment),
            Phase::Done => None,
        }
    }

    /// Reads the whole file of the segment that is wanted; records go to `sink` in order.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(Record<'_>)) {
        self.feed_part(bytes, offset(bytes.len()), sink);
    }

    /// The same with the beginning of the file, whose length is `file_bytes`: what is left out was
    /// never written, as far as is known.
    pub fn feed_part(
        &mut self,
        bytes: &[u8],
        file_bytes: u64,
        sink: &mut impl FnMut(Record<'_>),
    ) {
        self.file_bytes = file_bytes;
        match self.phase {
            Phase::Reading => self.read(bytes, sink),
            Phase::Searching(segment, from) => self.search(segment, from, bytes),
            Phase::Skipping => self.skip(bytes, sink),
            Phase::Done => {}
        }
    }

    /// The decision.
    ///
    /// # Panics
    /// If a segment is still wanted.
    pub fn finish(self) -> Recovered {
        assert!(self.phase == Phase::Done, "a segment was not read");
        let resume = (!self.refused).then(|| self.resume());
        let last = self.place.last_segment;
        let numbers = self.survey.heads.iter().map(|head| head.segment);
        let unused = numbers.filter(|number| *number > last).collect();
        Recovered {
            verdict: self.verdict,
            resume,
            losses: self.losses,
            loss_count: self.loss_count,
            unused,
            foreign: self.survey.foreign,
        }
    }

    fn resume(&self) -> Resume {
        let Survey { manifest, mark, heads, .. } = &self.survey;
        let place = &self.place;
        let headers = || heads.iter().filter_map(|head| head.header.as_ref());
        let last_lsn = Lsn(place.next_lsn.0.saturating_sub(1));
        let lsns = headers().map(|header| header.first_lsn);
        let lsn = lsns.chain([last_lsn, mark.durable_lsn, self.highest_lsn]).max();
        let batches = headers().map(|header| header.first_batch_no);
        let numbers = [place.last_batch_no, mark.batch_no, self.highest_batch_no];
        let batch_no = batches.chain(numbers).max().unwrap_or_default();
        let last = heads.last().map_or(0, |head| head.segment);
        // Nothing was ever written: no number can have been seen anywhere.
        let fence = if batch_no == 0 { 1 } else { LSN_FENCE };
        // A segment in which nothing could be read is not part of the log, and is moved away.
        let mut index = self.index.clone();
        index.forget_after(place.last_segment);
        let mut manifest = manifest.clone();
        manifest.first_segment = self.first_segment;
        Resume {
            manifest,
            salvaged: self.mode == Mode::Salvage && self.loss_count > 0,
            last_lsn,
            next_lsn: lsn.unwrap_or_default().plus(fence),
            // Batches that lie behind what was read may have the next numbers.
            next_batch_no: batch_no.saturating_add(fence),
            prev_batch_no: place.last_batch_no,
            prev_hash: place.last_hash,
            mark_sequence: mark.sequence,
            last_segment: (place.last_segment > 0).then_some(place.last_segment),
            next_segment: last.saturating_add(1).max(self.first_segment),
            spares: Vec::new(),
            index,
        }
    }

    fn start(&mut self) {
        if let Some(damage) = self.survey.damage {
            self.verdict = Verdict::Corrupt(damage);
            let newer = matches!(damage.cause, Cause::Block(BlockFault::Format(_)));
            if self.mode == Mode::Strict || newer {
                self.refuse();
                return;
            }
        }
        let Survey { manifest, whole, .. } = &self.survey;
        let first = manifest.first_segment;
        if let Some(header) = self.survey.header(first).cloned()
            && (manifest.active_segment > 0 || !whole)
        {
            self.jump(&header);
        } else if manifest.active_segment == 0 && *whole {
            // The first opening was not finished: at most its own beginnings are there.
            self.follow_or_stop(Cause::Batch(BatchFault::Zero), None);
        } else {
            self.place.segment = first;
            self.place.next_lsn = Lsn(0);
            self.stop(Cause::Block(BlockFault::Checksum), None);
        }
    }

    fn refuse(&mut self) {
        self.refused = true;
        self.phase = Phase::Done;
    }

    /// Reading goes on in the segment with this header.
    fn jump(&mut self, header: &SegmentHeader) {
        let place = &mut self.place;
        if header.epoch != place.epoch {
            // A record that spans batches never goes on in a later opening.
            self.unfinished = None;
        }
        let begun = self.survey.manifest.active_segment > 0 || !self.survey.whole;
        if place.last_segment == 0 && !begun {
            self.first_segment = header.segment;
        }
        self.index.add_segment(header.segment, header.first_lsn);
        place.segment = header.segment;
        place.at = BLOCK_BYTES;
        place.epoch = header.epoch;
        place.next_lsn = header.first_lsn;
        place.next_batch_no = header.first_batch_no;
        place.last_batch_no = header.prev_batch_no;
        place.last_hash = header.prev_hash;
        place.chained = true;
        self.phase = Phase::Reading;
    }

    /// The segment that says it follows the last batch.
    fn successor(&self) -> Option<SegmentHeader> {
        let place = &self.place;
        let key = (place.last_batch_no, place.last_hash);
        let number = *self.survey.successors.get(&key)?;
        let header = self.survey.header(number)?;
        let same_opening = header.epoch == place.epoch;
        let next =
            header.first_batch_no == place.next_batch_no && header.first_lsn == place.next_lsn;
        let later = header.segment > place.segment && header.first_lsn >= place.next_lsn;
        (later && (next || !same_opening)).then(|| header.clone())
    }

    fn follow_or_stop(&mut self, cause: Cause, bytes: Option<&[u8]>) {
        match self.successor() {
            Some(header) => self.jump(&header),
            None => self.stop(cause, bytes),
        }
    }

    fn read(&mut self, bytes: &[u8], sink: &mut impl FnMut(Record<'_>)) {
        loop {
            // The manifest names the first segment. Others may say that they follow what it
            // follows: those are later only if nothing can be read here.
            let named = self.place.last_segment == 0
                && self.place.segment == self.survey.manifest.first_segment
                && self.place.at == BLOCK_BYTES;
            if !named && let Some(header) = self.successor() {
                self.jump(&header);
                return;
            }
            let rest = bytes.get(self.place.at..).unwrap_or_default();
            let taken = self.next_batch(rest).and_then(|batch| self.take(&batch, sink));
            if let Err(cause) = taken {
                match self.successor().filter(|_| named) {
                    Some(header) => self.jump(&header),
                    None => self.stop(cause, Some(bytes)),
                }
                return;
            }
        }
    }

    /// The batch at the start of `rest`, if it is the one that must come.
    fn next_batch<'a>(&self, rest: &'a [u8]) -> Result<Batch<'a>, Cause> {
        let batch = batch::parse(rest).map_err(Cause::Batch)?;
        let (header, place) = (&batch.header, &self.place);
        let next = header.epoch == place.epoch
            && header.batch_no == place.next_batch_no
            && header.first_lsn == place.next_lsn
            && header.durable_lsn < header.first_lsn;
        if !next {
            return Err(Cause::NotNext);
        }
        let checked = place.chained && self.checks == Checks::All;
        if checked && header.prev_hash != place.last_hash {
            return Err(Cause::Chain);
        }
        Ok(batch)
    }

    fn take(&mut self, batch: &Batch<'_>, sink: &mut impl FnMut(Record<'_>)) -> Result<(), Cause> {
        // A released segment may have held the start of a record that goes on here.
        let headless_ok = !self.place.chained || self.headless;
        let begun = self.unfinished.take();
        let frames = record::split(batch, begun, headless_ok).map_err(Cause::Frames)?;
        let place = &mut self.place;
        frames.each(batch.header.first_lsn, (place.segment, offset(place.at)), sink);
        if frames.headless
            && let Some(loss) = self.losses.last_mut()
        {
            loss.end_lsn = loss.end_lsn.max(batch.header.first_lsn.next());
        }
        self.headless &= batch.header.record_count == 0;
        self.unfinished = frames.unfinished;
        if batch.header.kind == Kind::Records {
            let (segment, bytes) = (place.segment, batch.total_bytes);
            let extent = Extent { segment, offset: offset(place.at), bytes };
            let goes_on = batch.header.rest_bytes > 0;
            self.index.add_batch(batch.header.first_lsn, &extent, goes_on);
        }
        place.at += batch.total_bytes;
        place.next_lsn = batch.header.end_lsn();
        place.next_batch_no = batch.header.batch_no.saturating_add(1);
        place.last_batch_no = batch.header.batch_no;
        place.last_hash = batch.hash;
        place.last_segment = place.segment;
        place.chained = true;
        Ok(())
    }

    /// Nothing can be read at the place. Is there a proof that something was there?
    fn stop(&mut self, cause: Cause, bytes: Option<&[u8]>) {
        self.stopped_by = cause;
        let heads = &self.survey.heads;
        let accepted = heads.iter().rev().filter_map(|head| head.header.as_ref());
        let accepted = accepted.filter(|header| header.salvaged).map(|header| header.segment);
        if accepted.max().is_some_and(|segment| segment > self.place.segment) {
            self.leave_out(self.place.next_lsn);
            return;
        }
        if let Some((proof, durable_lsn)) = self.proof(bytes) {
            self.corrupt(proof, durable_lsn);
            return;
        }
        self.discarded_bytes = 0;
        let Place { segment, at, .. } = self.place;
        let here = heads.iter().any(|head| head.segment == segment);
        let first = if here { Some(segment) } else { self.survey.after(segment) };
        self.phase = first.map_or(Phase::Done, |number| {
            Phase::Searching(number, if number == segment { at } else { 0 })
        });
        if self.phase == Phase::Searching(segment, at)
            && let Some(bytes) = bytes
        {
            self.search(segment, at, bytes);
        }
    }

    /// What ring, manifest and headers say about the place, without reading on.
    fn proof(&self, bytes: Option<&[u8]>) -> Option<(Proof, Lsn)> {
        let (Survey { manifest, mark, heads, .. }, place) = (&self.survey, &self.place);
        if self.stopped_by_newer_format() {
            return Some((Proof::Itself, mark.durable_lsn));
        }
        if mark.batch_no >= place.next_batch_no || place.next_lsn == Lsn(0) {
            return Some((Proof::Mark, mark.durable_lsn));
        }
        let mut later = heads.iter().filter_map(|head| head.header.as_ref());
        let later = later.find(|header| {
            header.segment > place.segment && header.prev_batch_no >= place.last_batch_no
        });
        if let Some(header) = later {
            let durable_lsn = Lsn(header.first_lsn.0.saturating_sub(1));
            return Some((Proof::Header(header.segment), durable_lsn));
        }
        if manifest.active_segment > place.segment {
            return Some((Proof::Mark, mark.durable_lsn));
        }
        let whole_bytes = self.survey.header(place.segment)?.segment_bytes();
        (bytes.is_some() && self.file_bytes < whole_bytes)
            .then_some((Proof::Itself, mark.durable_lsn))
    }

    fn stopped_by_newer_format(&self) -> bool {
        matches!(self.stopped_by, Cause::Batch(BatchFault::Format(_)))
    }

    fn corrupt(&mut self, proof: Proof, durable_lsn: Lsn) {
        let place = &self.place;
        let truncated = proof == Proof::Itself && !self.stopped_by_newer_format();
        let damage = Corruption {
            file: File::Segment(place.segment),
            offset: offset(place.at),
            first_lsn: place.next_lsn,
            durable_lsn,
            cause: if truncated { Cause::Truncated } else { self.stopped_by },
            proof,
        };
        if !matches!(self.verdict, Verdict::Corrupt(_)) {
            self.verdict = Verdict::Corrupt(damage);
        }
        match self.mode {
            Mode::Strict => self.refuse(),
            _ if self.stopped_by_newer_format() => self.refuse(),
            Mode::PointInTime => self.phase = Phase::Done,
            Mode::Salvage => self.leave_out(durable_lsn.next()),
        }
    }

    /// Reads on at the next whole batch after the place.
    fn leave_out(&mut self, end_lsn: Lsn) {
        self.unfinished = None;
        self.headless = true;
        self.loss_count += 1;
        if self.losses.len() < LOSSES_MAX {
            self.losses.push(Loss {
                segment: self.place.segment,
                offset: offset(self.place.at),
                first_lsn: self.place.next_lsn,
                end_lsn: end_lsn.max(self.place.next_lsn),
            });
        }
        self.phase = Phase::Skipping;
        self.place.at += BLOCK_BYTES;
        let here = self.survey.heads.iter().any(|head| head.segment == self.place.segment);
        if !here {
            self.skip_to_next_segment();
        }
    }

    fn skip_to_next_segment(&mut self) {
        let Some(number) = self.survey.after(self.place.segment) else {
            self.phase = Phase::Done;
            return;
        };
        let header = self.survey.header(number).cloned();
        let header = header.filter(|header| header.first_batch_no >= self.place.next_batch_no);
        if let Some(header) = header {
            self.end_loss(header.first_lsn);
            let (batch_no, hash) = (self.place.last_batch_no, self.place.last_hash);
            self.jump(&header);
            if !header.salvaged {
                // What the header names was not read; the batch that was read last stays.
                (self.place.last_batch_no, self.place.last_hash) = (batch_no, hash);
                self.place.chained = false;
            }
        } else {
            self.place.segment = number;
            self.place.at = 0;
        }
    }

    fn end_loss(&mut self, end_lsn: Lsn) {
        if let Some(loss) = self.losses.last_mut() {
            loss.end_lsn = end_lsn.max(loss.first_lsn);
        }
    }

    /// Looks for the next whole batch in this segment and goes on reading there.
    fn skip(&mut self, bytes: &[u8], sink: &mut impl FnMut(Record<'_>)) {
        while let Some(rest) = bytes.get(self.place.at..).filter(|rest| !rest.is_empty()) {
            if let Some(batch) = self.candidate(rest) {
                self.place.epoch = batch.header.epoch;
                self.place.next_lsn = batch.header.first_lsn;
                self.place.next_batch_no = batch.header.batch_no;
                self.place.chained = false;
                self.end_loss(batch.header.first_lsn);
                self.phase = Phase::Reading;
                self.read(bytes, sink);
                return;
            }
            self.place.at += BLOCK_BYTES;
        }
        self.skip_to_next_segment();
    }

    /// A whole batch at the start of `rest` that belongs to this log after the place.
    fn candidate<'a>(&self, rest: &'a [u8]) -> Option<Batch<'a>> {
        let (epoch, batch_no) = batch::peek(rest)?;
        if !self.survey.epochs.contains(&epoch) || batch_no < self.place.next_batch_no {
            return None;
        }
        let batch = batch::parse(rest).ok()?;
        (batch.header.first_lsn >= self.place.next_lsn).then_some(batch)
    }

    /// Looks in `segment` for a batch that proves that the place was durable.
    fn search(&mut self, segment: u64, from: usize, bytes: &[u8]) {
        let headless = self.survey.header(segment).is_none();
        let mut at = from;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let block = rest.get(..BLOCK_BYTES).unwrap_or(rest);
            let mut step = BLOCK_BYTES;
            if let Some(batch) = self.candidate(rest) {
                let header = &batch.header;
                self.highest_batch_no = self.highest_batch_no.max(header.batch_no);
                self.highest_lsn = self.highest_lsn.max(header.end_lsn());
                // No batch is written to a segment before its header is durable.
                if headless || header.durable_lsn >= self.place.next_lsn {
                    let durable_lsn = header.durable_lsn;
                    self.corrupt(Proof::Batch(segment, offset(at)), durable_lsn);
                    return;
                }
                step = batch.total_bytes;
                self.discarded_bytes += offset(step);
            } else if !block::is_zero(block) {
                self.discarded_bytes += offset(BLOCK_BYTES);
            }
            at += step;
        }
        if let Some(number) = self.survey.after(segment) {
            self.phase = Phase::Searching(number, 0);
            return;
        }
        self.phase = Phase::Done;
        let discarded_bytes = self.discarded_bytes;
        if discarded_bytes > 0 && self.verdict == Verdict::Clean {
            self.verdict = Verdict::TornTail { discarded_bytes };
        }
    }
}
