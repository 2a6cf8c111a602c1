//! PUBLISH (MQTT 5.0 §3.3), in both directions.

use super::error::DecodeError;
use super::packet::Publish;
use super::properties::Properties;
use super::property_table::{Place, id};
use super::reader::Reader;
use super::types::{PacketId, Qos, Version};
use super::writer::{put_binary, put_u16, put_u32, put_variable, variable_bytes, wire_length};
use std::num::NonZeroU16;

const PUBLISH: u8 = 0x30;
const DUP: u8 = 0x08;
const QOS_SHIFT: u8 = 1;
const RETAIN: u8 = 0x01;

/// ```text
/// first byte: 0011, DUP, QoS (2 bits), RETAIN
/// body:       topic (string), [packet id u16 if QoS > 0], [properties], payload
/// ```
pub(super) fn decode(first: u8, body: &[u8], version: Version) -> Result<Publish<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let dup = first & DUP != 0;
    // [MQTT-3.3.1-4]
    let qos = Qos::from_u8((first >> QOS_SHIFT) & 0x03).ok_or(DecodeError::BadQos)?;
    // [MQTT-3.3.2-1]
    let topic = reader.text()?;
    let packet_id = if qos == Qos::AtMostOnce {
        if dup {
            return Err(DecodeError::DupWithoutQos); // [MQTT-3.3.1-2]
        }
        None // [MQTT-2.2.1-2]
    } else {
        Some(reader.packet_id()?)
    };
    let properties = reader.properties(version, Place::Publish)?;
    // Both finders cost one test each if the property is absent.
    let topic_alias = properties.topic_alias().and_then(NonZeroU16::new);
    if topic.is_empty() && topic_alias.is_none() {
        return Err(DecodeError::NoTopic);
    }
    Ok(Publish {
        dup,
        qos,
        retain: first & RETAIN != 0,
        topic,
        packet_id,
        properties,
        topic_alias,
        message_expiry_s: properties.message_expiry_interval(),
        payload: reader.rest(),
    })
}

/// Writes `publish.properties` as they are, and before them the alias and the expiry of the fields
/// if the properties do not have them.
pub(super) fn encode(publish: &Publish<'_>, version: Version, out: &mut Vec<u8>) {
    let properties: Properties<'_> = publish.properties;
    let packet = PublishOut {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos,
        dup: publish.dup,
        retain: publish.retain,
        packet_id: publish.packet_id,
        message_expiry_s: publish
            .message_expiry_s
            .filter(|_| !properties.has(id::MESSAGE_EXPIRY_INTERVAL)),
        topic_alias: publish.topic_alias.filter(|_| !properties.has(id::TOPIC_ALIAS)),
        subscription_ids: &[],
        forwarded: properties.raw(),
    };
    packet.encode(version, out);
}

/// A PUBLISH about to be sent; the hot path, nothing is allocated but room in `out`.
#[derive(Clone, Copy, Debug)]
pub struct PublishOut<'a> {
    /// Topic name; empty if the alias alone is sent.
    pub topic: &'a str,
    /// Application payload.
    pub payload: &'a [u8],
    /// Quality of service.
    pub qos: Qos,
    /// Retransmission.
    pub dup: bool,
    /// RETAIN flag.
    pub retain: bool,
    /// Present exactly if QoS > 0.
    pub packet_id: Option<PacketId>,
    /// Message expiry interval in seconds, as left now. [MQTT-3.3.2-6]
    pub message_expiry_s: Option<u32>,
    /// Alias to set or to use.
    pub topic_alias: Option<NonZeroU16>,
    /// Identifiers of the matching subscriptions, none of them 0. [MQTT-3.3.4-3]
    pub subscription_ids: &'a [u32],
    /// Raw property bytes of the publisher, see [`Properties::forwarded`]; ignored before 5.0.
    pub forwarded: &'a [u8],
}

impl PublishOut<'_> {
    /// Bytes of the whole packet. To be compared with the receiver's Maximum Packet Size (without
    /// one, [`PACKET_BYTES_MAX`](super::PACKET_BYTES_MAX)) before encoding. [MQTT-3.1.2-24]
    pub fn total_bytes(&self, version: Version) -> usize {
        let body_bytes = self.body_bytes(version);
        1 + variable_bytes(u32::try_from(body_bytes).unwrap_or(u32::MAX)) + body_bytes
    }

    /// Appends everything but the payload.
    ///
    /// # Panics
    /// If a packet identifier is given at QoS 0 or missing above, DUP is set at QoS 0, or the
    /// packet is longer than the protocol allows.
    pub fn encode_head(&self, version: Version, out: &mut Vec<u8>) {
        // [MQTT-2.2.1-2] [MQTT-2.2.1-4]
        assert!((self.qos == Qos::AtMostOnce) == self.packet_id.is_none(), "packet id and QoS");
        // [MQTT-3.3.1-2]
        assert!(!self.dup || self.qos != Qos::AtMostOnce, "DUP at QoS 0");
        let flags = if self.dup { DUP } else { 0 } | if self.retain { RETAIN } else { 0 };
        out.push(PUBLISH | flags | (self.qos as u8) << QOS_SHIFT);
        put_variable(out, wire_length(self.body_bytes(version)));
        put_binary(out, self.topic.as_bytes());
        if let Some(packet_id) = self.packet_id {
            put_u16(out, packet_id.get());
        }
        if version == Version::V5 {
            self.encode_properties(out);
        }
    }

    /// Appends the whole packet.
    ///
    /// # Panics
    /// As [`PublishOut::encode_head`].
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        out.reserve(self.total_bytes(version));
        self.encode_head(version, out);
        out.extend_from_slice(self.payload);
    }

    /// Where the packet identifier stands in the encoded packet, if it has one. The same for all
    /// receivers of one layout, so that a copy needs only those two bytes changed.
    pub fn packet_id_offset(&self, version: Version) -> Option<usize> {
        self.packet_id?;
        let header_bytes = self.total_bytes(version) - self.body_bytes(version);
        Some(header_bytes + 2 + self.topic.len())
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        put_variable(out, wire_length(self.property_bytes()));
        if let Some(seconds) = self.message_expiry_s {
            out.push(id::MESSAGE_EXPIRY_INTERVAL);
            put_u32(out, seconds);
        }
        if let Some(alias) = self.topic_alias {
            out.push(id::TOPIC_ALIAS);
            put_u16(out, alias.get());
        }
        // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
        for &identifier in self.subscription_ids {
            out.push(id::SUBSCRIPTION_IDENTIFIER);
            put_variable(out, identifier);
        }
        // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
        out.extend_from_slice(self.forwarded);
    }

    fn property_bytes(&self) -> usize {
        let expiry_bytes = if self.message_expiry_s.is_some() { 5 } else { 0 };
        let alias_bytes = if self.topic_alias.is_some() { 3 } else { 0 };
        let identifier_bytes: usize =
            self.subscription_ids.iter().map(|&identifier| 1 + variable_bytes(identifier)).sum();
        expiry_bytes + alias_bytes + identifier_bytes + self.forwarded.len()
    }

    fn body_bytes(&self, version: Version) -> usize {
        let id_bytes = if self.packet_id.is_some() { 2 } else { 0 };
        let block_bytes = if version == Version::V5 {
            let property_bytes = self.property_bytes();
            variable_bytes(u32::try_from(property_bytes).unwrap_or(u32::MAX)) + property_bytes
        } else {
            0
        };
        2 + self.topic.len() + id_bytes + block_bytes + self.payload.len()
    }
}
