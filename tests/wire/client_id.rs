//! Client identifiers: which are taken, refused, or given.

use crate::harness::{ALL, V5, V311_AND_V5, Version, check, check_with};

#[test]
fn empty_id_gets_one_that_can_be_resumed() {
    // [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16]
    check(
        V5,
        "
        a > connect id= clean=0 expiry=60
        a < connack assigned=$id
        a leaves
        a connects id=$id clean=0 expiry=60 -> present !assigned
        b connects id= clean=0 expiry=60 -> assigned=$other
        a < nothing
    ",
    );
}

#[test]
fn empty_id_with_clean_session_is_taken() {
    // 3.1.1: [MQTT-3.1.3-6] [MQTT-3.1.3-7]
    check(
        V311_AND_V5,
        "
        a connects id=
        b connects id=
        a < nothing
        b < nothing
    ",
    );
}

#[test]
fn empty_id_is_refused_where_the_version_says_so() {
    // 3.1.1: [MQTT-3.1.3-8] [MQTT-3.2.2-4] [MQTT-3.2.2-5]; MQTT 3.1 §3.1: 1 to 23 characters
    check(
        &[Version::V311],
        "
        a > connect id= clean=0
        a < connack 0x85
        a < closed
    ",
    );
    check(
        &[Version::V31],
        "
        a > connect id=
        a < connack 0x85
        a < closed
        b > connect id= clean=0
        b < connack 0x85
        b < closed
    ",
    );
}

#[test]
fn empty_id_can_be_forbidden() {
    // [MQTT-3.1.3-8] [MQTT-3.2.2-6]; 3.1.1: [MQTT-3.1.3-9]
    check_with(
        "[mqtt]\nallow_empty_client_id = false\n",
        ALL,
        "
        a > connect id=
        a < connack 0x85
        a < closed
    ",
    );
}

#[test]
fn ids_of_23_letters_and_longer_ones_are_taken() {
    // [MQTT-3.1.3-5]; 3.1.1: [MQTT-3.1.3-5]
    check(
        ALL,
        "
        a connects id=~0123456789ABCDEFabcdef
        b connects id=~0123456789-0123456789-0123456789-0123456789-0123456789
        c connects id=~/ä€😀+#$
        a < nothing
        b < nothing
        c < nothing
    ",
    );
}

#[test]
fn id_length_limit_is_kept() {
    // [MQTT-3.1.3-8] [MQTT-3.2.2-7]; 3.1.1: [MQTT-3.1.3-9]
    check_with(
        "[limits]\nclient_id_bytes_max = 64\n",
        ALL,
        "
        a connects id=*64
        b > connect id=*65
        b < connack 0x85
        b < closed
        a < nothing
    ",
    );
}
