//! Named points between a shard's log and its clients, at which a test ends the process: one before
//! each thing that the log has to know first. They stand in docs/durability.md.

use crate::shard::Mail;
use crate::store::{Publish, Record, Source};
use shards::Outgoing;
use shards::disk::{point, points_are_set};
use std::collections::VecDeque;

/// Records on their way to the disk, if a test wants to know.
#[derive(Debug, Default)]
pub(super) struct Points {
    waiting: VecDeque<(u64, &'static str)>,
}

impl Points {
    /// A record with this position was given to the log and is not written yet.
    pub(super) fn record(&mut self, lsn: u64, record: &Record) {
        if points_are_set() {
            let name = name(record);
            point(&format!("record.{name}"));
            self.waiting.push_back((lsn, name));
        }
    }

    /// Records up to this position are durable, and nobody was told.
    pub(super) fn durable(&mut self, lsn: u64) {
        while let Some((_, name)) = self.waiting.pop_front_if(|(at, _)| *at <= lsn) {
            point(&format!("durable.{name}"));
        }
    }
}

fn name(record: &Record) -> &'static str {
    match record {
        Record::Session(_) => "session",
        Record::SessionEnd { .. } => "ended",
        Record::Will { .. } => "will",
        Record::Subscribe { .. } => "subscribed",
        Record::Unsubscribe { .. } => "unsubscribed",
        Record::Publish(Publish { onward: Some(_), .. }) => "exchange",
        Record::Publish(Publish { from: Source::Exchange { .. }, .. }) | Record::Applied { .. } => {
            "part"
        }
        Record::Publish(Publish { from: Source::Received(..), .. }) | Record::Received { .. } => {
            "accepted"
        }
        Record::Publish(Publish { retained: true, .. }) => "retained",
        Record::Publish(_) => "publish",
        Record::Released { .. } => "released",
        Record::Owned { .. } => "owned",
        Record::Done { .. } => "done",
        Record::RetainDeleted { .. } => "unretained",
        Record::Settled { .. } => "settled",
        Record::Clock { .. } => "clock",
    }
}

/// A letter is about to leave for another shard.
pub(super) fn letter(mail: &Mail) {
    if !points_are_set() {
        return;
    }
    if let Mail::Exchange { .. } = mail {
        point("mail.exchange");
    } else if let Mail::Applied { .. } = mail {
        point("mail.applied");
    } else if let Mail::Settled { .. } = mail {
        point("mail.settled");
    } else if let Mail::RetainStored { .. } = mail {
        point("mail.stored");
    }
}

/// Packets are about to leave for a client.
pub(super) fn output(outgoing: &Outgoing) {
    if !points_are_set() {
        return;
    }
    let bytes: Vec<u8> = outgoing.slices(0).flatten().copied().collect();
    let mut rest = bytes.as_slice();
    while let Some((first, after)) = rest.split_first() {
        point(match (first >> 4, first >> 1 & 3) {
            (2, _) => "send.connack",
            (3, 0) => "send.publish0",
            (3, 1) => "send.publish1",
            (3, _) => "send.publish2",
            (4, _) => "send.puback",
            (5, _) => "send.pubrec",
            (6, _) => "send.pubrel",
            (7, _) => "send.pubcomp",
            (9, _) => "send.suback",
            (11, _) => "send.unsuback",
            _ => "send.other",
        });
        rest = body(after).map_or(&[], |(_, next)| next);
    }
}

/// Cuts a Remaining Length and what it counts off. [MQTT-1.5.5-1]
fn body(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut count, mut used) = (0, 0);
    for byte in bytes.iter().take(4) {
        count |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    bytes.get(used..)?.split_at_checked(count)
}
