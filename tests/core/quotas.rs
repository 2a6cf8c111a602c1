//! Quotas and limits count what they are named after, also across connections.

use crate::rig::{Rig, check_on};
use culex::shard::Settings;

#[test]
fn a_publisher_that_comes_back_has_its_whole_quota() {
    // [MQTT-3.3.4-7] What waits for other shards belongs to the connection before.
    let mut rig = Rig::with(2, |settings| settings.receive_maximum = 2);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\n{s} subscribe t q1\nconnect {p} v5 keep expiry=100"));
    rig.hold_mail = true;
    rig.quiet(&format!("{p} publish t 1 q1 id=1\n{p} publish t 2 q1 id=2\n{p} drop"));
    check_on(
        &mut rig,
        &format!(
            "connect {p} v5 keep expiry=100
             {p} publish t 1 q1 id=1 dup
             {p} publish t 2 q1 id=2 dup"
        ),
        &format!("{p}: connack present"),
    );
    rig.hold_mail = false;
    check_on(
        &mut rig,
        &format!("{p} ping"),
        &format!(
            "{p}: pingresp
             {s}: publish t 1 q1 id=1
             {s}: publish t 2 q1 id=2
             {s}: publish t 1 q1 id=3
             {s}: publish t 2 q1 id=4
             {p}: puback 1
             {p}: puback 2"
        ),
    );
}

#[test]
fn messages_that_will_be_repeated_are_not_queued_ones() {
    // A smaller window leaves two of them waiting; there is room for one message in the queue.
    let mut rig = Rig::with(1, |settings| settings.queue.queue_messages_max = 1);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe t q1
         connect p v5
         p publish t 1 q1 id=1
         p publish t 2 q1 id=2
         p publish t 3 q1 id=3
         s drop",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100 rmax=1
         p publish t 4 q1 id=4
         p publish t 5 q1 id=5
         s puback 1
         s puback 2
         s puback 3
         s puback 4",
        "s: connack present
         s: publish t 1 q1 id=1 dup
         p: puback 4
         p: puback 5
         s: publish t 2 q1 id=2 dup
         s: publish t 3 q1 id=3 dup
         s: publish t 4 q1 id=4",
    );
}

#[test]
fn a_message_of_qos_0_does_not_overtake_one_that_was_kept() {
    // [MQTT-4.6.0-5] The second waits behind the first, for which the window has to open.
    let mut rig = Rig::with(1, |settings| settings.queue.queue_qos0 = true);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe t q1
         connect p v5
         s drop
         p publish t 1 q1 id=1
         p publish t 2 q1 id=2
         p publish t 3",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100 rmax=1
         p publish t 4
         s puback 1
         p publish t 5
         s puback 2
         p publish t 6",
        "s: connack present
         s: publish t 1 q1 id=1
         s: publish t 2 q1 id=2
         s: publish t 3
         s: publish t 4
         s: publish t 5
         s: publish t 6",
    );
}

#[test]
fn silence_does_not_count_while_the_edge_does_not_read() {
    // [MQTT-3.1.2-22] What the client sends meanwhile waits in its socket.
    let mut rig = Rig::new(1);
    rig.quiet("connect a v5 alive=1\nconnect b v5 alive=1");
    let conn = shards::ConnId::new(0, 0);
    rig.shards[0].set_read(conn, false, rig.now);
    check_on(&mut rig, "wait 5000", "b: disconnect 0x8d\nb: closed");
    // Read again, it has its whole time.
    rig.shards[0].set_read(conn, true, rig.now);
    check_on(&mut rig, "wait 1400", "");
    check_on(&mut rig, "wait 200", "a: disconnect 0x8d\na: closed");
}

#[test]
fn sessions_of_one_user_are_counted() {
    // 3.x has no code for a quota: it is told 3, server unavailable.
    let mut rig = Rig::with(1, |settings| settings.sessions_per_user_max = 2);
    check_on(
        &mut rig,
        "connect a1 v5 user=a keep expiry=100
         connect a2 v5 user=a
         connect a3 v5 user=a
         connect b1 v5 user=b
         connect n1 v5
         connect n2 v5
         connect n3 v5
         a2 bye
         connect a4 v311 user=a
         connect a5 v311 user=a
         a1 drop
         connect a6 v5 user=a
         connect a1 v5 user=a keep expiry=100",
        "a1: connack
         a2: connack
         a3: connack 0x97
         a3: closed
         b1: connack
         n1: connack
         n2: connack
         n3: connack
         a2: closed
         a4: connack
         a5: connack 0x88
         a5: closed
         a6: connack 0x97
         a6: closed
         a1: connack present",
    );
}

#[test]
fn user_properties_have_a_number_and_a_size() {
    let mut rig = Rig::with(1, |settings| {
        settings.user_properties_max = 0;
        settings.user_property_bytes_max = 100;
    });
    check_on(
        &mut rig,
        "connect a v5
         a publish t 1 q1 id=1
         a publish t 2 q1 id=2 user=k:v",
        "a: connack
         a: puback 1 0x10
         a: disconnect 0x97
         a: closed",
    );
}

