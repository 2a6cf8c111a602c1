//! All publishers and subscribers of a run and the checks between them.
//!
//! Promise: every message that comes in is checked for order, duplicates and gaps per publisher and
//! subscriber; every message that goes out is accounted for until all its receivers have it.
//! Not here: sockets (`fleet`), when to measure (`run`).

use crate::clock::SECOND_NS;
use crate::publisher::Publisher;
use crate::stamp::Stamp;
use crate::wire::{Acknowledgement, Delivery, Frame, Malformed, append_ack, kind};
use culex::codec::Version;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Counters of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// PUBLISH packets sent.
    pub(crate) sent: u64,
    /// PUBLISH packets that came in.
    pub(crate) delivered: u64,
    /// Messages that never came.
    pub(crate) lost: u64,
    /// Messages that came again; nothing reconnects, so no QoS allows it. [MQTT-4.4.0-1]
    pub(crate) duplicates: u64,
    /// Messages of one publisher that came in the wrong order. [MQTT-4.6.0-5]
    pub(crate) disordered: u64,
    /// Acknowledgements in another order than the messages. [MQTT-4.6.0-2] and [MQTT-4.6.0-3] bind
    /// clients only; brokers that serve a connection in order keep them too, and ids are told so.
    pub(crate) acks_disordered: u64,
    /// Acknowledgements with an error, or that never came.
    pub(crate) refused: u64,
    /// Payloads that are not what was sent, or came at another QoS.
    pub(crate) corrupt: u64,
}

impl Tally {
    /// Adds what another thread counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disordered += other.disordered;
        self.acks_disordered += other.acks_disordered;
        self.refused += other.refused;
        self.corrupt += other.corrupt;
    }

    /// Was every promise kept.
    pub(crate) fn is_clean(&self) -> bool {
        let faults = [self.lost, self.duplicates, self.disordered, self.acks_disordered];
        faults.iter().all(|&count| count == 0) && self.refused == 0 && self.corrupt == 0
    }
}

/// How the messages of one publisher are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Every subscriber gets all of them.
    Each,
    /// One member of a group gets each, or the one with its topic, so gaps are normal.
    Group,
    /// The broker keeps them; every subscriber gets all of them later.
    Stored,
    /// The same, in any order, as they have topics of their own.
    Bag,
}

/// The receiving half of a subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    first_publisher: usize,
    next: Box<[u64]>,
    unreleased: u64,
    /// [`Spread::Bag`]: a bit for each message that came.
    seen: Box<[u64]>,
    /// Messages that have to come, where publishers do not count deliveries.
    expected: u64,
    /// It does not read for a while, so the broker may drop what it has no room for.
    slow: bool,
    /// Messages that came.
    pub(crate) received: u64,
    /// When the first and the last of them came.
    pub(crate) first_ns: u64,
    pub(crate) last_ns: u64,
}

impl Subscriber {
    /// Expects the messages of `count` publishers from `first_publisher` on.
    pub(crate) fn new(first_publisher: usize, count: usize) -> Self {
        Self {
            first_publisher,
            next: vec![0; count].into_boxed_slice(),
            unreleased: 0,
            seen: Box::default(),
            expected: 0,
            slow: false,
            received: 0,
            first_ns: 0,
            last_ns: 0,
        }
    }

    /// Expects `messages` of one publisher that the broker has kept; `bag`: in any order.
    pub(crate) fn stored(publisher: usize, messages: usize, bag: bool) -> Self {
        let words = if bag { messages.div_ceil(64) } else { 0 };
        let expected = u64::try_from(messages).unwrap_or(u64::MAX);
        let seen = vec![0; words].into_boxed_slice();
        Self { seen, expected, ..Self::new(publisher, 1) }
    }

    /// One that may miss messages.
    pub(crate) fn slow(publishers: usize) -> Self {
        Self { slow: true, ..Self::new(0, publishers) }
    }

    fn count(&mut self, now_ns: u64) {
        if self.received == 0 {
            self.first_ns = now_ns;
        }
        self.received += 1;
        self.last_ns = now_ns;
    }

    /// Has it got all that the broker kept.
    pub(crate) fn is_complete(&self) -> bool {
        self.received >= self.expected
    }

    /// Marks message `sequence`; whether it is new.
    fn mark(&mut self, sequence: u64) -> bool {
        let word = usize::try_from(sequence / 64).unwrap_or(usize::MAX);
        let Some(word) = self.seen.get_mut(word) else { return false };
        let bit = 1 << (sequence % 64);
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

/// Fixed rate over all publishers in turn: message k is due at `start + k / rate`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Time of the first message.
    pub(crate) start_ns: u64,
    /// Messages per second of all publishers.
    pub(crate) rate: u64,
    /// Due times are rounded up to this; 0 = exact.
    pub(crate) tick_ns: u64,
    next: u64,
}

impl Schedule {
    /// A schedule whose first message is due at `start_ns`.
    pub(crate) fn new(start_ns: u64, rate: u64, tick_ns: u64) -> Self {
        Self { start_ns, rate, tick_ns, next: 0 }
    }

