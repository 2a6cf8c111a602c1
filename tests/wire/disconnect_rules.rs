//! DISCONNECT, and other packets that end a connection.

use crate::harness::{ALL, V3, V5, V311_AND_V5, check, compose, each, hex};

#[test]
fn disconnect_closes_without_an_answer() {
    // [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-3.14.2-1]; 3.1.1: [MQTT-3.14.4-1]
    check(
        ALL,
        "
        a connects
        a > disconnect
        a < closed
    ",
    );
    check(
        V5,
        "
        a connects
        a > disconnect 0 rs=bye up=a:b
        a < closed
        b connects
        b > raw e0 02 00 00
        b < closed
    ",
    );
}

#[test]
fn reserved_bits_are_malformed() {
    // [MQTT-3.14.1-1] [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-4.13.1-1]
    // 3.1.1: [MQTT-3.14.1-1] [MQTT-2.2.2-1] [MQTT-2.2.2-2] [MQTT-3.6.1-1] [MQTT-3.8.1-1]
    // [MQTT-3.10.1-1] MQTT 3.1 leaves these bits unused, so it is not tested there.
    for bytes in [
        "e1 00",
        "e8 00",
        "c1 00",
        "60 02 00 01",
        "63 02 00 01",
        "41 02 00 01",
        "52 02 00 01",
        "74 02 00 01",
    ] {
        check(V311_AND_V5, &format!("a connects\n a > raw {bytes}\n a ended 0x81"));
    }
    check(
        V5,
        "
        a connects
        a > raw 80 07 00 01 00 00 01 61 00
        a ended 0x81
        b connects
        b > raw a0 06 00 01 00 00 01 61
        b ended 0x81
    ",
    );
    check(
        &[crate::harness::Version::V311],
        "
        a connects
        a > raw 80 06 00 01 00 01 61 00
        a < closed
        b connects
        b > raw a0 05 00 01 00 01 61
        b < closed
    ",
    );
}

#[test]
fn publish_flags_that_mean_nothing_are_malformed() {
    // [MQTT-3.3.1-2] [MQTT-3.3.1-4]; 3.1.1: [MQTT-3.3.1-2] [MQTT-3.3.1-4]
    check(
        ALL,
        "
        a connects
        a > raw 36 07 00 01 61 00 01 00 00
        a ended 0x81|0x82
        b connects
        b > raw 38 05 00 01 61 00 00
        b ended 0x81|0x82
    ",
    );
}

#[test]
fn packets_of_a_server_are_protocol_errors() {
    // [MQTT-4.13.1-1]; 3.1.1: [MQTT-4.8.0-1]
    for bytes in
        ["20 02 00 00", "20 03 00 00 00", "90 03 00 01 00", "b0 02 00 01", "d0 00", "00 00"]
    {
        check(ALL, &format!("a connects\n a > raw {bytes}\n a refused 0x81|0x82"));
    }
}

#[test]
fn unlisted_reason_codes_are_refused() {
    // [MQTT-3.14.2-1] [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
    for packet in ["disconnect 0x03", "puback 1 0x01", "pubrec 1 0x92", "pubrel 1 0x80"] {
        check(V5, &format!("a connects\n a > {packet}\n a refused 0x81|0x82"));
    }
}

#[test]
fn bytes_after_the_fields_are_malformed() {
    // [MQTT-4.13.1-1]; 3.1.1: [MQTT-4.8.0-1]
    check(
        V3,
        "
        a connects
        a > raw e0 01 00
        a < closed
        b connects
        b > raw 40 03 00 01 00
        b < closed
        c connects
        c > raw c0 01 00
        c < closed
    ",
    );
    check(
        V5,
        "
        a connects
        a > raw c0 01 00
        a ended 0x81|0x82
        b connects
        b > raw 40 05 00 01 00 00 00
        b ended 0x81|0x82
    ",
    );
}

#[test]
fn long_variable_integers_are_malformed() {
    // [MQTT-1.5.5-1]; Culex is as strict before 5.0
    check(
        ALL,
        "
        a connects
        a > raw c0 80 00
        a ended 0x81|0x82
        b connects
        b > raw 30 80 80 80 80 01
        b ended 0x81|0x82|0x95
        c connects
        c > raw 30 ff ff ff ff 7f
        c ended 0x81|0x82|0x95
    ",
    );
    check(
        V5,
        "
        a connects
        a > raw 30 06 00 01 61 80 00 00
        a ended 0x81|0x82
        b connects
        b > raw 82 0a 00 01 03 0b 81 00 00 01 61 00
        b ended 0x81|0x82
    ",
    );
}

#[test]
fn nothing_after_disconnect_is_processed() {
    // [MQTT-3.14.4-1]; 3.1.1: [MQTT-3.14.4-2]
    each(ALL, |test| {
        test.run(
            "
            sub connects
            sub subscribes ~/#
            a connects
        ",
        );
        let mut bytes = compose("disconnect", test.version, "");
        let topic = format!("{}/late", test.prefix);
        bytes.extend(compose(&format!("publish {topic}"), test.version, ""));
        test.client("a").write(&bytes);
        test.run(
            "
            a < closed
            sub < nothing
        ",
        );
    });
}

#[test]
fn nothing_after_a_malformed_packet_is_processed() {
    // [MQTT-4.13.1-1] [MQTT-4.13.2-1]; 3.1.1: [MQTT-4.8.0-1]
    each(ALL, |test| {
        test.run(
            "
            sub connects
            sub subscribes ~/#
            a connects
        ",
        );
        let mut bytes = hex("36050001610001");
        let topic = format!("{}/late", test.prefix);
        bytes.extend(compose(&format!("publish {topic}"), test.version, ""));
        test.client("a").write(&bytes);
        test.run(
            "
            a refused 0x81|0x82
            sub < nothing
        ",
        );
    });
}
