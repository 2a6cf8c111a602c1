//! The broker ends itself, or its disk fails, at named points: at each row of the table "what is
//! durable before what", at each step of the log, and while it recovers, cleans, and moves to
//! another number of shards (docs/durability.md).

use std::collections::BTreeSet;

use crate::broker::Setup;
use crate::campaign::{judged, world};
use crate::judge::Report;
use crate::rng::Rng;
use crate::world::{Mood, World};

/// A named point, and the latest time of passing it at which something happens.
type Point = (&'static str, usize);

/// Most points between two judgements.
const POINTS_PER_RUN: usize = 25;

/// The load reaches every point in a moment; a busy host may take a hundred times as long.
const REACHED_MS: u64 = 120_000;

/// A record is with the log and not written; it is durable and nobody was told; who waited for it
/// is about to be told.
const ARROWS: &[Point] = &[
    ("record.publish", 30),
    ("durable.publish", 30),
    ("send.puback", 40),
    ("record.retained", 10),
    ("durable.retained", 10),
    ("mail.stored", 5),
    ("mail.settled", 20),
    ("record.accepted", 20),
    ("durable.accepted", 20),
    ("send.pubrec", 40),
    ("record.exchange", 20),
    ("durable.exchange", 20),
    ("mail.exchange", 20),
    ("record.part", 20),
    ("durable.part", 20),
    ("mail.applied", 20),
    ("record.settled", 20),
    ("durable.settled", 20),
    ("record.released", 20),
    ("durable.released", 20),
    ("send.pubcomp", 40),
    ("record.subscribed", 12),
    ("durable.subscribed", 12),
    ("send.suback", 12),
    ("record.unsubscribed", 4),
    ("durable.unsubscribed", 4),
    ("send.unsuback", 4),
    ("record.ended", 1),
    ("durable.ended", 1),
    ("record.session", 12),
    ("durable.session", 12),
    ("send.connack", 20),
    ("send.publish0", 40),
    ("send.publish1", 80),
    ("send.publish2", 80),
    ("record.owned", 40),
    ("durable.owned", 40),
    ("send.pubrel", 40),
    ("record.done", 40),
    ("durable.done", 40),
    ("record.will", 2),
    ("durable.will", 2),
    ("record.unretained", 2),
    ("durable.unretained", 2),
];

/// Steps of the log while it runs.
const STEPS: &[Point] = &[
    ("log.write", 60),
    ("log.write.done", 60),
    ("log.sync", 60),
    ("log.sync.done", 60),
    ("mark.write", 3),
    ("mark.write.done", 3),
];

/// A segment is full and the next one begins; the one after it is made.
const SEGMENTS: &[Point] = &[
    ("log.header", 4),
    ("log.header.done", 4),
    ("draft.create", 3),
    ("draft.create.done", 3),
    ("draft.write", 12),
    ("draft.write.done", 12),
    ("draft.sync", 3),
    ("draft.sync.done", 3),
    ("draft.rename", 3),
    ("draft.rename.done", 3),
    ("directory.sync", 3),
    ("directory.sync.done", 3),
];

/// A start reads, and opens its logs anew.
const RECOVERY: &[Point] = &[
    ("recover.read", 4),
    ("recover.tidy", 2),
    ("recover.clear", 2),
    ("log.header", 2),
    ("log.header.done", 2),
    ("log.write", 2),
    ("log.sync", 4),
    ("log.sync.done", 4),
    ("ring.write", 2),
    ("ring.sync", 2),
    ("ring.sync.done", 2),
    ("manifest.write", 2),
    ("manifest.sync", 2),
    ("manifest.sync.done", 2),
];

/// What still holds of an old segment is written again, then it is removed.
const CLEANING: &[Point] = &[
    ("clean.read", 3),
    ("clean.durable", 3),
    ("clean.rest", 2),
    ("clean.release", 2),
    ("release.remove", 2),
    ("release.remove.done", 2),
];

/// All sessions move to another number of shards.
const MOVING: &[Point] = &[
    ("move.begun", 1),
    ("move.record", 20),
    ("move.close", 1),
    ("move.check", 1),
    ("move.switch", 1),
    ("file.rename", 1),
    ("file.rename.done", 1),
    ("move.switch.done", 1),
];

/// Steps that may fail, and what happens there. The broker ends with an error or goes on.
const ERRORS: &[(Point, &str)] = &[
    (("log.header", 4), "eio"),
    (("log.header", 4), "short"),
    (("log.write", 40), "eio"),
    (("log.write", 40), "short"),
    (("log.write", 40), "delay(20)"),
    (("log.sync", 40), "eio"),
    (("log.sync", 40), "delay(20)"),
    (("ring.write", 2), "eio"),
    (("ring.write", 2), "short"),
    (("ring.sync", 2), "eio"),
    (("manifest.write", 3), "eio"),
    (("manifest.write", 3), "short"),
    (("manifest.sync", 3), "eio"),
    (("draft.create", 3), "enospc"),
    (("draft.write", 9), "enospc"),
    (("draft.write", 9), "short"),
    (("draft.sync", 3), "enospc"),
    (("draft.rename", 3), "enospc"),
    (("directory.sync", 3), "eio"),
    (("mark.write", 2), "eio"),
    (("release.remove", 1), "eio"),
];

/// How a point is come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Under load, after a start in which it may be passed as well.
    Load,
    /// In a start; the next one is served for a while, so that there is something to recover.
    Start,
    /// In a start with another number of shards.
    Move,
}

