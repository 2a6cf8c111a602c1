//! Messages of a queue that lie in the log alone.
//!
//! Promise: in memory are those that are sent next and those whose record is not durable; the
//! others leave when their record is, and are back before their turn.
//!
//! ```text
//!   note_position ─▶ settle, put_away ─▶ wanted ─▶ fetched, or note_unreadable
//! ```

use super::{Limits, Outbound};
use crate::session::{Message, Slot, State};
use std::sync::Arc;

/// Messages that are fetched from the log ahead of the one that is sent next.
const AHEAD_MESSAGES_MAX: usize = 64;
/// Their bytes; the message that passes it is the last.
const AHEAD_BYTES_MAX: usize = 256 * 1024;

impl Outbound {
    /// The record of a delivery has this log position; there is none after all if it is
    /// [`UNLOGGED`](crate::session::UNLOGGED).
    pub fn note_position(&mut self, sequence: u64, lsn: u64) {
        if let Some(slot) = self.slot_mut(sequence) {
            slot.lsn = lsn;
        }
    }

    /// The record of a delivery is durable, and lies at this place of its batch: leaves the message
    /// to the log if it will not be sent soon, because it is further back than what is fetched
    /// ahead, or the client is away.
    pub fn settle(&mut self, sequence: u64, at: u32, away: bool) {
        let Some(index) = self.position(sequence) else { return };
        let near = index < self.cursor + AHEAD_MESSAGES_MAX;
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.at = at;
        slot.settled = true;
        if away || !near {
            slot.put_away();
        }
    }

    /// The client is away: leaves to the log what it may. O(window + what is fetched ahead),
    /// because what is further back has been left there.
    pub fn put_away(&mut self, limits: Limits) {
        if !limits.queue_qos0 {
            self.forget_unsure();
        }
        let near = self.slots.len().min(self.cursor + AHEAD_MESSAGES_MAX);
        for slot in self.slots.iter_mut().take(near) {
            slot.put_away();
        }
    }

    /// Deliveries from a sequence number on, those that are over among them. O(log held) to begin.
    pub fn slots_from(&self, sequence: u64) -> impl Iterator<Item = &Slot> {
        let at = self.slots.partition_point(|slot| slot.sequence < sequence);
        self.slots.range(at..)
    }

    /// Less than half of what is fetched ahead is there or on its way: the disk is asked before it
    /// has to be waited for. O(1).
    pub(super) fn runs_short(&self) -> bool {
        let is_missing =
            |index: usize| self.slots.get(index).is_some_and(|slot| slot.is_away() && !slot.asked);
        is_missing(self.cursor) || is_missing(self.cursor + AHEAD_MESSAGES_MAX / 2)
    }

    /// Messages to be fetched from the log now: the next ones to be sent that are there and were
    /// not asked for. Sequence number, log position and place in the batch.
    pub fn wanted(&mut self, into: &mut Vec<(u64, u64, u32)>) {
        let mut bytes = 0;
        for slot in self.slots.range_mut(self.cursor..).take(AHEAD_MESSAGES_MAX) {
            if bytes >= AHEAD_BYTES_MAX {
                return;
            }
            bytes += slot.bytes();
            if slot.is_away() && !slot.asked {
                slot.asked = true;
                into.push((slot.sequence, slot.lsn, slot.at));
            }
        }
    }

    /// A message has come from the log. Kept only if it was asked for and is still needed.
    pub fn fetched(&mut self, sequence: u64, message: Arc<Message>) {
        if let Some(slot) = self.slot_mut(sequence)
            && slot.asked
            && slot.is_away()
        {
            slot.message = Some(message);
            (slot.asked, slot.unreadable) = (false, false);
        }
    }

    /// The message of a delivery cannot be read; it is not asked for again before the next
    /// connection.
    pub fn note_unreadable(&mut self, sequence: u64) {
        if let Some(slot) = self.slot_mut(sequence) {
            slot.unreadable = true;
        }
    }

    /// The delivery that cannot be read is the oldest that is not over: nothing can come before
    /// it any more.
    pub fn is_stopped(&self) -> bool {
        self.slots.front().is_some_and(|slot| slot.unreadable && slot.is_away())
    }

    /// Ends a delivery of a shared subscription whose message has come from the log, for another
    /// member. False if this client is to have it after all.
    pub fn take_fetched(&mut self, sequence: u64) -> bool {
        let Some(index) = self.position(sequence) else { return false };
        if !self.slots.get(index).is_some_and(Slot::is_free) {
            return false;
        }
        self.end_at(index);
        true
    }

    /// The delivery at this place is over for this client.
    fn end_at(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.state != State::Queued {
            slot.finish();
            self.pop_done();
        } else if let Some(slot) = self.slots.remove(index) {
            self.unqueue(&slot);
        }
    }

    /// The message of a delivery stays in the log for now.
    pub fn leave_away(&mut self, sequence: u64) {
        if let Some(slot) = self.slot_mut(sequence) {
            slot.asked = false;
        }
    }

    /// The session has ended: keeps the deliveries that go to others when their messages have come
    /// from the log, and gives the number of the others that the client never took.
    pub fn keep_only(&mut self, sequences: &[u64]) -> usize {
        let before = self.unfinished();
        let mut slots = std::mem::take(&mut self.slots);
        slots.retain(|slot| {
            let kept = sequences.binary_search(&slot.sequence).is_ok();
            if !kept && slot.state == State::Queued {
                self.unqueue(slot);
            }
            kept
        });
        self.slots = slots;
        before - self.unfinished()
    }

    /// The record of a delivery is about to be written again: until that is durable its message is
    /// in memory.
    pub fn take_back(&mut self, sequence: u64, message: &Arc<Message>) {
        if let Some(slot) = self.slot_mut(sequence) {
            slot.settled = false;
            (slot.asked, slot.unreadable) = (false, false);
            if matches!(slot.state, State::Queued | State::Sent) {
                slot.message = Some(Arc::clone(message));
            }
        }
    }

    fn slot_mut(&mut self, sequence: u64) -> Option<&mut Slot> {
        let index = self.position(sequence)?;
        self.slots.get_mut(index)
    }
}
