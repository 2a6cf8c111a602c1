//! What a bad CONNECT gets.

use std::io::Read as _;

use crate::harness::{ALL, V3, V5, Version, check, compose, each};

/// Sends a CONNECT and returns all the broker answers until it closes.
fn answer(version: Version, connect: &str) -> Vec<u8> {
    let mut all = Vec::new();
    let bytes = std::sync::Mutex::new(&mut all);
    each(&[version], |test| {
        let mut client = crate::harness::Client::open(test.broker.address, version);
        client.write(&compose(connect, version, "refused"));
        let mut own = Vec::new();
        let _ = client.stream.read_to_end(&mut own);
        let mut bytes = bytes.lock().unwrap();
        if bytes.is_empty() {
            bytes.extend(own);
        } else {
            assert_eq!(**bytes, own, "the shard count changes the answer");
        }
    });
    all
}

#[test]
fn unknown_level_is_unacceptable() {
    // [MQTT-3.1.2-2]; 3.1.1: [MQTT-3.1.2-2]
    // Below 5 the peer reads 3.x CONNACKs; above, those of 5.0.
    for (version, level) in [(Version::V311, 2), (Version::V311, 0), (Version::V31, 5)] {
        assert_eq!(answer(version, &format!("connect level={level}")), [0x20, 2, 0, 1], "{level}");
    }
    for level in [6, 127] {
        let bytes = answer(Version::V5, &format!("connect level={level}"));
        assert!(bytes == [0x20, 2, 0, 1] || bytes.starts_with(&[0x20]) && bytes[3] == 0x84);
    }
}

#[test]
fn unknown_protocol_name_is_closed() {
    // [MQTT-3.1.2-1]; 3.1.1: [MQTT-3.1.2-1]
    for name in ["MQTX", "mqtt", "MQIsdp5", "x:"] {
        let bytes = answer(Version::V5, &format!("connect name={name}"));
        assert!(bytes.is_empty() || bytes == [0x20, 2, 0, 1] || bytes[3] == 0x84, "{bytes:02x?}");
    }
}

#[test]
fn reserved_flag_is_malformed() {
    // [MQTT-3.1.2-3] [MQTT-3.1.4-1]; 3.1.1: [MQTT-3.1.2-3] [MQTT-3.1.4-1]
    // MQTT 3.1 calls the bit unused, so it is not tested there.
    check(
        &[Version::V311, Version::V5],
        "
        a > connect flags=0x03
        a refused 0x81|0x82
    ",
    );
}

#[test]
fn will_flags_without_will_are_malformed() {
    // [MQTT-3.1.2-11] [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-11] [MQTT-3.1.2-13] [MQTT-3.1.2-15]
    check(
        &[Version::V311, Version::V5],
        "
        a > connect flags=0x0a
        a refused 0x81|0x82
        b > connect flags=0x22
        b refused 0x81|0x82
    ",
    );
}

#[test]
fn will_qos_3_is_malformed() {
    // [MQTT-3.1.2-12]; 3.1.1: [MQTT-3.1.2-14]
    check(
        ALL,
        "
        a > connect flags=0x1e will=~/w wp=x
        a refused 0x81|0x82
    ",
    );
}

#[test]
fn password_without_user_name_is_malformed_before_v5() {
    // 3.1.1: [MQTT-3.1.2-22]
    check(
        &[Version::V311],
        "
        a > connect pass=secret
        a refused 0
    ",
    );
}

#[test]
fn fields_cut_off_or_left_over_are_malformed() {
    // [MQTT-3.1.4-1] [MQTT-3.1.2-9] [MQTT-3.1.3-3]; 3.1.1: [MQTT-3.1.4-1] [MQTT-3.1.2-19]
    check(
        ALL,
        "
        // MQTT 3.1 §3.1 lets a flagged user name be missing.
        311: a > connect flags=0x82
        311: a refused 0x81|0x82
        5: a > connect flags=0x82
        5: a refused 0x81|0x82
        b > connect flags=0x06
        b refused 0x81|0x82
        c > connect flags=0x02 user=u
        c refused 0x81|0x82
    ",
    );
}

#[test]
fn wrong_properties_are_refused() {
    // MQTT 5.0 §3.1.2.11: twice, of another packet, or with a value out of range; [MQTT-4.13.1-1]
    for properties in [
        "expiry=1 expiry=1",
        "rmax=0",
        "max=0",
        "rpi=2",
        "rri=2",
        "rmax=1 rmax=1",
        "alias=1",
        "sid=1",
        "assigned=x",
        "maxq=1",
        "data=x",
        "will=~/w wpf=2",
        "will=~/w wexpiry=1",
        "will=~/w wdelay=1 wdelay=1",
        "will=~/w walias=1",
    ] {
        check(V5, &format!("a > connect {properties}\n a refused 0x81|0x82"));
    }
}

#[test]
fn nothing_after_a_refused_connect_is_processed() {
    // [MQTT-3.1.4-6] [MQTT-3.2.2-7]; 3.1.1: [MQTT-3.1.4-5] [MQTT-3.2.2-5]
    each(ALL, |test| {
        test.run(
            "
            sub connects
            sub subscribes ~/#
        ",
        );
        let topic = format!("{}/x", test.prefix);
        let mut bytes = compose("connect level=9", test.version, "late");
        bytes.extend(compose(&format!("publish {topic} p=late"), test.version, ""));
        let mut client = crate::harness::Client::open(test.broker.address, test.version);
        client.write(&bytes);
        let _ = client.stream.read_to_end(&mut Vec::new());
        test.run(
            "
            pub connects
            pub publishes ~/x p=good
            sub gets ~/x p=good
        ",
        );
    });
}

#[test]
fn bad_strings_in_connect_are_closed() {
    // [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
    // 3.1.1: [MQTT-1.5.3-1] [MQTT-1.5.3-2] [MQTT-3.1.3-4] [MQTT-3.1.3-10] [MQTT-3.1.3-11]
    for bad in ["x:61ff", "x:eda080", "x:c080", "x:6100"] {
        check(V3, &format!("a > connect id={bad}\n a refused 0"));
        for place in ["id=", "will=", "user="] {
            check(V5, &format!("a > connect {place}{bad}\n a refused 0x81|0x85"));
        }
    }
}
