//! What a listener offers its clients.

use crate::codec::Qos;
use crate::topic::Mount;

/// What clients of one listener may do. Clients of 5.0 are told in CONNACK; a connection keeps the
/// offer under which it began, whatever a reload makes of the next ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Largest packet, from its first byte to its last.
    pub packet_bytes_max: u32,
    /// Receive Maximum; holds for 5.0.
    pub receive_maximum: u16,
    /// Topic Alias Maximum.
    pub topic_alias_maximum: u16,
    /// Highest `QoS` of a PUBLISH or will, and of what a subscription is granted.
    pub qos_max: Qos,
    /// Beginning of all topics of these clients, which they do not see.
    pub mount: Option<Mount>,
}
