//! Larger reads that neighbouring records share.
//!
//! Promise: requests for records are answered in rounds, each in the order of the log, so that one
//! read brings all that is wanted of a stretch of a segment. Who asks waits for the round before at
//! most. Memory: [`WINDOWS_MAX`] windows of at most [`WINDOW_BYTES`] and the start of one record,
//! and 24 bytes for each request.
//!
//! ```text
//!   ask ─▶ asked ─ round is empty: sort ─▶ round ─ plan: window is read ─▶ answer, in order
//! ```

use std::collections::VecDeque;

use crate::log::{AlignedBuffer, Extent, Fetch, Log, Place, ReadFault, StoredRecord, offset};

/// Bytes of a segment that one read brings, but for the start of the last record.
const WINDOW_BYTES: usize = 128 * 1024;
/// Windows that are being read or kept for what is asked for next.
const WINDOWS_MAX: usize = 8;
/// Of these so many are being read at a time.
const READING_MAX: usize = 4;

/// A record that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) place: Place,
    pub(super) token: u64,
}

#[derive(Debug)]
struct Window {
    number: u64,
    /// The last round that wants something of it.
    round: u64,
    extent: Extent,
    /// What was read of it.
    bytes: Option<(AlignedBuffer, usize)>,
}

impl Window {
    fn holds(&self, wanted: &Extent) -> bool {
        let Extent { segment, offset, .. } = self.extent;
        segment == wanted.segment && offset <= wanted.offset && wanted.end() <= self.extent.end()
    }
}

/// What has become of the request that is next.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is over.
    Answer(u64, Result<StoredRecord, ReadFault>),
    /// The record does not lie in one window.
    Alone(Request),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// For the next round.
    asked: Vec<Request>,
    /// Those of this round, the next one last.
    round: Vec<Request>,
    round_number: u64,
    /// So many of them, the next ones, have a window.
    planned: usize,
    held: VecDeque<Window>,
    next_number: u64,
    reading: usize,
    /// Where the window that was planned last ends.
    end: (u64, u64),
}

impl Windows {
    pub(super) fn ask(&mut self, request: Request) {
        self.asked.push(request);
    }

