//! What a delivery is asked for, and what became of it.

use crate::codec::Qos;
use crate::session::DropCause;
use crate::topic::Filter;

/// What a session may keep waiting.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages in the queue, those in the window not counted.
    pub queue_messages_max: usize,
    /// Their topics and payloads.
    pub queue_bytes_max: usize,
    /// Keep `QoS` 0 messages for an offline session too.
    pub queue_qos0: bool,
    /// What a full queue does.
    pub overflow: Overflow,
}

/// What happens when a queue is full. Every drop is counted ([`DropCause::QueueFull`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The message that comes is dropped.
    #[default]
    DropNewest,
    /// The oldest messages that were never sent make room.
    DropOldest,
    /// The publisher is told, and the message reaches nobody on that shard: who asks
    /// [`super::Outbound::accepts`] first. What is not asked for is dropped as it comes.
    Reject,
}

/// Terms of one delivery to one session, merged from its matching subscriptions.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Highest granted `QoS` of the matching subscriptions. [MQTT-3.3.4-2]
    pub qos: Qos,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Identifiers of the matching subscriptions.
    pub identifiers: &'a [u32],
    /// The shared subscription that chose this session.
    pub share: Option<&'a Filter>,
}

impl Grant<'_> {
    /// The terms of one ordinary subscription. They stand ready, so that a wide fan-out does not
    /// make them anew for each receiver and read them while they are still on their way to memory.
    pub fn plain(qos: Qos, retain: bool) -> &'static Grant<'static> {
        const fn of(qos: Qos, retain: bool) -> Grant<'static> {
            Grant { qos, retain, identifiers: &[], share: None }
        }
        static GRANTS: [Grant<'static>; 6] = [
            of(Qos::AtMostOnce, false),
            of(Qos::AtMostOnce, true),
            of(Qos::AtLeastOnce, false),
            of(Qos::AtLeastOnce, true),
            of(Qos::ExactlyOnce, false),
            of(Qos::ExactlyOnce, true),
        ];
        let [once_sent, once_kept, least_sent, least_kept, exact_sent, exact_kept] = &GRANTS;
        match (qos, retain) {
            (Qos::AtMostOnce, false) => once_sent,
            (Qos::AtMostOnce, true) => once_kept,
            (Qos::AtLeastOnce, false) => least_sent,
            (Qos::AtLeastOnce, true) => least_kept,
            (Qos::ExactlyOnce, false) => exact_sent,
            (Qos::ExactlyOnce, true) => exact_kept,
        }
    }
}

/// How one delivery is to outlast a crash.
///
/// Apart from [`Grant`], which many deliveries share and which is handed on by reference: a copy of
/// it for each receiver is the larger part of what a wide fan-out costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The session is durable: the caller records the delivery, if its `QoS` is 1 or 2, and says
    /// where ([`super::Outbound::note_position`]).
    pub logged: bool,
    /// After a crash the message may come again, so that at `QoS` 0 it must not leave before its
    /// record is durable: it is queued, and the caller says where the record is.
    pub once: bool,
}

/// How a message was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Written to the connection's output.
    Sent,
    /// Kept for later.
    Queued,
    /// Not taken, and why; the caller counts it.
    Dropped(DropCause),
}

/// What an acknowledgement of the client meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// The delivery with this sequence number is complete.
    Done(u64),
    /// `QoS` 2: ownership of this delivery was taken; answer with PUBREL.
    Release(u64),
    /// No such packet identifier in that state.
    Unknown,
}
