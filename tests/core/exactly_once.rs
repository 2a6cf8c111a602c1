//! Messages of `QoS` 2 and wills between shards, with the crash on either side of each step.

use crate::rig::{Rig, check_on};

fn recording(shards: usize) -> Rig {
    Rig::with(shards, |settings| settings.recording = true)
}

/// A publisher on shard 0, a subscriber on shard 1, both durable.
fn pair(qos: &str) -> (Rig, String, String) {
    let mut rig = recording(2);
    let (p, s) = (rig.name_on("p", 0), rig.name_on("s", 1));
    rig.quiet(&format!(
        "connect {p} v311 keep\nconnect {s} v311 keep\n{s} subscribe a {qos}\ndurable\ndurable"
    ));
    (rig, p, s)
}

fn back(rig: &mut Rig, names: [&str; 2]) -> String {
    let [p, s] = names;
    let lines = rig.run(&format!(
        "connect {p} v311 keep\nconnect {s} v311 keep\ndurable\ndurable\ndurable\ndurable"
    ));
    let connacks = [p, s].map(|name| format!("{name}: connack present"));
    let rest = lines.lines().filter(|line| !connacks.contains(&(*line).into()));
    rest.map(|line| format!("{line}\n")).collect()
}

#[test]
fn other_shards_see_a_message_when_the_publishers_record_is_durable() {
    let (mut rig, p, s) = pair("q1");
    check_on(&mut rig, &format!("{p} publish a x q2 id=9"), "");
    // One record on the way to PUBREC, whatever the other shard does.
    let expected = format!("{p}: pubrec 9\n{s}: publish a x q1 id=1");
    check_on(&mut rig, "durable 0", &expected);
}

#[test]
fn a_message_whose_record_was_lost_was_never_there() {
    let (mut rig, p, s) = pair("q2");
    rig.quiet(&format!("{p} publish a x q2 id=9\ncrash"));
    assert_eq!(back(&mut rig, [&p, &s]), "");
    rig.quiet(&format!("{p} publish a x q2 id=9 dup\ndurable 0"));
    check_on(&mut rig, "durable 1", &format!("{s}: publish a x q2 id=1"));
}

#[test]
fn a_message_that_was_accepted_is_sent_again_until_it_is_taken() {
    let (mut rig, p, s) = pair("q2");
    rig.hold_mail = true;
    check_on(&mut rig, &format!("{p} publish a x q2 id=9\ndurable 0"), &format!("{p}: pubrec 9"));
    rig.quiet("crash");
    rig.hold_mail = false;
    assert_eq!(back(&mut rig, [&p, &s]), format!("{s}: publish a x q2 id=1\n"));

    // It has arrived, and its record there was lost.
    let (mut rig, p, s) = pair("q2");
    rig.quiet(&format!("{p} publish a x q2 id=9\ndurable 0\ncrash"));
    assert_eq!(back(&mut rig, [&p, &s]), format!("{s}: publish a x q2 id=1\n"));
}

#[test]
fn a_message_that_was_taken_is_not_taken_again() {
    let (mut rig, p, s) = pair("q2");
    // The answer of the other shard is lost, then its record is.
    for settled in ["", "durable 0"] {
        rig.quiet(&format!("{p} publish a x q2 id=9\ndurable 0\ndurable 1\n{settled}"));
        let expected = if settled.is_empty() {
            check_on(&mut rig, &format!("{s} pubrec 1\ndurable 1"), &format!("{s}: pubrel 1"));
            rig.quiet(&format!("{s} pubcomp 1\ndurable 1"));
            String::new()
        } else {
            format!("{s}: publish a x q2 id=2 dup\n")
        };
        rig.quiet("crash");
        assert_eq!(back(&mut rig, [&p, &s]), expected);
        rig.quiet(&format!("{p} pubrel 9\ndurable"));
    }
}

#[test]
fn numbers_of_exchanges_are_not_used_again_after_a_crash() {
    let (mut rig, p, s) = pair("q2");
    for (n, text) in ["x", "y", "z"].into_iter().enumerate() {
        let lines = rig.run(&format!("{p} publish a {text} q2 id=9\ndurable\ndurable\ndurable"));
        assert!(lines.contains(&format!("{s}: publish a {text} q2 id={}", n + 1)), "{lines}");
        rig.quiet(&format!("{p} pubrel 9\ndurable\ncrash"));
        back(&mut rig, [&p, &s]);
    }
}