    fn due_ns(&self, message: u64) -> u64 {
        let due = self.start_ns + message * SECOND_NS / self.rate;
        if self.tick_ns == 0 { due } else { due.next_multiple_of(self.tick_ns) }
    }

    /// When the next message has to leave.
    pub(crate) fn next_due_ns(&self) -> u64 {
        self.due_ns(self.next)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Traffic {
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) tally: Tally,
    /// Latency in ns of messages that were due in `measured`, if asked for.
    pub(crate) latency: Option<Histogram<u64>>,
    /// Time in ns from the intended sending to PUBACK or PUBCOMP, likewise; at QoS 1 and 2.
    pub(crate) acknowledged: Option<Histogram<u64>>,
    /// Interval of intended send times that counts.
    pub(crate) measured: std::ops::Range<u64>,
    /// Fixed rate; `None`: as fast as the credit allows.
    pub(crate) schedule: Option<Schedule>,
    /// Set by the event loop: once per turn, or per read where times are measured.
    pub(crate) now_ns: u64,
    /// Are new messages sent.
    pub(crate) publishing: bool,
    /// Messages that came to slow subscribers; not part of the tally.
    pub(crate) slow_delivered: u64,
    touched: Vec<usize>,
    version: Version,
    spread: Spread,
}

impl Traffic {
    /// Traffic without anybody yet.
    pub(crate) fn new(version: Version, spread: Spread) -> Self {
        Self {
            publishers: Vec::new(),
            subscribers: Vec::new(),
            tally: Tally::default(),
            latency: None,
            acknowledged: None,
            measured: 0..0,
            schedule: None,
            now_ns: 0,
            publishing: false,
            slow_delivered: 0,
            touched: Vec::new(),
            version,
            spread,
        }
    }

    /// Are times read from the clock for each read.
    pub(crate) fn is_timed(&self) -> bool {
        self.latency.is_some() || self.acknowledged.is_some()
    }

    /// Starts to send: every publisher uses its credit, or the schedule begins.
    pub(crate) fn start(&mut self, schedule: Option<Schedule>) {
        self.publishing = true;
        self.schedule = schedule;
        for index in 0..self.publishers.len() {
            self.touch(index);
        }
    }

    /// Sends nothing more; what is in flight may still arrive.
    pub(crate) fn stop(&mut self) {
        self.publishing = false;
        self.schedule = None;
        for publisher in &mut self.publishers {
            publisher.owed = 0;
        }
    }

    /// Has everything that was sent been delivered, acknowledged and released.
    pub(crate) fn is_settled(&self) -> bool {
        self.publishers.iter().all(Publisher::is_settled)
            && self.subscribers.iter().all(|s| s.unreleased == 0)
    }

    /// Counts what has not come as lost; the end of a run.
    pub(crate) fn close_books(&mut self) {
        for publisher in &self.publishers {
            self.tally.lost += publisher.undelivered();
            self.tally.refused += publisher.unacknowledged();
        }
        for subscriber in &self.subscribers {
            self.tally.lost += subscriber.expected.saturating_sub(subscriber.received);
        }
        self.tally.refused += self.subscribers.iter().map(|s| s.unreleased).sum::<u64>();
    }

