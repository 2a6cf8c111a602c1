//! Bytes ⇄ packets for MQTT 3.1, 3.1.1 and 5.0.
//!
//! Promise: decoding never panics, never copies a payload, and never reads past the packet; what it
//! returns has been checked against every rule that needs no session (UTF-8, property table,
//! reserved bits, reason codes). The fork on the protocol version ends in this module.
//! Not here: topic rules (`topic`), session rules (`session`).

mod ack;
mod connack;
mod connect;
mod disconnect;
mod error;
mod frame;
mod packet;
mod properties;
mod property;
mod property_table;
mod publish;
mod reader;
mod reason;
mod suback;
mod subscribe;
#[cfg(test)]
mod tests;
mod types;
mod writer;

pub use ack::{AckKind, encode_ack};
pub use error::DecodeError;
pub use frame::{Frame, connect_carries, decode, encode, frame};
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, Publish, Suback, Subscribe, SubscribeFilter,
    Unsuback, Unsubscribe, Will,
};
pub use properties::{Properties, USER_PROPERTIES_MAX};
pub use property::{Property, PropertyIter, PropertyList};
pub use publish::PublishOut;
pub use reason::Reason;
pub use subscribe::FILTERS_MAX;
pub use types::{PacketId, Qos, RetainHandling, SubscribeOptions, Version};
pub use writer::PACKET_BYTES_MAX;
