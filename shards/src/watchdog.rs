//! Watches the shards from a thread of its own.
//!
//! Promise: a shard that sleeps although it has mail or a deadline is woken within about a
//! second, and a shard that stays in one turn is reported. Both are bugs somewhere; this bounds
//! what they cost and makes them visible.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::clock::Clock;
use crate::engine::Shared;
use crate::mesh::Gauge;
use crate::pulse::Reading;
use crate::time::Millis;

/// A turn, or a sleep with work waiting, is suspicious after this time.
const PATIENCE_MS: u64 = 100;
/// Between two looks while everything sleeps.
const IDLE_LOOK_MS: u64 = 1_000;

/// What the watchdog has seen since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogStats {
    /// Turns that took longer than 100 ms.
    pub stalls: u64,
    /// Shards that slept although there was something to do, and were woken.
    pub wakes: u64,
}

/// The same, shared with the watchdog's thread.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    stalls: AtomicU64,
    wakes: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> WatchdogStats {
        WatchdogStats {
            stalls: self.stalls.load(Ordering::Relaxed),
            wakes: self.wakes.load(Ordering::Relaxed),
        }
    }
}

/// Tells whether the shards go on, for a supervisor outside the process.
#[derive(Debug)]
pub struct Progress {
    shared: Arc<Shared>,
    /// Turns at the last look.
    turns: Vec<Option<u64>>,
}

impl Progress {
    pub(crate) fn new(shared: Arc<Shared>) -> Progress {
        let turns = shared.places().iter().map(|_| None).collect();
        Progress { shared, turns }
    }

    /// Has every shard begun a new turn since the last look, or does it sleep? Looks that follow
    /// each other closely find busy shards in the same turn: leave seconds between them.
    pub fn all_went_on(&mut self) -> bool {
        let mut all = true;
        for (place, turns) in self.shared.places().iter().zip(&mut self.turns) {
            let reading = place.pulse.read();
            all &= reading.asleep_until.is_some() || *turns != Some(reading.turns);
            *turns = Some(reading.turns);
        }
        all
    }
}

/// What two looks at a shard tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Well,
    /// In the same turn since the last look.
    Stalled,
    /// Sleeps although it should not.
    Overslept,
}

/// What is remembered of a shard.
#[derive(Clone, Copy, Debug)]
struct Seen {
    reading: Reading,
    /// When this reading was seen first.
    since: Millis,
    reported: bool,
}

impl Seen {
    fn look(&mut self, reading: Reading, now: Millis, has_mail: bool) -> Verdict {
        if reading != self.reading {
            *self = Seen { reading, since: now, reported: false };
            return Verdict::Well;
        }
        if self.reported || now.since(self.since) < PATIENCE_MS {
            return Verdict::Well;
        }
        match reading.asleep_until {
            None => {
                self.reported = true;
                Verdict::Stalled
            }
            Some(until) if has_mail || now.since(until) >= PATIENCE_MS => Verdict::Overslept,
            Some(_) => Verdict::Well,
        }
    }
}

/// Looks until `end` is dropped.
pub(crate) fn run<M, L>(
    shared: &Shared,
    gauges: &[Gauge<M, L>],
    clock: Clock,
    end: &Receiver<()>,
    counts: &Counts,
) {
    let first = |reading| Seen { reading, since: clock.now(), reported: false };
    let mut seen: Vec<Seen> =
        shared.places().iter().map(|place| first(place.pulse.read())).collect();
    let mut wait_ms = PATIENCE_MS;
    while end.recv_timeout(Duration::from_millis(wait_ms)) == Err(RecvTimeoutError::Timeout) {
        let now = clock.now();
        let mut idle = true;
        for (shard, ((place, gauge), seen)) in
            shared.places().iter().zip(gauges).zip(&mut seen).enumerate()
        {
            let reading = place.pulse.read();
            idle &= reading == seen.reading && reading.asleep_until.is_some();
            match seen.look(reading, now, gauge.has_mail()) {
                Verdict::Well => {}
                Verdict::Stalled => {
                    counts.stalls.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(shard, "one turn takes longer than {PATIENCE_MS} ms");
                }
                Verdict::Overslept => {
                    counts.wakes.fetch_add(1, Ordering::Relaxed);
                    let told = !place.doorbell.is_parked();
                    tracing::error!(shard, told, "slept although there was work; waking it");
                    place.event.ring();
                }
            }
        }
        wait_ms = if idle { (wait_ms * 2).min(IDLE_LOOK_MS) } else { PATIENCE_MS };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Millis = Millis(1_000);

    fn seen(asleep_until: Option<Millis>) -> (Seen, Reading) {
        let reading = Reading { turns: 7, asleep_until };
        (Seen { reading, since: START, reported: false }, reading)
    }

    #[test]
    fn a_long_turn_is_reported_once() {
        let (mut seen, reading) = seen(None);
        assert_eq!(seen.look(reading, START.after(PATIENCE_MS - 1), false), Verdict::Well);
        assert_eq!(seen.look(reading, START.after(PATIENCE_MS), false), Verdict::Stalled);
        assert_eq!(seen.look(reading, START.after(PATIENCE_MS * 9), false), Verdict::Well);
        let next = Reading { turns: 8, ..reading };
        assert_eq!(seen.look(next, START.after(PATIENCE_MS * 10), false), Verdict::Well);
        assert_eq!(seen.look(next, START.after(PATIENCE_MS * 11), false), Verdict::Stalled);
    }

    #[test]
    fn sleeping_is_fine_without_work() {
        let (mut seen, reading) = seen(Some(Millis::MAX));
        assert_eq!(seen.look(reading, START.after(1 << 40), false), Verdict::Well);
        assert_eq!(seen.look(reading, START.after(1 << 40), true), Verdict::Overslept);
    }

    #[test]
    fn a_missed_deadline_wakes() {
        let until = START.after(5_000);
        let (mut seen, reading) = seen(Some(until));
        assert_eq!(seen.look(reading, until.after(PATIENCE_MS - 1), false), Verdict::Well);
        assert_eq!(seen.look(reading, until.after(PATIENCE_MS), false), Verdict::Overslept);
    }
}
