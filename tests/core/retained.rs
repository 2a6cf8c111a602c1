//! Retained messages and their hand-out.

use crate::rig::{Rig, check_on};

#[test]
fn retained_messages_are_stored_replaced_and_cleared() {
    // [MQTT-3.3.1-5] [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-8]
    for shards in [1, 2, 3] {
        check_on(
            &mut Rig::new(shards),
            "connect p v311
             p publish a 1 retain
             p publish a 2 retain q1 id=1
             p publish a 3
             connect s v311
             s subscribe a
             s subscribe + q1
             p publish a - retain
             connect n v311
             n subscribe a",
            "p: connack
             p: puback 1
             s: connack
             s: suback 0x00
             s: publish a 2 retain
             s: suback 0x01
             s: publish a 2 q1 id=1 retain
             s: publish a -
             n: connack
             n: suback 0x00",
        );
    }
}

#[test]
fn retain_handling_decides_when_they_are_sent() {
    // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
    for shards in [1, 2] {
        check_on(
            &mut Rig::new(shards),
            "connect s v5
             s publish a x retain
             s subscribe a rh=2
             s subscribe a rh=1
             s subscribe a rh=0
             s unsubscribe a
             s subscribe a rh=1 sid=9",
            "s: connack
             s: suback 0x00
             s: suback 0x00
             s: suback 0x00
             s: publish a x retain
             s: unsuback 0x00
             s: suback 0x00
             s: publish a x retain sid=9",
        );
    }
}

#[test]
fn many_retained_messages_are_handed_out_through_a_small_window_without_loss() {
    for shards in [1, 2] {
        let mut rig = Rig::with(shards, |settings| settings.queue.queue_messages_max = 3);
        rig.quiet("connect p v311");
        for n in 0..500 {
            rig.quiet(&format!("p publish t/{n} x retain q1 id=1"));
        }
        let mut got = rig.run("connect s v5 rmax=2\ns subscribe t/# q1");
        for id in 1..=500 {
            got += &rig.run(&format!("s puback {id}"));
        }
        assert_eq!(got.matches("publish t/").count(), 500, "{shards} shards");
        assert_eq!(rig.counters().dropped_total(), 0);
    }
}

#[test]
fn expired_retained_messages_are_not_handed_out() {
    // [MQTT-3.3.2-5]
    check_on(
        &mut Rig::new(1),
        "connect p v5
         p publish a x retain expiry=5
         p publish b y retain expiry=50
         wait 6000
         p subscribe +",
        "p: connack
         p: suback 0x00
         p: publish b y retain expiry=44",
    );
}

