//! Shards, letters between them, time, and what clients receive.

use super::peer::Peer;
use crate::taker::Taker;
use culex::codec::{self, Connect, DecodeError, Packet, Properties, Publish, Qos, Version};
use culex::session::{Limits, Overflow};
use culex::shard::{Effect, Flow, Input, Mail, Peer as From, Place, Report, Settings, Shard};
use culex::topic::{Filter, TopicName};
use shards::{ConnId, Millis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

const PEERS: usize = 4;
/// The second lives on another shard than the others, if there are two.
pub(super) const CLIENTS: [&str; 3] = ["a", "b", "c-3"];
pub(super) const TOPICS: [&str; 8] = ["t", "t/u", "t/u/v", "/", "$x", "$x/u", "w", "é/ü"];
const EXPIRY_S_MAX: u32 = 10_000;
pub(super) const PACKET_BYTES_MAX: u32 = 3000;
pub(super) const IDS: u16 = 6;

/// A message that some client published, found by the number in its payload.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) topic: String,
    pub(super) qos: Qos,
    pub(super) publisher: usize,
    pub(super) will: bool,
}

/// Everything.
pub(super) struct Rig {
    pub(super) shards: Vec<Shard>,
    /// Letters by sender and receiver.
    mail: Vec<VecDeque<Mail>>,
    pub(super) peers: [Option<Peer>; PEERS],
    pub(super) generations: u32,
    pub(super) now: Millis,
    positions: Vec<u64>,
    durable: Vec<u64>,
    /// Letters wait for a command.
    pub(super) lazy_mail: bool,
    pub(super) lazy_log: bool,
    output_bytes_max: usize,
    pub(super) commands: usize,
    pub(super) sent: Vec<Sent>,
    /// All that a client ever subscribed to.
    pub(super) filters: [BTreeSet<Filter>; CLIENTS.len()],
    /// Last message seen, by connection, publisher, topic and delivered `QoS`.
    last_seen: BTreeMap<(usize, ConnId, usize, String, Qos), usize>,
    moved: bool,
    pub(super) stopped: bool,
}

impl Rig {
    /// The first bytes choose the limits.
    pub(super) fn new(taker: &mut Taker<'_>) -> Self {
        let count = 1 + taker.below(2);
        let switches = taker.byte();
        let small = taker.byte();
        let on = |bit: u8| switches & (1 << bit) != 0;
        let tight = |bit: u8| small & (1 << bit) != 0;
        let output_bytes_max = if tight(0) { 4096 } else { 4 << 20 };
        let settings = Settings {
            packet_bytes_max: PACKET_BYTES_MAX,
            topic_levels_max: 8,
            subscriptions_per_session_max: if tight(1) { 2 } else { 1000 },
            sessions_max: if tight(2) { 2 } else { 1000 },
            queue: Limits {
                queue_messages_max: if tight(3) { 2 } else { 1000 },
                queue_bytes_max: if tight(4) { 1024 } else { 1 << 20 },
                queue_qos0: on(0),
                overflow: Overflow::DropNewest,
            },
            inflight_max: if tight(5) { 2 } else { 100 },
            receive_maximum: if tight(6) { 2 } else { 100 },
            topic_alias_maximum: 3,
            topic_alias_out_maximum: 3,
            session_expiry_s_max: EXPIRY_S_MAX,
            retained_messages_max: if tight(7) { 2 } else { 1000 },
            output_bytes_max,
            payload_format_check: on(1),
            retain_available: !on(2),
            sys_interval_s: 0,
            recording: on(3),
            ..Settings::default()
        };
        let now = Millis(1_000_000);
        let shard = |shard| Shard::new(settings.clone(), Place { shard, shards: count }, now);
        let shards: Vec<Shard> = (0..count).map(shard).collect();
        let homes = CLIENTS.map(|client| shards[0].home_of(client));
        assert!(count == 1 || (homes[0] != homes[1] && homes[0] == homes[2]), "{homes:?}");
        Rig {
            shards,
            mail: (0..count * count).map(|_| VecDeque::new()).collect(),
            peers: [const { None }; PEERS],
            generations: 0,
            now,
            positions: vec![0; count],
            durable: vec![0; count],
            lazy_mail: on(4),
            lazy_log: on(5),
            output_bytes_max,
            commands: 0,
            sent: Vec::new(),
            filters: [const { BTreeSet::new() }; CLIENTS.len()],
            last_seen: BTreeMap::new(),
            moved: false,
            stopped: false,
        }
    }

