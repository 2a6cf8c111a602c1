//! Connections and listeners of one shard.
//!
//! Promise: bytes of a connection are delivered in order and none is lost while it is paused or
//! moves to another shard; an entry is used again only when the kernel holds nothing of it and the
//! handler knows that it ended.
//! Not here: the order of a turn (turn), calls into the handler (turn), mailboxes (mesh).
//!
//! ```text
//!   accept / adopt ─▶ open ──close──▶ CLOSING ──handler told, nothing armed──▶ removed
//!                      │ ├─close_after_flush─▶ FLUSHING ──sent──▶ DRAINING ──end/limit─▶ CLOSING
//!                      │ └─hand_over─▶ LEAVING ──nothing armed──▶ parcel
//!                      └─peer ended─▶ ENDED ──nothing in flight──▶ CLOSING
//! ```

pub(crate) mod flight;
pub(crate) mod listener;
pub(crate) mod ring;
pub(crate) mod slab;
pub(crate) mod unix;

use std::collections::VecDeque;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use socket2::SockRef;

use self::flight::Flight;
use self::ring::{Receive, Ring};
use self::slab::{Flag, Slab};
use crate::conn::ConnId;
use crate::handler::{Accepted, Cause};
use crate::mesh::Parcel;
use crate::outgoing::Outgoing;
use crate::stats::NetStats;
use crate::thrift::Thrift;
use crate::time::Millis;
use crate::wheel::Wheel;

/// Flights kept for reuse; more are given back to the allocator.
const FLIGHTS_SPARE_MAX: usize = 256;
/// Bytes read and dropped from a peer that goes on sending while we wait for its end.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// Lingering is checked to this precision.
const LINGER_TICK_MS: u64 = 50;

/// What to do with received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Deliver,
    Keep,
    Drop,
}

/// All connections of a shard and the ring they live on.
#[derive(Debug)]
pub(crate) struct Net<L> {
    pub(crate) ring: Ring,
    pub(crate) stats: NetStats,
    slab: Slab<L>,
    flights: Vec<Flight>,
    /// Ended, the handler does not know yet.
    closed: VecDeque<(ConnId, Cause)>,
    /// Resumed with bytes kept or an end seen.
    resumed: Vec<ConnId>,
    /// Found no free buffer; armed again at the end of the turn.
    hungry: Vec<ConnId>,
    /// The peer ended; closed when nothing is in flight at the end of a turn.
    ended: Vec<ConnId>,
    lingering: Wheel<ConnId>,
    linger_ms: u64,
    /// Most connections since memory was given back.
    peak: usize,
    /// When memory is given back.
    pub(crate) thrift: Thrift,
}

/// So many connections make it worth while to give memory back when they have gone.
const PEAK_MIN: usize = 64;

impl<L> Net<L> {
    pub(crate) fn new(ring: Ring, connections_max: usize, linger_ms: u64, now: Millis) -> Net<L> {
        Net {
            ring,
            stats: NetStats::default(),
            slab: Slab::new(connections_max),
            flights: Vec::new(),
            closed: VecDeque::new(),
            resumed: Vec::new(),
            hungry: Vec::new(),
            ended: Vec::new(),
            lingering: Wheel::new(now, LINGER_TICK_MS),
            linger_ms,
            peak: 0,
            thrift: Thrift::default(),
        }
    }

