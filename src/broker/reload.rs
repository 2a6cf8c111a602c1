//! New settings for a broker that serves.
//!
//! Promise: everything is read and checked first; then every shard takes it at the start of a turn.
//! If something cannot be used, nothing has changed. A shard that is too busy to take it gets it
//! later, in the order it was made, and nothing newer is read before all have it.

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

/// Full lines are tried again after this time; the caller waits for so many tries.
const RETRY: Duration = Duration::from_millis(1);
const TRIES_MAX: usize = if cfg!(test) { 2 } else { 5_000 };

/// Changes the settings of a running broker.
#[derive(Debug)]
pub struct Reloader {
    remote: Remote<Control>,
    edge: edge::Settings,
    config: Config,
    slots: Vec<Slot>,
    /// Orders on their way to each shard, in this order; at most those of one reload.
    orders: Vec<VecDeque<Control>>,
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
    /// A shard that is too busy to take them: it does when [`Reloader::retry`] finds room.
    pub late: Option<usize>,
}

impl Reloader {
    pub(super) fn new(
        remote: Remote<Control>,
        edge: edge::Settings,
        config: Config,
        slots: Vec<Slot>,
    ) -> Self {
        let orders = (0..remote.shards()).map(|_| VecDeque::new()).collect();
        Self { remote, edge, config, slots, orders }
    }

    /// Makes all shards follow new settings.
    ///
    /// # Errors
    /// [`BrokerError`], and nothing has changed: a file cannot be used, an address cannot be
    /// listened on; or [`BrokerError::Busy`], a shard has not taken the settings before these.
    pub fn reload(&mut self, config: &Config) -> Result<Reloaded, BrokerError> {
        self.deliver();
        if let Some(shard) = self.late() {
            return Err(BrokerError::Busy { shard });
        }
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
        for (orders, changes) in self.orders.iter_mut().zip(changes) {
            orders.push_back(Control::Settings(Arc::clone(&shared)));
            if !changes.is_empty() {
                orders.push_back(Control::Listeners(changes));
            }
        }
        // From here on some shard may follow them, so they are the settings in force.
        let (opened, closed) = (plan.opened(), plan.closed());
        self.edge = edge;
        self.config = config;
        self.slots = plan.slots;
        self.deliver();
        Ok(Reloaded { kept, opened, closed, late: self.late() })
    }

    /// The first shard that has not taken the settings in force.
    pub fn late(&self) -> Option<usize> {
        self.orders.iter().position(|orders| !orders.is_empty())
    }

    /// Hands out what late shards have room for now. Does not wait.
    pub fn retry(&mut self) {
        for (shard, orders) in self.orders.iter_mut().enumerate() {
            while let Some(control) = orders.pop_front() {
                if let Err(LineFull(control)) = self.remote.post(shard, control) {
                    orders.push_front(control);
                    break;
                }
            }
        }
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

    /// Hands everything out, and waits some time for late shards.
    fn deliver(&mut self) {
        for _ in 0..TRIES_MAX {
            self.retry();
            if self.late().is_none() {
                return;
            }
            park_timeout(RETRY);
        }
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
    use crate::edge::Change;

    fn local(count: usize) -> Config {
        Config { listeners: vec![Listener::local(0); count], ..Config::default() }
    }

    /// With lines for two controls each, and shards that take one when they are told to.
    fn reloader(shards: usize) -> Reloader {
        let slots = slots::first(&local(1));
        let edge = edge_settings(&local(1), &slots, shards, None).expect("valid settings");
        Reloader::new(Remote::new(shards, 2), edge, local(1), slots)
    }

    fn fill(reloader: &Reloader, shard: usize) {
        for _ in 0..2 {
            reloader.remote.post(shard, Control::Reloaded(true)).expect("room for two");
        }
    }

    fn waiting(reloader: &Reloader) -> Vec<usize> {
        reloader.orders.iter().map(VecDeque::len).collect()
    }

    #[test]
    fn a_busy_shard_costs_no_number() {
        let mut broker = reloader(2);
        fill(&broker, 1);
        let taken = broker.reload(&local(2)).expect("nothing is wrong with them");
        assert_eq!((taken.late, taken.opened.len()), (Some(1), 1));
        for new in [&local(3), &local(2)] {
            let error = broker.reload(new).expect_err("shard 1 takes nothing");
            assert!(matches!(error, BrokerError::Busy { shard: 1 }), "{error}");
            // Shard 0 knows of the second listener: nothing more may begin before shard 1 does.
            assert_eq!((broker.slots.len(), waiting(&broker)), (2, vec![0, 2]));
            assert_eq!(broker.config().listeners.len(), 2);
        }
    }

    #[test]
    fn a_busy_shard_does_not_hold_others_up_and_gets_all_in_order() {
        let mut broker = reloader(3);
        fill(&broker, 1);
        let taken = broker.reload(&local(2)).expect("nothing is wrong with them");
        assert_eq!((taken.late, waiting(&broker)), (Some(1), vec![0, 2, 0]));
        let lines = broker.remote.clone();
        let next = |shard| lines.take(shard).expect("something in its line");
        assert!(matches!(next(2), Control::Settings(_)));
        assert!(matches!(next(2), Control::Listeners(_)));
        broker.retry();
        assert_eq!(waiting(&broker), [0, 2, 0], "it has taken nothing yet");
        for left in [1, 0] {
            assert!(matches!(next(1), Control::Reloaded(true)));
            broker.retry();
            assert_eq!(waiting(&broker), [0, left, 0]);
        }
        assert_eq!(broker.late(), None);
        assert!(matches!(next(1), Control::Settings(_)));
        let Control::Listeners(changes) = next(1) else { panic!("its socket") };
        assert!(matches!(changes[..], [Change::Open(1, _)]));
        assert!(matches!((next(0), next(0)), (Control::Settings(_), Control::Listeners(_))));
        let taken = broker.reload(&local(1)).expect("all have taken those before");
        assert_eq!((taken.late, taken.closed.len()), (None, 1));
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
