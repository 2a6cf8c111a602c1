//! What a good CONNECT gets.

use crate::harness::{ALL, V3, V5, check, check_with};

#[test]
fn connack_is_first_and_success() {
    // [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.0-2] [MQTT-3.2.2-1]; 3.1.1: [MQTT-3.1.4-4]
    // [MQTT-3.2.0-1]
    check(
        ALL,
        "
        a > connect
        a < connack 0
        a < nothing
    ",
    );
}

#[test]
fn user_name_and_password_are_read() {
    // [MQTT-3.1.2-17] [MQTT-3.1.2-19]; 3.1.1: [MQTT-3.1.2-19] [MQTT-3.1.2-21]
    check(
        ALL,
        "
        a connects user=u pass=p
        b connects user=u
        a < nothing
        b < nothing
    ",
    );
}

#[test]
fn password_alone_is_allowed_in_v5() {
    // MQTT 5.0 §3.1.2.9
    check(V5, "a connects pass=secret");
}

#[test]
fn connect_with_every_property() {
    // MQTT 5.0 §3.1.2.11, §3.1.3.2
    check(
        V5,
        "
        a connects clean=0 keep=60 expiry=60 rmax=5 max=10000 amax=3 rri=1 rpi=1 up=a:1 up=a:2 \
            will=~/w wp=gone wq=1 wdelay=5 wpf=1 wmexp=9 wct=text wresp=~/r wcorr=x:0001 wup=b:1 \
            user=u pass=p
        a < nothing
    ",
    );
}

#[test]
fn connack_tells_the_limits() {
    // MQTT 5.0 §3.2.2.3; [MQTT-3.2.2-9]: full QoS support announces no Maximum QoS
    check(V5, "a connects -> rmax=20 amax=10 !maxq !assigned !keep !method");
    check_with(
        "[limits]\nreceive_maximum = 7\ntopic_alias_maximum = 0\npacket_bytes_max = 3000\n",
        V5,
        "a connects -> rmax=7 max=3000 !maxq",
    );
}

#[test]
fn no_response_information_unless_asked() {
    // [MQTT-3.1.2-28]
    check(V5, "a connects rri=0 -> !respinfo");
}

#[test]
fn bridge_bit_in_the_level_is_taken() {
    // Brokers that bridge to Culex set bit 7 of the protocol level; common practice outside the
    // text.
    check(
        V3,
        "
        31: a connects level=0x83
        311: a connects level=0x84
    ",
    );
}