    /// Connections that still have an entry.
    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    /// Takes a socket in. Nothing is armed yet. `None`: the table is full, the socket is closed.
    pub(crate) fn insert(&mut self, fd: OwnedFd, accepted: Accepted) -> Option<ConnId> {
        let Ok(conn) = self.slab.insert(fd) else {
            self.stats.refused += 1;
            return None;
        };
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.accepted = Some(accepted);
        }
        self.stats.connections += 1;
        Some(conn)
    }

    /// Gives an adopted connection the bytes that travelled with it.
    pub(crate) fn restore(&mut self, conn: ConnId, kept: Vec<u8>) {
        if kept.is_empty() {
            return;
        }
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.kept = kept;
            self.resumed.push(conn);
        }
    }

    // What the handler asks for.

    pub(crate) fn is_sending(&self, conn: ConnId) -> bool {
        self.slab.get(conn).is_some_and(|entry| entry.has(Flag::SENDING))
    }

    pub(crate) fn send(&mut self, conn: ConnId, outgoing: Outgoing) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        assert!(!entry.has(Flag::SENDING), "one send at a time");
        let Some(fd) = raw(entry.fd.as_ref()) else { return };
        entry.set(Flag::SENDING);
        let mut flight = self.flights.pop().unwrap_or_else(Flight::new);
        flight.load(conn, outgoing);
        self.stats.sends += 1;
        self.ring.send(fd, flight);
    }

    pub(crate) fn start_stream(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        entry.set(Flag::STREAM);
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.accepted = None;
        }
        self.slab.trim(conn);
    }

    pub(crate) fn pause(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        entry.set(Flag::PAUSED);
        self.cancel_receive(conn);
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        if !entry.has(Flag::PAUSED) {
            return;
        }
        entry.clear(Flag::PAUSED);
        if entry.extra().is_some_and(|extra| !extra.kept.is_empty() || extra.end.is_some()) {
            self.resumed.push(conn);
        } else {
            self.arm(conn);
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId, cause: Cause) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        if entry.has(Flag::CLOSING) || entry.has(Flag::LEAVING) {
            return;
        }
        entry.set(Flag::CLOSING);
        if (entry.has(Flag::RECEIVING) || entry.has(Flag::SENDING))
            && let Some(fd) = raw(entry.fd.as_ref())
        {
            self.ring.cancel_all(fd);
        } else {
            entry.fd = None;
        }
        self.closed.push_back((conn, cause));
    }

    pub(crate) fn close_after_flush(&mut self, conn: ConnId, now: Millis) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        entry.set(Flag::FLUSHING);
        entry.clear(Flag::PAUSED);
        let sending = entry.has(Flag::SENDING);
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.kept.clear();
        }
        self.linger(conn, now);
        if !sending {
            self.finish_flush(conn);
        }
    }

    /// Starts to move a connection away. The parcel comes now, or from [`Self::take_leaving`]
    /// when its receive has ended.
    pub(crate) fn leave(&mut self, conn: ConnId, to: usize, luggage: L) {
        let Some(entry) = self.slab.open_mut(conn) else { return self.untell(conn) };
        assert!(!entry.has(Flag::STREAM), "a connection that is home does not move");
        assert!(!entry.has(Flag::SENDING), "a connection that sends does not move");
        entry.set(Flag::LEAVING);
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.leaving = Some((to, luggage));
        }
        self.cancel_receive(conn);
    }

    /// The handler gave away a connection that ended in the last turn: nobody is told of its end.
    fn untell(&mut self, conn: ConnId) {
        if let Some(at) = self.closed.iter().position(|(closed, _)| *closed == conn) {
            self.closed.remove(at);
            self.told(conn);
        }
    }

    /// The parcel of a connection that leaves and has nothing armed.
    pub(crate) fn take_leaving(&mut self, conn: ConnId) -> Option<(usize, Parcel<L>)> {
        let entry = self.slab.get_mut(conn)?;
        if !entry.has(Flag::LEAVING) || entry.has(Flag::RECEIVING) {
            return None;
        }
        let fd = entry.fd.take()?;
        let extra = self.slab.extra_mut(conn)?;
        let (to, luggage) = extra.leaving.take()?;
        let accepted = extra.accepted.take()?;
        let kept = std::mem::take(&mut extra.kept);
        self.slab.remove(conn);
        self.stats.connections -= 1;
        self.stats.hand_overs += 1;
        Some((to, Parcel { fd, accepted, kept, luggage }))
    }

    // What the kernel tells.

    /// Bytes came. Says what to do with them; [`Self::after_receive`] must follow.
    pub(crate) fn received(&mut self, conn: ConnId, bytes: usize, more: bool) -> Fate {
        self.stats.bytes_in += bytes as u64;
        self.stats.receives += 1;
        let Some(entry) = self.slab.get_mut(conn) else { return Fate::Drop };
        if !more {
            entry.clear(Flag::RECEIVING);
            entry.clear(Flag::CANCELLED);
        }
        if entry.has(Flag::CLOSING) {
            return Fate::Drop;
        }
        if entry.has(Flag::FLUSHING) || entry.has(Flag::DRAINING) {
            self.drained(conn, bytes);
            return Fate::Drop;
        }
        let behind = entry.extra().is_some_and(|extra| !extra.kept.is_empty());
        if behind || entry.has(Flag::PAUSED) || entry.has(Flag::LEAVING) {
            Fate::Keep
        } else {
            Fate::Deliver
        }
    }

    /// Keeps bytes for later. Bounded by the buffers: once a cancelled receive has ended no more
    /// come.
    pub(crate) fn keep(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(extra) = self.slab.extra_mut(conn) {
            extra.kept.extend_from_slice(bytes);
        }
    }

    /// Goes on after a receive completion.
    pub(crate) fn after_receive(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.get(conn) else { return };
        if entry.has(Flag::RECEIVING) {
            return;
        }
        if entry.has(Flag::CLOSING) {
            self.try_remove(conn);
        } else if !entry.has(Flag::LEAVING) {
            self.arm(conn);
        }
    }

    /// A receive ended with no bytes: 0 is the end of the stream, else a negative error number.
    pub(crate) fn receive_ended(&mut self, conn: ConnId, result: i32) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        entry.clear(Flag::RECEIVING);
        entry.clear(Flag::CANCELLED);
        match -result {
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            libc::ENOBUFS => {
                self.stats.buffers_exhausted += 1;
                self.hungry.push(conn);
                return;
            }
            0 => self.peer_ended(conn, Cause::PeerClosed),
            error => self.peer_ended(conn, cause_of(error)),
        }
        self.after_receive(conn);
    }

    fn peer_ended(&mut self, conn: ConnId, cause: Cause) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        entry.set(Flag::ENDED);
        if entry.has(Flag::CLOSING) || entry.has(Flag::LEAVING) {
            // The new home will see the same end.
            return;
        }
        if entry.has(Flag::DRAINING) {
            self.close(conn, Cause::Local);
            return;
        }
        if entry.has(Flag::FLUSHING) {
            return;
        }
        let behind = entry.extra().is_some_and(|extra| !extra.kept.is_empty());
        if behind || entry.has(Flag::PAUSED) {
            if let Some(extra) = self.slab.extra_mut(conn) {
                extra.end = Some(cause);
            }
            return;
        }
        self.end(conn, cause);
    }

    /// All the peer sent has been delivered. What is on its way to it may still arrive.
    fn end(&mut self, conn: ConnId, cause: Cause) {
        if cause == Cause::PeerClosed {
            self.ended.push(conn);
        } else {
            self.close(conn, cause);
        }
    }

    /// A send operation ended. The outgoing comes back when all of it has left.
    pub(crate) fn sent(
        &mut self,
        conn: ConnId,
        mut flight: Flight,
        result: i32,
    ) -> Option<Outgoing> {
        let entry = self.slab.get_mut(conn).expect("an entry stays while it sends");
        let fd = raw(entry.fd.as_ref()).filter(|_| !entry.has(Flag::CLOSING));
        let taken = usize::try_from(result).unwrap_or(0);
        self.stats.bytes_out += taken as u64;
        let retry = taken > 0 || result == -libc::EAGAIN || result == -libc::EINTR;
        let whole = flight.advance(taken);
        if !whole
            && retry
            && let Some(fd) = fd
        {
            self.stats.sends += 1;
            self.stats.short_sends += 1;
            self.ring.send(fd, flight);
            return None;
        }
        entry.clear(Flag::SENDING);
        let ended = entry.has(Flag::ENDED);
        let flushing = entry.has(Flag::FLUSHING);
        let outgoing = flight.unload();
        if self.flights.len() < FLIGHTS_SPARE_MAX {
            self.flights.push(flight);
        }
        if fd.is_none() {
            self.try_remove(conn);
            return None;
        }
        if !whole {
            self.close(conn, if flushing { Cause::Local } else { cause_of(-result) });
            return None;
        }
        if flushing {
            self.finish_flush(conn);
        } else if ended {
            self.ended.push(conn);
        }
        Some(outgoing)
    }

    // Between the turns.

    /// Closes connections whose peer has ended and that have nothing in flight. Call after the
    /// handler had its chance to send.
    pub(crate) fn settle_ended(&mut self, now: Millis) {
        let mut ended = std::mem::take(&mut self.ended);
        for conn in ended.drain(..) {
            let Some(entry) = self.slab.open_mut(conn) else { continue };
            if entry.has(Flag::SENDING) {
                self.linger(conn, now);
            } else if entry.extra().is_none_or(|extra| extra.end.is_none()) {
                self.close(conn, Cause::PeerClosed);
            }
            // Otherwise kept bytes come first; `after_kept` finds the end behind them.
        }
        self.ended = ended;
    }

    /// Three of four connections have gone, or all have: it is time to give memory back. Rare,
    /// since each time needs four times as many connections before.
    pub(crate) fn has_shrunk(&mut self) -> bool {
        let count = self.slab.len();
        self.peak = self.peak.max(count);
        let shrunk = if count == 0 {
            // The last ones may have held the places of all that went before.
            self.peak.max(self.slab.places()) >= PEAK_MIN
        } else {
            self.peak >= PEAK_MIN && count * 4 <= self.peak
        };
        if shrunk {
            self.peak = count;
            self.slab.shrink();
        }
        shrunk
    }

    /// Sets the time at which a connection that waits for its end is cut.
    fn linger(&mut self, conn: ConnId, now: Millis) {
        if let Some(entry) = self.slab.get_mut(conn)
            && !entry.has(Flag::LINGERING)
        {
            entry.set(Flag::LINGERING);
            self.lingering.insert(now.after(self.linger_ms), conn);
        }
    }

    /// Arms those that found no free buffer, now that the buffers are back.
    pub(crate) fn settle_hungry(&mut self) {
        let mut hungry = std::mem::take(&mut self.hungry);
        for conn in hungry.drain(..) {
            self.after_receive(conn);
        }
        self.hungry = hungry;
    }

    pub(crate) fn is_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// Connections whose kept bytes are to be delivered.
    pub(crate) fn take_resumed(&mut self) -> Vec<ConnId> {
        std::mem::take(&mut self.resumed)
    }

    /// The kept bytes of an open connection that is not paused.
    pub(crate) fn take_kept(&mut self, conn: ConnId) -> Option<Vec<u8>> {
        let entry = self.slab.open_mut(conn)?;
        if entry.has(Flag::PAUSED) {
            return None;
        }
        let extra = self.slab.extra_mut(conn)?;
        Some(std::mem::take(&mut extra.kept))
    }

    /// After the kept bytes were delivered: the end that lay behind them, or more receiving.
    pub(crate) fn after_kept(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.open_mut(conn) else { return };
        if entry.has(Flag::PAUSED) {
            return;
        }
        match self.slab.extra_mut(conn).and_then(|extra| extra.end.take()) {
            Some(cause) => self.end(conn, cause),
            None => self.after_receive(conn),
        }
        self.slab.trim(conn);
    }

    pub(crate) fn take_closed(&mut self) -> Option<(ConnId, Cause)> {
        self.closed.pop_front()
    }

    /// The handler knows now.
    pub(crate) fn told(&mut self, conn: ConnId) {
        if let Some(entry) = self.slab.get_mut(conn) {
            entry.set(Flag::TOLD);
        }
        self.try_remove(conn);
    }

    /// Something waits for the next turn.
    pub(crate) fn is_pending(&self) -> bool {
        !(self.closed.is_empty() && self.resumed.is_empty() && self.ended.is_empty())
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.lingering.next_deadline()
    }

    /// Cuts what lingers too long.
    pub(crate) fn tick(&mut self, now: Millis) {
        let mut due = Vec::new();
        self.lingering.expire(now, &mut due);
        for conn in due {
            let Some(entry) = self.slab.get(conn) else { continue };
            if entry.has(Flag::CLOSING) {
                continue;
            }
            let cause = if entry.is_open() { Cause::PeerClosed } else { Cause::Local };
            self.stats.lingers_cut += 1;
            self.close(conn, cause);
        }
    }

    /// Cuts everything.
    pub(crate) fn close_all(&mut self) {
        for conn in self.slab.names() {
            self.close(conn, Cause::Local);
        }
    }

    /// Arms a receive if one is wanted and none is armed.
    pub(crate) fn arm(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        let unwanted = [Flag::RECEIVING, Flag::PAUSED, Flag::ENDED, Flag::CLOSING, Flag::LEAVING];
        if unwanted.iter().any(|&flag| entry.has(flag)) {
            return;
        }
        let behind = entry.extra().is_some_and(|extra| !extra.kept.is_empty());
        let Some(fd) = raw(entry.fd.as_ref()).filter(|_| !behind) else { return };
        entry.set(Flag::RECEIVING);
        let receive = if entry.has(Flag::STREAM) { Receive::Stream } else { Receive::Once };
        self.ring.receive(fd, conn, receive);
    }

    fn cancel_receive(&mut self, conn: ConnId) {
        if let Some(entry) = self.slab.get_mut(conn)
            && entry.has(Flag::RECEIVING)
            && !entry.has(Flag::CANCELLED)
        {
            entry.set(Flag::CANCELLED);
            self.ring.cancel_receive(conn);
        }
    }

    /// All is sent: ends our direction, so that the peer gets the last bytes and not a reset, and
    /// reads on until the peer ends too.
    fn finish_flush(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        entry.clear(Flag::FLUSHING);
        entry.set(Flag::DRAINING);
        let shut =
            entry.fd.as_ref().is_some_and(|fd| SockRef::from(fd).shutdown(Shutdown::Write).is_ok());
        if !shut || entry.has(Flag::ENDED) {
            self.close(conn, Cause::Local);
        } else {
            self.arm(conn);
        }
    }

    fn drained(&mut self, conn: ConnId, bytes: usize) {
        let Some(extra) = self.slab.extra_mut(conn) else { return };
        extra.drained_bytes = extra.drained_bytes.saturating_add(bytes);
        if extra.drained_bytes > DRAIN_BYTES_MAX {
            self.close(conn, Cause::Local);
        }
    }

    fn try_remove(&mut self, conn: ConnId) {
        let Some(entry) = self.slab.get_mut(conn) else { return };
        if !entry.has(Flag::CLOSING) || entry.has(Flag::RECEIVING) || entry.has(Flag::SENDING) {
            return;
        }
        entry.fd = None;
        if entry.has(Flag::TOLD) {
            self.slab.remove(conn);
            self.stats.connections -= 1;
            self.stats.closes += 1;
        }
    }
}

fn raw(fd: Option<&OwnedFd>) -> Option<RawFd> {
    fd.map(AsRawFd::as_raw_fd)
}

fn cause_of(error: i32) -> Cause {
    match error {
        libc::ECONNRESET | libc::EPIPE => Cause::Reset,
        other => Cause::Io(other),
    }
}
