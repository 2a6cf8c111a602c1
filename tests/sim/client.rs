//! Clients that speak bytes. A correct one follows the `QoS` flows, keeps its half of the session
//! over connections and repeats with DUP; a hostile one does what comes to its mind.

use crate::rng::Rng;
use crate::shadow::{Msg, MsgId, Shadow, message_id};
use crate::swarm::Swarm;
use culex::codec::{
    self, Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyList, Publish,
    Qos, Reason, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe,
    Version, Will,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const TOPICS: [&str; 5] = ["a/x", "a/y", "b/x", "b/y/z", "$d/x"];
const SHARED_TOPICS: [&str; 2] = ["s/x", "s/y"];
const FILTERS: [&str; 7] = ["a/x", "a/+", "a/#", "b/#", "b/+/z", "$d/#", "b/x"];
const WIDE_FILTERS: [&str; 3] = ["#", "+/x", "+/+"];
const SHARED_FILTERS: [&str; 4] = ["$share/g/s/x", "$share/g/s/+", "$share/h/s/#", "$share/h/s/x"];
/// Messages under way that a client of 3.x allows itself.
const OUT_MAX: usize = 20;

/// What hostile clients like to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    Correct,
    Garbage,
    NeverAcks,
    NeverReads,
    WrongIds,
    Violates,
    TakesOver,
}

const MANNERS: [Manner; 6] = [
    Manner::Garbage,
    Manner::NeverAcks,
    Manner::NeverReads,
    Manner::WrongIds,
    Manner::Violates,
    Manner::TakesOver,
];

#[derive(Debug)]
struct Out {
    pid: u16,
    msg: MsgId,
    released: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub id: String,
    pub version: Version,
    pub manner: Manner,
    pub conn: Option<usize>,
    /// CONNACK has come.
    pub connected: bool,
    pub expiry_s: u32,
    receive_maximum: usize,
    packet_bytes: usize,
    aliases_max: usize,
    out: VecDeque<Out>,
    received: BTreeSet<u16>,
    asked: BTreeSet<u16>,
    last_pid: u16,
    /// Acknowledgements that were not written yet.
    pub acks: VecDeque<Vec<u8>>,
    quota: usize,
    server_aliases: u16,
    aliases: BTreeMap<String, u16>,
    incoming: BTreeMap<u16, String>,
}

impl Client {
    pub(crate) fn new(number: usize, swarm: &Swarm, hostile: bool, r: &mut Rng) -> Client {
        let manner = if hostile { *r.pick(&MANNERS) } else { Manner::Correct };
        let version =
            *r.pick(&[Version::V31, Version::V311, Version::V5, Version::V5, Version::V5]);
        let id = match manner {
            Manner::TakesOver => "storm".into(),
            Manner::Correct => format!("c{number}"),
            _ => format!("h{number}"),
        };
        let some =
            |r: &mut Rng, max: usize| if max > 0 && r.chance(50) { r.between(1, max) } else { 0 };
        Client {
            id,
            version,
            manner,
            conn: None,
            connected: false,
            expiry_s: *r.pick(&[0, 5, 60, u32::MAX, u32::MAX]),
            receive_maximum: some(r, swarm.receive_maximum),
            packet_bytes: if r.chance(40) { swarm.packet_bytes } else { 0 },
            aliases_max: some(r, swarm.aliases),
            out: VecDeque::new(),
            received: BTreeSet::new(),
            asked: BTreeSet::new(),
            last_pid: 0,
            acks: VecDeque::new(),
            quota: OUT_MAX,
            server_aliases: 0,
            aliases: BTreeMap::new(),
            incoming: BTreeMap::new(),
        }
    }

    /// A well-behaved client that will ask for everything at the end.
    pub(crate) fn checker() -> Client {
        let swarm = Swarm::new(0);
        let mut client = Client::new(0, &swarm, false, &mut Rng::new(0, crate::rng::Stream::Swarm));
        client.id = "checker".into();
        client.version = Version::V5;
        (client.receive_maximum, client.packet_bytes, client.aliases_max) = (0, 0, 0);
        client.expiry_s = 0;
        client
    }

