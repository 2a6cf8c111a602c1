//! Session expiry interval (MQTT 5.0).

use crate::harness::{V5, check, check_with};

#[test]
fn expiry_0_ends_the_session_at_close() {
    // [MQTT-3.1.2-23] [MQTT-4.1.0-2]
    check(
        V5,
        "
        a connects clean=0
        a subscribes ~/t q1
        a leaves
        a connects clean=0
        a leaves
        a connects clean=0 expiry=0
        a drops
        a connects clean=0
    ",
    );
}

#[test]
fn session_ends_when_its_interval_has_passed() {
    // [MQTT-4.1.0-2] [MQTT-3.1.2-8]: the will goes out at the end of the session, so it is the
    // signal
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects clean=0 expiry=1 will=~/w wp=over wdelay=100
        a subscribes ~/t q1
        a drops
        sub < nothing
        sub gets ~/w p=over
        a connects clean=0 expiry=1
    ",
    );
}

#[test]
fn disconnect_can_shorten_the_interval() {
    // MQTT 5.0 §3.14.2.2.2
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a > disconnect 0 expiry=0
        a < closed
        a connects clean=0 expiry=60
    ",
    );
}

#[test]
fn disconnect_can_prolong_the_interval() {
    // MQTT 5.0 §3.14.2.2.2
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects clean=0 expiry=1
        b connects clean=0 expiry=1 will=~/w wdelay=100
        a > disconnect 0 expiry=60
        a < closed
        b drops
        sub gets ~/w
        sub silent 500
        a connects clean=0 expiry=60 -> present
    ",
    );
}

#[test]
fn disconnect_cannot_revive_interval_0() {
    // MQTT 5.0 §3.14.2.2.2: protocol error
    check(
        V5,
        "
        a connects clean=0
        a > disconnect 0 expiry=60
        a ended 0x82
        a connects clean=0 expiry=0
    ",
    );
}

#[test]
fn a_resumed_session_takes_the_new_interval() {
    // MQTT 5.0 §3.1.2.11.2
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a leaves
        a connects clean=0 expiry=0 -> present
        a leaves
        a connects clean=0
    ",
    );
}

#[test]
fn interval_without_end_is_taken() {
    // MQTT 5.0 §3.1.2.11.2
    check(
        V5,
        "
        a connects clean=0 expiry=0xffffffff
        a leaves
        a connects clean=0 expiry=0xffffffff -> present
    ",
    );
}

#[test]
fn a_cut_interval_is_told() {
    // MQTT 5.0 §3.2.2.3.2
    check_with(
        "[limits]\nsession_expiry_s_max = 10\n",
        V5,
        "
        a connects clean=0 expiry=11 -> expiry=10
        b connects clean=0 expiry=0xffffffff -> expiry=10
        c connects clean=0 expiry=10 -> !expiry
    ",
    );
}
