//! Connections, sessions and wills, from CONNECT to the end.

use crate::rig::{Rig, VERSIONS, check, check_on};

#[test]
fn sessions_live_as_long_as_was_asked() {
    // [MQTT-3.1.2-4] [MQTT-3.1.2-5] [MQTT-3.1.2-6] [MQTT-3.2.2-2] [MQTT-3.2.2-3]
    check(
        "connect a v311 clean
         a drop
         connect a v311 keep
         a drop
         connect a v311 keep
         a drop
         connect a v311 clean
         a drop
         connect a v311 keep",
        "a: connack
         a: connack
         a: connack present
         a: connack
         a: connack",
    );
    check(
        "connect a v5 keep expiry=10
         a drop
         wait 9000
         connect a v5 keep expiry=10
         a drop
         wait 11000
         connect a v5 keep",
        "a: connack
         a: connack present
         a: connack",
    );
}

#[test]
fn expiry_can_change_at_disconnect_but_not_rise_from_zero() {
    check(
        "connect a v5 expiry=100
         a bye expiry=1
         wait 1500
         connect a v5 keep
         a bye expiry=5",
        "a: connack
         a: closed
         a: connack
         a: disconnect 0x82
         a: closed",
    );
}

#[test]
fn resume_resends_with_dup_in_order_and_only_then() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1]
    for (version, options) in [("v31", ""), ("v311", ""), ("v5", "expiry=100")] {
        let mut rig = Rig::new(1);
        rig.quiet(&format!(
            "connect s {version} keep {options}
             s subscribe a q2
             connect p {version}
             p publish a 1 q1 id=1
             p publish a 2 q2 id=2
             p publish a 3 q2 id=3
             s pubrec 2
             s drop
             p publish a 4 q1 id=4
             p publish a 5"
        ));
        // 3.1 has no session present flag.
        let present = if version == "v31" { "" } else { " present" };
        check_on(
            &mut rig,
            &format!(
                "connect s {version} keep {options}
                 s puback 1
                 s pubcomp 2
                 s pubrec 3
                 s pubcomp 3
                 s puback 4
                 s drop
                 connect s {version} keep {options}"
            ),
            &format!(
                "s: connack{present}
                 s: publish a 1 q1 id=1 dup
                 s: pubrel 2
                 s: publish a 3 q2 id=3 dup
                 s: publish a 4 q1 id=4
                 s: pubrel 3
                 s: connack{present}"
            ),
        );
    }
}

#[test]
fn inbound_qos2_identifiers_survive_the_connection() {
    // [MQTT-4.3.3-10]
    check(
        "connect s v311
         s subscribe a
         connect p v311 keep
         p publish a x q2 id=5
         p drop
         connect p v311 keep
         p publish a x q2 id=5 dup
         p pubrel 5",
        "s: connack
         s: suback 0x00
         p: connack
         s: publish a x
         p: pubrec 5
         p: connack present
         p: pubrec 5
         p: pubcomp 5",
    );
}

#[test]
fn a_second_client_takes_the_session_over() {
    // [MQTT-3.1.4-3]
    check(
        "connect a v5 id=c keep expiry=100
         a subscribe t q1
         connect p v5
         p publish t 1 q1 id=1
         connect b v5 id=c keep expiry=100
         a ping",
        "a: connack
         a: suback 0x01
         p: connack
         a: publish t 1 q1 id=1
         p: puback 1
         a: disconnect 0x8e
         b: connack present
         b: publish t 1 q1 id=1 dup
         a: closed",
    );
}

#[test]
fn take_over_of_a_session_without_expiry_begins_anew() {
    check(
        "connect a v5 id=c
         a subscribe t
         connect b v5 id=c keep
         connect p v5
         p publish t x q1 id=1",
        "a: connack
         a: suback 0x00
         a: disconnect 0x8e
         b: connack
         a: closed
         p: connack
         p: puback 1 0x10",
    );
}

#[test]
fn wills_follow_the_kind_of_end() {
    // [MQTT-3.1.2-8] [MQTT-3.14.4-3]
    for version in VERSIONS {
        let mut rig = Rig::new(1);
        rig.quiet(&format!("connect w {version}\nw subscribe will"));
        check_on(
            &mut rig,
            &format!(
                "connect a {version} will=will:gone
                 a drop
                 connect b {version} will=will:never
                 b bye"
            ),
            "a: connack
             w: publish will gone
             b: connack
             b: closed",
        );
    }
    check(
        "connect w v5
         w subscribe will
         connect a v5 will=will:wanted
         a bye will",
        "w: connack
         w: suback 0x00
         a: connack
         w: publish will wanted
         a: closed",
    );
}

