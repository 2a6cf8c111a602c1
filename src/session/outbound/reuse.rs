//! When a packet identifier of a durable session may be used for another message.
//!
//! Promise: not before the end of its last message is durable. `Done` is recorded and not waited
//! for, so a crash may bring an ended delivery back, and its PUBREL would then release the other
//! message at the client ([MQTT-2.2.1-4], [MQTT-4.3.3-1]). Identifiers come again after 65,535
//! deliveries. A message that was taken after the earlier one had ended has its own record behind
//! that `Done`, and at `QoS` 2 waits for it, so only queues that reach over all identifiers need
//! this: for them alone it is kept.
//!
//! ```text
//!   slots:  floor … first … cursor … next        floor: all before it ended, durably
//!           └────── < 65,535 ──────┘              mark: all before `first` ended, at this position
//! ```

use super::{Outbound, PACKET_IDS};

/// Distance from which on ends are looked at: far enough from the last identifier that a session
/// does not wait for a sync.
const NEAR: u64 = PACKET_IDS / 2;

/// See the module.
#[derive(Debug)]
pub(super) struct Reuse {
    floor: u64,
    mark: Option<(u64, u64)>,
}

impl Outbound {
    /// The oldest sequence number whose identifier is in use, as far as a crash may find it.
    pub(super) fn first_in_use(&self) -> u64 {
        let first = self.first();
        self.reuse.as_deref().map_or(first, |reuse| reuse.floor.min(first))
    }

    fn first(&self) -> u64 {
        self.slots.front().map_or(self.next_sequence, |slot| slot.sequence)
    }

    /// A recorded delivery has been taken.
    pub(super) fn watch_identifiers(&mut self) {
        let first = self.first();
        if self.reuse.is_none() && self.next_sequence - first >= NEAR {
            self.reuse = Some(Box::new(Reuse { floor: first, mark: None }));
        }
    }

    /// The ends of deliveries have to be marked: [`Outbound::mark_ended`].
    pub fn watches_identifiers(&self) -> bool {
        self.reuse.is_some()
    }

    /// Records up to this position are durable.
    pub(super) fn free_identifiers(&mut self, durable: u64) {
        let next = self.next_sequence;
        let Some(reuse) = self.reuse.as_deref_mut() else { return };
        if let Some((first, _)) = reuse.mark.take_if(|(_, lsn)| *lsn <= durable) {
            reuse.floor = first;
        }
        if next - reuse.floor < NEAR {
            self.reuse = None;
        }
    }

    /// All deliveries that have ended are recorded up to this position. True if
    /// [`Outbound::pump`] is to be called when it is durable.
    pub fn mark_ended(&mut self, lsn: u64) -> bool {
        let first = self.first();
        let Some(reuse) = self.reuse.as_deref_mut() else { return false };
        let wanted = reuse.mark.is_none() && reuse.floor < first;
        if wanted {
            reuse.mark = Some((first, lsn));
        }
        wanted
    }
}
