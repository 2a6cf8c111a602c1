//! One shard's connections, as the engine's handler.

use super::conns::{
    Arrival, Conn, Handshake, PAUSED_BY_DISK, PAUSED_BY_LOG, PAUSED_BY_MESH, PAUSED_BY_MOVE,
    PAUSED_BY_OUTPUT, PAUSED_BY_SHARD, PAUSED_BY_START, Stage, VACANT,
};
use super::flow::Throttle;
use super::journal::Journal;
use super::layers::Layers;
use super::logins::Logins;
use super::points;
use super::room::Room;
use super::told::{Change, Control, Durable, Luggage, Settings};
use crate::codec::{self, DecodeError, Packet, Version};
use crate::shard::{CONNECTIONS, Effect, Flow, Input, Mail, Network, Peer, Place, Shard};
use shards::log::{Chunk, Lsn, ReadFault, StoredRecord};
use shards::{Accepted, Cause, Chunks, ConnId, Handler, Io, Millis, Outgoing, ShardContext};
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::debug;

/// Room for effects that is kept from turn to turn. A turn that ends a thousand sessions with a
/// thousand subscriptions each has a million of them, which would stay in memory.
const EFFECTS_KEPT: usize = 4_096;

/// Packet type of CONNECT in the upper half of the first byte.
const CONNECT_TYPE: u8 = 1;

/// Letters of this broker.
pub(super) type Wire = Io<Mail, Luggage>;

/// See the module.
#[derive(Debug)]
pub struct Driver {
    pub(super) shard: Shard,
    place: Place,
    connect_packet_bytes_max: u32,
    connect_plain_bytes_max: u32,
    connect_timeout_ms: u64,
    pub(super) logins: Logins,
    pub(super) conns: Chunks<Conn>,
    pub(super) layers: Layers,
    pub(super) throttle: Throttle,
    effects: Vec<Effect>,
    /// There is no record among so many of them, the first.
    written: usize,
    /// Position of the last record when they were looked for last.
    recorded: u64,
    dirty: Vec<ConnId>,
    /// Connections that are not read because a mailbox is full.
    waiting: Vec<ConnId>,
    /// Connections that came before all shards had come back.
    pub(super) early: Vec<ConnId>,
    /// Connections that are not read because the disk does not keep up.
    waiting_for_log: Vec<ConnId>,
    pub(super) room: Room,
    /// Connections whose end is decided, and when they are cut; times ascend.
    pub(super) closing: VecDeque<(Millis, ConnId)>,
    /// The log; none if all is in memory.
    pub(super) journal: Option<Journal>,
    /// What the log held, until it was taken over.
    durable: Option<Durable>,
}

impl Driver {
    /// The handler of one shard.
    pub fn new(settings: &Settings, durable: Option<Durable>, context: ShardContext) -> Self {
        let place = Place { shard: context.shard, shards: context.shards };
        let mut shard = Shard::new(settings.shard.clone(), place, context.now);
        shard.set_login_rules(settings.login.clone());
        shard.set_access(Arc::clone(&settings.access));
        Driver {
            shard,
            place,
            connect_packet_bytes_max: settings.connect_bytes_max(),
            connect_plain_bytes_max: settings.connect_plain_bytes_max,
            connect_timeout_ms: settings.connect_timeout_ms,
            logins: Logins::new(settings.gate.clone()),
            conns: Chunks::default(),
            layers: Layers::new(settings),
            throttle: Throttle::new(settings, context),
            effects: Vec::new(),
            written: 0,
            recorded: 0,
            dirty: Vec::new(),
            waiting: Vec::new(),
            early: Vec::new(),
            waiting_for_log: Vec::new(),
            room: Room::default(),
            closing: VecDeque::new(),
            journal: durable.as_ref().map(|durable| Journal::new(durable.wall)),
            durable,
        }
    }

    /// New settings: clients that are connected keep what they were promised.
    fn reconfigure(&mut self, settings: &Settings, now: Millis) {
        self.connect_timeout_ms = settings.connect_timeout_ms;
        self.connect_packet_bytes_max = settings.connect_bytes_max();
        self.connect_plain_bytes_max = settings.connect_plain_bytes_max;
        self.throttle.retune(settings, self.place.shard, now);
        self.logins.set_gate(settings.gate.clone());
        self.layers.reconfigure(settings);
        self.shard.reconfigure(&settings.shard, now);
        self.shard.set_login_rules(settings.login.clone());
        self.shard.set_access(Arc::clone(&settings.access));
    }

