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

/// What a frame is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form<'a> {
    /// Topic, of many the first.
    pub(crate) topic: &'a str,
    /// QoS.
    pub(crate) qos: Qos,
    /// Protocol version.
    pub(crate) version: Version,
    /// Bytes of payload.
    pub(crate) payload_bytes: usize,
    /// RETAIN flag.
    pub(crate) retain: bool,
}

/// A PUBLISH that is encoded once; packet id, stamp and number of the topic are written into it
/// before each use.
#[derive(Debug)]
pub(crate) struct Template {
    frame: Vec<u8>,
    topic_at: usize,
    topic_bytes: usize,
    packet_id_at: usize,
    payload_at: usize,
    /// Topics `…/GROUP/NUMBER/v` in turn; 1 = the topic as it is.
    topics: u64,
}

impl Template {
    /// Encodes a PUBLISH with filler; its topic is one of `topics` numbered ones, or alone.
    pub(crate) fn new(form: Form<'_>, topics: u64) -> Self {
        let Form { topic, qos, version, payload_bytes, retain } = form;
        let filler: Vec<u8> = (b'a'..=b'z').cycle().take(payload_bytes).collect();
        let packet = Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
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
        let id_bytes = if qos > Qos::AtMostOnce { 2 } else { 0 };
        let topic_end = payload_at - usize::from(version == Version::V5) - id_bytes;
        let (topic_bytes, topic_at) = (topic.len(), topic_end - topic.len());
        Self { frame, topic_at, topic_bytes, packet_id_at, payload_at, topics: topics.max(1) }
    }

    fn append(&mut self, qos: Qos, packet_id: u16, stamp: Stamp, number: u64, out: &mut Vec<u8>) {
        if qos > Qos::AtMostOnce
            && let Some(id) = self.frame.get_mut(self.packet_id_at..self.packet_id_at + 2)
        {
            id.copy_from_slice(&packet_id.to_be_bytes());
        }
        if self.topics > 1
            && let Some(topic) = self.frame.get_mut(self.topic_at..self.topic_at + self.topic_bytes)
        {
            write_number(topic, number % self.topics);
        }
        if let Some(payload) = self.frame.get_mut(self.payload_at..) {
            stamp.write(payload);
        }
        out.extend_from_slice(&self.frame);
    }
}

/// Writes the digits of `…/GGGGG/NNNNNNNN/v`, as [`crate::scenario::numbered_topic`] makes them.
fn write_number(topic: &mut [u8], number: u64) {
    let mut rest = number;
    let mut digits = [0; 8];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    let end = topic.len().saturating_sub(2);
    if let Some(place) = topic.get_mut(end.saturating_sub(8)..end) {
        place.copy_from_slice(&digits);
    }
    let group_end = end.saturating_sub(9);
    if let Some(place) = topic.get_mut(group_end.saturating_sub(5)..group_end) {
        place.copy_from_slice(digits.first_chunk::<5>().unwrap_or(&[b'0'; 5]));
    }
}

