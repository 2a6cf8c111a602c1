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
fn nothing_more_is_handed_out_after_unsubscribe() {
    // [MQTT-3.10.4-2]
    let mut rig = Rig::new(1);
    rig.quiet("connect p v5\nconnect s v5\np publish a/1 x retain");
    rig.hold_mail = true;
    rig.quiet("s subscribe a/#\ns unsubscribe a/#");
    rig.hold_mail = false;
    assert_eq!(rig.run("s ping"), "s: pingresp");
}
