//! Connections with layers below MQTT: how they begin, and what they bring.

use super::conns::{Conn, Handshake, PAUSED_BY_OUTPUT, PAUSED_BY_TURN, Stage};
use super::driver::{Driver, Wire};
use super::told::Settings;
use crate::shard::Input;
use crate::transport::{self, Arrival, Last, Stack};
use shards::{ConnId, Outgoing};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::debug;

/// Steps of TLS handshakes in one turn. A step is a signature at most, 0.1 to 1 ms, for which all
/// other connections of the shard wait.
const HANDSHAKE_STEPS_PER_TURN: usize = 4;

/// Names of handshakes that are over are kept up to so many, beside twice the limit.
const BEGUN_SPARE_MAX: usize = 64;
/// The buffer for bytes out of the layers is kept up to this capacity.
const PLAIN_SPARE_BYTES_MAX: usize = 64 << 10;

/// What a shard knows about all its layered connections.
#[derive(Debug)]
pub(super) struct Layers {
    /// What each listener speaks, by its number.
    transports: Arc<[transport::Settings]>,
    handshakes_max: usize,
    /// Handshakes under way: their first bytes have come, their last have not.
    handshakes: usize,
    /// Those, the oldest first, among names of some that are over.
    begun: VecDeque<ConnId>,
    /// Connections whose handshake goes on in a later turn, with the bytes of one receive: they are
    /// not read meanwhile. As many as there may be handshakes, and some that are gone.
    deferred: VecDeque<(ConnId, Vec<u8>)>,
    /// Steps that this turn has left.
    steps: usize,
    /// Connections whose layers have something to say.
    answering: Vec<ConnId>,
    /// Bytes of MQTT out of one receive.
    plain: Vec<u8>,
}

