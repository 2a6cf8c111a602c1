//! What has to survive: the records that a shard hands out for its log.
//!
//! Promise: a shard never waits for storage. It emits records with rising positions and holds back
//! what depends on them until it is told that the position is durable. With recording off no record
//! is built and nothing waits: sessions then live in memory alone. Here records become bytes and
//! bytes become records, and a log that was read becomes the state of a shard.
//! Not here: files, batches and checksums (`shards::log`), which record is written when (`shard`).
//!
//! ```text
//!  shard ─Record─▶ encode ─▶ log ── … ──▶ decode ─Record─▶ Image ─▶ shard
//!                                                            └─ other number of shards ─▶ rehome
//! ```

pub mod codec;
pub mod image;
pub mod record;
pub mod rehome;
mod wall;

pub use codec::{DecodeFault, decode, decode_message, encode};
pub use image::{Image, Place};
pub use record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
pub use wall::Wall;
