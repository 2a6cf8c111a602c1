//! Deterministic simulation: real shards, simulated everything else. One seed is one run.
//!
//! `make sim SEED=n` replays one seed with a trace, `make sim RUNS=n` runs many; see
//! `docs/testing.md`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::collapsible_match,
    clippy::single_match_else,
    clippy::many_single_char_names,
    reason = "a test that breaks its own rules may panic, and reads best as it is"
)]

mod clean;
mod client;
mod crash;
mod drive;
mod oracle;
mod plant;
mod rng;
mod run;
mod shadow;
mod swarm;
mod wire;
mod world;

use plant::Plant;
use shards::clock::Clock;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds of the test command.
const RUNS: u64 = 300;
/// Failures that are printed.
const SHOWN: usize = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse().unwrap())
}

/// Runs one seed; a panic of the product is a finding like any other.
fn attempt(seed: u64, plant: Plant, trace: bool) -> Result<u64, String> {
    catch_unwind(AssertUnwindSafe(|| run::run(seed, plant, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or(panic.downcast_ref::<&str>().map(|t| (*t).into())).unwrap_or_default())
    })
}

/// Runs some seeds. Gives the number of events, and what failed.
fn sweep(seeds: std::ops::Range<u64>) -> (u64, Vec<(u64, String)>) {
    let (mut events, mut failures) = (0, Vec::new());
    for seed in seeds {
        match attempt(seed, Plant::None, false) {
            Ok(count) => events += count,
            Err(failure) => failures.push((seed, failure)),
        }
    }
    (events, failures)
}

#[test]
fn seeds_pass() {
    if let Some(seed) = number("SIM_SEED") {
        attempt(seed, Plant::None, true).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let runs = number("SIM_RUNS").unwrap_or(RUNS);
    let from = number("SIM_FROM").unwrap_or(0);
    let clock = Clock::start();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64).min(runs);
    let (mut events, mut failures) = (0, Vec::new());
    std::thread::scope(|scope| {
        let part = |n: u64| from + runs * n / threads;
        let sweeps: Vec<_> =
            (0..threads).map(|n| scope.spawn(move || sweep(part(n)..part(n + 1)))).collect();
        for sweep in sweeps {
            let (count, failed) = sweep.join().expect("panics were caught");
            events += count;
            failures.extend(failed);
        }
    });
    let ms = clock.now().0.max(1);
    println!("{runs} seeds, {events} events, {} events per second", events * 1000 / ms);
    for (seed, failure) in failures.iter().take(SHOWN) {
        println!("{failure}\n    to see it: make sim SEED={seed}");
    }
    assert!(failures.is_empty(), "{} of {runs} seeds failed", failures.len());
}

/// What a client that was promised too much misses, or what the log itself misses.
const LOST: [&str; 8] =
    ["[I2]", "[I3]", "[I6]", "[I8]", "never came", "was durable", "where", "is refused"];

/// Seeds within which a planted bug has to be found.
const PLANTED_SEEDS: u64 = 1000;

/// What a bug breaks first differs from seed to seed; one of them has to show what it is.
#[track_caller]
fn is_found(plant: Plant, words: &[&str]) {
    let mut others = Vec::new();
    for seed in 0..PLANTED_SEEDS {
        let Err(failure) = attempt(seed, plant, false) else { continue };
        if words.iter().any(|word| failure.contains(word)) {
            return println!("{plant:?} found by seed {seed}: {failure}");
        }
        others.push(failure);
    }
    assert!(!others.is_empty(), "{plant:?} was not found");
    panic!("{plant:?} looks like {:?}", others.iter().take(SHOWN).collect::<Vec<_>>());
}

#[test]
fn interest_removed_too_early_is_found() {
    is_found(Plant::InterestRemovedTooEarly, &["acknowledged before", "no matching", "never came"]);
}

#[test]
fn ack_before_settle_is_found() {
    is_found(Plant::AckBeforeSettle, &["acknowledged before"]);
}

#[test]
fn reused_packet_id_is_found() {
    is_found(Plant::PacketIdReused, &["MQTT-2.2.1-4"]);
}

#[test]
fn will_fired_twice_is_found() {
    is_found(Plant::WillFiredTwice, &["copies"]);
}

#[test]
fn queue_limit_off_by_one_is_found() {
    is_found(Plant::QueueLimitOffByOne, &["never came"]);
}

#[test]
fn swapped_order_is_found() {
    is_found(Plant::OrderSwapped, &["MQTT-4.6.0-5"]);
}

#[test]
fn second_copy_at_qos_2_is_found() {
    is_found(Plant::ExactlyOnceTwice, &["copies", "at QoS 2", "a newer one came"]);
}

#[test]
fn lost_retained_message_is_found() {
    is_found(Plant::RetainedLost, &["retained for"]);
}

#[test]
fn ack_before_durable_is_found() {
    is_found(Plant::AckBeforeDurable, &["[I3]", "[I6]", "[I8]", "[I2]", "never came", "durable"]);
}

#[test]
fn ack_before_the_sync_is_found() {
    is_found(Plant::AckBeforeSync, &LOST);
}

#[test]
fn skipped_sync_is_found() {
    is_found(Plant::SyncSkipped, &LOST);
}

#[test]
fn page_cache_that_is_trusted_is_found() {
    is_found(Plant::CacheTrusted, &LOST);
}

#[test]
fn scan_that_stops_too_early_is_found() {
    is_found(Plant::ScanEarly, &LOST);
}

#[test]
fn scan_that_goes_on_too_far_is_found() {
    is_found(Plant::ScanLate, &LOST);
}

#[test]
fn forward_before_durable_is_found() {
    let looks = ["copies", "at QoS 2", "acknowledged before", "retained for"];
    is_found(Plant::ForwardBeforeDurable, &looks);
}

#[test]
fn segment_released_too_early_is_found() {
    is_found(Plant::ReleasedEarly, &LOST);
}

#[test]
fn record_that_the_cleaner_forgets_is_found() {
    is_found(Plant::RevivedNot, &LOST);
}

#[test]
fn forgotten_identifier_is_found() {
    is_found(Plant::ReceivedForgotten, &["[I3]", "out of order"]);
}