#[test]
fn pubrec_waits_for_the_owner_of_the_retained_message() {
    let mut rig = recording(2);
    let (p, topic) = (rig.name_on("p", 0), rig.topic_on(1));
    rig.quiet(&format!("connect {p} v311 keep\ndurable"));
    check_on(&mut rig, &format!("{p} publish {topic} x q2 id=9 retain\ndurable 0"), "");
    check_on(&mut rig, "durable 1", &format!("{p}: pubrec 9"));
    let read = format!("connect r v311 clean\nr subscribe {topic}\ndurable");
    let lines = rig.run(&format!("crash\n{read}"));
    assert!(lines.ends_with(&format!("r: publish {topic} x retain")), "{lines}");
}

#[test]
fn pubrec_of_a_repetition_waits_for_the_owner_of_the_retained_message_too() {
    let mut rig = recording(2);
    let (p, topic) = (rig.name_on("p", 0), rig.topic_on(1));
    rig.quiet(&format!("connect {p} v311 keep\ndurable"));
    rig.quiet(&format!("{p} publish {topic} x q2 id=9 retain\ndurable 0"));
    rig.quiet(&format!("crash\nconnect {p} v311 keep\ndurable 0"));
    check_on(&mut rig, &format!("{p} publish {topic} x q2 id=9 retain dup\ndurable 0"), "");
    check_on(&mut rig, "durable 1", &format!("{p}: pubrec 9"));
    check_on(&mut rig, &format!("{p} publish {topic} x q2 id=9 dup"), &format!("{p}: pubrec 9"));
}

#[test]
fn an_exchange_of_a_shard_that_waits_does_not_overtake_those_of_its_earlier_life() {
    // What shard 2 says to shard 1 comes late: from the beginning, or from the second round on.
    for rounds in [0, 1] {
        let mut rig = Rig::with(3, |settings| {
            settings.recording = true;
            settings.queue.queue_messages_max = 2;
        });
        let (a, b, c) = (rig.name_on("a", 0), rig.name_on("b", 1), rig.name_on("c", 2));
        let (full, late) = (rig.name_on("full", 1), rig.name_on("late", 2));
        // The member of the group on shard 1 has no room, so shard 1 gives on what it is given.
        rig.quiet(&format!(
            "connect {full} v311 keep\n{full} subscribe full q1\n{full} subscribe $share/g/t q1
             connect {late} v311 keep\n{late} subscribe d q2\n{late} subscribe $share/g/t q1
             durable\ndurable\n{full} drop\n{late} drop
             connect {c} v311 keep\n{c} publish full x q1 id=1\n{c} publish full y q1 id=2
             connect {a} v311 keep\nconnect {b} v311 keep\ndurable\ndurable"
        ));
        rig.hold_mail = true;
        rig.quiet(&format!("{b} publish d first q2 id=1\n{a} publish t second q2 id=1\ndurable"));
        rig.restart();
        (0..rounds).for_each(|_| rig.deliver_round());
        let pairs = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0)];
        while pairs.iter().any(|(from, to)| rig.deliver_mail_between(*from, *to)) {
            rig.durable(1);
        }
        rig.hold_mail = false;
        rig.quiet("durable\ndurable\ndurable");
        let lines = rig.run(&format!("connect {late} v311 keep\ndurable\ndurable"));
        for message in ["publish d first", "publish t second"] {
            assert!(lines.contains(message), "{rounds}, {message}: {lines}");
        }
    }
}

#[test]
fn a_retained_message_does_not_pass_an_older_one_that_waits_for_the_log() {
    let mut rig = recording(2);
    let (p, topic) = (rig.name_on("p", 0), rig.topic_on(1));
    rig.quiet(&format!("connect {p} v311 keep\ndurable"));
    rig.quiet(&format!("{p} publish {topic} old q2 id=9 retain\n{p} publish {topic} new retain"));
    let lines =
        rig.run(&format!("durable\ndurable\nconnect r v311 clean\nr subscribe {topic}\ndurable"));
    assert!(lines.ends_with(&format!("r: publish {topic} new retain")), "{lines}");
}

#[test]
fn a_retained_message_of_qos_1_waits_for_its_owner() {
    let mut rig = recording(2);
    let (p, topic) = (rig.name_on("p", 0), rig.topic_on(1));
    rig.quiet(&format!("connect {p} v311 clean"));
    check_on(&mut rig, &format!("{p} publish {topic} x q1 id=1 retain"), "");
    rig.durable(1);
    let expected = format!("{p}: puback 1\n{p}: pingresp");
    check_on(&mut rig, &format!("{p} ping"), &expected);
}

