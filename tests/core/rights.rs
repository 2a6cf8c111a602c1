//! Rules decide at every hand-over of a message, and a right that is withdrawn is gone everywhere.

use crate::rig::{Rig, check_on};
use culex::session::DropCause;

fn denied(rig: &Rig) -> u64 {
    rig.counters().dropped[DropCause::Denied as usize]
}

/// alice reads and writes below `a`, bob below `b`; both read `news`, bob writes it.
const RULES: &str = "
    user alice
    topic a/#
    topic read news
    user bob
    topic b/#
    topic news
";

#[test]
fn publish_needs_the_right_to_write() {
    for shards in 1..=2 {
        let mut rig = Rig::new(shards);
        rig.rules(RULES);
        check_on(
            &mut rig,
            "connect s v5 user=alice
             s subscribe # q2
             connect p v5 user=alice
             p publish a/x 0
             p publish news 1
             p publish news 2 q1 id=2
             p publish news 3 q2 id=3
             p publish a/y 4 q1 id=4",
            "s: connack
             s: suback 0x02
             p: connack
             s: publish a/x 0
             p: puback 2 0x87
             p: pubrec 3 0x87
             s: publish a/y 4 q1 id=1
             p: puback 4",
        );
        assert_eq!(denied(&rig), 3);
    }
}

#[test]
fn a_3x_publisher_is_cut_where_it_cannot_be_told() {
    // 3.1.1 §3.3.5: a server that does not authorise a PUBLISH acknowledges it or closes.
    for version in ["v31", "v311"] {
        let mut rig = Rig::with(1, |settings| settings.acknowledge_denied = false);
        rig.rules(RULES);
        let script =
            format!("connect p {version} user=alice\np publish b 1\np publish b 1 q1 id=1");
        check_on(&mut rig, &script, "p: connack\np: closed");
        assert_eq!(denied(&rig), 2);
    }
}

#[test]
fn a_3x_publisher_is_acknowledged_where_it_cannot_be_told() {
    // 3.1.1: [MQTT-3.3.5-2] the other of the two ways.
    for version in ["v31", "v311"] {
        let mut rig = Rig::new(1);
        rig.rules(RULES);
        check_on(
            &mut rig,
            &format!(
                "connect s v5 user=bob
                 s subscribe b q2
                 connect p {version} user=alice
                 p publish b 1
                 p publish b 1 q1 id=1
                 p publish b 2 q2 id=2
                 p publish b 2 q2 id=2 dup
                 p pubrel 2"
            ),
            "s: connack
             s: suback 0x02
             p: connack
             p: puback 1
             p: pubrec 2
             p: pubrec 2
             p: pubcomp 2",
        );
        assert_eq!(denied(&rig), 4);
    }
}

#[test]
fn a_will_needs_the_right_at_connect_and_when_it_is_published() {
    let mut rig = Rig::new(1);
    rig.rules(RULES);
    check_on(
        &mut rig,
        "connect w v5 user=alice will=b/x:gone
         connect w v311 user=alice will=$SYS/x:gone
         connect w v5 user=alice will=a/x:gone
         connect s v5 user=alice
         s subscribe a/# q1
         connect s2 v5 user=bob
         s2 subscribe #",
        "w: connack 0x87
         w: closed
         w: connack 0x87
         w: closed
         w: connack
         s: connack
         s: suback 0x01
         s2: connack
         s2: suback 0x00",
    );
    rig.rules("user alice\ntopic read a/#");
    check_on(&mut rig, "w drop", "");
    assert_eq!(denied(&rig), 1);
}

#[test]
fn each_filter_of_a_subscribe_is_decided_on() {
    let mut rig = Rig::new(1);
    rig.rules(RULES);
    check_on(
        &mut rig,
        "connect s v5 user=alice
         s subscribe a/x
         s subscribe b/#
         s subscribe $share/g/b/x
         s subscribe $SYS/#
         s subscribe +
         connect t v311 user=alice
         t subscribe b/#
         connect u v5
         u subscribe #",
        "s: connack
         s: suback 0x00
         s: suback 0x87
         s: suback 0x87
         s: suback 0x87
         s: suback 0x00
         t: connack
         t: suback 0x80
         u: connack
         u: suback 0x87",
    );
}

#[test]
fn a_wildcard_brings_only_what_may_be_read() {
    for shards in 1..=3 {
        let mut rig = Rig::new(shards);
        rig.rules(
            "user alice
             topic #
             topic deny secret/#
             user boss
             topic #",
        );
        check_on(
            &mut rig,
            "connect s v5 user=alice
             s subscribe # sid=1
             s subscribe +/x q1 sid=2
             connect p v5 user=boss
             p publish secret/x 1 q1 id=1
             p publish open/x 2 q1 id=2
             p publish secret/x 3 q1 id=3",
            "s: connack
             s: suback 0x00
             s: suback 0x01
             p: connack
             p: puback 1 0x10
             s: publish open/x 2 q1 id=1 sid=1 sid=2
             p: puback 2
             p: puback 3 0x10",
        );
    }
}

