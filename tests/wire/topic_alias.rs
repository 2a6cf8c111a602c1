//! Topic aliases (MQTT 5.0 §3.3.2.3.4).

use crate::harness::{V5, check, each, each_with};

#[test]
fn alias_of_the_client_stands_for_the_topic() {
    // [MQTT-3.3.2-12]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/# q1
        pub connects -> amax=10
        pub > publish ~/a alias=1 p=1
        pub > publish ~/b q1 id=5 alias=10 p=2
        pub <* puback 5
        pub > publish '' alias=1 p=3
        pub > publish '' q1 id=6 alias=10 p=4
        pub <* puback 6
        // A new topic replaces the old one.
        pub > publish ~/c alias=1 p=5
        pub > publish '' alias=1 p=6
        sub gets ~/a p=1
        sub gets ~/b q1 p=2
        sub gets ~/a p=3
        sub gets ~/b q1 p=4
        sub gets ~/c p=5
        sub gets ~/c p=6
    ",
    );
}

#[test]
fn alias_0_and_beyond_the_maximum_are_errors() {
    // [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17]: 0x94
    check(
        V5,
        "
        a connects
        a > publish ~/t alias=0
        a ended 0x94
        a connects
        a > publish ~/t alias=11
        a ended 0x94
    ",
    );
}

#[test]
fn unknown_alias_is_a_protocol_error() {
    // MQTT 5.0 §3.3.2.3.4: 0x82
    check(
        V5,
        "
        a connects
        a > publish '' alias=3
        a ended 0x82
        a connects
        a > publish ''
        a ended 0x82|0x90
    ",
    );
}

#[test]
fn mapping_dies_with_the_connection() {
    // [MQTT-3.3.2-7]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a publishes ~/t q1 alias=1
        a publishes '' q1 alias=1
        a leaves
        a connects clean=0 expiry=60 -> present
        a > publish '' alias=1
        a ended 0x82
    ",
    );
}

#[test]
fn mappings_of_two_clients_are_apart() {
    // [MQTT-3.3.2-7]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/#
        a connects
        b connects
        a publishes ~/a alias=1 p=1
        sub gets ~/a p=1
        b publishes ~/b alias=1 p=2
        sub gets ~/b p=2
        a publishes '' alias=1 p=3
        sub gets ~/a p=3
        b publishes '' alias=1 p=4
        sub gets ~/b p=4
    ",
    );
}

/// Resolves the aliases of `count` deliveries; topics in order, and the highest alias.
fn deliveries(test: &mut crate::harness::Test<'_>, count: usize) -> (Vec<String>, u16) {
    let mut names: Vec<Option<String>> = vec![None; 0x1_0000];
    let mut topics = Vec::new();
    let mut highest = 0;
    for _ in 0..count {
        let packet = test.client("sub").packet();
        let alias: u16 = packet.value("alias").map_or(0, |text| text.parse().unwrap());
        highest = highest.max(alias);
        let slot = &mut names[usize::from(alias)];
        if packet.topic.is_empty() {
            topics.push(slot.clone().expect("an alias that was introduced"));
        } else {
            topics.push(packet.topic.clone());
            *slot = Some(packet.topic);
        }
    }
    (topics, highest)
}

#[test]
fn aliases_of_the_broker_keep_to_the_clients_maximum() {
    // [MQTT-3.1.2-26] [MQTT-3.3.2-11] [MQTT-3.3.2-10]
    for maximum in [1_u16, 3, 65535] {
        each(V5, |test| {
            test.run(&format!(
                "
                sub connects amax={maximum}
                sub subscribes ~/#
                pub connects
            "
            ));
            let topic = |number: usize| format!("{}/{}", test.prefix, number % 5);
            let wanted: Vec<String> = (0..40).map(topic).collect();
            for number in 0..40 {
                test.run(&format!("pub publishes ~/{} p={number}", number % 5));
            }
            let (topics, highest) = deliveries(test, 40);
            assert_eq!(topics, wanted);
            assert!(highest <= maximum.min(10), "alias {highest}");
        });
    }
}

#[test]
fn broker_uses_aliases_when_it_may() {
    // MQTT 5.0 §3.3.2.3.4: a second message of one topic needs no name
    each_with("[limits]\ntopic_alias_out_maximum = 5\n", V5, |test| {
        test.run(
            "
            sub connects amax=5
            sub subscribes ~/t
            pub connects
            pub publishes ~/t p=1
            pub publishes ~/t p=2
            sub < publish ~/t alias=$n p=1
            sub < publish '' alias=$n p=2
        ",
        );
    });
}

#[test]
fn no_alias_for_who_wants_none() {
    // [MQTT-3.1.2-27] [MQTT-3.3.2-11]
    check(
        V5,
        "
        a connects
        b connects amax=0
        a subscribes ~/t
        b subscribes ~/t
        pub connects
        pub publishes ~/t alias=1 p=1
        pub publishes '' alias=1 p=2
        a gets ~/t p=1
        a gets ~/t p=2
        b gets ~/t p=1
        b gets ~/t p=2
    ",
    );
}
