//! Keep alive. These tests take the seconds that MQTT counts in.

use crate::harness::{ALL, V3, V5, check, check_with};

#[test]
fn silence_ends_the_connection_and_publishes_the_will() {
    // [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-8]; 3.1.1: [MQTT-3.1.2-24]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects keep=1 will=~/w wp=gone
        a silent 900
        a ended 0x8d
        sub gets ~/w p=gone
    ",
    );
}

#[test]
fn any_packet_counts_as_a_sign_of_life() {
    // [MQTT-3.1.2-22] [MQTT-3.12.4-1]; 3.1.1: [MQTT-3.1.2-24] [MQTT-3.12.4-1]
    check(
        ALL,
        "
        a connects keep=1
        a silent 800
        a < nothing
        a silent 800
        a publishes ~/t p=x
        a silent 800
        a < nothing
        a ended 0x8d
    ",
    );
}

#[test]
fn keep_alive_0_means_none() {
    // MQTT 5.0 §3.1.2.10
    check(
        ALL,
        "
        a connects keep=0
        b connects keep=1
        b ended 0x8d
        a < nothing
    ",
    );
}

#[test]
fn deliveries_are_no_sign_of_life_of_the_client() {
    // [MQTT-3.1.2-22]: the server waits for packets from the client
    check(
        ALL,
        "
        pub connects
        a connects keep=1
        a subscribes ~/t
        a silent 700
        pub publishes ~/t p=1
        a gets ~/t p=1
        a silent 300
        pub publishes ~/t p=2
        a gets ~/t p=2
        a ended 0x8d
    ",
    );
}

#[test]
fn server_keep_alive_is_told_and_kept() {
    // [MQTT-3.1.2-21] [MQTT-3.2.2-21]
    let config = "[limits]\nkeep_alive_s_max = 1\n";
    check_with(
        config,
        V5,
        "
        a connects keep=1 -> !keep
        b connects keep=100 -> keep=1
        c connects keep=0 -> keep=1
        b ended 0x8d
        c ended 0x8d
    ",
    );
    // 3.x has no way to tell: the limit holds for those who announce none or more.
    check_with(
        config,
        V3,
        "
        a connects keep=1
        a ended 0x8d
    ",
    );
}

#[test]
fn who_never_sends_connect_is_closed() {
    // MQTT 5.0 §3.1.4: no CONNECT within a reasonable time
    check_with(
        "[limits]\nconnect_timeout_s = 1\n",
        ALL,
        "
        a > raw 10
        a < closed
        b connects
        b < nothing
    ",
    );
}
