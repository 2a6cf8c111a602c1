//! Settings of the broker: a mirror of `culex.toml`, checked while it is read.
//!
//! Promise: a [`Config`] is valid; what can be wrong with a file is said in one line that names the
//! file, the line and the key. Every key has a default, and `conf/culex.toml` states all of them.
//! Not here: command-line options (`cli::serve` lays them over), the host's limits (`shards`).

mod affinity;
mod error;
mod limits;
mod range;
#[cfg(test)]
mod tests;

pub use affinity::Affinity;
pub use error::ConfigError;
pub use limits::Limits;

use crate::shard;
use range::within;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const SHARDS_MAX: u64 = shard::SHARDS_MAX as u64;
/// A day.
const SYS_INTERVAL_S_MAX: u64 = 86_400;
/// Larger backlogs are cut by the kernel (`net.core.somaxconn`).
const BACKLOG_MAX: u64 = 65_535;
/// Assigned port of MQTT without TLS.
pub const PORT: u16 = 1883;

/// Everything the broker can be told.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Number of shards; 0 = one per core, as far as there may be so many.
    #[serde(deserialize_with = "within::<_, _, 0, SHARDS_MAX>")]
    pub shards: usize,
    /// Which cores the shards are pinned to.
    pub affinity: Affinity,
    /// Where sessions and messages will be kept; so far all state is in memory.
    pub data_dir: Option<PathBuf>,
    /// Seconds between updates of the `$SYS` topics; 0 = no `$SYS` topics.
    #[serde(deserialize_with = "within::<_, _, 0, SYS_INTERVAL_S_MAX>")]
    pub sys_interval_s: u32,
    /// Where clients connect, one `[[listener]]` each; never empty.
    #[serde(rename = "listener")]
    pub listeners: Vec<Listener>,
    /// What is logged.
    pub log: Log,
    /// Named maxima.
    pub limits: Limits,
    /// Choices the protocol leaves to a server.
    pub mqtt: Mqtt,
}

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port; port 0 = any free port.
    pub address: SocketAddr,
    /// Connections the kernel keeps waiting for accept, per shard.
    #[serde(default = "backlog", deserialize_with = "within::<_, _, 1, BACKLOG_MAX>")]
    pub backlog: u32,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least important kind of line that is written.
    pub level: Level,
    /// Colours.
    pub ansi: Ansi,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The broker cannot do what it should.
    Error,
    /// Something that an administrator should look at.
    Warn,
    /// Start, listeners, stop.
    #[default]
    Info,
    /// Connections and refusals too.
    Debug,
    /// Everything there is.
    Trace,
}

/// Use of colours in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ansi {
    /// If the log goes to a terminal.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// `[mqtt]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent switch of the file")]
pub struct Mqtt {
    /// Clients without an identifier get one; else they are refused.
    pub allow_empty_client_id: bool,
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
            data_dir: None,
            sys_interval_s: 10,
            listeners: vec![Listener::local(PORT)],
            log: Log::default(),
            limits: Limits::default(),
            mqtt: Mqtt::default(),
        }
    }
}

impl Listener {
    /// The listener on the IPv4 loopback address.
    pub fn local(port: u16) -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)), backlog: backlog() }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            allow_empty_client_id: true,
            payload_format_check: false,
            queue_qos0: false,
            sys_version_mosquitto: false,
            retain_available: true,
        }
    }
}

/// A burst of one reconnecting site fits in.
fn backlog() -> u32 {
    1024
}

impl Config {
    /// Reads and checks a file. Relative paths in it are taken from its directory.
    ///
    /// # Errors
    /// [`ConfigError`]: the file, or the affinity file it names, cannot be read or is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let mut config = Self::parse(&text, path)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        config.data_dir = config.data_dir.map(|data_dir| directory.join(data_dir));
        config.affinity = config.affinity.resolve(directory)?;
        config
            .check_shards()
            .map_err(|message| ConfigError::at_key(path, &text, "shards", message))?;
        Ok(config)
    }

    /// Reads and checks the text of a file; `path` is for error messages.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first thing that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(path, text, &error))?;
        let fail = |key, message| Err(ConfigError::at_key(path, text, key, message));
        if config.listeners.is_empty() {
            return fail("listener", "there must be at least one".to_owned());
        }
        for (index, listener) in config.listeners.iter().enumerate() {
            let address = listener.address;
            let twice = config.listeners.iter().take(index).any(|other| other.address == address);
            if twice && address.port() != 0 {
                return fail("listener", format!("{address} is given twice"));
            }
        }
        if config.data_dir.as_deref() == Some(Path::new("")) {
            return fail("data_dir", "must not be empty".to_owned());
        }
        Ok(config)
    }

    /// Are there not too many shards, and a core for each, if both are named.
    ///
    /// # Errors
    /// What is wrong, in words; the caller knows where the numbers come from.
    pub fn check_shards(&self) -> Result<(), String> {
        match self.affinity.cpus() {
            _ if self.shards > shard::SHARDS_MAX => Err(format!(
                "{} shards are too many, the maximum is {}",
                self.shards,
                shard::SHARDS_MAX
            )),
            Some(cpus) if self.shards > cpus.len() => {
                let (shards, cpus) = (self.shards, cpus.len());
                Err(format!("{shards} shards need {shards} cores, but affinity names {cpus}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The number of shards asked for; `None` = one per core.
    pub fn shards_wanted(&self) -> Option<usize> {
        (self.shards > 0).then_some(self.shards)
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}
