//! Reason codes (MQTT 5.0 §2.4): numbers, which packet may carry which, and the 3.x return codes.

use super::error::DecodeError;
use super::property_table::Place;

/// Every reason code of MQTT 5.0. `Success` is also `NormalDisconnection` and `GrantedQos0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of the specification's table")]
pub enum Reason {
    Success = 0x00,
    GrantedQos1 = 0x01,
    GrantedQos2 = 0x02,
    DisconnectWithWill = 0x04,
    NoMatchingSubscribers = 0x10,
    NoSubscriptionExisted = 0x11,
    ContinueAuthentication = 0x18,
    ReAuthenticate = 0x19,
    UnspecifiedError = 0x80,
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecificError = 0x83,
    UnsupportedProtocolVersion = 0x84,
    ClientIdentifierNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerBusy = 0x89,
    Banned = 0x8a,
    ServerShuttingDown = 0x8b,
    BadAuthenticationMethod = 0x8c,
    KeepAliveTimeout = 0x8d,
    SessionTakenOver = 0x8e,
    TopicFilterInvalid = 0x8f,
    TopicNameInvalid = 0x90,
    PacketIdentifierInUse = 0x91,
    PacketIdentifierNotFound = 0x92,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    MessageRateTooHigh = 0x96,
    QuotaExceeded = 0x97,
    AdministrativeAction = 0x98,
    PayloadFormatInvalid = 0x99,
    RetainNotSupported = 0x9a,
    QosNotSupported = 0x9b,
    UseAnotherServer = 0x9c,
    ServerMoved = 0x9d,
    SharedSubscriptionsNotSupported = 0x9e,
    ConnectionRateExceeded = 0x9f,
    MaximumConnectTime = 0xa0,
    SubscriptionIdentifiersNotSupported = 0xa1,
    WildcardSubscriptionsNotSupported = 0xa2,
}

impl Reason {
    /// `NormalDisconnection`, code 0x00 in DISCONNECT.
    pub const NORMAL_DISCONNECTION: Reason = Reason::Success;
    /// `GrantedQoS0`, code 0x00 in SUBACK.
    pub const GRANTED_QOS0: Reason = Reason::Success;

    /// Is it 0x80 or above.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Reason of that code; `None` if the specification does not have it.
    pub const fn from_u8(code: u8) -> Option<Self> {
        Some(match code {
            0x00 => Self::Success,
            0x01 => Self::GrantedQos1,
            0x02 => Self::GrantedQos2,
            0x04 => Self::DisconnectWithWill,
            0x10 => Self::NoMatchingSubscribers,
            0x11 => Self::NoSubscriptionExisted,
            0x18 => Self::ContinueAuthentication,
            0x19 => Self::ReAuthenticate,
            0x80 => Self::UnspecifiedError,
            0x81 => Self::MalformedPacket,
            0x82 => Self::ProtocolError,
            0x83 => Self::ImplementationSpecificError,
            0x84 => Self::UnsupportedProtocolVersion,
            0x85 => Self::ClientIdentifierNotValid,
            0x86 => Self::BadUserNameOrPassword,
            0x87 => Self::NotAuthorized,
            0x88 => Self::ServerUnavailable,
            0x89 => Self::ServerBusy,
            0x8a => Self::Banned,
            0x8b => Self::ServerShuttingDown,
            0x8c => Self::BadAuthenticationMethod,
            0x8d => Self::KeepAliveTimeout,
            0x8e => Self::SessionTakenOver,
            0x8f => Self::TopicFilterInvalid,
            0x90 => Self::TopicNameInvalid,
            0x91 => Self::PacketIdentifierInUse,
            0x92 => Self::PacketIdentifierNotFound,
            0x93 => Self::ReceiveMaximumExceeded,
            0x94 => Self::TopicAliasInvalid,
            0x95 => Self::PacketTooLarge,
            0x96 => Self::MessageRateTooHigh,
            0x97 => Self::QuotaExceeded,
            0x98 => Self::AdministrativeAction,
            0x99 => Self::PayloadFormatInvalid,
            0x9a => Self::RetainNotSupported,
            0x9b => Self::QosNotSupported,
            0x9c => Self::UseAnotherServer,
            0x9d => Self::ServerMoved,
            0x9e => Self::SharedSubscriptionsNotSupported,
            0x9f => Self::ConnectionRateExceeded,
            0xa0 => Self::MaximumConnectTime,
            0xa1 => Self::SubscriptionIdentifiersNotSupported,
            0xa2 => Self::WildcardSubscriptionsNotSupported,
            _ => return None,
        })
    }

    /// Return code of a 3.x CONNACK (MQTT 3.1.1 table 3.1). `None`: no code fits, the connection is
    /// closed without CONNACK. [MQTT-3.2.2-6 of 3.1.1]
    pub const fn connack_code(self) -> Option<u8> {
        Some(match self as u8 {
            0x00 => 0,
            0x84 => 1,
            0x85 => 2,
            // Unspecified, unavailable, busy, shutting down, quota, other server, moved, rate.
            0x80 | 0x83 | 0x88 | 0x89 | 0x8b | 0x97 | 0x9c | 0x9d | 0x9f => 3,
            0x86 => 4,
            // Not authorized, banned, bad authentication method.
            0x87 | 0x8a | 0x8c => 5,
            _ => return None,
        })
    }

    /// Reason that a 3.x CONNACK return code stands for; `None` from 6 on.
    pub const fn from_connack_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// Decodes a 5.0 reason code where only those of `place` are legal.
    pub(super) fn parse(code: u8, place: Place) -> Result<Self, DecodeError> {
        match Self::from_u8(code) {
            Some(reason) if reason.is_listed(place) => Ok(reason),
            _ => Err(DecodeError::BadReason(code)),
        }
    }

    /// Is the code in the packet's own list. Lists of both directions are joined.
    fn is_listed(self, place: Place) -> bool {
        listed(place).contains(&(self as u8))
    }

    /// Code to write into a packet: an unlisted error becomes the packet's most general one, so
    /// that a list is kept whatever the caller's reason is.
    pub(super) fn code_in(self, place: Place) -> u8 {
        if self.is_listed(place) {
            self as u8
        } else if matches!(place, Place::Pubrel | Place::Pubcomp) {
            Self::PacketIdentifierNotFound as u8
        } else {
            Self::UnspecifiedError as u8
        }
    }
}

/// The codes that a packet may carry.
const fn listed(place: Place) -> &'static [u8] {
    match place {
        // [MQTT-3.2.2-8]
        Place::Connack => &[
            0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90,
            0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
        ],
        // [MQTT-3.4.2-1] [MQTT-3.5.2-1]
        Place::Puback | Place::Pubrec => &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        // [MQTT-3.6.2-1] [MQTT-3.7.2-1]
        Place::Pubrel | Place::Pubcomp => &[0x00, 0x92],
        // [MQTT-3.9.3-2]
        Place::Suback => &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2],
        // [MQTT-3.11.3-2]
        Place::Unsuback => &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91],
        // [MQTT-3.14.2-1] 0x8c is listed for DISCONNECT in §2.4 only.
        Place::Disconnect => &[
            0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90,
            0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0,
            0xa1, 0xa2,
        ],
        // [MQTT-3.15.2-1]
        Place::Auth => &[0x00, 0x18, 0x19],
        Place::Will | Place::Connect | Place::Publish | Place::Subscribe | Place::Unsubscribe => {
            &[]
        }
    }
}
