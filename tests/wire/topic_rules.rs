//! Illegal topic names and filters.

use crate::harness::{ALL, Event, V5, check, each, each_with};

#[test]
fn illegal_topic_names_end_the_connection() {
    // [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-3.3.2-1] [MQTT-1.5.4-1]
    // [MQTT-1.5.4-2]; 3.1.1: [MQTT-3.3.2-2] [MQTT-4.7.1-1] [MQTT-4.7.3-1] [MQTT-1.5.3-1]
    // [MQTT-1.5.3-2]
    for topic in ["~/+", "~/#", "#", "a+b", "''", "x:6100", "x:ff", "x:eda080", "x:f8888080"] {
        for rest in ["", "q1 id=1", "q2 id=1 retain"] {
            check(
                ALL,
                &format!(
                    "
                sub connects
                sub subscribes ~/# q2
                a connects
                a > publish {topic} {rest} p=x
                a refused 0x81|0x82|0x90
                sub < nothing
            "
                ),
            );
        }
    }
}

#[test]
fn illegal_filters_are_refused_one_by_one() {
    // [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.8.2-1] [MQTT-4.8.2-2] [MQTT-3.8.4-6] [MQTT-3.9.3-1]
    // 3.1.1: [MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-3.8.4-5] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
    for filter in [
        "~/a#",
        "~/#/b",
        "#~",
        "~/a+",
        "+~",
        "~/+a/b",
        "~/a/#b",
        "$share//~",
        "$share/g",
        "$share/g/",
        "$share/+/~",
        "$share/g#/~",
        "$share/g/~/#/a",
    ] {
        check(
            ALL,
            &format!(
                "
            a connects
            a > subscribe 5 ~/good q1 {filter} q1 ~/fine q2
            a < suback 5 1 0x8f 2
            a publishes ~/good q1 p=1
            a gets ~/good q1 p=1
        "
            ),
        );
    }
}

#[test]
fn bad_strings_in_filters_end_the_connection() {
    // [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
    // 3.1.1: [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-4.7.3-2]
    for filter in ["x:6100", "x:ff", "x:eda080"] {
        check(
            ALL,
            &format!(
                "
            a connects
            a > subscribe 5 {filter}
            a refused 0x81|0x82|0x8f
            b connects
            b > unsubscribe 5 {filter}
            b refused 0x81|0x82|0x8f
        "
            ),
        );
    }
}

#[test]
fn empty_filter_is_refused() {
    // [MQTT-4.7.3-1]; 3.1.1: [MQTT-4.7.3-1]
    each(ALL, |test| {
        test.run("a connects\n a > subscribe 5 x:");
        match test.client("a").next() {
            Event::Packet(packet) => assert!(packet.codes.iter().all(|code| *code >= 0x80)),
            Event::Closed => {}
            Event::Trouble(why) => panic!("{why}"),
        }
    });
}

#[test]
fn bad_strings_in_properties_end_the_connection() {
    // [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-14]
    for property in ["ct=x:ff", "ct=x:00", "resp=x:ff", "resp=x:00", "resp=~/+", "resp=#"] {
        check(
            V5,
            &format!(
                "
            a connects
            a > publish ~/t {property}
            a refused 0x81|0x82|0x90
        "
            ),
        );
    }
    // A user property whose name, then whose value is no UTF-8.
    for pair in ["00 01 ff 00 01 61", "00 01 61 00 01 ff", "00 01 61 00 01 00"] {
        check(
            V5,
            &format!(
                "
            a connects
            a > raw 30 0b 00 01 61 07 26 {pair}
            a refused 0x81|0x82
        "
            ),
        );
    }
}

#[test]
fn longest_names_pass() {
    // [MQTT-4.7.3-3]; 3.1.1: [MQTT-4.7.3-3]
    let config = "[limits]\ntopic_bytes_max = 65535\n";
    each_with(config, ALL, |test| {
        let name = "y".repeat(65535);
        test.run(&format!(
            "
            a connects
            a subscribes {name} q1
            a publishes {name} q1 p=1
            a gets {name} q1 p=1
        "
        ));
    });
}

/// A QoS 1 PUBLISH to this topic is answered with an error, or the connection ends.
fn publish_is_refused(test: &mut crate::harness::Test<'_>, topic: &str) {
    test.run(&format!(
        "
        a connects
        a > publish {topic} q1 id=1 p=refused
    "
    ));
    loop {
        match test.client("a").next() {
            Event::Packet(packet) if packet.name == "puback" => {
                let v5 = test.version == crate::harness::Version::V5;
                assert!(!v5 || packet.codes[0] >= 0x80, "{}", packet.text());
                test.run("a leaves");
                return;
            }
            Event::Packet(packet) => assert_eq!(packet.name, "disconnect"),
            Event::Closed => return drop(test.take("a")),
            Event::Trouble(why) => panic!("{why}"),
        }
    }
}

#[test]
fn topic_limits_are_kept() {
    // MQTT 5.0 §3.3.2.1, §3.9.3: 0x8f or 0x97 for filters
    each_with("[limits]\ntopic_levels_max = 5\ntopic_bytes_max = 50\n", ALL, |test| {
        let (longest, longer) = ("y".repeat(50), "y".repeat(51));
        test.run(&format!(
            "
            a connects
            sub connects
            sub subscribes # q1
            a subscribes a/b/c/d/e q1 {longest} q1
            a publishes a/b/c/d/e q1 p=1
            a gets a/b/c/d/e q1 p=1
            a publishes {longest} q1 p=2
            a gets {longest} q1 p=2
            a > subscribe 1 a/b/c/d/e/f {longer} a/b
            a < suback 1 0x8f|0x97 0x8f|0x97 0
            a leaves
            sub gets a/b/c/d/e q1 p=1
            sub gets {longest} q1 p=2
        "
        ));
        publish_is_refused(test, "a/b/c/d/e/f");
        publish_is_refused(test, &longer);
        test.run("sub < nothing");
    });
}