impl Layers {
    pub(super) fn new(settings: &Settings) -> Self {
        Layers {
            transports: Arc::clone(&settings.transports),
            handshakes_max: settings.handshakes_max.max(1),
            handshakes: 0,
            begun: VecDeque::new(),
            deferred: VecDeque::new(),
            steps: HANDSHAKE_STEPS_PER_TURN,
            answering: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Connections that are accepted from now on speak this.
    pub(super) fn reconfigure(&mut self, settings: &Settings) {
        self.transports = Arc::clone(&settings.transports);
        self.handshakes_max = settings.handshakes_max.max(1);
    }

    /// Connections of this listener are a proxy's.
    pub(super) fn is_proxied(&self, listener: usize) -> bool {
        self.transports.get(listener).is_some_and(|settings| settings.proxy.is_some())
    }

    /// A turn ends, and with it what it may spend.
    pub(super) fn end_turn(&mut self) {
        self.steps = HANDSHAKE_STEPS_PER_TURN;
    }

    /// Handshakes wait for their turn.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// The layers of this connection may have something to say at the end of the turn.
    pub(super) fn answer(&mut self, conn: ConnId) {
        self.answering.push(conn);
    }

    pub(super) fn take_answering(&mut self, into: &mut Vec<ConnId>) {
        into.append(&mut self.answering);
    }
}

impl Driver {
    /// Puts the layers of its listener around a new connection.
    pub(super) fn lay(
        &mut self,
        io: &mut Wire,
        conn: ConnId,
        listener: usize,
        peer: Option<SocketAddr>,
    ) {
        let Some(settings) = self.layers.transports.get(listener) else { return };
        let stack = match Stack::new(settings, peer) {
            Ok(None) => return,
            Ok(Some(stack)) => stack,
            Err(fault) => {
                debug!(conn = conn.index(), %fault, "refused");
                return self.cut_below(io, conn);
            }
        };
        let handshake = if stack.is_handshaking() { Handshake::Due } else { Handshake::Over };
        if let Some(entry) = self.conn(conn) {
            entry.stack = Some(stack);
            if let Some(arrival) = &mut entry.arrival {
                arrival.handshake = handshake;
            }
        }
    }

    /// The first bytes of a handshake have come. Where there are too many the oldest is cut: who
    /// wants to come in is done in a few round trips, and who stalls must not keep others out.
    fn begin_handshake(&mut self, io: &mut Wire, conn: ConnId) {
        let Some(arrival) = self.conn(conn).and_then(|entry| entry.arrival.as_mut()) else {
            return;
        };
        if arrival.handshake != Handshake::Due {
            return;
        }
        arrival.handshake = Handshake::UnderWay;
        self.layers.handshakes += 1;
        self.layers.begun.push_back(conn);
        while self.layers.handshakes > self.layers.handshakes_max {
            let Some(oldest) = self.layers.begun.pop_front() else { break };
            if self.is_under_way(oldest) {
                debug!(conn = oldest.index(), "too many TLS handshakes: the oldest is cut");
                self.throttle.note_over(io.now());
                self.cut_below(io, oldest);
            }
        }
        if self.layers.begun.len() > 2 * self.layers.handshakes_max + BEGUN_SPARE_MAX {
            let mut begun = std::mem::take(&mut self.layers.begun);
            begun.retain(|conn| self.is_under_way(*conn));
            self.layers.begun = begun;
        }
    }

    fn is_under_way(&mut self, conn: ConnId) -> bool {
        let arrival = self.conn(conn).and_then(|entry| entry.arrival.as_ref());
        arrival.is_some_and(|arrival| arrival.handshake == Handshake::UnderWay)
    }

    /// This connection's handshake is over, in one way or the other.
    pub(super) fn handshake_over(&mut self, conn: ConnId) {
        let Some(arrival) = self.conn(conn).and_then(|entry| entry.arrival.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut arrival.handshake, Handshake::Over) == Handshake::UnderWay {
            self.layers.handshakes -= 1;
        }
    }

    /// The connection ends at once, before it was anybody's.
    fn cut_below(&mut self, io: &mut Wire, conn: ConnId) {
        self.shard.handle(Input::Closed { conn }, io.now());
        self.handshake_over(conn);
        if let Some(entry) = self.conn(conn) {
            entry.stage = Stage::Closing;
        }
        io.close(conn);
    }

    /// Bytes of a connection with layers. In the midst of a handshake they may have to wait, so
    /// that many handshakes do not hold up everybody else.
    pub(super) fn layered(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let handshakes = |entry: &mut Conn| {
            entry.stage == Stage::Connecting
                && entry.stack.as_ref().is_some_and(|stack| stack.is_handshaking())
        };
        if self.conn(conn).is_some_and(handshakes) {
            self.begin_handshake(io, conn);
            if self.layers.has_deferred() || self.layers.steps == 0 {
                return self.defer(io, conn, bytes);
            }
            self.layers.steps -= 1;
        }
        self.unwrap_layers(io, conn, bytes);
    }

    /// The handshake goes on in a later turn.
    fn defer(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        self.layers.deferred.push_back((conn, bytes.to_vec()));
        self.pause(io, conn, PAUSED_BY_TURN);
    }

    /// Goes on with the handshakes that have waited longest.
    pub(super) fn shake_on(&mut self, io: &mut Wire) {
        for _ in 0..HANDSHAKE_STEPS_PER_TURN {
            let Some((conn, bytes)) = self.layers.deferred.pop_front() else { return };
            // Who is gone meanwhile has left its name here.
            if self.conn(conn).is_some() {
                self.resume(io, conn, PAUSED_BY_TURN);
                self.unwrap_layers(io, conn, &bytes);
            }
        }
    }

    fn unwrap_layers(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let mut plain = std::mem::take(&mut self.layers.plain);
        let Some(entry) = self.conn(conn) else { return };
        let (stage, Some(stack)) = (entry.stage, &mut entry.stack) else { return };
        if matches!(stage, Stage::Closing | Stage::Vacant) {
            return;
        }
        let was_handshaking = stack.is_handshaking();
        let received = stack.receive(bytes, &mut plain);
        let handshaken = was_handshaking && !stack.is_handshaking();
        if let Some(arrival) = &mut entry.arrival {
            arrival.address = stack.address();
        }
        if handshaken {
            debug!(conn = conn.index(), tls = stack.describe(), "handshake done");
        }
        let answers = stack.has_output();
        if stack.is_spent() {
            entry.stack = None;
        }
        if answers {
            self.layers.answer(conn);
        }
        if handshaken {
            self.handshake_over(conn);
        }
        if !plain.is_empty() {
            self.mqtt(io, conn, stage, &plain);
            plain.clear();
        }
        if plain.capacity() <= PLAIN_SPARE_BYTES_MAX {
            self.layers.plain = plain;
        }
        match received {
            Ok(Arrival::Open) => {}
            Ok(Arrival::Ended) => self.end_below(io, conn),
            Err(fault) => {
                debug!(conn = conn.index(), %fault, "connection refused");
                self.end_below(io, conn);
            }
        }
    }

    /// Sends `output` inside the layers, behind what they have to say themselves.
    pub(super) fn send_layered(&mut self, io: &mut Wire, conn: ConnId, output: Option<Outgoing>) {
        let more = self.shard.has_output(conn);
        let Some(entry) = self.conn(conn) else { return };
        let Some(stack) = &mut entry.stack else { return };
        let last = if entry.stage == Stage::Closing && !more { Last::Yes } else { Last::No };
        let taken = output.is_some();
        match stack.seal(output, last) {
            Ok(sealed) => {
                if let Some(spare) = sealed.spare {
                    self.shard.recycle(spare);
                }
                if let Some(outgoing) = sealed.outgoing {
                    io.send(conn, outgoing);
                }
                if taken {
                    self.resume(io, conn, PAUSED_BY_OUTPUT);
                }
            }
            Err(fault) => {
                debug!(conn = conn.index(), %fault, "cannot send");
                io.close(conn);
            }
        }
    }

    /// The layers have ended: for the shard the connection is gone.
    fn end_below(&mut self, io: &mut Wire, conn: ConnId) {
        self.shard.handle(Input::Closed { conn }, io.now());
        self.handshake_over(conn);
        self.end(io, conn);
    }
}
