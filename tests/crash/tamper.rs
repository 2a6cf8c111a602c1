//! Bugs between the sockets and the clients, each of which the judge has to find: to the clients it
//! is as if the broker had them.

use std::collections::BTreeSet;

use crate::compose::compose;
use crate::packet::{Packet, Version};

/// One kind of broken broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A QoS 1 message is acknowledged and thrown away.
    AckAndDrop1,
    /// A QoS 2 message is acknowledged and thrown away.
    AckAndDrop2,
    /// A QoS 2 message comes again under another packet identifier.
    Duplicate,
    /// Two messages of one publisher come in the wrong order.
    Swap,
    /// SUBACK is sent, nothing is subscribed.
    ForgetSubscription,
    /// UNSUBACK is sent, the subscription stays.
    KeepSubscription,
    /// A message is published, but not retained.
    ForgetRetained,
    /// One byte of a payload is another.
    Damage,
    /// Session present is denied.
    DenySession,
    /// A message comes with a higher `QoS`.
    RaiseQos,
}

/// The bugs that are tried.
pub(crate) const BUGS: &[Bug] = &[
    Bug::AckAndDrop1,
    Bug::AckAndDrop2,
    Bug::Duplicate,
    Bug::Swap,
    Bug::ForgetSubscription,
    Bug::KeepSubscription,
    Bug::ForgetRetained,
    Bug::Damage,
    Bug::DenySession,
    Bug::RaiseQos,
];

/// The seam where a bug sits. Each strikes once, after some chances went by; what concerns retained
/// messages and subscriptions strikes always, because later ones would heal it.
pub(crate) struct Tamper {
    bug: Bug,
    chances: usize,
    struck: bool,
    held: Option<(usize, Packet)>,
    /// Packet identifiers of its own towards a client: handshakes that the broker must not see.
    own: BTreeSet<(usize, u16)>,
}

impl Tamper {
    pub(crate) fn new(bug: Bug, after: usize) -> Self {
        Self { bug, chances: after, struck: false, held: None, own: BTreeSet::new() }
    }

    /// There is no bug, or it had its chance.
    pub(crate) fn is_done(&self) -> bool {
        self.bug == Bug::None || self.struck
    }

    /// The bug had its chance.
    pub(crate) fn has_struck(&self) -> bool {
        self.struck
    }

    fn strikes(&mut self) -> bool {
        if self.struck {
            return false;
        }
        self.struck = self.chances == 0;
        self.chances = self.chances.saturating_sub(1);
        self.struck
    }

