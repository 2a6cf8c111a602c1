//! Records on their way back from the disk.
//!
//! Promise: every request that was taken is answered once, unless the log fails. Limits:
//! [`READS_MAX`] reads at a time, each with at most 1 MiB in flight; [`WAITING_MAX`] requests wait;
//! further ones are refused with [`Refused::Full`]. Neighbouring records share a read: [`Windows`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::errand::{Call, Duty, Errand};
use super::faults::{self, Fault};
use super::windows::{Request, Turn, Windows};
use crate::log::{
    AlignedBuffer, Chunk, Cursor, Extent, Fetch, Log, Place, ReadFault, Refused, Step,
    StoredRecord, Walk,
};

/// Reads that are worked on at a time.
const READS_MAX: usize = 16;
/// Requests that may wait for their turn.
pub(super) const WAITING_MAX: usize = 16_384;
/// Answers that a turn of the shard gets at most, so that it has time for others.
const ANSWERS_MAX: usize = 512;
/// No more answers in a turn if they have so many bytes.
const ANSWERS_BYTES_MAX: usize = 1 << 20;
/// Segments kept open for reading.
const OPEN_MAX: usize = 16;

#[derive(Debug)]
enum Reader {
    /// One record that does not lie in a window.
    Fetch(Fetch),
    Walk(Walk),
    Window {
        number: u64,
        extent: Extent,
    },
}

impl Reader {
    fn next(&mut self, log: &Log) -> Step {
        match self {
            Reader::Fetch(fetch) => fetch.next(log),
            Reader::Walk(walk) => walk.next(log),
            Reader::Window { extent, .. } => Step::Read(*extent),
        }
    }
}

#[derive(Debug)]
struct Active {
    token: u64,
    reader: Reader,
    /// An errand is out.
    out: bool,
}

/// What a request has come to.
#[derive(Debug)]
pub(crate) enum Answer {
    Record(u64, Result<StoredRecord, ReadFault>),
    Chunk(u64, Result<Chunk, ReadFault>),
}

impl Answer {
    pub(super) fn is_fault(&self) -> bool {
        matches!(self, Answer::Record(_, Err(_)) | Answer::Chunk(_, Err(_)))
    }
}

/// All requests of one shard.
#[derive(Debug, Default)]
pub(super) struct Reads {
    windows: Windows,
    /// Records that are read alone.
    alone: VecDeque<Request>,
    walks: VecDeque<(u64, Cursor, usize)>,
    active: Vec<Option<Active>>,
    answers: VecDeque<Answer>,
    /// Bytes of the answers since there were none.
    answered_bytes: usize,
    open: VecDeque<(u64, Rc<OwnedFd>)>,
}

/// What the next errand of a read needs.
#[derive(Debug)]
pub(super) enum Next {
    /// The segment must be opened for this read first.
    Open(usize, u64),
    /// To be given to the ring.
    Errand(Errand),
}

impl Reads {
    pub(super) fn fetch(&mut self, place: Place, token: u64) -> Result<(), Refused> {
        self.has_place()?;
        self.windows.ask(Request { place, token });
        Ok(())
    }

    pub(super) fn walk(&mut self, from: Cursor, bytes: usize, token: u64) -> Result<(), Refused> {
        self.has_place()?;
        self.walks.push_back((token, from, bytes));
        Ok(())
    }

    fn has_place(&self) -> Result<(), Refused> {
        let waiting = self.windows.waiting() + self.alone.len() + self.walks.len();
        if waiting >= WAITING_MAX { Err(Refused::Full) } else { Ok(()) }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.windows.waiting() == 0
            && self.alone.is_empty()
            && self.walks.is_empty()
            && self.answers.is_empty()
            && self.active.iter().all(Option::is_none)
    }

    /// Bytes are kept for records that are asked for next.
    pub(super) fn keeps_windows(&self) -> bool {
        self.windows.keeps_any()
    }

    /// Gives the memory of what is kept back.
    pub(super) fn drop_windows(&mut self) {
        self.windows.clear();
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.pop_front();
        if self.answers.is_empty() {
            self.answered_bytes = 0;
        }
        answer
    }

    pub(super) fn keep_open(&mut self, segment: u64, file: Rc<OwnedFd>) {
        if self.open.iter().any(|(open, _)| *open == segment) {
            return;
        }
        if self.open.len() == OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back((segment, file));
    }

    pub(super) fn forget(&mut self, segment: u64) {
        self.open.retain(|(open, _)| *open != segment);
        self.windows.forget(segment);
    }

