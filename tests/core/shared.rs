//! Shared subscriptions.

use crate::rig::{Rig, check_on};

fn received(lines: &str, name: &str) -> usize {
    lines.lines().filter(|line| line.starts_with(&format!("{name}: publish"))).count()
}

#[test]
fn members_take_turns_and_others_get_their_own_copy() {
    for shards in [1, 2, 3] {
        let mut rig = Rig::new(shards);
        rig.quiet("connect p v5\nconnect x v5\nx subscribe t");
        let members = ["m1", "m2", "m3", "m4"];
        for member in members {
            rig.quiet(&format!("connect {member} v5\n{member} subscribe $share/g/t q1"));
        }
        let script: String = (1..=40).map(|n| format!("p publish t {n} q1 id={n}\n")).collect();
        let lines = rig.run(&script);
        for member in members {
            assert_eq!(received(&lines, member), 10, "{shards} shards, {member}\n{lines}");
        }
        assert_eq!(received(&lines, "x"), 40);
    }
}

#[test]
fn a_member_with_a_full_window_is_passed_over() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards);
        rig.quiet(
            "connect p v5
             connect a v5 rmax=1
             a subscribe $share/g/t q1
             connect b v5
             b subscribe $share/g/t q1",
        );
        let script: String = (1..=10).map(|n| format!("p publish t {n} q1 id={n}\n")).collect();
        let lines = rig.run(&script);
        assert_eq!(received(&lines, "a"), 1, "{shards} shards\n{lines}");
        assert_eq!(received(&lines, "b"), 9);
    }
}

#[test]
fn a_full_window_does_not_hold_back_qos0() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards);
        rig.quiet(
            "connect p v5
             connect a v5 rmax=1
             a subscribe t q1
             a subscribe $share/g/u q1
             a subscribe $share/h/v
             p publish t 1 q1 id=1
             p publish t 2 q1 id=2",
        );
        check_on(
            &mut rig,
            "p publish u 3
             p publish v 4 q1 id=4",
            "a: publish u 3
             a: publish v 4
             p: puback 4",
        );
    }
}

#[test]
fn a_lost_members_unacknowledged_messages_go_to_another() {
    for shards in [1, 2] {
        let mut rig = Rig::new(shards);
        rig.quiet(
            "connect p v5
             connect a v5 keep expiry=100
             a subscribe $share/g/t q1
             p publish t 1 q1 id=1
             p publish t 2 q1 id=2
             connect b v5
             b subscribe $share/g/t q1",
        );
        check_on(
            &mut rig,
            "a drop
             connect a v5 keep expiry=100",
            "b: publish t 1 q1 id=1
             b: publish t 2 q1 id=2
             a: connack present",
        );
    }
}

#[test]
fn a_qos2_delivery_that_began_stays_with_its_member() {
    // [MQTT-4.8.2-4] [MQTT-4.8.2-5]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect p v5
         connect a v5 keep expiry=5
         a subscribe $share/g/t q2
         p publish t 1 q2 id=1
         connect b v5
         b subscribe $share/g/t q2",
    );
    check_on(
        &mut rig,
        "a drop
         connect a v5 keep expiry=5
         a drop
         wait 6000
         b ping",
        "a: connack present
         a: publish t 1 q2 id=1 dup
         b: pingresp",
    );
    assert_eq!(rig.counters().dropped_total(), 1, "it ended with its session, counted");
}

#[test]
fn messages_wait_for_a_member_that_is_away_if_there_is_no_other() {
    let mut rig = Rig::new(2);
    rig.quiet(
        "connect p v5
         connect a v5 keep expiry=100
         a subscribe $share/g/t q1
         a bye
         p publish t 1 q1 id=1",
    );
    check_on(
        &mut rig,
        "connect a v5 keep expiry=100",
        "a: connack present
         a: publish t 1 q1 id=1",
    );
}

#[test]
fn retained_messages_are_not_sent_to_shared_subscriptions() {
    check_on(
        &mut Rig::new(1),
        "connect a v5
         a publish t x retain
         a subscribe $share/g/t",
        "a: connack
         a: suback 0x00",
    );
}

#[test]
fn groups_of_different_names_are_independent() {
    check_on(
        &mut Rig::new(1),
        "connect a v5
         a subscribe $share/g/t
         a subscribe $share/h/t
         a publish t x
         a unsubscribe $share/g/t
         a publish t y",
        "a: connack
         a: suback 0x00
         a: suback 0x00
         a: publish t x
         a: publish t x
         a: unsuback 0x00
         a: publish t y",
    );
}

#[test]
fn a_member_that_can_wait_is_found_behind_one_that_cannot() {
    let mut rig = Rig::with(1, |settings| settings.output_bytes_max = 30);
    rig.quiet(
        "connect p v5
         connect a v5
         a subscribe $share/g/t
         a subscribe x
         connect b v5 rmax=1
         b subscribe $share/g/t q1",
    );
    rig.unread.push("a".into());
    rig.quiet("p publish x 012345678901234567890123456789");
    rig.quiet("p publish t 1 q1 id=1\np publish t 2 q1 id=2\np publish t 3 q1 id=3");
    assert_eq!(rig.counters().dropped_total(), 0);
    check_on(&mut rig, "b puback 1\nb puback 2", "b: publish t 2 q1 id=2\nb: publish t 3 q1 id=3");
}

#[test]
fn an_expired_message_is_not_handed_on() {
    // [MQTT-3.3.2-5]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect p v5
         connect a v5 rmax=1
         a subscribe $share/g/t q1
         p publish t 1 q1 id=1
         p publish t 2 q1 id=2 expiry=1
         wait 3000
         connect b v5
         b subscribe $share/g/t q1",
    );
    check_on(&mut rig, "a drop", "b: publish t 1 q1 id=1");
    assert_eq!(rig.counters().dropped_total(), 1);
}
