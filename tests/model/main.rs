//! Parts of the broker against models that are too simple to be wrong: lists, maps, scans.
//!
//! What only its own module can see is compared there: topics, codec, aliases.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is a failure like any other"
)]

mod inbound;
mod interest;

mod outbound;
mod wheel;
