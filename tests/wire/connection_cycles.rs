//! Connections come and go; the broker stays as it was.

use crate::harness::{Test, V5, V311_AND_V5, each_with};

/// One life of a client, ended in one of four ways.
fn cycle(test: &mut Test<'_>, number: usize) {
    test.run(
        "
        a connects will=~/w wp=x
        a subscribes ~/t q1 ~/u/+ q2
    ",
    );
    test.run(["a leaves", "a resets", "a drops", "a publishes ~/t q1 p=x\n a drops"][number % 4]);
}

#[test]
fn connect_and_disconnect_leave_nothing_behind() {
    // [MQTT-4.1.0-2]; CULEX_TEST_CYCLES asks for more
    let cycles: usize =
        std::env::var("CULEX_TEST_CYCLES").map_or(5000, |text| text.parse().expect("a number"));
    // Who is gone without a word may still be there for the broker when it comes back.
    each_with("[limits]\ntakeovers_per_min_max = 0\n", V5, |test| {
        for number in 0..cycles / 10 {
            cycle(test, number);
        }
        test.run("a connects");
        let (descriptors, memory) = test.broker.descriptors_and_memory();
        test.run("a leaves");
        for number in 0..cycles {
            cycle(test, number);
        }
        test.run("a connects");
        let (descriptors_after, memory_after) = test.broker.descriptors_and_memory();
        // A reset may still be on its way.
        assert!(descriptors_after <= descriptors + 2, "{descriptors} to {descriptors_after}");
        let growth = memory_after.saturating_sub(memory);
        assert!(growth <= 4000, "memory grew by {growth} kB");
    });
}

#[test]
fn many_connections_at_once() {
    each_with("", V311_AND_V5, |test| {
        let (descriptors, _) = test.broker.descriptors_and_memory();
        for number in 0..200 {
            test.run(&format!("c{number} connects\n c{number} subscribes ~/t q1"));
        }
        test.run("c0 publishes ~/t q1 p=all");
        for number in 0..200 {
            test.run(&format!("c{number} gets ~/t q1 p=all\n c{number} leaves"));
        }
        let (after, _) = test.broker.descriptors_and_memory();
        // The last closes may still be under way.
        assert!(after <= descriptors + 20, "{descriptors} to {after}");
    });
}

#[test]
fn sessions_that_end_are_forgotten() {
    // [MQTT-4.1.0-2] [MQTT-3.1.2-4]
    each_with("", V311_AND_V5, |test| {
        let life = |test: &mut Test<'_>, number: usize| {
            test.run(&format!(
                "
                a connects id=~{number}
                a subscribes ~/{number}/+ q1
                a > connect id=~{number}
                a ended 0x82
            "
            ));
        };
        for number in 0..1000 {
            life(test, number);
        }
        let (_, memory) = test.broker.descriptors_and_memory();
        for number in 1000..4000 {
            life(test, number);
        }
        let (_, after) = test.broker.descriptors_and_memory();
        assert!(after.saturating_sub(memory) <= 2000, "{memory} kB to {after} kB");
    });
}
