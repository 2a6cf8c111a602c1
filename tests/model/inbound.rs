//! The incoming half of a session against a list of what its client sent.

use culex::codec::{self, AckKind, Packet, PacketId, Qos, Reason, Version};
use culex::session::{AckKey, Counters, Inbound, Link, PendingAck, Received, Settlement};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeSet;

const IDS: u16 = 8;

#[derive(Clone, Debug)]
enum Step {
    /// A PUBLISH whose acknowledgement waits for so many shards and so many more records.
    Publish {
        qos2: bool,
        id: u16,
        waits: u32,
        records: u64,
    },
    /// One shard settles its part of the nth waiting acknowledgement.
    Settle {
        nth: usize,
        matched: bool,
    },
    /// Records become durable.
    Durable(u64),
    Release(u16),
    /// The connection is lost and comes back.
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let id = 1..=IDS;
    prop_oneof![
        6 => (any::<bool>(), id.clone(), 0_u32..3, 0_u64..2)
            .prop_map(|(qos2, id, waits, records)| Step::Publish { qos2, id, waits, records }),
        6 => (0_usize..6, any::<bool>()).prop_map(|(nth, matched)| Step::Settle { nth, matched }),
        2 => (0_u64..4).prop_map(Step::Durable),
        2 => id.prop_map(Step::Release),
        1 => Just(Step::Reconnect),
    ]
}

/// One acknowledgement that is owed.
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Debug)]
struct Owed {
    place: u64,
    qos2: bool,
    id: u16,
    waits: u32,
    lsn: u64,
    matched: bool,
    /// Asked for on this connection.
    wanted: bool,
    /// Stands for an earlier one.
    repeats: bool,
    /// There is one that stands for it.
    repeated: bool,
}

#[derive(Debug, Default)]
struct Model {
    /// QoS 2 identifiers that are not released.
    received: BTreeSet<u16>,
    /// Those of earlier connections: they do not count against the maximum of this one.
    earlier: BTreeSet<u16>,
    owed: Vec<Owed>,
    places: u64,
    lsn: u64,
    durable: u64,
}

impl Model {
    fn receive(&mut self, qos2: bool, id: u16, maximum: u16) -> Received {
        if qos2 && self.received.contains(&id) {
            let Some(at) = self.owed.iter().rposition(|owed| owed.qos2 && owed.id == id) else {
                return Received::Duplicate;
            };
            self.ask_again(at);
            return Received::DuplicatePending;
        }
        // Quota is that of the connection; only QoS 2 identifiers outlive it. [MQTT-3.3.4-7]
        let qos1 = self.owed.iter().filter(|owed| !owed.qos2 && owed.wanted).count();
        if self.received.len() - self.earlier.len() + qos1 >= usize::from(maximum) {
            return Received::TooMany;
        }
        if qos2 {
            self.received.insert(id);
        }
        Received::New
    }

    /// PUBRECs come in the order in which a connection asks for them. [MQTT-4.6.0-3]
    fn ask_again(&mut self, at: usize) {
        let behind = self.owed[at + 1..].iter().any(|owed| owed.qos2 && owed.wanted);
        let owed = &mut self.owed[at];
        if owed.wanted || !behind {
            owed.wanted = true;
            return;
        }
        owed.repeated = true;
        let (place, wanted) = (self.places, true);
        let first = owed.clone();
        let later = Owed { place, waits: 0, wanted, repeats: true, repeated: false, ..first };
        self.places += 1;
        self.owed.push(later);
    }

    /// What is sent now: from the front, up to the first that has to wait.
    fn flush(&mut self) -> Vec<(bool, u16, Reason)> {
        let mut sent = Vec::new();
        while self.owed.first().is_some_and(|owed| owed.waits == 0 && owed.lsn <= self.durable) {
            let Owed { qos2, id, matched, wanted, repeated, .. } = self.owed.remove(0);
            let mut later = self.owed.iter_mut().filter(|owed| owed.repeats && owed.id == id);
            if let Some(later) = later.next().filter(|_| qos2 && repeated && !wanted) {
                later.matched |= matched;
            }
            let reason = if matched { Reason::Success } else { Reason::NoMatchingSubscribers };
            if wanted {
                sent.push((qos2, id, reason));
            }
        }
        sent
    }
}

fn sent(link: &mut Link) -> Vec<(bool, u16, Reason)> {
    let (bytes, _) = link.output.take();
    let mut rest = &bytes[..];
    let mut acks = Vec::new();
    while let Some((packet, consumed)) = codec::decode(rest, Version::V5, u32::MAX).unwrap() {
        rest = &rest[consumed..];
        match packet {
            Packet::Puback(ack) => acks.push((false, ack.packet_id.get(), ack.reason)),
            Packet::Pubrec(ack) => acks.push((true, ack.packet_id.get(), ack.reason)),
            other => panic!("{other:?}"),
        }
    }
    acks
}

fn new_link() -> Link {
    let mut link = Link::new(1 << 20);
    link.version = Version::V5;
    link
}

proptest! {
    #[test]
    fn acknowledgements_are_those_of_a_list(
        maximum in 1_u16..10,
        steps in vec(step(), 1..150),
    ) {
        let mut inbound = Inbound::default();
        let mut model = Model::default();
        let mut link = new_link();
        let mut counters = Counters::default();
        for step in steps {
            match step {
                Step::Publish { qos2, id, waits, records } => {
                    let qos = if qos2 { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                    let packet_id = PacketId::new(id).unwrap();
                    let received = inbound.receive(qos, packet_id, Some(maximum));
                    prop_assert_eq!(received, model.receive(qos2, id, maximum));
                    if received == Received::New {
                        model.lsn += records;
                        let lsn = if records > 0 { model.lsn } else { 0 };
                        let (place, matched) = (model.places, false);
                        model.places += 1;
                        prop_assert_eq!(inbound.next_key(), AckKey(place));
                        let kind = if qos2 { AckKind::Pubrec } else { AckKind::Puback };
                        let reason = Reason::Success;
                        let silent = false;
                        let id_of = packet_id;
                        inbound.push(PendingAck {
                            kind, id: id_of, waits, lsn, reason, matched, silent,
                            held_back: false, frees: false, repeats: false, repeated: false,
                        });
                        let wanted = true;
                        let (repeats, repeated) = (false, false);
                        model.owed.push(Owed {
                            place, qos2, id, waits, lsn, matched, wanted, repeats, repeated,
                        });
                    }
                }
                Step::Settle { nth, matched } => {
                    let mut waiting = model.owed.iter_mut().filter(|owed| owed.waits > 0);
                    if let Some(owed) = waiting.nth(nth) {
                        owed.waits -= 1;
                        owed.matched |= matched;
                        inbound.settle(AckKey(owed.place), Settlement::of(matched));
                    }
                }
                Step::Durable(records) => {
                    model.durable = model.lsn.min(model.durable + records);
                }
                Step::Release(id) => {
                    let held = inbound.release(PacketId::new(id).unwrap());
                    model.earlier.remove(&id);
                    prop_assert_eq!(held, model.received.remove(&id));
                }
                Step::Reconnect => {
                    inbound.detach();
                    model.earlier = model.received.clone();
                    model.owed.iter_mut().for_each(|owed| owed.wanted = false);
                    link = new_link();
                }
            }
            inbound.flush(model.durable, Some(&mut link), &mut counters);
            prop_assert_eq!(sent(&mut link), model.flush());
            prop_assert_eq!(inbound.waiting(), model.owed.len());
            prop_assert_eq!(inbound.is_clear(), model.owed.is_empty());
        }
    }
}