/// Named points are part of this build.
pub(crate) fn are_built() -> bool {
    let built = cfg!(any(debug_assertions, feature = "failpoints"));
    if !built {
        crate::not_run("named points need a debug build, or the feature `failpoints`");
    }
    built && !crate::needs_durability()
}

/// Ends the broker at each of these points so many times; all of them have to be reached.
fn end_at(points: &[Point], way: Way) {
    if !are_built() {
        return;
    }
    let rounds: usize = crate::setting("CRASH_POINTS", 1);
    let (mut total, mut reached) = (Report::default(), Vec::new());
    let all: Vec<(Point, &str)> = (0..rounds)
        .flat_map(|round| {
            // Later, what was to be sent has been sent.
            let action = if round % 2 == 0 { "crash" } else { "crash(2)" };
            points.iter().map(move |point| (*point, action))
        })
        .collect();
    for (run, part) in all.chunks(POINTS_PER_RUN).enumerate() {
        let seed = crate::setting("CRASH_SEED", 1) + run as u64;
        let report = pass(part, way, seed, &mut reached);
        total.add(report);
        assert!(total.is_clean(), "CRASH_SEED={seed} {}\n{}", total.line(), total.story);
    }
    println!("{way:?}: {} ends at {} points: {}", reached.len(), points.len(), total.line());
    let reached: BTreeSet<&str> = reached.into_iter().collect();
    let missed: Vec<_> = points.iter().filter(|point| !reached.contains(point.0)).collect();
    assert!(missed.is_empty(), "never reached: {missed:?}");
}

/// One directory; the points one after the other; one judgement.
fn pass(
    points: &[(Point, &'static str)],
    way: Way,
    seed: u64,
    reached: &mut Vec<&'static str>,
) -> Report {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut rng = Rng::new(seed, "points");
    let setup = Setup { segment_bytes: 1 << 20, ..Setup::new("fsync", 2) };
    let mut world = world((folder.path(), &folder.path().join("data")), setup, seed, &mut rng);
    let ended = pass_all(&mut world, (points, way), &mut rng, reached);
    judged(&mut world, ended)
}

fn pass_all(
    world: &mut World,
    (points, way): (&[(Point, &'static str)], Way),
    rng: &mut Rng,
    reached: &mut Vec<&'static str>,
) -> Result<(), String> {
    for ((name, latest), action) in points {
        if way != Way::Load {
            world.start_broker();
            world.until_served()?;
            world.run(rng.spread(50, 400) as u64, Mood::Busy)?;
            end(world);
        }
        if way == Way::Move {
            world.broker.setup.shards = 3 - world.broker.setup.shards;
        }
        let value = format!("{name}={action}@{}", rng.between(1, *latest));
        world.broker.setup.environment = vec![("CULEX_FAILPOINTS".into(), value)];
        world.may_end = true;
        world.start_broker();
        let until = world.now() + if action.starts_with("crash") { REACHED_MS } else { 1_500 };
        while world.now() < until && world.broker.ended().is_none() {
            world.run(5, Mood::Busy)?;
        }
        if world.broker.ended_at_point() {
            reached.push(name);
        }
        end(world);
        world.may_end = false;
        world.broker.setup.environment.clear();
    }
    world.start_broker();
    world.come_to_rest()
}

fn end(world: &mut World) {
    world.broker.kill();
    world.fault();
}

#[test]
fn nothing_acknowledged_is_lost_by_an_end_at_any_arrow() {
    end_at(ARROWS, Way::Load);
}

#[test]
fn nothing_acknowledged_is_lost_by_an_end_at_any_step_of_the_log() {
    end_at(STEPS, Way::Load);
    end_at(SEGMENTS, Way::Load);
}

#[test]
fn nothing_acknowledged_is_lost_by_an_end_during_recovery() {
    end_at(RECOVERY, Way::Start);
}

#[test]
fn nothing_acknowledged_is_lost_by_an_end_while_the_log_is_cleaned() {
    end_at(CLEANING, Way::Load);
}

#[test]
fn nothing_acknowledged_is_lost_by_an_end_while_sessions_move() {
    if crate::REHOMING_BUILT {
        end_at(MOVING, Way::Move);
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_an_error_at_any_step_of_the_log() {
    if !are_built() {
        return;
    }
    let mut total = Report::default();
    for round in 0..crate::setting("CRASH_POINTS", 1) {
        let seed = crate::setting("CRASH_SEED", 1) + round;
        total.add(pass(ERRORS, Way::Load, seed, &mut Vec::new()));
        assert!(total.is_clean(), "CRASH_SEED={seed} {}\n{}", total.line(), total.story);
    }
    println!("errors at {} steps: {}", ERRORS.len(), total.line());
}
