//! One connection as its client sees it: what it asked for, and the rules its server has to keep.

use culex::codec::{Packet, Publish, Qos, Reason, Version};
use shards::ConnId;
use std::collections::{BTreeMap, BTreeSet};

/// What the client allows its server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub(super) receive_maximum: usize,
    pub(super) packet_bytes_max: usize,
    pub(super) aliases_max: u16,
}

/// How far a message of the server has come, seen from the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Published(Qos),
    /// PUBREC was sent.
    Owned,
    Released,
}

/// What the client waits for.
#[derive(Debug, Default)]
pub(super) struct Waits {
    pub(super) subacks: BTreeMap<u16, Vec<usize>>,
    pub(super) unsubacks: BTreeMap<u16, Vec<usize>>,
    pub(super) pubacks: BTreeMap<u16, usize>,
    pub(super) pubrecs: BTreeSet<u16>,
    pub(super) pubcomps: usize,
    pub(super) pingresps: usize,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) shard: usize,
    pub(super) conn: ConnId,
    pub(super) version: Version,
    pub(super) client: usize,
    pub(super) clean_start: bool,
    pub(super) allowed: Allowed,
    /// The client reads what it is sent.
    pub(super) reading: bool,
    /// Output that was taken and has not arrived.
    pub(super) sending: Option<Vec<u8>>,
    /// The server wants to close when the output has left.
    pub(super) closing: bool,
    /// Nothing is read from this client for now.
    pub(super) paused: bool,
    /// The client has broken a rule that keeps its view and the server's alike.
    pub(super) lawless: bool,
    pub(super) in_flight: BTreeMap<u16, Stage>,
    pub(super) waits: Waits,
    aliases: BTreeMap<u16, String>,
    accepted: bool,
    session_present: bool,
    ended: bool,
}

impl Peer {
    pub(super) fn new(
        (shard, conn): (usize, ConnId),
        version: Version,
        (client, clean_start): (usize, bool),
        allowed: Allowed,
    ) -> Self {
        Peer {
            shard,
            conn,
            version,
            client,
            clean_start,
            allowed,
            reading: true,
            sending: None,
            closing: false,
            paused: false,
            lawless: false,
            in_flight: BTreeMap::new(),
            waits: Waits::default(),
            aliases: BTreeMap::new(),
            accepted: false,
            session_present: false,
            ended: false,
        }
    }

    /// Deliveries that the client can go on with.
    pub(super) fn to_acknowledge(&self) -> Vec<(u16, Stage)> {
        let all = self.in_flight.iter().map(|(id, stage)| (*id, *stage));
        all.filter(|(_, stage)| *stage != Stage::Owned).collect()
    }

    /// CONNACK has come, and no end.
    pub(super) fn is_serving(&self) -> bool {
        self.accepted && !self.ended && !self.closing
    }

