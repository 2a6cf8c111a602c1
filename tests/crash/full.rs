//! A full disk: nothing that cannot be kept is acknowledged, and the broker goes on by itself when
//! there is room again.

use std::fs::File;

use rustix::fs::{FallocateFlags, fallocate};

use crate::broker::{Broker, Setup};
use crate::client::Plan;
use crate::disk::{Disk, Loss};
use crate::judge::judge;
use crate::ledger::Kind;
use crate::load::{self, Load};
use crate::packet::Version;
use crate::rng::Rng;
use crate::tamper::{Bug, Tamper};
use crate::world::{Mood, World};

/// Room for the segments of one shard and two spare ones, and some more to fill.
const DISK_BYTES: u64 = 512 << 20;

/// What is given back when the disk is full.
const BALLAST_BYTES: u64 = 160 << 20;

/// Bytes of one message.
const MESSAGE_BYTES: usize = 100_000;

/// How long the broker may take to notice that there is room, in milliseconds.
const NOTICE_MS: u64 = 60_000;

/// Between two messages to a disk that may still be full, in milliseconds.
const PAUSE_MS: u64 = 20;

/// Places of the clients in [`load`].
const FILLER_V5: usize = 0;
const FILLER_V3: usize = 1;
const WATCHER: usize = 2;

/// Two publishers and a subscriber who is away.
fn fillers() -> Load {
    let filler = |name, version| Plan { window: 5, ..load::plan(name, version, load::LONG_S) };
    let watcher = Plan {
        wants: vec![load::want("t/0", 1, false)],
        ..load::plan("watcher", Version::V5, load::LONG_S)
    };
    let plans = vec![
        filler("filler5", Version::V5),
        filler("filler3", Version::V311),
        watcher,
        load::plan("prober", Version::V5, 0),
        load::plan("reader", Version::V5, 0),
    ];
    Load { topics: vec!["t/0".into()], plans }
}

/// Publishes as fast as the window allows until `done`, or nothing moves for so long.
fn fill(
    world: &mut World,
    filler: usize,
    still_ms: u64,
    done: impl Fn(&World) -> bool,
) -> Result<(), String> {
    let (mut answers, mut since) = (0, world.now());
    while !done(world) {
        let client = &mut world.clients[filler];
        if client.is_live() && client.has_room() {
            let what = (Kind::Publish, false, MESSAGE_BYTES);
            client.publish(0, 1, what, &mut world.ledger);
        }
        world.tick(Mood::Calm)?;
        let now = acked(world) + refused(world);
        if now > answers {
            (answers, since) = (now, world.now());
        }
        if world.now() > since + still_ms {
            return Ok(());
        }
        let bytes = (acked(world) * MESSAGE_BYTES) as u64;
        assert!(bytes < DISK_BYTES, "{bytes} bytes are acknowledged, they cannot be kept");
    }
    Ok(())
}

/// Publishes now and then until so many are acknowledged, or nothing is taken or delivered for
/// long: who has to take two thousand messages on a busy host needs his time.
fn fill_again(world: &mut World, filler: usize, enough: usize) -> Result<(), String> {
    let (mut moved, mut since, mut next) = (0, world.now(), world.now());
    while acked(world) < enough && world.now() < since + NOTICE_MS {
        let now = world.now();
        let client = &mut world.clients[filler];
        if now >= next && client.is_live() && client.has_room() {
            client.publish(0, 1, (Kind::Publish, false, MESSAGE_BYTES), &mut world.ledger);
            next = now + PAUSE_MS;
        }
        world.tick(Mood::Calm)?;
        let now_moved = acked(world) as u64 + world.ledger.delivered;
        if now_moved > moved {
            (moved, since) = (now_moved, world.now());
        }
    }
    Ok(())
}

fn acked(world: &World) -> usize {
    world.ledger.messages.iter().filter(|message| message.acked.is_some()).count()
}

fn refused(world: &World) -> usize {
    world.ledger.messages.iter().filter(|message| message.refused).count()
}

/// What gives room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relief {
    /// Files of others are removed.
    Ballast,
    /// The subscriber comes back and takes what was kept for it.
    Drain,
}

fn run(
    folder: &std::path::Path,
    disk: &Disk,
    restart: bool,
    relief: Relief,
) -> Result<World, String> {
    let ballast = disk.path.join("ballast");
    let file = File::create(&ballast).map_err(|error| error.to_string())?;
    fallocate(&file, FallocateFlags::empty(), 0, BALLAST_BYTES).expect("there is room for it");
    let mut rng = Rng::new(crate::setting("CRASH_SEED", 1), "faults");
    let setup = Setup::new("fsync", 1);
    let broker = Broker::new(setup, folder, &disk.path.join("data"), &mut rng);
    let mut world = World::new(broker, fillers(), Tamper::new(Bug::None, 0), 1);
    world.start_broker();
    while !world.clients.iter().all(|client| client.is_quiet() || client.plan.name == "reader") {
        world.tick(Mood::Calm)?;
    }
    world.clients[WATCHER].disconnect(&mut world.ledger);
    world.clients[WATCHER].rest_until = u64::MAX;
    fill(&mut world, FILLER_V5, 10_000, |world| refused(world) >= 10)?;
    let is_refused = refused(&world) >= 10 || !crate::FULL_IS_REFUSED;
    assert!(is_refused, "MQTT 5.0: neither taken nor refused (0x97)");
    assert!(acked(&world) > 10, "nothing was taken at all");
    fill(&mut world, FILLER_V3, 3_000, |_| false)?;
    println!("full: acked={} refused={}", acked(&world), refused(&world));
    if restart {
        world.broker.kill();
        world.fault();
        world.start_broker();
        world.run(1_000, Mood::Calm)?;
    }
    if relief == Relief::Ballast {
        std::fs::remove_file(&ballast).map_err(|error| error.to_string())?;
    } else {
        world.clients[WATCHER].rest_until = 0;
    }
    drop(file);
    let enough = acked(&world) + 20;
    fill_again(&mut world, FILLER_V5, enough)?;
    assert!(acked(&world) >= enough, "there is room again, and nothing is taken");
    world.come_to_rest()?;
    Ok(world)
}

fn check(restart: bool, relief: Relief) {
    if crate::needs_durability() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let disk = match Disk::make(folder.path(), DISK_BYTES, Loss::FileSystem) {
        Ok(disk) => disk,
        Err(text) => return crate::not_run(&text),
    };
    let mut world =
        run(folder.path(), &disk, restart, relief).unwrap_or_else(|text| panic!("{text}"));
    let retained = world.clients.last().unwrap().retained.clone();
    let report = judge(&mut world.ledger, &retained);
    println!("full disk, restart={restart} {relief:?}: {}", report.line());
    assert!(report.is_clean(), "{}\n{}", report.line(), report.story);
    assert!(world.broker.panics().is_empty(), "{:?}", world.broker.panics());
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    check(false, Relief::Ballast);
}

#[test]
fn a_full_disk_outlives_a_crash() {
    check(true, Relief::Ballast);
}

#[test]
fn a_full_disk_is_drained_by_subscribers() {
    check(false, Relief::Drain);
}

#[test]
fn a_full_disk_is_drained_after_a_crash() {
    check(true, Relief::Drain);
}
