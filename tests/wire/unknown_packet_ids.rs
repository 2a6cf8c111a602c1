//! Acknowledgements that belong to nothing.

use crate::harness::{ALL, V3, V5, check};

#[test]
fn pubrel_is_always_completed() {
    // [MQTT-4.3.3-11]; MQTT 5.0 §3.7.2.1: 0x92 packet identifier not found; 3.1.1: [MQTT-4.3.3-2]
    check(
        ALL,
        "
        a connects
        a > pubrel 77
        a < pubcomp 77 0x92
        a < nothing
    ",
    );
}

#[test]
fn pubrec_of_an_unknown_message() {
    // MQTT 5.0 §4.13.1, §3.6.2.1: 0x92
    check(
        V5,
        "
        a connects
        a > pubrec 77
        a < pubrel 77 0x92
        a > pubrec 78 0x80
        a < nothing
    ",
    );
}

#[test]
fn puback_and_pubcomp_of_unknown_messages_are_ignored() {
    // MQTT 5.0 §4.13: no error is listed for them
    check(
        ALL,
        "
        a connects
        a > puback 77
        a > pubcomp 77
        a < nothing
    ",
    );
}

#[test]
fn acknowledgement_of_another_kind_completes_nothing() {
    // [MQTT-4.3.2-3] [MQTT-4.3.3-3]; either it is ignored or the connection is closed, never an ack
    check(
        V3,
        "
        pub connects
        a connects clean=0
        a subscribes ~/t q1
        pub publishes ~/t q1 p=1
        a < publish ~/t q1 p=1 id=$a
        a > pubcomp $a
        a drops
        a > connect clean=0
        a < connack *
        a < publish ~/t q1 dup p=1 id=$a
    ",
    );
}

#[test]
fn packet_id_0_is_malformed() {
    // [MQTT-2.2.1-3] [MQTT-2.2.1-4]; 3.1.1: [MQTT-2.3.1-1]
    for packet in [
        "publish ~/t q1 id=0",
        "publish ~/t q2 id=0",
        "subscribe 0 ~/t",
        "unsubscribe 0 ~/t",
        "puback 0",
        "pubrec 0",
        "pubrel 0",
        "pubcomp 0",
    ] {
        check(ALL, &format!("a connects\n a > {packet}\n a refused 0x81|0x82"));
    }
}
