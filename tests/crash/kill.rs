//! SIGKILL under load, during recovery, after SIGSTOP: nothing acknowledged may be missing.

use rustix::process::Signal;

use crate::broker::{Broker, Setup, pause};
use crate::judge::{Report, judge};
use crate::ledger::Wrong;
use crate::load;
use crate::rng::Rng;
use crate::tamper::{Bug, Tamper};
use crate::world::{Mood, World};

/// Faults between two judgements. More of them would only make a failure harder to read.
const CYCLES_PER_RUN: usize = 15;

/// How the number of shards changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shards {
    Always(usize),
    /// Another number at each start: sessions move to other shards.
    Changing,
}

/// One directory, some faults, one judgement.
fn run(shards: Shards, durability: &str, cycles: usize, seed: u64) -> Result<Report, String> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut rng = Rng::new(seed, "faults");
    let count = if let Shards::Always(count) = shards { count } else { 1 };
    let setup = Setup::new(durability, count);
    let broker = Broker::new(setup, folder.path(), &folder.path().join("data"), &mut rng);
    let mut world = World::new(broker, load::draw(seed), Tamper::new(Bug::None, 0), seed);
    world.start_broker();
    for _ in 0..cycles {
        world.run(rng.spread(50, 1500) as u64, Mood::Busy)?;
        strike(&mut world, &mut rng)?;
        if shards == Shards::Changing {
            world.broker.setup.shards = rng.between(1, 2);
        }
        world.start_broker();
    }
    world.come_to_rest()?;
    let retained = world.clients.last().unwrap().retained.clone();
    let mut report = judge(&mut world.ledger, &retained);
    report.restarts_ms = world.restarts_ms.split_off(1);
    let panics = world.broker.panics();
    if panics.is_empty() { Ok(report) } else { Err(panics.join("\n")) }
}

/// One fault; afterwards no process is left.
fn strike(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    match rng.below(10) {
        // It stands still for a second, and goes on or dies.
        0 => {
            world.broker.signal(Signal::STOP);
            world.run(1000, Mood::Busy)?;
            world.broker.signal(Signal::CONT);
            world.run(rng.spread(1, 200) as u64, Mood::Busy)?;
        }
        // Once more while it recovers from the first time.
        1..4 => {
            world.broker.kill();
            world.fault();
            for _ in 0..rng.between(1, 3) {
                world.broker.start();
                pause(rng.spread(5, 100) as u64);
                world.broker.kill();
            }
        }
        4 => world.broker.stop(),
        _ => {}
    }
    world.broker.kill();
    world.fault();
    Ok(())
}

fn run_all(cycles: usize, durability: &str) -> Report {
    let seed: u64 = crate::setting("CRASH_SEED", 1);
    let wanted: String = crate::setting("CRASH_SHARDS", String::new());
    let mut total = Report::default();
    let runs = cycles.div_ceil(CYCLES_PER_RUN);
    for (at, seed) in (seed..).take(runs).enumerate() {
        let shards = match wanted.as_str() {
            "" => [Shards::Always(2), Shards::Changing, Shards::Always(1)][at % 3],
            "changing" => Shards::Changing,
            count => Shards::Always(count.parse().expect("CRASH_SHARDS is a number or `changing`")),
        };
        let report = run(shards, durability, CYCLES_PER_RUN.min(cycles), seed);
        let report = report.unwrap_or_else(|text| panic!("CRASH_SEED={seed} {shards:?}: {text}"));
        println!("seed={seed} shards={shards:?} {}", report.line());
        assert!(
            durability == "none" || report.is_clean(),
            "CRASH_SEED={seed} {shards:?}: {}\n{}",
            report.line(),
            report.story
        );
        total.add(report);
    }
    println!("kill -9, {durability}: {}", total.line());
    total
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    if crate::needs_durability() {
        return;
    }
    let durability: String = crate::setting("CRASH_DURABILITY", "fsync".into());
    run_all(crate::setting("CRASH_CYCLES", 30), &durability);
}

#[test]
fn without_durability_the_loss_is_seen() {
    let report = run_all(2, "none");
    assert!(report.count(Wrong::Lost) > 0, "{}", report.line());
    assert!(report.count(Wrong::SessionPresent) > 0, "{}", report.line());
}