    /// Nothing of its own is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.acks.is_empty() && self.asked.is_empty()
    }

    pub(crate) fn state(&self) -> String {
        format!("{} out {:?} asked {:?}", self.id, self.out, self.asked)
    }

    /// CONNECT on a new connection.
    pub(crate) fn connect(
        &mut self,
        conn: usize,
        clean: bool,
        will: Option<(&Msg, u32)>,
    ) -> Vec<u8> {
        self.conn = Some(conn);
        self.connected = false;
        self.acks.clear();
        self.asked.clear();
        self.aliases.clear();
        self.incoming.clear();
        let mut properties = PropertyList::new();
        if self.expiry_s > 0 {
            properties.push(Property::SessionExpiryInterval(self.expiry_s));
        }
        if let Some(maximum) = u16::try_from(self.receive_maximum).ok().filter(|n| *n > 0) {
            properties.push(Property::ReceiveMaximum(maximum));
        }
        if let Some(maximum) = u32::try_from(self.packet_bytes).ok().filter(|n| *n > 0) {
            properties.push(Property::MaximumPacketSize(maximum));
        }
        if let Some(maximum) = u16::try_from(self.aliases_max).ok().filter(|n| *n > 0) {
            properties.push(Property::TopicAliasMaximum(maximum));
        }
        let mut will_properties = PropertyList::new();
        if let Some((_, delay_s)) = will.filter(|(_, delay_s)| *delay_s > 0) {
            will_properties.push(Property::WillDelayInterval(delay_s));
        }
        let connect = Connect {
            version: self.version,
            bridge: false,
            clean_start: clean,
            keep_alive_s: 0,
            properties: properties.as_properties(),
            client_id: &self.id,
            will: will.map(|(msg, _)| Will {
                qos: Qos::from_u8(msg.qos).unwrap(),
                retain: msg.retain,
                properties: will_properties.as_properties(),
                topic: &msg.topic,
                payload: &msg.payload,
            }),
            username: None,
            password: None,
        };
        self.encode(&Packet::Connect(connect))
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    fn forget(&mut self) {
        self.out.clear();
        self.received.clear();
    }

    fn encode(&self, packet: &Packet<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode(packet, self.version, &mut bytes);
        bytes
    }

    fn ack(&self, kind: fn(Ack<'static>) -> Packet<'static>, pid: u16) -> Vec<u8> {
        let packet_id = PacketId::new(pid).unwrap();
        let ack = Ack { packet_id, reason: Reason::Success, properties: Properties::default() };
        self.encode(&kind(ack))
    }

    fn pid(&mut self) -> u16 {
        loop {
            self.last_pid = self.last_pid % 60 + 1;
            let pid = self.last_pid;
            if !self.asked.contains(&pid) && self.out.iter().all(|out| out.pid != pid) {
                return pid;
            }
        }
    }

    /// A packet of the server. Gives what is written at once.
    pub(crate) fn take(
        &mut self,
        packet: &Packet<'_>,
        link: usize,
        shadow: &mut Shadow,
    ) -> Vec<u8> {
        match packet {
            Packet::Connack(connack) => {
                if connack.reason == Reason::Success {
                    self.connected = true;
                    let properties = connack.properties;
                    self.quota = properties.receive_maximum().map_or(OUT_MAX, usize::from).min(40);
                    self.server_aliases = properties.topic_alias_maximum().unwrap_or(0);
                    // MQTT 3.1 does not say so, and its clients have to know by other means.
                    if shadow.links[link].present {
                        return self.repeat(shadow);
                    }
                    self.forget();
                }
            }
            Packet::Publish(publish) => self.publication(publish, link, shadow),
            Packet::Puback(ack) => self.out.retain(|out| out.pid != ack.packet_id.get()),
            Packet::Pubrec(ack) => {
                let pid = ack.packet_id.get();
                if ack.reason.is_error() {
                    self.out.retain(|out| out.pid != pid);
                } else {
                    self.out
                        .iter_mut()
                        .filter(|out| out.pid == pid)
                        .for_each(|o| o.released = true);
                    self.acks.push_back(self.ack(Packet::Pubrel, pid));
                }
            }
            Packet::Pubrel(ack) => {
                self.received.remove(&ack.packet_id.get());
                self.acks.push_back(self.ack(Packet::Pubcomp, ack.packet_id.get()));
            }
            Packet::Pubcomp(ack) => self.out.retain(|out| out.pid != ack.packet_id.get()),
            Packet::Suback(suback) => {
                self.asked.remove(&suback.packet_id.get());
            }
            Packet::Unsuback(unsuback) => {
                self.asked.remove(&unsuback.packet_id.get());
            }
            _ => {}
        }
        if matches!(self.manner, Manner::NeverAcks | Manner::WrongIds) {
            self.acks.clear();
        }
        Vec::new()
    }

    fn publication(&mut self, publish: &Publish<'_>, link: usize, shadow: &mut Shadow) {
        let pid = publish.packet_id.map_or(0, PacketId::get);
        let id = message_id(publish.payload);
        match publish.qos {
            Qos::AtMostOnce => shadow.received(link, id, false),
            Qos::AtLeastOnce => {
                shadow.received(link, id, false);
                self.acks.push_back(self.ack(Packet::Puback, pid));
            }
            Qos::ExactlyOnce => {
                if self.received.insert(pid) {
                    shadow.received(link, id, true);
                }
                self.acks.push_back(self.ack(Packet::Pubrec, pid));
            }
        }
    }

    /// [MQTT-4.4.0-1] Everything without acknowledgement once more, in its order.
    fn repeat(&mut self, shadow: &Shadow) -> Vec<u8> {
        let mut bytes = Vec::new();
        for out in &self.out {
            bytes.extend(if out.released {
                self.ack(Packet::Pubrel, out.pid)
            } else {
                self.publish(&shadow.messages[out.msg], out.pid, true, None)
            });
        }
        bytes
    }

    fn publish(&self, msg: &Msg, pid: u16, dup: bool, alias: Option<(u16, bool)>) -> Vec<u8> {
        let mut properties = PropertyList::new();
        if let Some(expiry_s) = msg.expiry_s {
            properties.push(Property::MessageExpiryInterval(expiry_s));
        }
        if let Some((alias, _)) = alias {
            properties.push(Property::TopicAlias(alias));
        }
        let known = alias.is_some_and(|(_, known)| known);
        let packet = Publish {
            dup,
            qos: Qos::from_u8(msg.qos).unwrap(),
            retain: msg.retain,
            topic: if known { "" } else { &msg.topic },
            packet_id: PacketId::new(pid).filter(|_| msg.qos > 0),
            properties: properties.as_properties(),
            topic_alias: None,
            message_expiry_s: None,
            payload: &msg.payload,
        };
        self.encode(&Packet::Publish(packet))
    }

    /// A message that this client could send.
    pub(crate) fn invent(&self, swarm: &Swarm, r: &mut Rng, shadow: &mut Shadow) -> MsgId {
        let topics: &[&str] = if r.chance(swarm.shared) { &SHARED_TOPICS } else { &TOPICS };
        let qos = low_byte(r.below(3));
        let retain = r.chance(swarm.retain);
        let expires = self.is_v5() && r.chance(swarm.expiry);
        let msg = Msg {
            topic: (*r.pick(topics)).into(),
            qos,
            retain,
            expiry_s: expires.then(|| *r.pick(&[1, 5, 1000])),
            publisher: self.id.clone(),
            ..Msg::default()
        };
        shadow.message(msg, r.below(swarm.payload_bytes_max))
    }

    /// PUBLISH, if the window allows it.
    pub(crate) fn send(&mut self, swarm: &Swarm, r: &mut Rng, shadow: &mut Shadow) -> Vec<u8> {
        if self.out.len() >= self.quota.min(OUT_MAX) {
            return Vec::new();
        }
        if r.chance(swarm.retain / 8) {
            let (topic, qos) = ((*r.pick(&TOPICS)).into(), 0);
            let deletion = Msg { topic, qos, retain: true, ..Msg::default() };
            return self.publish(&deletion, 0, false, None);
        }
        let msg = self.invent(swarm, r, shadow);
        let pid = if shadow.messages[msg].qos > 0 { self.pid() } else { 0 };
        if pid > 0 {
            self.out.push_back(Out { pid, msg, released: false });
        }
        let alias = self.alias(&shadow.messages[msg].topic, r);
        self.publish(&shadow.messages[msg], pid, false, alias)
    }

    fn alias(&mut self, topic: &str, r: &mut Rng) -> Option<(u16, bool)> {
        if !self.is_v5() || self.server_aliases == 0 || r.chance(50) {
            return None;
        }
        if let Some(alias) = self.aliases.get(topic) {
            return Some((*alias, true));
        }
        let alias = u16::try_from(r.between(1, usize::from(self.server_aliases.min(4)))).unwrap();
        self.aliases.retain(|_, other| *other != alias);
        self.aliases.insert(topic.into(), alias);
        Some((alias, false))
    }

    pub(crate) fn subscribe(&mut self, swarm: &Swarm, r: &mut Rng) -> Vec<u8> {
        if self.asked.len() > 10 {
            return Vec::new();
        }
        let mut properties = PropertyList::new();
        if self.is_v5() && r.chance(40) {
            let identifier = u32::try_from(r.between(1, 300)).unwrap();
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        let mut filters: Vec<SubscribeFilter<'_>> = Vec::new();
        for _ in 0..r.between(1, 2) {
            let filter = Self::filter(swarm, r);
            let plain = !filter.starts_with("$share");
            let mut options =
                SubscribeOptions::with_qos(Qos::from_u8(low_byte(r.below(3))).unwrap());
            if self.is_v5() {
                options.no_local = plain && r.chance(20);
                options.retain_as_published = r.chance(30);
                options.retain_handling = *r.pick(&[
                    RetainHandling::Always,
                    RetainHandling::IfNew,
                    RetainHandling::Never,
                ]);
            }
            if filters.iter().all(|other| other.filter != filter) {
                filters.push(SubscribeFilter { filter, options });
            }
        }
        let pid = self.pid();
        self.asked.insert(pid);
        let packet_id = PacketId::new(pid).unwrap();
        let properties = properties.as_properties();
        self.encode(&Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }

    /// At the end of a run: everything that is retained.
    pub(crate) fn subscribe_all(&mut self, qos: Qos) -> Vec<u8> {
        let options = SubscribeOptions::with_qos(qos);
        let filters = ["#", "$d/#"].map(|filter| SubscribeFilter { filter, options }).to_vec();
        let packet_id = PacketId::new(self.pid()).unwrap();
        let properties = Properties::default();
        self.encode(&Packet::Subscribe(Subscribe { packet_id, properties, filters }))
    }

    fn filter(swarm: &Swarm, r: &mut Rng) -> &'static str {
        let filters: &[&'static str] = if r.chance(swarm.shared) {
            &SHARED_FILTERS
        } else if swarm.wide_filters && r.chance(30) {
            &WIDE_FILTERS
        } else {
            &FILTERS
        };
        filters[r.below(filters.len())]
    }

    pub(crate) fn unsubscribe(&mut self, swarm: &Swarm, r: &mut Rng) -> Vec<u8> {
        if self.asked.len() > 10 {
            return Vec::new();
        }
        let pid = self.pid();
        self.asked.insert(pid);
        let filters = vec![Self::filter(swarm, r)];
        let packet_id = PacketId::new(pid).unwrap();
        let properties = Properties::default();
        self.encode(&Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }))
    }

    pub(crate) fn ping(&self) -> Vec<u8> {
        self.encode(&Packet::Pingreq)
    }

    pub(crate) fn disconnect(&mut self, r: &mut Rng, expiry_s: Option<u32>) -> Vec<u8> {
        let mut properties = PropertyList::new();
        if let Some(expiry_s) = expiry_s.filter(|_| self.is_v5()) {
            properties.push(Property::SessionExpiryInterval(expiry_s));
        }
        let with_will = self.is_v5() && r.chance(40);
        let reason =
            if with_will { Reason::DisconnectWithWill } else { Reason::NORMAL_DISCONNECTION };
        let properties = properties.as_properties();
        self.encode(&Packet::Disconnect(Disconnect { reason, properties }))
    }

    /// Something that a correct client would not send.
    pub(crate) fn misbehave(&mut self, swarm: &Swarm, r: &mut Rng, shadow: &mut Shadow) -> Vec<u8> {
        match self.manner {
            // Any packet type but PUBLISH, which could bring a message that nobody knows.
            Manner::Garbage => {
                let kind = *r.pick(&[0x10, 0x20, 0x40, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0, 0xf0]);
                let body_bytes = r.below(12);
                let mut bytes = vec![kind | low_byte(r.below(200) / 180), low_byte(body_bytes)];
                bytes.extend((0..body_bytes).map(|_| low_byte(r.below(256))));
                bytes
            }
            Manner::WrongIds => {
                let kinds: [fn(Ack<'static>) -> Packet<'static>; 4] =
                    [Packet::Puback, Packet::Pubrec, Packet::Pubrel, Packet::Pubcomp];
                let pid = u16::try_from(r.between(1, 12)).unwrap();
                self.ack(*r.pick(&kinds), pid)
            }
            Manner::Violates => self.violate(r, shadow, swarm),
            Manner::NeverReads => self.ping().repeat(r.below(300)),
            _ => self.send(swarm, r, shadow),
        }
    }

    fn violate(&mut self, r: &mut Rng, shadow: &mut Shadow, swarm: &Swarm) -> Vec<u8> {
        let id = self.invent(swarm, r, shadow);
        let mut msg = shadow.messages[id].clone();
        let pid = u16::try_from(r.between(1, 8)).unwrap();
        match r.below(6) {
            0 => {
                msg.topic = "a/+".into();
                self.publish(&msg, pid, false, None)
            }
            1 => self.publish(&msg, pid, false, Some((999, false))),
            2 if self.aliases.is_empty() => self.publish(&msg, pid, false, Some((1, true))),
            3 => self.ack(Packet::Pubrel, pid),
            4 => {
                let mut bytes = self.ping();
                bytes[0] |= 3;
                bytes
            }
            // Identifiers in use and windows that are full are all the same to it.
            _ => self.publish(&msg, pid, r.chance(30) && msg.qos > 0, None),
        }
    }
}

fn low_byte(number: usize) -> u8 {
    u8::try_from(number % 256).unwrap()
}
