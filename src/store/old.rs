//! One change of durable state.

use crate::codec::{PacketId, Qos, SubscribeOptions};
use crate::session::{ClientId, Message};
use crate::topic::Filter;
use std::sync::Arc;

/// A change of durable state, in the order it happened on its shard. Replaying them in that order
/// gives the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A session begins, or one with its client id is reset: all earlier state of the id is void.
    SessionNew {
        /// Owner.
        client: ClientId,
        /// Session expiry interval; `u32::MAX` = never.
        expiry_s: u32,
    },
    /// The session expiry interval changed at DISCONNECT or on resume.
    SessionExpiry {
        /// Owner.
        client: ClientId,
        /// New interval.
        expiry_s: u32,
    },
    /// The session is over.
    SessionEnd {
        /// Owner.
        client: ClientId,
    },
    /// A will was set, or cleared if `None`.
    Will {
        /// Owner.
        client: ClientId,
        /// Will message and its delay in seconds.
        will: Option<(Arc<Message>, u32)>,
    },
    /// A subscription was made or replaced.
    Subscribe {
        /// Owner.
        client: ClientId,
        /// Full filter text.
        filter: Filter,
        /// Options.
        options: SubscribeOptions,
        /// Subscription identifier; 0 = none.
        identifier: u32,
    },
    /// A subscription was given up.
    Unsubscribe {
        /// Owner.
        client: ClientId,
        /// Full filter text.
        filter: Filter,
    },
    /// A `QoS` 2 PUBLISH was accepted: message and identifier in one record.
    Received {
        /// Publisher.
        client: ClientId,
        /// Its packet identifier.
        id: PacketId,
        /// The message.
        message: Arc<Message>,
    },
    /// PUBREL: the publisher's identifier is free again.
    Released {
        /// Publisher.
        client: ClientId,
        /// Its packet identifier.
        id: PacketId,
    },
    /// A message was taken for a session; its place in the sequence fixes its packet identifier.
    Enqueue {
        /// Subscriber.
        client: ClientId,
        /// Sequence number in the session.
        sequence: u64,
        /// `QoS` of the delivery.
        qos: Qos,
        /// The message.
        message: Arc<Message>,
    },
    /// The subscriber has taken ownership of a `QoS` 2 message (PUBREC).
    Owned {
        /// Subscriber.
        client: ClientId,
        /// Packet identifier of the delivery.
        id: PacketId,
    },
    /// A delivery is complete.
    Done {
        /// Subscriber.
        client: ClientId,
        /// Packet identifier of the delivery.
        id: PacketId,
    },
    /// The retained message of a topic was set, or deleted if it has no payload.
    Retain {
        /// The message.
        message: Arc<Message>,
    },
}
