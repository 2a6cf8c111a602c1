//! Outgoing half of a session: send window, queue, packet identifiers.
//!
//! Promise: at most `window` `QoS` 1/2 PUBLISH packets are unacknowledged [MQTT-3.3.4-9]; messages
//! of one publisher, topic and `QoS` leave in the order they came [MQTT-4.6.0-5]; a message keeps
//! its packet identifier for life, and an identifier is not reused before its message is done
//! [MQTT-2.2.1-4]; a `QoS` 2 message whose record is not durable does not leave, because after a
//! crash it would come again under another identifier. Not here: encoding (`Link`), who matches
//! (`shard::fanout`), the way to the log and back (`shard::bodies`).
//!
//! ```text
//!  slots:  [done][sent][released][sent] | [queued][queued]
//!                                       └ cursor: what has not left on this connection
//!  packet identifier = sequence mod 65535 + 1; sequences rise, some are missing
//! ```

mod reuse;
mod shelf;
mod terms;

pub use terms::{Acked, Delivered, Grant, Keeping, Limits, Overflow};

use super::counters::{Counters, DropCause};
use super::layouts::{Face, Layouts};
use super::link::{Extra, Link};
use super::message::{Message, Publication};
use super::slot::{POSITION_PENDING, Slot, State, UNLOGGED};
use crate::codec::{AckKind, PacketId, Qos, Reason};
use crate::topic::Filter;
use shards::Millis;
use std::collections::VecDeque;
use std::num::NonZeroU16;

/// Number of packet identifiers.
const PACKET_IDS: u64 = 65_535;

/// What a delivery needs besides the session.
#[derive(Debug)]
pub struct Tools<'a> {
    /// Packets that receivers of one message share.
    pub layouts: &'a mut Layouts,
    /// Time.
    pub now: Millis,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// Log position that is durable.
    pub durable: u64,
    /// Deliveries that ended without an acknowledgement and were recorded: expired, too large,
    /// dropped for others.
    pub ended: &'a mut Vec<u64>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbound {
    /// By sequence number; those in state `Queued` are the last `queued` ones.
    slots: VecDeque<Slot>,
    next_sequence: u64,
    /// Slots at the front that have left (again) on this connection.
    cursor: usize,
    unacknowledged: u16,
    /// Topics, payloads and properties of the PUBLISH packets among them.
    unacknowledged_bytes: usize,
    /// Those of the queued slots that have `QoS` 0.
    queued_qos0: u32,
    /// Slots that were never sent.
    queued: usize,
    queued_bytes: usize,
    /// Of a durable session whose queue reaches over all identifiers.
    reuse: Option<Box<reuse::Reuse>>,
}

impl Outbound {
    /// What a restart found: slots in the order of their sequence numbers, those in state
    /// `Queued` last.
    pub fn restored(next_sequence: u64, slots: VecDeque<Slot>) -> Self {
        let queued = slots.iter().rev().take_while(|slot| slot.state == State::Queued);
        let (queued, queued_bytes) =
            queued.fold((0, 0), |(count, bytes), slot| (count + 1, bytes + slot.bytes()));
        let next_sequence = slots.back().map_or(0, |last| last.sequence + 1).max(next_sequence);
        let mut restored =
            Outbound { slots, next_sequence, queued, queued_bytes, ..Outbound::default() };
        restored.watch_identifiers();
        restored
    }

