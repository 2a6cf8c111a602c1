//! The outgoing half of a session against a list of messages.

use culex::codec::{self, AckKind, Packet, PacketId, Qos, Reason, Version};
use culex::session::{
    Acked, Author, ClientId, Counters, Delivered, DropCause, Grant, Keeping, Layouts, Limits, Link,
    Outbound, Overflow, Publication, Tools,
};
use culex::topic::TopicName;
use proptest::collection::vec;
use proptest::prelude::*;
use shards::Millis;
use std::cell::OnceCell;

#[derive(Clone, Debug)]
enum Step {
    Deliver {
        published: u8,
        granted: u8,
        large: bool,
        expires: bool,
    },
    /// The right acknowledgement for the nth message that is in flight.
    Acknowledge(usize),
    /// Any acknowledgement for an identifier near those in use.
    AcknowledgeAnything {
        kind: u8,
        nth: u16,
        error: bool,
    },
    Connect {
        window: u16,
        small_output: bool,
        small_packets: bool,
    },
    Lose,
    /// The client reads, or stops reading.
    Read(bool),
    Pass,
}

fn step() -> impl Strategy<Value = Step> {
    let deliver = (0_u8..3, 0_u8..3, prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let connect = (1_u16..6, prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    prop_oneof![
        12 => deliver.prop_map(|(published, granted, large, expires)| {
            Step::Deliver { published, granted, large, expires }
        }),
        8 => (0_usize..6).prop_map(Step::Acknowledge),
        2 => (0_u8..3, 0_u16..8, any::<bool>())
            .prop_map(|(kind, nth, error)| Step::AcknowledgeAnything { kind, nth, error }),
        2 => connect.prop_map(|(window, small_output, small_packets)| {
            Step::Connect { window, small_output, small_packets }
        }),
        1 => Just(Step::Lose),
        2 => any::<bool>().prop_map(Step::Read),
        1 => Just(Step::Pass),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    Sent,
    Released,
}

#[derive(Clone, Debug)]
struct Item {
    number: u32,
    qos: Qos,
    state: State,
    /// From its first sending on.
    id: Option<u16>,
    bytes: usize,
    large: bool,
    expires_at: Option<Millis>,
}

/// What is not done, in order; the first `left` have left on this connection.
#[derive(Debug, Default)]
struct Model {
    items: Vec<Item>,
    left: usize,
}

impl Model {
    fn unacknowledged(&self) -> usize {
        self.left
    }

    fn queued(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.state == State::Queued)
    }

    fn has_queue_room(&self, bytes: usize, limits: Limits) -> bool {
        let queued_bytes: usize = self.queued().map(|item| item.bytes).sum();
        self.queued().count() < limits.queue_messages_max
            && queued_bytes + bytes <= limits.queue_bytes_max
    }

    /// Position of what is in flight with this identifier.
    fn in_flight(&self, id: u16) -> Option<usize> {
        self.items[..self.left].iter().position(|item| item.id == Some(id))
    }

    fn finish(&mut self, at: usize) {
        self.items.remove(at);
        self.left -= usize::from(at < self.left);
    }

    fn acknowledge(&mut self, kind: AckKind, id: u16, error: bool) -> Acked {
        let Some(at) = self.in_flight(id) else { return Acked::Unknown };
        match (kind, self.items[at].qos, self.items[at].state) {
            (AckKind::Pubrec, Qos::ExactlyOnce, _) if !error => {
                self.items[at].state = State::Released;
                Acked::Release(0)
            }
            (AckKind::Pubrec, Qos::ExactlyOnce, _)
            | (AckKind::Puback, Qos::AtLeastOnce, _)
            | (AckKind::Pubcomp, Qos::ExactlyOnce, State::Released) => {
                self.finish(at);
                Acked::Done(0)
            }
            _ => Acked::Unknown,
        }
    }
}

struct Rig {
    outbound: Outbound,
    model: Model,
    link: Option<Link>,
    reading: bool,
    layouts: Layouts,
    counters: Counters,
    limits: Limits,
    now: Millis,
    numbers: u32,
}

impl Rig {
    fn run(&mut self, step: &Step) {
        match *step {
            Step::Deliver { published, granted, large, expires } => {
                let (published, granted) = (Qos::from_u8(published), Qos::from_u8(granted));
                self.deliver(published.unwrap(), granted.unwrap(), large, expires);
            }
            Step::Acknowledge(nth) => {
                let flight = &self.model.items[..self.model.left];
                let Some(item) = flight.get(nth % flight.len().max(1)) else { return };
                let kind = match (item.qos, item.state) {
                    (Qos::ExactlyOnce, State::Released) => AckKind::Pubcomp,
                    (Qos::ExactlyOnce, _) => AckKind::Pubrec,
                    _ => AckKind::Puback,
                };
                self.acknowledge(kind, item.id.unwrap(), false);
            }
            Step::AcknowledgeAnything { kind, nth, error } => {
                let kind = [AckKind::Puback, AckKind::Pubrec, AckKind::Pubcomp][usize::from(kind)];
                let first = self.model.items.first().and_then(|item| item.id).unwrap_or(1);
                let id = (first - 1).wrapping_add(nth) % 65_535 + 1;
                if self.link.is_some() {
                    self.acknowledge(kind, id, error);
                }
            }
            Step::Connect { window, small_output, small_packets } => {
                let mut link = Link::new(if small_output { 300 } else { 1 << 20 });
                link.version = Version::V5;
                link.window = window;
                link.packet_bytes_max = if small_packets { 200 } else { u32::MAX };
                self.link = Some(link);
                self.reading = true;
                self.model.left = 0;
                self.outbound.resume();
            }
            Step::Lose => self.link = None,
            Step::Read(reading) => {
                self.reading = reading;
                if let Some(link) = &mut self.link
                    && reading
                {
                    link.unsent_bytes = 0;
                }
            }
            Step::Pass => self.now = self.now.after(10_000),
        }
        self.pump();
        self.compare();
    }

    fn deliver(&mut self, published: Qos, granted: Qos, large: bool, expires: bool) {
        let number = self.numbers;
        self.numbers += 1;
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(if large { 250 } else { 10 }, 0);
        let sender = ClientId::new("p");
        let expires_at = expires.then(|| self.now.after(5000));
        let message = Publication {
            topic: TopicName::parse("t").unwrap(),
            payload: &payload,
            forwarded: &[],
            qos: published,
            retain: false,
            expires_at,
            publisher: &sender,
            author: &Author::Vouched,
            owned: OnceCell::new(),
        };
        let bytes = message.weight_bytes();
        let qos = published.min(granted);
        let kept = qos != Qos::AtMostOnce || self.limits.queue_qos0;
        let expected = self.expected(qos, bytes, large);
        let grant = Grant { qos: granted, retain: false, identifiers: &[], share: None };
        let terms = (&grant, Keeping::default());
        self.layouts.reset();
        let mut ended = Vec::new();
        let mut tools = Tools {
            layouts: &mut self.layouts,
            now: self.now,
            counters: &mut self.counters,
            durable: 0,
            ended: &mut ended,
        };
        let link = self.link.as_mut();
        let delivered = self.outbound.deliver(&message, terms, link, &self.limits, &mut tools);
        assert_eq!(delivered, expected);
        let mut item =
            Item { number, qos, state: State::Queued, id: None, bytes, large, expires_at };
        match delivered {
            Delivered::Sent => {
                let packets = self.output();
                let [Out::Publish { number: sent, id, dup: false }] = packets[..] else {
                    panic!("{packets:?}")
                };
                assert_eq!((sent, id.is_some()), (number, qos != Qos::AtMostOnce));
                if let Some(id) = id {
                    self.check_unused(id);
                    (item.state, item.id) = (State::Sent, Some(id));
                    self.model.items.push(item);
                    self.model.left += 1;
                }
            }
            Delivered::Queued if kept => self.model.items.push(item),
            Delivered::Queued | Delivered::Dropped(_) => {}
        }
    }

    /// What becomes of a message.
    fn expected(&self, qos: Qos, bytes: usize, large: bool) -> Delivered {
        let room = self.link.as_ref().is_some_and(Link::has_room);
        let too_large = large && self.link.as_ref().is_some_and(|l| l.packet_bytes_max == 200);
        let all_left = self.model.left == self.model.items.len();
        let open = self
            .link
            .as_ref()
            .is_some_and(|link| all_left && self.model.unacknowledged() < usize::from(link.window));
        let queue_room = self.model.has_queue_room(bytes, self.limits);
        let kept = qos != Qos::AtMostOnce || self.limits.queue_qos0;
        match (&self.link, qos) {
            // Nothing overtakes a message of its QoS that waits.
            (Some(_), Qos::AtMostOnce)
                if self.model.queued().any(|item| item.qos == Qos::AtMostOnce) =>
            {
                if queue_room {
                    Delivered::Queued
                } else {
                    Delivered::Dropped(DropCause::QueueFull)
                }
            }
            (Some(_), Qos::AtMostOnce) if !room => Delivered::Dropped(DropCause::OutputFull),
            (Some(_), Qos::AtMostOnce) if too_large => Delivered::Dropped(DropCause::TooLarge),
            (Some(_), Qos::AtMostOnce) => Delivered::Sent,
            (None, _) if !kept => Delivered::Queued,
            (Some(_), _) if open && room && too_large => Delivered::Dropped(DropCause::TooLarge),
            (Some(_), _) if open && room => Delivered::Sent,
            _ if queue_room => Delivered::Queued,
            _ => Delivered::Dropped(DropCause::QueueFull),
        }
    }

    fn check_unused(&self, id: u16) {
        assert!(self.model.items.iter().all(|item| item.id != Some(id)), "id {id} is in use");
    }

    fn acknowledge(&mut self, kind: AckKind, id: u16, error: bool) {
        let reason = if error { Reason::NotAuthorized } else { Reason::Success };
        let expected = self.model.acknowledge(kind, id, error);
        let acked = self.outbound.acknowledge(kind, PacketId::new(id).unwrap(), reason);
        let (acked, expected) = (std::mem::discriminant(&acked), std::mem::discriminant(&expected));
        assert_eq!(acked, expected, "{kind:?} {id} {error}");
    }

    /// Pumps; what leaves is what comes next in the list, as long as there is room for it.
    fn pump(&mut self) {
        let Some(link) = &mut self.link else { return };
        let mut ended = Vec::new();
        let mut tools = Tools {
            layouts: &mut self.layouts,
            now: self.now,
            counters: &mut self.counters,
            durable: 0,
            ended: &mut ended,
        };
        assert!(!self.outbound.pump(link, &mut tools), "nothing lies in a log");
        let (room, window) = (link.has_room(), usize::from(link.window));
        let small_packets = link.packet_bytes_max == 200;
        let ends = |item: &Item, now| {
            let expired = item.expires_at.is_some_and(|at| now > at);
            let lost = (expired && item.state == State::Queued)
                || (item.large && small_packets && item.state != State::Released);
            lost.then_some(())
        };
        for packet in self.output() {
            while ends(&self.model.items[self.model.left], self.now).is_some() {
                self.model.items.remove(self.model.left);
            }
            let item = self.model.items[self.model.left].clone();
            match packet {
                Out::Pubrel(id) => assert_eq!((item.state, item.id), (State::Released, Some(id))),
                Out::Publish { number, id, dup } => {
                    assert_eq!(number, item.number);
                    assert_eq!(dup, item.state == State::Sent);
                    if dup {
                        assert_eq!(id, item.id, "an identifier is for life");
                    } else if let Some(id) = id {
                        self.check_unused(id);
                    }
                    self.model.items[self.model.left].id = id;
                    self.model.items[self.model.left].state = State::Sent;
                }
            }
            if item.qos == Qos::AtMostOnce {
                self.model.items.remove(self.model.left);
            } else {
                self.model.left += 1;
            }
            assert!(self.model.unacknowledged() <= window, "[MQTT-3.3.4-9]");
        }
        if room && self.model.unacknowledged() < window {
            while self.model.left < self.model.items.len() {
                let next = &self.model.items[self.model.left];
                assert!(ends(next, self.now).is_some(), "{next:?} could have been sent");
                self.model.items.remove(self.model.left);
            }
        }
    }

    /// What was written; the network takes it, and it has left if the client reads.
    fn output(&mut self) -> Vec<Out> {
        let Some(link) = &mut self.link else { return Vec::new() };
        let (bytes, _) = link.output.take();
        if !self.reading {
            link.unsent_bytes += bytes.len();
        }
        let mut rest = &bytes[..];
        let mut packets = Vec::new();
        while let Some((packet, consumed)) = codec::decode(rest, Version::V5, u32::MAX).unwrap() {
            rest = &rest[consumed..];
            packets.push(match packet {
                Packet::Pubrel(ack) => Out::Pubrel(ack.packet_id.get()),
                Packet::Publish(publish) => Out::Publish {
                    number: u32::from_be_bytes(*publish.payload.first_chunk().unwrap()),
                    id: publish.packet_id.map(PacketId::get),
                    dup: publish.dup,
                },
                other => panic!("{other:?}"),
            });
        }
        packets
    }

    fn compare(&self) {
        assert_eq!(self.outbound.queued(), self.model.queued().count());
        let bytes = self.model.queued().map(|item| item.bytes).sum::<usize>();
        assert_eq!(self.outbound.queued_bytes(), bytes);
        if self.link.is_some() {
            let unacknowledged = usize::from(self.outbound.unacknowledged());
            assert_eq!(unacknowledged, self.model.unacknowledged());
        }
        for bytes in [1, 11, 100, 251] {
            let room = self.model.has_queue_room(bytes, self.limits);
            assert_eq!(self.outbound.has_queue_room(bytes, &self.limits), room);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Out {
    Publish { number: u32, id: Option<u16>, dup: bool },
    Pubrel(u16),
}

fn rig(limits: Limits) -> Rig {
    Rig {
        outbound: Outbound::default(),
        model: Model::default(),
        link: None,
        reading: true,
        layouts: Layouts::default(),
        counters: Counters::default(),
        limits,
        now: Millis(1_000_000),
        numbers: 0,
    }
}

const CONNECT: Step = Step::Connect { window: 5, small_output: false, small_packets: false };
const DELIVER: Step = Step::Deliver { published: 1, granted: 1, large: false, expires: false };

proptest! {
    #[test]
    fn deliveries_are_those_of_a_list(
        queue_messages_max in 1_usize..8,
        queue_bytes_max in 20_usize..1000,
        queue_qos0 in any::<bool>(),
        near_the_last_id in prop::bool::weighted(0.05),
        steps in vec(step(), 1..200),
    ) {
        let overflow = Overflow::DropNewest;
        let mut rig = rig(Limits { queue_messages_max, queue_bytes_max, queue_qos0, overflow });
        if near_the_last_id {
            rig.run(&CONNECT);
            for _ in 0..65_530 {
                rig.run(&DELIVER);
                rig.run(&Step::Acknowledge(0));
            }
            rig.run(&Step::Lose);
        }
        for step in steps {
            rig.run(&step);
        }
    }
}

#[test]
fn an_identifier_that_is_held_is_not_given_again() {
    // [MQTT-2.2.1-4] The first message is never acknowledged, all others are.
    let limits = Limits {
        queue_messages_max: 10,
        queue_bytes_max: 1000,
        queue_qos0: false,
        overflow: Overflow::DropNewest,
    };
    let mut rig = rig(limits);
    rig.run(&CONNECT);
    rig.run(&DELIVER);
    for _ in 0..65_534 {
        rig.run(&DELIVER);
        rig.run(&Step::Acknowledge(1));
    }
    assert_eq!(rig.outbound.held(), 65_535);
    // All identifiers were used while the first was held: the next message waits for it.
    let id = rig.model.items[0].id.unwrap();
    let payload = vec![0; 10];
    let publisher = ClientId::new("p");
    let message = Publication {
        topic: TopicName::parse("t").unwrap(),
        payload: &payload,
        forwarded: &[],
        qos: Qos::AtLeastOnce,
        retain: false,
        expires_at: None,
        publisher: &publisher,
        author: &Author::Vouched,
        owned: OnceCell::new(),
    };
    let grant = Grant { qos: Qos::AtLeastOnce, retain: false, identifiers: &[], share: None };
    let mut ended = Vec::new();
    let mut tools = Tools {
        layouts: &mut rig.layouts,
        now: rig.now,
        counters: &mut rig.counters,
        durable: 0,
        ended: &mut ended,
    };
    let terms = (&grant, Keeping::default());
    let delivered = rig.outbound.deliver(&message, terms, rig.link.as_mut(), &limits, &mut tools);
    assert_eq!(delivered, Delivered::Queued);
    let ack =
        rig.outbound.acknowledge(AckKind::Puback, PacketId::new(id).unwrap(), Reason::Success);
    assert!(matches!(ack, Acked::Done(_)));
    let link = rig.link.as_mut().unwrap();
    rig.outbound.pump(link, &mut tools);
    assert_eq!(rig.output(), [Out::Publish { number: 0, id: Some(id), dup: false }]);
}
