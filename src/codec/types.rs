//! Small values that packets are made of.

use std::num::NonZeroU16;

/// Protocol version of one connection, decided by its CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31 = 3,
    /// MQTT 3.1.1, protocol name `MQTT`, level 4.
    V311 = 4,
    /// MQTT 5.0, protocol name `MQTT`, level 5.
    V5 = 5,
}

/// Quality of service. Ordered: `AtMostOnce < AtLeastOnce < ExactlyOnce`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

/// Packet identifier; never zero. [MQTT-2.2.1-3]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PacketId(pub NonZeroU16);

/// When a subscription gets the retained messages (MQTT 5.0 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    Always = 0,
    /// Only if the subscription did not exist.
    IfNew = 1,
    /// Never.
    Never = 2,
}

/// Options of one subscription (MQTT 5.0 §3.8.3.1); 3.x clients have all but the QoS at default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// Highest QoS at which messages are sent.
    pub qos: Qos,
    /// Messages of the subscriber's own client id are not sent back.
    pub no_local: bool,
    /// RETAIN flag is forwarded as published instead of cleared.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}
