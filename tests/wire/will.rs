//! The will: when it is published and how.

use crate::harness::{ALL, V5, check};

#[test]
fn lost_connection_publishes_the_will() {
    // [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-14]; 3.1.1: [MQTT-3.1.2-8] [MQTT-3.1.2-16]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w q2
        a connects will=~/w wp=0
        a drops
        sub gets ~/w p=0
        a connects will=~/w wp=1 wq=1
        a resets
        sub gets ~/w q1 p=1
        a connects will=~/w wp=2 wq=2
        a drops
        sub gets ~/w q2 p=2
        a connects
        a drops
        sub < nothing
        a connects will=~/w
        a drops
        sub gets ~/w
    ",
    );
}

#[test]
fn disconnect_discards_the_will() {
    // [MQTT-3.1.2-8] [MQTT-3.1.2-10] [MQTT-3.14.4-3]; 3.1.1: [MQTT-3.1.2-10] [MQTT-3.14.4-3]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects will=~/w wp=never
        a leaves
        b connects
        b publishes ~/w p=end
        sub gets ~/w p=end
    ",
    );
}

#[test]
fn disconnect_with_will_publishes_it() {
    // MQTT 5.0 §3.14.2.1: reason 0x04
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects will=~/w wp=wanted
        a > disconnect 0x04
        a < closed
        sub gets ~/w p=wanted
        a connects will=~/w wp=error
        a > disconnect 0x80
        a < closed
        sub gets ~/w p=error
    ",
    );
}

#[test]
fn broken_rule_publishes_the_will() {
    // [MQTT-3.1.2-8]; 3.1.1: [MQTT-3.1.2-8]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects will=~/w wp=gone
        a > raw 36 05 00 01 61 00 01
        a refused 0x81|0x82
        sub gets ~/w p=gone
    ",
    );
}

#[test]
fn retained_will_stays() {
    // [MQTT-3.1.2-15]; 3.1.1: [MQTT-3.1.2-17]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w q1
        a connects will=~/w wp=off wq=1 wretain
        a drops
        sub gets ~/w q1 p=off
        late connects
        late subscribes ~/w q1
        late gets ~/w q1 retain p=off
        late publishes ~/w q1 retain
    ",
    );
}

#[test]
fn will_properties_are_forwarded() {
    // [MQTT-3.1.3-10] [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w q1
        a connects will=~/w wp=x wq=1 wup=b:2 wup=a:1 wup=b:2 wct=json wresp=~/r \
            wcorr=x:00ff wpf=1 wmexp=100
        a drops
        sub gets ~/w q1 p=x up=b:2 up=a:1 up=b:2 ct=json resp=~/r corr=x:00ff pf=1 mexp=100|99
    ",
    );
}

#[test]
fn kept_session_gets_its_own_will() {
    // [MQTT-3.1.2-8] [MQTT-4.5.0-1]; 3.1.1: [MQTT-3.1.2-8] [MQTT-4.5.0-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60 will=~/w wp=own wq=1
        a subscribes ~/w q1
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a gets ~/w q1 p=own
    ",
    );
}

#[test]
fn will_topic_with_wildcard_is_refused() {
    // [MQTT-3.3.2-2] [MQTT-4.7.0-1]; 3.1.1: [MQTT-3.3.2-2] [MQTT-4.7.1-1]
    check(
        V5,
        "
        a > connect will=~/+ wp=x
        a refused 0x90|0x81|0x82
        b > connect will= wp=x
        b refused 0x90|0x81|0x82
    ",
    );
}
