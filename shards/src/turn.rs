//! The loop of one shard.
//!
//! ```text
//!   stop? ─▶ controls ─▶ kept bytes ─▶ timers ─▶ ends ─▶ finish_turn ─▶ outboxes, bells, log
//!                                                                        │
//!     completions ◀── mail ◀── enter: submit; sleep if nothing is pending ◀┘
//!      └─▶ what is durable, what was read back
//! ```
//!
//! Mail comes before the completions of the same `enter`: what a peer sent because it had been told
//! something by another shard is handled after all that this shard had posted before it told.
//!
//! The loop is the only task of its glommio executor and never yields: glommio's reactor is not
//! entered. Files are on the same ring as the network: nothing else has to be waited for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use socket2::SockRef;

use crate::clock::Clock;
use crate::disk::Answer;
use crate::engine::Shared;
use crate::handler::{Accepted, Handler};
use crate::io::Io;
use crate::log::Failure;
use crate::mesh::{Letter, Parcel};
use crate::net::Fate;
use crate::net::ring::{Buffers, Event};
use crate::thrift::WAVE_WEIGHT;
use crate::time::Millis;

/// Completions handled before the outputs they caused are sent.
const COMPLETIONS_PER_TURN: usize = 1024;
/// When the buffers run out although a turn brought less than this, there are more connections
/// than buffers, and more are filled in. Otherwise they hold enough: what a turn brings and what it
/// sends should stay in the cache between the kernel's copies.
const FULL_TURN_BYTES: u64 = 128 << 10;
/// Controls taken per turn.
const CONTROLS_PER_TURN: usize = 64;
/// A full mailbox is tried again after this time even if nothing else happens.
const BLOCKED_RETRY_MS: u64 = 1;
/// After the grace period: time for the kernel to give back what was cut.
const CUT_MS: u64 = 1_000;
/// The same for a shard with a log: time to write what waits, and to close it.
const CLOSE_MS: u64 = 10_000;

/// One shard.
pub(crate) struct Driver<H: Handler> {
    pub(crate) handler: H,
    pub(crate) io: Io<H::Mail, H::Luggage>,
    pub(crate) buffers: Buffers,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    pub(crate) stop_grace_ms: u64,
    /// Connections from other shards that are adopted when all that the kernel had before them has
    /// been handled: a peer that ends one connection and opens the next is seen in that order.
    pub(crate) arrivals: Vec<Parcel<H::Luggage>>,
    /// So many of them came before the ring was entered last.
    pub(crate) arrived: usize,
    /// What other threads tell this shard.
    pub(crate) controls: Receiver<H::Control>,
}

/// Why a shard ended by itself.
#[derive(Debug)]
pub(crate) enum Broken {
    Ring(io::Error),
    Log(Failure),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Ring(error)
    }
}

/// What the other shards know of this one while the engine stops.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    at_rest: bool,
    closing: bool,
    closed: bool,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// Connections may still end in good order until then.
    Stopping {
        cut_at: Millis,
    },
    /// Everything has been cut; over at the latest then.
    Cut {
        over_at: Millis,
    },
}

/// Ends the process when a panic passes by: before the state of the shard is dropped, and before
/// glommio could catch it.
pub(crate) struct AbortOnPanic(pub(crate) usize);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(shard = self.0, "the shard panicked, the process ends");
            std::process::abort();
        }
    }
}

