//! Damage that the operator accepted: the log goes on, and later starts do not ask again.

use shards::log::scan::Checks;
use shards::log::{Mode, Verdict};
use shards::testing::Prng;

use crate::damage::{is_part, mutate, world_at_rest};
use crate::rig::seeds;

fn goes_on_after(mode: Mode, seeds: impl Iterator<Item = u64>) {
    let mut accepted = 0;
    for seed in seeds {
        let mut world = world_at_rest(seed);
        let mut prng = Prng::stream(seed, "accepted");
        let what = mutate(&mut world, &mut prng);
        let (recovered, records) = world.scan(mode, Checks::All);
        let Verdict::Corrupt(_) = recovered.verdict else { continue };
        assert!(is_part(&records, &world.ever), "SEED={seed}: {what}");
        let resume = recovered.resume.unwrap_or_else(|| panic!("SEED={seed}: {what}: refused"));
        let last = world.known.last().map_or(0, |(lsn, ..)| lsn.0);
        assert!(resume.next_lsn.0 > last, "SEED={seed}: {what}: a number is used twice");
        world.restore(&recovered.foreign);
        world.known = records;
        world.floor = 0;
        let mut log = world.open(&resume);
        world.settle(&mut log);
        assert!(log.is_open(), "SEED={seed}: {what}");
        world.work(&mut log, 60);
        world.crash();
        let outcome = world.recover();
        assert!(outcome.is_ok(), "SEED={seed}: {what}: {}", outcome.unwrap_err());
        let outcome = world.run(2);
        assert!(outcome.is_ok(), "SEED={seed}: {what}: {}", outcome.unwrap_err());
        accepted += 1;
    }
    assert!(accepted > 0);
}

#[test]
fn point_in_time_is_remembered() {
    goes_on_after(Mode::PointInTime, seeds(100));
}

#[test]
fn salvage_is_remembered() {
    goes_on_after(Mode::Salvage, seeds(100));
}

/// Segments before one whose header is damaged stay: a reading that began there would find batches
/// that an earlier start had cut off.
#[test]
fn a_release_never_ends_at_a_segment_without_header() {
    goes_on_after(Mode::Salvage, 6112..6113);
}
