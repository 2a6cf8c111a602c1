//! The pure broker core, driven without sockets, clocks or threads: shards, mail and time are in the
//! hands of the test. Scripts are text, so that the API can change under them.

mod cross_shard;
mod delivery;
mod durable;
mod lifecycle;
mod retained;
mod rig;
mod shared;
