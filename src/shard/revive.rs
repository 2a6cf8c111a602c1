//! The cleaner's question to the shard: what of this old record is still true?
//!
//! Before the oldest segment of the log goes, each of its records is shown to the shard, in order.
//! What still holds is emitted again, as it holds now; when that is durable, the segment may go.
//! Records that only take something back (`Done`, `Unsubscribe`, `SessionEnd`, ...) are never
//! needed again: what they took back was in the same or in an earlier segment.
//!
//! Promise: replaying the log without the segment gives the same state. Each thing is emitted once
//! for a segment, however often it was recorded there.

use super::Shard;
use crate::codec::PacketId;
use crate::session::State;
use crate::store::{Entry, Onward, Publish, Record, SessionNumber, Source};
use crate::topic::{Filter, TopicName};
use ahash::AHashSet;
use std::sync::Arc;

/// What was emitted again for this segment.
#[derive(Debug, Default)]
pub(super) struct Revived {
    filters: AHashSet<(SessionNumber, Filter)>,
    topics: AHashSet<Arc<str>>,
    ids: AHashSet<(SessionNumber, PacketId)>,
}

impl Shard {
    /// Emits again what still holds of a record with this position in a segment that is to go.
    pub fn revive(&mut self, lsn: u64, record: Record) {
        match record {
            Record::Session(head) => self.revive_head(lsn, head.session),
            Record::Will { session, will: Some(_) } => self.revive_will(lsn, session),
            Record::Subscribe { session, filter, .. } => self.revive_filter(session, filter),
            Record::Publish(publish) => self.revive_publish(lsn, publish),
            Record::Received { session, id } => self.revive_received(session, id),
            Record::Owned { session, sequence } => self.revive_owned(session, sequence),
            Record::Will { will: None, .. }
            | Record::SessionEnd { .. }
            | Record::Unsubscribe { .. }
            | Record::Released { .. }
            | Record::Done { .. }
            | Record::RetainDeleted { .. }
            | Record::Applied { .. }
            | Record::Settled { .. }
            | Record::Clock { .. } => {}
        }
    }

    /// The segment has no more records. Gives the position that has to be durable before it goes.
    pub fn revive_rest(&mut self) -> u64 {
        self.revived = Revived::default();
        for (origin, exchange) in self.journal.applied.clone() {
            self.effects.record(Record::Applied { origin, exchange });
        }
        self.record_clock();
        self.effects.lsn
    }
}
