//! Null relay: the engine of the broker without a broker. What a publisher sends, its subscribers
//! get, byte by byte; nothing is decoded, stored or acknowledged here. It is the limit that a
//! broker on this engine and this machine can come near to.
//!
//! ```text
//! hello:   CONNECT ─▶ CONNACK, SUBSCRIBE ─▶ SUBACK (the filter is remembered)
//! relay:   the first PUBLISH of a connection names its topic, and so its subscribers; from then on
//!          publisher ── bytes ──▶ subscribers         subscriber ── bytes ──▶ its first publisher
//! ```
//! Acknowledgements are the subscriber's own, passed back. So a pair carries the same bytes as
//! through a broker at every QoS; a publisher with many subscribers, or a subscriber with many
//! publishers, only at QoS 0. A shared group is wired one member to one publisher.
#![forbid(unsafe_code)]

use clap::Parser;
use culex::codec::{self, Connack, Packet, Properties, Qos, Reason, Suback, Version};
use culex::topic::TopicName;
use shards::{
    Accepted, Address, Cause, ConnId, Handler, Io, ListenerSettings, Millis, Outgoing, Settings,
};
use std::collections::HashMap;
use std::net::SocketAddr;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Spare outputs kept for reuse; more are freed.
const SPARE_MAX: usize = 256;
/// Output of a subscriber above which its publishers are not read; as much as the broker's default.
const OUTPUT_BYTES_MAX: usize = 4 << 20;
/// Longest hello; a connection that sends more before its first PUBLISH is closed.
const HELLO_BYTES_MAX: usize = 64 * 1024;

/// Relays bytes between MQTT clients; the ceiling in measurements of brokers.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    /// Address to listen on.
    #[arg(default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Keeps frames whole, for many publishers to one subscriber: all frames of a connection have
    /// to be as long as its first.
    #[arg(long)]
    whole_frames: bool,
    /// Takes packet by packet: decodes it, looks its topic up, copies it. The least that a broker
    /// does for a message, where without it a whole receive buffer is copied at once.
    #[arg(long, conflicts_with = "whole_frames")]
    packets: bool,
}

/// One connection.
#[derive(Debug, Default)]
struct Peer {
    /// Who this is; an index is used again.
    conn: Option<ConnId>,
    version: Option<Version>,
    /// Whom its bytes go to; empty while it says hello.
    targets: Vec<ConnId>,
    /// Bytes that are not relayed yet: an incomplete hello, or part of a frame.
    held: Vec<u8>,
    /// Length of a frame, if frames are kept whole.
    frame_bytes: usize,
    /// What the next turn sends.
    output: Outgoing,
    /// Connections that wait until the output has left.
    waiting: Vec<ConnId>,
}

#[derive(Debug, Default)]
struct Relay {
    whole_frames: bool,
    packets: bool,
    peers: Vec<Peer>,
    grown: Vec<ConnId>,
    spare: Vec<Outgoing>,
    subscribers: HashMap<String, Vec<ConnId>>,
    /// Members of shared groups that have no publisher yet.
    members: Vec<ConnId>,
}

type RelayIo = Io<(), ()>;

impl Relay {
    fn peer(&mut self, conn: ConnId) -> Option<&mut Peer> {
        self.peers.get_mut(conn.index()).filter(|peer| peer.conn == Some(conn))
    }

    /// Appends to the output of `to`; whether it is full now.
    fn pass(&mut self, to: ConnId, bytes: &[u8]) -> bool {
        let Some(peer) = self.peers.get_mut(to.index()).filter(|peer| peer.conn == Some(to)) else {
            return false;
        };
        if peer.output.bytes.is_empty() {
            self.grown.push(to);
            if peer.output.bytes.capacity() == 0 {
                peer.output = self.spare.pop().unwrap_or_default();
            }
        }
        peer.output.bytes.extend_from_slice(bytes);
        peer.output.bytes.len() > OUTPUT_BYTES_MAX
    }

    /// Sends `bytes` of `from` on to all its targets.
    fn relay(&mut self, io: &mut RelayIo, from: ConnId, bytes: &[u8]) {
        let Some(peer) = self.peer(from) else { return };
        let targets = std::mem::take(&mut peer.targets);
        for &target in &targets {
            if self.pass(target, bytes) {
                io.pause(from);
                if let Some(peer) = self.peer(target)
                    && !peer.waiting.contains(&from)
                {
                    peer.waiting.push(from);
                }
            }
        }
        if let Some(peer) = self.peer(from) {
            peer.targets = targets;
        }
    }

