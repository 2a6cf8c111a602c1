//! What can be wrong with bytes of a peer.

use super::reason::Reason;

/// A rule of the wire format that the peer broke; the connection ends with [`DecodeError::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than four bytes, or not in the shortest form. [MQTT-1.5.5-1]
    #[error("A variable byte integer is longer than four bytes or not in its shortest form.")]
    BadLength,
    /// Passes the maximum packet size that this side accepts.
    #[error("The packet has {bytes} bytes, {max} are accepted.")]
    TooLarge {
        /// Bytes of the whole packet.
        bytes: u32,
        /// Accepted maximum.
        max: u32,
    },
    /// Packet type 0, or AUTH before 5.0.
    #[error("Packet type {0} does not exist in this protocol version.")]
    UnknownType(u8),
    /// The first packet of a connection is another one than CONNECT. [MQTT-3.1.0-1]
    #[error("The first packet is not a CONNECT.")]
    NotConnect,
    /// Reserved bits of the fixed header. [MQTT-2.1.3-1]
    #[error("The first byte {0:#04x} has reserved bits at a wrong value.")]
    BadFlags(u8),
    /// A field passes the end of its packet or of its property block.
    #[error("A field is longer than the packet that holds it.")]
    Truncated,
    /// Bytes behind the last field.
    #[error("The packet goes on behind its last field.")]
    TrailingBytes,
    /// A string is not UTF-8 or holds U+0000. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    #[error("A string is not valid UTF-8 or holds U+0000.")]
    BadString,
    /// Both QoS bits of PUBLISH or of the will are set. [MQTT-3.3.1-4] [MQTT-3.1.2-12]
    #[error("QoS 3 does not exist.")]
    BadQos,
    /// DUP on a QoS 0 message. [MQTT-3.3.1-2]
    #[error("A QoS 0 message has the DUP flag.")]
    DupWithoutQos,
    /// [MQTT-2.2.1-3]
    #[error("The packet identifier is 0.")]
    PacketIdZero,
    /// Neither a topic nor a topic alias (MQTT 5.0 §3.3.2.1). [MQTT-4.7.3-1]
    #[error("The message has neither a topic nor a topic alias.")]
    NoTopic,
    /// Reserved bit, or will bits without will. [MQTT-3.1.2-3] [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    #[error("The connect flags {0:#04x} contradict each other or use the reserved bit.")]
    BadConnectFlags(u8),
    /// Password without user name before 5.0. [MQTT-3.1.2-22 of 3.1.1]
    #[error("A password without user name is not allowed before MQTT 5.0.")]
    PasswordAlone,
    /// Protocol name is neither `MQTT` nor `MQIsdp`. [MQTT-3.1.2-1]
    #[error("The protocol name is unknown.")]
    UnknownProtocol,
    /// The protocol name is known, its level is not. [MQTT-3.1.2-2]
    #[error("Protocol level {level} is not supported.")]
    UnsupportedVersion {
        /// Level byte as received.
        level: u8,
    },
    /// Reserved bits, or session present with a refusal. [MQTT-3.2.2-1] [MQTT-3.2.2-6]
    #[error("The connect acknowledge flags {0:#04x} are not allowed here.")]
    BadConnackFlags(u8),
    /// The code is not in the packet's list ([MQTT-3.2.2-8], [MQTT-3.4.2-1] and its siblings).
    #[error("Reason code {0:#04x} is not allowed in this packet.")]
    BadReason(u8),
    /// SUBSCRIBE, UNSUBSCRIBE or their answer without an entry. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
    #[error("The packet has no entry where at least one is required.")]
    NoEntries,
    /// More than [`FILTERS_MAX`](super::FILTERS_MAX) entries.
    #[error("The packet has too many topic filters.")]
    TooManyFilters,
    /// Reserved bits of the subscription options. [MQTT-3.8.3-5]
    #[error("The subscription options {0:#04x} use reserved bits.")]
    ReservedOptions(u8),
    /// QoS 3 or retain handling 3 (MQTT 5.0 §3.8.3.1).
    #[error("The subscription options {0:#04x} have a QoS or retain handling of 3.")]
    BadOptions(u8),
    /// Identifier not in the specification's table, or not legal in this packet (§2.2.2.2).
    #[error("Property {0:#04x} is not allowed in this packet.")]
    UnexpectedProperty(u8),
    /// A property that may be there once is there twice.
    #[error("Property {0:#04x} is there more than once.")]
    RepeatedProperty(u8),
    /// A value that its property forbids, such as a Receive Maximum of 0.
    #[error("Property {0:#04x} has a forbidden value.")]
    BadPropertyValue(u8),
    /// Authentication data, or an AUTH exchange, without its method (§3.1.2.11.10, §3.15.2.2.2).
    #[error("The authentication method is missing.")]
    NoAuthenticationMethod,
    /// [MQTT-3.3.2-8]
    #[error("The topic alias is 0.")]
    TopicAliasZero,
    /// More than [`USER_PROPERTIES_MAX`](super::USER_PROPERTIES_MAX) in one property block.
    #[error("The packet has too many user properties.")]
    TooManyUserProperties,
}

impl DecodeError {
    /// Reason code to end the connection with (MQTT 5.0 §4.13). [MQTT-4.13.1-1]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::BadLength
            | Self::UnknownType(_)
            | Self::BadFlags(_)
            | Self::Truncated
            | Self::TrailingBytes
            | Self::BadString
            | Self::BadQos
            | Self::DupWithoutQos
            | Self::BadConnectFlags(_)
            | Self::PasswordAlone
            | Self::BadConnackFlags(_)
            | Self::ReservedOptions(_)
            | Self::UnexpectedProperty(_) => Reason::MalformedPacket,
            Self::NotConnect
            | Self::PacketIdZero
            | Self::NoTopic
            | Self::BadReason(_)
            | Self::NoEntries
            | Self::BadOptions(_)
            | Self::RepeatedProperty(_)
            | Self::BadPropertyValue(_)
            | Self::NoAuthenticationMethod => Reason::ProtocolError,
            Self::UnknownProtocol | Self::UnsupportedVersion { .. } => {
                Reason::UnsupportedProtocolVersion
            }
            Self::TooLarge { .. } => Reason::PacketTooLarge,
            Self::TopicAliasZero => Reason::TopicAliasInvalid,
            Self::TooManyUserProperties | Self::TooManyFilters => Reason::QuotaExceeded,
        }
    }
}
