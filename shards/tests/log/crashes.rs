//! Crashes at any moment, errors, short writes, a full disk.

use crate::rig::{Plant, World, seeds};

#[test]
fn durable_records_survive_any_crash() {
    let (mut acknowledged, mut torn, mut crashes, mut failures, mut records) = (0, 0, 0, 0, 0);
    for seed in seeds(300) {
        let mut world = World::new(seed, Plant::Nothing);
        let outcome = world.run(6);
        assert!(outcome.is_ok(), "SEED={seed}: {}", outcome.unwrap_err());
        acknowledged += world.totals.acknowledged;
        torn += world.totals.torn;
        crashes += world.totals.crashes;
        failures += world.totals.failures;
        records += world.totals.records;
    }
    println!(
        "{records} records, {acknowledged} acknowledged, {crashes} crashes, {torn} torn tails, \
         {failures} failed logs"
    );
}
