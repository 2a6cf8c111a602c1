//! Messages from publisher to subscriber: quality of service, windows, options.

use crate::rig::{Rig, VERSIONS, check, check_on};

#[test]
fn qos_of_a_delivery_is_the_lower_of_published_and_granted() {
    // [MQTT-3.8.4-8]
    for version in VERSIONS {
        let mut rig = Rig::new(1);
        rig.quiet(&format!(
            "connect p {version}
             connect s {version}
             s subscribe a q1"
        ));
        check_on(
            &mut rig,
            "p publish a x
             p publish a y q1 id=7
             p publish a z q2 id=8",
            "s: publish a x
             s: publish a y q1 id=1
             p: puback 7
             s: publish a z q1 id=2
             p: pubrec 8",
        );
    }
}

#[test]
fn qos2_is_delivered_once_however_often_it_is_repeated() {
    // [MQTT-4.3.3-10] [MQTT-4.3.3-12]
    for version in VERSIONS {
        let mut rig = Rig::new(1);
        rig.quiet(&format!(
            "connect p {version}
             connect s {version}
             s subscribe a"
        ));
        check_on(
            &mut rig,
            "p publish a x q2 id=1
             p publish a x q2 id=1 dup
             p pubrel 1
             p publish a y q2 id=1",
            "s: publish a x
             p: pubrec 1
             p: pubrec 1
             p: pubcomp 1
             s: publish a y
             p: pubrec 1",
        );
    }
}

#[test]
fn qos2_to_a_subscriber_takes_four_packets() {
    // [MQTT-4.3.3-4] [MQTT-4.3.3-5]
    check(
        "connect s v311
         s subscribe a q2
         connect p v311
         p publish a x q2 id=1
         s pubrec 1
         s pubrec 1
         s pubcomp 1
         s pubcomp 1
         s pubrec 1",
        "s: connack
         s: suback 0x02
         p: connack
         s: publish a x q2 id=1
         p: pubrec 1
         s: pubrel 1
         s: pubrel 1
         s: pubrel 1",
    );
}

#[test]
fn unknown_identifiers_are_answered_by_the_rules() {
    check(
        "connect c v5
         c pubrel 9
         c pubrec 9
         c puback 9
         c pubcomp 9
         connect d v311
         d pubrel 9
         d pubrec 9",
        "c: connack
         c: pubcomp 9 0x92
         c: pubrel 9 0x92
         d: connack
         d: pubcomp 9
         d: pubrel 9",
    );
}

#[test]
fn window_full_queues_in_order_and_acks_release() {
    // [MQTT-3.3.4-9] [MQTT-4.9.0-2] [MQTT-4.6.0-5]
    check(
        "connect s v5 rmax=2
         s subscribe # q1
         connect p v5
         p publish a 1 q1 id=1
         p publish b 2 q1 id=2
         p publish a 3 q1 id=3
         p publish a 4 q1 id=4
         p publish a 0
         s puback 2
         s puback 1",
        "s: connack
         s: suback 0x01
         p: connack
         s: publish a 1 q1 id=1
         p: puback 1
         s: publish b 2 q1 id=2
         p: puback 2
         p: puback 3
         p: puback 4
         s: publish a 0
         s: publish a 3 q1 id=3
         s: publish a 4 q1 id=4",
    );
}

#[test]
fn a_refused_qos2_delivery_is_over() {
    // [MQTT-4.4.0-2] [MQTT-4.3.3-9]
    check(
        "connect s v5 rmax=1
         s subscribe a q2
         connect p v5
         p publish a 1 q2 id=1
         p publish a 2 q2 id=2
         s pubrec 1 0x80",
        "s: connack
         s: suback 0x02
         p: connack
         s: publish a 1 q2 id=1
         p: pubrec 1
         p: pubrec 2
         s: publish a 2 q2 id=2",
    );
}

#[test]
fn nobody_matching_is_said_to_v5_only() {
    check(
        "connect p v5
         p publish a x q1 id=1
         p publish a x q2 id=2
         connect o v311
         o publish a x q1 id=1",
        "p: connack
         p: puback 1 0x10
         p: pubrec 2 0x10
         o: connack
         o: puback 1",
    );
}

#[test]
fn overlapping_subscriptions_get_one_copy_with_all_identifiers_and_highest_qos() {
    // [MQTT-3.3.4-2] [MQTT-3.3.4-3] [MQTT-3.3.4-4]
    check(
        "connect s v5
         s subscribe a/# sid=1
         s subscribe a/+ q1 sid=2
         s subscribe +/b
         connect p v5
         p publish a/b x q2 id=1",
        "s: connack
         s: suback 0x00
         s: suback 0x01
         s: suback 0x00
         p: connack
         s: publish a/b x q1 id=1 sid=1 sid=2
         p: pubrec 1",
    );
}

