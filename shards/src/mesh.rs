//! Mailboxes between shards: N×N bounded channels of batches.
//!
//! Promise: letters of one pair of shards arrive in the order they were posted; posting never
//! blocks; what a full mailbox refuses stays in the outbox, first in line.
//! Not here: waking the receiver (doorbell).

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::handler::Accepted;

/// What the letters of one batch weigh before a further one starts the next.
const BATCH_WEIGHT_MAX: usize = 256;

/// What a shard sends another.
#[derive(Debug)]
pub(crate) enum Letter<M, L> {
    Mail(M),
    Socket(Box<Parcel<L>>),
}

/// A connection on its way to its home.
#[derive(Debug)]
pub(crate) struct Parcel<L> {
    pub(crate) fd: OwnedFd,
    pub(crate) accepted: Accepted,
    /// Read here, not delivered.
    pub(crate) kept: Vec<u8>,
    pub(crate) luggage: L,
}

/// Letters that travel together.
#[derive(Debug)]
pub(crate) struct Batch<M, L> {
    pub(crate) letters: Vec<Letter<M, L>>,
    /// Of all letters, at least one each: how much work they are for who takes them.
    weight: usize,
}

impl<M, L> Default for Batch<M, L> {
    fn default() -> Self {
        Batch { letters: Vec::new(), weight: 0 }
    }
}

/// One shard's end of all mailboxes.
#[derive(Debug)]
pub(crate) struct Mesh<M, L> {
    outboxes: Vec<Outbox<M, L>>,
    inboxes: Vec<Inbox<M, L>>,
    /// Weight of the letters in all outboxes.
    waiting: usize,
    /// Outboxes whose mailbox was full at the last flush.
    blocked: usize,
    /// Batches sent and taken since the start.
    sent: u64,
    taken: u64,
}

#[derive(Debug)]
struct Outbox<M, L> {
    batches: VecDeque<Batch<M, L>>,
    weight: usize,
    mailbox: Sender<Batch<M, L>>,
    empties: Receiver<Batch<M, L>>,
}

#[derive(Debug)]
struct Inbox<M, L> {
    mailbox: Receiver<Batch<M, L>>,
    empties: Sender<Batch<M, L>>,
}

/// What became of one outbox at a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flushed {
    pub(crate) sent: bool,
    pub(crate) blocked: bool,
}

/// Watches one shard's mailboxes from outside.
#[derive(Debug)]
pub(crate) struct Gauge<M, L>(Vec<Receiver<Batch<M, L>>>);

impl<M, L> Gauge<M, L> {
    pub(crate) fn has_mail(&self) -> bool {
        self.0.iter().any(|mailbox| !mailbox.is_empty())
    }
}

/// The ends of all shards, in order. `batches_max` bounds each mailbox.
pub(crate) fn build<M, L>(shards: usize, batches_max: usize) -> Vec<Mesh<M, L>> {
    let mut ends: Vec<Mesh<M, L>> = (0..shards)
        .map(|_| Mesh {
            outboxes: Vec::new(),
            inboxes: Vec::new(),
            waiting: 0,
            blocked: 0,
            sent: 0,
            taken: 0,
        })
        .collect();
    for from in 0..shards {
        for to in 0..shards {
            let (mailbox_tx, mailbox_rx) = bounded(batches_max);
            let (empties_tx, empties_rx) = bounded(batches_max);
            let outbox = Outbox {
                batches: VecDeque::new(),
                weight: 0,
                mailbox: mailbox_tx,
                empties: empties_rx,
            };
            let inbox = Inbox { mailbox: mailbox_rx, empties: empties_tx };
            if let Some(end) = ends.get_mut(from) {
                end.outboxes.push(outbox);
            }
            if let Some(end) = ends.get_mut(to) {
                end.inboxes.push(inbox);
            }
        }
    }
    ends
}

impl<M, L> Mesh<M, L> {
    pub(crate) fn shards(&self) -> usize {
        self.outboxes.len()
    }

    /// Appends to an outbox a letter of this weight, at least 1.
    pub(crate) fn post(&mut self, to: usize, letter: Letter<M, L>, weight: usize) {
        let outbox = self.outboxes.get_mut(to).expect("the caller names an existing shard");
        if outbox.batches.back().is_none_or(|batch| batch.weight >= BATCH_WEIGHT_MAX) {
            let batch = outbox.empties.try_recv().unwrap_or_default();
            assert!(batch.letters.is_empty(), "batches come back empty");
            outbox.batches.push_back(batch);
        }
        if let Some(batch) = outbox.batches.back_mut() {
            batch.letters.push(letter);
            batch.weight += weight;
        }
        outbox.weight += weight;
        self.waiting += weight;
    }

    /// Weight of the letters that have not left.
    pub(crate) fn outbox_weight(&self, to: usize) -> usize {
        self.outboxes.get(to).map_or(0, |outbox| outbox.weight)
    }

