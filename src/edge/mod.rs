//! Between sockets and the shard: bytes to packets, effects to the network engine.
//!
//! Promise: no protocol decision is made here. The edge finds the packets in what a connection
//! sends, brings a connection to the shard of its client id, and carries out what the shard asks.
//!
//! ```text
//!  engine ─ on_bytes ─▶ [transport::Stack] ─▶ Reassembly ─▶ codec::decode ─▶ Shard::handle
//!  engine ◀─ send, close, post, pause ─ [transport::Stack] ◀─ finish_turn ◀─ output and effects
//! ```
//!
//! Only connections with TLS, WebSocket or a PROXY header have a `Stack`.

mod admission;
mod closing;
mod conns;
mod driver;
mod files;
mod flow;
mod journal;
mod layers;
mod logins;
mod memory;
mod points;
mod rate;
mod reassembly;
mod room;
mod told;

pub use admission::{Admission, AdmissionLimits, ListenerCount, ListenerLimit};
pub use driver::Driver;
pub use files::{FileError, OpenKeys, TlsFiles};
pub use logins::LOGINS_MAX;
pub use rate::Rates;
pub use told::{Change, Control, Durable, Luggage, Settings};

#[cfg(test)]
mod tests;
