//! One shard's connections, as the engine's handler.

use super::reassembly::Reassembly;
use crate::auth::{Credentials, Outcome, Refusal};
use crate::codec::{self, DecodeError, Packet, Version};
use crate::gate::{Answer, Gate};
use crate::shard::{Effect, Flow, Input, LoginRules, Mail, Network, Peer, Place, Shard};
use shards::{Accepted, Cause, ConnId, Handler, Io, Millis, Outgoing, ShardContext};
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::debug;

/// What the edge is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings of the shards.
    pub shard: crate::shard::Settings,
    /// Time from accept to a complete CONNECT.
    pub connect_timeout_ms: u64,
    /// Who has to show what.
    pub login: LoginRules,
    /// Who checks it; `None` if nobody has to show anything.
    pub gate: Option<Arc<Gate>>,
}

/// Logins of one shard that may be checked at the same time; further ones are refused as busy.
pub const LOGINS_MAX: usize = 4096;

/// Packet type of CONNECT in the upper half of the first byte.
const CONNECT_TYPE: u8 = 1;

/// What travels with a socket to its home shard.
#[derive(Debug)]
pub struct Luggage {
    /// Everything received so far; begins with CONNECT.
    bytes: Vec<u8>,
    /// End of patience, counted from accept.
    deadline: Millis,
}

/// What other threads tell a shard's edge.
#[derive(Debug)]
pub enum Control {
    /// A login was checked.
    Answer(Box<Answer>),
}

impl From<Answer> for Control {
    fn from(answer: Answer) -> Control {
        Control::Answer(Box::new(answer))
    }
}

/// Letters of this broker.
type Wire = Io<Mail, Luggage>;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No connection has this place.
    Vacant,
    /// CONNECT is not complete.
    Connecting { deadline: Millis, adopted: bool },
    /// Packets go to the shard.
    Live,
    /// The end is decided.
    Closing,
}

/// Time for the last output to leave once the end is decided; a peer that does not read it is cut.
const CLOSE_PATIENCE_MS: u64 = 5_000;

/// Why a connection is not read; bits.
const PAUSED_BY_SHARD: u8 = 1;
const PAUSED_BY_MESH: u8 = 2;
const PAUSED_BY_OUTPUT: u8 = 4;
const PAUSED_BY_LOGIN: u8 = 8;

#[derive(Debug)]
struct Conn {
    id: ConnId,
    stage: Stage,
    version: Version,
    paused: u8,
    /// Where it comes from, until CONNECT.
    peer: Peer,
    reassembly: Reassembly,
}

const VACANT: Conn = Conn {
    id: ConnId::new(u32::MAX, 0),
    stage: Stage::Vacant,
    version: Version::V311,
    paused: 0,
    peer: Peer { listener: 0, address: None, certificate: None },
    reassembly: Reassembly::NEW,
};

/// See the module.
#[derive(Debug)]
pub struct Driver {
    shard: Shard,
    place: Place,
    packet_bytes_max: u32,
    connect_timeout_ms: u64,
    gate: Option<Arc<Gate>>,
    /// Logins on their way through the gate.
    asked: usize,
    /// Logins that the gate did not take.
    refused: Vec<Answer>,
    conns: Vec<Conn>,
    effects: Vec<Effect>,
    dirty: Vec<ConnId>,
    /// Connections that are not read because a mailbox is full.
    waiting: Vec<ConnId>,
    /// Connections whose end is decided, and when they are cut; times ascend.
    closing: VecDeque<(Millis, ConnId)>,
}

impl Driver {
    /// The handler of one shard.
    pub fn new(settings: &Settings, context: ShardContext) -> Self {
        let place = Place { shard: context.shard, shards: context.shards };
        let mut shard = Shard::new(settings.shard.clone(), place, context.now);
        shard.set_login_rules(settings.login.clone());
        Driver {
            shard,
            place,
            packet_bytes_max: settings.shard.packet_bytes_max,
            connect_timeout_ms: settings.connect_timeout_ms,
            gate: settings.gate.clone(),
            asked: 0,
            refused: Vec::new(),
            conns: Vec::new(),
            effects: Vec::new(),
            dirty: Vec::new(),
            waiting: Vec::new(),
            closing: VecDeque::new(),
        }
    }

