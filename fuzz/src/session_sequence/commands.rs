//! The commands: what clients do, chosen by the fuzzer's bytes.

use super::peer::{Allowed, Peer, Stage};
use super::rig::{CLIENTS, IDS, PACKET_BYTES_MAX, Rig, Sent, TOPICS, show};
use crate::taker::Taker;
use culex::codec::{
    self, Ack, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyList, Publish,
    Qos, Reason, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions, Unsubscribe,
    Version, Will,
};
use culex::shard::{Input, Peer as From, Shard};
use culex::topic::Filter;
use shards::ConnId;
use std::num::NonZeroU16;

const FILTERS: [&str; 14] = [
    "t",
    "t/u",
    "t/#",
    "+/u",
    "#",
    "+",
    "$x/#",
    "$share/g/t",
    "$share/g/#",
    "$share/h/t/+",
    "w",
    "+/+/+",
    "bad#",
    "é/+",
];

impl Rig {
    pub(super) fn command(&mut self, taker: &mut Taker<'_>) {
        self.commands += 1;
        let code = taker.byte();
        let at = usize::from(code >> 6);
        match code & 0x1f {
            0 | 1 => self.connect(at, taker),
            2..=7 => self.publish(at, taker),
            8..=10 => self.subscribe(at, taker),
            11 => self.unsubscribe(at, taker),
            12..=15 => self.acknowledge(at, taker.below(8)),
            16 => self.acknowledge_anything(at, taker),
            17 => self.release(at, taker),
            18 => self.raw(at, taker),
            19 => self.disconnect(at, taker),
            20 => self.closed(at),
            21 => {
                if let Some(peer) = &mut self.peers[at] {
                    peer.reading = !peer.reading;
                }
            }
            22 => self.advance(taker.one_of(&[1, 60, 1000, 5000, 60_000, 3_600_000])),
            23..=25 => {
                self.deliver_letter(taker.below(4));
            }
            26 => self.durable(at % self.shards.len()),
            27 => self.packet(at, &Packet::Pingreq),
            28 => self.lazy_mail = !self.lazy_mail,
            29 => self.lazy_log = !self.lazy_log,
            30 if taker.byte() == 0x51 => {
                self.stopped = true;
                self.shards.iter_mut().for_each(Shard::stop);
            }
            _ => self.arrive(at),
        }
        self.settle();
    }

    fn connect(&mut self, at: usize, taker: &mut Taker<'_>) {
        let version = taker.one_of(&[Version::V5, Version::V311, Version::V31]);
        let flags = taker.byte();
        let client = taker.below(CLIENTS.len());
        let allowed = taker.byte();
        let v5 = version == Version::V5;
        let mut properties = PropertyList::new();
        let receive_maximum = [u16::MAX, 1, 3, 100][usize::from(allowed & 3)];
        let packet_bytes_max = [u32::MAX, 24, 64, 300][usize::from(allowed >> 2 & 3)];
        let aliases_max = [0, 1, 2, 10][usize::from(allowed >> 4 & 3)];
        if v5 {
            properties.push(Property::SessionExpiryInterval(taker.one_of(&[0, 5, 3600, u32::MAX])));
            if receive_maximum != u16::MAX {
                properties.push(Property::ReceiveMaximum(receive_maximum));
            }
            if packet_bytes_max != u32::MAX {
                properties.push(Property::MaximumPacketSize(packet_bytes_max));
            }
            properties.push(Property::TopicAliasMaximum(aliases_max));
        }
        let mut will_properties = PropertyList::new();
        let payload = (flags & 0x02 != 0).then(|| {
            let (topic, qos) = ("w".to_owned(), Qos::ExactlyOnce);
            self.numbered(Sent { topic, qos, publisher: client, will: true }, 0)
        });
        if v5 && flags & 0x04 != 0 {
            will_properties.push(Property::WillDelayInterval(taker.one_of(&[1, 5, 100])));
        }
        let will = payload.as_deref().map(|payload| Will {
            qos: Qos::from_u8(flags >> 6 & 3).unwrap_or(Qos::AtLeastOnce),
            retain: flags & 0x08 != 0,
            properties: will_properties.as_properties(),
            topic: "w",
            payload,
        });
        let clean_start = flags & 0x01 != 0;
        let packet = Packet::Connect(Connect {
            version,
            bridge: false,
            clean_start,
            keep_alive_s: if flags & 0x10 != 0 { 30 } else { 0 },
            properties: properties.as_properties(),
            client_id: CLIENTS[client],
            will,
            username: None,
            password: None,
        });
        if self.peers[at].is_some() {
            // A second CONNECT on the same connection.
            return self.packet(at, &packet);
        }
        let shard = self.shards[0].home_of(CLIENTS[client]);
        self.generations += 1;
        let conn = ConnId::new(u32::try_from(at).expect("small"), self.generations);
        let none = usize::MAX;
        let allowed = Allowed {
            receive_maximum: if v5 { receive_maximum.into() } else { none },
            packet_bytes_max: match packet_bytes_max {
                bytes if v5 && bytes != u32::MAX => usize::try_from(bytes).expect("64 bits"),
                _ => none,
            },
            aliases_max: if v5 { aliases_max } else { 0 },
        };
        show(|| format!("{at} ▶ {packet:?}"));
        self.peers[at] = Some(Peer::new((shard, conn), version, (client, clean_start), allowed));
        let deadline = self.now.after(10_000);
        self.shards[shard].handle(Input::Opened { conn, deadline }, self.now);
        if flags & 0x20 != 0 {
            // The CONNECT never comes.
            return;
        }
        self.decoded(&packet, version, |input, shards, now| {
            let input = match input {
                Ok(Packet::Connect(connect)) => {
                    Input::Connect { conn, peer: &From::default(), connect }
                }
                Ok(packet) => Input::Packet { conn, packet },
                Err(error) => Input::Malformed { conn, error },
            };
            shards[shard].handle(input, now);
        });
    }

