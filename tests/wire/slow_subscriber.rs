//! Clients that do not keep up, and publishers that go faster than the broker.

use std::io::{ErrorKind, Write as _};
use std::time::Duration;

use crate::harness::{ALL, Client, Event, Version, compose, each_with, pattern};

const LIMITS: &str = "
[limits]
packet_bytes_max = 2000000
output_bytes_max = 1000000
queue_messages_max = 1000
queue_bytes_max = 1000000
";

#[test]
fn who_never_reads_slows_nobody() {
    // [MQTT-4.2-1]; the cost is bounded by the limits of one client
    each_with(LIMITS, ALL, |test| {
        test.run(
            "
            slow connects clean=0 expiry=60
            slow subscribes ~/t q1
            fast connects
            fast subscribes ~/t q1
            pub connects
        ",
        );
        let (_, before) = test.broker.descriptors_and_memory();
        for number in 0..400 {
            // 40 MB in all: far more than sockets and the limits of one client hold.
            for part in 0..5 {
                let qos = ["", "q1"][part % 2];
                test.run(&format!("pub publishes ~/t {qos} p=*{}", 20_000 + number));
            }
            for part in 0..5 {
                let qos = ["", "q1"][part % 2];
                test.run(&format!("fast gets ~/t {qos} p=*{}", 20_000 + number));
            }
        }
        let (_, after) = test.broker.descriptors_and_memory();
        let growth = after.saturating_sub(before);
        assert!(growth < 24_000, "memory grew by {growth} kB");
        test.run("fast < nothing");
    });
}

#[test]
fn who_never_reads_its_answers_is_not_read() {
    // Answers can't be queued or dropped; what is written here is many times what sockets hold.
    each_with("", &[Version::V311], |test| {
        let mut client = Client::open(test.broker.address, test.version);
        client.write(&compose("connect", test.version, &test.prefix));
        assert_eq!(client.packet().codes, [0]);
        let stream = &mut client.stream;
        stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
        let (_, before) = test.broker.descriptors_and_memory();
        let pings = [0xc0, 0x00].repeat(32 * 1024);
        let stalled = (0..1000).find_map(|_| stream.write_all(&pings).err());
        let kind = stalled.expect("64 MB were read").kind();
        assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
        let (_, after) = test.broker.descriptors_and_memory();
        let growth = after.saturating_sub(before);
        assert!(growth < 4_000, "memory grew by {growth} kB");
    });
}

#[test]
fn fast_publisher_loses_nothing() {
    // [MQTT-3.3.4-1] [MQTT-4.5.0-1] [MQTT-4.6.0-5]; 3.1.1: [MQTT-3.3.4-1] [MQTT-4.5.0-1]
    // [MQTT-4.6.0-6]
    let config = "
[limits]
receive_maximum = 65535
queue_messages_max = 100000
queue_bytes_max = 100000000
";
    each_with(config, ALL, |test| {
        const COUNT: u16 = 5000;
        test.run(
            "
            sub connects
            sub subscribes ~/t q2
            pub connects
        ",
        );
        let topic = format!("{}/t", test.prefix);
        let version = test.version;
        let mut publisher = test.take("pub");
        let mut writer = Client::adopt(publisher.stream.try_clone().unwrap(), Version::V311);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // All at once; the odd ones are QoS 2.
                for number in 1..=COUNT {
                    let qos = 1 + number % 2;
                    let text = format!("publish {topic} q{qos} id={number} p={number}");
                    writer.write(&compose(&text, version, ""));
                }
            });
            scope.spawn(move || {
                let mut open = COUNT;
                while open > 0 {
                    let packet = publisher.packet();
                    assert!(packet.codes.iter().all(|code| *code < 0x80), "{}", packet.text());
                    match packet.name {
                        "pubrec" => {
                            let text = format!("pubrel {}", packet.id);
                            publisher.write(&compose(&text, version, ""));
                        }
                        "puback" | "pubcomp" => open -= 1,
                        other => panic!("{other}"),
                    }
                }
            });
            let mut last = [0, 0];
            for _ in 0..COUNT {
                let packet = loop {
                    let packet = test.client("sub").packet();
                    match packet.name {
                        "publish" => break packet,
                        "pubrel" => test.send("sub", &format!("pubcomp {}", packet.id)),
                        other => panic!("{other}"),
                    }
                };
                let answer = if packet.qos == 2 { "pubrec" } else { "puback" };
                test.send("sub", &format!("{answer} {}", packet.id));
                let number: u16 = std::str::from_utf8(&packet.payload).unwrap().parse().unwrap();
                let last = &mut last[usize::from(packet.qos - 1)];
                assert!(number == *last + 2 || *last == 0, "{number} after {last}");
                *last = number;
            }
        });
    });
}

#[test]
fn reset_in_the_middle_of_a_delivery() {
    // [MQTT-4.1.0-1]: the socket goes, the session and everyone else stay
    each_with(LIMITS, ALL, |test| {
        test.run(
            "
            slow connects clean=0 expiry=60
            slow subscribes ~/t q1
            fast connects
            fast subscribes ~/t q1
            pub connects
        ",
        );
        for _ in 0..20 {
            test.run("pub publishes ~/t q1 p=*200000");
            test.run("fast gets ~/t q1 p=*200000");
        }
        test.run(
            "
            slow resets
            pub publishes ~/t q1 p=after
            fast gets ~/t q1 p=after
            slow > connect clean=0 expiry=60
            slow < connack *
        ",
        );
        // What was on its way comes again, whole.
        match test.client("slow").next() {
            Event::Packet(packet) => assert_eq!(packet.payload, pattern(200_000)),
            other @ (Event::Closed | Event::Trouble(_)) => panic!("{other:?}"),
        }
    });
}

#[test]
fn who_never_reads_is_cut_when_its_end_is_decided() {
    each_with(LIMITS, &[Version::V5], |test| {
        test.run(
            "
            slow connects id=~x
            slow subscribes ~/t
            pub connects
        ",
        );
        for _ in 0..600 {
            test.run("pub publishes ~/t p=*20000");
        }
        test.run("new connects id=~x");
        let (before, _) = test.broker.descriptors_and_memory();
        // Each look costs a ping; the patience of the broker is five seconds.
        let mut looks = 0;
        while test.broker.descriptors_and_memory().0 >= before {
            looks += 1;
            assert!(looks < 1_000_000, "its descriptor is still open");
            test.run("new < nothing");
        }
    });
}
