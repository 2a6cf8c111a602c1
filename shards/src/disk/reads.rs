//! Records on their way back from the disk.
//!
//! Promise: every request that was taken is answered once, unless the log fails. Limits:
//! [`READS_MAX`] requests at a time, each with at most 1 MiB in flight and one record in memory;
//! [`WAITING_MAX`] more wait; further ones are refused with [`Refused::Full`].

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::errand::{Call, Duty, Errand};
use super::faults::{self, Fault};
use crate::log::{
    AlignedBuffer, Chunk, Cursor, Fetch, Log, Place, ReadFault, Refused, Step, StoredRecord, Walk,
};

/// Requests that are worked on at a time.
const READS_MAX: usize = 16;
/// Requests that may wait for their turn.
pub(super) const WAITING_MAX: usize = 4096;
/// Segments kept open for reading.
const OPEN_MAX: usize = 16;

#[derive(Debug)]
enum Request {
    Record(Place),
    Walk(Cursor, usize),
}

#[derive(Debug)]
enum Reader {
    Fetch(Fetch),
    Walk(Walk),
}

impl Reader {
    fn next(&mut self, log: &Log) -> Step {
        match self {
            Reader::Fetch(fetch) => fetch.next(log),
            Reader::Walk(walk) => walk.next(log),
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
    waiting: VecDeque<(u64, Request)>,
    active: Vec<Option<Active>>,
    answers: VecDeque<Answer>,
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
        self.take(token, Request::Record(place))
    }

    pub(super) fn walk(&mut self, from: Cursor, bytes: usize, token: u64) -> Result<(), Refused> {
        self.take(token, Request::Walk(from, bytes))
    }

    fn take(&mut self, token: u64, request: Request) -> Result<(), Refused> {
        if self.waiting.len() >= WAITING_MAX {
            return Err(Refused::Full);
        }
        self.waiting.push_back((token, request));
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.answers.is_empty()
            && self.active.iter().all(Option::is_none)
    }

    pub(super) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn answer(&mut self) -> Option<Answer> {
        self.answers.pop_front()
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
    }

    /// Something to do for a read, if there is.
    pub(super) fn next(
        &mut self,
        log: &Log,
        writing: impl Fn(u64) -> Option<Rc<OwnedFd>>,
    ) -> Option<Next> {
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
                    self.fail(at, ReadFault::Io(errno));
                    continue;
                }
                Fault::None | Fault::Skip | Fault::Short | Fault::DelayMs(_) => {}
            }
            let call = Call::Read { file, offset: extent.offset, buffer };
            return Some(Next::Errand(Errand::new(Duty::Read { read: at }, call)));
        }
        None
    }

    /// Requests become active: in their order, as soon as what they want has been written.
    fn begin(&mut self, log: &Log) {
        while let Some((token, request)) = self.waiting.front() {
            let token = *token;
            let free = self.active.iter().position(Option::is_none);
            if free.is_none() && self.active.len() >= READS_MAX {
                return;
            }
            let reader = match request {
                Request::Record(place) if place.lsn >= log.next_lsn() => Err(ReadFault::Gone),
                Request::Record(place) if place.lsn > log.settled() => return,
                Request::Record(place) => Fetch::begin(log, *place).map(Reader::Fetch),
                Request::Walk(from, bytes) => Ok(Reader::Walk(Walk::begin(log, *from, *bytes))),
            };
            self.waiting.pop_front();
            match reader {
                Err(fault) => self.answers.push_back(Answer::Record(token, Err(fault))),
                Ok(reader) => {
                    let active = Some(Active { token, reader, out: false });
                    match free.and_then(|at| self.active.get_mut(at)) {
                        Some(place) => *place = active,
                        None => self.active.push(active),
                    }
                }
            }
        }
    }

    /// The segment is open, or could not be opened; the read goes on.
    pub(super) fn opened(&mut self, read: usize, segment: u64, file: Result<OwnedFd, i32>) {
        match file {
            Ok(file) => {
                self.keep_open(segment, Rc::new(file));
                if let Some(Some(active)) = self.active.get_mut(read) {
                    active.out = false;
                }
            }
            // It was released meanwhile.
            Err(libc::ENOENT) => self.fail(read, ReadFault::Gone),
            Err(errno) => self.fail(read, ReadFault::Io(errno)),
        }
    }

    /// Bytes came.
    pub(super) fn read(&mut self, read: usize, result: i32, buffer: &AlignedBuffer, log: &Log) {
        let Ok(bytes) = usize::try_from(result) else {
            self.fail(read, ReadFault::Io(-result));
            return;
        };
        let Some(Some(active)) = self.active.get_mut(read) else { return };
        active.out = false;
        let bytes = buffer.as_slice().get(..bytes).unwrap_or_default();
        let fed = match &mut active.reader {
            Reader::Fetch(fetch) => fetch.feed(log, bytes),
            Reader::Walk(walk) => walk.feed(bytes).map(|()| None),
        };
        match fed {
            Ok(None) => {}
            Ok(Some(record)) => {
                let token = active.token;
                self.answers.push_back(Answer::Record(token, Ok(record)));
                self.free(read);
            }
            Err(fault) => self.fail(read, fault),
        }
    }

    fn finish(&mut self, read: usize, log: &Log) {
        let Some(active) = self.active.get_mut(read).and_then(Option::take) else { return };
        if let Reader::Walk(walk) = active.reader {
            self.answers.push_back(Answer::Chunk(active.token, Ok(walk.finish(log))));
        }
    }

    fn fail(&mut self, read: usize, fault: ReadFault) {
        let Some(active) = self.active.get_mut(read).and_then(Option::take) else { return };
        self.answers.push_back(match active.reader {
            Reader::Fetch(_) => Answer::Record(active.token, Err(fault)),
            Reader::Walk(_) => Answer::Chunk(active.token, Err(fault)),
        });
    }

    fn free(&mut self, read: usize) {
        if let Some(place) = self.active.get_mut(read) {
            *place = None;
        }
    }
}
