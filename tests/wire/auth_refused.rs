//! Enhanced authentication where no method is configured: everything about it is refused.

use crate::harness::{V3, V5, check};

#[test]
fn connect_with_a_method_is_refused() {
    // [MQTT-4.12.0-1] [MQTT-3.2.2-6] [MQTT-3.2.2-7]
    check(
        V5,
        "
        a > connect method=SCRAM-SHA-256 data=x:0102
        a < connack 0x8c
        a < closed
    ",
    );
}

#[test]
fn data_without_a_method_is_a_protocol_error() {
    // MQTT 5.0 §3.1.2.11.10
    check(
        V5,
        "
        a > connect data=x:0102
        a refused 0x82|0x81
    ",
    );
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    // [MQTT-4.12.0-6] [MQTT-4.12.0-7] [MQTT-4.13.1-1]
    check(
        V5,
        "
        a connects
        a > auth 0x18 method=x
        a ended 0x82
        b connects
        b > auth 0x19 method=x
        b ended 0x82
        c connects
        c > auth
        c ended 0x82
    ",
    );
}

#[test]
fn auth_with_reserved_flags_is_malformed() {
    // [MQTT-3.15.1-1]
    check(
        V5,
        "
        a connects
        a > raw f1 00
        a ended 0x81
    ",
    );
}

#[test]
fn auth_does_not_exist_before_v5() {
    // 3.1.1: [MQTT-4.8.0-1]: type 15 is reserved
    check(
        V3,
        "
        a connects
        a > raw f0 00
        a < closed
    ",
    );
}
