//! Outgoing half of a session: send window, queue, packet identifiers.
//!
//! Promise: at most `window` `QoS` 1/2 PUBLISH packets are unacknowledged [MQTT-3.3.4-9]; messages
//! of one publisher, topic and `QoS` leave in the order they came [MQTT-4.6.0-5]; a message keeps
//! its packet identifier for life, and an identifier is not reused before its message is done
//! [MQTT-2.2.1-4]. Not here: encoding (`Link`), who matches (`shard::fanout`).
//!
//! ```text
//!  slots:  [done][sent][released][sent] | [queued][queued]
//!           front = `first`             └ cursor: what has not left on this connection
//!  packet identifier = sequence mod 65535 + 1
//! ```

use super::counters::{Counters, DropCause};
use super::layouts::{Face, Layouts};
use super::link::{Extra, Link};
use super::message::{Message, Publication};
use crate::codec::{AckKind, PacketId, Qos, Reason};
use crate::topic::Filter;
use shards::Millis;
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

/// Number of packet identifiers.
const PACKET_IDS: u64 = 65_535;

/// What a session may keep waiting.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Messages in the queue, those in the window not counted.
    pub queue_messages_max: usize,
    /// Their topics and payloads.
    pub queue_bytes_max: usize,
    /// Keep `QoS` 0 messages for an offline session too.
    pub queue_qos0: bool,
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

/// State of one message towards one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never sent.
    Queued,
    /// PUBLISH sent, on this or an earlier connection.
    Sent,
    /// PUBREC received: PUBREL has to be answered with PUBCOMP.
    Released,
    /// Complete; leaves the window when it is at the front.
    Done,
}

/// One message towards one client.
#[derive(Debug)]
pub struct Slot {
    /// The message; dropped as soon as the client has taken ownership.
    pub message: Option<Arc<Message>>,
    /// The shared subscription that chose this session.
    pub share: Option<Filter>,
    identifiers: Option<Box<[u32]>>,
    /// `QoS` of this delivery.
    pub qos: Qos,
    retain: bool,
    /// Where it stands.
    pub state: State,
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
    /// The delivery is complete.
    Done,
    /// `QoS` 2: ownership was taken; answer with PUBREL.
    Release,
    /// No such packet identifier in that state.
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbound {
    slots: VecDeque<Slot>,
    /// Sequence number of the front slot.
    first: u64,
    /// Slots at the front that have left (again) on this connection.
    cursor: usize,
    unacknowledged: u16,
    /// Those of the queued slots that have `QoS` 0.
    queued_qos0: u32,
    /// Slots that were never sent.
    queued: usize,
    queued_bytes: usize,
}

impl Outbound {
    /// Takes one message for this client: sends it if the window is open, else queues it.
    ///
    /// O(1); allocates only when the message has to be kept.
    pub fn deliver(
        &mut self,
        message: &Publication<'_>,
        grant: Grant<'_>,
        link: Option<&mut Link>,
        limits: Limits,
        tools: (&mut Layouts, Millis, &mut Counters),
    ) -> Delivered {
        let (layouts, now, counters) = tools;
        // [MQTT-3.8.4-8] the lower of published and granted QoS
        let qos = message.qos.min(grant.qos);
        if qos == Qos::AtMostOnce {
            let Some(link) = link else {
                if limits.queue_qos0 {
                    return self.enqueue(message, qos, grant, limits);
                }
                // Not a drop: QoS 0 is not kept for sessions that are away. [MQTT-4.5.0-1]
                return Delivered::Queued;
            };
            if self.queued_qos0 > 0 {
                // [MQTT-4.6.0-5] Not past those that were kept while the client was away.
                return self.enqueue(message, qos, grant, limits);
            }
            if !link.has_room() {
                return Delivered::Dropped(DropCause::OutputFull);
            }
            let face = Face { version: link.version, qos, retain: grant.retain, packet_id: None };
            let extra = Extra { dup: false, identifiers: grant.identifiers };
            return match link.publish(message, face, extra, layouts, (now, counters)) {
                Ok(()) => Delivered::Sent,
                Err(_) => Delivered::Dropped(DropCause::TooLarge),
            };
        }
        let direct = link.filter(|link| {
            self.cursor == self.slots.len() && self.window_open(link.window) && link.has_room()
        });
        let Some(link) = direct else {
            return self.enqueue(message, qos, grant, limits);
        };
        let packet_id = Some(self.packet_id(self.slots.len()));
        let face = Face { version: link.version, qos, retain: grant.retain, packet_id };
        let extra = Extra { dup: false, identifiers: grant.identifiers };
        if link.publish(message, face, extra, layouts, (now, counters)).is_err() {
            return Delivered::Dropped(DropCause::TooLarge);
        }
        self.slots.push_back(Slot::new(message, qos, grant, State::Sent));
        self.cursor += 1;
        self.unacknowledged += 1;
        Delivered::Sent
    }

