//! `durability = "interval"`: a power cut takes what was acknowledged since the last sync, and
//! nothing that is older.

use crate::broker::{Broker, Setup};
use crate::client::Plan;
use crate::disk::{Disk, Loss};
use crate::ledger::Kind;
use crate::load::{self, Load};
use crate::packet::Version;
use crate::rng::Rng;
use crate::tamper::{Bug, Tamper};
use crate::world::{Mood, World};

/// The usual interval, and time for a sync on a busy host.
const WINDOW_MS: u64 = 200 + 2_000;

const DISK_BYTES: u64 = 1 << 30;

/// Places of the clients in [`load`].
const FILLER: usize = 0;
const WATCHER: usize = 1;

/// A publisher, and a subscriber who is away.
fn load() -> Load {
    let filler = Plan { window: 5, ..load::plan("filler", Version::V5, load::LONG_S) };
    let watcher = Plan {
        wants: vec![load::want("t/0", 1, false)],
        ..load::plan("watcher", Version::V311, load::LONG_S)
    };
    let (prober, reader) = (("prober", Version::V5), ("reader", Version::V5));
    let last = [prober, reader].map(|(name, version)| load::plan(name, version, 0));
    Load { topics: vec!["t/0".into()], plans: [filler, watcher].into_iter().chain(last).collect() }
}

/// Publishes for so long. Gives what was acknowledged, and when.
fn publish(world: &mut World, ms: u64) -> Result<Vec<(usize, u64)>, String> {
    let (end, mut acked) = (world.now() + ms, Vec::new());
    let mut open: Vec<usize> = Vec::new();
    while world.now() < end {
        let client = &mut world.clients[FILLER];
        if client.is_live() && client.has_room() {
            let what = (Kind::Publish, false, 100);
            client.publish(0, 1, what, &mut world.ledger);
            open.push(world.ledger.messages.len() - 1);
        }
        world.tick(Mood::Calm)?;
        let now = world.now();
        let done = |at: &mut usize| world.ledger.messages[*at].acked.is_some();
        acked.extend(open.extract_if(.., done).map(|at| (at, now)));
    }
    Ok(acked)
}

/// How old the oldest of the lost ones was, in milliseconds; how many were lost.
fn cut(world: &mut World, disk: &mut Disk, rng: &mut Rng) -> Result<(u64, usize), String> {
    let session = world.clients[WATCHER].session;
    world.clients[WATCHER].disconnect(&mut world.ledger);
    world.clients[WATCHER].rest_until = u64::MAX;
    let acked = publish(world, rng.between(500, 2_000) as u64)?;
    disk.cut();
    let cut_at = world.now();
    world.broker.kill();
    world.fault();
    disk.power_on(rng);
    world.start_broker();
    world.clients[WATCHER].rest_until = 0;
    let mut since = (world.now(), 0);
    let got = |world: &World| {
        world.clients[WATCHER].session.map_or(0, |at| world.ledger.sessions[at].copies.len())
    };
    // Until all are there, or no more come.
    while world.now() < since.0 + 3_000 || !world.clients[WATCHER].is_live() {
        world.tick(Mood::Calm)?;
        if got(world) > since.1 {
            since = (world.now(), got(world));
        }
    }
    if world.clients[WATCHER].session != session {
        return Err("the session is gone".into());
    }
    let copies = &world.ledger.sessions[session.unwrap()].copies;
    let lost: Vec<_> = acked.iter().filter(|(at, _)| !copies.contains_key(at)).collect();
    Ok((lost.first().map_or(0, |(_, ms)| cut_at - ms), lost.len()))
}

#[test]
fn a_power_cut_takes_only_what_came_since_the_last_sync() {
    if crate::needs_durability() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut disk = match Disk::make(folder.path(), DISK_BYTES, Loss::Drive) {
        Ok(disk) => disk,
        Err(text) => return crate::not_run(&text),
    };
    let seed = crate::setting("CRASH_SEED", 1);
    let mut rng = Rng::new(seed, "faults");
    let setup = Setup { segment_bytes: 1 << 20, ..Setup::new("interval", 1) };
    let broker = Broker::new(setup, folder.path(), &disk.path.join("data"), &mut rng);
    let mut world = World::new(broker, load(), Tamper::new(Bug::None, 0), seed);
    world.start_broker();
    world.until_served().unwrap();
    world.run(WINDOW_MS, Mood::Calm).unwrap();
    let (mut oldest, mut lost, cuts) = (0, 0, crate::setting("CRASH_CUTS", 5));
    for _ in 0..cuts {
        let (age, count) = cut(&mut world, &mut disk, &mut rng).unwrap_or_else(|text| {
            panic!("CRASH_SEED={seed}: {text}\n{}", world.broker.log_end());
        });
        assert!(age <= WINDOW_MS, "CRASH_SEED={seed}: lost {age} ms after its acknowledgement");
        (oldest, lost) = (oldest.max(age), lost + count);
    }
    println!(
        "interval, {cuts} power cuts: {lost} lost, the oldest acknowledged {oldest} ms before"
    );
    assert!(world.broker.panics().is_empty(), "{:?}", world.broker.panics());
}
