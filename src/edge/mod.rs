//! Between sockets and the shard: bytes to packets, effects to the network engine.
//!
//! Promise: no protocol decision is made here. The edge finds the packets in what a connection
//! sends, brings a connection to the shard of its client id, and carries out what the shard asks.
//!
//! ```text
//!  engine ─ on_bytes ─▶ Reassembly ─▶ codec::decode ─▶ Shard::handle
//!  engine ◀─ send, close, post, pause ─ finish_turn ◀─ output and effects
//! ```

mod driver;
mod reassembly;

pub use driver::{Control, Driver, LOGINS_MAX, Luggage, Settings};

#[cfg(test)]
mod tests;
