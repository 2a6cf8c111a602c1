//! `$SYS`: what the broker tells about itself.

use crate::harness::{ALL, Packet, Test, V3, V5, check, each, each_with};

/// Next message of a `$SYS` topic whose text passes `wanted`.
fn value(test: &mut Test<'_>, topic: &str, wanted: impl Fn(&str) -> bool) -> String {
    test.run(
        &format!("sys connects id=~sys{topic}\n sys subscribes {topic}").replace("sys/", "s/"),
    );
    loop {
        let packet: Packet = test.client("sys").packet();
        let value = String::from_utf8(packet.payload).unwrap();
        if wanted(&value) {
            test.take("sys").lose();
            return value;
        }
    }
}

#[test]
fn version_is_there_at_once() {
    each(ALL, |test| {
        test.run("a connects\n a subscribes $SYS/broker/version");
        let packet = test.client("a").packet();
        assert!(packet.words.contains(&"retain".to_owned()), "{}", packet.text());
        let text = String::from_utf8(packet.payload).unwrap();
        assert!(text.contains(|c: char| c.is_ascii_digit()), "{text}");
    });
}

#[test]
fn counters_appear() {
    each(ALL, |test| {
        for name in [
            "uptime",
            "clients/total",
            "clients/connected",
            "clients/disconnected",
            "clients/maximum",
            "messages/stored",
            "messages/received",
            "messages/sent",
            "retained messages/count",
            "subscriptions/count",
            "shared_subscriptions/count",
            "bytes/received",
            "bytes/sent",
            "publish/messages/received",
            "publish/messages/sent",
            "publish/messages/dropped",
            "publish/bytes/received",
            "publish/bytes/sent",
        ] {
            // The space in one name does not fit into a script.
            let filter = format!("$SYS/broker/{}", name.replace("retained messages", "+"));
            let text = value(test, &filter, |text| !text.is_empty());
            assert!(text.starts_with(|c: char| c.is_ascii_digit()), "{name}: {text}");
        }
    });
}

#[test]
fn counters_grow_with_the_traffic() {
    each(V5, |test| {
        test.run("a connects\n a subscribes ~/t");
        for number in 0..10 {
            test.run(&format!("a publishes ~/t q1 p={number}"));
        }
        let number = |text: &str| text.parse::<u64>().unwrap();
        let topic = "$SYS/broker/publish/messages/received";
        let before = number(&value(test, topic, |text| number(text) >= 10));
        for number in 0..10 {
            test.run(&format!("a publishes ~/t q1 p={number}"));
        }
        value(test, topic, |text| number(text) >= before + 10);
        value(test, "$SYS/broker/clients/connected", |text| number(text) >= 2);
    });
}

#[test]
fn clients_cannot_publish_there() {
    // MQTT 5.0 §4.7.2: 0x87; 3.1.1: [MQTT-3.3.5-2]
    check(
        V5,
        "
        sub connects
        sub subscribes $SYS/~/# q2
        a connects
        a > publish $SYS/~/x q1 id=1 p=1
        a < puback 1 0x87
        a > publish $SYS/~/x q2 id=2 p=2
        a < pubrec 2 0x87
        // A failed PUBREC ends it; the id is free, and PUBREL would be unknown. [MQTT-4.3.3-9]
        a > pubrel 2
        a < pubcomp 2 0x92
        a > publish $SYS/~/x p=3
        a < nothing
        sub < nothing
    ",
    );
    check(
        V3,
        "
        sub connects
        sub subscribes $SYS/~/# q2
        a connects
        // Before 5.0 no acknowledgement can refuse, so these do not say so.
        a > publish $SYS/~/x q1 id=1 p=1
        a < puback 1
        a > publish $SYS/~/x q2 id=2 p=2 retain
        a < pubrec 2
        a > pubrel 2
        a < pubcomp 2
        sub < nothing
        late connects
        late subscribes $SYS/~/x
        late < nothing
    ",
    );
}

#[test]
fn a_3x_client_may_be_cut_off_for_it() {
    // 3.1.1: [MQTT-3.3.5-2] the other way
    let config = "sys_interval_s = 1\n[mqtt]\ndenied_publish = \"disconnect\"\n";
    each_with(config, V3, |test| {
        test.run(
            "
            sub connects
            sub subscribes $SYS/~/# q2
            a connects
            a > publish $SYS/~/x q1 id=1 p=1
            a < closed
            b connects
            b > publish $SYS/~/x q2 id=2 p=2 retain
            b < closed
            sub < nothing
        ",
        );
        value(test, "$SYS/broker/publish/messages/dropped/denied", |text| text == "2");
    });
}