    /// Takes one message for this client: sends it if the window is open, else queues it.
    ///
    /// O(1); allocates only when the message has to be kept.
    pub fn deliver(
        &mut self,
        message: &Publication<'_>,
        (grant, keeping): (&Grant<'_>, Keeping),
        link: Option<&mut Link>,
        limits: &Limits,
        tools: &mut Tools<'_>,
    ) -> Delivered {
        self.free_identifiers(tools.durable);
        // [MQTT-3.8.4-8] the lower of published and granted QoS
        let qos = message.qos.min(grant.qos);
        if qos == Qos::AtMostOnce {
            let Some(link) = link else {
                if limits.queue_qos0 {
                    return self.enqueue(message, qos, (grant, keeping), limits, tools);
                }
                // Not a drop: QoS 0 is not kept for sessions that are away. [MQTT-4.5.0-1]
                return Delivered::Queued;
            };
            if self.queued_qos0 > 0 || keeping.once {
                // [MQTT-4.6.0-5] Not past those that were kept while the client was away.
                return self.enqueue(message, qos, (grant, keeping), limits, tools);
            }
            if !link.has_room() {
                return Delivered::Dropped(DropCause::OutputFull);
            }
            let face = Face { version: link.version, qos, retain: grant.retain, packet_id: None };
            let extra = Extra { dup: false, identifiers: grant.identifiers };
            let at = (tools.now, &mut *tools.counters);
            return match link.publish(message, face, extra, tools.layouts, at) {
                Ok(()) => Delivered::Sent,
                Err(cause) => Delivered::Dropped(cause),
            };
        }
        let waits_for_log = keeping.logged && qos == Qos::ExactlyOnce;
        let direct = link.filter(|link| {
            self.cursor == self.slots.len()
                && !waits_for_log
                && self.window_open(link)
                && link.has_room()
        });
        let Some(link) = direct else {
            return self.enqueue(message, qos, (grant, keeping), limits, tools);
        };
        let packet_id = Some(packet_id(self.next_sequence));
        let face = Face { version: link.version, qos, retain: grant.retain, packet_id };
        let extra = Extra { dup: false, identifiers: grant.identifiers };
        let at = (tools.now, &mut *tools.counters);
        if let Err(cause) = link.publish(message, face, extra, tools.layouts, at) {
            return Delivered::Dropped(cause);
        }
        self.push(message, qos, (grant, keeping), State::Sent);
        self.cursor += 1;
        self.unacknowledged += 1;
        self.unacknowledged_bytes += self.slots.back().map_or(0, Slot::bytes);
        Delivered::Sent
    }

    fn enqueue(
        &mut self,
        message: &Publication<'_>,
        qos: Qos,
        terms: (&Grant<'_>, Keeping),
        limits: &Limits,
        tools: &mut Tools<'_>,
    ) -> Delivered {
        let bytes = message.weight_bytes();
        if limits.overflow == Overflow::DropOldest && bytes <= limits.queue_bytes_max {
            while !self.has_queue_room(bytes, limits) && self.drop_oldest(tools) {}
        }
        if !self.has_queue_room(bytes, limits) {
            return Delivered::Dropped(DropCause::QueueFull);
        }
        self.queued += 1;
        self.queued_qos0 += u32::from(qos == Qos::AtMostOnce);
        self.push(message, qos, terms, State::Queued);
        self.queued_bytes += self.slots.back().map_or(0, Slot::bytes);
        Delivered::Queued
    }

    fn push(
        &mut self,
        message: &Publication<'_>,
        qos: Qos,
        terms: (&Grant<'_>, Keeping),
        state: State,
    ) {
        self.slots.push_back(Slot::new(message, self.next_sequence, qos, terms, state));
        self.next_sequence += 1;
        if terms.1.logged {
            self.watch_identifiers();
        }
    }

    /// O(window): what was sent lies before it. False if nothing is queued.
    fn drop_oldest(&mut self, tools: &mut Tools<'_>) -> bool {
        let index = self.slots.len() - self.queued;
        let Some(slot) = self.slots.remove(index) else { return false };
        self.unqueue(&slot);
        if slot.is_logged() {
            tools.ended.push(slot.sequence);
        }
        tools.counters.drop(DropCause::QueueFull);
        true
    }

    fn unqueue(&mut self, slot: &Slot) {
        self.queued -= 1;
        self.queued_qos0 -= u32::from(slot.qos == Qos::AtMostOnce);
        self.queued_bytes -= slot.bytes();
    }

    /// Sends what waits, as far as window, output, log and memory allow. After
    /// [`Outbound::resume`] this first repeats what was in flight, in its order and with its
    /// identifiers. [MQTT-4.4.0-1]
    ///
    /// True if messages have to be fetched from the log: see [`Outbound::wanted`].
    pub fn pump(&mut self, link: &mut Link, tools: &mut Tools<'_>) -> bool {
        self.free_identifiers(tools.durable);
        self.send_waiting(link, tools);
        self.runs_short()
    }

    fn send_waiting(&mut self, link: &mut Link, tools: &mut Tools<'_>) {
        while let Some(slot) = self.slots.get(self.cursor) {
            let state = slot.state;
            // A done slot costs nothing; all others wait for window and room.
            if state != State::Done && !(self.window_open(link) && link.has_room()) {
                // Messages that expired at the front hold identifiers until they are gone.
                if self.pop_done() {
                    continue;
                }
                return;
            }
            // A crash would give the message another identifier if its record were lost.
            let unsure = slot.qos != Qos::AtLeastOnce && slot.lsn > tools.durable;
            if state == State::Queued && unsure {
                break;
            }
            match state {
                State::Done => {}
                State::Released => {
                    let id = packet_id(slot.sequence);
                    link.ack(AckKind::Pubrel, id, Reason::Success, tools.counters);
                    self.unacknowledged += 1;
                }
                State::Queued | State::Sent if slot.is_away() => break,
                State::Queued | State::Sent => {
                    tools.layouts.reset();
                    self.send_slot(link, tools);
                }
            }
            self.cursor += 1;
        }
        self.pop_done();
    }

    /// Sends the slot at the cursor, or ends it if it may not be sent any more.
    fn send_slot(&mut self, link: &mut Link, tools: &mut Tools<'_>) {
        let Some(slot) = self.slots.get_mut(self.cursor) else { return };
        let Some(message) = slot.message.clone() else { return };
        let repeated = slot.state == State::Sent;
        if !repeated {
            self.queued -= 1;
            self.queued_qos0 -= u32::from(slot.qos == Qos::AtMostOnce);
            self.queued_bytes -= slot.bytes();
            // [MQTT-3.3.2-5] Once sent, a message is repeated whatever its age. [MQTT-4.3.3-7]
            if message.is_expired(tools.now) {
                return end_unsent(slot, DropCause::Expired, tools);
            }
        }
        let packet_id = (slot.qos != Qos::AtMostOnce).then(|| packet_id(slot.sequence));
        let face = Face { version: link.version, qos: slot.qos, retain: slot.retain, packet_id };
        let extra = Extra { dup: repeated, identifiers: slot.identifiers() };
        let at = (tools.now, &mut *tools.counters);
        if let Err(cause) = link.publish(&message.publication(), face, extra, tools.layouts, at) {
            // [MQTT-3.1.2-25] as if it had been sent and acknowledged
            end_unsent(slot, cause, tools);
        } else if slot.qos == Qos::AtMostOnce {
            slot.finish();
        } else {
            slot.state = State::Sent;
            self.unacknowledged += 1;
            self.unacknowledged_bytes += slot.bytes();
        }
    }

    /// Handles PUBACK, PUBREC or PUBCOMP of the client.
    pub fn acknowledge(&mut self, kind: AckKind, id: PacketId, reason: Reason) -> Acked {
        let Some(index) = self.index_of(id) else { return Acked::Unknown };
        let Some(slot) = self.slots.get_mut(index) else { return Acked::Unknown };
        let sequence = slot.sequence;
        let outcome = match (kind, slot.qos, slot.state) {
            (AckKind::Puback, Qos::AtLeastOnce, State::Sent)
            | (AckKind::Pubcomp, Qos::ExactlyOnce, State::Released) => Acked::Done(sequence),
            (AckKind::Pubrec, Qos::ExactlyOnce, State::Sent | State::Released) => {
                // [MQTT-4.4.0-2] An error code ends the delivery; nothing is repeated.
                if reason.is_error() { Acked::Done(sequence) } else { Acked::Release(sequence) }
            }
            _ => return Acked::Unknown,
        };
        if slot.state == State::Sent {
            self.unacknowledged_bytes = self.unacknowledged_bytes.saturating_sub(slot.bytes());
        }
        match outcome {
            Acked::Release(_) => slot.release(),
            Acked::Done(_) | Acked::Unknown => {
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
        self.unacknowledged_bytes = 0;
        self.pop_done();
    }

    /// Takes deliveries of shared subscriptions that another member may get: those never sent, and
    /// those of `QoS` 1 without acknowledgement (MQTT 5.0 §4.8.2). `QoS` 2 deliveries that began
    /// stay here. [MQTT-4.8.2-4] Those whose message lies in the log alone stay too, and are told
    /// to `away`: [`Outbound::take_fetched`].
    pub fn take_shared(
        &mut self,
        mut other_member: impl FnMut(&Filter) -> bool,
        mut away: impl FnMut(&Slot),
    ) -> Vec<Slot> {
        let mut taken = Vec::new();
        let mut kept = VecDeque::with_capacity(self.slots.len());
        for mut slot in std::mem::take(&mut self.slots) {
            if !(slot.is_free() && slot.share().is_some_and(&mut other_member)) {
                kept.push_back(slot);
            } else if slot.is_away() {
                slot.asked = true;
                away(&slot);
                kept.push_back(slot);
            } else if slot.state == State::Queued {
                self.unqueue(&slot);
                taken.push(slot);
            } else {
                // Its place in the window stays until it is at the front.
                taken.push(slot.split_off());
                kept.push_back(slot);
            }
        }
        self.slots = kept;
        taken
    }

    /// Ends deliveries that have not left on this connection, unless `may` allows their message;
    /// those in the log alone are asked about when they come ([`Outbound::withdraw`]). Gives their
    /// number, and in `ended` those that were recorded. What was sent on an earlier connection is
    /// not repeated then.
    ///
    /// O(messages held).
    pub fn revoke(&mut self, mut may: impl FnMut(&Message) -> bool, ended: &mut Vec<u64>) -> u64 {
        let mut revoked = 0;
        let mut kept = VecDeque::with_capacity(self.slots.len());
        for (index, mut slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            let stays = index < self.cursor || slot.message.as_deref().is_none_or(&mut may);
            if stays {
                kept.push_back(slot);
                continue;
            }
            revoked += 1;
            if slot.is_logged() {
                ended.push(slot.sequence);
            }
            if slot.state == State::Queued {
                self.unqueue(&slot);
            } else {
                // Its place in the window stays until it is at the front.
                slot.finish();
                kept.push_back(slot);
            }
        }
        self.slots = kept;
        self.pop_done();
        revoked
    }

    /// Ends one delivery that has not left on this connection. False if there is none.
    pub fn withdraw(&mut self, sequence: u64) -> bool {
        let Some(index) = self.position(sequence).filter(|index| *index >= self.cursor) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(index) else { return false };
        match slot.state {
            State::Queued => {
                let Some(slot) = self.slots.remove(index) else { return false };
                self.unqueue(&slot);
            }
            State::Sent => {
                slot.finish();
                self.pop_done();
            }
            State::Released | State::Done => return false,
        }
        true
    }

    /// The delivery that was taken last is to be told the position of its record.
    pub fn awaits_position(&self) -> bool {
        self.slots.back().is_some_and(|slot| slot.lsn == POSITION_PENDING)
    }

    /// The delivery with this sequence number, if it is not over.
    pub fn slot(&self, sequence: u64) -> Option<&Slot> {
        let slot = self.slots.get(self.position(sequence)?)?;
        (slot.state != State::Done).then_some(slot)
    }

    /// `QoS` 0 is not kept for a client that is away, however long it was waited for.
    /// [MQTT-4.5.0-1]
    fn forget_unsure(&mut self) {
        if self.queued_qos0 == 0 {
            return;
        }
        let mut slots = std::mem::take(&mut self.slots);
        slots.retain(|slot| {
            let unsure = slot.qos == Qos::AtMostOnce && slot.lsn != UNLOGGED;
            let gone = unsure && slot.state == State::Queued;
            if gone {
                self.unqueue(slot);
            }
            !gone
        });
        self.slots = slots;
    }

    /// All deliveries that are not over, in order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.state != State::Done)
    }

    /// A message of this weight may be queued.
    pub fn has_queue_room(&self, bytes: usize, limits: &Limits) -> bool {
        self.queued() < limits.queue_messages_max
            && self.queued_bytes + bytes <= limits.queue_bytes_max
    }

    /// [`Outbound::deliver`] would not drop the message for want of room in the queue.
    pub fn accepts(
        &self,
        message: (Qos, usize),
        logged: bool,
        link: Option<&Link>,
        limits: &Limits,
    ) -> bool {
        let (qos, bytes) = message;
        let direct = |link: &Link| {
            self.cursor == self.slots.len()
                && !(logged && qos == Qos::ExactlyOnce)
                && self.window_open(link)
                && link.has_room()
        };
        qos == Qos::AtMostOnce || link.is_some_and(direct) || self.has_queue_room(bytes, limits)
    }

    /// Sequence number of the message that was taken last; it fixes its packet identifier.
    pub fn last_sequence(&self) -> u64 {
        self.next_sequence.saturating_sub(1)
    }

    /// Sequence number of the next message.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
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

    /// Messages that the client never took: what is lost if the session ends now.
    pub fn unfinished(&self) -> usize {
        let open = |slot: &&Slot| matches!(slot.state, State::Queued | State::Sent);
        self.slots.iter().filter(open).count()
    }

    /// A further message would leave at once, as far as the window is concerned.
    pub fn window_open(&self, link: &Link) -> bool {
        let first = self.first_in_use();
        let next = self.slots.get(self.cursor).map_or(self.next_sequence, |slot| slot.sequence);
        // The second half keeps identifiers unique: the oldest unfinished message holds its own.
        self.unacknowledged < link.window
            && self.unacknowledged_bytes < link.window_bytes
            && next - first < PACKET_IDS
    }

    /// Place of the slot with this sequence number. O(1) if none is missing before it.
    fn position(&self, sequence: u64) -> Option<usize> {
        let first = self.slots.front()?.sequence;
        let guess = usize::try_from(sequence.checked_sub(first)?).ok()?;
        if self.slots.get(guess).is_some_and(|slot| slot.sequence == sequence) {
            return Some(guess);
        }
        self.slots.binary_search_by_key(&sequence, |slot| slot.sequence).ok()
    }

    fn index_of(&self, id: PacketId) -> Option<usize> {
        let first = self.slots.front()?.sequence;
        let wanted = u64::from(id.0.get()) - 1;
        let distance = (wanted + PACKET_IDS - first % PACKET_IDS) % PACKET_IDS;
        self.position(first + distance).filter(|index| *index < self.cursor)
    }

    /// Takes what is done off the front. True if there was any.
    fn pop_done(&mut self) -> bool {
        let before = self.slots.len();
        while self.slots.front().is_some_and(|slot| slot.state == State::Done) {
            self.slots.pop_front();
            self.cursor = self.cursor.saturating_sub(1);
        }
        let popped = self.slots.len() != before;
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            self.slots = VecDeque::new();
        }
        popped
    }
}

impl Slot {
    /// Another member of its group may get it.
    fn is_free(&self) -> bool {
        self.state == State::Queued || (self.state == State::Sent && self.qos == Qos::AtLeastOnce)
    }

    fn bytes(&self) -> usize {
        self.weight_bytes as usize
    }
}

/// Ends a delivery that the client does not get.
fn end_unsent(slot: &mut Slot, cause: DropCause, tools: &mut Tools<'_>) {
    if slot.is_logged() {
        tools.ended.push(slot.sequence);
    }
    slot.finish();
    tools.counters.drop(cause);
}

/// The packet identifier of a delivery.
///
/// # Panics
/// Never: the number is from 1 to 65535.
pub fn packet_id(sequence: u64) -> PacketId {
    let number = u16::try_from(sequence % PACKET_IDS + 1).ok().and_then(NonZeroU16::new);
    PacketId(number.expect("a number from 1 to 65535"))
}
