//! Several filters of one client match: Culex sends one copy at the highest QoS.

use crate::harness::{ALL, V5, check};

#[test]
fn one_copy_with_the_highest_qos() {
    // [MQTT-3.3.4-2] [MQTT-3.8.4-8]; 3.1.1: [MQTT-3.3.5-1]
    check(
        ALL,
        "
        a connects
        a subscribes ~/# q0 ~/+/x q2 ~/t/x q1
        pub connects
        pub publishes ~/t/x q2 p=1
        pub publishes ~/t/x q1 p=2
        pub publishes ~/t/y q2 p=3
        a gets ~/t/x q2 p=1
        a gets ~/t/x q1 p=2
        a gets ~/t/y p=3
        a < nothing
    ",
    );
}

#[test]
fn one_copy_with_all_identifiers() {
    // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    check(
        V5,
        "
        a connects
        a subscribes ~/# q0 sid=1
        a subscribes ~/+/x q2 sid=20000
        a subscribes ~/t/x q1
        a subscribes ~/t/+ q1 sid=3
        pub connects
        pub publishes ~/t/x q2 p=1
        a gets ~/t/x q2 p=1 sid=1 sid=20000 sid=3
        pub publishes ~/u/x q1 p=2
        a gets ~/u/x q1 p=2 sid=1 sid=20000
        a < nothing
    ",
    );
}

#[test]
fn retain_as_published_of_any_match_counts() {
    // [MQTT-3.3.1-13]
    check(
        V5,
        "
        a connects
        a subscribes ~/# q1
        a subscribes ~/t q1 rap
        pub connects
        pub publishes ~/t q1 retain p=1
        a gets ~/t q1 retain p=1
        a < nothing
    ",
    );
}

#[test]
fn no_local_concerns_its_own_filter_only() {
    // [MQTT-3.8.3-3] [MQTT-3.3.4-3]
    check(
        V5,
        "
        a connects
        a subscribes ~/# q1 nl sid=1
        a subscribes ~/t q1 sid=2
        a publishes ~/t q1 p=1
        a gets ~/t q1 p=1 sid=2
        a publishes ~/u q1 p=2
        a < nothing
    ",
    );
}

#[test]
fn one_of_two_filters_goes() {
    // [MQTT-3.10.4-1]; 3.1.1: [MQTT-3.10.4-1]
    check(
        ALL,
        "
        a connects
        a subscribes ~/# q2 ~/t q0
        a > unsubscribe 1 ~/#
        a < unsuback 1 0
        a publishes ~/t q2 p=1
        a gets ~/t p=1
        a publishes ~/u q2 p=2
        a < nothing
    ",
    );
}
