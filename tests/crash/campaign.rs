//! Runs: one directory, some faults, one judgement; and several of them.

use std::path::Path;

use rustix::process::Signal;

use crate::broker::{Broker, Setup, pause};
use crate::disk::{Disk, Loss};
use crate::judge::{Report, judge, sum_up};
use crate::ledger::{Finding, Wrong};
use crate::load;
use crate::rng::Rng;
use crate::tamper::{Bug, Tamper};
use crate::world::{Mood, World};

/// Most faults between two judgements. More of them would only make a failure harder to read.
const CYCLES_PER_RUN: usize = 15;

/// A file system holds the segments of two shards, spare ones too, and what a run adds.
const DISK_BYTES: u64 = 4 << 30;

/// How the number of shards changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shards {
    Always(usize),
    /// Another number at each start: sessions move to other shards.
    Changing,
}

/// What is done to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, at times during recovery too, at times after SIGSTOP; at times an orderly stop.
    Kill,
    /// The disk loses its power, then the broker is killed.
    PowerCut(Loss),
}

/// What is run.
#[derive(Clone, Debug)]
pub(crate) struct Campaign {
    pub(crate) fault: Fault,
    pub(crate) cycles: usize,
    pub(crate) setup: Setup,
}

impl Campaign {
    /// Runs until all cycles are done or something is found.
    ///
    /// # Errors
    /// What this host lacks.
    pub(crate) fn run(&self) -> Result<Report, String> {
        let first: u64 = crate::setting("CRASH_SEED", 1);
        let wanted: String = crate::setting("CRASH_SHARDS", String::new());
        let durability = &self.setup.durability;
        let mut total = Report::default();
        let mut left = self.cycles;
        let mut seed = first;
        while left > 0 && total.is_clean() {
            let shards = match wanted.as_str() {
                "" if seed % 3 == 2 && crate::REHOMING_BUILT => Shards::Changing,
                "" => Shards::Always(if seed.is_multiple_of(2) { 1 } else { 2 }),
                "changing" => Shards::Changing,
                count => Shards::Always(count.parse().expect("CRASH_SHARDS=N or `changing`")),
            };
            let cycles = left.min(CYCLES_PER_RUN);
            let report = self.one(shards, cycles, seed)?;
            println!(
                "CRASH_SEED={seed} {shards:?} {durability} {:?} {}",
                self.fault,
                report.line()
            );
            total.add(report);
            left -= cycles;
            seed += 1;
        }
        println!("{:?}, {durability}, in all: {}", self.fault, total.line());
        Ok(total)
    }

    fn one(&self, shards: Shards, cycles: usize, seed: u64) -> Result<Report, String> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut disk = match self.fault {
            Fault::Kill => None,
            Fault::PowerCut(loss) => Some(Disk::make(folder.path(), DISK_BYTES, loss)?),
        };
        let data = disk.as_ref().map_or(folder.path(), |disk| &disk.path).join("data");
        let mut rng = Rng::new(seed, "faults");
        let mut setup = self.setup.clone();
        if let Shards::Always(count) = shards {
            setup.shards = count;
        }
        // Mostly segments are changed, cleaned and removed; some runs take the usual size.
        let sizes = [1 << 20, 1 << 18, 1 << 16, 4 << 20, 64 << 20];
        let usual = sizes.into_iter().cycle().nth(usize::from(seed.to_le_bytes()[0])).unwrap();
        setup.segment_bytes = crate::setting("CRASH_SEGMENT_BYTES", usual);
        let mut world = world((folder.path(), &data), setup, seed, &mut rng);
        let ended = Self::faults(&mut world, disk.as_mut(), (shards, cycles), &mut rng);
        Ok(judged(&mut world, ended))
    }

    fn faults(
        world: &mut World,
        mut disk: Option<&mut Disk>,
        (shards, cycles): (Shards, usize),
        rng: &mut Rng,
    ) -> Result<(), String> {
        world.start_broker();
        for _ in 0..cycles {
            // Most of the time it serves first; else the fault may come before.
            if rng.chance(750) {
                world.until_served()?;
            }
            world.run(rng.spread(50, 1500) as u64, Mood::Busy)?;
            match &mut disk {
                None => strike(world, rng)?,
                Some(disk) => cut(world, disk, rng)?,
            }
            world.may_end = false;
            if shards == Shards::Changing {
                world.broker.setup.shards = rng.between(1, 2);
            }
            world.start_broker();
        }
        world.come_to_rest()
    }
}

/// Clients of a seed, and a broker that is not started.
pub(crate) fn world(
    (folder, data): (&Path, &Path),
    setup: Setup,
    seed: u64,
    rng: &mut Rng,
) -> World {
    let in_memory = setup.durability == "none";
    let broker = Broker::new(setup, folder, data, rng);
    let mut world = World::new(broker, load::draw(seed), Tamper::new(Bug::None, 0), seed);
    if in_memory {
        world.hasten();
    }
    world
}

/// What is to be said of a run that came to rest, or did not.
pub(crate) fn judged(world: &mut World, ended: Result<(), String>) -> Report {
    let panics = world.broker.panics();
    let ended = ended.and(if panics.is_empty() { Ok(()) } else { Err(panics.join("\n")) });
    let retained = world.clients.last().unwrap().retained.clone();
    let mut report = match ended {
        Ok(()) => judge(&mut world.ledger, &retained),
        Err(text) => {
            let finding = Finding { wrong: Wrong::Ended, text, message: None, client: None };
            world.ledger.findings.push(finding);
            sum_up(&world.ledger)
        }
    };
    report.restarts_ms = world.restarts_ms.split_off(1.min(world.restarts_ms.len()));
    report
}

/// One fault; afterwards no process is left.
fn strike(world: &mut World, rng: &mut Rng) -> Result<(), String> {
    match rng.below(10) {
        // It stands still for a second, and goes on for a while.
        0 => {
            world.broker.signal(Signal::STOP);
            world.run(1000, Mood::Busy)?;
            world.broker.signal(Signal::CONT);
            world.run(rng.spread(1, 200) as u64, Mood::Busy)?;
        }
        // Again and again while it recovers from the first time.
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

/// The disk goes first: what the broker says in the time it still has must hold all the same.
fn cut(world: &mut World, disk: &mut Disk, rng: &mut Rng) -> Result<(), String> {
    disk.cut();
    world.may_end = true;
    world.run(rng.spread(1, 100) as u64, Mood::Busy)?;
    world.broker.kill();
    world.fault();
    disk.power_on(rng);
    Ok(())
}
