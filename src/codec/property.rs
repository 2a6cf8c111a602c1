//! Single properties: reading them from a block and building a block.

use super::properties::{Fields, Properties, bit};
use super::property_table::{Kind, Value, id, rule};
use super::reader::text;
use super::writer::{VARIABLE_MAX, put_binary, put_u16, put_u32, put_variable};

/// One property with its value (MQTT 5.0 table 2-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the specification's table")]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// Iterator of [`Properties::iter`].
#[derive(Clone, Debug)]
pub struct PropertyIter<'a> {
    fields: Fields<'a>,
}

impl<'a> PropertyIter<'a> {
    pub(super) const fn new(fields: Fields<'a>) -> Self {
        Self { fields }
    }
}

impl<'a> Iterator for PropertyIter<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (id, value) = self.fields.next()?;
        typed(id, value)
    }
}

/// Never `None` for a checked block.
fn typed(id: u8, value: Value<'_>) -> Option<Property<'_>> {
    Some(match (id, value) {
        (id::PAYLOAD_FORMAT_INDICATOR, Value::Number(number)) => {
            Property::PayloadFormatIndicator(u8::try_from(number).ok()?)
        }
        (id::MESSAGE_EXPIRY_INTERVAL, Value::Number(number)) => {
            Property::MessageExpiryInterval(number)
        }
        (id::CONTENT_TYPE, Value::Bytes(bytes)) => Property::ContentType(text(bytes).ok()?),
        (id::RESPONSE_TOPIC, Value::Bytes(bytes)) => Property::ResponseTopic(text(bytes).ok()?),
        (id::CORRELATION_DATA, Value::Bytes(bytes)) => Property::CorrelationData(bytes),
        (id::SUBSCRIPTION_IDENTIFIER, Value::Number(number)) => {
            Property::SubscriptionIdentifier(number)
        }
        (id::SESSION_EXPIRY_INTERVAL, Value::Number(number)) => {
            Property::SessionExpiryInterval(number)
        }
        (id::ASSIGNED_CLIENT_IDENTIFIER, Value::Bytes(bytes)) => {
            Property::AssignedClientIdentifier(text(bytes).ok()?)
        }
        (id::SERVER_KEEP_ALIVE, Value::Number(number)) => {
            Property::ServerKeepAlive(u16::try_from(number).ok()?)
        }
        (id::AUTHENTICATION_METHOD, Value::Bytes(bytes)) => {
            Property::AuthenticationMethod(text(bytes).ok()?)
        }
        (id::AUTHENTICATION_DATA, Value::Bytes(bytes)) => Property::AuthenticationData(bytes),
        (id::REQUEST_PROBLEM_INFORMATION, Value::Number(number)) => {
            Property::RequestProblemInformation(number != 0)
        }
        (id::WILL_DELAY_INTERVAL, Value::Number(number)) => Property::WillDelayInterval(number),
        (id::REQUEST_RESPONSE_INFORMATION, Value::Number(number)) => {
            Property::RequestResponseInformation(number != 0)
        }
        (id::RESPONSE_INFORMATION, Value::Bytes(bytes)) => {
            Property::ResponseInformation(text(bytes).ok()?)
        }
        (id::SERVER_REFERENCE, Value::Bytes(bytes)) => Property::ServerReference(text(bytes).ok()?),
        (id::REASON_STRING, Value::Bytes(bytes)) => Property::ReasonString(text(bytes).ok()?),
        (id::RECEIVE_MAXIMUM, Value::Number(number)) => {
            Property::ReceiveMaximum(u16::try_from(number).ok()?)
        }
        (id::TOPIC_ALIAS_MAXIMUM, Value::Number(number)) => {
            Property::TopicAliasMaximum(u16::try_from(number).ok()?)
        }
        (id::TOPIC_ALIAS, Value::Number(number)) => {
            Property::TopicAlias(u16::try_from(number).ok()?)
        }
        (id::MAXIMUM_QOS, Value::Number(number)) => {
            Property::MaximumQos(u8::try_from(number).ok()?)
        }
        (id::RETAIN_AVAILABLE, Value::Number(number)) => Property::RetainAvailable(number != 0),
        (id::USER_PROPERTY, Value::Pair(name, value)) => {
            Property::UserProperty(text(name).ok()?, text(value).ok()?)
        }
        (id::MAXIMUM_PACKET_SIZE, Value::Number(number)) => Property::MaximumPacketSize(number),
        (id::WILDCARD_SUBSCRIPTION_AVAILABLE, Value::Number(number)) => {
            Property::WildcardSubscriptionAvailable(number != 0)
        }
        (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, Value::Number(number)) => {
            Property::SubscriptionIdentifierAvailable(number != 0)
        }
        (id::SHARED_SUBSCRIPTION_AVAILABLE, Value::Number(number)) => {
            Property::SharedSubscriptionAvailable(number != 0)
        }
        _ => return None,
    })
}

fn untyped(property: Property<'_>) -> (u8, Value<'_>) {
    use Property as P;
    use Value::{Bytes, Number, Pair};
    match property {
        P::PayloadFormatIndicator(number) => (id::PAYLOAD_FORMAT_INDICATOR, Number(number.into())),
        P::MessageExpiryInterval(number) => (id::MESSAGE_EXPIRY_INTERVAL, Number(number)),
        P::ContentType(text) => (id::CONTENT_TYPE, Bytes(text.as_bytes())),
        P::ResponseTopic(text) => (id::RESPONSE_TOPIC, Bytes(text.as_bytes())),
        P::CorrelationData(bytes) => (id::CORRELATION_DATA, Bytes(bytes)),
        P::SubscriptionIdentifier(number) => (id::SUBSCRIPTION_IDENTIFIER, Number(number)),
        P::SessionExpiryInterval(number) => (id::SESSION_EXPIRY_INTERVAL, Number(number)),
        P::AssignedClientIdentifier(text) => {
            (id::ASSIGNED_CLIENT_IDENTIFIER, Bytes(text.as_bytes()))
        }
        P::ServerKeepAlive(number) => (id::SERVER_KEEP_ALIVE, Number(number.into())),
        P::AuthenticationMethod(text) => (id::AUTHENTICATION_METHOD, Bytes(text.as_bytes())),
        P::AuthenticationData(bytes) => (id::AUTHENTICATION_DATA, Bytes(bytes)),
        P::RequestProblemInformation(flag) => {
            (id::REQUEST_PROBLEM_INFORMATION, Number(flag.into()))
        }
        P::WillDelayInterval(number) => (id::WILL_DELAY_INTERVAL, Number(number)),
        P::RequestResponseInformation(flag) => {
            (id::REQUEST_RESPONSE_INFORMATION, Number(flag.into()))
        }
        P::ResponseInformation(text) => (id::RESPONSE_INFORMATION, Bytes(text.as_bytes())),
        P::ServerReference(text) => (id::SERVER_REFERENCE, Bytes(text.as_bytes())),
        P::ReasonString(text) => (id::REASON_STRING, Bytes(text.as_bytes())),
        P::ReceiveMaximum(number) => (id::RECEIVE_MAXIMUM, Number(number.into())),
        P::TopicAliasMaximum(number) => (id::TOPIC_ALIAS_MAXIMUM, Number(number.into())),
        P::TopicAlias(number) => (id::TOPIC_ALIAS, Number(number.into())),
        P::MaximumQos(number) => (id::MAXIMUM_QOS, Number(number.into())),
        P::RetainAvailable(flag) => (id::RETAIN_AVAILABLE, Number(flag.into())),
        P::UserProperty(name, value) => {
            (id::USER_PROPERTY, Pair(name.as_bytes(), value.as_bytes()))
        }
        P::MaximumPacketSize(number) => (id::MAXIMUM_PACKET_SIZE, Number(number)),
        P::WildcardSubscriptionAvailable(flag) => {
            (id::WILDCARD_SUBSCRIPTION_AVAILABLE, Number(flag.into()))
        }
        P::SubscriptionIdentifierAvailable(flag) => {
            (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, Number(flag.into()))
        }
        P::SharedSubscriptionAvailable(flag) => {
            (id::SHARED_SUBSCRIPTION_AVAILABLE, Number(flag.into()))
        }
    }
}

/// Builder of a property block.
///
/// Which property may stand in which packet is the caller's duty here; the receiving side checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyList {
    bytes: Vec<u8>,
    present: u64,
}

