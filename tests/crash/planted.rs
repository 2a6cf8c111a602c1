//! The judge is judged: without a bug it finds nothing, and it finds each planted one.

use crate::broker::{Broker, Setup};
use crate::judge::{Report, judge};
use crate::ledger::Wrong;
use crate::load;
use crate::rng::Rng;
use crate::tamper::{BUGS, Bug, Tamper};
use crate::world::{Mood, World};

/// A run in which only connections break: even a broker that keeps everything in memory passes it.
fn run(bug: Bug, shards: usize, seed: u64) -> Report {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut rng = Rng::new(seed, "faults");
    let setup = Setup::new("none", shards);
    let broker = Broker::new(setup, folder.path(), &folder.path().join("data"), &mut rng);
    let tamper = Tamper::new(bug, rng.between(30, 100));
    let mut world = World::new(broker, load::draw(seed), tamper, seed);
    if bug != Bug::None {
        world.hasten();
    }
    let ended = cuts(&mut world, &mut rng);
    assert!(ended.is_ok(), "seed {seed}, {bug:?}: {}", ended.unwrap_err());
    assert!(bug == Bug::None || world.tamper.has_struck(), "seed {seed}: {bug:?} had no chance");
    let retained = world.clients.last().unwrap().retained.clone();
    judge(&mut world.ledger, &retained)
}

fn cuts(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    world.start_broker();
    for round in 0..ROUNDS_MAX {
        if round >= ROUNDS && world.tamper.is_done() {
            break;
        }
        world.run(rng.spread(50, 400) as u64, Mood::Busy)?;
        world.until_answered()?;
        world.fault();
    }
    world.come_to_rest()
}

/// How often connections break.
const ROUNDS: usize = 4;

/// How often at most: on a busy host little happens in a round, and a bug may wait for its chance.
const ROUNDS_MAX: usize = 100;

/// Runs in which a bug has to be found.
const RUNS_PER_BUG: u64 = 5;

/// What each bug is to the judge.
fn expected(bug: Bug) -> Option<Wrong> {
    match bug {
        Bug::None => None,
        Bug::AckAndDrop1 | Bug::AckAndDrop2 | Bug::ForgetSubscription => Some(Wrong::Lost),
        Bug::Duplicate => Some(Wrong::Duplicate),
        Bug::Swap => Some(Wrong::Order),
        Bug::KeepSubscription | Bug::RaiseQos => Some(Wrong::Subscription),
        Bug::ForgetRetained => Some(Wrong::Retained),
        Bug::Damage => Some(Wrong::Phantom),
        Bug::DenySession => Some(Wrong::SessionPresent),
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let seed = crate::setting("CRASH_SEED", 1);
    for (shards, seed) in [(1, seed), (2, seed + 1)] {
        let report = run(Bug::None, shards, seed);
        println!("shards={shards} seed={seed} {}", report.line());
        assert!(report.is_clean(), "seed {seed}: {}\n{}", report.line(), report.story);
        assert!(report.acked > 100, "{}", report.line());
    }
}

#[test]
fn every_planted_bug_is_found() {
    for (seed, bug) in (100..).zip(BUGS) {
        let wrong = expected(*bug).unwrap();
        // What is exchanged may happen to be two messages that have no order.
        let found = (0..RUNS_PER_BUG).any(|run_number| {
            let report = run(*bug, 1, seed + 100 * run_number);
            println!("{bug:?}: {}", report.line());
            report.count(wrong) > 0
        });
        assert!(found, "seed {seed}: {bug:?} is not found");
    }
}