#[test]
fn puback_waits_for_the_subscribers_record_on_the_other_shard() {
    let (mut rig, p, s) = pair("q1");
    rig.quiet(&format!("{s} drop\ndurable"));
    check_on(&mut rig, &format!("{p} publish a x q1 id=1\ndurable 0"), "");
    check_on(&mut rig, "durable 1", &format!("{p}: puback 1"));
    rig.quiet("crash");
    assert_eq!(back(&mut rig, [&p, &s]), format!("{s}: publish a x q1 id=1\n"));
}

#[test]
fn interest_and_groups_are_known_everywhere_before_a_client_is_served() {
    let mut rig = recording(3);
    let (s, g, p) = (rig.name_on("s", 0), rig.name_on("g", 1), rig.name_on("p", 2));
    rig.quiet(&format!(
        "connect {s} v311 keep\n{s} subscribe a/+ q1\nconnect {g} v311 keep
         {g} subscribe $share/x/a/# q1\ndurable\ndurable\ncrash\nconnect {p} v5"
    ));
    rig.quiet(&format!("{p} publish a/b m q1 id=1\ndurable"));
    for name in [&s, &g] {
        let lines = rig.run(&format!("connect {name} v311 keep\ndurable"));
        assert_eq!(lines, format!("{name}: connack present\n{name}: publish a/b m q1 id=1"));
    }
}

#[test]
fn a_will_crosses_to_other_shards_once() {
    let mut rig = recording(2);
    let (w, s) = (rig.name_on("w", 0), rig.name_on("s", 1));
    rig.quiet(&format!(
        "connect {s} v311 keep\n{s} subscribe a q2\nconnect {w} v5 expiry=100 will=a:gone q2
         durable\ndurable\n{w} drop"
    ));
    check_on(&mut rig, "durable 0", "");
    let resumed = format!("connect {s} v311 keep\ndurable\ndurable");
    let lines = rig.run(&format!("crash\n{resumed}"));
    assert_eq!(lines, format!("{s}: connack present\n{s}: publish a gone q2 id=1"));
    let lines = rig.run(&format!("crash\nwait 20000\n{resumed}"));
    assert_eq!(lines, format!("{s}: connack present\n{s}: publish a gone q2 id=1 dup"));
}

#[test]
fn what_a_member_leaves_to_others_is_not_lost_between() {
    for crash in [0, 1, 2, 3] {
        let mut rig = recording(2);
        let (a, b, p) = (rig.name_on("a", 0), rig.name_on("b", 1), rig.name_on("p", 0));
        rig.quiet(&format!(
            "connect {a} v311 keep\n{a} subscribe $share/g/t q1\nconnect {p} v311 clean
             durable\n{p} publish t x q1 id=1\ndurable
             connect {b} v311 keep\n{b} subscribe $share/g/t q1\ndurable\ndurable\n{a} drop"
        ));
        let steps = ["", "durable 0", "durable 0\ndurable 1", "durable 0\ndurable 1\ndurable"];
        rig.quiet(&format!("{}\ncrash", steps[crash]));
        let lines = rig.run(&format!(
            "connect {a} v311 keep\nconnect {b} v311 keep\ndurable\ndurable\ndurable"
        ));
        assert_eq!(lines.matches("publish t x").count(), 1, "{crash}: {lines}");
    }
}

#[test]
fn a_full_member_is_not_the_last_word_of_a_group() {
    for qos in ["q1", "q2"] {
        let mut rig = Rig::with(3, |settings| {
            settings.recording = true;
            settings.queue.queue_messages_max = 1;
        });
        let names = [rig.name_on("a", 0), rig.name_on("b", 1), rig.name_on("c", 2)];
        for name in &names {
            rig.quiet(&format!(
                "connect {name} v5 expiry=100\n{name} subscribe $share/g/t q1\ndurable\n{name} drop"
            ));
        }
        let p = rig.name_on("p", 0);
        rig.quiet(&format!("connect {p} v5 expiry=100"));
        for id in 1..4 {
            rig.quiet(&format!(
                "{p} publish t x q{} id={id}\ndurable\ndurable\ndurable",
                &qos[1..]
            ));
        }
        assert_eq!(rig.counters().dropped_total(), 0, "{qos}");
        rig.quiet(&format!("{p} publish t x {qos} id=4\ndurable\ndurable\ndurable\ndurable"));
        assert_eq!(rig.counters().dropped_total(), 1, "{qos}: and then it is");
    }
}
