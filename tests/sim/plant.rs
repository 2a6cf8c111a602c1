//! Bugs put into the seams of the rig, to see that it finds them: the product is untouched.

use crate::crash::Log;
use crate::drive::Read;
use crate::rng::{Rng, Stream};
use crate::shadow::{Link, Shadow, message_id};
use culex::codec::{self, Packet, Qos, Version};
use culex::session::Settlement;
use culex::shard::{Interest, Mail, Ticket};
use culex::store::Record;
use std::collections::VecDeque;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    None,
    /// Interest is taken back although another client still has it.
    InterestRemovedTooEarly,
    /// "Settled" overtakes the message that it answers.
    AckBeforeSettle,
    PacketIdReused,
    WillFiredTwice,
    /// A message beyond the queue limit disappears uncounted.
    QueueLimitOffByOne,
    OrderSwapped,
    /// A message of `QoS` 2 crosses to another shard twice.
    ExactlyOnceTwice,
    /// A retained message is confirmed, not stored.
    RetainedLost,
    /// The shard is told of durable records too early.
    AckBeforeDurable,
    /// Other shards get an exchange before its record is durable.
    ForwardBeforeDurable,
    /// Records count as durable when they are written.
    AckBeforeSync,
    /// The disk says that it has synced, and has not.
    SyncSkipped,
    /// A start takes for stored what only the page cache has.
    CacheTrusted,
    /// A start leaves out the last records.
    ScanEarly,
    /// A start takes records that are not on the disk.
    ScanLate,
    /// The identifier that comes with an accepted message is not restored.
    ReceivedForgotten,
    /// The cleaner does not wait until what it has written again is durable.
    ReleasedEarly,
    /// The cleaner passes over a record that it has read.
    RevivedNot,
}

pub(crate) struct Planted {
    pub plant: Plant,
    rng: Rng,
    swallow: Vec<Ticket>,
}

impl Planted {
    pub(crate) fn new(plant: Plant, seed: u64) -> Planted {
        Planted { plant, rng: Rng::new(seed, Stream::Plant), swallow: Vec::new() }
    }

    /// A letter is written. `None`: it disappears.
    pub(crate) fn on_post(
        &mut self,
        pair: (usize, usize),
        mail: Mail,
        shadow: &Shadow,
        mailboxes: &mut [Vec<VecDeque<Mail>>],
    ) -> Option<Mail> {
        let (from, to) = pair;
        match (self.plant, &mail) {
            (Plant::AckBeforeSettle, Mail::Forward { ticket: Some(ticket), .. }) => {
                let settlement = Settlement::Matched;
                let settled = Mail::Settled { ticket: *ticket, settlement };
                mailboxes[to][from].push_back(settled);
                self.swallow.push(*ticket);
            }
            (Plant::AckBeforeSettle, Mail::Settled { ticket, .. }) => {
                if let Some(at) = self.swallow.iter().position(|other| other == ticket) {
                    self.swallow.remove(at);
                    return None;
                }
            }
            (Plant::WillFiredTwice, Mail::Forward { message, .. })
                if message_id(message.payload()).is_some_and(|id| shadow.messages[id].will) =>
            {
                let message = Arc::clone(message);
                mailboxes[from][to].push_back(Mail::Forward { message, ticket: None });
            }
            (Plant::ExactlyOnceTwice, Mail::Forward { message, .. })
                if message.qos() == Qos::ExactlyOnce && self.rng.chance(10) =>
            {
                let message = Arc::clone(message);
                mailboxes[from][to].push_back(Mail::Forward { message, ticket: None });
            }
            _ => {}
        }
        Some(mail)
    }

    /// A record was emitted.
    pub(crate) fn on_record(
        &mut self,
        shard: usize,
        record: &Record,
        mailboxes: &mut [Vec<VecDeque<Mail>>],
    ) {
        let (Plant::ForwardBeforeDurable, Record::Publish(publish)) = (self.plant, record) else {
            return;
        };
        let Some(onward) = &publish.onward else { return };
        for part in &onward.parts {
            let message = Arc::clone(&publish.message);
            let (exchange, part, tried) = (onward.exchange, part.clone(), 0);
            let to = usize::from(part.shard);
            let refusable = false;
            let mail = Mail::Exchange { exchange, part, tried, message, refusable };
            mailboxes[shard][to].push_back(mail);
        }
    }

