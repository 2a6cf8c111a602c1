//! What shards promise each other.

use crate::rig::{Rig, check_on};

#[test]
fn a_message_published_after_suback_arrives_from_every_shard() {
    for shards in [2, 4] {
        let mut rig = Rig::new(shards);
        for shard in 0..shards {
            let (s, p) = (rig.name_on("s", shard), rig.name_on("p", (shard + 1) % shards));
            rig.quiet(&format!("connect {s} v5\n{s} subscribe t{shard}/# q2\nconnect {p} v5"));
            check_on(
                &mut rig,
                &format!("{p} publish t{shard}/x 1 q2 id=1"),
                &format!("{s}: publish t{shard}/x 1 q2 id=1\n{p}: pubrec 1"),
            );
        }
    }
}

#[test]
fn suback_waits_until_every_shard_knows() {
    let mut rig = Rig::new(3);
    let s = rig.name_on("s", 0);
    rig.quiet(&format!("connect {s} v5"));
    rig.hold_mail = true;
    assert_eq!(rig.run(&format!("{s} subscribe a")), "");
    assert!(rig.deliver_mail_to(1));
    assert!(rig.deliver_mail_to(0));
    assert_eq!(rig.run(&format!("{s} ping")), format!("{s}: pingresp"), "shard 2 has not answered");
    assert!(rig.deliver_mail_to(2));
    assert!(rig.deliver_mail_to(0));
    assert_eq!(rig.run(&format!("{s} ping")), format!("{s}: suback 0x00\n{s}: pingresp"));
}

#[test]
fn puback_waits_until_the_other_shard_has_taken_the_message() {
    let mut rig = Rig::new(2);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\n{s} subscribe a q1\nconnect {p} v5"));
    rig.hold_mail = true;
    assert_eq!(rig.run(&format!("{p} publish a 1 q1 id=1\n{p} publish b 2 q1 id=2")), "");
    rig.hold_mail = false;
    // Acknowledgements leave in the order of the messages, although nobody wanted the second.
    assert_eq!(
        rig.run(&format!("{p} ping")),
        format!("{p}: pingresp\n{s}: publish a 1 q1 id=1\n{p}: puback 1\n{p}: puback 2 0x10")
    );
}

#[test]
fn the_last_unsubscribe_ends_the_interest() {
    let mut rig = Rig::new(2);
    let (a, b, p) = (rig.name_on("a", 0), rig.name_on("b", 0), rig.name_on("p", 1));
    rig.quiet(&format!(
        "connect {a} v5\nconnect {b} v5\n{a} subscribe t\n{b} subscribe t\nconnect {p} v5"
    ));
    rig.quiet(&format!("{a} unsubscribe t"));
    check_on(
        &mut rig,
        &format!("{p} publish t 1 q1 id=1\n{b} drop\n{p} publish t 2 q1 id=2"),
        &format!("{b}: publish t 1\n{p}: puback 1\n{p}: puback 2 0x10"),
    );
}

#[test]
fn an_acknowledgement_for_a_connection_that_is_gone_is_not_sent_to_the_next() {
    let mut rig = Rig::new(2);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\n{s} subscribe a q1\nconnect {p} v5 keep expiry=100"));
    rig.hold_mail = true;
    rig.quiet(&format!(
        "{p} publish a 1 q1 id=1
         {p} publish a 2 q2 id=2
         {p} drop
         connect {p} v5 keep expiry=100
         {p} publish a 2 q2 id=2 dup"
    ));
    rig.hold_mail = false;
    let lines = rig.run(&format!("{p} ping"));
    assert!(!lines.contains("puback"), "{lines}");
    assert!(lines.contains(&format!("{p}: pubrec 2")), "{lines}");
    assert_eq!(lines.matches("publish a 2").count(), 1, "{lines}");
}

#[test]
fn reading_stops_while_too_many_acknowledgements_wait() {
    use culex::shard::Flow;
    let mut rig = Rig::with(2, |settings| settings.queue.queue_messages_max = 10_000);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\n{s} subscribe a q1\nconnect {p} v311"));
    rig.hold_mail = true;
    for n in 0..4097_u32 {
        rig.quiet(&format!("{p} publish a x q1 id={}", n + 1));
    }
    assert_eq!(rig.flows, [Flow::Pause]);
    rig.hold_mail = false;
    rig.settle();
    assert_eq!(rig.flows, [Flow::Pause, Flow::Resume]);
}

#[test]
fn sys_topics_add_up_all_shards() {
    let mut rig = Rig::with(2, |settings| settings.sys_interval_s = 10);
    let (a, b) = (rig.name_on("a", 0), rig.name_on("b", 1));
    rig.quiet(&format!("connect {a} v5\nconnect {b} v5\nwait 21000"));
    let lines = rig.run(&format!("{a} subscribe $SYS/broker/clients/connected"));
    assert_eq!(
        lines,
        format!("{a}: suback 0x00\n{a}: publish $SYS/broker/clients/connected 2 retain")
    );
    let lines = rig.run(&format!("{b} subscribe #\n{b} subscribe +/broker/version"));
    assert!(!lines.contains("$SYS"), "[MQTT-4.7.2-1] {lines}");
}

#[test]
fn a_repeated_shared_subscribe_waits_as_long_as_the_first() {
    let mut rig = Rig::new(2);
    let s = rig.name_on("s", 0);
    rig.quiet(&format!("connect {s} v5"));
    rig.hold_mail = true;
    assert_eq!(rig.run(&format!("{s} subscribe $share/g/t\n{s} subscribe $share/g/t q1")), "");
    rig.hold_mail = false;
    assert_eq!(
        rig.run(&format!("{s} ping")),
        format!("{s}: pingresp\n{s}: suback 0x00\n{s}: suback 0x01")
    );
    let p = rig.name_on("p", 1);
    check_on(
        &mut rig,
        &format!("connect {p} v5\n{p} publish t x q1 id=1"),
        &format!("{p}: connack\n{s}: publish t x q1 id=1\n{p}: puback 1"),
    );
}
