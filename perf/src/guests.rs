//! Clients that come, subscribe and leave, at a fixed rate, beside the others.
//!
//! ```text
//! due ─▶ connect ─▶ CONNECT ─▶ CONNACK ─▶ SUBSCRIBE ─▶ SUBACK ─▶ DISCONNECT, close
//! ```
//! Guest k is due at start + k / rate; its time counts from there to its SUBACK. When `connecting`
//! of them are on their way the next ones wait, and their time runs.

use crate::clock::{Clock, SECOND_NS};
use crate::fleet::{Dialing, source_address};
use crate::handshake::{self, Session};
use crate::link::{Arrived, Link};
use crate::wire::Frame;
use anyhow::{Context, Result, anyhow, bail};
use culex::codec::Qos;
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use std::time::Duration;

/// Largest time that is told from a larger one.
const TIME_NS_MAX: u64 = 100 * SECOND_NS;
/// Nothing but CONNACK and SUBACK comes.
const READ_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialing,
    AwaitsConnack,
    AwaitsSuback,
}

#[derive(Debug)]
struct Guest {
    link: Link,
    stage: Stage,
    number: u64,
    due_ns: u64,
}

/// See the module.
pub(crate) struct Guests {
    poll: Poll,
    events: Events,
    clock: Clock,
    dialing: Dialing,
    per_s: u64,
    start_ns: u64,
    next: u64,
    seats: Vec<Option<Guest>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    open: bool,
    /// Guests that have left after their SUBACK.
    pub(crate) served: u64,
    /// Time in ns from when a guest was due to its SUBACK.
    pub(crate) took_ns: Histogram<u64>,
}

impl Guests {
    /// The first one is due at `start_ns`.
    pub(crate) fn new(dialing: Dialing, per_s: u64, clock: Clock, start_ns: u64) -> Result<Self> {
        let seats = dialing.connecting_max;
        Ok(Self {
            poll: Poll::new().context("opening epoll")?,
            events: Events::with_capacity(1024),
            clock,
            dialing,
            per_s,
            start_ns,
            next: 0,
            seats: std::iter::repeat_with(|| None).take(seats).collect(),
            free: (0..seats).collect(),
            buffer: vec![0; READ_BYTES],
            open: true,
            served: 0,
            took_ns: Histogram::new_with_max(TIME_NS_MAX, 3)?,
        })
    }

    /// Nobody comes any more.
    pub(crate) fn shut(&mut self) {
        self.open = false;
    }

    /// Has everybody left.
    pub(crate) fn are_gone(&self) -> bool {
        self.free.len() == self.seats.len()
    }

    fn due_ns(&self) -> u64 {
        self.start_ns + self.next * SECOND_NS / self.per_s
    }

    /// Lets in who is due and serves the sockets, without waiting.
    pub(crate) fn turn(&mut self) -> Result<()> {
        while self.open && self.due_ns() <= self.clock.now_ns() {
            let Some(seat) = self.free.pop() else { break };
            self.come(seat)?;
        }
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        if let Err(error) = self.poll.poll(&mut events, Some(Duration::ZERO))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error).context("waiting for guests");
        }
        for event in &events {
            let Token(seat) = event.token();
            let number = self.seats.get(seat).and_then(|guest| Some(guest.as_ref()?.number));
            self.serve(seat, event.is_writable()).with_context(|| format!("guest {number:?}"))?;
        }
        self.events = events;
        Ok(())
    }

    fn come(&mut self, seat: usize) -> Result<()> {
        let (number, due_ns) = (self.next, self.due_ns());
        self.next += 1;
        let Dialing { target, below, .. } = &self.dialing;
        let spread = usize::try_from(number).unwrap_or(0);
        let source = source_address(*target, spread);
        let mut link = Link::connect(*target, source, below, number)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut link.stream, Token(seat), interest)?;
        if let Some(place) = self.seats.get_mut(seat) {
            *place = Some(Guest { link, stage: Stage::Dialing, number, due_ns });
        }
        Ok(())
    }

    fn serve(&mut self, seat: usize, writable: bool) -> Result<()> {
        let Some(Some(guest)) = self.seats.get_mut(seat) else { return Ok(()) };
        if guest.stage == Stage::Dialing {
            if let Some(error) = guest.link.stream.take_error()? {
                return Err(error).context("connecting");
            }
            if !writable {
                return Ok(());
            }
            let client_id = format!("perf-{}-g{}", std::process::id(), guest.number);
            let out = &mut guest.link.out;
            handshake::append_connect(&client_id, self.dialing.version, Session::Transient, out);
            guest.stage = Stage::AwaitsConnack;
            guest.link.flush()?;
        }
        loop {
            match guest.link.read(&mut self.buffer)? {
                Arrived::Nothing => break,
                Arrived::Closed => bail!("the broker closed the connection"),
                Arrived::Bytes { total, more } => {
                    let bytes = self.buffer.get(..total).unwrap_or_default();
                    let (used, done) = guest.take(bytes, &self.dialing)?;
                    guest.link.carry_over(bytes.get(used..).unwrap_or_default());
                    if done {
                        let took_ns = self.clock.now_ns().saturating_sub(guest.due_ns);
                        self.took_ns.saturating_record(took_ns);
                        self.served += 1;
                        guest.link.flush()?;
                        self.leave(seat)?;
                        return Ok(());
                    }
                    if !more {
                        break;
                    }
                }
            }
        }
        guest.link.flush()
    }

    fn leave(&mut self, seat: usize) -> Result<()> {
        if let Some(mut guest) = self.seats.get_mut(seat).and_then(Option::take) {
            self.poll.registry().deregister(&mut guest.link.stream)?;
            self.free.push(seat);
        }
        Ok(())
    }
}

impl Guest {
    /// Reads answers; returns the bytes used and whether the guest has said goodbye.
    fn take(&mut self, bytes: &[u8], dialing: &Dialing) -> Result<(usize, bool)> {
        let (version, qos) = (dialing.version, Qos::AtMostOnce);
        let mut rest = bytes;
        let malformed = |_| anyhow!("an answer that cannot be read");
        while let Some(frame) = Frame::split(rest).map_err(malformed)? {
            if self.stage == Stage::AwaitsConnack {
                handshake::accept_connack(rest, frame, false, version)?;
                let filters = [format!("perf/guests/{}", self.number)];
                handshake::append_subscribes(&filters, qos, version, &mut self.link.out);
                self.stage = Stage::AwaitsSuback;
            } else {
                handshake::accept_suback(rest, frame, qos, version)?;
                handshake::append_disconnect(version, &mut self.link.out);
                return Ok((bytes.len() - frame.rest.len(), true));
            }
            rest = frame.rest;
        }
        Ok((bytes.len() - rest.len(), false))
    }
}