    /// Relays whole frames and holds the rest back.
    fn relay_whole(&mut self, io: &mut RelayIo, from: ConnId, bytes: &[u8]) {
        let Some(peer) = self.peer(from) else { return };
        let mut held = std::mem::take(&mut peer.held);
        held.extend_from_slice(bytes);
        let whole = held.len() - held.len() % peer.frame_bytes.max(1);
        self.relay(io, from, held.get(..whole).unwrap_or_default());
        held.drain(..whole);
        if let Some(peer) = self.peer(from) {
            peer.held = held;
        }
    }

    /// Relays packet by packet those whose topic somebody has subscribed to; holds the rest back.
    fn relay_packets(&mut self, io: &mut RelayIo, from: ConnId, bytes: &[u8]) {
        let Some(peer) = self.peer(from) else { return };
        let version = peer.version.unwrap_or(Version::V311);
        let mut held = std::mem::take(&mut peer.held);
        let fresh = held.is_empty();
        if !fresh {
            held.extend_from_slice(bytes);
        }
        let all = if fresh { bytes } else { &held };
        let mut used = 0;
        loop {
            let rest = all.get(used..).unwrap_or_default();
            let wanted = match codec::decode(rest, version, u32::MAX) {
                Ok(Some((packet, packet_bytes))) => {
                    used += packet_bytes;
                    let wanted = if let Packet::Publish(publish) = packet {
                        self.has_subscriber(publish.topic)
                    } else {
                        true
                    };
                    wanted.then_some(packet_bytes)
                }
                Ok(None) => break,
                Err(_) => return io.close(from),
            };
            if let Some(packet) = wanted.and_then(|packet_bytes| rest.get(..packet_bytes)) {
                self.relay(io, from, packet);
            }
        }
        let rest = all.get(used..).unwrap_or_default().to_vec();
        if let Some(peer) = self.peer(from) {
            peer.held = rest;
        }
    }

    fn has_subscriber(&self, topic: &str) -> bool {
        TopicName::parse(topic).is_ok() && self.subscribers.contains_key(topic)
    }

    /// Answers what comes before the first PUBLISH.
    fn hello(&mut self, io: &mut RelayIo, conn: ConnId, bytes: &[u8]) {
        let Some(peer) = self.peer(conn) else { return };
        let mut held = std::mem::take(&mut peer.held);
        held.extend_from_slice(bytes);
        let mut used = 0;
        let relaying = loop {
            let rest = held.get(used..).unwrap_or_default();
            match self.hello_packet(conn, rest) {
                Some(Step::Answered(bytes)) => used += bytes,
                Some(Step::Relay) => break true,
                Some(Step::Incomplete) if held.len() <= HELLO_BYTES_MAX => break false,
                Some(Step::Incomplete) | None => {
                    io.close(conn);
                    return;
                }
            }
        };
        held.drain(..used);
        if relaying {
            // From the start of the first PUBLISH on, bytes are bytes.
            self.on_bytes(io, conn, &held);
        } else if let Some(peer) = self.peer(conn) {
            peer.held = held;
        }
    }

    /// Takes one packet; `None` if it is none that a hello has.
    fn hello_packet(&mut self, conn: ConnId, bytes: &[u8]) -> Option<Step> {
        let version = self.peer(conn)?.version.unwrap_or(Version::V311);
        let Some((packet, used)) = codec::decode(bytes, version, u32::MAX).ok()? else {
            return Some(Step::Incomplete);
        };
        let mut out = Vec::new();
        let answer = if let Packet::Connect(connect) = packet {
            self.peer(conn)?.version = Some(connect.version);
            let (reason, properties) = (Reason::Success, Properties::default());
            Packet::Connack(Connack { session_present: false, reason, properties })
        } else if let Packet::Subscribe(subscribe) = packet {
            let mut reasons = Vec::new();
            for wanted in &subscribe.filters {
                reasons.push(granted(wanted.options.qos));
                self.subscribe(conn, wanted.filter);
            }
            let properties = Properties::default();
            Packet::Suback(Suback { packet_id: subscribe.packet_id, properties, reasons })
        } else if let Packet::Publish(publish) = packet {
            self.wire(conn, publish.topic, used);
            return Some(Step::Relay);
        } else {
            return None;
        };
        let version = self.peer(conn)?.version.unwrap_or(version);
        codec::encode(&answer, version, &mut out);
        self.pass(conn, &out);
        Some(Step::Answered(used))
    }

    fn subscribe(&mut self, conn: ConnId, filter: &str) {
        if filter.starts_with("$share/") {
            self.members.push(conn);
        } else {
            self.subscribers.entry(filter.to_owned()).or_default().push(conn);
        }
    }