    /// Requests that are not answered.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len() + self.round.len()
    }

    pub(super) fn keeps_any(&self) -> bool {
        !self.held.is_empty()
    }

    /// Gives the memory of windows back.
    pub(super) fn clear(&mut self) {
        self.held.retain(|window| window.bytes.is_none());
        self.asked.shrink_to(0);
        self.round.shrink_to(0);
    }

    /// The next request, if it need not wait for the disk.
    pub(super) fn next(&mut self, log: &Log) -> Option<Turn> {
        if self.round.is_empty() {
            self.begin_round(log);
        }
        let request = *self.round.last()?;
        let turn = match find(log, request.place) {
            Err(fault) => Turn::Answer(request.token, Err(fault)),
            Ok(fetch) => {
                let wanted = fetch.wanted();
                let Some(window) = self.held.iter().find(|window| window.holds(&wanted)) else {
                    // Never so if it was planned; but a request must not wait for nothing.
                    self.planned = 0;
                    return None;
                };
                let (buffer, count) = window.bytes.as_ref()?;
                let bytes = buffer.as_slice().get(..*count).unwrap_or_default();
                match fetch.find_in(window.extent.offset, bytes) {
                    Some(result) => Turn::Answer(request.token, result),
                    None => Turn::Alone(request),
                }
            }
        };
        self.round.pop();
        self.planned = self.planned.saturating_sub(1);
        Some(turn)
    }

    /// What was asked for and is written comes next, in the order of the log.
    fn begin_round(&mut self, log: &Log) {
        let ready = |request: &mut Request| !log.is_coming(request.place.lsn);
        self.round.extend(self.asked.extract_if(.., ready));
        self.round.sort_unstable_by_key(|request| (request.place, request.token));
        self.round.reverse();
        self.planned = 0;
        self.round_number += 1;
    }

    /// A window that should be read now, by its number.
    pub(super) fn plan(&mut self, log: &Log) -> Option<(u64, Extent)> {
        let mut new: Option<Extent> = None;
        let mut wanted_end = 0;
        while let Some(request) = self.round.iter().rev().nth(self.planned) {
            // One that is gone needs no window.
            if let Ok(fetch) = find(log, request.place) {
                let wanted = fetch.wanted();
                let round = self.round_number;
                if let Some(extent) = &new {
                    let span = wanted.offset.checked_sub(extent.offset);
                    let near = span.is_some_and(|span| span < offset(WINDOW_BYTES));
                    if wanted.segment != extent.segment || !near {
                        break;
                    }
                    wanted_end = wanted.end().max(wanted_end);
                } else if let Some(known) = self.held.iter_mut().find(|w| w.holds(&wanted)) {
                    known.round = round;
                } else {
                    if self.reading >= READING_MAX || !self.make_room(log) {
                        return None;
                    }
                    wanted_end = wanted.end();
                    new = Some(wanted);
                }
            }
            self.planned += 1;
        }
        let mut extent = new?;
        let goes_on = self.end.0 == extent.segment
            && (self.end.1..self.end.1 + offset(WINDOW_BYTES)).contains(&extent.offset);
        if goes_on {
            // Who reads on will want what follows.
            let full = extent.offset + offset(WINDOW_BYTES);
            wanted_end = full.min(log.written_until(extent.segment)).max(wanted_end);
        }
        extent.bytes = usize::try_from(wanted_end - extent.offset).unwrap_or(WINDOW_BYTES);
        self.end = (extent.segment, extent.end());
        self.next_number += 1;
        let (number, round) = (self.next_number, self.round_number);
        self.held.push_back(Window { number, round, extent, bytes: None });
        self.reading += 1;
        Some((number, extent))
    }

    /// There may be one more window: the oldest that this round does not want goes.
    fn make_room(&mut self, log: &Log) -> bool {
        if self.held.len() < WINDOWS_MAX {
            return true;
        }
        let next = self.round.last().and_then(|next| find(log, next.place).ok());
        let next = next.map(|fetch| fetch.wanted());
        let round = self.round_number;
        let passed = |window: &Window| {
            let end = (window.extent.segment, window.extent.end());
            window.round != round || next.is_some_and(|next| end <= (next.segment, next.offset))
        };
        let old = self.held.iter().position(|w| w.bytes.is_some() && passed(w));
        old.and_then(|at| self.held.remove(at)).is_some()
    }

    /// A window was read.
    pub(super) fn came(&mut self, number: u64, buffer: AlignedBuffer, count: usize) {
        self.reading = self.reading.saturating_sub(1);
        if let Some(window) = self.held.iter_mut().find(|window| window.number == number) {
            window.bytes = Some((buffer, count));
        }
    }

    /// A window cannot be read: gives the requests that wanted something of it. What each wants of
    /// it may be whole, so they are to be read alone.
    pub(super) fn failed(&mut self, number: u64, log: &Log) -> Vec<Request> {
        self.reading = self.reading.saturating_sub(1);
        let Some(at) = self.held.iter().position(|window| window.number == number) else {
            return Vec::new();
        };
        let Some(window) = self.held.remove(at) else { return Vec::new() };
        let unplanned = self.round.len() - self.planned;
        let lost = self.round.extract_if(unplanned.., |request| {
            find(log, request.place).is_ok_and(|fetch| window.holds(&fetch.wanted()))
        });
        let lost: Vec<Request> = lost.collect();
        self.planned -= lost.len();
        lost
    }

    /// The segment is gone.
    pub(super) fn forget(&mut self, segment: u64) {
        let here = |window: &Window| window.extent.segment == segment && window.bytes.is_some();
        self.held.retain(|window| !here(window));
    }
}

/// Where a record lies that has settled.
fn find(log: &Log, place: Place) -> Result<Fetch, ReadFault> {
    if place.lsn > log.settled() { Err(ReadFault::Gone) } else { Fetch::begin(log, place) }
}