#[test]
fn no_local_keeps_own_messages_away() {
    // [MQTT-3.8.3-3]
    check(
        "connect c v5
         c subscribe a nl
         connect d v5
         d subscribe a
         c publish a x
         c subscribe + sid=4
         c publish a y",
        "c: connack
         c: suback 0x00
         d: connack
         d: suback 0x00
         d: publish a x
         c: suback 0x00
         c: publish a y sid=4
         d: publish a y",
    );
}

#[test]
fn retain_flag_follows_retain_as_published() {
    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
    check(
        "connect c v5
         c subscribe a rap
         connect d v5
         d subscribe a
         d publish a x retain
         d publish a y",
        "c: connack
         c: suback 0x00
         d: connack
         d: suback 0x00
         c: publish a x retain
         d: publish a x
         c: publish a y
         d: publish a y",
    );
}

#[test]
fn dollar_topics_are_the_servers() {
    // [MQTT-4.7.2-1]
    check(
        "connect p v5
         p publish $SYS/a x q1 id=1
         p publish $SYS/a x q2 id=2
         p publish $SYS/a x q2 id=2
         p publish $SYS/a x
         p ping
         connect o v311
         o publish $SYS/a x q1 id=1",
        "p: connack
         p: puback 1 0x87
         p: pubrec 2 0x87
         p: pubrec 2 0x87
         p: pingresp
         o: connack
         o: puback 1",
    );
}

#[test]
fn aliases_of_the_client_are_resolved_and_those_of_the_server_learned() {
    // [MQTT-3.3.2-7] [MQTT-3.1.2-26]
    check(
        "connect s v5 amax=1
         s subscribe #
         connect p v5
         p publish long/topic 1 alias=3
         p publish - 2 alias=3
         p publish other 3
         p publish other 4 alias=3
         p publish - 5 alias=3
         p publish - 6 alias=4",
        "s: connack
         s: suback 0x00
         p: connack
         s: publish long/topic 1 alias=1
         s: publish  2 alias=1
         s: publish other 3
         s: publish other 4
         s: publish other 5
         p: disconnect 0x82
         p: closed",
    );
}

#[test]
fn alias_limits_are_kept() {
    // [MQTT-3.3.2-9]
    for (alias, answer) in [("32", "p: pingresp"), ("33", "p: disconnect 0x94\np: closed")] {
        let mut rig = Rig::new(1);
        rig.quiet("connect p v5");
        check_on(&mut rig, &format!("p publish a x alias={alias}\np ping"), answer);
    }
}

#[test]
fn expiry_counts_the_waiting_time_and_ends_messages() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect s v5 keep expiry=1000
         s subscribe a q1
         s bye
         connect p v5
         p publish a old q1 id=1 expiry=5
         p publish a new q1 id=2 expiry=10",
    );
    check_on(
        &mut rig,
        "wait 6500
         connect s v5 keep expiry=1000",
        "s: connack present
         s: publish a new q1 id=2 expiry=4",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
}

#[test]
fn a_message_too_large_for_the_client_counts_as_sent() {
    // [MQTT-3.1.2-24] [MQTT-3.1.2-25]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect s v5 pmax=20
         s subscribe a q1
         connect p v5",
    );
    // 2 fixed header, 3 topic, 2 identifier, 1 property length, 12 payload = 20
    check_on(
        &mut rig,
        "p publish a 123456789012 q1 id=1
         p publish a 1234567890123 q1 id=2
         p publish a x q1 id=3",
        "s: publish a 123456789012 q1 id=1
         p: puback 1
         p: puback 2
         s: publish a x q1 id=2
         p: puback 3",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
}