#[test]
fn the_store_is_limited_and_counts_what_it_refuses() {
    let mut rig = Rig::with(1, |settings| settings.retained_messages_max = 1);
    rig.quiet(
        "connect p v311
         p publish a 1 retain
         p publish b 2 retain
         p publish a 3 retain",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
    check_on(&mut rig, "p subscribe #", "p: suback 0x00\np: publish a 3 retain");
}

#[test]
fn a_message_that_finds_no_room_does_not_leave_its_predecessor() {
    let mut rig = Rig::with(1, |settings| settings.retained_bytes_max = 10);
    rig.quiet(
        "connect p v311
         p publish a 12345 retain
         p publish a 1234567890 retain",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
    check_on(&mut rig, "p subscribe #", "p: suback 0x00");
}

#[test]
fn a_newer_live_message_is_not_followed_by_an_older_retained_one() {
    let mut rig = Rig::new(2);
    let topic = rig.topic_on(1);
    let (subscriber, publisher) = (rig.name_on("s", 0), rig.name_on("p", 0));
    rig.quiet(&format!(
        "connect {publisher} v311
         connect {subscriber} v311
         {publisher} publish {topic} old retain"
    ));
    rig.hold_mail = true;
    rig.quiet(&format!("{subscriber} subscribe #"));
    // Interest reaches shard 1, its answer shard 0, then the query shard 1: the answer with the old
    // message is under way when the new one is published.
    rig.deliver_mail();
    rig.settle();
    rig.deliver_mail();
    rig.settle();
    let mut lines = rig.run(&format!("{publisher} publish {topic} new retain"));
    rig.hold_mail = false;
    lines += &rig.run(&format!("{publisher} ping"));
    let payloads: Vec<&str> = lines
        .lines()
        .filter(|line| line.starts_with(&subscriber) && line.contains("publish"))
        .collect();
    assert!(
        payloads.last().is_some_and(|line| line.contains("new")),
        "the newest is last: {payloads:?}"
    );
}

#[test]
fn a_hand_out_ends_with_its_subscription() {
    // [MQTT-3.10.4-2] What is in the queue already is still delivered.
    for shards in [1, 2] {
        let mut rig = Rig::with(shards, |settings| settings.queue.queue_messages_max = 1);
        rig.quiet("connect p v311");
        for n in 0..10 {
            rig.quiet(&format!("p publish t/{n} x retain q1 id=1\np publish u x retain"));
        }
        let lines = rig.run(
            "connect s v5 rmax=1
             s subscribe t/# q1
             s subscribe u
             s unsubscribe t/#
             s puback 1
             s puback 2
             s puback 3",
        );
        assert_eq!(lines.matches("publish t/").count(), 2, "{shards} shards\n{lines}");
        assert_eq!(lines.matches("publish u").count(), 1, "the next hand-out begins\n{lines}");
    }
}

#[test]
fn a_repeated_subscribe_begins_the_hand_out_again_instead_of_beside() {
    let mut rig = Rig::with(1, |settings| settings.queue.queue_messages_max = 1);
    rig.quiet("connect p v311");
    for n in 0..5 {
        rig.quiet(&format!("p publish t/{n} x retain q1 id=1"));
    }
    let mut lines = rig.run("connect s v5 rmax=1\ns subscribe t/# q1\ns subscribe t/# q1");
    for id in 1..20 {
        lines += &rig.run(&format!("s puback {id}"));
    }
    assert_eq!(lines.matches("publish t/").count(), 2 + 5, "{lines}");
}

#[test]
fn a_retained_message_larger_than_the_queue_is_sent_through_an_open_window() {
    for shards in [1, 2] {
        let mut rig = Rig::with(shards, |settings| settings.queue.queue_bytes_max = 4);
        rig.quiet("connect p v311\np publish t largerthanqueue retain q1 id=1\nconnect s v311");
        for filter in ["t", "#"] {
            let lines = rig.run(&format!("s subscribe {filter} q1"));
            assert!(lines.contains("publish t largerthanqueue"), "{shards} shards\n{lines}");
            rig.quiet("s puback 1");
        }
    }
}

#[test]
fn no_local_holds_for_own_retained_messages() {
    // [MQTT-3.8.3-3]
    for shards in [1, 2] {
        check_on(
            &mut Rig::new(shards),
            "connect a v5
             connect b v5
             a publish t/a 1 retain
             b publish t/b 2 retain
             a subscribe t/# nl",
            "a: connack
             b: connack
             a: suback 0x00
             a: publish t/b 2 retain",
        );
    }
}

#[test]
fn a_live_message_before_suback_is_not_followed_by_an_older_retained_one() {
    let mut rig = Rig::new(3);
    let topic = rig.topic_on(2);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\nconnect {p} v5\n{p} publish {topic} old retain"));
    rig.hold_mail = true;
    rig.quiet(&format!("{s} subscribe {topic}"));
    assert!(rig.deliver_mail_between(0, 1));
    rig.quiet(&format!("{p} publish {topic} new retain"));
    while rig.deliver_mail_between(1, 0) {}
    // Shard 2 answers interest and query before it gets the new message.
    while rig.deliver_mail_between(0, 2) || rig.deliver_mail_between(2, 0) {}
    rig.hold_mail = false;
    let lines = rig.run(&format!("{s} ping"));
    assert!(!lines.contains("old"), "{lines}");
    assert!(lines.contains("new"), "{lines}");
}

#[test]
fn a_retained_message_on_its_way_to_its_owner_is_not_missed() {
    let mut rig = Rig::new(3);
    let topic = rig.topic_on(2);
    let (a, b, p) = (rig.name_on("a", 0), rig.name_on("b", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {a} v5\nconnect {b} v5\nconnect {p} v5\n{a} subscribe {topic}"));
    rig.hold_mail = true;
    rig.quiet(&format!("{p} publish {topic} new retain"));
    assert!(rig.deliver_mail_between(1, 0), "live, before the other client subscribes");
    rig.quiet(&format!("{b} subscribe {topic}"));
    for _ in 0..4 {
        while rig.deliver_mail_between(0, 2) || rig.deliver_mail_between(2, 0) {}
        while rig.deliver_mail_between(0, 1) || rig.deliver_mail_between(1, 0) {}
    }
    rig.hold_mail = false;
    let lines = rig.run(&format!("{b} ping"));
    assert!(lines.contains(&format!("{b}: publish {topic} new retain")), "{lines}");
}
