//! One publisher: what it has sent, what is acknowledged, what has been delivered.
//!
//! Promise: at most `window` messages are unacknowledged (QoS 1 and 2) and at most `outstanding`
//! are not yet delivered to every receiver, so that a broker never has to drop for lack of room.
//!
//! ```text
//! sequence   0 … oldest … … sent
//!            done │ in flight: remaining[sequence % outstanding] receivers still wait
//! ```

use crate::stamp::Stamp;
use culex::codec::{Packet, PacketId, Publish, Qos, Version};
use std::num::NonZeroU16;

/// A PUBLISH that is encoded once; packet id and stamp are written into it before each use.
#[derive(Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    packet_id_at: usize,
    payload_at: usize,
}

impl Template {
    /// Encodes a PUBLISH with `payload_bytes` of filler.
    pub(crate) fn new(topic: &str, qos: Qos, version: Version, payload_bytes: usize) -> Self {
        let filler: Vec<u8> = (b'a'..=b'z').cycle().take(payload_bytes).collect();
        let packet = Packet::Publish(Publish {
            dup: false,
            qos,
            retain: false,
            topic,
            packet_id: (qos > Qos::AtMostOnce).then_some(PacketId(NonZeroU16::MIN)),
            properties: culex::codec::Properties::default(),
            topic_alias: None,
            message_expiry_s: None,
            payload: &filler,
        });
        let mut frame = Vec::new();
        culex::codec::encode(&packet, version, &mut frame);
        let payload_at = frame.len() - payload_bytes;
        // Before the payload stands the empty property block of 5.0, and before it the packet id.
        let packet_id_at = payload_at - 2 - usize::from(version == Version::V5);
        Self { frame, packet_id_at, payload_at }
    }

    fn append(&mut self, qos: Qos, packet_id: u16, stamp: Stamp, out: &mut Vec<u8>) {
        if qos > Qos::AtMostOnce
            && let Some(id) = self.frame.get_mut(self.packet_id_at..self.packet_id_at + 2)
        {
            id.copy_from_slice(&packet_id.to_be_bytes());
        }
        if let Some(payload) = self.frame.get_mut(self.payload_at..) {
            stamp.write(payload);
        }
        out.extend_from_slice(&self.frame);
    }
}

/// Limits of a publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most unacknowledged messages.
    pub(crate) window: u64,
    /// Most messages that are not delivered to every receiver; a power of two.
    pub(crate) outstanding: u64,
    /// Receivers of each message.
    pub(crate) receivers: u32,
}

/// A delivery that the publisher did not expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unexpected;

/// A publisher; see the module.
#[derive(Debug)]
pub(crate) struct Publisher {
    id: u32,
    qos: Qos,
    template: Template,
    limits: Limits,
    remaining: Box<[u32]>,
    sent: u64,
    oldest: u64,
    received: u64,
    acknowledged: u64,
    /// Messages whose intended time has come in a run with a fixed rate.
    pub(crate) owed: u64,
    /// Is it in the list of publishers that may have to send.
    pub(crate) touched: bool,
}

impl Publisher {
    /// A publisher that has sent nothing.
    pub(crate) fn new(id: u32, qos: Qos, template: Template, limits: Limits) -> Self {
        assert!(limits.outstanding.is_power_of_two(), "slots are found by masking");
        let slots = usize::try_from(limits.outstanding).unwrap_or(usize::MAX);
        Self {
            id,
            qos,
            template,
            limits,
            remaining: vec![0; slots].into_boxed_slice(),
            sent: 0,
            oldest: 0,
            received: 0,
            acknowledged: 0,
            owed: 0,
            touched: false,
        }
    }

    /// Narrows the window to what the server allows (MQTT 5.0 §3.2.2.3.3).
    pub(crate) fn limit_window(&mut self, receive_maximum: u16) {
        self.limits.window = self.limits.window.min(u64::from(receive_maximum));
    }

    /// How many messages may be sent now.
    #[inline]
    pub(crate) fn credit(&self) -> u64 {
        let undelivered = self.limits.outstanding - (self.sent - self.oldest);
        if self.qos == Qos::AtMostOnce {
            return undelivered;
        }
        undelivered.min(self.limits.window.saturating_sub(self.sent - self.acknowledged))
    }

    /// The most that [`credit`](Self::credit) can be.
    pub(crate) fn credit_max(&self) -> u64 {
        if self.qos == Qos::AtMostOnce {
            return self.limits.outstanding;
        }
        self.limits.outstanding.min(self.limits.window)
    }

