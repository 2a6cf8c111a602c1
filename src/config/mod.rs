//! Settings of the broker: a mirror of `culex.toml`, checked while it is read.
//!
//! Promise: a [`Config`] is valid; what can be wrong with a file is said in one line that names the
//! file, the line and the key. Every key has a default, and `conf/culex.toml` states all of them.
//! A file of Mosquitto is read as well: its options are put into the same settings.
//! Not here: command-line options (`cli::serve` lays them over), the host's limits (`shards`).

mod affinity;
mod auth;
mod check;
mod error;
mod limits;
mod listener;
mod load;
mod logging;
pub mod mosquitto;
mod overlay;
mod range;
mod secret;
#[cfg(test)]
mod tests;

pub use affinity::Affinity;
pub use auth::{Acl, AclRules, Auth, Http, JWT_ALGORITHMS, Jwt, Role};
pub use error::{ConfigError, Fault};
pub use limits::Limits;
pub use listener::{
    Address, Cidr, ClientAuth, Listener, MqttVersion, Protocol, ProxyProtocol, Sni, Tls,
    TlsVersion, WebSocket,
};
pub use load::Loaded;
pub use logging::{Ansi, Destination, Facility, Format, Level, Log, Process, SecretModes};
pub use secret::SecretRef;

use crate::shard;
use range::within;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

const SHARDS_MAX: u64 = shard::SHARDS_MAX as u64;
/// A day.
const SYS_INTERVAL_S_MAX: u64 = 86_400;
/// An hour of lost messages is no durability any more.
const FSYNC_INTERVAL_MS_MAX: u64 = 3_600_000;
/// A few batches of some blocks have room.
const LOG_SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// A start holds one segment of each shard in memory.
const LOG_SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Assigned port of MQTT without TLS.
pub const PORT: u16 = 1883;

/// Everything the broker can be told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of shards; 0 = one per core, as far as there may be so many.
    #[serde(deserialize_with = "within::<_, _, 0, SHARDS_MAX>")]
    pub shards: usize,
    /// Which cores the shards are pinned to.
    pub affinity: Affinity,
    /// Cores for the threads that are not shards: log, audit log, password checks, watchdog;
    /// empty = all that the process may use.
    #[serde(deserialize_with = "affinity::cpus")]
    pub helpers: Vec<usize>,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Longest time until a message is on disk, for [`Durability::Interval`].
    #[serde(deserialize_with = "within::<_, _, 1, FSYNC_INTERVAL_MS_MAX>")]
    pub fsync_interval_ms: u32,
    /// Length of the files a log is made of, a multiple of 4096; those that are there keep theirs.
    #[serde(deserialize_with = "within::<_, _, LOG_SEGMENT_BYTES_MIN, LOG_SEGMENT_BYTES_MAX>")]
    pub log_segment_bytes: u64,
    /// Where sessions and messages are kept; unset = see [`Self::data_dir`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Seconds between updates of the `$SYS` topics; 0 = no `$SYS` topics.
    #[serde(deserialize_with = "within::<_, _, 0, SYS_INTERVAL_S_MAX>")]
    pub sys_interval_s: u32,
    /// What clients may do.
    #[serde(skip_serializing_if = "Acl::is_unset")]
    pub acl: Acl,
    /// Where clients connect, one `[[listener]]` each; never empty.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// Who clients are.
    pub auth: Auth,
    /// Messages that wait for clients.
    pub queue: Queue,
    /// Named maxima.
    pub limits: Limits,
    /// Choices the protocol leaves to a server.
    pub mqtt: Mqtt,
    /// What is logged.
    pub log: Log,
    /// The broker as a process of the system.
    pub process: Process,
}

/// When a message counts as kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On disk before the acknowledgement leaves.
    #[default]
    Fsync,
    /// Written before it leaves, on disk at most `fsync_interval_ms` later.
    Interval,
    /// In memory.
    None,
}

/// `[queue]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Queue {
    /// What happens to a message that finds the queue of a session full.
    pub overflow: Overflow,
}

/// What happens to a message that finds the queue of a session full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// The oldest waiting message is dropped for it.
    DropOldest,
    /// It is dropped.
    #[default]
    DropNewest,
    /// Its publisher is told (0x97); it reaches nobody on that shard.
    Reject,
}

/// What a 3.x client gets for a PUBLISH that it has no right to; 5.0 clients are told (0x87).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeniedPublish {
    /// The acknowledgement, as if it had been published.
    #[default]
    Acknowledge,
    /// The end of the connection.
    Disconnect,
}

/// `[mqtt]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent switch of the file")]
pub struct Mqtt {
    /// Clients without an identifier get one; else they are refused.
    pub allow_empty_client_id: bool,
    /// Beginnings of client identifiers, one of which each must have; empty = any, or none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_id_prefixes: Vec<String>,
    /// What a 3.x client gets for a PUBLISH with QoS 1 or 2 that it has no right to.
    pub denied_publish: DeniedPublish,
    /// Payloads that say they are UTF-8 are checked; wrong ones are refused with 0x99.
    pub payload_format_check: bool,
    /// QoS 0 messages are queued for absent clients too.
    pub queue_qos0: bool,
    /// `$SYS/broker/version` reads like Mosquitto's, for tools that parse it.
    pub sys_version_mosquitto: bool,
    /// Retained messages are kept; else a PUBLISH with RETAIN is refused with 0x9a.
    pub retain_available: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            affinity: Affinity::default(),
            helpers: Vec::new(),
            durability: Durability::default(),
            fsync_interval_ms: 200,
            log_segment_bytes: 64 << 20,
            data_dir: None,
            sys_interval_s: 10,
            acl: Acl::default(),
            listeners: vec![Listener::local(PORT)],
            auth: Auth::default(),
            queue: Queue::default(),
            limits: Limits::default(),
            mqtt: Mqtt::default(),
            log: Log::default(),
            process: Process::default(),
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            allow_empty_client_id: true,
            client_id_prefixes: Vec::new(),
            denied_publish: DeniedPublish::default(),
            payload_format_check: false,
            queue_qos0: false,
            sys_version_mosquitto: false,
            retain_available: true,
        }
    }
}
