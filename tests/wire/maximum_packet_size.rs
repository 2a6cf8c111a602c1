//! Largest packets, both ways.

use crate::harness::{ALL, V5, check, check_with};

#[test]
fn too_large_for_the_client_is_dropped_as_if_sent() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    check(
        V5,
        "
        a connects max=200
        a subscribes ~/t q2
        b connects
        b subscribes ~/t q1
        pub connects
        pub publishes ~/t q1 p=*300
        pub publishes ~/t q2 p=*300
        pub publishes ~/t p=*300
        pub publishes ~/t q1 p=small
        a gets ~/t q1 p=small
        b gets ~/t q1 p=*300
        b gets ~/t q1 p=*300
        b gets ~/t p=*300
        b gets ~/t q1 p=small
    ",
    );
}

#[test]
fn client_limit_is_kept_to_the_byte() {
    // [MQTT-3.1.2-24]: 2 bytes of header, 2 of the topic, the topic, 1 of properties, the payload
    crate::harness::each(V5, |test| {
        let topic = format!("{}/limit", test.prefix);
        let most = 100 - 2 - 2 - topic.len() - 1;
        test.run(&format!(
            "
            a connects max=100
            a subscribes ~/limit
            pub connects
            pub publishes ~/limit p=*{}
            pub publishes ~/limit p=*{most}
            a gets ~/limit p=*{most}
            a < nothing
        ",
            most + 1
        ));
    });
}

#[test]
fn too_large_retained_and_queued_messages_do_not_block() {
    // [MQTT-3.1.2-25]
    check(
        V5,
        "
        pub connects
        pub publishes ~/r q1 retain p=*300
        pub publishes ~/s q1 retain p=small
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        a leaves
        pub publishes ~/t q1 p=*300
        pub publishes ~/t q1 p=small
        a connects clean=0 expiry=60 max=200 -> present
        a gets ~/t q1 p=small
        a subscribes ~/+ q1 rh=0
        a gets ~/s q1 retain p=small
        pub publishes ~/r q1 retain
        pub publishes ~/s q1 retain
    ",
    );
}

#[test]
fn too_large_for_the_broker_ends_the_connection() {
    // [MQTT-3.2.2-15]; MQTT 5.0 §3.2.2.3.6: 0x95
    check_with(
        "[limits]\npacket_bytes_max = 2000\n",
        ALL,
        "
        sub connects
        sub subscribes ~/#
        a connects
        a > publish ~/t p=*1900
        sub gets ~/t p=*1900
        a > publish ~/t p=*2000
        a ended 0x95
        // The header alone decides: nobody waits for the rest.
        b connects
        b > raw 30 80 80 80 01
        b ended 0x95
        sub < nothing
    ",
    );
}

#[test]
fn too_large_connect_is_closed() {
    // MQTT 5.0 §3.2.2.2: 0x95
    check_with(
        "[limits]\npacket_bytes_max = 2000\n",
        ALL,
        "
        a > connect will=~/w wp=*2000
        a refused 0x95
    ",
    );
}

#[test]
fn limit_is_met_exactly() {
    // MQTT 5.0 §3.1.2.11.4: the size counts the whole packet
    crate::harness::each_with("[limits]\npacket_bytes_max = 2000\n", ALL, |test| {
        let properties = usize::from(test.version == crate::harness::Version::V5);
        let most = 2000 - 3 - 2 - 1 - properties;
        test.run(&format!(
            "
            sub connects
            sub subscribes t
            a connects
            a publishes t p=*{most}
            sub gets t p=*{most}
            a publishes t p=*{}
            a ended 0x95
        ",
            most + 1
        ));
    });
}
