//! The pure broker core, driven without sockets, clocks or threads: shards, mail and time are in
//! the hands of the test. Scripts are text, so that the API can change under them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::maybe_infinite_iter,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::wildcard_enum_match_arm,
    reason = "a test that breaks its own rules may panic, and its speed does not matter"
)]

mod ack_order;
mod cross_shard;
mod delivery;
mod durable;
mod endings;
mod exactly_once;
mod expiry_in_flight;
mod lifecycle;
mod login;
mod offers;
mod quotas;
mod reject;
mod retained;
mod rig;
mod rights;
mod scram;
mod shared;
