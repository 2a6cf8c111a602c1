//! A shard's log while it runs: what the log wants becomes operations of the ring, and back.
//!
//! Promise: no call blocks. Records appended in a turn are given to the disk at its end; the
//! handler hears of it in the turn in which the disk is done. After a failure nothing is reported
//! durable any more.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use super::Durability;
use super::errand::{Call, Duty, Errand};
use super::faults::{self, Fault};
use super::files::skipped;
use super::reads::{Answer, Next, Reads};
use super::recovery::Opened;
use super::stats::{LogStats, SLOW_SYNC_US};
use crate::clock::Clock;
use crate::log::{
    Action, Cursor, Failure, File, Index, Lane, Log, Lsn, Operation, Outcome, Place, Refused,
    SegmentInfo, Urgency,
};
use crate::net::ring::Ring;
use crate::time::Millis;

/// After so much calm the commit ring catches up.
const CALM_MS: u64 = 100;
/// What was read beside what was asked for is kept so long after the last answer.
const KEEP_MS: u64 = 1_000;
/// First pause before a segment is tried again; doubles up to the longest.
const RETRY_MS: u64 = 1_000;
const RETRY_MS_MAX: u64 = 30_000;
/// Slow syncs are reported so often at most.
const COMPLAINT_MS: u64 = 60_000;
/// A write that was interrupted is issued again so often.
const INTERRUPTS_MAX: u32 = 8;

/// The log of one shard, as its handler sees it: [`crate::Io::log`].
#[derive(Debug)]
pub struct ShardLog {
    shard: u16,
    log: Log,
    durability: Durability,
    pending_bytes_max: usize,
    direct: bool,
    directory: Rc<OwnedFd>,
    files: BTreeMap<File, Rc<OwnedFd>>,
    reads: Reads,
    stats: LogStats,
    clock: Clock,
    now: Millis,
    /// What the handler knows.
    told: Lsn,
    failure_told: bool,
    congested: bool,
    sync_began_us: u64,
    interrupts: u32,
    calm_at: Option<Millis>,
    sync_at: Option<Millis>,
    drop_windows_at: Option<Millis>,
    retry_at: Option<Millis>,
    retry_ms: u64,
    complain_at: Millis,
    /// Operations held back by a test.
    delayed: VecDeque<(Millis, Operation)>,
    /// Keeps the data directory this process's own.
    _lock: Arc<fs::File>,
}

impl ShardLog {
    /// Takes the log over, on the thread of its shard. Blocks for one open.
    pub(crate) fn new(opened: Opened, clock: Clock) -> std::io::Result<ShardLog> {
        let Opened { shard, lock, files, log, durability } = opened;
        let directory = Rc::new(OwnedFd::from(fs::File::open(&files.path)?));
        let own = |(name, file)| (name, Rc::new(OwnedFd::from(file)));
        Ok(ShardLog {
            shard,
            durability,
            pending_bytes_max: log.settings().pending_bytes_max,
            direct: files.direct,
            directory,
            files: files.open.into_iter().map(own).collect(),
            reads: Reads::default(),
            stats: LogStats::default(),
            clock,
            now: clock.now(),
            told: log.settled(),
            failure_told: false,
            congested: false,
            sync_began_us: 0,
            interrupts: 0,
            calm_at: None,
            sync_at: None,
            drop_windows_at: None,
            retry_at: None,
            retry_ms: RETRY_MS,
            complain_at: Millis(0),
            delayed: VecDeque::new(),
            log,
            _lock: lock,
        })
    }

    // For the handler.

    /// Takes one record. It is written at the end of the turn; [`crate::Handler::on_durable`] tells
    /// when it may be acknowledged.
    ///
    /// # Errors
    /// Why it was not taken. Nothing has changed then, and nothing is lost: the record is still
    /// with the caller.
    pub fn append(&mut self, kind: u8, body: &[u8]) -> Result<Place, Refused> {
        self.take(kind, body, Urgency::Usual)
    }

