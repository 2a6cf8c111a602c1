//! The packets, as views on the bytes they were read from.
//!
//! One set of types serves all versions and both directions: fields that a version does not have
//! are at their neutral value (empty properties, reason `Success`) and are not written for it.

use super::properties::Properties;
use super::reason::Reason;
use super::types::{PacketId, Qos, SubscribeOptions, Version};
use std::num::NonZeroU16;

/// One control packet.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet<'a> {
    /// Client asks for a connection.
    Connect(Connect<'a>),
    /// Server's answer to CONNECT.
    Connack(Connack<'a>),
    /// Application message.
    Publish(Publish<'a>),
    /// QoS 1 acknowledgement.
    Puback(Ack<'a>),
    /// QoS 2, first acknowledgement.
    Pubrec(Ack<'a>),
    /// QoS 2, release.
    Pubrel(Ack<'a>),
    /// QoS 2, completion.
    Pubcomp(Ack<'a>),
    /// Client asks for subscriptions.
    Subscribe(Subscribe<'a>),
    /// Server's answer to SUBSCRIBE.
    Suback(Suback<'a>),
    /// Client gives subscriptions up.
    Unsubscribe(Unsubscribe<'a>),
    /// Server's answer to UNSUBSCRIBE.
    Unsuback(Unsuback<'a>),
    /// Keep-alive question.
    Pingreq,
    /// Keep-alive answer.
    Pingresp,
    /// Orderly end.
    Disconnect(Disconnect<'a>),
    /// Enhanced authentication, 5.0 only.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Its properties, without those of a will. None before 5.0.
    pub fn properties(&self) -> Properties<'a> {
        match self {
            Packet::Connect(packet) => packet.properties,
            Packet::Connack(packet) => packet.properties,
            Packet::Publish(packet) => packet.properties,
            Packet::Puback(ack)
            | Packet::Pubrec(ack)
            | Packet::Pubrel(ack)
            | Packet::Pubcomp(ack) => ack.properties,
            Packet::Subscribe(packet) => packet.properties,
            Packet::Suback(packet) => packet.properties,
            Packet::Unsubscribe(packet) => packet.properties,
            Packet::Unsuback(packet) => packet.properties,
            Packet::Disconnect(packet) => packet.properties,
            Packet::Auth(packet) => packet.properties,
            Packet::Pingreq | Packet::Pingresp => Properties::default(),
        }
    }
}

/// CONNECT (MQTT 5.0 §3.1).
#[derive(Clone, Debug, PartialEq)]
pub struct Connect<'a> {
    /// Protocol version the client speaks.
    pub version: Version,
    /// Bridge flag: bit 7 of the level byte in 3.x, set by bridges of several brokers.
    pub bridge: bool,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Keep-alive in seconds; 0 = none.
    pub keep_alive_s: u16,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// Client identifier, may be empty.
    pub client_id: &'a str,
    /// Will, if the will flag is set.
    pub will: Option<Will<'a>>,
    /// User name, if present.
    pub username: Option<&'a str>,
    /// Password, if present.
    pub password: Option<&'a [u8]>,
}

/// Will message inside CONNECT (MQTT 5.0 §3.1.3.2 to §3.1.3.4).
#[derive(Clone, Debug, PartialEq)]
pub struct Will<'a> {
    /// QoS of the will.
    pub qos: Qos,
    /// Is the will published as a retained message.
    pub retain: bool,
    /// Will properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// Will topic, valid UTF-8, topic rules not checked.
    pub topic: &'a str,
    /// Will payload.
    pub payload: &'a [u8],
}

/// CONNACK (MQTT 5.0 §3.2). For 3.x the reason is written as its 3.x return code.
#[derive(Clone, Debug, PartialEq)]
pub struct Connack<'a> {
    /// The server has a session for this client.
    pub session_present: bool,
    /// Result.
    pub reason: Reason,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
}

/// PUBLISH (MQTT 5.0 §3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish<'a> {
    /// Retransmission.
    pub dup: bool,
    /// Quality of service.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Topic name: valid UTF-8, topic rules not checked; empty if only an alias is given.
    pub topic: &'a str,
    /// Present exactly if QoS > 0. [MQTT-2.2.1-2]
    pub packet_id: Option<PacketId>,
    /// All properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// Topic alias, already taken out of `properties` for speed.
    pub topic_alias: Option<NonZeroU16>,
    /// Message expiry interval in seconds, likewise.
    pub message_expiry_s: Option<u32>,
    /// Application payload.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5.0 §3.4 to §3.7).
#[derive(Clone, Debug, PartialEq)]
pub struct Ack<'a> {
    /// Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// Result; `Success` before 5.0.
    pub reason: Reason,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE (MQTT 5.0 §3.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe<'a> {
    /// Identifier for SUBACK.
    pub packet_id: PacketId,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// At least one. [MQTT-3.8.3-2]
    pub filters: Vec<SubscribeFilter<'a>>,
}

/// One filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscribeFilter<'a> {
    /// Topic filter: valid UTF-8, filter rules not checked.
    pub filter: &'a str,
    /// Its options.
    pub options: SubscribeOptions,
}

/// SUBACK (MQTT 5.0 §3.9). For 3.x every failure is written as 0x80.
#[derive(Clone, Debug, PartialEq)]
pub struct Suback<'a> {
    /// Identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// One per filter, in their order. [MQTT-3.9.3-1]
    pub reasons: Vec<Reason>,
}

/// UNSUBSCRIBE (MQTT 5.0 §3.10).
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe<'a> {
    /// Identifier for UNSUBACK.
    pub packet_id: PacketId,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// At least one. [MQTT-3.10.3-2]
    pub filters: Vec<&'a str>,
}

/// UNSUBACK (MQTT 5.0 §3.11). 3.x has no reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsuback<'a> {
    /// Identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
    /// One per filter in 5.0, in their order. [MQTT-3.11.3-1]
    pub reasons: Vec<Reason>,
}

/// DISCONNECT (MQTT 5.0 §3.14).
#[derive(Clone, Debug, PartialEq)]
pub struct Disconnect<'a> {
    /// Why; `NormalDisconnection` before 5.0.
    pub reason: Reason,
    /// Properties, empty before 5.0.
    pub properties: Properties<'a>,
}

/// AUTH (MQTT 5.0 §3.15).
#[derive(Clone, Debug, PartialEq)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}