    /// A packet on its way to the broker: what it gets, and what the client gets at once.
    pub(crate) fn outbound(
        &mut self,
        client: usize,
        frame: Vec<u8>,
        version: Version,
    ) -> (Vec<u8>, Vec<Packet>) {
        if self.bug == Bug::None {
            return (frame, Vec::new());
        }
        let kind = frame[0] >> 4;
        let qos = (frame[0] >> 1) & 3;
        let body = 1 + frame[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
        let two = |at: usize| frame.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        let first = two(body).unwrap_or_default();
        match (self.bug, kind) {
            (Bug::AckAndDrop1, 3) if qos == 1 && self.strikes() => {
                let id = two(body + 2 + usize::from(first)).unwrap();
                (Vec::new(), vec![answer("puback", id, version)])
            }
            (Bug::AckAndDrop2, 3) if qos == 2 && self.strikes() => {
                let id = two(body + 2 + usize::from(first)).unwrap();
                self.own.insert((client, id));
                (Vec::new(), vec![answer("pubrec", id, version)])
            }
            (Bug::AckAndDrop2, 6) if self.own.remove(&(client, first)) => {
                (Vec::new(), vec![answer("pubcomp", first, version)])
            }
            (Bug::Duplicate, 5) if self.own.contains(&(client, first)) => {
                (Vec::new(), vec![answer("pubrel", first, version)])
            }
            (Bug::Duplicate, 7) if self.own.remove(&(client, first)) => (Vec::new(), Vec::new()),
            (Bug::ForgetSubscription, 8) => {
                self.struck = true;
                let mut packet = answer("suback", first, version);
                packet.codes = vec![frame[frame.len() - 1]];
                (Vec::new(), vec![packet])
            }
            (Bug::KeepSubscription, 10) => {
                self.struck = true;
                let mut packet = answer("unsuback", first, version);
                packet.codes = vec![0];
                (Vec::new(), vec![packet])
            }
            (Bug::ForgetRetained, 3) if frame[0] & 1 == 1 => {
                self.struck = true;
                let mut frame = frame;
                frame[0] &= 0xfe;
                (frame, Vec::new())
            }
            _ => (frame, Vec::new()),
        }
    }

    /// A packet on its way to the client: what it gets, and what the broker gets at once.
    pub(crate) fn inbound(
        &mut self,
        client: usize,
        mut packet: Packet,
        version: Version,
    ) -> (Vec<Packet>, Vec<u8>) {
        let is_live = packet.name == "publish" && !packet.words.iter().any(|word| word == "retain");
        let plain = is_live && packet.payload.starts_with(b"m-");
        let bug = self.bug;
        match bug {
            Bug::Duplicate if plain && packet.qos == 2 && self.strikes() => {
                let mut copy = packet.clone();
                copy.id = packet.id ^ 0x8000;
                self.own.insert((client, copy.id));
                (vec![packet, copy], Vec::new())
            }
            Bug::Swap if self.held.as_ref().is_some_and(|held| held.0 == client) => {
                let (_, held) = self.held.take().unwrap();
                if is_live && same_stream(&held, &packet) {
                    self.struck = true;
                    return (vec![packet, held], Vec::new());
                }
                (vec![held, packet], Vec::new())
            }
            Bug::Swap if plain && !self.struck && self.held.is_none() && packet.qos > 0 => {
                self.held = Some((client, packet));
                (Vec::new(), Vec::new())
            }
            Bug::Damage if plain && self.strikes() => {
                let last = packet.payload.len() - 1;
                packet.payload[last] ^= 1;
                (vec![packet], Vec::new())
            }
            Bug::DenySession if packet.name == "connack" => {
                let before = packet.words.len();
                packet.words.retain(|word| word != "present");
                self.struck |= packet.words.len() < before;
                (vec![packet], Vec::new())
            }
            Bug::RaiseQos if plain && packet.qos == 1 && self.strikes() => {
                packet.qos = 2;
                // The broker waits for PUBACK; the handshake of the client ends here.
                self.bug = Bug::Duplicate;
                self.own.insert((client, packet.id));
                let ack = compose(&format!("puback {}", packet.id), version, "");
                (vec![packet], ack)
            }
            Bug::None
            | Bug::AckAndDrop1
            | Bug::AckAndDrop2
            | Bug::Duplicate
            | Bug::Swap
            | Bug::ForgetSubscription
            | Bug::KeepSubscription
            | Bug::ForgetRetained
            | Bug::Damage
            | Bug::DenySession
            | Bug::RaiseQos => (vec![packet], Vec::new()),
        }
    }
}

/// From the same publisher, to the same topic, at the same `QoS`.
fn same_stream(one: &Packet, other: &Packet) -> bool {
    let publisher = |packet: &Packet| {
        let words = packet.payload.split(|byte| *byte == b'-').skip(1);
        words.take(1).next().map(<[u8]>::to_vec)
    };
    publisher(one) == publisher(other)
        && one.topic == other.topic
        && one.qos == other.qos
        && one.payload != other.payload
}

fn answer(name: &'static str, id: u16, version: Version) -> Packet {
    let codes = if version == Version::V5 { vec![0] } else { Vec::new() };
    Packet { name, id, codes, ..Packet::default() }
}
