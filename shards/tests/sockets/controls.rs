//! Other threads reach a shard that sleeps.

use shards::LineFull;

use crate::common::{Plain, Seen, settings, start};

/// One at a time: each finds a shard that sleeps, or is about to.
#[test]
fn a_control_wakes_a_sleeper() {
    let rig = start(settings(2), |_| Plain);
    for control in 0..5_000 {
        let shard = usize::from(control % 2 == 0);
        assert_eq!(rig.remote.post(shard, control), Ok(()));
        let told = Seen::Control { shard, control };
        rig.wait(|seen| (*seen == told).then_some(()));
    }
    let watchdog = rig.running.as_ref().expect("running").watchdog();
    assert!(watchdog.wakes < 20, "5,000 controls by doorbell, {watchdog:?}");
}

#[test]
fn controls_of_many_threads_keep_the_order_of_each() {
    const EACH: u64 = 2_000;
    let rig = start(settings(1), |_| Plain);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let remote = rig.remote.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut control = thread << 32 | number;
                    while let Err(LineFull(back)) = remote.post(0, control) {
                        control = back;
                        std::thread::yield_now();
                    }
                }
            });
        }
    });
    let mut next = [0; 4];
    for _ in 0..4 * EACH {
        let control =
            rig.wait(
                |seen| {
                    if let Seen::Control { control, .. } = seen { Some(*control) } else { None }
                },
            );
        let thread = usize::try_from(control >> 32).expect("small");
        assert_eq!(control & 0xffff_ffff, next[thread]);
        next[thread] += 1;
    }
}
