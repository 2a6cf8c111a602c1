//! Incoming half of a session: `QoS` 2 identifiers and the acknowledgements that still wait.
//!
//! Promise: acknowledgements leave in the order of their PUBLISH packets, each only when everything
//! it promises has happened (other shards settled, record durable). `QoS` 2 is method B of the
//! specification (§4.3.3): the message goes on at PUBLISH, the identifier is kept until PUBREL.

use super::counters::Counters;
use super::link::Link;
use crate::codec::{AckKind, PacketId, Qos, Reason};
use std::collections::VecDeque;

/// Place of an acknowledgement in its session's queue; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckKey(pub u64);

/// What one shard says of its part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Somebody there has subscribed to it.
    Matched,
    /// Nobody has.
    Unmatched,
    /// A queue there is full, and the message was not taken.
    Refused,
}

impl Settlement {
    /// A message that was taken by all who want it, if anybody does.
    pub fn of(matched: bool) -> Self {
        if matched { Settlement::Matched } else { Settlement::Unmatched }
    }
}

/// An acknowledgement that waits.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct PendingAck {
    /// PUBACK or PUBREC.
    pub kind: AckKind,
    /// Identifier of the PUBLISH.
    pub id: PacketId,
    /// Shards that have not settled yet.
    pub waits: u32,
    /// Log position that has to be durable; 0 = none.
    pub lsn: u64,
    /// Result for the publisher.
    pub reason: Reason,
    /// Somebody matched; else a 5.0 publisher is told so.
    pub matched: bool,
    /// The connection that sent the PUBLISH is gone: write nothing unless it is repeated.
    pub silent: bool,
    /// The message waits for room in a queue, and the publisher with it.
    pub held_back: bool,
    /// The message was refused after its identifier was kept: it is free when this has left.
    pub frees: bool,
    /// It stands for an earlier one with its identifier, which nobody waits for any more: a later
    /// connection repeated the PUBLISH. What becomes of that one, becomes of it.
    pub repeats: bool,
    /// There is one that stands for it.
    pub repeated: bool,
}

/// What a PUBLISH is to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Goes on to the subscribers.
    New,
    /// `QoS` 2 identifier that was not released: answer, do not deliver. [MQTT-4.3.3-10]
    Duplicate,
    /// Duplicate whose first acknowledgement still waits and will be the answer.
    DuplicatePending,
    /// More unacknowledged messages than announced. Reason 0x93.
    TooMany,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inbound {
    /// `QoS` 2 identifiers between PUBLISH and PUBREL, oldest first. At most 65,535.
    received: Vec<PacketId>,
    /// So many of them, the oldest, came on earlier connections: Receive Maximum counts anew on
    /// each (MQTT 5.0 §4.9).
    earlier: usize,
    acks: VecDeque<PendingAck>,
    first: u64,
    /// PUBACKs that this connection waits for.
    qos1_waiting: usize,
}

impl Inbound {
    /// What a restart found: `QoS` 2 identifiers that are held. `None` if there are none.
    pub fn restored(received: Vec<PacketId>) -> Option<Self> {
        let earlier = received.len();
        (earlier > 0).then(|| Inbound { received, earlier, ..Inbound::default() })
    }

    /// Looks at a PUBLISH with `QoS` > 0. `maximum` is the Receive Maximum this client was told, if
    /// any.
    ///
    /// O(identifiers held) for `QoS` 2.
    pub fn receive(&mut self, qos: Qos, id: PacketId, maximum: Option<u16>) -> Received {
        if qos == Qos::ExactlyOnce && self.received.contains(&id) {
            let waiting = |a: &PendingAck| a.id == id && a.kind == AckKind::Pubrec;
            let Some(index) = self.acks.iter().rposition(waiting) else {
                return Received::Duplicate;
            };
            self.ask_again(index);
            return Received::DuplicatePending;
        }
        let outstanding = self.received.len() - self.earlier + self.qos1_waiting;
        if maximum.is_some_and(|maximum| outstanding >= usize::from(maximum)) {
            return Received::TooMany;
        }
        if qos == Qos::ExactlyOnce {
            self.received.push(id);
        }
        Received::New
    }