    /// One packet of the server. Gives the topic of a PUBLISH, alias resolved.
    pub(super) fn receive(&mut self, packet: &Packet<'_>, bytes: usize) -> Option<String> {
        assert!(!self.ended, "{packet:?} after the end");
        assert!(bytes <= self.allowed.packet_bytes_max, "{bytes} bytes: {packet:?}");
        if let Packet::Connack(connack) = packet {
            assert!(!self.accepted, "second CONNACK");
            let success = connack.reason == Reason::Success;
            assert!(!connack.session_present || (success && !self.clean_start));
            (self.accepted, self.ended) = (success, !success);
            // MQTT 3.1 does not say it.
            let unsaid = self.version == Version::V31 && !self.clean_start;
            self.session_present = connack.session_present || unsaid;
            return None;
        }
        assert!(self.accepted, "{packet:?} before CONNACK");
        match packet {
            Packet::Publish(publish) => return Some(self.published(publish)),
            Packet::Puback(ack) => {
                let id = ack.packet_id.get();
                let waiting = self.waits.pubacks.get_mut(&id).expect("a PUBLISH with this id");
                *waiting -= 1;
                if *waiting == 0 {
                    self.waits.pubacks.remove(&id);
                }
            }
            Packet::Pubrec(ack) => {
                // A repeated PUBLISH may have one answer or two.
                self.waits.pubrecs.remove(&ack.packet_id.get());
            }
            Packet::Pubrel(ack) if ack.reason == Reason::Success && !self.lawless => {
                self.released(ack.packet_id.get());
            }
            Packet::Pubrel(_) => {}
            Packet::Pubcomp(_) => {
                self.waits.pubcomps = self.waits.pubcomps.checked_sub(1).expect("a PUBREL");
            }
            Packet::Pingresp => {
                self.waits.pingresps = self.waits.pingresps.checked_sub(1).expect("a PINGREQ");
            }
            Packet::Suback(suback) => {
                answered(&mut self.waits.subacks, suback.packet_id.get(), suback.reasons.len());
            }
            Packet::Unsuback(unsuback) => {
                let count = (self.version == Version::V5).then_some(unsuback.reasons.len());
                let id = unsuback.packet_id.get();
                let count = count.unwrap_or_else(|| self.waits.unsubacks[&id][0]);
                answered(&mut self.waits.unsubacks, id, count);
            }
            Packet::Disconnect(_) => {
                assert_eq!(self.version, Version::V5, "[MQTT-3.14.0-1]");
                self.ended = true;
            }
            other => panic!("a server does not send {other:?}"),
        }
        None
    }

    fn published(&mut self, publish: &Publish<'_>) -> String {
        let topic = match publish.topic_alias.map(std::num::NonZeroU16::get) {
            None => publish.topic.to_owned(),
            Some(alias) => {
                assert!(alias <= self.allowed.aliases_max, "[MQTT-3.1.2-26]");
                if !publish.topic.is_empty() {
                    self.aliases.insert(alias, publish.topic.to_owned());
                }
                self.aliases.get(&alias).expect("an alias this connection has learnt").clone()
            }
        };
        let Some(id) = publish.packet_id.map(culex::codec::PacketId::get) else { return topic };
        assert!(!publish.dup || self.session_present, "repeated to a new session");
        if !self.lawless {
            let old = self.in_flight.insert(id, Stage::Published(publish.qos));
            assert_eq!(old, None, "packet id {id} is in use");
            self.check_window();
        }
        topic
    }

    fn released(&mut self, id: u16) {
        match self.in_flight.insert(id, Stage::Released) {
            Some(Stage::Owned | Stage::Released) => {}
            Some(Stage::Published(_)) => panic!("PUBREL {id} before PUBREC"),
            // The rest of a delivery that began on an earlier connection.
            None => assert!(self.session_present, "PUBREL {id} of no delivery"),
        }
        self.check_window();
    }

    fn check_window(&self) {
        assert!(self.in_flight.len() <= self.allowed.receive_maximum, "[MQTT-3.3.4-9]");
    }

    /// Everything that was asked has been answered.
    pub(super) fn check_answered(&self) {
        let Waits { subacks, unsubacks, pubacks, pubrecs, pubcomps, pingresps } = &self.waits;
        assert!(subacks.is_empty() && unsubacks.is_empty(), "{subacks:?} {unsubacks:?}");
        assert!(pubacks.is_empty() && pubrecs.is_empty(), "{pubacks:?} {pubrecs:?}");
        assert_eq!((*pubcomps, *pingresps), (0, 0));
    }
}

fn answered(waits: &mut BTreeMap<u16, Vec<usize>>, id: u16, count: usize) {
    let waiting = waits.get_mut(&id).expect("a request with this id");
    let at = waiting.iter().position(|wanted| *wanted == count).expect("one reason per filter");
    waiting.remove(at);
    if waiting.is_empty() {
        waits.remove(&id);
    }
}
