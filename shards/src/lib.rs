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
#![deny(unsafe_code)]

pub mod clock;
pub mod conn;
mod doorbell;
pub mod engine;
pub mod handler;
mod io;
mod mesh;
mod net;
pub mod outgoing;
pub mod placement;
mod pulse;
pub mod settings;
pub mod stats;
mod sys;
pub mod time;
mod turn;
mod watchdog;
pub mod wheel;

pub use conn::ConnId;
pub use engine::{EngineError, Running, StartError, Stopper, start};
pub use handler::{Accepted, Cause, Handler, ShardContext};
pub use io::Io;
pub use outgoing::Outgoing;
pub use placement::{Placement, probe};
pub use settings::{ListenerSettings, Settings};
pub use stats::NetStats;
pub use time::Millis;
pub use wheel::Wheel;
