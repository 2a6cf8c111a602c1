//! A CONNECT that is well-formed and still refused.

use crate::harness::{ALL, V3, V5, check, check_with};

#[test]
fn will_that_may_not_be_published_is_refused() {
    // [MQTT-3.1.4-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7]; 3.1.1: [MQTT-3.2.2-4] [MQTT-3.2.2-5]
    check(
        ALL,
        "
        a > connect will=$SYS/x wp=x
        a < connack 0x87
        a < closed
    ",
    );
}

#[test]
fn refused_connect_leaves_the_old_session_alone() {
    // [MQTT-3.1.4-2] [MQTT-3.1.4-6]; 3.1.1: [MQTT-3.1.4-5]
    check(
        ALL,
        "
        a connects id=~one clean=0 expiry=60
        a subscribes ~/t q1
        b > connect id=~one will=$SYS/x wp=x
        b < connack 0x87
        b < closed
        a publishes ~/t q1 p=1
        a gets ~/t q1 p=1
    ",
    );
}

#[test]
fn retained_will_needs_retain_available() {
    // [MQTT-3.2.2-13]
    check_with(
        "[mqtt]\nretain_available = false\n",
        V5,
        "
        a connects will=~/w wp=x -> ravail=0
        b > connect will=~/w wp=x wretain
        b < connack 0x9a
        b < closed
        a < nothing
    ",
    );
}

#[test]
fn no_return_code_fits_no_connack() {
    // 3.1.1: [MQTT-3.2.2-6]
    check_with(
        "[mqtt]\nretain_available = false\n",
        V3,
        "
        a > connect will=~/w wp=x wretain
        a < closed
        b > connect will=~/+ wp=x
        b < closed
    ",
    );
}

#[test]
fn connack_larger_than_the_client_takes_ends_the_connection() {
    // [MQTT-3.1.2-24] [MQTT-3.1.4-5]: a client must not wait for a CONNACK that cannot be sent
    check(
        V5,
        "
        a > connect max=5
        a < closed
    ",
    );
}
