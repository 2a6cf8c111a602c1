//! SUBSCRIBE, UNSUBSCRIBE, and PINGREQ: answers and effects.

use crate::harness::{ALL, V5, check, check_with, each};

#[test]
fn suback_has_one_code_per_filter_in_order() {
    // [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1]
    // [MQTT-2.2.1-6] [MQTT-3.9.3-2] [MQTT-3.2.2-10]
    // 3.1.1: [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-4] [MQTT-3.8.4-5] [MQTT-3.9.3-1]
    // [MQTT-3.9.3-2] [MQTT-2.3.1-7]
    check(
        ALL,
        "
        a connects
        a > subscribe 65535 ~/2 q2 ~/0 q0 ~/1 q1 ~/2 q1
        a < suback 65535 2 0 1 1
    ",
    );
}

#[test]
fn hundreds_of_filters_in_one_packet() {
    // [MQTT-3.8.4-5] [MQTT-3.8.4-6]; 3.1.1: [MQTT-3.8.4-4]
    each(ALL, |test| {
        let filters: Vec<String> = (0..500).map(|n| format!("~/{n} q{}", n % 3)).collect();
        test.run(&format!("a connects\n a subscribes {}", filters.join(" ")));
        test.run(
            "
            a publishes ~/499 q1 p=x
            a gets ~/499 q1 p=x
        ",
        );
    });
}

#[test]
fn identical_filter_replaces_the_subscription() {
    // [MQTT-3.8.4-3]; 3.1.1: [MQTT-3.8.4-3]
    check(
        ALL,
        "
        a connects
        a subscribes ~/t q0
        a subscribes ~/t q2
        a publishes ~/t q2 p=1
        a gets ~/t q2 p=1
        a < nothing
        a subscribes ~/t q0
        a publishes ~/t q2 p=2
        a gets ~/t p=2
        a < nothing
    ",
    );
}

#[test]
fn subscribe_without_filters_is_an_error() {
    // [MQTT-3.8.3-2] [MQTT-3.10.3-2]; 3.1.1: [MQTT-3.8.3-3] [MQTT-3.10.3-2]
    check(
        ALL,
        "
        a connects
        a > subscribe 1
        a ended 0x82|0x81
        b connects
        b > unsubscribe 1
        b ended 0x82|0x81
    ",
    );
}

#[test]
fn qos_3_is_malformed() {
    // [MQTT-3.8.3-5]; 3.1.1: [MQTT-3.8.3-4]
    check(
        ALL,
        "
        31: a connects
        31: a > raw 82 06 00 01 00 01 61 03
        31: a < closed
        311: a connects
        311: a > raw 82 06 00 01 00 01 61 03
        311: a < closed
        311: b connects
        311: b > raw 82 06 00 01 00 01 61 04
        311: b < closed
        5: a connects
        5: a > raw 82 07 00 01 00 00 01 61 03
        5: a ended 0x81|0x82
    ",
    );
}

#[test]
fn unsubscribe_is_answered_and_ends_the_flow() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-3.10.4-6]
    // [MQTT-3.11.3-1] [MQTT-3.11.3-2]; 3.1.1: [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-4]
    // [MQTT-3.10.4-5] [MQTT-3.10.4-6]
    check(
        ALL,
        "
        a connects
        a subscribes ~/t q1 ~/u q1 ~/+/x q1
        a > unsubscribe 7 ~/t ~/none ~/y/x ~/u ~/t
        a < unsuback 7 0 0x11 0x11 0 0x11
        a publishes ~/t q1 p=1
        a publishes ~/u q1 p=2
        a < nothing
        a publishes ~/y/x q1 p=3
        a gets ~/y/x q1 p=3
    ",
    );
}

#[test]
fn unsubscribe_lets_begun_deliveries_end() {
    // [MQTT-3.10.4-3]; 3.1.1: [MQTT-3.10.4-3]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q2 p=1
        a < publish ~/t q2 p=1 id=$1
        a > unsubscribe 7 ~/t
        a < unsuback 7 0
        a > pubrec $1
        a < pubrel $1
        a > pubcomp $1
        pub publishes ~/t q2 p=2
        a < nothing
    ",
    );
}

#[test]
fn ping_is_answered_in_order() {
    // [MQTT-3.12.4-1]; 3.1.1: [MQTT-3.12.4-1]
    check(
        ALL,
        "
        a connects
        a > pingreq
        a > pingreq
        a < pingresp
        a < pingresp
        a < nothing
    ",
    );
}

#[test]
fn subscriptions_per_session_are_limited() {
    // MQTT 5.0 §3.9.3: 0x97
    check_with(
        "[limits]\nsubscriptions_per_session_max = 3\n",
        ALL,
        "
        a connects
        a > subscribe 1 ~/1 ~/2 ~/3 ~/4
        a < suback 1 0 0 0 0x97
        // Replacing is no new subscription.
        a > subscribe 2 ~/1 q1
        a < suback 2 1
        a > unsubscribe 3 ~/2
        a < unsuback 3 0
        a > subscribe 4 ~/4 ~/2
        a < suback 4 0 0x97
    ",
    );
}

#[test]
fn user_properties_of_requests_are_read_over() {
    // MQTT 5.0 §3.8.2.1.3, §3.10.2.1
    check(
        V5,
        "
        a connects
        a > subscribe 1 ~/t q1 up=a:b up=a:c
        a < suback 1 1 !up
        a > unsubscribe 2 ~/t up=a:b
        a < unsuback 2 0 !up
    ",
    );
}

#[test]
fn subscription_is_in_force_at_suback() {
    // [MQTT-4.5.0-1]: from any shard, at once; 3.1.1: [MQTT-4.5.0-1]
    each(ALL, |test| {
        for publisher in 0..4 {
            test.run(&format!("p{publisher} connects"));
        }
        for round in 0..50 {
            test.run(&format!(
                "
                s connects
                s subscribes ~/{round} q1
            "
            ));
            for publisher in 0..4 {
                test.run(&format!("p{publisher} publishes ~/{round} p={publisher}"));
            }
            let mut got: Vec<_> = (0..4).map(|_| test.client("s").packet().payload).collect();
            got.sort_unstable();
            assert_eq!(got, [b"0", b"1", b"2", b"3"]);
            test.run("s leaves");
        }
    });
}