impl<H: Handler> Driver<H> {
    /// Runs until the engine stops.
    ///
    /// # Errors
    /// If the ring cannot be entered, which no program can mend, or the log has failed.
    pub(crate) fn run(mut self) -> Result<(), Broken> {
        let _abort = AbortOnPanic(self.io.shard);
        let shared = Arc::clone(&self.shared);
        let place = shared.place(self.io.shard);
        self.io.net.ring.poll(place.event.as_raw_fd());
        self.handler.on_start(&mut self.io);
        if self.io.log.is_some() {
            // What the log held has another form now.
            self.io.net.thrift.wave(self.clock.now());
        }
        let mut phase = Phase::Running;
        let mut turn = 0;
        let mut received_before = 0;
        let mut known = Known::default();
        loop {
            turn += 1;
            place.pulse.beat(turn);
            self.io.now = self.clock.now();
            phase = self.advance(phase);
            self.drain_controls();
            // Behind the controls, which may bring listeners: an idle shard sleeps after this turn.
            self.io.listeners.arm(&mut self.io.net.ring, self.io.now);
            self.deliver_kept();
            self.tick();
            self.tell_closed();
            self.handler.finish_turn(&mut self.io);
            self.io.net.settle_ended(self.io.now);
            self.give_memory_back();
            if self.io.net.is_hungry() {
                if self.io.net.stats.bytes_in - received_before < FULL_TURN_BYTES {
                    self.buffers.grow();
                }
                self.io.net.settle_hungry();
            }
            received_before = self.io.net.stats.bytes_in;
            if phase == Phase::Running {
                self.flush_outboxes();
            } else {
                place.sent.store(self.io.mesh.sent_at_most(), Ordering::SeqCst);
                self.flush_outboxes();
                place.sent.store(self.io.mesh.sent(), Ordering::SeqCst);
                self.tell_rest(&mut known);
            }
            self.io.run_log();
            if self.is_over(phase) {
                return Ok(());
            }
            self.arrived = self.arrivals.len();
            self.rest(phase)?;
            place.doorbell.unpark();
            place.pulse.wake();
            self.io.now = self.clock.now();
            self.drain_mail();
            self.handle_events();
            self.adopt_arrivals();
            self.tell_log()?;
        }
    }

    /// After many connections have gone, or many letters: the allocator would keep what is freed
    /// by a shard that has nothing more to do, and what others free of it.
    fn give_memory_back(&mut self) {
        let now = self.io.now;
        let shrunk = self.io.net.has_shrunk();
        if shrunk {
            self.handler.on_few();
        }
        if shrunk && self.io.net.len() == 0 {
            self.buffers.give_memory_back(&mut self.io.net.ring);
        }
        if shrunk || self.io.mesh.waiting() > WAVE_WEIGHT {
            self.io.net.thrift.wave(now);
        }
        if self.io.net.thrift.is_due(now) {
            crate::sys::give_memory_back();
        }
    }

    /// Tells the other shards that there is nothing left to do here; when that is so everywhere,
    /// closes the log.
    fn tell_rest(&mut self, known: &mut Known) {
        let shared = &self.shared;
        let done = self.io.net.len() == 0
            && self.io.mesh.waiting() == 0
            && !self.io.mesh.has_mail()
            && self.arrivals.is_empty()
            && self.io.log.as_ref().is_none_or(|log| log.is_at_rest());
        if done != known.at_rest {
            known.at_rest = done;
            shared.set_at_rest(done);
        }
        // Only now: who sees that mail was taken also sees what it led to.
        let place = shared.place(self.io.shard);
        place.taken.store(self.io.mesh.taken(), Ordering::SeqCst);
        if !known.closing && shared.is_closing() {
            known.closing = true;
            if let Some(log) = &mut self.io.log {
                log.close();
            }
        }
        let log_closed = self.io.log.as_ref().is_none_or(|log| log.is_closed());
        if known.closing && !known.closed && log_closed {
            known.closed = true;
            shared.set_closed();
        }
    }

    /// Tells the handler what the log has reached.
    ///
    /// # Errors
    /// If it has failed.
    fn tell_log(&mut self) -> Result<(), Broken> {
        let Some(log) = &mut self.io.log else { return Ok(()) };
        if let Some(failure) = log.failed() {
            self.handler.on_log_failed(&mut self.io, failure);
            return Err(Broken::Log(failure));
        }
        if let Some(lsn) = log.risen() {
            self.handler.on_durable(&mut self.io, lsn);
        }
        while let Some(answer) = self.io.log.as_mut().and_then(|log| log.answer()) {
            match answer {
                Answer::Record(token, result) => {
                    self.handler.on_record(&mut self.io, token, result);
                }
                Answer::Chunk(token, result) => self.handler.on_chunk(&mut self.io, token, result),
            }
        }
        Ok(())
    }

    fn advance(&mut self, phase: Phase) -> Phase {
        let now = self.io.now;
        match phase {
            Phase::Running if self.shared.is_stopping() => {
                self.io.listeners.stop(&mut self.io.net.ring);
                self.handler.on_stop(&mut self.io);
                Phase::Stopping { cut_at: now.after(self.stop_grace_ms) }
            }
            Phase::Stopping { cut_at } if now >= cut_at => {
                self.io.net.close_all();
                let ms = if self.io.log.is_some() { CLOSE_MS } else { CUT_MS };
                Phase::Cut { over_at: now.after(ms) }
            }
            Phase::Running | Phase::Stopping { .. } | Phase::Cut { .. } => phase,
        }
    }