#[test]
fn a_live_subscription_follows_the_rules() {
    for shards in 1..=2 {
        let mut rig = Rig::new(shards);
        let publish = "p publish a/x 1 q1 id=1";
        rig.rules("user alice\ntopic a/#\nuser bob\ntopic a/#");
        rig.quiet(&format!(
            "connect s v5 user=alice\ns subscribe a/# q1\nconnect p v5 user=bob\n{publish}"
        ));
        rig.rules("user alice\ntopic b/#\nuser bob\ntopic a/#");
        check_on(&mut rig, publish, "p: puback 1 0x10");
        rig.rules("user alice\ntopic read a/x\nuser bob\ntopic a/#");
        check_on(&mut rig, publish, "s: publish a/x 1 q1 id=2\np: puback 1");
    }
}

#[test]
fn what_waits_is_dropped_when_its_right_is_gone() {
    let mut rig = Rig::new(1);
    rig.rules("user alice\ntopic #\nuser bob\ntopic #");
    // Two are sent and wait for their acknowledgement, three were never sent.
    rig.quiet(
        "connect s v5 user=alice keep expiry=100 rmax=2
         s subscribe # q1
         connect p v5 user=bob
         p publish a 1 q1 id=1
         p publish b 2 q1 id=2
         p publish a 3 q1 id=3
         p publish b 4 q1 id=4
         p publish a 5 q1 id=5",
    );
    rig.rules("user alice\ntopic b\nuser bob\ntopic #");
    check_on(&mut rig, "s puback 1", "s: publish b 4 q1 id=4");
    assert_eq!(denied(&rig), 2);
    // What was sent before is repeated only if it may still be had.
    rig.rules("user alice\ntopic a\nuser bob\ntopic #");
    check_on(
        &mut rig,
        "s drop
         connect s v5 user=alice keep expiry=100
         p publish a 6 q1 id=6",
        "s: connack present
         s: publish a 6 q1 id=6
         p: puback 6",
    );
    assert_eq!(denied(&rig), 4);
    let report = rig.shards[0].report();
    assert_eq!((report.queued, report.queued_bytes), (1, 0));
}

#[test]
fn an_unfinished_qos_2_delivery_is_dropped_but_answered() {
    let mut rig = Rig::new(1);
    rig.rules("user alice\ntopic #\nuser bob\ntopic #");
    rig.quiet(
        "connect s v5 user=alice keep expiry=100
         s subscribe # q2
         connect p v5 user=bob
         p publish a 1 q2 id=1
         p publish a 2 q2 id=2
         s pubrec 1
         s drop",
    );
    rig.rules("user alice\ntopic b\nuser bob\ntopic #");
    check_on(
        &mut rig,
        "connect s v5 user=alice keep expiry=100
         s pubcomp 1
         s pubrec 2",
        "s: connack present
         s: pubrel 1
         s: pubrel 2 0x92",
    );
    assert_eq!(denied(&rig), 1);
}

#[test]
fn retained_messages_need_the_rights_of_reader_and_writer() {
    for shards in 1..=2 {
        let mut rig = Rig::new(shards);
        let rules = "user alice\ntopic read #\nuser bob\ntopic #\nuser eve\n";
        rig.rules(&format!("{rules}topic write e\n"));
        rig.quiet(
            "connect p v5 user=bob
             p publish b 1 retain
             connect e v5 user=eve
             e publish e 2 retain
             e publish f 3 retain",
        );
        let read = "connect s v5 user=alice\ns subscribe e\ns subscribe b\ns subscribe f\ns bye";
        let expected = |e: &str, b: &str| {
            format!("s: connack\ns: suback 0x00\n{e}s: suback 0x00\n{b}s: suback 0x00\ns: closed")
        };
        let (e, b) = ("s: publish e 2 retain\n", "s: publish b 1 retain\n");
        check_on(&mut rig, read, &expected(e, b));
        rig.rules(rules);
        check_on(&mut rig, read, &expected("", b));
        rig.rules(&format!("{rules}topic write e\nuser alice\ntopic deny b/#\n"));
        check_on(
            &mut rig,
            read,
            &expected(e, "").replacen(
                "0x00\ns: suback 0x00\ns: c",
                "0x87\ns: suback 0x00\ns: c",
                1,
            ),
        );
    }
}

