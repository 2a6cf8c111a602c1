//! Property blocks (MQTT 5.0 §2.2.2): checking and reading.
//!
//! A block stays the bytes it came in. Checking walks it once; afterwards a bit set tells what is
//! in it, so that asking for an absent property costs one test.
//!
//!   block: (identifier u8, value)*
//!   value: u8 | u16 be | u32 be | variable byte integer | string or bytes | two strings

use super::error::DecodeError;
use super::property::{Property, PropertyIter};
use super::property_table::{Place, Value, check_text, id, read_value, rule};
use super::reader::{Reader, text};
use super::types::Qos;

/// User properties accepted in one property block; more are refused with 0x97 Quota exceeded.
/// A CONNECT with a will has two blocks, every other packet one.
pub const USER_PROPERTIES_MAX: usize = 64;

/// A property block without its length prefix, checked: known identifiers, legal in its packet, no
/// forbidden repeat, legal values. Built by decoding or by [`PropertyList`](super::PropertyList).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    pub(super) raw: &'a [u8],
    /// Bit `n` is set if a property with identifier `n` is in `raw`.
    pub(super) present: u64,
}

pub(super) const fn bit(id: u8) -> u64 {
    1 << id
}

impl<'a> Properties<'a> {
    /// Checks a block that stands at `place`. O(bytes), nothing for an empty block.
    pub(super) fn parse(raw: &'a [u8], place: Place) -> Result<Self, DecodeError> {
        let mut present = 0;
        let mut user_properties = 0;
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            // The identifier is a variable byte integer, but all that exist take one byte.
            let id = reader.u8()?;
            let rule = rule(id).ok_or(DecodeError::UnexpectedProperty(id))?;
            if !rule.places.contains(place) {
                return Err(DecodeError::UnexpectedProperty(id));
            }
            if present & bit(id) != 0 && !rule.repeats.contains(place) {
                return Err(DecodeError::RepeatedProperty(id));
            }
            present |= bit(id);
            if id == id::USER_PROPERTY {
                user_properties += 1;
                if user_properties > USER_PROPERTIES_MAX {
                    return Err(DecodeError::TooManyUserProperties);
                }
            }
            let value = read_value(&mut reader, id, rule.kind)?;
            check_text(rule.kind, value)?;
        }
        Ok(Self { raw, present })
    }

    /// The block's bytes without the length prefix.
    pub const fn raw(self) -> &'a [u8] {
        self.raw
    }

    /// Has it no property at all.
    pub const fn is_empty(self) -> bool {
        self.raw.is_empty()
    }

    /// All properties in their order on the wire.
    pub const fn iter(self) -> PropertyIter<'a> {
        PropertyIter::new(Fields::new(self.raw))
    }

    pub(super) const fn has(self, id: u8) -> bool {
        self.present & bit(id) != 0
    }

    /// Properties of a PUBLISH or will that are forwarded unchanged and in order: payload format,
    /// content type, response topic, correlation data, user properties.
    ///
    /// Borrowed if nothing has to be left out, which one test tells; else written to `scratch`,
    /// whose old content is dropped. Topic alias, message expiry, subscription identifiers and will
    /// delay are left out: they belong to one hop or change on the way.
    ///
    /// Source: [MQTT-3.3.2-4], [MQTT-3.3.2-15] to [MQTT-3.3.2-18], [MQTT-3.3.2-20],
    /// [MQTT-3.1.3-10].
    pub fn forwarded<'s>(self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'a: 's,
    {
        const LEFT_OUT: u64 = bit(id::TOPIC_ALIAS)
            | bit(id::MESSAGE_EXPIRY_INTERVAL)
            | bit(id::SUBSCRIPTION_IDENTIFIER)
            | bit(id::WILL_DELAY_INTERVAL);
        if self.present & LEFT_OUT == 0 {
            return self.raw;
        }
        scratch.clear();
        let mut fields = Fields::new(self.raw);
        let mut rest = self.raw;
        while let Some((id, _)) = fields.next() {
            let bytes = rest.len() - fields.reader.rest().len();
            let (field, after) = rest.split_at(bytes);
            if bit(id) & LEFT_OUT == 0 {
                scratch.extend_from_slice(field);
            }
            rest = after;
        }
        scratch
    }

    fn find(self, id: u8) -> Option<Value<'a>> {
        if !self.has(id) {
            return None;
        }
        let mut fields = Fields::new(self.raw);
        fields.find(|(found, _)| *found == id).map(|(_, value)| value)
    }

    fn number(self, id: u8) -> Option<u32> {
        match self.find(id)? {
            Value::Number(number) => Some(number),
            Value::Bytes(_) | Value::Pair(..) => None,
        }
    }

    fn short(self, id: u8) -> Option<u16> {
        self.number(id).and_then(|number| u16::try_from(number).ok())
    }

    fn flag(self, id: u8) -> Option<bool> {
        self.number(id).map(|number| number != 0)
    }

    fn bytes(self, id: u8) -> Option<&'a [u8]> {
        match self.find(id)? {
            Value::Bytes(bytes) => Some(bytes),
            Value::Number(_) | Value::Pair(..) => None,
        }
    }

    fn text(self, id: u8) -> Option<&'a str> {
        self.bytes(id).and_then(|bytes| text(bytes).ok())
    }
}