    fn enter(&mut self, conn: ConnId, stage: Stage, accepted: Accepted) {
        if self.conns.len() <= conn.index() {
            self.conns.resize_with(conn.index() + 1, || VACANT);
        }
        if let Some(entry) = self.conns.get_mut(conn.index()) {
            let listener = u16::try_from(accepted.listener).unwrap_or(u16::MAX);
            let peer = Peer { listener, address: Some(accepted.peer), certificate: None };
            *entry = Conn { id: conn, stage, peer, ..VACANT };
        }
    }

    fn conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn.index()).filter(|entry| entry.id == conn)
    }

    /// Bytes of a connection that has not sent a complete CONNECT yet.
    fn connecting(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let (max, here, now) = (self.packet_bytes_max, self.place.shard, io.now());
        let Some(entry) = self.conns.get_mut(conn.index()) else { return };
        let Stage::Connecting { deadline, adopted } = entry.stage else { return };
        entry.reassembly.keep(bytes);
        let held = entry.reassembly.take();
        let decoded = match held.first() {
            // A stranger's first byte is enough to know him; his packet is not waited for.
            Some(first) if first >> 4 != CONNECT_TYPE => Err(DecodeError::NotConnect),
            Some(_) | None => codec::decode(&held, Version::V311, max),
        };
        match decoded {
            Ok(None) => entry.reassembly.put_back(held),
            Ok(Some((Packet::Connect(connect), connect_bytes))) => {
                let home = match self.shard.client_id_of(&connect, &entry.peer) {
                    // A client without identifier gets one whose home is here.
                    "" => here,
                    client_id => self.shard.home_of(client_id),
                };
                if home != here && !adopted {
                    self.leave(conn, now);
                    return io.hand_over(conn, home, Luggage { bytes: held, deadline });
                }
                entry.stage = Stage::Live;
                entry.version = connect.version;
                io.start_stream(conn);
                let peer = std::mem::take(&mut entry.peer);
                self.shard.handle(Input::Connect { conn, connect, peer: &peer }, now);
                let rest = held.get(connect_bytes..).unwrap_or_default();
                if self.shard.awaits_login(conn) {
                    self.pause(io, conn, PAUSED_BY_LOGIN);
                    self.keep(conn, rest);
                } else if !rest.is_empty() {
                    self.live(io, conn, rest);
                }
            }
            Ok(Some((packet, _))) => {
                entry.stage = Stage::Closing;
                self.shard.handle(Input::Packet { conn, packet }, now);
            }
            Err(error) => {
                entry.stage = Stage::Closing;
                debug!(conn = conn.index(), %error, "no CONNECT");
                self.shard.handle(Input::Malformed { conn, error }, now);
            }
        }
    }

    /// Bytes for later. Nothing more is read meanwhile, so it is one receive buffer at most.
    fn keep(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(entry) = self.conn(conn)
            && !bytes.is_empty()
        {
            entry.reassembly.keep(bytes);
        }
    }

    /// A login was checked: the connection goes on with what it sent meanwhile, or ends.
    fn answered(&mut self, io: &mut Wire, answer: Answer) {
        let Answer { conn, suspect, outcome } = answer;
        self.shard.handle(Input::Authenticated { conn, suspect, outcome }, io.now());
        let Some(entry) = self.conn(conn) else { return };
        if entry.paused & PAUSED_BY_LOGIN != 0 {
            let kept = entry.reassembly.take();
            self.resume(io, conn, PAUSED_BY_LOGIN);
            if !kept.is_empty() {
                self.live(io, conn, &kept);
            }
        }
    }

    /// Has a login checked; refuses it if too many wait.
    fn ask(&mut self, conn: ConnId, credentials: Box<Credentials>) {
        let suspect = credentials.suspect;
        let gate = self.gate.as_deref().filter(|_| self.asked < LOGINS_MAX);
        let asked = match gate {
            Some(gate) => gate.submit(self.place.shard, conn, credentials),
            None => Err(Answer { conn, suspect, outcome: Outcome::Refused(Refusal::Busy) }),
        };
        match asked {
            Ok(()) => self.asked += 1,
            Err(answer) => self.refused.push(answer),
        }
    }

    /// The connection goes to another shard: nothing of it stays here.
    fn leave(&mut self, conn: ConnId, now: Millis) {
        self.shard.handle(Input::Closed { conn }, now);
        if let Some(entry) = self.conns.get_mut(conn.index()) {
            *entry = VACANT;
        }
    }

    /// Bytes of a connection at home.
    fn live(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let (max, now) = (self.packet_bytes_max, io.now());
        let Some(entry) = self.conns.get_mut(conn.index()) else { return };
        let version = entry.version;
        let mut rest = bytes;
        if !entry.reassembly.bytes().is_empty() {
            match entry.reassembly.complete(rest, max) {
                Ok((None, _)) => return,
                Ok((Some(packet), after)) => {
                    rest = after;
                    self.decode(conn, &packet, version, now);
                }
                Err(error) => {
                    entry.stage = Stage::Closing;
                    return self.shard.handle(Input::Malformed { conn, error }, now);
                }
            }
        }
        let decoded = self.decode(conn, rest, version, now);
        let left = rest.get(decoded..).unwrap_or_default();
        if !left.is_empty()
            && let Some(entry) = self.conns.get_mut(conn.index())
            && entry.stage == Stage::Live
        {
            entry.reassembly.keep(left);
        }
    }

    /// Hands every complete packet to the shard. Gives the bytes used.
    fn decode(&mut self, conn: ConnId, bytes: &[u8], version: Version, now: Millis) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match codec::decode(rest, version, self.packet_bytes_max) {
                Ok(Some((packet, packet_bytes))) => {
                    at += packet_bytes;
                    self.shard.handle(Input::Packet { conn, packet }, now);
                }
                Ok(None) => return at,
                Err(error) => {
                    debug!(conn = conn.index(), %error, "malformed packet");
                    self.shard.handle(Input::Malformed { conn, error }, now);
                    if let Some(entry) = self.conns.get_mut(conn.index()) {
                        entry.stage = Stage::Closing;
                    }
                    return bytes.len();
                }
            }
        }
    }

    fn pause(&mut self, io: &mut Wire, conn: ConnId, why: u8) {
        if let Some(entry) = self.conn(conn) {
            if entry.paused == 0 {
                io.pause(conn);
            }
            entry.paused |= why;
        }
    }

    fn resume(&mut self, io: &mut Wire, conn: ConnId, why: u8) {
        if let Some(entry) = self.conn(conn) {
            let before = entry.paused;
            entry.paused &= !why;
            if before != 0 && entry.paused == 0 {
                io.resume(conn);
            }
        }
    }

    /// Carries out what the shard asked for.
    fn carry_out(&mut self, io: &mut Wire) {
        self.shard.take_effects(&mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        let mut closes = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Mail(to, mail) => io.post(to, mail),
                Effect::Authenticate(conn, credentials) => self.ask(conn, credentials),
                Effect::Close(conn) => closes.push(conn),
                Effect::Flow(conn, Flow::Pause) => self.pause(io, conn, PAUSED_BY_SHARD),
                Effect::Flow(conn, Flow::Resume) => self.resume(io, conn, PAUSED_BY_SHARD),
                // Sessions live in memory: settings never ask for records.
                Effect::Record(_) => {}
            }
        }
        self.effects = effects;
        self.send_dirty(io);
        for conn in closes {
            if let Some(entry) = self.conn(conn) {
                entry.stage = Stage::Closing;
                if !self.close_when_sent(io, conn) {
                    self.closing.push_back((io.now().after(CLOSE_PATIENCE_MS), conn));
                }
            }
        }
    }

    fn send_dirty(&mut self, io: &mut Wire) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.shard.take_dirty(&mut dirty);
        for conn in dirty.drain(..) {
            // While a send is on its way the output grows on; `on_sent` comes back to it.
            if !io.is_sending(conn) {
                self.send(io, conn);
            }
        }
        self.dirty = dirty;
    }

    fn send(&mut self, io: &mut Wire, conn: ConnId) {
        if let Some(outgoing) = self.shard.take_output(conn) {
            io.send(conn, outgoing);
            self.resume(io, conn, PAUSED_BY_OUTPUT);
        }
    }

    /// Closes a connection whose end is decided, once all its output has been given to the engine,
    /// which then sees to it that it ends. False if some is left.
    fn close_when_sent(&mut self, io: &mut Wire, conn: ConnId) -> bool {
        if !io.is_sending(conn) {
            self.send(io, conn);
        }
        let given = !self.shard.has_output(conn);
        if given {
            io.close_after_flush(conn);
        }
        given
    }

    /// Cuts those that had time enough to take what was left for them.
    fn cut(&mut self, io: &mut Wire) {
        while let Some((due, conn)) = self.closing.front().copied()
            && due <= io.now()
        {
            self.closing.pop_front();
            if self.shard.has_output(conn) {
                debug!(conn = conn.index(), "does not take its last output");
                io.close(conn);
            }
        }
    }
}

