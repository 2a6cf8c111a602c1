//! Culex, an MQTT broker for 3.1, 3.1.1 and 5.0: one executor per CPU core, nothing shared.
//!
//! The modules form a ladder; each may use those below it (see `docs/ARCHITECTURE.md`):
//! `cli` › `broker` › `config` › `edge` › `gate`, `transport` › `shard` › `store`, `auth` ›
//! `access`, `session` › `topic` › `codec`.
#![forbid(unsafe_code)]

pub mod access;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod codec;
pub mod config;
pub mod edge;
pub mod gate;
pub mod session;
pub mod shard;
pub mod store;
pub mod topic;
pub mod transport;
