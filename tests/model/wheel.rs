//! The timing wheel against a sorted set.

use proptest::collection::vec;
use proptest::prelude::*;
use shards::{Millis, Wheel};
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    /// Wants to be called so many ms from now; negative: is late already.
    Insert(i64),
    /// Time goes on.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    // Up to several rounds of the wheel ahead, at ticks of 1 to 200 ms.
    let ahead = prop_oneof![-500..500_i64, 0..50_000_i64, 0..400_000_000_i64];
    let pass = prop_oneof![0..20_u64, 0..5_000_u64, 0..300_000_u64, 0..500_000_000_u64];
    prop_oneof![3 => ahead.prop_map(Step::Insert), 2 => pass.prop_map(Step::Pass)]
}

proptest! {
    /// Exactly the keys come out whose deadline, rounded up to a tick, has passed.
    #[test]
    fn keys_come_out_as_from_a_sorted_set(
        tick_ms in 1_u64..200,
        start in 0_u64..1_000_000_000,
        steps in vec(step(), 1..120),
    ) {
        let mut now = start;
        let mut wheel = Wheel::new(Millis(now), tick_ms);
        let mut set: BTreeSet<(u64, usize)> = BTreeSet::new();
        // All ticks up to this one were asked for.
        let mut done = now / tick_ms;
        for (key, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert(ahead) => {
                    let deadline = now.saturating_add_signed(ahead);
                    wheel.insert(Millis(deadline), key);
                    set.insert((deadline.div_ceil(tick_ms).max(done + 1), key));
                }
                Step::Pass(ms) => {
                    now += ms;
                    done = now / tick_ms;
                    let mut due = Vec::new();
                    wheel.expire(Millis(now), &mut due);
                    due.sort_unstable();
                    let later = set.split_off(&(done + 1, 0));
                    let mut expected: Vec<usize> = set.into_iter().map(|(_, key)| key).collect();
                    expected.sort_unstable();
                    set = later;
                    prop_assert_eq!(due, expected);
                }
            }
            prop_assert_eq!((wheel.len(), wheel.is_empty()), (set.len(), set.is_empty()));
            let next = set.first().map(|(tick, _)| Millis(tick * tick_ms));
            prop_assert_eq!(wheel.next_deadline(), next);
        }
    }
}
