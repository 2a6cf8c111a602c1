//! Bytes ⇄ packets for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Promise: decoding never panics, never copies a payload, and never reads past the packet; what it
//! returns has been checked against every rule that needs no session (UTF-8, property table,
//! reserved bits, reason codes). The fork on the protocol version ends in this module.
//! Not here: topic rules (`topic`), session rules (`session`).

mod packet;
mod properties;
mod reason;
mod types;

pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Publish, Suback, Subscribe, SubscribeFilter,
    Unsuback, Unsubscribe, Will,
};
pub use properties::Properties;
pub use reason::Reason;
pub use types::{PacketId, Qos, RetainHandling, SubscribeOptions, Version};