#[test]
fn a_shared_message_goes_to_a_member_that_may_have_it() {
    for shards in 1..=2 {
        let mut rig = Rig::new(shards);
        rig.rules("user alice\ntopic #\ntopic deny s/x\nuser bob\ntopic #");
        rig.quiet(
            "connect m1 v5 user=alice
             m1 subscribe $share/g/s/# q1
             connect m2 v5 user=bob
             m2 subscribe $share/g/s/# q1
             connect p v5 user=bob",
        );
        for number in 1..=4 {
            check_on(
                &mut rig,
                &format!("p publish s/x {number} q1 id={number}"),
                &format!("m2: publish s/x {number} q1 id={number}\np: puback {number}"),
            );
        }
        check_on(&mut rig, "m2 bye\np publish s/x 5 q1 id=5", "m2: closed\np: puback 5 0x10");
        // The last, and the four that m2 did not acknowledge.
        assert_eq!(rig.counters().dropped[DropCause::NoMember as usize], 5);
    }
}

#[test]
fn claims_guard_a_broker_without_rules() {
    let mut rig = Rig::new(2);
    check_on(
        &mut rig,
        "connect s v5 user=alice claims=a/%u
         s subscribe #
         s subscribe b
         connect p v5
         p publish a/alice 1
         p publish a/bob 2
         s publish a/alice 3 q1 id=3
         s publish b 4 q1 id=4",
        "s: connack
         s: suback 0x00
         s: suback 0x87
         p: connack
         s: publish a/alice 1
         s: publish a/alice 3
         s: puback 3
         s: puback 4 0x87",
    );
    // The next token brings other rules; lists of receivers that were made before are void.
    check_on(
        &mut rig,
        "s drop
         connect s v5 user=alice keep expiry=100 claims=b
         s subscribe #
         s drop
         p publish a/alice 5
         connect s v5 user=alice keep expiry=100 claims=a/#
         p publish a/alice 6
         connect s v5 user=alice keep expiry=100 claims=b
         p publish a/alice 7
         p publish b 8",
        "s: connack
         s: suback 0x00
         s: connack present
         s: publish a/alice 6
         s: disconnect 0x8e
         s: connack present
         s: publish b 8",
    );
}

#[test]
fn every_hand_over_asks() {
    // Where a message changes hands, `authorise` is called; a place that comes or goes shows here.
    let mut calls = Vec::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![folder.clone()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let name = path.strip_prefix(&folder).unwrap().display().to_string();
            let count = product.matches("authorise(").count();
            if count > 0 && !name.starts_with("access/") {
                calls.push(format!("{name} {count}"));
            }
        }
    }
    calls.sort();
    let expected = [
        // Messages on their way between shards, when the number of shards changes.
        "broker/rehoming.rs 1",
        // The will of a CONNECT.
        "shard/connect.rs 1",
        // The will when it is published.
        "shard/end.rs 1",
        // Live messages.
        "shard/fanout.rs 1",
        // PUBLISH.
        "shard/publish.rs 1",
        // Retained messages, for their reader.
        "shard/retained.rs 1",
        // Queued and repeated messages, in memory and from the log; retained ones, for the writer.
        "shard/rights.rs 3",
        // Members of a shared subscription.
        "shard/shares.rs 1",
        // Each filter of SUBSCRIBE.
        "shard/subscribe.rs 1",
    ];
    assert_eq!(calls, expected);
}

/// Figures for docs/security.md; `cargo test --release --test core what_rules_cost -- --ignored
/// --nocapture` shows them.
#[test]
#[ignore = "measures, in a release build"]
#[expect(clippy::disallowed_methods, reason = "this is about time")]
fn what_rules_cost() {
    let ten: String = (0..10).map(|n| format!("topic readwrite t{n}/#\n")).collect();
    let many: String = (0..100_000).map(|n| format!("topic readwrite t{n}/+/x\n")).collect();
    for (name, rules) in [("no rules", ""), ("10 rules", &*ten), ("100,000 rules", &*many)] {
        let mut rig = Rig::new(1);
        if !rules.is_empty() {
            rig.rules(&format!("user a\n{rules}"));
        }
        rig.quiet("connect s v5 user=a\ns subscribe t7/# q0\nconnect p v5 user=a");
        let packet = culex::codec::Packet::Publish(culex::codec::Publish {
            dup: false,
            qos: culex::codec::Qos::AtMostOnce,
            retain: false,
            topic: "t7/a/x",
            packet_id: None,
            properties: culex::codec::Properties::default(),
            topic_alias: None,
            message_expiry_s: None,
            payload: b"payload",
        });
        let (rounds, conn) = (2_000_000_u32, shards::ConnId::new(1, 0));
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..rounds / 1000 {
            let begin = std::time::Instant::now();
            for _ in 0..1000 {
                let packet = packet.clone();
                rig.shards[0].handle(culex::shard::Input::Packet { conn, packet }, rig.now);
            }
            spent += begin.elapsed();
            rig.settle();
        }
        println!("{name}: {:?} for each PUBLISH to one subscriber", spent / rounds);
    }
}
