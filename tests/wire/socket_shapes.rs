//! Bytes come in any pieces, and connections end in any way.

use std::net::Shutdown;

use crate::harness::{ALL, Client, check, compose, each};

#[test]
fn one_byte_at_a_time() {
    // [MQTT-4.2-1]
    each(ALL, |test| {
        let version = test.version;
        let topic = format!("{}/t", test.prefix);
        let mut client = Client::open(test.broker.address, version);
        for text in [
            "connect".to_owned(),
            format!("subscribe 1 {topic} q2"),
            format!("publish {topic} q2 id=2 p=*300 up=a:b"),
            "pubrel 2".to_owned(),
            "pingreq".to_owned(),
        ] {
            for byte in compose(&text, version, &test.prefix) {
                client.write(&[byte]);
            }
        }
        let mut names: Vec<&str> = (0..6).map(|_| client.packet().name).collect();
        names.sort_unstable();
        assert_eq!(names, ["connack", "pingresp", "pubcomp", "publish", "pubrec", "suback"]);
    });
}

#[test]
fn many_packets_in_one_write() {
    // [MQTT-4.2-1]
    each(ALL, |test| {
        test.run("a connects\n a subscribes ~/t");
        let topic = format!("{}/t", test.prefix);
        let mut bytes = Vec::new();
        for number in 0..2000 {
            bytes.extend(compose(&format!("publish {topic} p={number}"), test.version, ""));
        }
        test.client("a").write(&bytes);
        for number in 0..2000 {
            test.run(&format!("a gets ~/t p={number}"));
        }
    });
}

#[test]
fn half_close_after_the_last_packet() {
    // [MQTT-3.1.2-8]: all that came before the end is processed, then it is a lost connection
    each(ALL, |test| {
        test.run(
            "
            sub connects
            sub subscribes ~/t ~/w
            a connects will=~/w wp=will
        ",
        );
        for number in 0..50 {
            test.run(&format!("a publishes ~/t p={number}"));
        }
        test.client("a").stream.shutdown(Shutdown::Write).unwrap();
        for number in 0..50 {
            test.run(&format!("sub gets ~/t p={number}"));
        }
        test.run(
            "
            a < closed
            sub gets ~/w p=will
        ",
        );
    });
}

#[test]
fn reset_counts_as_a_lost_connection() {
    // [MQTT-3.1.2-8]; 3.1.1: [MQTT-3.1.2-8]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects will=~/w wp=will
        a resets
        sub gets ~/w p=will
    ",
    );
}

#[test]
fn reset_before_connect_is_complete() {
    // [MQTT-3.1.4-1]
    check(
        ALL,
        "
        a > raw 10
        a resets
        b > raw 10 20 00 04
        b drops
        c connects
        c < nothing
    ",
    );
}

#[test]
fn sixteen_megabytes_pass_whole() {
    // MQTT 5.0 §2.1.4
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/t q1
        late connects clean=0 expiry=60
        late subscribes ~/t q1
        late leaves
        pub connects
        pub publishes ~/t q1 p=*16000000
        sub gets ~/t q1 p=*16000000
        pub publishes ~/t p=small
        sub gets ~/t p=small
        late > connect clean=0 expiry=60
        late < connack *
        late gets ~/t q1 p=*16000000
        late < nothing
    ",
    );
}

#[test]
fn every_length_around_the_borders() {
    // MQTT 5.0 §2.1.4, §1.5.5: one, two, and three bytes of length; pieces of the buffers
    each(ALL, |test| {
        test.run("a connects\n a subscribes ~/t q1");
        for border in [127, 128, 16_383, 16_384, 4096, 8192, 65_535, 65_536, 131_072] {
            for count in border - 12..=border + 2 {
                test.run(&format!("a publishes ~/t q1 p=*{count}\n a gets ~/t q1 p=*{count}"));
            }
        }
    });
}
