//! New settings for a broker that serves.
//!
//! Promise: everything is read and checked first; then every shard takes it at the start of a turn.
//! If something cannot be used, nothing has changed. A shard that is too busy to take it gets it
//! before anything else of the next time.

use super::slots::{Plan, Slot};
use super::{BrokerError, Login, admission_limits, edge_settings, login_settings};
use crate::config::Config;
use crate::edge::{self, Control};
use crate::gate::Gate;
use shards::{Address, LineFull, Remote};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::park_timeout;
use std::time::Duration;

/// A full line is tried again after this time, and given up after so many tries.
const RETRY: Duration = Duration::from_millis(1);
const TRIES_MAX: usize = if cfg!(test) { 2 } else { 5_000 };

/// Changes the settings of a running broker.
#[derive(Debug)]
pub struct Reloader {
    remote: Remote<Control>,
    edge: edge::Settings,
    config: Config,
    slots: Vec<Slot>,
    /// Orders on their way to shards, in this order.
    orders: VecDeque<(usize, Control)>,
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
        Self { remote, edge, config, slots, orders: VecDeque::new() }
    }

    /// Makes all shards follow new settings.
    ///
    /// # Errors
    /// [`BrokerError`]: a file cannot be used, an address cannot be listened on; or
    /// [`BrokerError::Busy`], a shard takes nothing: then it and those after it follow the former
    /// settings until another reload.
    pub fn reload(&mut self, config: &Config) -> Result<Reloaded, BrokerError> {
        self.deliver()?;
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
            self.orders.push_back((shard, Control::Settings(Arc::clone(&shared))));
            if !changes.is_empty() {
                self.orders.push_back((shard, Control::Listeners(changes)));
            }
        }
        // From here on some shard may follow them, so their numbers are taken.
        let (opened, closed) = (plan.opened(), plan.closed());
        self.edge = edge;
        self.config = config;
        self.slots = plan.slots;
        self.deliver()?;
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

    fn deliver(&mut self) -> Result<(), BrokerError> {
        while let Some((shard, control)) = self.orders.pop_front() {
            if let Err(LineFull(control)) = self.post(shard, control) {
                self.orders.push_front((shard, control));
                return Err(BrokerError::Busy { shard });
            }
        }
        Ok(())
    }

    fn post(&self, shard: usize, mut control: Control) -> Result<(), LineFull<Control>> {
        for _ in 0..TRIES_MAX {
            match self.remote.post(shard, control) {
                Ok(()) => return Ok(()),
                Err(LineFull(back)) => control = back,
            }
            park_timeout(RETRY);
        }
        Err(LineFull(control))
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
    use crate::broker::slots;
    use crate::config::Listener;

    #[test]
    fn a_busy_shard_costs_no_number() {
        let local =
            |count| Config { listeners: vec![Listener::local(0); count], ..Config::default() };
        let (one, two) = (local(1), local(2));
        let remote = Remote::new(2, 2);
        let slots = slots::first(&one);
        let edge = edge_settings(&one, &slots, 2, None).expect("valid settings");
        let mut reloader = Reloader::new(remote.clone(), edge, one, slots);
        for _ in 0..2 {
            remote.post(1, Control::Reloaded(true)).expect("room for two");
        }
        for new in [&two, &local(3), &two] {
            let error = reloader.reload(new).expect_err("shard 1 takes nothing");
            assert!(matches!(error, BrokerError::Busy { shard: 1 }), "{error}");
            // Shard 0 knows of the second listener: nothing more may begin before shard 1 does.
            assert_eq!((reloader.slots.len(), reloader.orders.len()), (2, 2));
            assert_eq!(reloader.config().listeners.len(), 2);
        }
    }

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