    fn enqueue(
        &mut self,
        message: &Publication<'_>,
        qos: Qos,
        grant: Grant<'_>,
        limits: Limits,
    ) -> Delivered {
        if !self.has_queue_room(message.weight_bytes(), limits) {
            return Delivered::Dropped(DropCause::QueueFull);
        }
        self.queued += 1;
        self.queued_qos0 += u32::from(qos == Qos::AtMostOnce);
        self.queued_bytes += message.weight_bytes();
        self.slots.push_back(Slot::new(message, qos, grant, State::Queued));
        Delivered::Queued
    }

    /// Sends what waits, as far as window and output allow. After [`Outbound::resume`] this first
    /// repeats what was in flight, in its order and with its identifiers. [MQTT-4.4.0-1]
    pub fn pump(
        &mut self,
        link: &mut Link,
        layouts: &mut Layouts,
        now: Millis,
        counters: &mut Counters,
    ) {
        while let Some(state) = self.slots.get(self.cursor).map(|slot| slot.state) {
            // A done slot costs nothing; all others wait for window and room.
            if state != State::Done && !(self.window_open(link.window) && link.has_room()) {
                // Messages that expired at the front hold identifiers until they are gone.
                if self.pop_done() {
                    continue;
                }
                return;
            }
            match state {
                State::Done => {}
                State::Released => {
                    let id = self.packet_id(self.cursor);
                    link.ack(AckKind::Pubrel, id, Reason::Success, counters);
                    self.unacknowledged += 1;
                }
                State::Queued | State::Sent => {
                    layouts.reset();
                    self.send_slot(link, layouts, now, counters);
                }
            }
            self.cursor += 1;
        }
        self.pop_done();
    }

    /// Sends the slot at the cursor, or ends it if it may not be sent any more.
    fn send_slot(
        &mut self,
        link: &mut Link,
        layouts: &mut Layouts,
        now: Millis,
        counters: &mut Counters,
    ) {
        let id = self.packet_id(self.cursor);
        let Some(slot) = self.slots.get_mut(self.cursor) else { return };
        let Some(message) = slot.message.clone() else { return };
        let repeated = slot.state == State::Sent;
        if !repeated {
            self.queued -= 1;
            self.queued_qos0 -= u32::from(slot.qos == Qos::AtMostOnce);
            self.queued_bytes -= message.weight_bytes();
            // [MQTT-3.3.2-5] Once sent, a message is repeated whatever its age. [MQTT-4.3.3-7]
            if message.is_expired(now) {
                slot.finish();
                counters.drop(DropCause::Expired);
                return;
            }
        }
        let packet_id = (slot.qos != Qos::AtMostOnce).then_some(id);
        let face = Face { version: link.version, qos: slot.qos, retain: slot.retain, packet_id };
        let identifiers = slot.identifiers.as_deref().unwrap_or_default();
        let extra = Extra { dup: repeated, identifiers };
        if link.publish(&message.publication(), face, extra, layouts, (now, counters)).is_err() {
            // [MQTT-3.1.2-25] as if it had been sent and acknowledged
            slot.finish();
            counters.drop(DropCause::TooLarge);
        } else if slot.qos == Qos::AtMostOnce {
            slot.finish();
        } else {
            slot.state = State::Sent;
            self.unacknowledged += 1;
        }
    }

    /// Handles PUBACK, PUBREC or PUBCOMP of the client.
    pub fn acknowledge(&mut self, kind: AckKind, id: PacketId, reason: Reason) -> Acked {
        let Some(index) = self.index_of(id) else { return Acked::Unknown };
        let Some(slot) = self.slots.get_mut(index) else { return Acked::Unknown };
        let outcome = match (kind, slot.qos, slot.state) {
            (AckKind::Puback, Qos::AtLeastOnce, State::Sent)
            | (AckKind::Pubcomp, Qos::ExactlyOnce, State::Released) => Acked::Done,
            (AckKind::Pubrec, Qos::ExactlyOnce, State::Sent | State::Released) => {
                // [MQTT-4.4.0-2] An error code ends the delivery; nothing is repeated.
                if reason.is_error() { Acked::Done } else { Acked::Release }
            }
            _ => return Acked::Unknown,
        };
        match outcome {
            Acked::Release => {
                slot.state = State::Released;
                slot.message = None;
                slot.identifiers = None;
            }
            Acked::Done | Acked::Unknown => {
                slot.finish();
                self.unacknowledged -= 1;
                self.pop_done();
            }
        }
        outcome
    }

    /// A new connection resumes the session: all that is not done will be sent again by `pump`.
    pub fn resume(&mut self) {
        self.cursor = 0;
        self.unacknowledged = 0;
        self.pop_done();
    }

