//! Request problem information (MQTT 5.0).

use crate::harness::{V5, check};

#[test]
fn no_reason_strings_for_who_wants_none() {
    // [MQTT-3.1.2-29]
    check(
        V5,
        "
        a connects rpi=0
        a > publish $SYS/x q1 id=1
        a < puback 1 0x87 !rs !up
        a > publish $SYS/x q2 id=2
        a < pubrec 2 0x87 !rs !up
        a > subscribe 3 ~/a#
        a < suback 3 0x8f !rs !up
        a > unsubscribe 4 ~/none
        a < unsuback 4 0x11 !rs !up
        a > pubrel 5
        a < pubcomp 5 0x92 !rs !up
    ",
    );
}

#[test]
fn errors_have_their_codes_either_way() {
    // MQTT 5.0 §3.1.2.11.7
    check(
        V5,
        "
        a connects rpi=1
        a > publish $SYS/x q1 id=1
        a < puback 1 0x87
        b connects rpi=0
        b > publish ~/t alias=0
        b ended 0x94
    ",
    );
}

#[test]
fn reason_string_gives_way_to_the_packet_size() {
    // [MQTT-3.4.2-2] [MQTT-3.14.2-3] [MQTT-3.9.2-1] [MQTT-3.2.2-19]; at 20 bytes no string has room
    check(
        V5,
        "
        a connects max=40
        a > publish $SYS/x q1 id=1
        a < puback 1 0x87
        a > subscribe 3 ~/a#
        a < suback 3 0x8f
        a > publish ~/t alias=0
        a ended 0x94
    ",
    );
}
