//! Sessions that outlive their connection.

use crate::harness::{ALL, V5, V311_AND_V5, check, check_with, each};

#[test]
fn session_present_tells_the_truth() {
    // [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    // 3.1.1: [MQTT-3.1.2-4] [MQTT-3.1.2-6] [MQTT-3.2.2-1] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    check(
        V311_AND_V5,
        "
        a connects clean=0 expiry=60
        a leaves
        a connects clean=0 expiry=60 -> present
        a leaves
        a connects clean=1 expiry=60
        a leaves
        311: a connects clean=0
        5: a connects clean=0 expiry=60 -> present
    ",
    );
}

#[test]
fn v31_has_no_session_present_flag() {
    // MQTT 3.1 §3.2: the byte before the return code is reserved
    check(
        &[crate::harness::Version::V31],
        "
        a connects clean=0
        a leaves
        a connects clean=0
        a < nothing
    ",
    );
}

#[test]
fn messages_for_an_absent_client_are_kept_in_order() {
    // [MQTT-4.5.0-1] [MQTT-4.6.0-5] [MQTT-3.1.2-23]; 3.1.1: [MQTT-3.1.2-5] [MQTT-4.5.0-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/1 q1 ~/2 q2 ~/0 q0
        a leaves
        pub connects
        pub publishes ~/1 q1 p=1
        pub publishes ~/2 q2 p=2
        pub publishes ~/0 q1 p=lost
        pub publishes ~/1 q2 p=3
        pub publishes ~/2 q1 p=4
        pub publishes ~/2 q0 p=lost
        pub publishes ~/1 q1 p=5
        311: a connects clean=0 -> present
        5: a connects clean=0 expiry=60 -> present
        31: a connects clean=0
        a gets ~/1 q1 p=1
        a gets ~/2 q2 p=2
        a gets ~/1 q1 p=3
        a gets ~/2 q1 p=4
        a gets ~/1 q1 p=5
        pub publishes ~/1 q1 p=6
        a gets ~/1 q1 p=6
    ",
    );
}

#[test]
fn qos_0_is_kept_if_configured() {
    // MQTT 5.0 §4.1: QoS 0 messages pending transmission may be part of the session
    check_with(
        "[mqtt]\nqueue_qos0 = true\n",
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/0
        a leaves
        pub connects
        pub publishes ~/0 p=1
        pub publishes ~/0 q1 p=2
        31: a connects clean=0
        311: a connects clean=0 -> present
        5: a connects clean=0 expiry=60 -> present
        a gets ~/0 p=1
        a gets ~/0 p=2
    ",
    );
}

#[test]
fn clean_start_forgets_everything_but_retained_messages() {
    // [MQTT-3.1.2-4] [MQTT-3.1.4-4]; 3.1.1: [MQTT-3.1.2-6] [MQTT-3.1.2-7] [MQTT-3.1.4-3]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        a publishes ~/r q1 retain p=kept
        a leaves
        pub connects
        pub publishes ~/t q1 p=old
        a connects clean=1
        pub publishes ~/t q1 p=new
        a < nothing
        a subscribes ~/r q1
        a gets ~/r q1 retain p=kept
    ",
    );
}

#[test]
fn session_ends_with_the_connection_if_not_kept() {
    // [MQTT-4.1.0-2]; 3.1.1: [MQTT-3.1.2-6]
    check(
        V311_AND_V5,
        "
        a connects clean=1
        a subscribes ~/t q1
        a leaves
        pub connects
        pub publishes ~/t q1 p=lost
        a connects clean=0
        pub publishes ~/t q1 p=lost
        a < nothing
    ",
    );
}

#[test]
fn subscriptions_survive_a_lost_connection() {
    // [MQTT-4.1.0-1] [MQTT-3.1.2-23]; 3.1.1: [MQTT-3.1.2-4] [MQTT-4.1.0-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        a drops
        pub connects
        pub publishes ~/t q1 p=1
        31: a connects clean=0
        311: a connects clean=0 -> present
        5: a connects clean=0 expiry=60 -> present
        // It may have gone to the lost connection first, so DUP is free.
        a gets ~/t q1 p=1 *
    ",
    );
}

#[test]
fn a_session_may_change_its_version() {
    // [MQTT-3.1.3-2]: the client identifier alone names the session
    check(
        V5,
        "
        a connects v=311 clean=0
        a subscribes ~/t q2
        a leaves
        pub connects
        pub publishes ~/t q2 p=1 up=a:b ct=text
        a connects clean=0 expiry=60 -> present
        a gets ~/t q2 p=1 up=a:b ct=text
        a leaves
        pub publishes ~/t q1 p=2 up=a:b
        a connects v=31 clean=0
        a gets ~/t q1 p=2
    ",
    );
}

#[test]
fn a_thousand_queued_messages_keep_their_order() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT-4.9.0-2]; 3.1.1: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    each(ALL, |test| {
        test.run(
            "
            a connects clean=0 expiry=60
            a subscribes ~/t q1
            a leaves
            pub connects
        ",
        );
        for number in 0..1000 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        test.send("a", "connect clean=0 expiry=60");
        test.expect("a", "connack *", false);
        for number in 0..1000 {
            test.run(&format!("a gets ~/t q1 p={number}"));
        }
        test.run("a < nothing");
    });
}
