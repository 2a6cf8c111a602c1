//! The one table of properties (MQTT 5.0 §2.2.2.2): identifier → encoding, legal values, packets.

use super::error::DecodeError;
use super::reader::{Reader, text};

/// Where properties and reason codes stand; the number is the packet type, 0 for the will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Place {
    Will = 0,
    Connect = 1,
    Connack = 2,
    Publish = 3,
    Puback = 4,
    Pubrec = 5,
    Pubrel = 6,
    Pubcomp = 7,
    Subscribe = 8,
    Suback = 9,
    Unsubscribe = 10,
    Unsuback = 11,
    Disconnect = 14,
    Auth = 15,
}

/// Identifiers of the properties on the wire.
pub(super) mod id {
    pub(crate) const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub(crate) const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1a;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1c;
    pub(crate) const REASON_STRING: u8 = 0x1f;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;
}

/// Encoding of a value together with the values it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One byte, 0 or 1.
    Bit,
    /// Two bytes.
    Short,
    /// Two bytes, not 0.
    ShortNotZero,
    /// Two bytes, not 0, with its own reason code.
    Alias,
    /// Four bytes.
    Long,
    /// Four bytes, not 0.
    LongNotZero,
    /// Variable byte integer, not 0.
    VariableNotZero,
    /// UTF-8 string.
    Text,
    /// Bytes.
    Binary,
    /// Two UTF-8 strings. [MQTT-1.5.7-1]
    Pair,
}

/// Set of places, one bit each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places(u16);

impl Places {
    const NONE: Self = Self::of(&[]);
    const ALL: Self = Self(u16::MAX);
    /// Places of an application message.
    const MESSAGE: Self = Self::of(&[Place::Publish, Place::Will]);
    /// Answers that can explain themselves.
    const ANSWER: Self = Self::of(&[
        Place::Connack,
        Place::Puback,
        Place::Pubrec,
        Place::Pubrel,
        Place::Pubcomp,
        Place::Suback,
        Place::Unsuback,
        Place::Disconnect,
        Place::Auth,
    ]);

    const fn of(mut places: &[Place]) -> Self {
        let mut bits = 0;
        while let Some((place, rest)) = places.split_first() {
            bits |= 1 << *place as u8;
            places = rest;
        }
        Self(bits)
    }

    pub(super) const fn contains(self, place: Place) -> bool {
        self.0 & (1 << place as u8) != 0
    }
}

/// One row of the table.
pub(super) struct Rule {
    pub(super) kind: Kind,
    /// Where it may stand.
    pub(super) places: Places,
    /// Where it may stand more than once.
    pub(super) repeats: Places,
}

