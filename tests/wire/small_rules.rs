//! Rules that need a few lines each and belong to no other file.

use crate::harness::{ALL, Client, Event, V3, V5, Version, check, compose, each, frame, hex};

#[test]
fn no_will_without_the_flag() {
    // 3.1.1: [MQTT-3.1.2-12]
    check(
        ALL,
        "
        w connects
        w subscribes ~/#
        a connects
        a drops
        b connects will=~/w wp=gone
        b drops
        w gets ~/w p=gone
        w < nothing
    ",
    );
}

#[test]
fn will_without_retain_is_not_kept() {
    // [MQTT-3.1.2-14]; 3.1.1: [MQTT-3.1.2-16]
    check(
        ALL,
        "
        w connects
        w subscribes ~/w
        a connects will=~/w wp=gone
        a drops
        w gets ~/w p=gone
        late connects
        late subscribes ~/w
        late < nothing
    ",
    );
}

#[test]
fn session_belongs_to_its_client_id() {
    // [MQTT-3.1.3-2]; 3.1.1: [MQTT-3.1.3-2]
    check(
        ALL,
        "
        a connects id=~one clean=0 expiry=60
        a subscribes ~/t q1
        a leaves
        // Another identifier, and the same letters in another case, are other clients.
        b connects id=~two clean=0 expiry=60
        c connects id=~ONE clean=0 expiry=60
        pub connects
        pub publishes ~/t q1 p=1
        b < nothing
        c < nothing
        5: d connects id=~one clean=0 expiry=60 -> present
        311: d connects id=~one clean=0 -> present
        31: d connects id=~one clean=0
        d gets ~/t q1 p=1
    ",
    );
}

#[test]
fn session_lasts_as_long_as_its_connection() {
    // [MQTT-4.1.0-1]; 3.1.1: [MQTT-4.1.0-2] [MQTT-3.1.2-6]
    check(
        ALL,
        "
        pub connects
        a connects
        a subscribes ~/t q1
        // Nothing but the end of the connection ends the session; other ends do not.
        b connects
        b subscribes ~/t q1
        b leaves
        pub publishes ~/t q1 p=1
        a gets ~/t q1 p=1
        a leaves
        a connects clean=0
        pub publishes ~/t q1 p=2
        a < nothing
    ",
    );
}

#[test]
fn dup_of_the_publisher_is_not_passed_on() {
    // [MQTT-3.3.1-3]; 3.1.1: [MQTT-3.3.1-3]
    check(
        ALL,
        "
        a connects
        a subscribes ~/t q2
        pub connects
        pub > publish ~/t q1 id=7 dup p=1
        pub < puback 7
        pub > publish ~/t q2 id=8 dup p=2
        pub < pubrec 8
        a gets ~/t q1 p=1
        a gets ~/t q2 p=2
    ",
    );
}

#[test]
fn topic_name_is_a_utf_8_string_in_front() {
    // [MQTT-3.3.2-1]; 3.1.1: [MQTT-3.3.2-1]
    each(ALL, |test| {
        let properties = if test.version == Version::V5 { "00" } else { "" };
        test.run("w connects\n w subscribes # q0");
        // Not UTF-8; longer than the packet; and, what is right, a topic before the payload.
        for (body, good) in [("0002 61ff", false), ("0009 6162", false), ("0002 6162", true)] {
            test.run("a connects");
            let bytes = hex(&format!("{body}{properties}78").replace(' ', ""));
            test.client("a").write(&frame(3, 0, &bytes));
            if good {
                test.run("a < nothing\n a leaves");
            } else {
                let mut client = test.take("a");
                while let Event::Packet(packet) = client.next() {
                    assert_eq!(packet.name, "disconnect");
                }
            }
        }
    });
}

