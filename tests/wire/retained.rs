//! Retained messages.

use crate::harness::{ALL, V5, check, each};

#[test]
fn new_subscription_gets_the_last_retained_message() {
    // [MQTT-3.3.1-5] [MQTT-3.3.1-8] [MQTT-3.3.1-9] [MQTT-3.3.1-12]
    // 3.1.1: [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-8] [MQTT-3.3.1-9] [MQTT-3.3.1-12]
    check(
        ALL,
        "
        live connects
        live subscribes ~/r q2
        pub connects
        pub publishes ~/r q1 retain p=1
        pub publishes ~/r q2 retain p=2
        pub publishes ~/r q1 p=passing
        live gets ~/r q1 p=1
        live gets ~/r q2 p=2
        live gets ~/r q1 p=passing
        late connects
        late subscribes ~/r q1
        late gets ~/r q1 retain p=2
        late < nothing
    ",
    );
}

#[test]
fn empty_retained_message_deletes() {
    // [MQTT-3.3.1-6] [MQTT-3.3.1-7]; 3.1.1: [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    check(
        ALL,
        "
        pub connects
        pub publishes ~/r q1 retain p=1
        live connects
        live subscribes ~/r q1
        live gets ~/r q1 retain p=1
        pub publishes ~/r q1 retain
        live gets ~/r q1
        late connects
        late subscribes ~/# q1
        late < nothing
        pub publishes ~/end q1
        late gets ~/end q1
    ",
    );
}

#[test]
fn retained_qos_0_replaces() {
    // 3.1.1: [MQTT-3.3.1-7]; MQTT 5.0 §3.3.1.3
    check(
        ALL,
        "
        pub connects
        live connects
        live subscribes ~/r q1
        pub publishes ~/r q1 retain p=1
        pub publishes ~/r retain p=2
        live gets ~/r q1 p=1
        live gets ~/r p=2
        pub publishes ~/s q1 retain p=after
        late connects
        late subscribes ~/s q1 ~/r q1
        late <* publish ~/s q1 retain p=after
        late <* publish ~/r retain p=2
    ",
    );
}

#[test]
fn retained_outlives_its_publisher() {
    // 3.1.1: [MQTT-3.1.2-7]; MQTT 5.0 §4.1
    check(
        ALL,
        "
        pub connects
        pub publishes ~/r q1 retain p=1
        pub leaves
        pub connects
        pub leaves
        late connects
        late subscribes ~/r
        late gets ~/r retain p=1
    ",
    );
}

#[test]
fn wildcards_find_all_retained_messages() {
    // [MQTT-3.3.1-9] [MQTT-3.3.2-3]; 3.1.1: [MQTT-3.3.1-6] [MQTT-3.3.2-3]
    each(ALL, |test| {
        test.run("pub connects\n sub connects");
        for topic in ["", "/a", "/a/b", "/a/b/c", "/x", "/x/b", "//b", "/a/"] {
            test.run(&format!("pub publishes ~/t{topic} q1 retain p=r{topic}"));
        }
        for (filter, wanted) in [
            ("~/t", &["r"][..]),
            ("~/t/#", &["r", "r/a", "r/a/", "r/a/b", "r/a/b/c", "r/x", "r/x/b", "r//b"]),
            ("~/t/+", &["r/a", "r/x"]),
            ("~/t/+/b", &["r//b", "r/a/b", "r/x/b"]),
            ("~/t/a/+", &["r/a/", "r/a/b"]),
            ("~/t/a/#", &["r/a", "r/a/", "r/a/b", "r/a/b/c"]),
            ("~/t/+/+/c", &["r/a/b/c"]),
            ("~/+/x", &["r/x"]),
        ] {
            test.run(&format!("sub subscribes {filter}"));
            let mut got: Vec<String> = (0..wanted.len())
                .map(|_| {
                    let packet = test.client("sub").packet();
                    assert!(packet.words.contains(&"retain".to_owned()), "{}", packet.text());
                    String::from_utf8(packet.payload).unwrap()
                })
                .collect();
            let mut wanted: Vec<&str> = wanted.to_vec();
            got.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(got, wanted, "{filter}");
            test.run(&format!(
                "
                sub < nothing
                sub > unsubscribe 9 {filter}
                sub < unsuback 9 0
            "
            ));
        }
    });
}

#[test]
fn a_thousand_retained_messages_arrive_once_each() {
    // [MQTT-3.3.1-9]; more than fits into one turn or one window
    each(ALL, |test| {
        test.run("pub connects\n sub connects");
        for number in 0..1000 {
            test.run(&format!("pub publishes ~/{number} q1 retain p={number}"));
        }
        test.run("sub subscribes ~/+ q1");
        let mut seen = vec![false; 1000];
        for _ in 0..1000 {
            let packet = test.client("sub").packet();
            test.acknowledge("sub", &packet);
            let number: usize = std::str::from_utf8(&packet.payload).unwrap().parse().unwrap();
            assert!(!std::mem::replace(&mut seen[number], true), "{number} twice");
        }
        test.run("sub < nothing");
    });
}

#[test]
fn replacing_a_subscription_sends_retained_again() {
    // [MQTT-3.8.4-3] [MQTT-3.8.4-4]; 3.1.1: [MQTT-3.8.4-3]
    check(
        ALL,
        "
        a connects
        a publishes ~/r q1 retain p=1
        a subscribes ~/r q0
        a gets ~/r retain p=1
        a subscribes ~/r q1
        a gets ~/r q1 retain p=1
        a publishes ~/r q1 p=2
        a gets ~/r q1 p=2
        a < nothing
    ",
    );
}

#[test]
fn retained_properties_are_kept() {
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    // [MQTT-3.3.2-20]
    check(
        V5,
        "
        a connects
        a publishes ~/r q1 retain p=1 up=b:1 up=a:2 ct=text resp=~/x corr=y pf=1 mexp=500
        a subscribes ~/r q1 sid=9
        a gets ~/r q1 retain p=1 up=b:1 up=a:2 ct=text resp=~/x corr=y pf=1 mexp=500|499 sid=9
    ",
    );
}