    /// Number of the next message.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sent
    }

    /// Appends the next message; the caller has seen credit.
    #[inline]
    pub(crate) fn publish(&mut self, time_ns: u64, out: &mut Vec<u8>) {
        let stamp = Stamp { publisher: self.id, sequence: self.sent, time_ns };
        let packet_id = packet_id(self.sent);
        self.template.append(self.qos, packet_id, stamp, out);
        let receivers = self.limits.receivers;
        if let Some(slot) = self.slot(self.sent) {
            assert!(*slot == 0, "published without credit");
            *slot = receivers;
        }
        self.sent += 1;
    }

    /// Counts one delivery of message `sequence`.
    ///
    /// # Errors
    /// If the message was never sent, or all its receivers have it.
    #[inline]
    pub(crate) fn delivered(&mut self, sequence: u64) -> Result<(), Unexpected> {
        if sequence < self.oldest || sequence >= self.sent {
            return Err(Unexpected);
        }
        let slot = self.slot(sequence).ok_or(Unexpected)?;
        *slot = slot.checked_sub(1).ok_or(Unexpected)?;
        if sequence == self.oldest {
            while self.oldest < self.sent && self.slot(self.oldest).is_some_and(|left| *left == 0) {
                self.oldest += 1;
            }
        }
        Ok(())
    }

    /// Counts a PUBREC; false if it is not that of the next message.
    pub(crate) fn received(&mut self, id: u16) -> bool {
        let in_order = self.received < self.sent && packet_id(self.received) == id;
        self.received += 1;
        in_order
    }

    /// Counts a PUBACK or PUBCOMP; false if it is not that of the next message.
    #[inline]
    pub(crate) fn acknowledged(&mut self, id: u16) -> bool {
        let in_order = self.acknowledged < self.sent && packet_id(self.acknowledged) == id;
        if self.acknowledged < self.sent {
            self.acknowledged += 1;
        }
        in_order
    }

    /// Is everything that was sent delivered and acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.oldest == self.sent && self.unacknowledged() == 0
    }

    /// Deliveries that are still missing.
    pub(crate) fn undelivered(&self) -> u64 {
        self.remaining.iter().map(|&left| u64::from(left)).sum()
    }

    /// Acknowledgements that are still missing.
    pub(crate) fn unacknowledged(&self) -> u64 {
        if self.qos == Qos::AtMostOnce { 0 } else { self.sent - self.acknowledged }
    }

    #[inline]
    fn slot(&mut self, sequence: u64) -> Option<&mut u32> {
        let index = usize::try_from(sequence & (self.limits.outstanding - 1)).ok()?;
        self.remaining.get_mut(index)
    }
}

/// Identifiers run from 1 to 65535 and start over; the window is smaller than that.
#[inline]
fn packet_id(sequence: u64) -> u16 {
    u16::try_from(sequence % u64::from(u16::MAX)).map_or(u16::MAX, |id| id + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publisher(qos: Qos, window: u64, outstanding: u64, receivers: u32) -> Publisher {
        let template = Template::new("t", qos, Version::V311, 32);
        Publisher::new(3, qos, template, Limits { window, outstanding, receivers })
    }

    #[test]
    fn window_and_outstanding_bound_the_credit() {
        let mut publisher = publisher(Qos::AtLeastOnce, 2, 4, 1);
        let mut out = Vec::new();
        assert_eq!(publisher.credit(), 2);
        publisher.publish(0, &mut out);
        publisher.publish(0, &mut out);
        assert_eq!(publisher.credit(), 0, "window is full");
        assert!(publisher.acknowledged(1));
        assert!(!publisher.acknowledged(7), "wrong order is noticed");
        assert_eq!(publisher.credit(), 2);
        publisher.publish(0, &mut out);
        publisher.publish(0, &mut out);
        assert!(publisher.acknowledged(3) && publisher.acknowledged(4));
        assert_eq!(publisher.credit(), 0, "nothing is delivered");
        assert_eq!(publisher.delivered(1), Ok(()));
        assert_eq!(publisher.credit(), 0, "the oldest is missing");
        assert_eq!(publisher.delivered(0), Ok(()));
        assert_eq!(publisher.credit(), 2);
        assert_eq!(publisher.undelivered(), 2);
    }

    #[test]
    fn duplicates_and_strangers_are_unexpected() {
        let mut publisher = publisher(Qos::AtMostOnce, 0, 8, 2);
        publisher.publish(0, &mut Vec::new());
        publisher.publish(0, &mut Vec::new());
        assert_eq!(publisher.delivered(1), Ok(()));
        assert_eq!(publisher.delivered(1), Ok(()));
        assert_eq!(publisher.delivered(1), Err(Unexpected), "a third delivery to two receivers");
        assert_eq!(publisher.delivered(2), Err(Unexpected), "never sent");
    }

    #[test]
    fn packet_ids_skip_zero() {
        assert_eq!([packet_id(0), packet_id(65_534), packet_id(65_535)], [1, 65_535, 1]);
    }
}