    /// Something to do for a read, if there is.
    pub(super) fn next(
        &mut self,
        log: &Log,
        writing: impl Fn(u64) -> Option<Rc<OwnedFd>>,
    ) -> Option<Next> {
        'again: loop {
            self.begin(log);
            for at in 0..self.active.len() {
                let Some(Some(active)) = self.active.get_mut(at) else { continue };
                if active.out {
                    continue;
                }
                let extent = match active.reader.next(log) {
                    Step::Read(extent) => extent,
                    Step::Wait => continue,
                    Step::Done => {
                        self.finish(at, log);
                        continue;
                    }
                };
                active.out = true;
                let segment = extent.segment;
                let open = self.open.iter().find(|(open, _)| *open == segment);
                let file = writing(segment).or_else(|| open.map(|(_, file)| Rc::clone(file)));
                let Some(file) = file else { return Some(Next::Open(at, segment)) };
                let buffer = AlignedBuffer::zeroed(extent.bytes);
                match faults::hit("log.read") {
                    Fault::Errno(errno) => {
                        // What wanted it may be read otherwise.
                        self.fail(at, ReadFault::Io(errno), log);
                        continue 'again;
                    }
                    Fault::None | Fault::Skip | Fault::Short | Fault::DelayMs(_) => {}
                }
                let call = Call::Read { file, offset: extent.offset, buffer };
                return Some(Next::Errand(Errand::new(Duty::Read { read: at }, call)));
            }
            return None;
        }
    }

    /// Answers what lies in memory, and begins to read what does not.
    fn begin(&mut self, log: &Log) {
        while self.answers.len() < ANSWERS_MAX && self.answered_bytes < ANSWERS_BYTES_MAX {
            match self.windows.next(log) {
                Some(Turn::Answer(token, result)) => self.tell(token, result),
                Some(Turn::Alone(request)) => self.alone.push_back(request),
                None => break,
            }
        }
        while self.has_room()
            && let Some((token, from, bytes)) = self.walks.pop_front()
        {
            self.activate(token, Reader::Walk(Walk::begin(log, from, bytes)));
        }
        while self.has_room()
            && let Some((number, extent)) = self.windows.plan(log)
        {
            self.activate(0, Reader::Window { number, extent });
        }
        while self.has_room()
            && let Some(Request { place, token }) = self.alone.pop_front()
        {
            match Fetch::begin(log, place) {
                Ok(fetch) => self.activate(token, Reader::Fetch(fetch)),
                Err(fault) => self.tell(token, Err(fault)),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.active.len() < READS_MAX || self.active.iter().any(Option::is_none)
    }

    fn activate(&mut self, token: u64, reader: Reader) {
        let active = Some(Active { token, reader, out: false });
        match self.active.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = active,
            None => self.active.push(active),
        }
    }

    fn tell(&mut self, token: u64, result: Result<StoredRecord, ReadFault>) {
        self.answered_bytes += result.as_ref().map_or(0, |record| record.body.len());
        self.answers.push_back(Answer::Record(token, result));
    }

    /// The segment is open, or could not be opened; the read goes on.
    pub(super) fn opened(
        &mut self,
        read: usize,
        segment: u64,
        file: Result<OwnedFd, i32>,
        log: &Log,
    ) {
        match file {
            Ok(file) => {
                self.keep_open(segment, Rc::new(file));
                if let Some(Some(active)) = self.active.get_mut(read) {
                    active.out = false;
                }
            }
            // It was released meanwhile.
            Err(libc::ENOENT) => self.fail(read, ReadFault::Gone, log),
            Err(errno) => self.fail(read, ReadFault::Io(errno), log),
        }
    }

    /// Bytes came.
    pub(super) fn read(&mut self, read: usize, result: i32, buffer: AlignedBuffer, log: &Log) {
        let Ok(count) = usize::try_from(result) else {
            self.fail(read, ReadFault::Io(-result), log);
            return;
        };
        let Some(Some(active)) = self.active.get_mut(read) else { return };
        active.out = false;
        let bytes = buffer.as_slice().get(..count).unwrap_or_default();
        let token = active.token;
        match &mut active.reader {
            Reader::Fetch(fetch) => match fetch.feed(log, bytes) {
                Ok(None) => {}
                Ok(Some(record)) => {
                    self.free(read);
                    self.tell(token, Ok(record));
                }
                Err(fault) => self.fail(read, fault, log),
            },
            Reader::Walk(walk) => {
                if let Err(fault) = walk.feed(bytes) {
                    self.fail(read, fault, log);
                }
            }
            Reader::Window { number, .. } => {
                self.windows.came(*number, buffer, count);
                self.free(read);
            }
        }
    }

    fn finish(&mut self, read: usize, log: &Log) {
        let Some(active) = self.active.get_mut(read).and_then(Option::take) else { return };
        if let Reader::Walk(walk) = active.reader {
            self.answers.push_back(Answer::Chunk(active.token, Ok(walk.finish(log))));
        }
    }

    fn fail(&mut self, read: usize, fault: ReadFault, log: &Log) {
        let Some(active) = self.active.get_mut(read).and_then(Option::take) else { return };
        match active.reader {
            Reader::Fetch(_) => self.tell(active.token, Err(fault)),
            Reader::Walk(_) => self.answers.push_back(Answer::Chunk(active.token, Err(fault))),
            Reader::Window { number, .. } => {
                // One bad sector must not cost those whose records lie beside it.
                self.alone.extend(self.windows.failed(number, log).into_iter().rev());
            }
        }
    }

    fn free(&mut self, read: usize) {
        if let Some(place) = self.active.get_mut(read) {
            *place = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Action, Identity, Manifest, Outcome, Resume, Settings, Urgency};
    use std::fs;

    /// A log of so many records, and the bytes of its first segment.
    fn written(count: u8) -> (Log, Vec<Place>, Vec<u8>) {
        let settings = Settings {
            segment_bytes: 1 << 20,
            batch_bytes_max: 0x1000,
            spares: 1,
            ..Settings::new(Identity { broker: [7; 16], shard: 0 })
        };
        let manifest = Manifest::fresh(1, settings.segment_blocks());
        let mut log = Log::open(settings, &Resume::fresh(manifest), 77);
        let mut segment = vec![0; 1 << 20];
        let append = |n| log.append(1, &[n; 1000], Urgency::Usual).unwrap();
        let places = (0..count).map(append).collect();
        while let Some(operation) = log.next() {
            let outcome = match &operation.action {
                Action::Write(write) => {
                    if write.file == crate::log::File::Segment(1) {
                        let at = usize::try_from(write.offset()).unwrap();
                        segment[at..at + write.bytes().len()].copy_from_slice(write.bytes());
                    }
                    Outcome::Wrote(write.bytes().len())
                }
                Action::Sync(_)
                | Action::Create(_)
                | Action::Rename(..)
                | Action::SyncDirectory
                | Action::Remove(_) => Outcome::Done,
            };
            log.complete(operation, outcome);
        }
        (log, places, segment)
    }

    #[test]
    fn a_bad_sector_costs_only_the_records_in_it() {
        let (log, places, segment) = written(30);
        let bad = log.index().find(places[7].lsn).unwrap();
        let file = Rc::new(OwnedFd::from(fs::File::open("/dev/null").unwrap()));
        let mut reads = Reads::default();
        for (token, place) in (0..).zip(&places) {
            reads.fetch(*place, token).unwrap();
        }
        let (mut answers, mut count) = (Vec::new(), 0);
        loop {
            while let Some(next) = reads.next(&log, |_| Some(Rc::clone(&file))) {
                let Next::Errand(errand) = next else { panic!("it is open") };
                let (Duty::Read { read }, Call::Read { offset, mut buffer, .. }) = errand.unpack()
                else {
                    panic!("it reads");
                };
                count += 1;
                let at = usize::try_from(offset).unwrap();
                let bytes = buffer.len();
                let hit = offset < bad.end() && bad.offset < offset + bytes as u64;
                buffer.as_mut_slice().copy_from_slice(&segment[at..at + bytes]);
                let result = if hit { -libc::EIO } else { i32::try_from(bytes).unwrap() };
                reads.read(read, result, buffer, &log);
            }
            let Some(answer) = reads.answer() else { break };
            answers.push(answer);
        }
        assert!(reads.is_idle());
        answers.sort_by_key(|answer| match answer {
            Answer::Record(token, _) | Answer::Chunk(token, _) => *token,
        });
        assert_eq!(answers.len(), 30);
        for (n, (answer, place)) in (0..).zip(answers.iter().zip(&places)) {
            let Answer::Record(_, result) = answer else { panic!("a record was wanted") };
            if log.index().find(place.lsn) == Some(bad) {
                assert_eq!(*result, Err(ReadFault::Io(libc::EIO)));
            } else {
                assert_eq!(result.as_ref().unwrap().body, [n; 1000]);
            }
        }
        assert!(count <= 31, "{count} reads");
    }
}