    fn publish(&mut self, at: usize, taker: &mut Taker<'_>) {
        let flags = taker.byte();
        let topic = taker.one_of(&TOPICS);
        let Some(peer) = &self.peers[at] else { return };
        let (client, v5) = (peer.client, peer.version == Version::V5);
        let qos = Qos::from_u8(flags & 3).unwrap_or(Qos::AtLeastOnce);
        let id = PacketId::new(u16::from(taker.byte()) % IDS + 1);
        let mut list = PropertyList::new();
        let alias = if v5 && flags & 0x40 != 0 { taker.below(5) } else { 0 };
        let alias = u16::try_from(alias).ok().and_then(NonZeroU16::new);
        if let Some(alias) = alias {
            list.push(Property::TopicAlias(alias.get()));
        }
        let expiry_s = (v5 && flags & 0x20 != 0).then(|| taker.one_of(&[0, 1, 60, u32::MAX]));
        if let Some(expiry_s) = expiry_s {
            list.push(Property::MessageExpiryInterval(expiry_s));
        }
        let mut payload = Vec::new();
        if flags & 0x80 == 0 {
            let more = taker.one_of(&[0, 0, 10, 200, 1000]);
            let topic = topic.to_owned();
            payload = self.numbered(Sent { topic, qos, publisher: client, will: false }, more);
        }
        let lonely_alias = alias.is_some() && taker.byte() & 1 == 1;
        if lonely_alias && let Some(sent) = self.sent.last_mut() {
            // Which topic it is depends on what was defined.
            sent.topic.clear();
        }
        self.packet(
            at,
            &Packet::Publish(Publish {
                dup: flags & 0x08 != 0 && qos != Qos::AtMostOnce,
                qos,
                retain: flags & 0x10 != 0,
                topic: if lonely_alias { "" } else { topic },
                packet_id: id.filter(|_| qos != Qos::AtMostOnce),
                properties: list.as_properties(),
                topic_alias: alias,
                message_expiry_s: expiry_s,
                payload: &payload,
            }),
        );
    }

    fn subscribe(&mut self, at: usize, taker: &mut Taker<'_>) {
        let id = PacketId::new(u16::from(taker.byte()) % IDS + 1).expect("from 1 on");
        let Some(peer) = &self.peers[at] else { return };
        let (client, v5) = (peer.client, peer.version == Version::V5);
        let mut filters = Vec::new();
        for _ in 0..=taker.below(3) {
            let filter = taker.one_of(&FILTERS);
            let flags = taker.byte();
            let qos = Qos::from_u8(flags & 3).unwrap_or(Qos::ExactlyOnce);
            let mut options = SubscribeOptions::with_qos(qos);
            if v5 {
                options.no_local = flags & 0x04 != 0 && !(filter.starts_with('$') && flags < 0x80);
                options.retain_as_published = flags & 0x08 != 0;
                options.retain_handling = [
                    RetainHandling::Always,
                    RetainHandling::IfNew,
                    RetainHandling::Never,
                    RetainHandling::Always,
                ][usize::from(flags >> 4 & 3)];
            }
            self.filters[client].extend(Filter::parse(filter, 8).ok());
            filters.push(SubscribeFilter { filter, options });
        }
        let mut list = PropertyList::new();
        if v5 && taker.byte() & 1 == 1 {
            list.push(Property::SubscriptionIdentifier(taker.one_of(&[1, 300, 0x0fff_ffff])));
        }
        let properties = list.as_properties();
        self.packet(at, &Packet::Subscribe(Subscribe { packet_id: id, properties, filters }));
    }

