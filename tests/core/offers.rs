//! What a listener offers its clients: versions, quality of service, aliases, a part of the topics.

use crate::rig::{Rig, check_on};
use culex::codec::{Qos, Version};
use culex::session::DropCause;
use culex::shard::{ListenerRules, LoginRules};

/// Listener 0 offers all there is; 1 sees the topics below `plant/` alone; 2 offers `QoS` 1 at
/// most; 3 speaks 3.1.1 and allows one alias.
fn rig(shards: usize) -> Rig {
    let mut rig = Rig::new(shards);
    let rules = LoginRules {
        listeners: vec![
            ListenerRules::default(),
            ListenerRules { mount: Some("plant/".into()), ..ListenerRules::default() },
            ListenerRules { qos_max: Some(Qos::AtLeastOnce), ..ListenerRules::default() },
            ListenerRules {
                versions: vec![Version::V311],
                topic_alias_maximum: Some(1),
                id_prefix: Some("plant-".into()),
                ..ListenerRules::default()
            },
        ],
        ..LoginRules::default()
    };
    rig.shards.iter_mut().for_each(|shard| shard.set_login_rules(rules.clone()));
    rig
}

#[test]
fn a_mounted_client_sees_its_part_alone() {
    for shards in 1..=2 {
        let mut rig = rig(shards);
        rig.quiet(
            "connect all v5
             all subscribe # q2
             connect in v5 listener=1
             in subscribe # q2
             connect p v5 listener=1
             connect out v5",
        );
        let mut got: Vec<String> = rig
            .run(
                "p publish a/b 1
                 p publish a/b 2 q1 id=2
                 out publish a/b 3
                 out publish plant/c 4
                 out publish plant 5
                 out publish plant/ 6",
            )
            .lines()
            .map(str::to_owned)
            .collect();
        got.sort();
        let expected = [
            "all: publish a/b 3",
            "all: publish plant 5",
            "all: publish plant/ 6",
            "all: publish plant/a/b 1",
            "all: publish plant/a/b 2 q1 id=1",
            "all: publish plant/c 4",
            "in: publish a/b 1",
            "in: publish a/b 2 q1 id=1",
            "in: publish c 4",
            "p: puback 2",
        ];
        assert_eq!(got, expected);
        rig.quiet("all unsubscribe #");
        check_on(
            &mut rig,
            "in unsubscribe #
             in subscribe c
             out publish plant/c 7
             in unsubscribe c
             out publish plant/c 8",
            "in: unsuback 0x00
             in: suback 0x00
             in: publish c 7
             in: unsuback 0x00",
        );
    }
}

#[test]
fn aliases_wills_shares_and_retained_messages_are_mounted_too() {
    let mut rig = rig(1);
    rig.quiet(
        "connect all v5
         all subscribe # rap
         connect p v5 listener=1 will=gone:1 retain
         connect s v5 listener=1 amax=5
         s subscribe $share/g/x/#",
    );
    check_on(
        &mut rig,
        "p publish x/1 a alias=3
         p publish - b alias=3
         p publish - c
         connect late v5 listener=1
         late subscribe +
         connect other v5
         other subscribe gone",
        "all: publish plant/x/1 a
         s: publish x/1 a alias=1
         all: publish plant/x/1 b
         s: publish  b alias=1
         p: disconnect 0x82
         all: publish plant/gone 1 retain
         p: closed
         late: connack
         late: suback 0x00
         late: publish gone 1 retain
         other: connack
         other: suback 0x00",
    );
}

#[test]
fn a_session_brings_nothing_to_a_listener_that_does_not_show_it() {
    let mut rig = rig(1);
    rig.quiet(
        "connect p v5
         connect s v5 keep expiry=100
         s subscribe a q1
         s subscribe plant/b q1
         s drop
         p publish a 1
         p publish a 2 q1 id=2
         p publish plant/b 3 q1 id=3",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100 listener=1
         p publish a 4
         p publish plant/b 5",
        "s: connack present
         s: publish b 3 q1 id=2
         s: publish b 5",
    );
    assert_eq!(rig.counters().dropped[DropCause::Denied as usize], 2);
}