/// Typed finders: `None` if the property is absent.
impl<'a> Properties<'a> {
    /// 0 = unspecified bytes, 1 = UTF-8.
    pub fn payload_format_indicator(self) -> Option<u8> {
        self.number(id::PAYLOAD_FORMAT_INDICATOR).and_then(|number| u8::try_from(number).ok())
    }

    /// Seconds.
    pub fn message_expiry_interval(self) -> Option<u32> {
        self.number(id::MESSAGE_EXPIRY_INTERVAL)
    }

    /// MIME type or whatever the applications agreed on.
    pub fn content_type(self) -> Option<&'a str> {
        self.text(id::CONTENT_TYPE)
    }

    /// Topic of the answer, topic rules not checked.
    pub fn response_topic(self) -> Option<&'a str> {
        self.text(id::RESPONSE_TOPIC)
    }

    /// Bytes by which the requester knows the answer.
    pub fn correlation_data(self) -> Option<&'a [u8]> {
        self.bytes(id::CORRELATION_DATA)
    }

    /// The first one; a PUBLISH of the server may have several. A PUBLISH of a client must have
    /// none [MQTT-3.3.4-6]: the direction is not known here, so that is the session's to refuse.
    pub fn subscription_identifier(self) -> Option<u32> {
        self.number(id::SUBSCRIPTION_IDENTIFIER)
    }

    /// All subscription identifiers of a PUBLISH, none of them 0.
    pub fn subscription_identifiers(self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|property| {
            if let Property::SubscriptionIdentifier(identifier) = property {
                Some(identifier)
            } else {
                None
            }
        })
    }

    /// Names and values of all user properties, in their order.
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| {
            if let Property::UserProperty(name, value) = property {
                Some((name, value))
            } else {
                None
            }
        })
    }

    /// Seconds; `u32::MAX` = never.
    pub fn session_expiry_interval(self) -> Option<u32> {
        self.number(id::SESSION_EXPIRY_INTERVAL)
    }

    /// Client identifier chosen by the server.
    pub fn assigned_client_identifier(self) -> Option<&'a str> {
        self.text(id::ASSIGNED_CLIENT_IDENTIFIER)
    }

    /// Keep-alive in seconds chosen by the server.
    pub fn server_keep_alive(self) -> Option<u16> {
        self.short(id::SERVER_KEEP_ALIVE)
    }

    /// Name of the enhanced authentication.
    pub fn authentication_method(self) -> Option<&'a str> {
        self.text(id::AUTHENTICATION_METHOD)
    }

    /// Data of the enhanced authentication.
    pub fn authentication_data(self) -> Option<&'a [u8]> {
        self.bytes(id::AUTHENTICATION_DATA)
    }

    /// May reason strings and user properties be sent on failures.
    pub fn request_problem_information(self) -> Option<bool> {
        self.flag(id::REQUEST_PROBLEM_INFORMATION)
    }

    /// Seconds between the end of the connection and the will.
    pub fn will_delay_interval(self) -> Option<u32> {
        self.number(id::WILL_DELAY_INTERVAL)
    }

    /// Does the client ask for response information.
    pub fn request_response_information(self) -> Option<bool> {
        self.flag(id::REQUEST_RESPONSE_INFORMATION)
    }

    /// Base of response topics.
    pub fn response_information(self) -> Option<&'a str> {
        self.text(id::RESPONSE_INFORMATION)
    }

    /// Another server to use.
    pub fn server_reference(self) -> Option<&'a str> {
        self.text(id::SERVER_REFERENCE)
    }

    /// Explanation for people.
    pub fn reason_string(self) -> Option<&'a str> {
        self.text(id::REASON_STRING)
    }

    /// Unacknowledged QoS 1 and 2 messages the sender accepts; never 0.
    pub fn receive_maximum(self) -> Option<u16> {
        self.short(id::RECEIVE_MAXIMUM)
    }

    /// Highest topic alias the sender accepts.
    pub fn topic_alias_maximum(self) -> Option<u16> {
        self.short(id::TOPIC_ALIAS_MAXIMUM)
    }

    /// Topic alias; never 0.
    pub fn topic_alias(self) -> Option<u16> {
        self.short(id::TOPIC_ALIAS)
    }

    /// Highest QoS the server accepts, 0 or 1.
    pub fn maximum_qos(self) -> Option<Qos> {
        let number = self.number(id::MAXIMUM_QOS)?;
        u8::try_from(number).ok().and_then(Qos::from_u8)
    }

    /// Does the server keep retained messages.
    pub fn retain_available(self) -> Option<bool> {
        self.flag(id::RETAIN_AVAILABLE)
    }

    /// Bytes of the largest packet the sender accepts; never 0.
    pub fn maximum_packet_size(self) -> Option<u32> {
        self.number(id::MAXIMUM_PACKET_SIZE)
    }
}

/// Identifiers and values of a checked block.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    reader: Reader<'a>,
}

impl<'a> Fields<'a> {
    const fn new(raw: &'a [u8]) -> Self {
        Self { reader: Reader::new(raw) }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.reader.u8().ok()?;
        let value = read_value(&mut self.reader, id, rule(id)?.kind).ok()?;
        Some((id, value))
    }
}
