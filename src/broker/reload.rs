//! New settings for a broker that serves.
//!
//! Promise: everything is read and checked first; then every shard takes it at the start of a turn.
//! If something cannot be used, nothing has changed.

use super::slots::{Plan, Slot};
use super::{BrokerError, Login, admission_limits, edge_settings, login_settings};
use crate::config::Config;
use crate::edge::{self, Control};
use crate::gate::Gate;
use shards::{Address, LineFull, Remote};
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
    slots: Vec<Slot>,
}

/// What has come of new settings.
#[derive(Debug)]
pub struct Reloaded {
    /// Keys whose change needs a new start; they go on as they were.
    pub kept: Vec<&'static str>,
    /// Where the broker listens besides, from now on.
    pub opened: Vec<Address>,
    /// Where it does no more; the connections that came there stay.
    pub closed: Vec<Address>,
}

impl Reloader {
    pub(super) fn new(
        remote: Remote<Control>,
        edge: edge::Settings,
        config: Config,
        slots: Vec<Slot>,
    ) -> Self {
        Self { remote, edge, config, slots }
    }

    /// Makes all shards follow new settings.
    ///
    /// # Errors
    /// [`BrokerError`]: a file cannot be used, an address cannot be listened on, or a shard does
    /// not answer.
    pub fn reload(&mut self, config: &Config) -> Result<Reloaded, BrokerError> {
        let (config, kept) = with_what_stays(&self.config, config);
        let shards = self.remote.shards();
        let mut plan = Plan::new(&self.slots, &config)?;
        let login = login_settings(&config, &plan.slots)?;
        let mut edge = edge_settings(&config, &plan.slots, shards, Some(&self.edge))?;
        let changes = plan.open(shards)?;
        edge.gate = self.gate(&config, login)?;
        // The counts go on; their limits are new.
        edge.admission = Arc::clone(&self.edge.admission);
        edge.admission.set_limits(admission_limits(&config, &plan.slots));
        let shared = Arc::new(edge.clone());
        for (shard, changes) in changes.into_iter().enumerate() {
            self.post(shard, Control::Settings(Arc::clone(&shared)))?;
            if !changes.is_empty() {
                self.post(shard, Control::Listeners(changes))?;
            }
        }
        let (opened, closed) = (plan.opened(), plan.closed());
        self.edge = edge;
        self.config = config;
        self.slots = plan.slots;
        Ok(Reloaded { kept, opened, closed })
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

    /// Counts a reload in `$SYS`. A shard that is too busy to hear of it has other troubles.
    pub fn count(&self, taken: bool) {
        let _busy = self.remote.post(0, Control::Reloaded(taken));
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
        "process": process;
    }
    (config, kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;

    #[test]
    fn what_cannot_change_stays_and_is_named() {
        let old = Config::default();
        let mut new = old.clone();
        new.limits.queue_messages_max = 5;
        assert_eq!(with_what_stays(&old, &new), (new.clone(), vec![]));
        new.shards = 7;
        new.log_segment_bytes = 1 << 20;
        let (config, kept) = with_what_stays(&old, &new);
        assert_eq!(kept, ["shards", "log_segment_bytes"]);
        assert_eq!((config.shards, config.limits.queue_messages_max), (old.shards, 5));
        new = old.clone();
        new.listeners.push(Listener::local(9));
        assert_eq!(with_what_stays(&old, &new), (new.clone(), vec![]));
        new = old.clone();
        new.listeners[0].allow_anonymous = Some(true);
        assert_eq!(with_what_stays(&old, &new).1, Vec::<&str>::new());
    }
}
