//! Who is let in, how fast it is read, and when nothing new is taken in.

use super::admission::Admission;
use super::conns::{Conn, PAUSED_BY_RATE, Stage};
use super::driver::{Driver, Wire};
use super::memory::{LOOK_MS, Watch, take_back_freed};
use super::rate::{Bucket, Rates};
use super::told::Settings;
use crate::codec::Reason;
use shards::{ConnId, Millis, ShardContext, Wheel};
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::{debug, info};

/// Time between two lines of the audit log about connections over a limit.
const OVER_LINE_MS: u64 = 1_000;
/// Resolution of the time until a client is read again.
const TICK_MS: u64 = 10;

/// What a shard's edge knows of limits in time.
#[derive(Debug)]
pub(super) struct Throttle {
    admission: Arc<Admission>,
    accepts_per_s: u64,
    accepts: Bucket,
    rates: Rates,
    /// Clients that are read again at some time; who is gone meanwhile has left its name.
    waiting: Wheel<ConnId>,
    due: Vec<ConnId>,
    /// On one shard of all.
    watch: Option<Watch>,
    /// When memory is given back next, while it is above its limit.
    nudge_due: Millis,
    /// Connections over a limit that the audit log has not heard of yet, and when it may hear.
    over: u64,
    over_due: Millis,
    /// Packets decoded on connections that have sent their CONNECT.
    pub(super) packets: u64,
}

impl Throttle {
    pub(super) fn new(settings: &Settings, context: ShardContext) -> Self {
        let watched = context.shard == 0 && settings.memory_bytes_max > 0;
        Throttle {
            admission: Arc::clone(&settings.admission),
            accepts_per_s: settings.accepts_per_s,
            accepts: Bucket::full(settings.accepts_per_s, context.now),
            rates: settings.rates,
            waiting: Wheel::new(context.now, TICK_MS),
            due: Vec::new(),
            watch: watched.then(|| Watch::new(settings.memory_bytes_max, context.now)),
            nudge_due: context.now,
            over: 0,
            over_due: context.now,
            packets: 0,
        }
    }

    /// New limits in time. Allowances that were given out stay what they are.
    pub(super) fn retune(&mut self, settings: &Settings, shard: usize, now: Millis) {
        self.accepts_per_s = settings.accepts_per_s;
        self.rates = settings.rates;
        let watched = shard == 0 && settings.memory_bytes_max > 0;
        self.watch = watched.then(|| Watch::new(settings.memory_bytes_max, now));
        if shard == 0 && !watched {
            self.admission.set_pressed(false);
        }
    }

    /// A connection was over a limit: the audit log hears of it once a second at most.
    pub(super) fn note_over(&mut self, now: Millis) {
        self.over += 1;
        if now >= self.over_due {
            let count = std::mem::take(&mut self.over);
            self.over_due = now.after(OVER_LINE_MS);
            info!(target: "audit", event = "limit", cause = "connections", count);
        }
    }

    /// Memory is above its limit.
    pub(super) fn is_pressed(&self) -> bool {
        self.admission.is_pressed()
    }

    /// What all shards share.
    pub(super) fn admission(&self) -> &Admission {
        &self.admission
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let watch = self.watch.as_ref().map(Watch::due);
        let nudge = self.is_pressed().then_some(self.nudge_due);
        self.waiting.next_deadline().into_iter().chain(watch).chain(nudge).min()
    }
}

impl Conn {
    /// What its CONNECT is to be answered with, if it is over a limit. A proxy may have named its
    /// address meanwhile.
    pub(super) fn refusal(&mut self, address: Option<SocketAddr>) -> Option<Reason> {
        let pass = self.pass.as_deref_mut()?;
        pass.connected();
        pass.come_from(address.map(|address| address.ip()));
        pass.refusal()
    }
}

impl Driver {
    /// Counts a new connection. False = it is to be closed at once.
    pub(super) fn admit(
        &mut self,
        conn: ConnId,
        listener: usize,
        peer: Option<SocketAddr>,
        now: Millis,
    ) -> bool {
        let throttle = &mut self.throttle;
        let Some(mut pass) = throttle.admission.enter(listener) else { return false };
        let mut room = true;
        if !throttle.accepts.take(throttle.accepts_per_s, now) {
            room = pass.refuse(Reason::ConnectionRateExceeded);
        }
        // Behind a proxy all connections have one address, until the proxy has named theirs.
        if !self.layers.is_proxied(listener) {
            room &= pass.come_from(peer.map(|peer| peer.ip()));
        }
        if let Some(entry) = self.conn(conn) {
            entry.pass = Some(Box::new(pass));
        }
        room
    }

    /// Closes a connection that was just accepted.
    pub(super) fn turn_away(&mut self, io: &mut Wire, conn: ConnId) {
        debug!(conn = conn.index(), "over a limit of connections");
        self.throttle.note_over(io.now());
        if let Some(entry) = self.conn(conn) {
            entry.stage = Stage::Closing;
        }
        io.close(conn);
    }

    /// Counts what a client has sent; who is too fast is not read for a while.
    pub(super) fn charge(&mut self, io: &mut Wire, conn: ConnId, packets: u64, bytes: usize) {
        let (rates, now) = (self.throttle.rates, io.now());
        if !rates.is_on() {
            return;
        }
        let Some(entry) = self.conn(conn) else { return };
        let allowance = entry.allowance.get_or_insert_with(|| Box::new(rates.full(now)));
        if let Some(wait_ms) = rates.spend(allowance, packets, bytes as u64, now) {
            self.pause(io, conn, PAUSED_BY_RATE);
            self.throttle.waiting.insert(now.after(wait_ms), conn);
        }
    }

    /// Reads those on whose time has come; looks at the memory.
    pub(super) fn read_on(&mut self, io: &mut Wire) {
        let mut due = std::mem::take(&mut self.throttle.due);
        self.throttle.waiting.expire(io.now(), &mut due);
        for conn in due.drain(..) {
            self.resume(io, conn, PAUSED_BY_RATE);
        }
        self.throttle.due = due;
        if self.throttle.is_pressed() && io.now() >= self.throttle.nudge_due {
            self.throttle.nudge_due = io.now().after(LOOK_MS);
            take_back_freed();
        }
        let Some(watch) = &mut self.throttle.watch else { return };
        if let Some(pressed) = watch.look(io.now()) {
            self.throttle.admission.set_pressed(pressed);
        }
    }
}