    fn unsubscribe(&mut self, at: usize, taker: &mut Taker<'_>) {
        let packet_id = PacketId::new(u16::from(taker.byte()) % IDS + 1).expect("from 1 on");
        let filters = (0..=taker.below(3)).map(|_| taker.one_of(&FILTERS)).collect();
        let properties = Properties::default();
        self.packet(at, &Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }));
    }

    /// The client goes on with one of the deliveries in flight, as it should.
    pub(super) fn acknowledge(&mut self, at: usize, nth: usize) {
        let Some(peer) = &mut self.peers[at] else { return };
        let choices = peer.to_acknowledge();
        if peer.paused || peer.closing || choices.is_empty() {
            return;
        }
        let (id, stage) = choices[nth % choices.len()];
        let ack = |reason| Ack {
            packet_id: PacketId::new(id).expect("not 0"),
            reason,
            properties: Properties::default(),
        };
        let packet = match stage {
            Stage::Published(Qos::ExactlyOnce) if nth == 7 && peer.version == Version::V5 => {
                peer.in_flight.remove(&id);
                Packet::Pubrec(ack(Reason::QuotaExceeded))
            }
            Stage::Published(Qos::ExactlyOnce) => {
                peer.in_flight.insert(id, Stage::Owned);
                Packet::Pubrec(ack(Reason::Success))
            }
            Stage::Published(_) => {
                peer.in_flight.remove(&id);
                Packet::Puback(ack(Reason::Success))
            }
            Stage::Owned | Stage::Released => {
                peer.in_flight.remove(&id);
                Packet::Pubcomp(ack(Reason::Success))
            }
        };
        self.packet(at, &packet);
    }

    /// Any acknowledgement for any identifier: from here on the two sides may disagree.
    fn acknowledge_anything(&mut self, at: usize, taker: &mut Taker<'_>) {
        let kind = taker.below(3);
        let Some(id) = PacketId::new(u16::from(taker.byte()) + 1) else { return };
        let Some(peer) = &mut self.peers[at] else { return };
        peer.lawless = true;
        peer.in_flight.clear();
        let reason = if peer.version == Version::V5 && kind == 1 {
            taker.one_of(&[Reason::Success, Reason::NotAuthorized])
        } else {
            Reason::Success
        };
        let ack = Ack { packet_id: id, reason, properties: Properties::default() };
        let packet = match kind {
            0 => Packet::Puback(ack),
            1 => Packet::Pubrec(ack),
            _ => Packet::Pubcomp(ack),
        };
        self.packet(at, &packet);
    }

    fn release(&mut self, at: usize, taker: &mut Taker<'_>) {
        let packet_id = PacketId::new(u16::from(taker.byte()) % IDS + 1).expect("from 1 on");
        let (reason, properties) = (Reason::Success, Properties::default());
        self.packet(at, &Packet::Pubrel(Ack { packet_id, reason, properties }));
    }

    /// Bytes that nobody has looked at.
    fn raw(&mut self, at: usize, taker: &mut Taker<'_>) {
        let length = taker.below(64);
        let bytes = taker.slice(length);
        let Some(peer) = &mut self.peers[at] else { return };
        if peer.paused || peer.closing {
            return;
        }
        let (shard, conn, version) = (peer.shard, peer.conn, peer.version);
        let input = match codec::decode(bytes, version, PACKET_BYTES_MAX) {
            Ok(None) => return,
            Ok(Some((packet, _))) => {
                // What is asked here is not counted, and neither are the answers.
                let questions = matches!(
                    packet,
                    Packet::Publish(_)
                        | Packet::Subscribe(_)
                        | Packet::Unsubscribe(_)
                        | Packet::Pingreq
                        | Packet::Pubrel(_)
                );
                if questions {
                    return;
                }
                peer.lawless = true;
                peer.in_flight.clear();
                Input::Packet { conn, packet }
            }
            Err(error) => Input::Malformed { conn, error },
        };
        self.shards[shard].handle(input, self.now);
    }

    fn disconnect(&mut self, at: usize, taker: &mut Taker<'_>) {
        let flags = taker.byte();
        let Some(peer) = &self.peers[at] else { return };
        let v5 = peer.version == Version::V5;
        let mut list = PropertyList::new();
        if v5 && flags & 2 != 0 {
            list.push(Property::SessionExpiryInterval(taker.one_of(&[0, 5, 3600])));
        }
        let with_will = v5 && flags & 1 != 0;
        let reason =
            if with_will { Reason::DisconnectWithWill } else { Reason::NORMAL_DISCONNECTION };
        let properties = list.as_properties();
        self.packet(at, &Packet::Disconnect(Disconnect { reason, properties }));
    }
}
