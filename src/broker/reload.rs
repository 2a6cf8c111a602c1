//! New settings for a broker that serves.
//!
//! Promise: everything is read and checked first; then every shard takes it at the start of a turn.
//! If something cannot be used, nothing has changed.

use super::{BrokerError, Login, admission_limits, edge_settings, login_settings};
use crate::config::{Address, Config, Listener};
use crate::edge::{self, Control};
use crate::gate::Gate;
use shards::{LineFull, Remote};
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::Duration;

/// A full line is tried again after this time, and given up after so many tries.
const RETRY: Duration = Duration::from_millis(1);
const TRIES_MAX: usize = 5_000;

/// Changes the settings of a running broker.
#[derive(Debug)]
pub struct Reloader {
    remote: Remote<Control>,
    edge: edge::Settings,
    config: Config,
}

impl Reloader {
    pub(super) fn new(remote: Remote<Control>, edge: edge::Settings, config: Config) -> Self {
        Self { remote, edge, config }
    }

    /// Makes all shards follow new settings. Gives the keys whose change needs a new start; these
    /// go on as they were.
    ///
    /// # Errors
    /// [`BrokerError`]: a file cannot be used, or a shard does not answer.
    pub fn reload(&mut self, config: &Config) -> Result<Vec<&'static str>, BrokerError> {
        let (config, kept) = with_what_stays(&self.config, config);
        let login = login_settings(&config)?;
        let mut edge = edge_settings(&config, self.remote.shards(), Some(&self.edge))?;
        edge.gate = self.gate(&config, login)?;
        // The counts go on; their limits are new.
        edge.admission = Arc::clone(&self.edge.admission);
        edge.admission.set_limits(admission_limits(&config));
        let shared = Arc::new(edge.clone());
        for shard in 0..self.remote.shards() {
            self.post(shard, Control::Settings(Arc::clone(&shared)))?;
        }
        self.edge = edge;
        self.config = config;
        Ok(kept)
    }

    /// Who checks logins from now on: new threads if there have to be others, else the old ones.
    fn gate(&self, config: &Config, login: Login) -> Result<Option<Arc<Gate>>, BrokerError> {
        let Some((settings, backends)) = login else { return Ok(None) };
        let threads = |config: &Config| {
            let http = config.auth.http.as_ref().map(|http| http.threads);
            (config.auth.hashing_threads, config.auth.hashing_queue_max, http)
        };
        match &self.edge.gate {
            Some(gate) if threads(config) == threads(&self.config) => {
                gate.replace(backends);
                Ok(Some(Arc::clone(gate)))
            }
            Some(_) | None => {
                let gate = Gate::start(&settings, backends, &self.remote);
                gate.map(Arc::new).map(Some).map_err(BrokerError::Threads)
            }
        }
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn post(&self, shard: usize, mut control: Control) -> Result<(), BrokerError> {
        for _ in 0..TRIES_MAX {
            match self.remote.post(shard, control) {
                Ok(()) => return Ok(()),
                Err(LineFull(back)) => control = back,
            }
            park_timeout(RETRY);
        }
        Err(BrokerError::Busy { shard })
    }
}

/// The new settings, with the old values of those that cannot change, and the names of these.
fn with_what_stays(old: &Config, new: &Config) -> (Config, Vec<&'static str>) {
    let mut config = new.clone();
    let mut kept = Vec::new();
    macro_rules! stays {
        ($($key:literal: $($field:ident).+;)*) => {$(
            if config.$($field).+ != old.$($field).+ {
                config.$($field).+.clone_from(&old.$($field).+);
                kept.push($key);
            }
        )*};
    }
    stays! {
        "shards": shards;
        "affinity": affinity;
        "helpers": helpers;
        "durability": durability;
        "fsync_interval_ms": fsync_interval_ms;
        "log_segment_bytes": log_segment_bytes;
        "data_dir": data_dir;
        "sys_interval_s": sys_interval_s;
        "limits.packet_bytes_max": limits.packet_bytes_max;
        "limits.receive_maximum": limits.receive_maximum;
        "limits.topic_alias_maximum": limits.topic_alias_maximum;
        "limits.connections_max": limits.connections_max;
        "process": process;
    }
    let sockets = |config: &Config| config.listeners.iter().map(socket).collect::<Vec<_>>();
    if sockets(&config) != sockets(old) {
        config.listeners.clone_from(&old.listeners);
        kept.push("listener");
    }
    (config, kept)
}

/// What a listener's sockets depend on.
fn socket(listener: &Listener) -> impl PartialEq + use<> {
    (
        (listener.address.clone(), listener.backlog, listener.bind_interface.clone()),
        (listener.tcp_nodelay, listener.tcp_keepalive_s, listener.tcp_user_timeout_ms),
        (matches!(listener.address, Address::Unix(_)).then_some(listener.unix_mode)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_change_stays_and_is_named() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.queue_messages_max = 5;
        assert_eq!(with_what_stays(&old, &new), (new.clone(), vec![]));
        new.shards = 7;
        new.limits.receive_maximum = 3;
        let (config, kept) = with_what_stays(&old, &new);
        assert_eq!(kept, ["shards", "limits.receive_maximum"]);
        assert_eq!((config.shards, config.limits.queue_messages_max), (old.shards, 5));
        new = old.clone();
        new.listeners.push(Listener::local(9));
        assert_eq!(with_what_stays(&old, &new), (old.clone(), vec!["listener"]));
        new = old.clone();
        new.listeners[0].allow_anonymous = Some(true);
        assert_eq!(with_what_stays(&old, &new).1, Vec::<&str>::new());
    }
}
