//! The rig is tested too: a writer that lies, and a scanner that looks away, must be caught.

use shards::log::scan::Checks;
use shards::log::{File, Log, Lsn, Mode, Verdict};

use crate::rig::{Known, Plant, World, seeds};

fn caught(plant: Plant) -> usize {
    let runs = seeds(60);
    let caught = runs.clone().filter(|seed| World::new(*seed, plant).run(6).is_err()).count();
    println!("{plant:?}: caught in {caught} of {} runs", runs.count());
    caught
}

#[test]
fn writer_that_acknowledges_before_the_sync_is_caught() {
    assert!(caught(Plant::AckOnAppend) > 0);
}

#[test]
fn driver_that_skips_the_sync_is_caught() {
    assert!(caught(Plant::SkipSync) > 0);
}

/// A log with batches of one record each, all of one length; `fill` is all that differs.
fn log_of(fill: u8) -> World {
    let mut world = World::new(7, Plant::Nothing);
    let mut log: Log = world.recover().unwrap();
    world.settle(&mut log);
    for _ in 0..6 {
        let body = vec![fill; 100];
        let lsn = log.append(1, &body, shards::log::Urgency::Usual).unwrap().lsn;
        world.known.push((lsn, 1, body));
        world.settle(&mut log);
    }
    world.rest(&mut log);
    world
}

/// A batch that the drive wrote to the wrong file: same epoch, number, LSN and length as the one
/// that belongs there. Only the chain tells.
#[test]
fn scanner_that_ignores_the_chain_is_caught() {
    let (mut world, sister) = (log_of(b'a'), log_of(b'b'));
    let file = File::Segment(1);
    let at = 0x1000 * 5;
    let stray = sister.disk.read(file)[at..at + 0x1000].to_vec();
    assert_eq!(world.disk.read(file)[at..at + 0x40][..0x28], stray[..0x28], "twins");
    world.disk.rot(file, |bytes| bytes[at..at + 0x1000].copy_from_slice(&stray));

    let (recovered, records) = world.scan(Mode::Strict, Checks::All);
    let Verdict::Corrupt(damage) = recovered.verdict else { panic!("{:?}", recovered.verdict) };
    assert_eq!(damage.file, file);
    // The twin itself may follow the batch before it; then its successor does not follow the twin.
    assert!(damage.offset == 0x5000 || damage.offset == 0x6000, "{damage:?}");
    assert_eq!(recovered.resume, None);
    drop(records);

    let (_, records) = world.scan(Mode::Strict, Checks::AllButTheChain);
    let error = world.check(&records).unwrap_err();
    assert_eq!(error, "record 3 of 6 is invented");
}

#[test]
fn check_knows_order_loss_and_invention() {
    let mut world = log_of(b'a');
    let all = world.known.clone();
    assert_eq!(world.check(&all), Ok(()));
    world.floor = 6;
    assert!(world.check(&all[..5]).is_err());
    world.floor = 5;
    assert_eq!(world.check(&all[..5]), Ok(()));
    let mut swapped = all.clone();
    swapped.swap(1, 2);
    assert!(world.check(&swapped).is_err());
    let extra: Vec<Known> = all.iter().cloned().chain([(Lsn(99), 0, vec![])]).collect();
    assert!(world.check(&extra).is_err());
}