#[test]
fn unsubscribe_ends_what_has_that_name_here() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    let mut rig = rig(1);
    rig.quiet(
        "connect p v5
         connect s v5 keep expiry=100 listener=1
         s subscribe a q1
         s subscribe $share/g/b q1
         s bye
         connect s v5 keep expiry=100",
    );
    check_on(
        &mut rig,
        "s subscribe c
         s unsubscribe a
         p publish plant/a 1
         s unsubscribe plant/a
         s unsubscribe plant/a
         p publish plant/a 2
         s bye
         connect s v5 keep expiry=100 listener=1
         s unsubscribe c
         s unsubscribe $share/g/b
         s bye
         connect s v5 keep expiry=100
         p publish c 3
         s unsubscribe c",
        "s: suback 0x00
         s: unsuback 0x11
         s: publish plant/a 1
         s: unsuback 0x00
         s: unsuback 0x11
         s: closed
         s: connack present
         s: unsuback 0x11
         s: unsuback 0x00
         s: closed
         s: connack present
         s: publish c 3
         s: unsuback 0x00",
    );
}

#[test]
fn unsubscribe_knows_filters_above_a_lowered_limit() {
    let mut rig = rig(1);
    rig.quiet("connect s v5\ns subscribe a/b/c/d\ns subscribe a");
    let settings = culex::shard::Settings { topic_levels_max: 3, ..rig.settings.clone() };
    let now = rig.now;
    rig.shards[0].reconfigure(&settings, now);
    check_on(
        &mut rig,
        "s subscribe a/b/c/e
         s unsubscribe a/b/c/e
         s unsubscribe a/b/c/d
         s unsubscribe a/b/c/d",
        "s: suback 0x8f
         s: unsuback 0x8f
         s: unsuback 0x00
         s: unsuback 0x8f",
    );
}

#[test]
fn a_group_gives_nothing_to_who_does_not_see_it() {
    for shards in 1..=2 {
        let mut rig = rig(shards);
        rig.quiet(
            "connect a v5
             a subscribe $share/g/x q1
             connect b v5 keep expiry=100
             b subscribe $share/g/x q1
             b bye
             connect b v5 keep expiry=100 listener=1
             connect p v5",
        );
        let got = rig.run(
            "p publish x 1 q1 id=1
             p publish x 2 q1 id=2
             p publish x 3
             p publish x 4",
        );
        let mut got: Vec<&str> = got.lines().collect();
        got.sort_unstable();
        let expected = [
            "a: publish x 1 q1 id=1",
            "a: publish x 2 q1 id=2",
            "a: publish x 3",
            "a: publish x 4",
            "p: puback 1",
            "p: puback 2",
        ];
        assert_eq!(got, expected, "{shards}");
    }
}

#[test]
fn rules_speak_of_whole_topics() {
    let mut rig = rig(1);
    rig.rules("topic plant/open/#");
    check_on(
        &mut rig,
        "connect s v5 listener=1
         s subscribe open/#
         s subscribe shut/#
         s publish open/1 a q1 id=1
         s publish shut/1 a q1 id=2",
        "s: connack
         s: suback 0x00
         s: suback 0x87
         s: publish open/1 a
         s: puback 1
         s: puback 2 0x87",
    );
}