    /// A shard that is done goes on moving mail until all are done.
    fn is_over(&self, phase: Phase) -> bool {
        let over = match phase {
            Phase::Running => false,
            Phase::Stopping { .. } => self.shared.all_closed(),
            Phase::Cut { over_at } => self.shared.all_closed() || self.io.now >= over_at,
        };
        over || self.shared.is_abandoned()
    }

    /// All that is there, which the bounds of the mailboxes limit.
    fn drain_mail(&mut self) {
        for from in 0..self.io.shards() {
            for _ in 0..self.io.mesh.batches(from) {
                let Some(mut batch) = self.io.mesh.take(from) else { break };
                for letter in batch.letters.drain(..) {
                    match letter {
                        Letter::Mail(mail) => self.handler.on_mail(&mut self.io, from, mail),
                        Letter::Socket(parcel) => self.arrivals.push(*parcel),
                    }
                }
                self.io.mesh.recycle(from, batch);
            }
        }
    }

    fn drain_controls(&mut self) {
        for _ in 0..CONTROLS_PER_TURN {
            let Ok(control) = self.controls.try_recv() else { return };
            self.handler.on_control(&mut self.io, control);
        }
    }

    /// The ring was entered after they came; once it has no more events, what their peers did
    /// before is done.
    fn adopt_arrivals(&mut self) {
        if !self.io.net.ring.has_events() {
            let arrived = std::mem::take(&mut self.arrived);
            for parcel in self.arrivals.drain(..arrived).collect::<Vec<_>>() {
                self.adopt(parcel);
            }
        }
    }

    fn adopt(&mut self, parcel: Parcel<H::Luggage>) {
        let Parcel { fd, accepted, kept, luggage } = parcel;
        if self.io.listeners.is_stopped() {
            self.io.net.stats.refused += 1;
            return;
        }
        if let Some(conn) = self.io.net.insert(fd, accepted) {
            self.io.net.stats.adopts += 1;
            self.io.net.restore(conn, kept);
            self.handler.on_adopt(&mut self.io, conn, accepted, luggage);
            self.io.net.arm(conn);
        }
    }

    fn deliver_kept(&mut self) {
        for conn in self.io.net.take_resumed() {
            if let Some(kept) = self.io.net.take_kept(conn) {
                if !kept.is_empty() {
                    self.handler.on_bytes(&mut self.io, conn, &kept);
                }
                self.io.net.after_kept(conn);
                self.io.dispatch(conn);
            }
        }
    }

    fn tick(&mut self) {
        self.io.net.tick(self.io.now);
        if self.handler.next_deadline().is_some_and(|deadline| deadline <= self.io.now) {
            self.handler.on_tick(&mut self.io);
        }
    }

    fn tell_closed(&mut self) {
        while let Some((conn, cause)) = self.io.net.take_closed() {
            self.handler.on_closed(&mut self.io, conn, cause);
            self.io.net.told(conn);
        }
    }

    fn flush_outboxes(&mut self) {
        if self.io.mesh.waiting() == 0 {
            return;
        }
        self.io.mesh.start_flush();
        for to in 0..self.io.shards() {
            let flushed = self.io.mesh.flush(to);
            self.io.net.stats.mailboxes_full += u64::from(flushed.blocked);
            if flushed.sent && to != self.io.shard {
                self.knock(to);
            }
        }
    }

    fn knock(&mut self, to: usize) {
        let place = self.shared.place(to);
        if place.doorbell.knock() {
            self.io.net.stats.rings += 1;
            match (place.ring_fd.get(), u32::try_from(to)) {
                (Some(&ring_fd), Ok(shard)) => self.io.net.ring.knock(ring_fd, shard),
                _ => place.event.ring(),
            }
        }
    }