#[test]
fn will_delay_is_kept_and_cut_by_the_end_of_the_session() {
    // [MQTT-3.1.2-8]
    check(
        "connect w v5
         w subscribe will
         connect a v5 expiry=100 delay=5 will=will:delayed
         a drop
         wait 4900
         w ping
         wait 200
         connect b v5 expiry=2 delay=50 will=will:session
         b drop
         wait 1900
         w ping
         wait 200
         connect c v5 delay=50 will=will:atonce
         c drop",
        "w: connack
         w: suback 0x00
         a: connack
         w: pingresp
         w: publish will delayed
         b: connack
         w: pingresp
         w: publish will session
         c: connack
         w: publish will atonce",
    );
}

#[test]
fn will_delay_is_cancelled_by_resume_and_cut_by_clean_start() {
    // [MQTT-3.1.3-9]
    check(
        "connect w v5
         w subscribe will
         connect a v5 keep expiry=100 delay=5 will=will:no
         a drop
         wait 1000
         connect a v5 keep expiry=100
         wait 10000
         w ping
         connect b v5 expiry=100 delay=5 will=will:clean
         b drop
         connect b v5 clean
         wait 10000
         w ping",
        "w: connack
         w: suback 0x00
         a: connack
         a: connack present
         w: pingresp
         b: connack
         w: publish will clean
         b: connack
         w: pingresp",
    );
}