    /// Encodes and decodes, as if it came from the network.
    pub(super) fn decoded(
        &mut self,
        packet: &Packet<'_>,
        version: Version,
        give: impl FnOnce(Result<Packet<'_>, DecodeError>, &mut [Shard], Millis),
    ) {
        let mut bytes = Vec::new();
        codec::encode(packet, version, &mut bytes);
        match codec::decode(&bytes, version, PACKET_BYTES_MAX) {
            Ok(Some((packet, _))) => give(Ok(packet), &mut self.shards, self.now),
            Ok(None) => unreachable!("a whole packet was encoded"),
            Err(error) => give(Err(error), &mut self.shards, self.now),
        }
    }

    /// Gives a packet to the shard, unless nothing is read from this client.
    pub(super) fn packet(&mut self, at: usize, packet: &Packet<'_>) {
        let Some(peer) = &mut self.peers[at] else { return };
        if peer.paused || peer.closing {
            return;
        }
        show(|| format!("{at} ▶ {packet:?}"));
        let (shard, conn, version) = (peer.shard, peer.conn, peer.version);
        match packet {
            Packet::Pingreq => peer.waits.pingresps += 1,
            Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
                (Qos::AtLeastOnce, Some(id)) => {
                    *peer.waits.pubacks.entry(id.get()).or_default() += 1;
                }
                (Qos::ExactlyOnce, Some(id)) => {
                    peer.waits.pubrecs.insert(id.get());
                }
                _ => {}
            },
            Packet::Pubrel(_) => peer.waits.pubcomps += 1,
            Packet::Subscribe(packet) => {
                let waits = peer.waits.subacks.entry(packet.packet_id.get()).or_default();
                waits.push(packet.filters.len());
            }
            Packet::Unsubscribe(packet) => {
                let waits = peer.waits.unsubacks.entry(packet.packet_id.get()).or_default();
                waits.push(packet.filters.len());
            }
            _ => {}
        }
        self.decoded(packet, version, |decoded, shards, now| {
            let input = match decoded {
                Ok(packet) => Input::Packet { conn, packet },
                Err(error) => Input::Malformed { conn, error },
            };
            shards[shard].handle(input, now);
        });
    }

    /// A payload that names the message.
    pub(super) fn numbered(&mut self, sent: Sent, more_bytes: usize) -> Vec<u8> {
        let number = u32::try_from(self.sent.len()).expect("few commands");
        self.sent.push(sent);
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(4 + more_bytes, b'x');
        payload
    }

    /// The transport is gone.
    pub(super) fn closed(&mut self, at: usize) {
        let Some(peer) = self.peers[at].take() else { return };
        show(|| format!("{at} closed"));
        self.shards[peer.shard].handle(Input::Closed { conn: peer.conn }, self.now);
    }

    pub(super) fn advance(&mut self, ms: u64) {
        self.now = self.now.after(ms);
        show(|| format!("{ms} ms pass"));
        for shard in &mut self.shards {
            shard.tick(self.now);
            assert!(shard.next_deadline().is_none_or(|next| next > self.now), "spinning");
        }
    }

    pub(super) fn deliver_letter(&mut self, pair: usize) {
        let (pair, count) = (pair % self.mail.len(), self.shards.len());
        let Some(letter) = self.mail[pair].pop_front() else { return };
        show(|| format!("letter {} to {}: {letter:?}", pair / count, pair % count));
        self.shards[pair % count].on_mail(pair / count, letter, self.now);
        self.moved = true;
    }

    pub(super) fn durable(&mut self, shard: usize) {
        let position = self.positions[shard];
        if std::mem::replace(&mut self.durable[shard], position) != position {
            self.moved = true;
            show(|| format!("durable {shard} {position}"));
            self.shards[shard].on_durable(position, self.now);
        }
    }

    /// What the driver does: effects, output, and letters if they do not wait for a command.
    pub(super) fn settle(&mut self) {
        loop {
            self.moved = false;
            self.take_effects();
            for at in 0..PEERS {
                if self.peers[at].as_ref().is_some_and(|peer| peer.reading) {
                    self.arrive(at);
                }
            }
            if !self.lazy_mail {
                for pair in 0..self.mail.len() {
                    self.deliver_letter(pair);
                }
            }
            if !self.lazy_log {
                (0..self.shards.len()).for_each(|shard| self.durable(shard));
            }
            if !self.moved {
                return;
            }
        }
    }