    /// Submits, and sleeps if nothing is pending.
    fn rest(&mut self, phase: Phase) -> io::Result<()> {
        let deadline = self.deadline(phase);
        let place = self.shared.place(self.io.shard);
        let net = &mut self.io.net;
        let pending = net.is_pending()
            || !self.arrivals.is_empty()
            || net.ring.has_events()
            || deadline.is_some_and(|deadline| deadline <= self.io.now)
            || self.io.log.as_ref().is_some_and(|log| log.has_news())
            || (phase == Phase::Running && self.shared.is_stopping());
        if pending || !place.doorbell.park(|| self.io.mesh.has_mail() || !self.controls.is_empty())
        {
            if net.ring.has_work() || !self.arrivals.is_empty() {
                net.stats.enters += 1;
                return net.ring.enter(None);
            }
            return Ok(());
        }
        let wait = deadline
            .map_or(Duration::MAX, |deadline| Duration::from_millis(deadline.since(self.io.now)));
        net.stats.enters += 1;
        net.stats.sleeps += 1;
        place.pulse.sleep(deadline);
        net.ring.enter(Some(wait))
    }

    fn deadline(&self, phase: Phase) -> Option<Millis> {
        let blocked = self.io.mesh.is_blocked().then(|| self.io.now.after(BLOCKED_RETRY_MS));
        let stop = match phase {
            Phase::Running => None,
            Phase::Stopping { cut_at } => Some(cut_at),
            Phase::Cut { over_at } => Some(over_at),
        };
        let lingering = self.io.net.next_deadline();
        let accept = self.io.listeners.next_deadline();
        let log = self.io.log.as_ref().and_then(|log| log.next_deadline());
        let thrift = self.io.net.thrift.next_deadline();
        let all = [self.handler.next_deadline(), lingering, accept, blocked, log, stop, thrift];
        all.into_iter().flatten().min()
    }

    fn handle_events(&mut self) {
        for _ in 0..COMPLETIONS_PER_TURN {
            let Some(event) = self.io.net.ring.next_event() else { return };
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Received { conn, filled, more } => {
                match self.io.net.received(conn, filled.bytes(), more) {
                    Fate::Deliver => {
                        let bytes = self.buffers.bytes(&filled);
                        self.handler.on_bytes(&mut self.io, conn, bytes);
                    }
                    Fate::Keep => self.io.net.keep(conn, self.buffers.bytes(&filled)),
                    Fate::Drop => {}
                }
                self.buffers.give_back(filled);
                if !more {
                    self.io.net.after_receive(conn);
                    self.io.dispatch(conn);
                }
            }
            Event::ReceiveEnded { conn, result } => {
                self.io.net.receive_ended(conn, result);
                self.io.dispatch(conn);
            }
            Event::Sent { conn, flight, result } => {
                if let Some(outgoing) = self.io.net.sent(conn, flight, result) {
                    self.handler.on_sent(&mut self.io, conn, outgoing);
                }
            }
            Event::Accepted { listener, result, more } => {
                let error = match result {
                    Ok(fd) => {
                        self.accept(listener, fd);
                        None
                    }
                    Err(error) => Some(error),
                };
                if !more {
                    self.accept_ended(listener, error.as_ref());
                }
            }
            Event::Ran { errand, result, opened } => {
                if let Some(log) = &mut self.io.log {
                    log.completed(&mut self.io.net.ring, errand, result, opened);
                }
            }
            Event::Polled { more: false } => {
                let place = self.shared.place(self.io.shard);
                self.io.net.ring.poll(place.event.as_raw_fd());
            }
            Event::KnockFailed { shard } => self.shared.place(shard as usize).event.ring(),
            Event::Polled { more: true } | Event::Bell | Event::Nothing => {}
        }
    }

    fn accept(&mut self, listener: u32, fd: OwnedFd) {
        if !self.io.listeners.is_open(listener) {
            self.io.net.stats.refused += 1;
            return;
        }
        self.io.net.stats.accepts += 1;
        // A peer that has reset meanwhile has no address any more.
        let Ok(peer) = SockRef::from(&fd).peer_addr() else { return };
        let accepted = Accepted { listener: listener as usize, peer: peer.as_socket() };
        if let Some(conn) = self.io.net.insert(fd, accepted) {
            self.handler.on_accept(&mut self.io, conn, accepted);
            self.io.net.arm(conn);
        }
    }

    fn accept_ended(&mut self, listener: u32, error: Option<&io::Error>) {
        if let Some(error) = error
            && error.raw_os_error() != Some(libc::ECANCELED)
        {
            self.io.net.stats.accept_errors += 1;
            if self.io.listeners.may_complain(self.io.now) {
                tracing::warn!(shard = self.io.shard, %error, "cannot accept connections");
            }
        }
        let turned_away = self.io.listeners.ended(listener, error, self.io.now);
        self.io.net.stats.refused += turned_away as u64;
    }
}
