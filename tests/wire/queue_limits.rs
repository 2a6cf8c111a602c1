//! Queues of absent and slow clients have limits, and what they cost is counted.

use crate::harness::{ALL, Test, V3, V5, each_with};

/// Payload numbers that the resumed client gets, each acknowledged.
fn resumed(test: &mut Test<'_>) -> Vec<usize> {
    test.run(
        "
        a > connect clean=0 expiry=60
        a < connack *
        pub publishes ~/end q1
    ",
    );
    let mut got = Vec::new();
    loop {
        let packet = test.client("a").packet();
        test.acknowledge("a", &packet);
        if packet.topic.ends_with("/end") {
            return got;
        }
        let payload = String::from_utf8(packet.payload).unwrap();
        got.push(payload.split('.').next().unwrap().parse().unwrap());
    }
}

/// Waits until `$SYS` counts this many dropped messages.
fn await_dropped(test: &mut Test<'_>, count: usize) {
    test.run("sys connects\n sys subscribes $SYS/broker/publish/messages/dropped");
    loop {
        let packet = test.client("sys").packet();
        let dropped: usize = std::str::from_utf8(&packet.payload).unwrap().parse().unwrap();
        assert!(dropped <= count, "{dropped} dropped of {count}");
        if dropped == count {
            return;
        }
    }
}

#[test]
fn count_limit_drops_and_counts() {
    // MQTT 5.0 §4.5 leaves limits to the server
    let config = "sys_interval_s = 1\n[limits]\nqueue_messages_max = 5\n";
    each_with(config, ALL, |test| {
        test.run(
            "
            pub connects
            a connects clean=0 expiry=60
            a subscribes ~/t q1 ~/end q1
            a leaves
        ",
        );
        for number in 0..8 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        let got = resumed(test);
        assert_eq!(got.len(), 5, "{got:?}");
        assert!(got.is_sorted(), "{got:?}");
        await_dropped(test, 3);
    });
}

#[test]
fn byte_limit_drops_and_counts() {
    let config = "sys_interval_s = 1\n[limits]\nqueue_bytes_max = 4000\n";
    each_with(config, ALL, |test| {
        test.run(
            "
            pub connects
            a connects clean=0 expiry=60
            a subscribes ~/t q1 ~/end q1
            a leaves
        ",
        );
        for number in 0..8 {
            let padding = "y".repeat(1000);
            test.run(&format!("pub publishes ~/t q1 p={number}.{padding}"));
        }
        let got = resumed(test);
        assert!((2..=4).contains(&got.len()), "{got:?}");
        assert!(got.is_sorted(), "{got:?}");
        await_dropped(test, 8 - got.len());
    });
}

#[test]
fn a_closed_window_fills_the_queue_too() {
    // [MQTT-4.9.0-2]
    let config = "sys_interval_s = 1\n[limits]\nqueue_messages_max = 5\n";
    each_with(config, V5, |test| {
        test.run(
            "
            pub connects
            a connects rmax=2
            a subscribes ~/t q1
        ",
        );
        for number in 0..10 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        await_dropped(test, 3);
        let mut got = Vec::new();
        for _ in 0..7 {
            let packet = test.client("a").packet();
            test.acknowledge("a", &packet);
            got.push(packet.payload);
        }
        assert!(got.is_sorted());
        test.run("a < nothing");
    });
}

const REJECT: &str = "sys_interval_s = 1
[queue]
overflow = \"reject\"
[limits]
queue_messages_max = 5
";

#[test]
fn a_full_queue_refuses_the_publisher() {
    // MQTT 5.0 §3.4.2.1: 0x97 Quota exceeded
    each_with(REJECT, V5, |test| {
        test.run(
            "
            pub connects
            a connects clean=0 expiry=60
            a subscribes ~/t q1 ~/end q1
            a leaves
        ",
        );
        for number in 0..5 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        test.run(
            "
            pub > publish ~/t q1 id=6 p=5
            pub < puback 6 0x97
            pub > publish ~/t q2 id=7 p=6
            pub < pubrec 7 0x97
            pub > pubrel 7
            pub < pubcomp 7 0x92
            a > connect clean=0 expiry=60
            a < connack *
        ",
        );
        for number in 0..5 {
            let packet = test.client("a").packet();
            assert_eq!(packet.payload, number.to_string().into_bytes());
            test.acknowledge("a", &packet);
        }
        test.run("pub publishes ~/end q1 p=end");
        assert_eq!(test.client("a").packet().payload, b"end");
        await_dropped(test, 2);
    });
}

#[test]
fn a_full_queue_holds_a_3x_publisher_back() {
    each_with(REJECT, V3, |test| {
        test.run(
            "
            pub connects
            a connects clean=0
            a subscribes ~/t q1
            a leaves
        ",
        );
        for number in 0..5 {
            test.run(&format!("pub publishes ~/t q1 p={number}"));
        }
        test.run(
            "
            pub > publish ~/t q1 id=6 p=5
            a > connect clean=0
            a < connack *
        ",
        );
        // Room has come: in order, and nothing is lost.
        for number in 0..6 {
            let packet = test.client("a").packet();
            assert_eq!(packet.payload, number.to_string().into_bytes());
            test.acknowledge("a", &packet);
        }
        test.run("pub < puback 6");
        await_dropped(test, 0);
    });
}
