//! Options and identifiers of subscriptions (MQTT 5.0).

use crate::harness::{V5, check};

#[test]
fn retain_handling_0_sends_always() {
    // [MQTT-3.3.1-9] [MQTT-3.8.4-4]
    check(
        V5,
        "
        a connects
        a publishes ~/r q1 retain p=1
        a subscribes ~/r rh=0
        a gets ~/r retain p=1
        a subscribes ~/r rh=0
        a gets ~/r retain p=1
        a < nothing
    ",
    );
}

#[test]
fn retain_handling_1_sends_to_new_subscriptions() {
    // [MQTT-3.3.1-10]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a publishes ~/r q1 retain p=1
        a subscribes ~/r rh=1
        a gets ~/r retain p=1
        a subscribes ~/r rh=1
        a < nothing
        a leaves
        a connects clean=0 expiry=60 -> present
        a subscribes ~/r rh=1
        a < nothing
        a > unsubscribe 1 ~/r
        a < unsuback 1 0
        a subscribes ~/r rh=1
        a gets ~/r retain p=1
    ",
    );
}

#[test]
fn retain_handling_2_sends_never() {
    // [MQTT-3.3.1-11]
    check(
        V5,
        "
        a connects
        a publishes ~/r q1 retain p=1
        a subscribes ~/r rh=2
        a < nothing
        a publishes ~/r q1 retain p=2
        a gets ~/r p=2
        a < nothing
    ",
    );
}

#[test]
fn retain_handling_3_is_a_protocol_error() {
    // MQTT 5.0 §3.8.3.1; [MQTT-3.8.3-5]
    check(
        V5,
        "
        a connects
        a > subscribe 1 ~/r rh=3
        a ended 0x82|0x81
    ",
    );
}

#[test]
fn retain_as_published_keeps_the_flag() {
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    check(
        V5,
        "
        a connects
        a subscribes ~/r q1 rap
        b connects
        b subscribes ~/r q1
        pub connects
        pub publishes ~/r q1 retain p=1
        pub publishes ~/r q1 p=2
        a gets ~/r q1 retain p=1
        a gets ~/r q1 p=2
        b gets ~/r q1 p=1
        b gets ~/r q1 p=2
        pub publishes ~/r q1 retain
        a gets ~/r q1 retain
        b gets ~/r q1
    ",
    );
}

#[test]
fn no_local_keeps_own_messages_away() {
    // [MQTT-3.8.3-3]
    check(
        V5,
        "
        a connects clean=0 expiry=60 will=~/t wp=will
        b connects
        a subscribes ~/t nl q1
        b subscribes ~/t q1
        a publishes ~/t q1 p=1
        b publishes ~/t q1 p=2
        a gets ~/t q1 p=2
        a < nothing
        b gets ~/t q1 p=1
        b gets ~/t q1 p=2
        // The client identifier counts, not the connection: the will is its own, too.
        a drops
        b gets ~/t p=will
        a connects clean=0 expiry=60 -> present
        a publishes ~/t q1 p=3
        a < nothing
        b gets ~/t q1 p=3
        // An identical filter replaces the options.
        a subscribes ~/t q1
        a publishes ~/t q1 p=4
        a gets ~/t q1 p=4
    ",
    );
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    // [MQTT-3.8.3-4]
    check(
        V5,
        "
        a connects
        a > subscribe 1 $share/g/~/t nl
        a ended 0x82
    ",
    );
}

#[test]
fn reserved_option_bits_are_malformed() {
    // [MQTT-3.8.3-5]
    for options in ["40", "80", "03"] {
        check(
            V5,
            &format!(
                "
            a connects
            a > raw 82 07 00 01 00 00 01 61 {options}
            a ended 0x81|0x82
        "
            ),
        );
    }
}

#[test]
fn subscription_identifier_is_sent_along() {
    // [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    check(
        V5,
        "
        a connects
        b connects
        a subscribes ~/t q1 sid=268435455
        b subscribes ~/t q1
        b publishes ~/t q1 p=1
        a gets ~/t q1 p=1 sid=268435455
        b gets ~/t q1 p=1
        // A new SUBSCRIBE replaces the identifier, or takes it away.
        a subscribes ~/t q1 sid=128
        b publishes ~/t q1 p=2
        a gets ~/t q1 p=2 sid=128
        a subscribes ~/t q1
        b publishes ~/t q1 p=3
        a gets ~/t q1 p=3
    ",
    );
}

#[test]
fn subscription_identifier_survives_with_the_session() {
    // [MQTT-3.3.4-3] [MQTT-4.1.0-1]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1 sid=7
        a leaves
        b connects
        b publishes ~/t q1 p=1
        a connects clean=0 expiry=60 -> present
        a gets ~/t q1 p=1 sid=7
    ",
    );
}

#[test]
fn subscription_identifier_0_is_a_protocol_error() {
    // MQTT 5.0 §3.8.2.1.2
    check(
        V5,
        "
        a connects
        a > subscribe 1 ~/t sid=0
        a ended 0x82|0x81
        b connects
        b > subscribe 1 ~/t sid=1 sid=2
        b ended 0x82|0x81
    ",
    );
}

#[test]
fn publish_with_a_subscription_identifier_is_a_protocol_error() {
    // [MQTT-3.3.4-6]
    check(
        V5,
        "
        a connects
        a > publish ~/t sid=1
        a ended 0x82|0x81
    ",
    );
}