/// The table of all properties (MQTT 5.0 §2.2.2.2, table 2-4); `None`: no such property.
#[expect(clippy::match_same_arms, reason = "one row per property, in the order of the standard")]
pub(super) fn rule(id: u8) -> Option<Rule> {
    use Kind::{Alias, Binary, Bit, Long, LongNotZero, Pair, Short, ShortNotZero, Text};
    use Place::{Auth, Connack, Connect, Disconnect, Publish, Subscribe, Will};
    const AUTHENTICATION: Places = Places::of(&[Connect, Connack, Auth]);
    const SESSION_EXPIRY: Places = Places::of(&[Connect, Connack, Disconnect]);
    const IDENTIFIER: Places = Places::of(&[Publish, Subscribe]);
    const CONNECTION: Places = Places::of(&[Connect, Connack]);
    const CONNECT: Places = Places::of(&[Connect]);
    const CONNACK: Places = Places::of(&[Connack]);
    const PUBLISH: Places = Places::of(&[Publish]);
    const WILL: Places = Places::of(&[Will]);
    const REFERENCE: Places = Places::of(&[Connack, Disconnect]);

    let (kind, places, repeats) = match id {
        id::PAYLOAD_FORMAT_INDICATOR => (Bit, Places::MESSAGE, Places::NONE),
        id::MESSAGE_EXPIRY_INTERVAL => (Long, Places::MESSAGE, Places::NONE),
        id::CONTENT_TYPE => (Text, Places::MESSAGE, Places::NONE),
        id::RESPONSE_TOPIC => (Text, Places::MESSAGE, Places::NONE),
        id::CORRELATION_DATA => (Binary, Places::MESSAGE, Places::NONE),
        id::SUBSCRIPTION_IDENTIFIER => (Kind::VariableNotZero, IDENTIFIER, PUBLISH),
        id::SESSION_EXPIRY_INTERVAL => (Long, SESSION_EXPIRY, Places::NONE),
        id::ASSIGNED_CLIENT_IDENTIFIER => (Text, CONNACK, Places::NONE),
        id::SERVER_KEEP_ALIVE => (Short, CONNACK, Places::NONE),
        id::AUTHENTICATION_METHOD => (Text, AUTHENTICATION, Places::NONE),
        id::AUTHENTICATION_DATA => (Binary, AUTHENTICATION, Places::NONE),
        id::REQUEST_PROBLEM_INFORMATION => (Bit, CONNECT, Places::NONE),
        id::WILL_DELAY_INTERVAL => (Long, WILL, Places::NONE),
        id::REQUEST_RESPONSE_INFORMATION => (Bit, CONNECT, Places::NONE),
        id::RESPONSE_INFORMATION => (Text, CONNACK, Places::NONE),
        id::SERVER_REFERENCE => (Text, REFERENCE, Places::NONE),
        id::REASON_STRING => (Text, Places::ANSWER, Places::NONE),
        id::RECEIVE_MAXIMUM => (ShortNotZero, CONNECTION, Places::NONE),
        id::TOPIC_ALIAS_MAXIMUM => (Short, CONNECTION, Places::NONE),
        id::TOPIC_ALIAS => (Alias, PUBLISH, Places::NONE),
        id::MAXIMUM_QOS => (Bit, CONNACK, Places::NONE),
        id::RETAIN_AVAILABLE => (Bit, CONNACK, Places::NONE),
        id::USER_PROPERTY => (Pair, Places::ALL, Places::ALL),
        id::MAXIMUM_PACKET_SIZE => (LongNotZero, CONNECTION, Places::NONE),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => (Bit, CONNACK, Places::NONE),
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => (Bit, CONNACK, Places::NONE),
        id::SHARED_SUBSCRIPTION_AVAILABLE => (Bit, CONNACK, Places::NONE),
        _ => return None,
    };
    Some(Rule { kind, places, repeats })
}

/// Value as it stands on the wire; strings are not checked yet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

/// Reads one value and checks the range that its property allows.
pub(super) fn read_value<'a>(
    reader: &mut Reader<'a>,
    id: u8,
    kind: Kind,
) -> Result<Value<'a>, DecodeError> {
    let (number, valid) = match kind {
        Kind::Bit => {
            let number = reader.u8()?;
            (u32::from(number), number <= 1)
        }
        Kind::Short => (u32::from(reader.u16()?), true),
        Kind::ShortNotZero | Kind::Alias => {
            let number = reader.u16()?;
            (u32::from(number), number != 0)
        }
        Kind::Long => (reader.u32()?, true),
        Kind::LongNotZero => {
            let number = reader.u32()?;
            (number, number != 0)
        }
        Kind::VariableNotZero => {
            let number = reader.variable()?;
            (number, number != 0)
        }
        Kind::Text | Kind::Binary => return Ok(Value::Bytes(reader.binary()?)),
        Kind::Pair => return Ok(Value::Pair(reader.binary()?, reader.binary()?)),
    };
    match (valid, kind == Kind::Alias) {
        (true, _) => Ok(Value::Number(number)),
        // [MQTT-3.3.2-8]
        (false, true) => Err(DecodeError::TopicAliasZero),
        (false, false) => Err(DecodeError::BadPropertyValue(id)),
    }
}

/// [MQTT-1.5.4-1] [MQTT-1.5.7-1] Strings inside a value.
pub(super) fn check_text(kind: Kind, value: Value<'_>) -> Result<(), DecodeError> {
    match (kind, value) {
        (Kind::Text, Value::Bytes(bytes)) => text(bytes).map(drop),
        (_, Value::Pair(name, value)) => text(name).and(text(value)).map(drop),
        _ => Ok(()),
    }
}