#[test]
fn no_more_qos_than_there_is() {
    // [MQTT-3.2.2-10] [MQTT-3.9.3-2]
    let mut rig = rig(1);
    check_on(
        &mut rig,
        "connect s v5 listener=2
         s subscribe a q2
         connect p v5
         p publish a x q2 id=1
         s publish b y q1 id=1
         s publish b z q2 id=2",
        "s: connack
         s: suback 0x01
         p: connack
         s: publish a x q1 id=1
         p: pubrec 1
         s: puback 1 0x10
         s: disconnect 0x9b
         s: closed",
    );
    // [MQTT-3.2.2-12]; 3.x has no code for it.
    check_on(
        &mut rig,
        "connect w v5 listener=2 will=a:1 q2
         connect w v311 listener=2 will=a:1 q2
         connect w v311 listener=2 will=a:1 q1
         w publish b z q2 id=2",
        "w: connack 0x9b
         w: closed
         w: closed
         w: connack
         w: closed",
    );
}

#[test]
fn versions_that_are_not_spoken_are_refused() {
    // [MQTT-3.1.2-2]
    check_on(
        &mut rig(1),
        "connect a v5 listener=3
         connect b v31 listener=3
         connect c v311 listener=3",
        "a: connack 0x84
         a: closed
         b: connack 0x84
         b: closed
         c: connack",
    );
}

#[test]
fn a_listener_of_which_nothing_is_known_lets_nobody_in() {
    // The shard that took the connection has read its settings again, this one has not.
    check_on(
        &mut rig(1),
        "connect a v5 listener=4
         connect b v311 listener=4
         connect c v5 listener=0",
        "a: connack 0x88
         a: closed
         b: connack 0x88
         b: closed
         c: connack",
    );
}

#[test]
fn a_payload_may_be_limited() {
    let mut rig = Rig::with(1, |settings| settings.payload_bytes_max = 3);
    check_on(
        &mut rig,
        "connect s v5
         s subscribe a
         connect p v5
         p publish a 1234
         p publish a 1234 q1 id=1
         p publish a 1234 q2 id=2
         p publish a 123 q1 id=3
         connect o v311
         o publish a 1234 q1 id=1
         o publish a 12 q1 id=2
         connect w v5 will=a:1234",
        "s: connack
         s: suback 0x00
         p: connack
         p: puback 1 0x97
         p: pubrec 2 0x97
         s: publish a 123
         p: puback 3
         o: connack
         o: puback 1
         s: publish a 12
         o: puback 2
         w: connack 0x97
         w: closed",
    );
    assert_eq!(rig.counters().dropped[DropCause::TooLarge as usize], 4);
}

#[test]
fn who_is_connected_keeps_what_was_offered() {
    let mut rig = Rig::with(1, |settings| settings.topic_alias_maximum = 2);
    rig.quiet("connect old v5");
    let settings = culex::shard::Settings {
        topic_alias_maximum: 1,
        packet_bytes_max: 77,
        receive_maximum: 5,
        ..rig.settings.clone()
    };
    let now = rig.now;
    rig.shards[0].reconfigure(&settings, now);
    check_on(
        &mut rig,
        "connect new v5
         old publish a x q1 id=1 alias=2
         new publish a x q1 id=1 alias=2",
        "new: connack
         old: puback 1 0x10
         new: disconnect 0x94
         new: closed",
    );
}

#[test]
fn the_sys_tree_comes_goes_and_changes_its_pace() {
    let mut rig = Rig::new(1);
    rig.quiet("connect s v5\ns subscribe $SYS/broker/uptime");
    let pace = |rig: &mut Rig, sys_interval_s: u32| {
        let settings = culex::shard::Settings { sys_interval_s, ..rig.settings.clone() };
        let now = rig.now;
        rig.shards.iter_mut().for_each(|shard| shard.reconfigure(&settings, now));
    };
    check_on(&mut rig, "wait 60000", "");
    pace(&mut rig, 3600);
    assert_eq!(rig.run("wait 1000").lines().count(), 1, "at once");
    pace(&mut rig, 10);
    assert_eq!(rig.run("wait 39000").lines().count(), 4, "not after an hour");
    pace(&mut rig, 0);
    // What was retained goes: a message without payload.
    check_on(&mut rig, "wait 7200000", "s: publish $SYS/broker/uptime -");
}
