//! Shared subscriptions: `$share/NAME/FILTER`. Culex has them in every version.

use crate::harness::{ALL, Test, V5, V311_AND_V5, check, each};

/// What the client has got by now, acknowledged.
fn drain(test: &mut Test<'_>, name: &str) -> Vec<String> {
    test.send(name, "pingreq");
    let mut payloads = Vec::new();
    loop {
        let packet = test.client(name).packet();
        if packet.name == "pingresp" {
            return payloads;
        }
        assert_eq!(packet.name, "publish", "{}", packet.text());
        test.acknowledge(name, &packet);
        payloads.push(String::from_utf8(packet.payload).unwrap());
    }
}

/// Publishes `count` messages and returns what each member got, once all are there.
fn spread(test: &mut Test<'_>, members: &[&str], count: usize) -> Vec<Vec<String>> {
    for number in 0..count {
        test.run(&format!("pub publishes ~/t q1 p={number}"));
    }
    let mut got = vec![Vec::new(); members.len()];
    for _ in 0..1000 {
        for (name, payloads) in members.iter().zip(&mut got) {
            payloads.extend(drain(test, name));
        }
        if got.iter().map(Vec::len).sum::<usize>() >= count {
            break;
        }
    }
    let mut all: Vec<usize> = got.iter().flatten().map(|text| text.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>(), "each message once");
    got
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]; MQTT 5.0 §4.8.2
    each(ALL, |test| {
        let members = ["a", "b", "c", "d"];
        test.run("pub connects");
        for name in members {
            test.run(&format!("{name} connects\n {name} subscribes $share/g/~/t q1"));
        }
        for payloads in spread(test, &members, 200) {
            assert!((25..=75).contains(&payloads.len()), "a share of {} in 200", payloads.len());
        }
    });
}

#[test]
fn groups_and_plain_subscriptions_are_apart() {
    // MQTT 5.0 §4.8.2: each group gets each message; so does a plain subscription
    check(
        ALL,
        "
        a connects
        b connects
        pub connects
        a subscribes $share/g/~/# q1
        b subscribes $share/h/~/# q1
        pub subscribes ~/# q1
        pub publishes ~/t q1 p=1
        a gets ~/t q1 p=1
        b gets ~/t q1 p=1
        pub gets ~/t q1 p=1
        a < nothing
        b < nothing
        pub < nothing
    ",
    );
}

#[test]
fn granted_qos_of_the_chosen_member_counts() {
    // [MQTT-4.8.2-3]
    check(
        ALL,
        "
        a connects
        pub connects
        a subscribes $share/g/~/t q0
        pub publishes ~/t q2 p=1
        a gets ~/t p=1
        a subscribes $share/g/~/t q2
        pub publishes ~/t q2 p=2
        a gets ~/t q2 p=2
    ",
    );
}

#[test]
fn absent_members_are_passed_over() {
    // MQTT 5.0 §4.8.2; a member that is away does not hold up messages for one that is there
    each(V311_AND_V5, |test| {
        test.run(
            "
            pub connects
            a connects clean=0 expiry=60
            a subscribes $share/g/~/t q1
            b connects
            b subscribes $share/g/~/t q1
            a leaves
        ",
        );
        spread(test, &["b"], 20);
    });
}

#[test]
fn unacknowledged_messages_of_a_lost_member_go_to_another() {
    // MQTT 5.0 §4.8.2; QoS 1
    each(ALL, |test| {
        test.run(
            "
            pub connects
            a connects
            b connects
            a subscribes $share/g/~/t q1
            b subscribes $share/g/~/t q1
        ",
        );
        for number in 0..10 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        // Nothing is acknowledged by a; its session ends with the connection.
        test.run("a drops");
        let mut got = Vec::new();
        for _ in 0..1000 {
            got.extend(drain(test, "b"));
            if got.len() >= 10 {
                break;
            }
        }
        got.sort_unstable();
        assert_eq!(got, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
        // What b has acknowledged stays with b.
        test.run(
            "
            c connects
            c subscribes $share/g/~/t q1
            b leaves
            c < nothing
        ",
        );
    });
}

#[test]
fn qos_2_begun_with_one_member_stays_there() {
    // [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    check(
        V5,
        "
        pub connects
        a connects clean=0 expiry=60
        a subscribes $share/g/~/t q2
        pub publishes ~/t q2 p=1
        a < publish ~/t q2 p=1 id=$m
        b connects
        b subscribes $share/g/~/t q2
        a drops
        b < nothing
        a connects clean=0 expiry=60 -> present
        a < publish ~/t q2 dup p=1 id=$m
        a > pubrec $m
        a < pubrel $m
        a > pubcomp $m
        b < nothing
        // The session of a ends after PUBREC: the message ends with it.
        b leaves
        pub publishes ~/t q2 p=2
        a < publish ~/t q2 p=2 id=$n
        a > pubrec $n
        a < pubrel $n
        b connects
        b subscribes $share/g/~/t q2
        a drops
        a connects clean=1
        b < nothing
    ",
    );
}

#[test]
fn refused_messages_are_not_offered_to_others() {
    // [MQTT-4.8.2-6]
    check(
        V5,
        "
        pub connects
        a connects
        a subscribes $share/g/~/t q1
        pub publishes ~/t q1 p=1
        a < publish ~/t q1 p=1 id=$m
        b connects
        b subscribes $share/g/~/t q1
        a > puback $m 0x97
        a < nothing
        b < nothing
        a leaves
        b < nothing
    ",
    );
}

#[test]
fn retained_messages_are_not_sent_to_shared_subscriptions() {
    // MQTT 5.0 §4.8.2
    check(
        ALL,
        "
        a connects
        a publishes ~/r q1 retain p=1
        a subscribes $share/g/~/r q1
        a < nothing
        a publishes ~/r q1 retain p=2
        a gets ~/r q1 p=2
    ",
    );
}

#[test]
fn shared_subscription_ends_by_its_whole_name() {
    // [MQTT-3.10.4-1]
    check(
        ALL,
        "
        a connects
        a subscribes $share/g/~/t q1
        a > unsubscribe 1 ~/t $share/h/~/t
        a < unsuback 1 0x11 0x11
        a publishes ~/t q1 p=1
        a gets ~/t q1 p=1
        a > unsubscribe 2 $share/g/~/t
        a < unsuback 2 0
        a publishes ~/t q1 p=2
        a < nothing
    ",
    );
}

#[test]
fn shared_subscription_has_its_identifier() {
    // [MQTT-3.3.4-3]
    check(
        V5,
        "
        a connects
        a subscribes $share/g/~/t q1 sid=5
        a publishes ~/t q1 p=1
        a gets ~/t q1 p=1 sid=5
    ",
    );
}

#[test]
fn closed_windows_are_passed_over() {
    // [MQTT-4.9.0-2]; MQTT 5.0 §4.8.2: the server may choose by load
    each(V5, |test| {
        test.run(
            "
            pub connects
            a connects rmax=1
            b connects
            a subscribes $share/g/~/t q1
            b subscribes $share/g/~/t q1
        ",
        );
        for number in 0..10 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        // a never acknowledges, so it holds one message at most; b gets all others.
        let mut got = 0;
        for _ in 0..1000 {
            got += drain(test, "b").len();
            if got >= 9 {
                break;
            }
        }
        assert!(got >= 9, "{got} of 10 reached the member with an open window");
    });
}