    /// A PUBREC that waits is asked for by a repetition. It is not written before those that this
    /// connection has asked for already. [MQTT-4.6.0-3]
    fn ask_again(&mut self, index: usize) {
        let owed = |a: &PendingAck| a.kind == AckKind::Pubrec && !a.silent;
        let behind = self.acks.range(index + 1..).any(owed);
        let Some(ack) = self.acks.get_mut(index) else { return };
        if !(ack.silent && behind) {
            ack.silent = false;
            return;
        }
        // Its place stays, because others are counted from it and shards answer to it; nothing is
        // written there.
        let flags = PendingAck { silent: false, held_back: false, frees: false, ..ack.clone() };
        ack.repeated = true;
        let later = PendingAck { waits: 0, repeats: true, repeated: false, ..flags };
        self.acks.push_back(later);
    }

    /// The one that stands for an acknowledgement that leaves the queue unwritten, if there is one.
    fn repetition(&mut self, ack: &PendingAck) -> Option<&mut PendingAck> {
        // Nearly none is, and looking for it takes time.
        if !(ack.silent && ack.repeated) {
            return None;
        }
        self.acks.iter_mut().find(|later| later.repeats && later.id == ack.id)
    }

    /// PUBREL, or a PUBREC with an error code: the identifier is free. False if it was not held.
    pub fn release(&mut self, id: PacketId) -> bool {
        let Some(index) = self.received.iter().position(|held| *held == id) else { return false };
        self.received.remove(index);
        self.earlier -= usize::from(index < self.earlier);
        true
    }

    /// The `QoS` 2 identifier is held, and will be: its message was not refused.
    pub fn holds(&self, id: PacketId) -> bool {
        self.received.contains(&id) && !self.acks.iter().any(|ack| ack.frees && ack.id == id)
    }

    /// A message of this connection waits for room in a queue.
    pub fn is_held_back(&self) -> bool {
        self.acks.iter().any(|ack| ack.held_back)
    }

    /// Nothing waits before a new acknowledgement: it may be written at once.
    pub fn is_clear(&self) -> bool {
        self.acks.is_empty()
    }

    /// The client waits for a PUBREC on this connection.
    pub fn owes_pubrec(&self) -> bool {
        self.acks.iter().any(|ack| ack.kind == AckKind::Pubrec && !ack.silent)
    }

    /// Acknowledgements that wait.
    pub fn waiting(&self) -> usize {
        self.acks.len()
    }

    /// The place that the next pushed acknowledgement will have.
    pub fn next_key(&self) -> AckKey {
        AckKey(self.first + self.acks.len() as u64)
    }

    /// Puts an acknowledgement in the queue, at [`Inbound::next_key`].
    pub fn push(&mut self, ack: PendingAck) {
        self.qos1_waiting += usize::from(ack.kind == AckKind::Puback && !ack.silent);
        self.acks.push_back(ack);
    }

    /// One shard has settled its part, or refused it.
    pub fn settle(&mut self, key: AckKey, settlement: Settlement) {
        if let Some(ack) = self.ack_mut(key) {
            ack.waits = ack.waits.saturating_sub(1);
            ack.matched |= settlement == Settlement::Matched;
            ack.held_back = false;
        }
    }

    /// The connection waits for this acknowledgement, here or behind others.
    pub fn is_asked(&self, key: AckKey) -> bool {
        let index = key.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(index) = index.filter(|index| *index < self.acks.len()) else { return false };
        let mut later = self.acks.range(index..);
        let Some(ack) = later.next() else { return false };
        !ack.silent || ack.repeated && later.any(|a| a.repeats && a.id == ack.id && !a.silent)
    }

    /// Nothing is written for this acknowledgement.
    pub fn silence(&mut self, key: AckKey) {
        let Some(ack) = self.ack_mut(key) else { return };
        ack.silent = true;
        if !ack.repeated {
            return;
        }
        let id = ack.id;
        let later = self.acks.iter_mut().filter(|ack| ack.repeats && ack.id == id);
        later.for_each(|ack| ack.silent = true);
    }

    /// An acknowledgement that still waits.
    pub fn ack_mut(&mut self, key: AckKey) -> Option<&mut PendingAck> {
        let index = key.0.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        self.acks.get_mut(index?)
    }

    /// Writes every acknowledgement at the front that waits for nothing more.
    pub fn flush(&mut self, durable: u64, mut link: Option<&mut Link>, counters: &mut Counters) {
        while self.acks.front().is_some_and(|ack| ack.waits == 0 && ack.lsn <= durable) {
            let Some(ack) = self.acks.pop_front() else { return };
            self.first += 1;
            self.qos1_waiting -= usize::from(ack.kind == AckKind::Puback && !ack.silent);
            if let Some(later) = self.repetition(&ack) {
                later.lsn = later.lsn.max(ack.lsn);
                later.reason = ack.reason;
                later.matched |= ack.matched;
                later.frees |= ack.frees;
                continue;
            }
            if ack.frees {
                self.release(ack.id);
            }
            if let Some(link) = link.as_deref_mut().filter(|_| !ack.silent) {
                link.ack(ack.kind, ack.id, ack.final_reason(), counters);
            }
        }
        if self.acks.is_empty() && self.acks.capacity() > 256 {
            self.acks = VecDeque::new();
        }
    }