    /// A start has read the log of a shard.
    pub(crate) fn on_scan(&mut self, mut read: Vec<Read>, written: &Log) -> Vec<Read> {
        match self.plant {
            Plant::ScanEarly => read.truncate(read.len().saturating_sub(1 + self.rng.below(3))),
            Plant::ScanLate => {
                let more = written.iter().skip(read.len()).take(1 + self.rng.below(3));
                read.extend(more.map(|(lsn, record)| (*lsn, 0, record.clone())));
            }
            _ => {}
        }
        read
    }

    /// A letter has been put in an outbox.
    pub(crate) fn in_outbox(&mut self, outbox: &mut VecDeque<Mail>) {
        let last = outbox.len();
        if self.plant == Plant::OrderSwapped
            && last >= 2
            && let (Mail::Forward { message: a, .. }, Mail::Forward { message: b, .. }) =
                (&outbox[last - 2], &outbox[last - 1])
            && a.topic() == b.topic()
        {
            outbox.swap(last - 2, last - 1);
        }
    }

    /// A letter arrives; `full`: the queue limit is reached there. `None`: it disappears.
    pub(crate) fn on_deliver(
        &mut self,
        pair: (usize, usize),
        mail: Mail,
        full: bool,
        mailboxes: &mut [Vec<VecDeque<Mail>>],
    ) -> Option<Mail> {
        let (from, to) = pair;
        match (self.plant, mail) {
            (Plant::QueueLimitOffByOne, Mail::Forward { ticket: Some(ticket), .. }) if full => {
                let settlement = Settlement::Matched;
                mailboxes[to][from].push_back(Mail::Settled { ticket, settlement });
                None
            }
            (Plant::RetainedLost, Mail::Retain { ticket, .. }) if self.rng.chance(10) => {
                mailboxes[to][from].push_back(Mail::RetainStored { ticket });
                None
            }
            (_, mail) => Some(mail),
        }
    }

    /// A packet leaves at the front of `bytes`.
    pub(crate) fn on_output(&mut self, bytes: &mut [u8], version: Version, link: &Link) {
        if self.plant != Plant::PacketIdReused || !self.rng.chance(20) {
            return;
        }
        let Some(used) = link.unacked.first().copied() else { return };
        let Ok(Some((Packet::Publish(publish), _))) = codec::decode(bytes, version, 1 << 28) else {
            return;
        };
        if publish.qos != Qos::AtMostOnce && !publish.dup {
            let header = codec::frame(bytes, 1 << 28).unwrap().unwrap().header_bytes;
            let at = header + 2 + publish.topic.len();
            bytes[at..at + 2].copy_from_slice(&used.to_be_bytes());
        }
    }

    /// A packet was handled.
    pub(crate) fn after_packet(
        &mut self,
        packet: &Packet<'_>,
        shard: usize,
        shadow: &Shadow,
        mailboxes: &mut [Vec<VecDeque<Mail>>],
    ) {
        let (Plant::InterestRemovedTooEarly, Packet::Unsubscribe(packet)) = (self.plant, packet)
        else {
            return;
        };
        for text in &packet.filters {
            let still = shadow.sessions.iter().any(|session| {
                session.home == shard
                    && session.subs.iter().any(|sub| sub.ended.is_none() && sub.filter == *text)
            });
            let filter = culex::topic::Filter::parse(text, 128).ok();
            let Some(filter) = filter.filter(|f| still && f.share().is_none()) else { continue };
            for to in (0..mailboxes.len()).filter(|to| *to != shard) {
                let (filter, change) = (filter.clone(), Interest::Removed);
                mailboxes[shard][to].push_back(Mail::Interest { filter, change });
            }
        }
    }
}
