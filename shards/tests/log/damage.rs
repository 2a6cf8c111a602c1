//! Rot: after any change of a stopped log either all acknowledged records are there, or the start
//! is refused. Two further readings never invent anything either.

use shards::log::scan::Checks;
use shards::log::{File, Mode, Verdict};
use shards::testing::Prng;

use crate::rig::{Known, Plant, World, seeds};

/// Changes one thing on the disk; says what.
pub(crate) fn mutate(world: &mut World, prng: &mut Prng) -> String {
    let files = world.disk.files();
    let files: Vec<File> =
        files.into_iter().filter(|file| !matches!(file, File::Draft(_))).collect();
    let file = files[prng.index(files.len())];
    let bytes = world.disk.read(file).len();
    if bytes < 0x1000 {
        return format!("nothing: {file} is short already");
    }
    let blocks = bytes / 0x1000;
    // Most of a segment is zero: aim at what was written, half of the time.
    let aimed = if prng.chance(500) { written_end(world.disk.read(file)) } else { bytes };
    let at = prng.index(aimed.max(1));
    match prng.below(8) {
        0..=1 => {
            let bit = prng.below(8);
            world.disk.rot(file, |bytes| bytes[at] ^= 1 << bit);
            format!("bit {bit} of byte {at:#x} of {file} flipped")
        }
        2 => {
            let end = bytes.min(at + 1 + prng.index(0x3000));
            world.disk.rot(file, |bytes| bytes[at..end].fill(0));
            format!("bytes {at:#x}..{end:#x} of {file} zeroed")
        }
        3 => {
            world.disk.rot(file, |bytes| bytes.truncate(at));
            format!("{file} cut to {at:#x} bytes")
        }
        4 => {
            let (one, two) = (prng.index(blocks.max(1)), prng.index(blocks.max(1)));
            world.disk.rot(file, |bytes| {
                let block = bytes[one * 0x1000..][..0x1000].to_vec();
                bytes.copy_within(two * 0x1000..(two + 1) * 0x1000, one * 0x1000);
                bytes[two * 0x1000..][..0x1000].copy_from_slice(&block);
            });
            format!("blocks {one} and {two} of {file} swapped")
        }
        5 => {
            let other = files[prng.index(files.len())];
            let (a, b) = (world.disk.read(file).to_vec(), world.disk.read(other).to_vec());
            world.disk.rot(file, |bytes| *bytes = b);
            world.disk.rot(other, |bytes| *bytes = a);
            format!("{file} and {other} swapped")
        }
        6 => {
            world.disk.uninstall(file);
            format!("{file} deleted")
        }
        _ => {
            let end = bytes.min(at + 1 + prng.index(0x2000));
            let noise = prng.bytes(end - at);
            world.disk.rot(file, |bytes| bytes[at..end].copy_from_slice(&noise));
            format!("bytes {at:#x}..{end:#x} of {file} overwritten with noise")
        }
    }
}

fn written_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// `part` is `all` with some records left out.
pub(crate) fn is_part(part: &[Known], all: &[Known]) -> bool {
    let mut all = all.iter();
    part.iter().all(|record| all.any(|known| known == record))
}

/// A log that was at work for a while, crashed a few times, and is at rest; its process ended.
pub(crate) fn world_at_rest(seed: u64) -> World {
    let mut world = World::new(seed, Plant::Nothing);
    world.run(seed % 3).unwrap();
    let mut log = world.recover().unwrap();
    world.settle(&mut log);
    world.work(&mut log, 150);
    world.rest(&mut log);
    world.copy(seed)
}

#[test]
fn acknowledged_records_are_never_missing_silently() {
    let (mut full, mut refused) = (0, 0);
    for seed in seeds(150) {
        let world = world_at_rest(seed);
        for round in 0..4 {
            let mut prng = Prng::stream(seed * 4 + round, "damage");
            let mut world = world.copy(seed);
            let what = mutate(&mut world, &mut prng);
            let (recovered, records) = world.scan(Mode::Strict, Checks::All);
            if let Verdict::Corrupt(_) = recovered.verdict {
                assert_eq!(recovered.resume, None, "SEED={seed}: {what}");
                refused += 1;
            } else {
                let same = world.check(&records);
                assert_eq!(same, Ok(()), "SEED={seed}: {what}: {:?}", recovered.verdict);
                full += 1;
            }
            let (_, records) = world.scan(Mode::PointInTime, Checks::All);
            let known = world.known.iter().skip(world.gone(&records));
            assert!(
                records.iter().zip(known).all(|(a, b)| a == b),
                "SEED={seed}: {what}: point in time"
            );
            let (_, records) = world.scan(Mode::Salvage, Checks::All);
            assert!(is_part(&records, &world.ever), "SEED={seed}: {what}: salvage");
        }
    }
    println!("{full} complete, {refused} refused");
    assert!(full > 0 && refused > 0, "{full} complete, {refused} refused");
}

/// Damage to a log that was being written: the tail may go, nothing may be made up.
#[test]
fn damage_after_a_crash_invents_nothing() {
    for seed in seeds(100) {
        let mut world = World::new(seed, Plant::Nothing);
        world.run(seed % 3).unwrap();
        let mut log = world.recover().unwrap();
        world.settle(&mut log);
        world.work(&mut log, 100);
        world.crash();
        let mut prng = Prng::stream(seed, "damage");
        let mut what = String::new();
        for _ in 0..=prng.below(4) {
            what = format!("{what}; {}", mutate(&mut world, &mut prng));
        }
        world.floor = 0;
        let (_, records) = world.scan(Mode::Strict, Checks::All);
        assert_eq!(world.check(&records), Ok(()), "SEED={seed}: {what}");
        let (_, records) = world.scan(Mode::Salvage, Checks::All);
        assert!(is_part(&records, &world.ever), "SEED={seed}: {what}");
    }
}
