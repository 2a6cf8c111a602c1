//! Will delay interval (MQTT 5.0). One second where it must pass.

use crate::harness::{V5, check};

#[test]
fn will_waits_for_its_delay() {
    // [MQTT-3.1.2-8]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects clean=0 expiry=60 will=~/w wp=late wdelay=1
        a drops
        sub silent 800
        sub gets ~/w p=late
    ",
    );
}

#[test]
fn will_delay_cancelled_by_resume() {
    // [MQTT-3.1.3-9] [MQTT-3.1.2-8]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects clean=0 expiry=60 will=~/w wp=never wdelay=1
        a drops
        a connects clean=0 expiry=60 -> present
        sub silent 1500
        a leaves
        sub < nothing
    ",
    );
}

#[test]
fn will_goes_out_when_the_session_ends_first() {
    // [MQTT-3.1.2-8]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects expiry=0 will=~/w wp=at-once wdelay=100
        a drops
        sub gets ~/w p=at-once
        a connects expiry=60 will=~/w wp=clean-start wdelay=100
        a drops
        a connects
        sub gets ~/w p=clean-start
    ",
    );
}
