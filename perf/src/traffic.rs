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
    /// One member of the group gets each, so gaps are normal.
    Group,
}

/// The receiving half of a subscriber.
#[derive(Debug)]
pub(crate) struct Subscriber {
    first_publisher: usize,
    next: Box<[u64]>,
    unreleased: u64,
}

impl Subscriber {
    /// Expects the messages of `count` publishers from `first_publisher` on.
    pub(crate) fn new(first_publisher: usize, count: usize) -> Self {
        Self { first_publisher, next: vec![0; count].into_boxed_slice(), unreleased: 0 }
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
    /// Interval of intended send times that counts.
    pub(crate) measured: std::ops::Range<u64>,
    /// Fixed rate; `None`: as fast as the credit allows.
    pub(crate) schedule: Option<Schedule>,
    /// Set by the event loop, read once per turn.
    pub(crate) now_ns: u64,
    /// Are new messages sent.
    pub(crate) publishing: bool,
    touched: Vec<usize>,
    version: Version,
    qos: u8,
    payload_bytes: usize,
    spread: Spread,
}

impl Traffic {
    /// Traffic without anybody yet.
    pub(crate) fn new(version: Version, qos: u8, payload_bytes: usize, spread: Spread) -> Self {
        Self {
            publishers: Vec::new(),
            subscribers: Vec::new(),
            tally: Tally::default(),
            latency: None,
            measured: 0..0,
            schedule: None,
            now_ns: 0,
            publishing: false,
            touched: Vec::new(),
            version,
            qos,
            payload_bytes,
            spread,
        }
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
                kind::PUBACK | kind::PUBCOMP => publisher.acknowledged(ack.packet_id),
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
        self.tally.delivered += 1;
        let stamp = Stamp::read(delivery.payload);
        let intact = delivery.payload.len() == self.payload_bytes && delivery.qos == self.qos;
        let (Some(stamp), true) = (stamp, intact) else {
            self.tally.corrupt += 1;
            return;
        };
        let publisher_index = usize::try_from(stamp.publisher).unwrap_or(usize::MAX);
        let Some(subscriber) = self.subscribers.get_mut(index) else { return };
        subscriber.unreleased += u64::from(delivery.qos == 2);
        let lane = publisher_index.wrapping_sub(subscriber.first_publisher);
        let (Some(next), Some(publisher)) =
            (subscriber.next.get_mut(lane), self.publishers.get_mut(publisher_index))
        else {
            self.tally.corrupt += 1;
            return;
        };
        if stamp.sequence < *next {
            let again = stamp.sequence + 1 == *next;
            self.tally.duplicates += u64::from(again);
            self.tally.disordered += u64::from(!again);
            return;
        }
        if stamp.sequence > *next && self.spread == Spread::Each {
            for missing in *next..stamp.sequence.min(publisher.next_sequence()) {
                self.tally.lost += 1;
                // The gap is counted; the slot is only given back.
                publisher.delivered(missing).ok();
            }
        }
        *next = stamp.sequence + 1;
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