/// Limits of a publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Most unacknowledged messages.
    pub(crate) window: u64,
    /// Most messages that are not delivered to every receiver; a power of two.
    pub(crate) outstanding: u64,
    /// Receivers of each message; 0 = deliveries are not reported here.
    pub(crate) receivers: u32,
    /// Messages of the whole run.
    pub(crate) messages: u64,
    /// From one publisher to the next in the row of numbered topics.
    pub(crate) stride: u64,
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
    /// When each unacknowledged message left or should have left.
    left_ns: Box<[u64]>,
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
        let slots = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let counted = if limits.receivers == 0 { 0 } else { slots(limits.outstanding) };
        let timed = if qos == Qos::AtMostOnce { 0 } else { limits.window.next_power_of_two() };
        Self {
            id,
            qos,
            template,
            limits,
            remaining: vec![0; counted].into_boxed_slice(),
            left_ns: vec![0; slots(timed)].into_boxed_slice(),
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

    /// QoS of its messages, 0 to 2.
    pub(crate) fn qos(&self) -> u8 {
        self.qos as u8
    }

    /// Bytes of each payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.template.frame.len() - self.template.payload_at
    }

    /// How many messages may be sent now.
    #[inline]
    pub(crate) fn credit(&self) -> u64 {
        let left = self.limits.messages - self.sent;
        let undelivered = self.limits.outstanding - (self.sent - self.oldest);
        if self.qos == Qos::AtMostOnce {
            return undelivered.min(left);
        }
        let unacknowledged = self.sent - self.acknowledged;
        undelivered.min(self.limits.window.saturating_sub(unacknowledged)).min(left)
    }

    /// The most that [`credit`](Self::credit) can be.
    pub(crate) fn credit_max(&self) -> u64 {
        let left = self.limits.messages - self.sent;
        if self.qos == Qos::AtMostOnce {
            return self.limits.outstanding.min(left);
        }
        self.limits.outstanding.min(self.limits.window).min(left)
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
        let number = self.sent * self.limits.stride + u64::from(self.id);
        self.template.append(self.qos, packet_id, stamp, number, out);
        let receivers = self.limits.receivers;
        if let Some(slot) = self.slot(self.sent) {
            assert!(*slot == 0, "published without credit");
            *slot = receivers;
        }
        if let Some(left_ns) = timed_slot(&mut self.left_ns, self.sent) {
            *left_ns = time_ns;
        }
        self.sent += 1;
        if receivers == 0 {
            self.oldest = self.sent;
        }
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

    /// Counts a PUBACK or PUBCOMP: when its message left or should have left, and whether it is
    /// that of the next message.
    #[inline]
    pub(crate) fn acknowledged(&mut self, id: u16) -> (u64, bool) {
        let in_order = self.acknowledged < self.sent && packet_id(self.acknowledged) == id;
        let left_ns = timed_slot(&mut self.left_ns, self.acknowledged).map_or(0, |time| *time);
        if self.acknowledged < self.sent {
            self.acknowledged += 1;
        }
        (left_ns, in_order)
    }

    /// Is everything that was sent delivered and acknowledged.
    pub(crate) fn is_settled(&self) -> bool {
        self.oldest == self.sent && self.unacknowledged() == 0
    }

    /// Has it sent all that it may ever send, and is that acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.sent == self.limits.messages && self.unacknowledged() == 0
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

#[inline]
fn timed_slot(times: &mut [u64], sequence: u64) -> Option<&mut u64> {
    let index = usize::try_from(sequence).ok()? & times.len().wrapping_sub(1);
    times.get_mut(index)
}

/// Identifiers run from 1 to 65535 and start over; the window is smaller than that.
#[inline]
fn packet_id(sequence: u64) -> u16 {
    u16::try_from(sequence % u64::from(u16::MAX)).map_or(u16::MAX, |id| id + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(topic: &str, qos: Qos) -> Form<'_> {
        Form { topic, qos, version: Version::V311, payload_bytes: 32, retain: false }
    }

    fn publisher(qos: Qos, window: u64, outstanding: u64, receivers: u32) -> Publisher {
        let limits = Limits { window, outstanding, receivers, messages: u64::MAX, stride: 1 };
        Publisher::new(3, qos, Template::new(form("t", qos), 1), limits)
    }

    #[test]
    fn window_and_outstanding_bound_the_credit() {
        let mut publisher = publisher(Qos::AtLeastOnce, 2, 4, 1);
        let mut out = Vec::new();
        assert_eq!(publisher.credit(), 2);
        publisher.publish(11, &mut out);
        publisher.publish(12, &mut out);
        assert_eq!(publisher.credit(), 0, "window is full");
        assert_eq!(publisher.acknowledged(1), (11, true));
        assert_eq!(publisher.acknowledged(7), (12, false), "wrong order is noticed");
        assert_eq!(publisher.credit(), 2);
        publisher.publish(0, &mut out);
        publisher.publish(0, &mut out);
        assert!(publisher.acknowledged(3).1 && publisher.acknowledged(4).1);
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
    fn stored_messages_need_only_acknowledgements() {
        let limits = Limits { window: 2, outstanding: 4, receivers: 0, messages: 3, stride: 1 };
        let template = Template::new(form("t", Qos::AtLeastOnce), 1);
        let mut publisher = Publisher::new(0, Qos::AtLeastOnce, template, limits);
        for id in 1..=3 {
            assert!(publisher.credit() > 0);
            publisher.publish(0, &mut Vec::new());
            assert!(!publisher.is_done());
            assert!(publisher.acknowledged(id).1);
        }
        assert_eq!((publisher.credit(), publisher.is_done()), (0, true));
    }

    #[test]
    fn topics_take_turns() {
        let topic = crate::scenario::numbered_topic("topics", 0);
        let limits =
            Limits { window: 1, outstanding: 8, receivers: 1, messages: u64::MAX, stride: 2500 };
        let template = Template::new(form(&topic, Qos::AtMostOnce), 5000);
        let mut publisher = Publisher::new(7, Qos::AtMostOnce, template, limits);
        for number in [7, 2507, 7] {
            let mut frame = Vec::new();
            publisher.publish(0, &mut frame);
            let (packet, _) = culex::codec::decode(&frame, Version::V311, 1000).unwrap().unwrap();
            let Packet::Publish(publish) = packet else { panic!("no PUBLISH") };
            assert_eq!(publish.topic, crate::scenario::numbered_topic("topics", number));
        }
    }

    #[test]
    fn packet_ids_skip_zero() {
        assert_eq!([packet_id(0), packet_id(65_534), packet_id(65_535)], [1, 65_535, 1]);
    }
}