    /// Weight of the letters in all outboxes.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether the last flush found a full mailbox.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked > 0
    }

    /// Forgets what the last flush found; call before flushing all outboxes again.
    pub(crate) fn start_flush(&mut self) {
        self.blocked = 0;
    }

    /// Moves batches of one outbox into the mailbox as far as there is room.
    pub(crate) fn flush(&mut self, to: usize) -> Flushed {
        let mut flushed = Flushed { sent: false, blocked: false };
        let Some(outbox) = self.outboxes.get_mut(to) else { return flushed };
        while let Some(batch) = outbox.batches.pop_front() {
            let weight = batch.weight;
            match outbox.mailbox.try_send(batch) {
                Ok(()) => {
                    outbox.weight -= weight;
                    self.waiting -= weight;
                    self.sent += 1;
                    flushed.sent = true;
                }
                Err(TrySendError::Full(batch)) => {
                    outbox.batches.push_front(batch);
                    self.blocked += 1;
                    flushed.blocked = true;
                    break;
                }
                // That shard has ended, which it does only when the engine stops.
                Err(TrySendError::Disconnected(_)) => {
                    outbox.weight -= weight;
                    self.waiting -= weight;
                }
            }
        }
        flushed
    }

    /// Batches of one shard that are there.
    pub(crate) fn batches(&self, from: usize) -> usize {
        self.inboxes.get(from).map_or(0, |inbox| inbox.mailbox.len())
    }

    /// The next batch of one shard.
    pub(crate) fn take(&mut self, from: usize) -> Option<Batch<M, L>> {
        let batch = self.inboxes.get(from)?.mailbox.try_recv().ok()?;
        self.taken += 1;
        Some(batch)
    }

    /// Batches sent since the start.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Batches sent since the start, and those that the next flush may send.
    pub(crate) fn sent_at_most(&self) -> u64 {
        let waiting: usize = self.outboxes.iter().map(|outbox| outbox.batches.len()).sum();
        self.sent + waiting as u64
    }

    /// Batches taken since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Sends an emptied batch back to be filled again.
    pub(crate) fn recycle(&mut self, from: usize, mut batch: Batch<M, L>) {
        batch.weight = 0;
        if let Some(inbox) = self.inboxes.get(from) {
            // Full: its maker has enough of them.
            let _ = inbox.empties.try_send(batch);
        }
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.inboxes.iter().any(|inbox| !inbox.mailbox.is_empty())
    }

    pub(crate) fn gauge(&self) -> Gauge<M, L> {
        Gauge(self.inboxes.iter().map(|inbox| inbox.mailbox.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mails(mesh: &mut Mesh<u32, ()>, from: usize) -> Vec<u32> {
        let mut seen = Vec::new();
        while let Some(mut batch) = mesh.take(from) {
            seen.extend(batch.letters.drain(..).map(|letter| match letter {
                Letter::Mail(mail) => mail,
                Letter::Socket(_) => panic!("no sockets here"),
            }));
            mesh.recycle(from, batch);
        }
        seen
    }

    #[test]
    fn a_full_mailbox_keeps_the_rest_in_order() {
        let mut ends = build::<u32, ()>(2, 2);
        let mut second = ends.pop().expect("two");
        let mut first = ends.pop().expect("two");
        let count = u32::try_from(BATCH_WEIGHT_MAX).expect("small") * 5;
        for mail in 0..count {
            first.post(1, Letter::Mail(mail), 1);
        }
        let mut seen = Vec::new();
        let mut rounds = 0;
        while seen.len() < count as usize {
            first.start_flush();
            let flushed = first.flush(1);
            assert_eq!(flushed.blocked, first.is_blocked());
            assert_eq!(first.outbox_weight(1), first.waiting());
            seen.extend(mails(&mut second, 0));
            rounds += 1;
        }
        assert_eq!(rounds, 3);
        assert!(!first.is_blocked());
        assert_eq!(seen, (0..count).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_is_full_at_its_weight() {
        for (first_weight, batches) in [(BATCH_WEIGHT_MAX - 2, 1), (BATCH_WEIGHT_MAX - 1, 2)] {
            let mut end = build::<u32, ()>(1, 2).pop().expect("one");
            for (mail, weight) in [(0, first_weight), (1, 1), (2, 1)] {
                end.post(0, Letter::Mail(mail), weight);
            }
            assert_eq!(end.outboxes[0].batches.len(), batches);
        }
    }

    #[test]
    fn a_heavy_letter_fills_a_batch() {
        let mut ends = build::<u32, ()>(2, 2);
        let mut second = ends.pop().expect("two");
        let mut first = ends.pop().expect("two");
        for mail in 0..5 {
            first.post(1, Letter::Mail(mail), BATCH_WEIGHT_MAX / 2 + 1);
        }
        // Two batches of two each; the fifth finds the mailbox full.
        assert!(first.flush(1).blocked);
        assert_eq!(first.outbox_weight(1), BATCH_WEIGHT_MAX / 2 + 1);
        assert_eq!(mails(&mut second, 0), [0, 1, 2, 3]);
        assert!(!first.flush(1).blocked);
        assert_eq!((first.waiting(), mails(&mut second, 0)), (0, vec![4]));
        // A batch that comes back empty weighs nothing.
        first.post(1, Letter::Mail(5), 1);
        first.post(1, Letter::Mail(6), 1);
        assert_eq!(first.outboxes[1].batches.len(), 1);
    }
}