    /// Connects a publisher with its subscribers.
    fn wire(&mut self, conn: ConnId, topic: &str, frame_bytes: usize) {
        let mut targets = self.subscribers.get(topic).cloned().unwrap_or_default();
        if targets.is_empty() {
            targets.extend(self.members.pop());
        }
        for &target in &targets {
            if let Some(peer) = self.peer(target)
                && peer.targets.is_empty()
            {
                peer.targets.push(conn);
            }
        }
        let frame_bytes = if self.whole_frames { frame_bytes } else { 0 };
        if let Some(peer) = self.peer(conn) {
            peer.targets = targets;
            // A topic without a subscriber goes nowhere, and the connection says no more hello.
            peer.targets.extend(peer.targets.is_empty().then_some(conn));
            peer.frame_bytes = frame_bytes;
        }
    }
}

/// What became of a packet of the hello.
enum Step {
    /// It had this many bytes.
    Answered(usize),
    /// It is the first PUBLISH.
    Relay,
    /// The rest has not come.
    Incomplete,
}

fn granted(qos: Qos) -> Reason {
    match qos {
        Qos::AtMostOnce => Reason::GRANTED_QOS0,
        Qos::AtLeastOnce => Reason::GrantedQos1,
        Qos::ExactlyOnce => Reason::GrantedQos2,
    }
}

impl Handler for Relay {
    type Mail = ();
    type Luggage = ();
    type Control = ();

    fn on_start(&mut self, _: &mut RelayIo) {}

    fn on_accept(&mut self, io: &mut RelayIo, conn: ConnId, _: Accepted) {
        if self.peers.len() <= conn.index() {
            self.peers.resize_with(conn.index() + 1, Peer::default);
        }
        if let Some(peer) = self.peers.get_mut(conn.index()) {
            *peer = Peer { conn: Some(conn), ..Peer::default() };
        }
        io.start_stream(conn);
    }

    fn on_adopt(&mut self, _: &mut RelayIo, _: ConnId, _: Accepted, (): ()) {}

    fn on_bytes(&mut self, io: &mut RelayIo, conn: ConnId, bytes: &[u8]) {
        let packets = self.packets;
        let Some(peer) = self.peer(conn) else { return };
        if peer.targets.is_empty() {
            self.hello(io, conn, bytes);
        } else if packets {
            self.relay_packets(io, conn, bytes);
        } else if peer.frame_bytes > 0 {
            self.relay_whole(io, conn, bytes);
        } else {
            self.relay(io, conn, bytes);
        }
    }

    fn on_sent(&mut self, io: &mut RelayIo, conn: ConnId, mut outgoing: Outgoing) {
        outgoing.clear();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(outgoing);
        }
        let Some(peer) = self.peer(conn) else { return };
        let more = !peer.output.bytes.is_empty();
        for waiting in std::mem::take(&mut peer.waiting) {
            io.resume(waiting);
        }
        if more {
            self.grown.push(conn);
        }
    }

    fn on_closed(&mut self, io: &mut RelayIo, conn: ConnId, _: Cause) {
        let Some(peer) = self.peer(conn) else { return };
        for waiting in std::mem::take(peer).waiting {
            io.resume(waiting);
        }
        self.members.retain(|&member| member != conn);
        self.subscribers.retain(|_, conns| {
            conns.retain(|&subscriber| subscriber != conn);
            !conns.is_empty()
        });
    }

    fn on_mail(&mut self, _: &mut RelayIo, _: usize, (): ()) {}

    fn on_control(&mut self, _: &mut RelayIo, (): ()) {}

    fn finish_turn(&mut self, io: &mut RelayIo) {
        for conn in self.grown.drain(..) {
            if let Some(peer) = self.peers.get_mut(conn.index())
                && peer.conn == Some(conn)
                && !peer.output.bytes.is_empty()
                && !io.is_sending(conn)
            {
                io.send(conn, std::mem::take(&mut peer.output));
            }
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        None
    }

    fn on_tick(&mut self, _: &mut RelayIo) {}

    fn on_stop(&mut self, io: &mut RelayIo) {
        for conn in self.peers.iter().filter_map(|peer| peer.conn) {
            io.close(conn);
        }
    }
}

fn main() -> anyhow::Result<()> {
    let Arguments { address, whole_frames, packets } = Arguments::parse();
    if let Err(error) = shards::probe::check_host() {
        eprintln!("relay: {error}");
        std::process::exit(error.exit_status());
    }
    // One shard: connections of several would have to be handed over like a broker's.
    let mut settings = Settings::new(shards::placement::choose(Some(1), None)?);
    settings.listeners.push(ListenerSettings::new(Address::Tcp(address)));
    let running =
        shards::start(settings, move |_| Relay { whole_frames, packets, ..Relay::default() })?;
    println!(
        "relay on {}",
        running.addresses().first().map(ToString::to_string).unwrap_or_default()
    );
    running.join()?;
    Ok(())
}