    fn take_effects(&mut self) {
        let count = self.shards.len();
        for shard in 0..count {
            let mut effects = Vec::new();
            self.shards[shard].take_effects(&mut effects);
            for effect in effects {
                self.moved = true;
                match effect {
                    Effect::Mail(to, mail) => {
                        self.mail[shard * count + to].push_back(mail);
                    }
                    Effect::Fetch { .. } => unreachable!("nothing is on disk"),
                    Effect::Authenticate(..) => unreachable!("nobody is asked who he is"),
                    Effect::Record(_) => self.positions[shard] += 1,
                    Effect::Close(conn) => self.with(shard, conn, |peer| peer.closing = true),
                    Effect::Flow(conn, flow) => self.with(shard, conn, |peer| {
                        assert_ne!(peer.paused, flow == Flow::Pause);
                        peer.paused = flow == Flow::Pause;
                    }),
                }
            }
        }
        let mut dirty = Vec::new();
        for shard in 0..count {
            self.shards[shard].take_dirty(&mut dirty);
            for conn in dirty.drain(..) {
                self.take_output(conn.index());
            }
        }
    }

    fn with(&mut self, shard: usize, conn: ConnId, change: impl FnOnce(&mut Peer)) {
        let peer = self.peers[conn.index()].as_mut();
        if let Some(peer) = peer.filter(|peer| (peer.shard, peer.conn) == (shard, conn)) {
            change(peer);
        }
    }

    fn take_output(&mut self, at: usize) {
        let Some(peer) = &mut self.peers[at] else { return };
        if peer.sending.is_some() {
            return;
        }
        let Some(out) = self.shards[peer.shard].take_output(peer.conn) else {
            return;
        };
        let bytes: Vec<u8> = out.slices(0).flatten().copied().collect();
        let bytes_max = self.output_bytes_max + 4096 + self.commands * 128;
        assert!(bytes.len() <= bytes_max, "{} bytes wait", bytes.len());
        peer.sending = Some(bytes);
        self.moved = true;
    }

    /// What was sent arrives; a connection that should close does so when nothing is left.
    pub(super) fn arrive(&mut self, at: usize) {
        let Some(peer) = &mut self.peers[at] else { return };
        let (shard, conn) = (peer.shard, peer.conn);
        match peer.sending.take() {
            Some(bytes) => {
                self.moved = true;
                self.read(at, &bytes);
                self.shards[shard].recycle(bytes);
                self.shards[shard].handle(Input::Drained { conn }, self.now);
                self.take_output(at);
            }
            None if peer.closing && !self.shards[shard].has_output(conn) => {
                self.moved = true;
                self.closed(at);
            }
            None => self.take_output(at),
        }
    }

