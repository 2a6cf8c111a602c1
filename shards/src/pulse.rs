//! Signs of life of a shard, read by the watchdog.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Millis;

/// Value of `asleep_until` while the shard is awake.
const AWAKE: u64 = 0;

/// Written by the shard once per turn, read by the watchdog.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    turns: AtomicU64,
    asleep_until: AtomicU64,
}

/// What the watchdog saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) turns: u64,
    /// `None` while awake.
    pub(crate) asleep_until: Option<Millis>,
}

impl Pulse {
    /// A new turn begins.
    pub(crate) fn beat(&self, turn: u64) {
        self.turns.store(turn, Ordering::Relaxed);
    }

    /// The shard is back from sleep, in the same turn.
    pub(crate) fn wake(&self) {
        self.asleep_until.store(AWAKE, Ordering::Relaxed);
    }

    /// The shard goes to sleep until `deadline`, or until something comes.
    pub(crate) fn sleep(&self, deadline: Option<Millis>) {
        let until = deadline.unwrap_or(Millis::MAX).0.max(1);
        self.asleep_until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Reading {
        let until = self.asleep_until.load(Ordering::Relaxed);
        let asleep_until = (until != AWAKE).then_some(Millis(until));
        Reading { turns: self.turns.load(Ordering::Relaxed), asleep_until }
    }
}