    /// Reads packets that came to subscriber `index`; returns how many bytes were used.
    pub(crate) fn at_subscriber(
        &mut self,
        index: usize,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let mut rest = bytes;
        while let Some(frame) = Frame::split(rest)? {
            rest = frame.rest;
            match frame.kind() {
                kind::PUBLISH => {
                    let delivery = Delivery::parse(frame.first, frame.body, self.version)?;
                    match delivery.qos {
                        1 => append_ack(kind::PUBACK, delivery.packet_id, out),
                        2 => append_ack(kind::PUBREC, delivery.packet_id, out),
                        _ => {}
                    }
                    self.check(index, delivery);
                }
                kind::PUBREL => {
                    let ack = Acknowledgement::parse(frame.body)?;
                    append_ack(kind::PUBCOMP, ack.packet_id, out);
                    let subscriber = self.subscribers.get_mut(index).ok_or(Malformed)?;
                    subscriber.unreleased = subscriber.unreleased.saturating_sub(1);
                }
                _ => return Err(Malformed),
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Reads packets that came to publisher `index`; returns how many bytes were used.
    pub(crate) fn at_publisher(
        &mut self,
        index: usize,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Malformed> {
        let publisher = self.publishers.get_mut(index).ok_or(Malformed)?;
        let mut rest = bytes;
        while let Some(frame) = Frame::split(rest)? {
            rest = frame.rest;
            let ack = Acknowledgement::parse(frame.body)?;
            let in_order = match frame.kind() {
                kind::PUBACK | kind::PUBCOMP => {
                    let (left_ns, in_order) = publisher.acknowledged(ack.packet_id);
                    if let Some(histogram) = &mut self.acknowledged
                        && self.measured.contains(&left_ns)
                    {
                        histogram.saturating_record(self.now_ns.saturating_sub(left_ns));
                    }
                    in_order
                }
                kind::PUBREC => {
                    append_ack(kind::PUBREL, ack.packet_id, out);
                    publisher.received(ack.packet_id)
                }
                _ => return Err(Malformed),
            };
            self.tally.acks_disordered += u64::from(!in_order);
            self.tally.refused += u64::from(!ack.accepted);
        }
        self.touch(index);
        Ok(bytes.len() - rest.len())
    }

    /// Checks one message at subscriber `index`.
    #[inline]
    fn check(&mut self, index: usize, delivery: Delivery<'_>) {
        let Some(subscriber) = self.subscribers.get_mut(index) else { return };
        if subscriber.slow {
            self.slow_delivered += 1;
        } else {
            self.tally.delivered += 1;
        }
        let Some(stamp) = Stamp::read(delivery.payload) else {
            self.tally.corrupt += 1;
            return;
        };
        let publisher_index = usize::try_from(stamp.publisher).unwrap_or(usize::MAX);
        let lane = publisher_index.wrapping_sub(subscriber.first_publisher);
        let (Some(next), Some(publisher)) =
            (subscriber.next.get_mut(lane), self.publishers.get_mut(publisher_index))
        else {
            self.tally.corrupt += 1;
            return;
        };
        let bytes = delivery.payload.len();
        if bytes != publisher.payload_bytes() || delivery.qos != publisher.qos() {
            self.tally.corrupt += 1;
            return;
        }
        subscriber.unreleased += u64::from(delivery.qos == 2);
        if self.spread == Spread::Bag {
            self.tally.duplicates += u64::from(!subscriber.mark(stamp.sequence));
            subscriber.count(self.now_ns);
            return;
        }
        if stamp.sequence < *next {
            let again = stamp.sequence + 1 == *next;
            self.tally.duplicates += u64::from(again);
            self.tally.disordered += u64::from(!again);
            return;
        }
        if stamp.sequence > *next && self.spread == Spread::Each && !subscriber.slow {
            for missing in *next..stamp.sequence.min(publisher.next_sequence()) {
                self.tally.lost += 1;
                // The gap is counted; the slot is only given back.
                publisher.delivered(missing).ok();
            }
        }
        *next = stamp.sequence + 1;
        if subscriber.slow {
            return;
        }
        if self.spread == Spread::Stored {
            subscriber.count(self.now_ns);
            return;
        }
        self.tally.duplicates += u64::from(publisher.delivered(stamp.sequence).is_err());
        if let Some(latency) = &mut self.latency
            && self.measured.contains(&stamp.time_ns)
        {
            latency.saturating_record(self.now_ns.saturating_sub(stamp.time_ns));
        }
        if !publisher.touched {
            publisher.touched = true;
            self.touched.push(publisher_index);
        }
    }

    fn touch(&mut self, index: usize) {
        if let Some(publisher) = self.publishers.get_mut(index)
            && !publisher.touched
        {
            publisher.touched = true;
            self.touched.push(index);
        }
    }

    /// Marks what is due by now.
    pub(crate) fn advance_schedule(&mut self) {
        let Some(mut schedule) = self.schedule else { return };
        let count = u64::try_from(self.publishers.len()).unwrap_or(u64::MAX);
        while schedule.next_due_ns() <= self.now_ns {
            let index = usize::try_from(schedule.next % count).unwrap_or(usize::MAX);
            if let Some(publisher) = self.publishers.get_mut(index) {
                publisher.owed += 1;
            }
            self.touch(index);
            schedule.next += 1;
        }
        self.schedule = Some(schedule);
    }

    /// A publisher that got credit or is due, each once.
    pub(crate) fn next_touched(&mut self) -> Option<usize> {
        let index = self.touched.pop()?;
        if let Some(publisher) = self.publishers.get_mut(index) {
            publisher.touched = false;
        }
        Some(index)
    }

    /// Lets publisher `index` send what it may into `out`.
    ///
    /// Without a schedule a publisher waits until a quarter of its credit is back, so that its
    /// writes are as large as those of a publisher that never waits.
    pub(crate) fn refill(&mut self, index: usize, out: &mut Vec<u8>) {
        let count = u64::try_from(self.publishers.len()).unwrap_or(u64::MAX);
        let Some(publisher) = self.publishers.get_mut(index) else { return };
        let credit = publisher.credit();
        if !self.publishing || credit == 0 {
            return;
        }
        if let Some(schedule) = &self.schedule {
            let messages = credit.min(publisher.owed);
            publisher.owed -= messages;
            self.tally.sent += messages;
            let lane = u64::try_from(index).unwrap_or(0);
            for _ in 0..messages {
                let message = publisher.next_sequence() * count + lane;
                publisher.publish(schedule.due_ns(message), out);
            }
        } else if credit * 4 >= publisher.credit_max() {
            self.tally.sent += credit;
            for _ in 0..credit {
                publisher.publish(self.now_ns, out);
            }
        }
    }
}

#[cfg(test)]
mod tests;
