//! CONNECT comes first, once.

use crate::harness::{ALL, V5, check, each, frame};

#[test]
fn anything_else_first_is_closed() {
    // [MQTT-3.1.0-1] [MQTT-3.14.0-1]; 3.1.1: [MQTT-3.1.0-1]
    for kind in (0..16).filter(|kind| *kind != 1) {
        each(ALL, |test| {
            let mut client = crate::harness::Client::open(test.broker.address, test.version);
            client.write(&frame(kind, if matches!(kind, 6 | 8 | 10) { 2 } else { 0 }, &[0, 1]));
            let event = client.next();
            assert!(matches!(event, crate::harness::Event::Closed), "type {kind}: {event:?}");
        });
    }
}

#[test]
fn another_protocol_is_closed() {
    // [MQTT-3.1.4-1]
    check(
        ALL,
        "
        // GET / HTTP/1.1
        a > raw 474554202f20485454502f312e310d0a0d0a
        a < closed
        // a TLS ClientHello
        b > raw 16030100c4010000c00303
        b < closed
    ",
    );
}

#[test]
fn second_connect_ends_the_connection() {
    // [MQTT-3.1.0-2]; 3.1.1: [MQTT-3.1.0-2]
    check(
        ALL,
        "
        a connects
        a > connect
        a ended 0x82
    ",
    );
}

#[test]
fn second_connect_publishes_the_will() {
    // [MQTT-3.1.0-2] [MQTT-3.1.2-8]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects will=~/w wp=gone
        a > connect
        a ended 0x82
        sub gets ~/w p=gone
    ",
    );
}

#[test]
fn connect_in_the_same_segment_as_its_followers() {
    // MQTT 5.0 §3.1.4: a client may send packets before CONNACK
    each(V5, |test| {
        let mut bytes = crate::harness::compose("connect", test.version, &test.prefix);
        let topic = format!("{}/t", test.prefix);
        for text in [
            format!("subscribe 1 {topic} q1"),
            format!("publish {topic} q1 id=2 p=early"),
            "pingreq".into(),
        ] {
            bytes.extend(crate::harness::compose(&text, test.version, ""));
        }
        let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.join(" ");
        test.run(&format!(
            "
            a > raw {digits}
            a < connack
            a <* suback 1 1
            a <* puback 2
            a <* pingresp
            a gets ~/t q1 p=early
        "
        ));
    });
}