#[test]
fn under_pressure_nothing_new_is_taken_in() {
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect a v5 keep expiry=100
         a subscribe t q1
         a publish r 1 retain q1 id=1
         a publish t 2 q1 id=2",
    );
    rig.shards[0].set_pressed(true);
    check_on(
        &mut rig,
        "a publish t 3 q1 id=3
         a publish t 4
         a publish r - retain q1 id=5
         a subscribe u
         a subscribe t q1
         a puback 1
         connect b v5
         a drop
         connect a v5 keep expiry=100",
        "a: puback 3 0x97
         a: puback 5 0x10
         a: suback 0x97
         a: suback 0x01
         b: connack 0x97
         b: closed
         a: connack present",
    );
    rig.shards[0].set_pressed(false);
    check_on(&mut rig, "a publish t 6 q1 id=6", "a: publish t 6 q1 id=2\na: puback 6");
    let dropped = rig.counters().dropped;
    assert_eq!(dropped[culex::session::DropCause::MemoryFull as usize], 2);
}

#[test]
fn a_full_disk_refuses_what_would_have_to_be_kept() {
    let mut rig = Rig::with(1, |settings| settings.recording = true);
    rig.quiet(
        "connect a v5 keep expiry=100
         connect b v311 clean
         b subscribe t q1",
    );
    rig.shards[0].set_disk_full(true);
    check_on(
        &mut rig,
        "a publish t 1 q1 id=1
         a publish t 2 q2 id=2
         a publish t 3
         a publish t 4 retain
         a publish t - retain q1 id=5
         a subscribe u q1
         connect c v5 keep expiry=100
         connect d v311 keep
         connect e v5 keep
         b publish t 6 q1 id=6",
        "a: puback 1 0x97
         a: pubrec 2 0x97
         b: publish t 3
         b: publish t - q1 id=1
         a: puback 5
         a: suback 0x97
         c: connack 0x97
         c: closed
         d: connack 0x88
         d: closed
         e: connack
         b: publish t 6 q1 id=2
         b: puback 6",
    );
    rig.shards[0].set_disk_full(false);
    check_on(&mut rig, "a publish t 7 q1 id=7", "b: publish t 7 q1 id=3\na: puback 7");
    let dropped = rig.counters().dropped;
    assert_eq!(dropped[culex::session::DropCause::DiskFull as usize], 3);
}

#[test]
fn bytes_in_flight_have_a_limit() {
    // The message that passes the limit still leaves; the next waits for an acknowledgement.
    let mut rig = Rig::with(1, |settings| settings.inflight_bytes_max = 20);
    rig.quiet("connect s v5\ns subscribe t q2\nconnect p v5");
    check_on(
        &mut rig,
        "p publish t 0123456789 q1 id=1
         p publish t 9876543210 q2 id=2
         p publish t 3 q1 id=3
         s puback 1
         s pubrec 2",
        "s: publish t 0123456789 q1 id=1
         p: puback 1
         s: publish t 9876543210 q2 id=2
         p: pubrec 2
         p: puback 3
         s: publish t 3 q1 id=3
         s: pubrel 2",
    );
}

#[test]
fn sessions_of_a_user_are_counted_on_all_shards() {
    let mut rig = Rig::with(3, |settings| settings.sessions_per_user_max = 3);
    let names: Vec<String> = (0..3).map(|shard| rig.name_on("c", shard)).collect();
    for name in &names {
        rig.quiet(&format!("connect {name} v5 user=ada keep expiry=100"));
    }
    for shard in 0..3 {
        let more = rig.name_on("more", shard);
        let refused = format!("{more}: connack 0x97\n{more}: closed");
        check_on(&mut rig, &format!("connect {more} v5 user=ada"), &refused);
    }
    let other = rig.name_on("b", 1);
    check_on(&mut rig, &format!("connect {other} v5 user=bob"), &format!("{other}: connack"));
    // One ends; its place is free on every shard.
    rig.quiet(&format!("{} bye expiry=0", names[2]));
    let more = rig.name_on("more", 0);
    check_on(&mut rig, &format!("connect {more} v5 user=ada"), &format!("{more}: connack"));
    // The limit may go and come back; the others have to say anew what they have.
    for max in [0, 3] {
        let settings = Settings { sessions_per_user_max: max, ..rig.settings.clone() };
        let now = rig.now;
        rig.shards.iter_mut().for_each(|shard| shard.reconfigure(&settings, now));
        rig.quiet("wait 1");
    }
    let last = rig.name_on("last", 1);
    let refused = format!("{last}: connack 0x97\n{last}: closed");
    check_on(&mut rig, &format!("connect {last} v5 user=ada"), &refused);
}

#[test]
fn who_takes_over_too_often_is_refused_and_the_other_stays() {
    let mut rig = Rig::with(1, |settings| settings.takeovers_per_min_max = 2);
    rig.quiet("connect a v5 id=x\nconnect b v5 id=x\nconnect c v5 id=x");
    check_on(&mut rig, "connect d v5 id=x\nc ping", "d: connack 0x9f\nd: closed\nc: pingresp");
    check_on(&mut rig, "connect e v311 id=x", "e: connack 0x88\ne: closed");
    rig.quiet("wait 31000");
    check_on(&mut rig, "connect f v5 id=x", "c: disconnect 0x8e\nf: connack\nc: closed");
}

#[test]
fn client_identifiers_may_need_a_beginning() {
    let prefixes = |settings: &mut Settings| {
        settings.client_id_prefixes = vec!["plant/".to_owned(), "lab-".to_owned()];
    };
    check_on(
        &mut Rig::with(1, prefixes),
        "connect a v5 id=plant/1
         connect b v311 id=lab-
         connect c v5 id=plant
         connect d v311 id=xlab-
         connect e v5 id=",
        "a: connack
         b: connack
         c: connack 0x87
         c: closed
         d: connack 0x87
         d: closed
         e: connack 0x87
         e: closed",
    );
}
