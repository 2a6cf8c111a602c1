//! QoS 0, 1, and 2, in and out.

use crate::harness::{ALL, check, each};

#[test]
fn delivery_qos_is_the_lower_of_both() {
    // [MQTT-3.8.4-8] [MQTT-3.3.4-1] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.2-4]
    // [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-4.3.3-4] [MQTT-4.3.3-8] [MQTT-4.3.3-11] [MQTT-2.2.1-2]
    // [MQTT-2.2.1-4] [MQTT-2.2.1-5] [MQTT-3.3.1-2] [MQTT-3.3.1-3]
    // 3.1.1: [MQTT-3.8.4-6] [MQTT-3.3.4-1] [MQTT-4.3.1-1] [MQTT-4.3.2-1] [MQTT-4.3.2-2]
    // [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-2.3.1-4] [MQTT-2.3.1-5] [MQTT-2.3.1-6]
    each(ALL, |test| {
        test.run(
            "
            pub connects
            s0 connects
            s1 connects
            s2 connects
            s0 subscribes ~/t q0
            s1 subscribes ~/t q1
            s2 subscribes ~/t q2
        ",
        );
        for (published, granted) in [(0, [0, 0, 0]), (1, [0, 1, 1]), (2, [0, 1, 2])] {
            test.run(&format!("pub publishes ~/t q{published} p={published}").replace(" q0", ""));
            for (name, qos) in granted.iter().enumerate() {
                let line = format!("s{name} gets ~/t q{qos} p={published}").replace(" q0", "");
                test.run(&line);
            }
        }
        test.run(
            "
            s0 < nothing
            s1 < nothing
            s2 < nothing
        ",
        );
    });
}

#[test]
fn own_messages_come_back() {
    // [MQTT-4.5.0-1]; 3.1.1: [MQTT-4.5.0-1]
    check(
        ALL,
        "
        a connects
        a subscribes ~/t q2
        a publishes ~/t p=0
        a gets ~/t p=0
        a publishes ~/t q1 p=1
        a gets ~/t q1 p=1
        a publishes ~/t q2 p=2
        a gets ~/t q2 p=2
    ",
    );
}

#[test]
fn qos_2_repeated_before_pubrel_is_delivered_once() {
    // [MQTT-4.3.3-10] [MQTT-4.3.3-11] [MQTT-4.3.3-12]; 3.1.1: [MQTT-4.3.3-2]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/t q2
        pub connects
        pub > publish ~/t q2 id=9 p=1
        pub < pubrec 9
        pub > publish ~/t q2 id=9 dup p=1
        pub < pubrec 9 0|0x10
        pub > publish ~/t q2 id=9 dup p=1
        pub < pubrec 9 0|0x10
        pub > pubrel 9
        pub < pubcomp 9
        pub > publish ~/t q2 id=9 p=2
        pub < pubrec 9
        pub > pubrel 9
        pub < pubcomp 9
        sub gets ~/t q2 p=1
        sub gets ~/t q2 p=2
        sub < nothing
    ",
    );
}

#[test]
fn qos_2_repeated_after_resume_is_delivered_once() {
    // [MQTT-4.3.3-10] [MQTT-4.4.0-1]; 3.1.1: [MQTT-4.3.3-2] [MQTT-4.4.0-1]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/t q2
        pub connects clean=0 expiry=60
        pub > publish ~/t q2 id=9 p=1
        pub < pubrec 9
        pub drops
        pub > connect clean=0 expiry=60
        pub < connack *
        pub > publish ~/t q2 id=9 dup p=1
        pub < pubrec 9 0|0x10
        pub > pubrel 9
        pub < pubcomp 9
        sub gets ~/t q2 p=1
        sub < nothing
    ",
    );
}

#[test]
fn qos_1_id_is_free_after_puback() {
    // [MQTT-4.3.2-5]: a new message whatever DUP says; [MQTT-3.3.1-3]; 3.1.1: [MQTT-4.3.2-2]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/t q1
        pub connects
        pub > publish ~/t q1 id=9 p=1
        pub < puback 9
        pub > publish ~/t q1 id=9 dup p=1
        pub < puback 9
        sub gets ~/t q1 p=1
        sub gets ~/t q1 p=1
        sub < nothing
    ",
    );
}

#[test]
fn acknowledgements_keep_the_order_of_messages() {
    // [MQTT-4.6.0-2] [MQTT-4.6.0-3] [MQTT-4.6.0-4]; 3.1.1: [MQTT-4.6.0-2] [MQTT-4.6.0-3]
    // [MQTT-4.6.0-4]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/#
        pub connects
        pub > publish ~/a q1 id=1
        pub > publish ~/b q1 id=2
        pub > publish ~/none q1 id=3
        pub > publish ~/a q1 id=4
        pub < puback 1
        pub < puback 2
        pub < puback 3 0|0x10
        pub < puback 4
        pub > publish ~/a q2 id=5
        pub > publish ~/b q2 id=6
        pub > publish ~/a q2 id=7
        pub < pubrec 5
        pub < pubrec 6
        pub < pubrec 7
        pub > pubrel 5
        pub > pubrel 6
        pub > pubrel 7
        pub < pubcomp 5
        pub < pubcomp 6
        pub < pubcomp 7
    ",
    );
}

#[test]
fn order_holds_per_topic_over_many_messages() {
    // [MQTT-4.6.0-5] [MQTT-4.6.0-6]; 3.1.1: [MQTT-4.6.0-5] [MQTT-4.6.0-6]
    each(ALL, |test| {
        test.run(
            "
            s1 connects
            s2 connects
            s1 subscribes ~/+ q1
            s2 subscribes ~/t q2
            pub connects
        ",
        );
        for number in 0..300 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        for number in 0..300 {
            test.run(&format!("s1 gets ~/t q1 p={number}\ns2 gets ~/t q1 p={number}"));
        }
    });
}

#[test]
fn broker_ids_in_flight_are_distinct() {
    // [MQTT-2.2.1-4] [MQTT-4.3.2-1] [MQTT-4.3.3-1]; 3.1.1: [MQTT-2.3.1-4]
    each(ALL, |test| {
        test.run(
            "
            sub connects
            sub subscribes ~/t q2
            pub connects
        ",
        );
        for number in 0..20 {
            let qos = 1 + number % 2;
            test.run(&format!("pub publishes ~/t q{qos} p={number}"));
        }
        let mut ids: Vec<u16> = (0..20).map(|_| test.client("sub").packet().id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 20);
    });
}

#[test]
fn pubrel_is_awaited_before_nothing_else() {
    // [MQTT-4.3.3-3] [MQTT-4.3.3-5] [MQTT-4.3.3-6]; the broker neither repeats nor forgets
    // meanwhile
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/t q2
        pub connects
        pub publishes ~/t q2 p=1
        pub publishes ~/t q2 p=2
        sub < publish ~/t q2 p=1 id=$a
        sub < publish ~/t q2 p=2 id=$b
        sub > pubrec $a
        sub < pubrel $a
        sub > pubrec $b
        sub < pubrel $b
        sub < nothing
        sub > pubcomp $b
        sub > pubcomp $a
        sub < nothing
    ",
    );
}