#[test]
fn a_will_can_be_retained() {
    // [MQTT-3.1.2-15]
    check(
        "connect a v311 will=w:x retain q1
         a drop
         connect s v311
         s subscribe w q1",
        "a: connack
         s: connack
         s: suback 0x01
         s: publish w x q1 id=1 retain",
    );
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_the_connection() {
    // [MQTT-3.1.2-22]
    check(
        "connect w v5
         w subscribe will
         connect a v5 alive=10 will=will:silent
         wait 14000
         a ping
         wait 14900
         a ping
         wait 15200",
        "w: connack
         w: suback 0x00
         a: connack
         a: pingresp
         a: pingresp
         a: disconnect 0x8d
         w: publish will silent
         a: closed",
    );
}

#[test]
fn a_connection_without_connect_is_closed_in_time() {
    use culex::shard::{Effect, Input};
    use shards::ConnId;
    let mut rig = Rig::new(1);
    let conn = ConnId::new(99, 0);
    let deadline = rig.now.after(10_000);
    rig.shards[0].handle(Input::Opened { conn, deadline }, rig.now);
    let mut effects = Vec::new();
    rig.shards[0].tick(deadline);
    rig.shards[0].take_effects(&mut effects);
    assert!(matches!(effects[..], [Effect::Close(closed)] if closed == conn), "{effects:?}");
}

#[test]
fn empty_client_ids_follow_the_version() {
    // [MQTT-3.1.3-6] [MQTT-3.1.3-8]
    check(
        "connect a v5 id=-
         connect b v311 id=- clean
         connect c v311 id=- keep
         connect d v31 id=- clean",
        "a: connack assigned
         b: connack
         c: connack 0x85
         c: closed
         d: connack 0x85
         d: closed",
    );
}

#[test]
fn client_id_length_is_limited() {
    for (bytes, answer) in [(256, "a: connack"), (257, "a: connack 0x85\na: closed")] {
        let id = "x".repeat(bytes);
        check(&format!("connect a v5 id={id}"), answer);
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    // [MQTT-3.1.0-2]
    check(
        "connect a v5
         a raw 101100044d5154540500003c00000361626300",
        "a: connack
         a: disconnect 0x81
         a: closed",
    );
    check(
        "connect a v5
         a raw 101000044d5154540500003c000003616263",
        "a: connack
         a: disconnect 0x82
         a: closed",
    );
}

#[test]
fn auth_packets_are_protocol_errors_without_a_method() {
    // [MQTT-4.12.0-7]
    check(
        "connect a v5
         a raw f000",
        "a: connack
         a: disconnect 0x82
         a: closed",
    );
}

#[test]
fn a_clean_stop_says_why_to_v5() {
    check(
        "connect a v5
         connect b v311
         stop",
        "a: connack
         b: connack
         a: disconnect 0x8b
         a: closed
         b: closed",
    );
}

#[test]
fn sessions_are_limited_and_known_ones_still_served() {
    let mut rig = Rig::with(1, |settings| settings.sessions_max = 1);
    check_on(
        &mut rig,
        "connect a v311 keep
         connect b v5
         a drop
         connect a v311 keep",
        "a: connack
         b: connack 0x97
         b: closed
         a: connack present",
    );
}

#[test]
fn subscriptions_are_limited_per_session() {
    let mut rig = Rig::with(1, |settings| settings.subscriptions_per_session_max = 1);
    check_on(
        &mut rig,
        "connect a v5
         a subscribe x
         a subscribe y
         a subscribe x q1
         a unsubscribe x
         a unsubscribe x
         a subscribe y",
        "a: connack
         a: suback 0x00
         a: suback 0x97
         a: suback 0x01
         a: unsuback 0x00
         a: unsuback 0x11
         a: suback 0x00",
    );
}

#[test]
fn bad_filters_are_refused_one_by_one() {
    check(
        "connect a v5
         a subscribe a/#/b
         a subscribe a+
         a subscribe $share/g
         a subscribe $share/g/t nl",
        "a: connack
         a: suback 0x8f
         a: suback 0x8f
         a: suback 0x8f
         a: disconnect 0x82
         a: closed",
    );
}

#[test]
fn take_over_of_a_session_without_expiry_publishes_its_delayed_will() {
    // [MQTT-3.1.2-8] The delay ends with the session, and that ends with its connection.
    check(
        "connect w v5
         w subscribe t
         connect a v5 id=c will=t:gone delay=10
         connect b v5 id=c keep",
        "w: connack
         w: suback 0x00
         a: connack
         a: disconnect 0x8e
         w: publish t gone
         b: connack
         a: closed",
    );
}

#[test]
fn the_longest_keep_alive_is_for_everybody() {
    // [MQTT-3.2.2-21] 5.0 is told; older clients cannot be told and are cut all the same.
    for version in ["v31", "v311", "v5"] {
        for wanted in ["alive=100", "alive=0", "alive=10"] {
            let mut rig = Rig::with(1, |settings| settings.keep_alive_s_max = 10);
            let lines = rig.run(&format!("connect a {version} {wanted}\nwait 14000"));
            assert!(!lines.contains("closed"), "{version} {wanted}\n{lines}");
            let lines = rig.run("wait 2000");
            assert!(lines.contains("closed"), "{version} {wanted}\n{lines}");
        }
    }
}

#[test]
fn long_waits_end_in_time() {
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect w v5
         w subscribe t
         connect a v5 expiry=2000 will=t:gone delay=1000
         a drop
         connect b v5 alive=1000",
    );
    assert_eq!(rig.run("wait 999000"), "");
    assert_eq!(rig.run("wait 1100"), "w: publish t gone");
    assert_eq!(rig.run("wait 499000"), "");
    assert_eq!(rig.run("wait 1100"), "b: disconnect 0x8d\nb: closed");
    assert_eq!(rig.run("wait 499000\nconnect a v5 keep"), "a: connack present");
}

#[test]
fn nothing_follows_the_good_bye_of_a_stop() {
    // [MQTT-3.14.4-1]
    let mut rig = Rig::new(1);
    rig.quiet("connect p v311 will=t:gone\nconnect s v5\ns subscribe t\nstop");
    assert_eq!(rig.counters().publish_sent, 0);
}

#[test]
fn an_answer_that_is_too_large_for_the_client_ends_the_connection() {
    // [MQTT-3.1.2-24] SUBACK has 6 bytes, CONNACK more than 5
    check(
        "connect a v5 pmax=5
         connect b v5 pmax=40
         b subscribe t",
        "a: closed
         b: connack
         b: suback 0x00",
    );
}

#[test]
fn receive_maximum_begins_anew_with_each_connection() {
    // MQTT 5.0 §4.9
    let mut rig = Rig::with(2, |settings| settings.receive_maximum = 1);
    let (client, subscriber) = (rig.name_on("c", 0), rig.name_on("s", 1));
    rig.quiet(&format!("connect {subscriber} v5\n{subscriber} subscribe a q1"));
    rig.quiet(&format!("connect {client} v5 expiry=100"));
    rig.hold_mail = true;
    rig.quiet(&format!("{client} publish a x q1 id=1\n{client} drop"));
    rig.quiet(&format!("connect {client} v5 keep expiry=100"));
    rig.quiet(&format!("{client} publish a x q1 id=1 dup"));
    rig.hold_mail = false;
    let lines = rig.run(&format!("{client} ping"));
    assert!(lines.contains(&format!("{client}: puback 1")), "{lines}");
}