#[test]
fn byte_order_mark_in_front_is_a_character() {
    // [MQTT-1.5.4-3]; 3.1.1: [MQTT-1.5.3-3]
    check(
        ALL,
        "
        a connects
        a subscribes \u{feff}~/t
        b connects
        b subscribes ~/t
        pub connects
        pub publishes \u{feff}~/t p=1
        a gets \u{feff}~/t p=1
        b < nothing
    ",
    );
}

#[test]
fn wildcard_filters_compare_levels_as_they_are() {
    // [MQTT-4.7.3-4]; 3.1.1: [MQTT-4.7.3-4]
    // Upper case, and the same letter composed of two characters, are other levels.
    check(
        ALL,
        "
        a connects
        a subscribes ~/Tick/+ q0 ~/\u{e9}/# q0 ~/+/Tock/x q0
        pub connects
        pub publishes ~/tick/1
        pub publishes ~/e\u{301}/1
        pub publishes ~/1/tock/x
        pub publishes ~/Tick/1 p=1
        pub publishes ~/\u{e9}/1 p=2
        pub publishes ~/1/Tock/x p=3
        a gets ~/Tick/1 p=1
        a gets ~/\u{e9}/1 p=2
        a gets ~/1/Tock/x p=3
    ",
    );
}

#[test]
fn unsubscribe_compares_filters_as_they_are() {
    // [MQTT-3.10.4-1]; 3.1.1: [MQTT-3.10.4-1]
    check(
        ALL,
        "
        a connects
        a subscribes ~/T q1 ~/+ q1
        a > unsubscribe 1 ~/t ~/# ~/T/ ~/+
        a < unsuback 1 0x11 0x11 0x11 0
        a publishes ~/T q1 p=1
        a gets ~/T q1 p=1
    ",
    );
}

#[test]
fn other_protocol_name_with_a_known_level_is_closed() {
    // [MQTT-3.1.2-1]; 3.1.1: [MQTT-3.1.2-1]
    each(ALL, |test| {
        for name in ["MQTX", "mqtt", "MQT"] {
            let mut client = Client::open(test.broker.address, test.version);
            client.write(&compose(&format!("connect name={name}"), test.version, "x"));
            let mut answer = Vec::new();
            std::io::Read::read_to_end(&mut client.stream, &mut answer).unwrap();
            // An old CONNACK that refuses the version, or nothing.
            assert!(answer.is_empty() || answer == [0x20, 2, 0, 1], "{name}: {answer:02x?}");
        }
    });
}

#[test]
fn empty_properties_are_one_zero_byte() {
    // [MQTT-2.2.2-1]
    each(V5, |test| {
        test.run("a connects");
        let filter = format!("{}/t", test.prefix);
        for (packet, answer) in [
            (format!("subscribe 1 {filter}"), &[0x90, 4, 0, 1, 0, 0][..]),
            (format!("publish {filter}"), &[]),
            (format!("unsubscribe 2 {filter}"), &[0xb0, 4, 0, 2, 0, 0]),
        ] {
            let mut expected = answer.to_vec();
            if expected.is_empty() {
                let topic = filter.as_bytes();
                expected = vec![0x30, u8::try_from(topic.len() + 3).unwrap(), 0];
                expected.push(u8::try_from(topic.len()).unwrap());
                expected.extend(topic);
                expected.push(0);
            }
            let bytes = compose(&packet, test.version, "");
            let client = test.client("a");
            client.write(&bytes);
            let mut got = vec![0; expected.len()];
            std::io::Read::read_exact(&mut client.stream, &mut got).unwrap();
            assert_eq!(got, expected, "{packet}");
        }
    });
}

#[test]
fn tcp_is_served() {
    // [MQTT-4.2-1]; 3.1.1: [MQTT-7.1.1-1]
    check(
        V3,
        "
        a connects
        a subscribes ~/t q2
        a publishes ~/t q2 p=*100000
        a gets ~/t q2 p=*100000
    ",
    );
    check(V5, "a connects\n a subscribes ~/t q2\n a publishes ~/t q2 p=1\n a gets ~/t q2 p=1");
}