impl PropertyList {
    /// An empty list.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), present: 0 }
    }

    /// Appends one property.
    ///
    /// # Panics
    /// If a string or binary value is longer than 65,535 bytes, or a subscription identifier does
    /// not fit into a variable byte integer.
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        let (id, value) = untyped(property);
        self.present |= bit(id);
        self.bytes.push(id);
        match value {
            Value::Number(number) => self.put_number(id, number),
            Value::Bytes(bytes) => put_binary(&mut self.bytes, bytes),
            Value::Pair(name, value) => {
                put_binary(&mut self.bytes, name);
                put_binary(&mut self.bytes, value);
            }
        }
        self
    }

    /// The list as it is put into packets.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { raw: &self.bytes, present: self.present }
    }

    fn put_number(&mut self, id: u8, number: u32) {
        let [.., high, low] = number.to_be_bytes();
        match rule(id).map(|rule| rule.kind) {
            Some(Kind::Bit) => self.bytes.push(low),
            Some(Kind::Short | Kind::ShortNotZero | Kind::Alias) => {
                put_u16(&mut self.bytes, u16::from_be_bytes([high, low]));
            }
            Some(Kind::VariableNotZero) => {
                assert!(number <= VARIABLE_MAX, "{number} is no variable byte integer");
                put_variable(&mut self.bytes, number);
            }
            Some(Kind::Long | Kind::LongNotZero) => put_u32(&mut self.bytes, number),
            Some(Kind::Text | Kind::Binary | Kind::Pair) | None => {
                unreachable!("property {id} holds no number")
            }
        }
    }
}