    /// The same for a record that frees space (a delivery is done, a session has ended): it may use
    /// the segment that is kept for a full disk.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_urgent(&mut self, kind: u8, body: &[u8]) -> Result<Place, Refused> {
        self.take(kind, body, Urgency::FreesSpace)
    }

    fn take(&mut self, kind: u8, body: &[u8], urgency: Urgency) -> Result<Place, Refused> {
        let place = self.log.append(kind, body, urgency);
        match place {
            Ok(_) => self.stats.records += 1,
            Err(_) => self.stats.refused += 1,
        }
        self.watch_congestion();
        place
    }

    /// Everything up to this record may be acknowledged.
    pub fn durable(&self) -> Lsn {
        self.log.settled()
    }

    /// Number of the next record.
    pub fn next_lsn(&self) -> Lsn {
        self.log.next_lsn()
    }

    /// Bytes of records that wait for the disk.
    pub fn pending_bytes(&self) -> usize {
        self.log.pending_bytes()
    }

    /// More than half of `pending_bytes_max` waits, or did and more than a quarter still does, or
    /// the next segment is not ready in time: who brings more should not be read.
    pub fn is_congested(&self) -> bool {
        self.congested || self.log.awaits_segment()
    }

    /// Why no new segment can be made, an `errno` (`ENOSPC`: the disk is full), while that is so.
    /// It is tried again by itself. Before room runs out [`Self::append`] refuses with
    /// [`Refused::DiskFull`].
    pub fn prepare_error(&self) -> Option<i32> {
        self.log.prepare_error()
    }

    /// No segment can be made and what room is left, but for a batch, is kept for records that free
    /// space: messages that bring more should be refused before they become records.
    pub fn is_full(&self) -> bool {
        self.log.is_short_of_space(self.log.settings().batch_bytes_max)
    }

    /// Reads a record back; [`crate::Handler::on_record`] brings it, with `token`. If it is not
    /// written yet, that waits until it is.
    ///
    /// # Errors
    /// [`Refused::Full`] if too many requests wait (16,384).
    pub fn read(&mut self, place: Place, token: u64) -> Result<(), Refused> {
        self.reads.fetch(place, token)
    }

    /// Reads the records that begin in a segment, in steps of at most `bytes_max` (1 MiB at most,
    /// one batch at least); [`crate::Handler::on_chunk`] brings them, with `token`. A segment that
    /// is not there has none.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn walk(&mut self, from: Cursor, bytes_max: usize, token: u64) -> Result<(), Refused> {
        self.reads.walk(from, bytes_max, token)
    }

    /// Segments that were not released, the oldest first; the last one is being written.
    pub fn segments(&self) -> impl Iterator<Item = SegmentInfo> + '_ {
        self.log.segments()
    }

    /// Where the batches lie.
    pub fn index(&self) -> &Index {
        self.log.index()
    }

    /// No record that begins before this segment is needed any more: what replaces them is durable
    /// as far as [`Self::durable`] tells. When that is synced (with an interval too), and then the
    /// manifest, the files are removed. The segment that is being written stays, and one in
    /// which a record begins that is not durable yet.
    pub fn release_before(&mut self, segment: u64) {
        self.log.release_before(segment);
    }

    /// Counters.
    pub fn stats(&self) -> &LogStats {
        &self.stats
    }

    // For the turn.

    /// Gives the ring all that there is to do.
    pub(crate) fn run(&mut self, ring: &mut Ring, now: Millis) {
        self.now = now;
        self.look_at_the_clock(ring);
        while let Some((_, operation)) = self.delayed.pop_front_if(|(at, _)| *at <= now) {
            self.submit(ring, operation, usize::MAX);
        }
        while let Some(operation) = self.log.next() {
            self.start(ring, operation);
        }
        loop {
            let files = &self.files;
            let writing = |segment| files.get(&File::Segment(segment)).map(Rc::clone);
            match self.reads.next(&self.log, writing) {
                Some(Next::Errand(errand)) => ring.run(errand),
                Some(Next::Open(read, segment)) => {
                    let flags = libc::O_RDONLY | libc::O_CLOEXEC | self.direct_flag();
                    let (directory, path) =
                        (Rc::clone(&self.directory), name(File::Segment(segment)));
                    let call = Call::Open { directory, path, flags };
                    ring.run(Errand::new(Duty::Open { read, segment }, call));
                }
                None => break,
            }
        }
        self.watch_congestion();
    }

    /// Takes back what [`Self::run`] gave the ring.
    pub(crate) fn completed(
        &mut self,
        ring: &mut Ring,
        errand: Errand,
        result: i32,
        opened: Option<OwnedFd>,
    ) {
        match errand.unpack() {
            (Duty::Log(operation), _) => self.ended(ring, operation, result, opened),
            (Duty::Open { read, segment }, _) => {
                self.reads.opened(read, segment, opened.ok_or(-result), &self.log);
            }
            (Duty::Read { read }, Call::Read { buffer, .. }) => {
                self.stats.reads += 1;
                self.reads.read(read, result, buffer, &self.log);
            }
            (Duty::Read { .. }, _) => unreachable!("a read reads"),
        }
    }

    /// What may be acknowledged now, if that is more than the handler knows.
    pub(crate) fn risen(&mut self) -> Option<Lsn> {
        let settled = self.log.settled();
        let risen = self.log.failure().is_none() && settled > self.told;
        risen.then(|| {
            self.told = settled;
            settled
        })
    }

    pub(crate) fn answer(&mut self) -> Option<Answer> {
        let answer = self.reads.answer()?;
        self.stats.read_faults += u64::from(answer.is_fault());
        Some(answer)
    }

    /// The failure, once.
    pub(crate) fn failed(&mut self) -> Option<Failure> {
        let failure = self.log.failure()?;
        (!std::mem::replace(&mut self.failure_told, true)).then_some(failure)
    }

    /// Is there something that the handler does not know?
    pub(crate) fn has_news(&self) -> bool {
        let failed = self.log.failure().is_some() && !self.failure_told;
        failed || self.log.settled() > self.told || self.reads.has_answers()
    }

    /// Nothing waits for the disk, and the handler knows everything.
    pub(crate) fn is_at_rest(&self) -> bool {
        // What there was no room for since the start is not waited for.
        let written = self.log.pending_bytes() == 0 || !self.log.is_open();
        written && self.reads.is_idle() && !self.has_news()
    }

    /// No records any more; ends with [`Self::is_closed`], or fails.
    pub(crate) fn close(&mut self) {
        self.log.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.log.is_closed()
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let delayed = self.delayed.front().map(|(at, _)| *at);
        [self.calm_at, self.sync_at, self.drop_windows_at, self.retry_at, delayed]
            .into_iter()
            .flatten()
            .min()
    }

    fn look_at_the_clock(&mut self, ring: &mut Ring) {
        let now = self.now;
        if self.log.is_mark_due() && self.log.pending_bytes() == 0 {
            let at = *self.calm_at.get_or_insert(now.after(CALM_MS));
            if at <= now
                && let Some(mark) = self.log.idle()
            {
                self.calm_at = None;
                self.start(ring, mark);
            }
        } else {
            self.calm_at = None;
        }
        if let Durability::Interval { ms } = self.durability
            && self.log.is_unsynced()
        {
            let at = *self.sync_at.get_or_insert(now.after(ms));
            if at <= now {
                self.sync_at = None;
                self.log.sync_now();
            }
        } else {
            self.sync_at = None;
        }
        if self.reads.keeps_windows() && self.reads.is_idle() {
            let at = *self.drop_windows_at.get_or_insert(now.after(KEEP_MS));
            if at <= now {
                self.drop_windows_at = None;
                self.reads.drop_windows();
            }
        } else {
            self.drop_windows_at = None;
        }
        if self.log.prepare_error().is_none() {
            (self.retry_at, self.retry_ms) = (None, RETRY_MS);
        } else if *self.retry_at.get_or_insert(now.after(self.retry_ms)) <= now {
            self.retry_ms = (self.retry_ms * 2).min(RETRY_MS_MAX);
            self.retry_at = Some(now.after(self.retry_ms));
            self.log.retry_preparation();
        }
    }

    fn watch_congestion(&mut self) {
        let (pending, most) = (self.log.pending_bytes(), self.pending_bytes_max);
        self.congested = pending > if self.congested { most / 4 } else { most / 2 };
    }

    fn direct_flag(&self) -> i32 {
        if self.direct { libc::O_DIRECT } else { 0 }
    }

    /// Before an operation leaves, a test may change what happens.
    fn start(&mut self, ring: &mut Ring, operation: Operation) {
        match faults::hit(faults::name(&operation)) {
            Fault::None => self.submit(ring, operation, usize::MAX),
            Fault::Short => self.submit(ring, operation, crate::log::BLOCK_BYTES),
            Fault::DelayMs(ms) => self.delayed.push_back((self.now.after(ms), operation)),
            Fault::Errno(errno) => self.finish(operation, Outcome::Failed(errno), None),
            Fault::Skip => {
                let outcome = skipped(&operation.action);
                self.finish(operation, outcome, None);
            }
        }
    }

    fn submit(&mut self, ring: &mut Ring, operation: Operation, bytes_max: usize) {
        let directory = || Rc::clone(&self.directory);
        let file = |file: &File| self.files.get(file).map(Rc::clone);
        let call = match &operation.action {
            Action::Write(write) => file(&write.file).map(|file| Call::Write { file, bytes_max }),
            Action::Sync(synced) => file(synced).map(|file| Call::Sync { file, directory: false }),
            Action::Create(created) => {
                let flags = libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_CLOEXEC;
                let (path, flags) = (name(*created), flags | self.direct_flag());
                Some(Call::Open { directory: directory(), path, flags })
            }
            Action::Rename(source, target) => {
                let (source, target) = (name(*source), name(*target));
                Some(Call::Rename { directory: directory(), source, target })
            }
            Action::SyncDirectory => Some(Call::Sync { file: directory(), directory: true }),
            Action::Remove(removed) => {
                Some(Call::Unlink { directory: directory(), path: name(*removed) })
            }
        };
        if let Action::Remove(removed) = &operation.action {
            // Closed first: then removing it frees the space, away from this thread.
            self.files.remove(removed);
            if let File::Segment(number) = removed {
                self.reads.forget(*number);
            }
        }
        if is_commit_sync(&operation) {
            self.sync_began_us = self.clock.micros();
        }
        match call {
            Some(call) => ring.run(Errand::new(Duty::Log(operation), call)),
            None => self.finish(operation, Outcome::Failed(libc::EBADF), None),
        }
    }

    fn ended(
        &mut self,
        ring: &mut Ring,
        operation: Operation,
        result: i32,
        opened: Option<OwnedFd>,
    ) {
        let interrupted = matches!(-result, libc::EINTR | libc::EAGAIN);
        if interrupted && matches!(operation.action, Action::Write(_)) {
            self.interrupts += 1;
            if self.interrupts < INTERRUPTS_MAX {
                self.submit(ring, operation, usize::MAX);
                return;
            }
        }
        self.interrupts = 0;
        let outcome = match (&operation.action, usize::try_from(result)) {
            (_, Err(_)) => Outcome::Failed(-result),
            (Action::Write(_), Ok(bytes)) => Outcome::Wrote(bytes),
            (_, Ok(_)) => Outcome::Done,
        };
        self.finish(operation, outcome, opened);
    }

    fn finish(&mut self, operation: Operation, outcome: Outcome, opened: Option<OwnedFd>) {
        faults::hit_after(faults::name(&operation));
        if !matches!(outcome, Outcome::Failed(_)) {
            self.note(&operation, opened, outcome);
        }
        let (made, short) = (self.log.spares(), self.log.prepare_error());
        self.log.complete(operation, outcome);
        self.stats.segments_made += u64::from(self.log.spares() > made);
        self.tell_of_space(short);
    }

    /// Something succeeded: descriptors and counters follow.
    fn note(&mut self, operation: &Operation, opened: Option<OwnedFd>, outcome: Outcome) {
        match &operation.action {
            Action::Create(file) => {
                if let Some(opened) = opened {
                    self.files.insert(*file, Rc::new(opened));
                }
            }
            Action::Rename(source, target) => {
                if let Some(file) = self.files.remove(source) {
                    self.files.insert(*target, file);
                }
            }
            Action::Write(write) if operation.lane == Lane::Commit => {
                if let (File::Segment(number), Outcome::Wrote(bytes)) = (write.file, outcome) {
                    self.stats.batches += u64::from(write.offset() > 0);
                    self.stats.bytes += crate::log::offset(bytes);
                    self.retire_before(number);
                }
            }
            Action::Sync(_) if is_commit_sync(operation) => {
                let us = self.clock.micros().saturating_sub(self.sync_began_us);
                self.stats.synced(us);
                if us > SLOW_SYNC_US && self.now >= self.complain_at {
                    self.complain_at = self.now.after(COMPLAINT_MS);
                    tracing::warn!(
                        shard = self.shard,
                        ms = us / 1000,
                        slow_syncs = self.stats.slow_syncs,
                        "the disk is slow to sync the log"
                    );
                }
            }
            Action::Remove(_) => {
                self.stats.segments_removed += u64::from(operation.lane == Lane::Release);
            }
            Action::Write(_) | Action::Sync(_) | Action::SyncDirectory => {}
        }
    }

    /// Segments before the one that is written now are only read.
    fn retire_before(&mut self, number: u64) {
        let active = File::Segment(number);
        while let Some(entry) = self.files.first_entry() {
            let File::Segment(old) = *entry.key() else { break };
            if entry.key() >= &active {
                break;
            }
            self.reads.keep_open(old, entry.remove());
        }
    }

    fn tell_of_space(&self, before: Option<i32>) {
        match (before, self.log.prepare_error()) {
            (None, Some(errno)) => {
                let error = std::io::Error::from_raw_os_error(errno);
                tracing::warn!(
                    shard = self.shard,
                    %error,
                    "no further log segment can be made; it is tried again"
                );
            }
            (Some(_), None) => {
                tracing::info!(shard = self.shard, "log segments can be made again");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
    }
}

fn is_commit_sync(operation: &Operation) -> bool {
    operation.lane == Lane::Commit && matches!(operation.action, Action::Sync(File::Segment(_)))
}

fn name(file: File) -> CString {
    CString::new(file.to_string()).expect("names of log files hold no zero byte")
}