impl Handler for Driver {
    type Mail = Mail;
    type Luggage = Luggage;
    type Control = Control;

    fn on_start(&mut self, _io: &mut Wire) {}

    fn on_accept(&mut self, io: &mut Wire, conn: ConnId, accepted: Accepted) {
        let deadline = io.now().after(self.connect_timeout_ms);
        debug!(conn = conn.index(), peer = %accepted.peer, shard = self.place.shard, "accepted");
        self.enter(conn, Stage::Connecting { deadline, adopted: false }, accepted);
        self.shard.handle(Input::Opened { conn, deadline }, io.now());
    }

    fn on_adopt(&mut self, io: &mut Wire, conn: ConnId, accepted: Accepted, luggage: Luggage) {
        let Luggage { bytes, deadline } = luggage;
        self.enter(conn, Stage::Connecting { deadline, adopted: true }, accepted);
        self.shard.handle(Input::Opened { conn, deadline }, io.now());
        self.connecting(io, conn, &bytes);
    }

    fn on_bytes(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        match self.conn(conn).map(|entry| entry.stage) {
            Some(Stage::Connecting { .. }) => self.connecting(io, conn, bytes),
            Some(Stage::Live) => {
                self.live(io, conn, bytes);
                if self.shard.is_choked(conn) {
                    // Who does not read its acknowledgements is not read until they have left.
                    self.pause(io, conn, PAUSED_BY_OUTPUT);
                }
                if !io.outboxes_clear() {
                    // Who publishes while a mailbox is full is not read until it has room.
                    self.pause(io, conn, PAUSED_BY_MESH);
                    self.waiting.push(conn);
                }
            }
            Some(Stage::Closing | Stage::Vacant) | None => {}
        }
    }

