//! Ticks come when they are due, and an idle shard sleeps between them.

use shards::Millis;

use crate::common::{Act, Base, Seen, TestIo, settings, start};

/// One tick at 30, one at 60 ms, then a note with the number of times the ring was entered.
struct Ticks {
    left: usize,
}

impl Act for Ticks {
    fn start(&mut self, base: &mut Base, _: &mut TestIo) {
        base.deadline = Some(Millis(30));
    }

    fn tick(&mut self, base: &mut Base, io: &mut TestIo) {
        self.left -= 1;
        if self.left == 0 {
            base.see(Seen::Note(io.stats().enters));
        } else {
            base.deadline = Some(Millis(60));
        }
    }
}

#[test]
fn ticks_are_never_early_and_the_rest_is_sleep() {
    let rig = start(settings(1), |_| Ticks { left: 2 });
    let tick = |seen: &Seen| if let Seen::Tick(now) = seen { Some(*now) } else { None };
    assert!(rig.wait(tick) >= Millis(30));
    assert!(rig.wait(tick) >= Millis(60));
    let enters = rig.wait(|seen| if let Seen::Note(count) = seen { Some(*count) } else { None });
    assert!(enters < 20, "entered {enters} times for two ticks");
}