    /// Takes messages of shared subscriptions that another member may get: those never sent, and
    /// those of `QoS` 1 without acknowledgement (MQTT 5.0 §4.8.2). `QoS` 2 deliveries that began
    /// stay here. [MQTT-4.8.2-4]
    pub fn take_shared(
        &mut self,
        mut other_member: impl FnMut(&Filter) -> bool,
    ) -> Vec<(Filter, Arc<Message>)> {
        let mut taken = Vec::new();
        for slot in &mut self.slots {
            let free = slot.state == State::Queued
                || (slot.state == State::Sent && slot.qos == Qos::AtLeastOnce);
            if !(free && slot.share.as_ref().is_some_and(&mut other_member)) {
                continue;
            }
            if slot.state == State::Queued {
                self.queued -= 1;
                self.queued_qos0 -= u32::from(slot.qos == Qos::AtMostOnce);
                self.queued_bytes -= slot.message.as_ref().map_or(0, |m| m.weight_bytes());
            }
            if let (Some(filter), Some(message)) = (slot.share.take(), slot.message.take()) {
                taken.push((filter, message));
            }
            slot.finish();
        }
        taken
    }

    /// Ends every delivery that has not left on this connection, unless `may` allows its message.
    /// Gives their number. What was sent on an earlier connection is not repeated then.
    ///
    /// O(messages held).
    pub fn revoke(&mut self, mut may: impl FnMut(&Message) -> bool) -> u64 {
        let mut revoked = 0;
        for slot in self.slots.iter_mut().skip(self.cursor) {
            if slot.message.as_deref().is_none_or(&mut may) {
                continue;
            }
            if slot.state == State::Queued {
                self.queued -= 1;
                self.queued_qos0 -= u32::from(slot.qos == Qos::AtMostOnce);
                self.queued_bytes -= slot.message.as_ref().map_or(0, |m| m.weight_bytes());
            }
            slot.finish();
            revoked += 1;
        }
        self.pop_done();
        revoked
    }

    /// A message of this weight may be queued.
    pub fn has_queue_room(&self, bytes: usize, limits: Limits) -> bool {
        self.queued() < limits.queue_messages_max
            && self.queued_bytes + bytes <= limits.queue_bytes_max
    }

    /// Sequence number of the message that was taken last; it fixes its packet identifier.
    pub fn last_sequence(&self) -> u64 {
        (self.first + self.slots.len() as u64).saturating_sub(1)
    }

    /// Something has not left on this connection.
    pub fn has_waiting(&self) -> bool {
        self.cursor < self.slots.len()
    }

    /// Messages in window and queue. O(1): counts those that are done behind one that is not.
    pub fn held(&self) -> usize {
        self.slots.len()
    }

    /// Messages that were never sent.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Topics and payloads of the messages that were never sent.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// PUBLISH and PUBREL packets without acknowledgement on this connection.
    pub fn unacknowledged(&self) -> u16 {
        self.unacknowledged
    }

    /// Messages that are not done: what is lost if the session ends now.
    pub fn unfinished(&self) -> usize {
        self.slots.iter().filter(|slot| slot.message.is_some()).count()
    }

    /// A further message would leave at once, as far as the window is concerned.
    pub fn window_open(&self, window: u16) -> bool {
        // The second half keeps identifiers unique: the oldest unfinished message holds its own.
        self.unacknowledged < window && (self.cursor as u64) < PACKET_IDS
    }

    fn packet_id(&self, index: usize) -> PacketId {
        let number = (self.first + index as u64) % PACKET_IDS + 1;
        let number = u16::try_from(number).ok().and_then(NonZeroU16::new);
        PacketId(number.expect("a number from 1 to 65535"))
    }

    fn index_of(&self, id: PacketId) -> Option<usize> {
        let wanted = u64::from(id.0.get()) - 1;
        let distance = (wanted + PACKET_IDS - self.first % PACKET_IDS) % PACKET_IDS;
        usize::try_from(distance).ok().filter(|index| *index < self.cursor)
    }

    /// Takes what is done off the front. True if there was any.
    fn pop_done(&mut self) -> bool {
        let first = self.first;
        while self.slots.front().is_some_and(|slot| slot.state == State::Done) {
            self.slots.pop_front();
            self.first += 1;
            self.cursor = self.cursor.saturating_sub(1);
        }
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            self.slots = VecDeque::new();
        }
        self.first != first
    }
}

impl Slot {
    fn new(message: &Publication<'_>, qos: Qos, grant: Grant<'_>, state: State) -> Self {
        Slot {
            message: Some(Arc::clone(message.owned())),
            share: grant.share.cloned(),
            identifiers: (!grant.identifiers.is_empty()).then(|| Box::from(grant.identifiers)),
            qos,
            retain: grant.retain,
            state,
        }
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.message = None;
        self.identifiers = None;
        self.share = None;
    }
}