    fn on_sent(&mut self, io: &mut Wire, conn: ConnId, outgoing: Outgoing) {
        self.shard.recycle(outgoing.bytes);
        self.shard.handle(Input::Drained { conn }, io.now());
        if self.conn(conn).is_some_and(|entry| entry.stage == Stage::Closing) {
            self.close_when_sent(io, conn);
        }
    }

    fn on_closed(&mut self, io: &mut Wire, conn: ConnId, cause: Cause) {
        debug!(conn = conn.index(), ?cause, "closed");
        self.leave(conn, io.now());
    }

    fn on_mail(&mut self, io: &mut Wire, from: usize, mail: Mail) {
        self.shard.on_mail(from, mail, io.now());
    }

    fn on_control(&mut self, io: &mut Wire, control: Control) {
        match control {
            Control::Answer(answer) => {
                self.asked -= 1;
                self.answered(io, *answer);
            }
        }
    }

    fn finish_turn(&mut self, io: &mut Wire) {
        self.carry_out(io);
        if !self.refused.is_empty() {
            for answer in std::mem::take(&mut self.refused) {
                self.answered(io, answer);
            }
            self.carry_out(io);
        }
        if !self.waiting.is_empty() && io.outboxes_clear() {
            for conn in std::mem::take(&mut self.waiting) {
                self.resume(io, conn, PAUSED_BY_MESH);
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        let cut = self.closing.front().map(|(due, _)| *due);
        self.shard.next_deadline().into_iter().chain(cut).min()
    }

    fn on_tick(&mut self, io: &mut Wire) {
        let stats = io.stats();
        let network = Network {
            sockets: stats.accepts,
            bytes_received: stats.bytes_in,
            bytes_sent: stats.bytes_out,
        };
        self.shard.note_network(network);
        self.shard.tick(io.now());
        self.cut(io);
    }

    fn on_stop(&mut self, _io: &mut Wire) {
        self.shard.stop();
    }
}