    fn read(&mut self, at: usize, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(peer) = &mut self.peers[at] else { return };
            // Whoever names a protocol that the server does not know is told so in 3.x.
            let unknown = rest == [0x20, 0x02, 0x00, 0x01];
            let version = if unknown { Version::V311 } else { peer.version };
            let (packet, consumed) = codec::decode(rest, version, u32::MAX)
                .expect("a server sends legal packets")
                .expect("a server sends whole packets");
            rest = &rest[consumed..];
            show(|| format!("{at} ◀ {packet:?}"));
            let topic = peer.receive(&packet, consumed);
            if let (Packet::Publish(publish), Some(topic)) = (&packet, topic) {
                let receiver = (peer.client, peer.shard, peer.conn);
                self.message(receiver, publish, topic);
            }
        }
    }

    /// A message was sent by somebody, is wanted by its receiver, and comes in order.
    fn message(
        &mut self,
        (client, shard, conn): (usize, usize, ConnId),
        publish: &Publish<'_>,
        topic: String,
    ) {
        let name = TopicName::parse(&topic).expect("a server sends legal topics");
        let filters = &self.filters[client];
        assert!(filters.iter().any(|filter| filter.matches(name)), "{topic} is not wanted");
        let Some(number) = publish.payload.first_chunk::<4>() else {
            assert!(publish.payload.is_empty(), "nobody sent that");
            return;
        };
        let number = usize::try_from(u32::from_be_bytes(*number)).expect("64 bits");
        let sent = self.sent.get(number).expect("somebody sent it");
        assert!(sent.topic.is_empty() || sent.topic == topic, "sent as {}", sent.topic);
        assert!(publish.qos <= sent.qos);
        let shared = filters.iter().any(|filter| filter.share().is_some());
        if !(sent.will || shared || publish.retain || publish.dup) {
            let stream = (shard, conn, sent.publisher, topic, publish.qos);
            let before = self.last_seen.insert(stream, number);
            assert!(before.is_none_or(|before| before < number), "{before:?} before {number}");
        }
    }

    /// All clients read and acknowledge, all letters and records arrive: nothing may go on forever.
    pub(super) fn come_to_rest(&mut self) {
        (self.lazy_mail, self.lazy_log) = (false, false);
        for peer in self.peers.iter_mut().flatten() {
            peer.reading = true;
        }
        for round in 0.. {
            assert!(round < 10_000, "no rest");
            self.settle();
            let mut busy = false;
            for at in 0..PEERS {
                let waits = |peer: &Peer| !peer.to_acknowledge().is_empty() && !peer.closing;
                if self.peers[at].as_ref().is_some_and(waits) {
                    self.acknowledge(at, 0);
                    busy = true;
                }
            }
            if !busy {
                break;
            }
        }
        assert!(self.mail.iter().all(VecDeque::is_empty));
        for peer in self.peers.iter().flatten().filter(|peer| peer.is_serving()) {
            peer.check_answered();
            assert!(peer.in_flight.is_empty(), "PUBREC without answer: {:?}", peer.in_flight);
        }
        let serving = self.peers.iter().flatten().filter(|peer| peer.is_serving()).count();
        assert_eq!(self.report().connected, serving as u64);
    }

    /// All connections and then all sessions end: only retained messages are left.
    pub(super) fn end_everything(&mut self) {
        for at in 0..PEERS {
            self.closed(at);
        }
        self.settle();
        if self.stopped {
            // A stopping broker keeps its sessions as they are.
            return;
        }
        // Wills and ends of sessions; and once more, for what those have caused.
        for _ in 0..2 {
            self.advance(u64::from(EXPIRY_S_MAX) * 1000 + 1000);
            self.settle();
        }
        let Report { connected, sessions, subscriptions, shared_subscriptions, .. } = self.report();
        assert_eq!((connected, sessions, subscriptions, shared_subscriptions), (0, 0, 0, 0));
        let Report { queued, queued_bytes, .. } = self.report();
        assert_eq!((queued, queued_bytes), (0, 0));
        self.check_no_interest_left();
    }

    /// A last publisher on each shard finds nobody: no letter leaves.
    fn check_no_interest_left(&mut self) {
        let conn = ConnId::new(u32::try_from(PEERS).expect("small"), 0);
        let connect = Packet::Connect(Connect {
            version: Version::V311,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties::default(),
            client_id: "last",
            will: None,
            username: None,
            password: None,
        });
        for shard in 0..self.shards.len() {
            let deadline = self.now.after(1);
            self.shards[shard].handle(Input::Opened { conn, deadline }, self.now);
            let Packet::Connect(connect) = connect.clone() else { return };
            let peer = &From::default();
            self.shards[shard].handle(Input::Connect { conn, peer, connect }, self.now);
            for topic in TOPICS {
                let packet = Packet::Publish(Publish {
                    dup: false,
                    qos: Qos::AtMostOnce,
                    retain: false,
                    topic,
                    packet_id: None,
                    properties: Properties::default(),
                    topic_alias: None,
                    message_expiry_s: None,
                    payload: b"",
                });
                self.shards[shard].handle(Input::Packet { conn, packet }, self.now);
            }
            let mut effects = Vec::new();
            self.shards[shard].take_effects(&mut effects);
            assert!(effects.is_empty(), "still wanted: {effects:?}");
        }
    }

    fn report(&self) -> Report {
        let mut all = Report::default();
        for report in self.shards.iter().map(Shard::report) {
            all.connected += report.connected;
            all.sessions += report.sessions;
            all.subscriptions += report.subscriptions;
            all.shared_subscriptions += report.shared_subscriptions;
            all.queued += report.queued;
            all.queued_bytes += report.queued_bytes;
        }
        all
    }
}

/// Prints what happens if `CULEX_FUZZ_SHOW` is set: for reading a finding.
pub(super) fn show(line: impl FnOnce() -> String) {
    static SHOWN: OnceLock<bool> = OnceLock::new();
    if *SHOWN.get_or_init(|| std::env::var_os("CULEX_FUZZ_SHOW").is_some()) {
        eprintln!("{}", line());
    }
}
