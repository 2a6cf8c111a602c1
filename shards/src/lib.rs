//! Thread-per-core engine: pinned executors, connections, mailboxes, timers.
//!
//! Promise: one shard per CPU, nothing shared but bounded mailboxes of batches; a shard that has
//! nothing to do sleeps in its own `io_uring` and costs no CPU time.
//! Not here: any protocol. The user of this crate implements [`Handler`].
//!
//! ```text
//!   start ─▶ N threads, each: glommio executor ─▶ turn::Driver
//!                                                   │
//!     mail ─▶ resumed bytes ─▶ timers ─▶ finish_turn ─▶ outboxes ─▶ enter ─▶ completions ─┐
//!      ▲                                                                                  │
//!      └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Under `cfg(loom)` the crate consists of the doorbell alone: its model check needs nothing else,
//! and the libraries do not build there.
#![deny(unsafe_code)]

#[cfg(not(loom))]
pub mod account;
#[cfg(not(loom))]
pub mod chunks;
#[cfg(not(loom))]
pub mod clock;
#[cfg(not(loom))]
pub mod conn;
#[cfg(not(loom))]
pub mod disk;
mod doorbell;
#[cfg(not(loom))]
pub mod engine;
#[cfg(not(loom))]
pub mod handler;
#[cfg(not(loom))]
mod io;
#[cfg(not(loom))]
pub mod log;
#[cfg(not(loom))]
mod mesh;
#[cfg(not(loom))]
mod net;
#[cfg(not(loom))]
pub mod outgoing;
#[cfg(not(loom))]
pub mod placement;
#[cfg(not(loom))]
mod pulse;
#[cfg(not(loom))]
mod remote;
#[cfg(not(loom))]
pub mod settings;
#[cfg(not(loom))]
pub mod stats;
#[cfg(all(test, not(loom)))]
mod stress;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
pub mod testing;
#[cfg(not(loom))]
mod thrift;
#[cfg(not(loom))]
pub mod time;
#[cfg(not(loom))]
mod turn;
#[cfg(not(loom))]
mod watchdog;
#[cfg(not(loom))]
pub mod wheel;

#[cfg(not(loom))]
pub use chunks::Chunks;
#[cfg(not(loom))]
pub use conn::ConnId;
#[cfg(not(loom))]
pub use disk::ShardLog;
#[cfg(not(loom))]
pub use engine::{
    Bound, EngineError, Running, StartError, Stopper, bind, listen, start, start_with,
    start_with_logs,
};
#[cfg(not(loom))]
pub use handler::{Accepted, Cause, Handler, ShardContext};
#[cfg(not(loom))]
pub use io::Io;
#[cfg(not(loom))]
pub use net::listener::{Listening, is_same_socket};
#[cfg(not(loom))]
pub use outgoing::Outgoing;
#[cfg(not(loom))]
pub use placement::{Placement, probe};
#[cfg(not(loom))]
pub use remote::{LineFull, Remote};
#[cfg(not(loom))]
pub use settings::{Address, ListenerSettings, Settings};
#[cfg(not(loom))]
pub use stats::NetStats;
#[cfg(not(loom))]
pub use time::Millis;
#[cfg(not(loom))]
pub use watchdog::Progress;
#[cfg(not(loom))]
pub use wheel::Wheel;
