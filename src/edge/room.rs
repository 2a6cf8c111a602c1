//! What waits for room on the disk.
//!
//! While the disk of any shard is full nothing is taken in that would have to be kept: what room
//! is left is for what frees space. A client of 5.0 is told by its reason code. An acknowledgement
//! of 3.x cannot refuse, so its PUBLISH is not looked at, and its connection not read, until there
//! is room; if that takes [`PATIENCE_MS`] the connection ends, and the client knows that it has to
//! send the message again.

use super::conns::PAUSED_BY_DISK;
use super::driver::{Driver, Wire};
use crate::codec;
use crate::shard::Input;
use shards::{ConnId, Millis};
use std::collections::VecDeque;
use tracing::debug;

/// How long a PUBLISH of 3.x may wait for room.
const PATIENCE_MS: u64 = 30_000;
/// How often it is looked whether other shards have room, while connections wait for that.
const LOOK_MS: u64 = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// This shard's log has none.
    full: bool,
    /// Connections whose next packet waits, and when their patience ends; times ascend. Who is gone
    /// meanwhile has left its name.
    waiting: VecDeque<(Millis, ConnId)>,
    look_due: Millis,
}

impl Room {
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        (!self.waiting.is_empty()).then_some(self.look_due)
    }
}

impl Driver {
    /// The log has more to write than it should, or could not take something.
    pub(super) fn is_log_behind(&self, io: &mut Wire) -> bool {
        let Some(journal) = &self.journal else { return false };
        journal.is_behind() || io.log().is_some_and(|log| log.is_congested())
    }

    /// The shard learns whether the disk is full: its own log's, or another's, to which it would
    /// send messages.
    pub(super) fn look_at_disk(&mut self, io: &mut Wire) {
        let Some(log) = io.log() else { return };
        let full = log.is_full();
        let admission = self.throttle.admission();
        if full != self.room.full {
            self.room.full = full;
            admission.note_disk_full(full);
        }
        self.shard.set_disk_full(admission.is_disk_full());
    }

    /// A whole packet was not looked at: it waits for room.
    pub(super) fn wait_if_whole(&mut self, io: &mut Wire, conn: ConnId) {
        if !self.shard.is_disk_full() {
            return;
        }
        let max = self.shard.packet_bytes_max(conn);
        let Some(entry) = self.conn(conn) else { return };
        let held = entry.reassembly.bytes();
        if codec::frame(held, max)
            .is_ok_and(|frame| frame.is_some_and(|f| f.total_bytes <= held.len()))
        {
            self.wait_for_room(io, conn);
        }
    }

    /// The next packet of this connection waits for room, with all that follows it.
    pub(super) fn wait_for_room(&mut self, io: &mut Wire, conn: ConnId) {
        debug!(conn = conn.index(), "waits for room on the disk");
        self.room.waiting.push_back((io.now().after(PATIENCE_MS), conn));
        self.pause(io, conn, PAUSED_BY_DISK);
    }

    /// Takes what waited when there is room; ends those that have waited too long.
    pub(super) fn use_room(&mut self, io: &mut Wire) {
        let now = io.now();
        self.room.look_due = now.after(LOOK_MS);
        if self.shard.is_disk_full() {
            while let Some((_, conn)) = self.room.waiting.pop_front_if(|(due, _)| *due <= now) {
                if self.waits_for_room(conn) {
                    debug!(conn = conn.index(), "there is no room on the disk");
                    self.shard.handle(Input::Closed { conn }, now);
                    self.end(io, conn);
                }
            }
            return;
        }
        for (_, conn) in std::mem::take(&mut self.room.waiting) {
            if !self.waits_for_room(conn) {
                continue;
            }
            self.resume(io, conn, PAUSED_BY_DISK);
            let Some(entry) = self.conn(conn) else { continue };
            let (stage, held) = (entry.stage, entry.reassembly.take());
            self.mqtt(io, conn, stage, &held);
        }
    }

    fn waits_for_room(&mut self, conn: ConnId) -> bool {
        self.conn(conn).is_some_and(|entry| entry.paused & PAUSED_BY_DISK != 0)
    }
}
