//! Connections with layers below MQTT: how they begin, and what they bring.

use super::conns::{
    Conn, Handshake, PAUSED_BY_HANDSHAKES, PAUSED_BY_OUTPUT, PAUSED_BY_TURN, Stage,
};
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

/// The buffer for bytes out of the layers is kept up to this capacity.
const PLAIN_SPARE_BYTES_MAX: usize = 64 << 10;

/// What a shard knows about all its layered connections.
#[derive(Debug)]
pub(super) struct Layers {
    /// What each listener speaks, by its number.
    transports: Arc<[transport::Settings]>,
    handshakes_max: usize,
    handshakes: usize,
    /// Connections that wait for a handshake to end before theirs begins, in the order they came.
    /// The time to CONNECT ends the wait of each; its name stays until its turn would come.
    waiting: VecDeque<ConnId>,
    /// Connections whose handshake goes on in a later turn; their bytes wait with them. At most as
    /// many as there may be handshakes.
    deferred: VecDeque<ConnId>,
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
            waiting: VecDeque::new(),
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
                self.shard.handle(Input::Closed { conn }, io.now());
                if let Some(entry) = self.conn(conn) {
                    entry.stage = Stage::Closing;
                }
                return io.close(conn);
            }
        };
        let handshake = match stack.is_handshaking() {
            false => Handshake::Over,
            true if self.layers.handshakes < self.layers.handshakes_max => Handshake::UnderWay,
            true => Handshake::Waiting,
        };
        if let Some(entry) = self.conn(conn) {
            entry.stack = Some(stack);
            if let Some(arrival) = &mut entry.arrival {
                arrival.handshake = handshake;
            }
        }
        match handshake {
            Handshake::Over => {}
            Handshake::UnderWay => self.layers.handshakes += 1,
            Handshake::Waiting => {
                self.layers.waiting.push_back(conn);
                self.pause(io, conn, PAUSED_BY_HANDSHAKES);
            }
        }
    }

    /// This connection's handshake needs no place any more: the next one begins.
    pub(super) fn handshake_over(&mut self, io: &mut Wire, conn: ConnId) {
        let Some(arrival) = self.conn(conn).and_then(|entry| entry.arrival.as_mut()) else {
            return;
        };
        if std::mem::replace(&mut arrival.handshake, Handshake::Over) != Handshake::UnderWay {
            return;
        }
        self.layers.handshakes -= 1;
        while let Some(next) = self.layers.waiting.pop_front() {
            // Who is gone meanwhile has left its name here.
            if let Some(arrival) = self.conn(next).and_then(|entry| entry.arrival.as_mut())
                && arrival.handshake == Handshake::Waiting
            {
                arrival.handshake = Handshake::UnderWay;
                self.layers.handshakes += 1;
                return self.resume(io, next, PAUSED_BY_HANDSHAKES);
            }
        }
    }

    /// Bytes of a connection with layers. In the midst of a handshake they may have to wait, so
    /// that many handshakes do not hold up everybody else.
    pub(super) fn layered(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let handshakes = |entry: &mut Conn| {
            entry.stage == Stage::Connecting
                && entry.stack.as_ref().is_some_and(|stack| stack.is_handshaking())
        };
        if self.conn(conn).is_some_and(handshakes) {
            if self.layers.has_deferred() || self.layers.steps == 0 {
                return self.defer(io, conn, bytes);
            }
            self.layers.steps -= 1;
        }
        self.unwrap_layers(io, conn, bytes);
    }

    /// The handshake goes on in a later turn.
    fn defer(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let Some(entry) = self.conn(conn) else { return };
        // Nothing of MQTT is there yet.
        entry.reassembly.keep(bytes);
        let is_new = entry.paused & PAUSED_BY_TURN == 0;
        if is_new {
            self.layers.deferred.push_back(conn);
            self.pause(io, conn, PAUSED_BY_TURN);
        }
    }

    /// Goes on with the handshakes that have waited longest.
    pub(super) fn shake_on(&mut self, io: &mut Wire) {
        for _ in 0..HANDSHAKE_STEPS_PER_TURN {
            let Some(conn) = self.layers.deferred.pop_front() else { return };
            let Some(entry) = self.conn(conn) else { continue };
            let bytes = entry.reassembly.take();
            self.resume(io, conn, PAUSED_BY_TURN);
            self.unwrap_layers(io, conn, &bytes);
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
            self.handshake_over(io, conn);
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
        self.handshake_over(io, conn);
        self.end(io, conn);
    }
}
