//! What has to survive: the records that a shard hands out for its log.
//!
//! Promise: a shard never waits for storage. It emits records with rising positions and holds back
//! what depends on them until it is told that the position is durable. With recording off no record
//! is built and nothing waits: sessions then live in memory alone.

mod record;

pub use record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