    /// The connection is gone; what waits belongs to it. The client repeats what it misses, with a
    /// send quota that begins anew (MQTT 5.0 §4.9).
    pub fn detach(&mut self) {
        self.qos1_waiting = 0;
        for ack in &mut self.acks {
            ack.silent = true;
            ack.held_back = false;
        }
        self.qos1_waiting = 0;
        self.earlier = self.received.len();
    }
}

impl PendingAck {
    /// 0x10 tells a 5.0 publisher that nobody matched (MQTT 5.0 §3.4.2.1); 3.x does not see it.
    pub fn final_reason(&self) -> Reason {
        if self.reason == Reason::Success && !self.matched {
            Reason::NoMatchingSubscribers
        } else {
            self.reason
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{self, Packet, Version};

    fn pubrec(id: PacketId, lsn: u64) -> PendingAck {
        let (kind, reason) = (AckKind::Pubrec, Reason::Success);
        PendingAck {
            kind,
            id,
            waits: 0,
            lsn,
            reason,
            matched: true,
            silent: false,
            held_back: false,
            frees: false,
            repeats: false,
            repeated: false,
        }
    }

    #[test]
    fn a_repetition_waits_behind_what_its_connection_asked_before() {
        // [MQTT-4.6.0-3]
        let mut inbound = Inbound::default();
        let [old, new] = [10, 1].map(|id| PacketId::new(id).unwrap());
        assert_eq!(inbound.receive(Qos::ExactlyOnce, old, None), Received::New);
        inbound.push(pubrec(old, 5));
        inbound.detach();
        assert_eq!(inbound.receive(Qos::ExactlyOnce, new, None), Received::New);
        inbound.push(pubrec(new, 6));
        for _ in 0..2 {
            assert_eq!(inbound.receive(Qos::ExactlyOnce, old, None), Received::DuplicatePending);
            let asked = inbound.acks.iter().filter(|ack| !ack.silent).map(|ack| ack.id);
            assert_eq!(asked.collect::<Vec<_>>(), [new, old]);
        }
        inbound.flush(6, None, &mut Counters::default());
        assert!(inbound.is_clear() && inbound.holds(old) && inbound.holds(new));
    }

    #[test]
    fn a_repetition_is_answered_like_the_first_which_waits_for_another_shard() {
        // [MQTT-4.6.0-3] [MQTT-4.3.3-9]
        for settlement in [Settlement::Matched, Settlement::Refused] {
            let mut inbound = Inbound::default();
            let mut link = Link::new(1000);
            let [old, new] = [10, 1].map(|id| PacketId::new(id).unwrap());
            inbound.receive(Qos::ExactlyOnce, old, None);
            let key = inbound.next_key();
            inbound.push(PendingAck { waits: 1, matched: false, ..pubrec(old, 5) });
            inbound.detach();
            inbound.receive(Qos::ExactlyOnce, new, None);
            inbound.push(pubrec(new, 6));
            assert!(!inbound.is_asked(key));
            inbound.receive(Qos::ExactlyOnce, old, None);
            assert!(inbound.is_asked(key));
            if settlement == Settlement::Refused {
                let ack = inbound.ack_mut(key).unwrap();
                (ack.reason, ack.frees, ack.lsn) = (Reason::QuotaExceeded, true, 7);
            }
            inbound.settle(key, settlement);
            inbound.flush(7, Some(&mut link), &mut Counters::default());
            assert!(inbound.is_clear() && inbound.holds(new));
            let refused = settlement == Settlement::Refused;
            assert_eq!(inbound.holds(old), !refused, "a refused identifier is free");
            let (bytes, _) = link.output.take();
            let mut ids = Vec::new();
            let mut rest = bytes.as_slice();
            while let Ok(Some((Packet::Pubrec(ack), used))) =
                codec::decode(rest, Version::V311, 1000)
            {
                ids.push(ack.packet_id);
                rest = rest.get(used..).unwrap();
            }
            assert_eq!(ids, [new, old]);
        }
    }
}