    /// Bytes of a connection that has not sent a complete CONNECT yet.
    pub(super) fn connecting(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let (max, here, now) = (self.connect_packet_bytes_max, self.place.shard, io.now());
        let Some(entry) = self.conns.get_mut(conn.index()) else { return };
        let Some(arrival) = entry.arrival.as_deref().copied() else { return };
        entry.reassembly.keep(bytes);
        let held = entry.reassembly.take();
        let max = match codec::connect_carries(&held) {
            Some(false) => max.min(self.connect_plain_bytes_max),
            // A will or a password may take more; until that is known nothing is complete.
            Some(true) | None => max,
        };
        let decoded = match held.first() {
            // A stranger's first byte is enough to know him; his packet is not waited for.
            Some(first) if first >> 4 != CONNECT_TYPE => Err(DecodeError::NotConnect),
            Some(_) | None => codec::decode(&held, Version::V311, max),
        };
        match decoded {
            Ok(None) => entry.reassembly.put_back(held),
            Ok(Some((Packet::Connect(connect), connect_bytes))) => {
                if let Some(reason) = entry.refusal(arrival.address) {
                    entry.stage = Stage::Closing;
                    self.shard.refuse_connect(conn, connect.version, reason);
                    return self.throttle.note_over(now);
                }
                let peer = Peer {
                    listener: u16::try_from(arrival.listener).unwrap_or(u16::MAX),
                    address: arrival.address,
                    certificate: entry.stack.as_ref().and_then(|stack| stack.certificate()),
                };
                let home = match self.shard.client_id_of(&connect, &peer) {
                    // A client without identifier gets one whose home is here.
                    "" => here,
                    client_id => self.shard.home_of(client_id),
                };
                if home != here && !arrival.adopted {
                    return self.move_home(io, conn, home, held);
                }
                entry.stage = Stage::Live;
                entry.version = connect.version;
                entry.arrival = None;
                io.start_stream(conn);
                self.shard.handle(Input::Connect { conn, peer: &peer, connect }, now);
                let rest = held.get(connect_bytes..).unwrap_or_default();
                let admitted = self.shard.is_admitted(conn);
                if let Some(entry) = self.conn(conn) {
                    entry.admitted = admitted;
                }
                if self.shard.awaits_login(conn) {
                    self.wait_for_login(io, conn, rest);
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

    /// Sends a connection with all it has brought to the shard of its client. What is on its way to
    /// the peer has to leave first; then [`Handler::on_sent`] comes back to it.
    fn move_home(&mut self, io: &mut Wire, conn: ConnId, home: usize, bytes: Vec<u8>) {
        let Some(entry) = self.conns.get_mut(conn.index()) else { return };
        if io.is_sending(conn) {
            entry.reassembly.put_back(bytes);
            return self.pause(io, conn, PAUSED_BY_MOVE);
        }
        let Some(arrival) = entry.arrival.as_deref().copied() else { return };
        let stack = entry.stack.take();
        let pass = entry.pass.take();
        let Arrival { deadline, address, .. } = arrival;
        self.leave(io, conn);
        io.hand_over(conn, home, Luggage { bytes, deadline, address, stack, pass });
    }

    /// The connection goes to another shard or has ended: nothing of it stays here.
    fn leave(&mut self, io: &mut Wire, conn: ConnId) {
        self.shard.handle(Input::Closed { conn }, io.now());
        self.handshake_over(conn);
        if let Some(entry) = self.conns.get_mut(conn.index()) {
            *entry = VACANT;
        }
    }

    /// Bytes of a connection at home.
    pub(super) fn live(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let now = io.now();
        let Some(entry) = self.conns.get_mut(conn.index()) else { return };
        let version = entry.version;
        if entry.paused & PAUSED_BY_DISK != 0 {
            return entry.reassembly.keep(bytes);
        }
        let max = if entry.admitted {
            self.shard.packet_bytes_max(conn)
        } else {
            self.connect_packet_bytes_max
        };
        let mut rest = bytes;
        if !entry.reassembly.bytes().is_empty() {
            match entry.reassembly.complete(rest, max) {
                Ok((None, _)) => return,
                Ok((Some(packet), after)) => {
                    if self.decode(conn, &packet, (version, max), now) == 0 {
                        let Some(entry) = self.conn(conn) else { return };
                        entry.reassembly.put_back(packet);
                        entry.reassembly.keep(after);
                        return self.wait_for_room(io, conn);
                    }
                    rest = after;
                }
                Err(error) => {
                    entry.stage = Stage::Closing;
                    return self.shard.handle(Input::Malformed { conn, error }, now);
                }
            }
        }
        let decoded = self.decode(conn, rest, (version, max), now);
        let left = rest.get(decoded..).unwrap_or_default();
        if !left.is_empty()
            && let Some(entry) = self.conns.get_mut(conn.index())
            && entry.stage == Stage::Live
        {
            entry.reassembly.keep(left);
            self.wait_if_whole(io, conn);
        }
    }

    /// Hands every complete packet to the shard, up to one that waits for room on the disk. Gives
    /// the bytes used.
    fn decode(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        (version, max): (Version, u32),
        now: Millis,
    ) -> usize {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            match codec::decode(rest, version, max) {
                Ok(Some((packet, packet_bytes))) => {
                    if self.shard.awaits_room(version, &packet) {
                        return at;
                    }
                    at += packet_bytes;
                    self.throttle.packets += 1;
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

    /// Bytes of MQTT, whatever they came in.
    pub(super) fn mqtt(&mut self, io: &mut Wire, conn: ConnId, stage: Stage, bytes: &[u8]) {
        match stage {
            Stage::Connecting => self.connecting(io, conn, bytes),
            Stage::Live if self.conn(conn).is_some_and(|entry| entry.awaits_login) => {
                self.wait_for_login(io, conn, bytes);
            }
            Stage::Live => {
                self.look_at_disk(io);
                let before = self.throttle.packets;
                self.live(io, conn, bytes);
                self.charge(io, conn, self.throttle.packets - before, bytes.len());
                self.write_records(io);
                if self.shard.is_choked(conn) {
                    // Who does not read its acknowledgements is not read until they have left.
                    self.pause(io, conn, PAUSED_BY_OUTPUT);
                }
                if !io.outboxes_clear() {
                    // Who publishes while a mailbox is full is not read until it has room.
                    self.pause(io, conn, PAUSED_BY_MESH);
                    self.waiting.push(conn);
                }
                if self.is_log_behind(io) {
                    // Who writes more than the disk takes is not read until it has caught up.
                    self.pause(io, conn, PAUSED_BY_LOG);
                    self.waiting_for_log.push(conn);
                }
            }
            Stage::Closing | Stage::Vacant => {}
        }
    }

    /// Gives the log what was recorded so far, while it is in the processor's cache; the rest is
    /// for the end of the turn.
    fn write_records(&mut self, io: &mut Wire) {
        let (Some(journal), Some(log)) = (&mut self.journal, io.log()) else { return };
        let recorded = self.shard.last_position();
        if std::mem::replace(&mut self.recorded, recorded) == recorded {
            // Letters to other shards stay open for more messages.
            return;
        }
        self.shard.take_effects(&mut self.effects);
        // What was looked at before is not walked again: a turn may bring many receives and, from
        // other shards, many effects.
        let mut kept = self.written;
        for at in self.written..self.effects.len() {
            if let Some(Effect::Record(record)) = self.effects.get_mut(at) {
                journal.append(log, &mut self.shard, record);
            } else {
                self.effects.swap(kept, at);
                kept += 1;
            }
        }
        self.effects.truncate(kept);
        self.written = kept;
    }

    /// Carries out what the shard asked for.
    fn carry_out(&mut self, io: &mut Wire) {
        self.shard.take_effects(&mut self.effects);
        let mut effects = std::mem::take(&mut self.effects);
        self.written = 0;
        let mut closes = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Mail(to, mail) => {
                    points::letter(&mail);
                    let weight = mail.weight();
                    io.post_heavy(to, mail, weight);
                }
                Effect::Authenticate(conn, credentials) => {
                    self.logins.ask(self.place.shard, conn, credentials);
                }
                Effect::Close(conn) => closes.push(conn),
                Effect::Flow(conn, Flow::Pause) => self.pause(io, conn, PAUSED_BY_SHARD),
                Effect::Flow(conn, Flow::Resume) => self.resume(io, conn, PAUSED_BY_SHARD),
                Effect::Record(mut record) => {
                    if let (Some(journal), Some(log)) = (&mut self.journal, io.log()) {
                        journal.append(log, &mut self.shard, &mut record);
                    }
                }
                Effect::Fetch { lsn, at, purpose } => {
                    if let (Some(journal), Some(log)) = (&mut self.journal, io.log()) {
                        journal.fetch(log, (lsn, at), purpose);
                    }
                }
            }
        }
        effects.shrink_to(EFFECTS_KEPT);
        self.effects = effects;
        self.send_dirty(io);
        for conn in closes {
            self.end(io, conn);
        }
    }

    fn send_dirty(&mut self, io: &mut Wire) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.shard.take_dirty(&mut dirty);
        self.layers.take_answering(&mut dirty);
        for conn in dirty.drain(..) {
            // While a send is on its way the output grows on; `on_sent` comes back to it.
            if !io.is_sending(conn) {
                self.send(io, conn);
            }
        }
        self.dirty = dirty;
    }

    pub(super) fn send(&mut self, io: &mut Wire, conn: ConnId) {
        let output = self.shard.take_output(conn).inspect(points::output);
        if self.conn(conn).is_some_and(|entry| entry.stack.is_some()) {
            self.send_layered(io, conn, output);
        } else if let Some(outgoing) = output {
            io.send(conn, outgoing);
            self.resume(io, conn, PAUSED_BY_OUTPUT);
        }
    }
}

impl Handler for Driver {
    type Mail = Mail;
    type Luggage = Luggage;
    type Control = Control;

    fn on_start(&mut self, io: &mut Wire) {
        if let (Some(durable), Some(log)) = (self.durable.take(), io.log()) {
            self.shard.restore(durable.image, log.next_lsn().0 - 1, io.now());
        }
    }

    fn on_accept(&mut self, io: &mut Wire, conn: ConnId, accepted: Accepted) {
        let deadline = io.now().after(self.connect_timeout_ms);
        let Accepted { listener, peer } = accepted;
        let address = peer.map(tracing::field::display);
        let shard = self.place.shard;
        let conn_index = conn.index();
        debug!(target: CONNECTIONS, conn = conn_index, peer = address, listener, shard, "accepted");
        let handshake = Handshake::Over;
        let arrival = Arrival { deadline, listener, address: peer, adopted: false, handshake };
        self.enter(conn, Stage::Connecting, arrival);
        self.shard.handle(Input::Opened { conn, deadline }, io.now());
        if !self.admit(conn, listener, peer, io.now()) {
            return self.turn_away(io, conn);
        }
        self.lay(io, conn, listener, peer);
        if !self.shard.is_ready() {
            self.wait_for_start(io, conn);
        }
    }

    fn on_adopt(&mut self, io: &mut Wire, conn: ConnId, accepted: Accepted, luggage: Luggage) {
        let Luggage { bytes, deadline, address, stack, pass } = luggage;
        let (listener, handshake) = (accepted.listener, Handshake::Over);
        let arrival = Arrival { deadline, listener, address, adopted: true, handshake };
        self.enter(conn, Stage::Connecting, arrival);
        self.shard.handle(Input::Opened { conn, deadline }, io.now());
        if let Some(entry) = self.conn(conn) {
            entry.stack = stack;
            entry.pass = pass;
        }
        if self.shard.is_ready() {
            self.connecting(io, conn, &bytes);
        } else {
            if let Some(entry) = self.conn(conn) {
                entry.reassembly.put_back(bytes);
            }
            self.wait_for_start(io, conn);
        }
        if self.conn(conn).is_some_and(|entry| entry.stack.as_ref().is_some_and(|s| s.has_output()))
        {
            self.layers.answer(conn);
        }
    }

    fn on_bytes(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        match self.conn(conn) {
            Some(entry) if entry.stack.is_some() => self.layered(io, conn, bytes),
            Some(entry) => {
                let stage = entry.stage;
                self.mqtt(io, conn, stage, bytes);
            }
            None => {}
        }
    }

    fn on_sent(&mut self, io: &mut Wire, conn: ConnId, outgoing: Outgoing) {
        self.shard.recycle(outgoing.bytes);
        self.shard.handle(Input::Drained { conn }, io.now());
        match self.conn(conn).map(|entry| (entry.stage, entry.stack.as_ref())) {
            Some((Stage::Closing, _)) => {
                self.close_when_sent(io, conn);
            }
            Some((stage, Some(stack))) => {
                if stack.has_output() {
                    self.layers.answer(conn);
                }
                if stage == Stage::Connecting {
                    self.connecting(io, conn, &[]);
                }
            }
            Some((Stage::Connecting | Stage::Live | Stage::Vacant, None)) | None => {}
        }
    }

    fn on_closed(&mut self, io: &mut Wire, conn: ConnId, cause: Cause) {
        debug!(target: CONNECTIONS, conn = conn.index(), ?cause, "closed");
        self.leave(io, conn);
    }

    fn on_few(&mut self) {
        self.conns.shrink(|entry| entry.stage != Stage::Vacant, |_| {});
        self.shard.shrink();
    }

    fn on_mail(&mut self, io: &mut Wire, from: usize, mail: Mail) {
        self.shard.on_mail(from, mail, io.now());
    }

    fn on_control(&mut self, io: &mut Wire, control: Control) {
        match control {
            Control::Answer(answer) => {
                self.login_answered(io, *answer);
            }
            Control::Settings(settings) => self.reconfigure(&settings, io.now()),
            Control::Reloaded(taken) => self.shard.note_reload(taken),
            Control::Listeners(changes) => {
                for change in changes {
                    match change {
                        Change::Open(number, socket) => io.listen(number, socket),
                        Change::Tune(number, settings) => io.tune(number, &settings),
                        Change::Close(number) => io.unlisten(number),
                    }
                }
            }
        }
    }

    fn finish_turn(&mut self, io: &mut Wire) {
        self.layers.end_turn();
        self.shard.set_pressed(self.throttle.is_pressed());
        self.look_at_disk(io);
        self.use_room(io);
        self.carry_out(io);
        if self.answer_refused(io) {
            self.carry_out(io);
        }
        if !self.early.is_empty() && self.shard.is_ready() {
            for conn in std::mem::take(&mut self.early) {
                self.resume(io, conn, PAUSED_BY_START);
                // What came with a connection from another shard.
                self.connecting(io, conn, &[]);
            }
            self.carry_out(io);
        }
        if !self.waiting_for_log.is_empty() && !self.is_log_behind(io) {
            for conn in std::mem::take(&mut self.waiting_for_log) {
                self.resume(io, conn, PAUSED_BY_LOG);
            }
        }
        if !self.waiting.is_empty() && io.outboxes_clear() {
            for conn in std::mem::take(&mut self.waiting) {
                self.resume(io, conn, PAUSED_BY_MESH);
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        let cut = self.closing.front().map(|(due, _)| *due);
        let throttle = self.throttle.next_deadline();
        let cleaning = self.journal.as_ref().and_then(Journal::next_deadline);
        // Handshakes that wait for the next turn want it at once.
        let handshakes = self.layers.has_deferred().then_some(Millis(0));
        let own = [cut, cleaning, throttle, self.room.next_deadline(), handshakes];
        self.shard.next_deadline().into_iter().chain(own.into_iter().flatten()).min()
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
        self.read_on(io);
        self.shake_on(io);
        self.cut(io);
        let now = io.now();
        if let (Some(journal), Some(log)) = (&mut self.journal, io.log()) {
            journal.clean(log, &mut self.shard, now);
        }
    }

    fn on_durable(&mut self, io: &mut Wire, lsn: Lsn) {
        if let Some(journal) = &mut self.journal {
            journal.points.durable(lsn.0);
        }
        self.shard.on_durable(lsn.0, io.now());
        if let (Some(journal), Some(log)) = (&mut self.journal, io.log()) {
            journal.retry(log, &mut self.shard);
        }
    }

    fn on_record(&mut self, io: &mut Wire, token: u64, read: Result<StoredRecord, ReadFault>) {
        if let Some(journal) = &mut self.journal {
            journal.on_record(&mut self.shard, token, read, io.now());
            if let Some(log) = io.log() {
                journal.read_late(log);
            }
        }
    }

    fn on_chunk(&mut self, io: &mut Wire, _token: u64, chunk: Result<Chunk, ReadFault>) {
        if let Some(journal) = &mut self.journal {
            journal.on_chunk(chunk, io.now());
        }
    }

    fn on_stop(&mut self, _io: &mut Wire) {
        self.shard.stop();
    }
}