#[test]
fn queue_limits_by_count_drop_the_newest_and_count_it() {
    let mut rig = Rig::with(1, |settings| settings.queue.queue_messages_max = 2);
    rig.quiet(
        "connect s v311 keep
         s subscribe a q1
         s drop
         connect p v311
         p publish a 1 q1 id=1
         p publish a 2 q1 id=2
         p publish a 3 q1 id=3",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
    check_on(
        &mut rig,
        "connect s v311 keep",
        "s: connack present
         s: publish a 1 q1 id=1
         s: publish a 2 q1 id=2",
    );
}

#[test]
fn queue_limits_by_bytes_are_exact() {
    // topic 1 byte + payload 4 bytes each
    for (max, kept) in [(10, 2), (9, 1)] {
        let mut rig = Rig::with(1, |settings| settings.queue.queue_bytes_max = max);
        rig.quiet(
            "connect s v311 keep
             s subscribe a q1
             s drop
             connect p v311
             p publish a aaaa q1 id=1
             p publish a bbbb q1 id=2",
        );
        assert_eq!(rig.counters().dropped_total(), 2 - kept, "queue_bytes_max = {max}");
    }
}

#[test]
fn a_client_that_does_not_read_loses_qos0_and_keeps_qos1() {
    let mut rig = Rig::with(1, |settings| settings.output_bytes_max = 30);
    rig.quiet(
        "connect s v311
         s subscribe a q1
         connect p v311",
    );
    rig.unread.push("s".into());
    rig.quiet(
        "p publish a 0123456789
         p publish a 0123456789
         p publish a lost
         p publish a kept q1 id=1",
    );
    assert_eq!(rig.counters().dropped_total(), 1);
    rig.unread.clear();
    check_on(
        &mut rig,
        "s ping",
        "s: publish a 0123456789
         s: publish a 0123456789
         s: pingresp
         s: publish a kept q1 id=1",
    );
}

#[test]
fn too_many_unacknowledged_messages_end_the_connection() {
    // [MQTT-3.3.4-7]
    let mut rig = Rig::with(1, |settings| settings.receive_maximum = 2);
    check_on(
        &mut rig,
        "connect p v5
         p publish a 1 q2 id=1
         p publish a 1 q2 id=2
         p pubrel 1
         p publish a 1 q2 id=3
         p publish a 1 q2 id=4",
        "p: connack
         p: pubrec 1 0x10
         p: pubrec 2 0x10
         p: pubcomp 1
         p: pubrec 3 0x10
         p: disconnect 0x93
         p: closed",
    );
}

#[test]
fn identifiers_wrap_and_are_not_reused_while_held() {
    // [MQTT-2.2.1-4]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe a q1
         connect p v5
         p publish a held q1 id=1",
    );
    for round in 0..65_534_u32 {
        let id = round + 2;
        rig.quiet(&format!("p publish a x q1 id=1\ns puback {id}"));
    }
    // All 65,535 identifiers but the held one are free, the next in turn is the held one.
    check_on(
        &mut rig,
        "p publish a waits q1 id=1
         s puback 1",
        "p: puback 1
         s: publish a waits q1 id=1",
    );
}

#[test]
fn user_properties_pass_unchanged() {
    // [MQTT-3.3.2-17]
    check(
        "connect s v5
         s subscribe a
         connect o v311
         o subscribe a
         connect p v5
         p publish a x user=k:v expiry=7 alias=2",
        "s: connack
         s: suback 0x00
         o: connack
         o: suback 0x00
         p: connack
         s: publish a x expiry=7 user=k:v
         o: publish a x",
    );
}

#[test]
fn receive_maximum_counts_anew_on_each_connection() {
    // [MQTT-3.3.4-7] MQTT 5.0 §4.9
    let mut rig = Rig::with(1, |settings| settings.receive_maximum = 2);
    rig.quiet(
        "connect p v5 keep expiry=100
         p publish a 1 q2 id=1
         p publish a 1 q2 id=2
         p drop",
    );
    check_on(
        &mut rig,
        "connect p v5 keep expiry=100
         p publish a 1 q2 id=3
         p pubrel 1
         p publish a 1 q2 id=4
         p publish a 1 q2 id=5",
        "p: connack present
         p: pubrec 3 0x10
         p: pubcomp 1
         p: pubrec 4 0x10
         p: disconnect 0x93
         p: closed",
    );
}

#[test]
fn more_expired_messages_than_identifiers_do_not_stop_a_session() {
    let mut rig = Rig::with(1, |settings| settings.queue.queue_messages_max = 100_000);
    rig.quiet("connect s v5 keep expiry=100\ns subscribe a q1\ns drop\nconnect p v5");
    for _ in 0..65_540 {
        rig.quiet("p publish a x q1 id=1 expiry=1");
    }
    rig.quiet("p publish a fresh q1 id=1\nwait 3000");
    let lines = rig.run("connect s v5 keep expiry=100");
    assert!(lines.contains("publish a fresh"), "{lines}");
}

#[test]
fn a_repetition_of_what_was_refused_is_refused_again() {
    // [MQTT-4.3.3-9]; 3.1.1: [MQTT-3.3.5-2 of 3.1.1]
    let mut rig = Rig::with(1, |settings| settings.acknowledge_denied = false);
    check_on(
        &mut rig,
        "connect o v311 keep
         o publish $SYS/a x q2 id=1
         connect o v311 keep
         o publish $SYS/a x q2 id=1 dup
         connect p v5
         p publish $SYS/a x q2 id=1
         p publish $SYS/a x q2 id=1 dup",
        "o: connack
         o: closed
         o: connack present
         o: closed
         p: connack
         p: pubrec 1 0x87
         p: pubrec 1 0x87",
    );
}

#[test]
fn live_qos0_does_not_pass_queued_qos0() {
    // [MQTT-4.6.0-5]
    let mut rig = Rig::with(1, |settings| settings.queue.queue_qos0 = true);
    rig.quiet("connect s v5 expiry=100 rmax=1\ns subscribe a q1\ns drop\nconnect p v5");
    rig.quiet("p publish a 1 q1 id=1\np publish a 2");
    rig.quiet("connect s v5 keep expiry=100 rmax=1");
    check_on(&mut rig, "p publish a 3", "");
    check_on(&mut rig, "s puback 1", "s: publish a 2\ns: publish a 3");
}
