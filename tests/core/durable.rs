//! What must be durable before what: one test for each promise, with the crash on either side.
//! One shard; `exactly_once` has several.

use crate::rig::{Rig, check_on};
use culex::store::Record;

fn recording() -> Rig {
    Rig::with(1, |settings| settings.recording = true)
}

fn kinds(rig: &Rig) -> Vec<&'static str> {
    rig.records.iter().map(kind).collect()
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::Session(_) => "session",
        Record::SessionEnd { .. } => "end",
        Record::Will { .. } => "will",
        Record::Subscribe { .. } => "subscribe",
        Record::Unsubscribe { .. } => "unsubscribe",
        Record::Publish(_) => "publish",
        Record::Received { .. } => "received",
        Record::Released { .. } => "released",
        Record::Owned { .. } => "owned",
        Record::Done { .. } => "done",
        Record::RetainDeleted { .. } => "deleted",
        Record::Applied { .. } => "applied",
        Record::Settled { .. } => "settled",
        Record::Clock { .. } => "clock",
    }
}

/// A subscriber `s` and a publisher `p`, both durable, everything acknowledged.
fn pair(qos: &str) -> Rig {
    let mut rig = recording();
    rig.quiet(&format!(
        "connect s v311 keep
         s subscribe a {qos}
         connect p v311 keep
         durable"
    ));
    rig
}

const BACK: &str = "connect s v311 keep\nconnect p v311 keep\ndurable";

#[test]
fn puback_waits_for_the_subscribers_record() {
    let mut rig = pair("q1");
    rig.quiet("s drop");
    check_on(&mut rig, "p publish a x q1 id=1", "");
    check_on(&mut rig, "durable", "p: puback 1");
    assert_eq!(kinds(&rig).last(), Some(&"publish"));
    check_on(
        &mut rig,
        "crash\nconnect s v311 keep\ndurable",
        "s: connack present\ns: publish a x q1 id=1",
    );

    let mut rig = pair("q1");
    rig.quiet("s drop\np publish a x q1 id=1");
    check_on(&mut rig, "crash\nconnect s v311 keep\ndurable", "s: connack present");
}

#[test]
fn pubrec_waits_for_message_and_identifier_in_one_record() {
    let mut rig = pair("q1");
    rig.quiet("s drop");
    check_on(&mut rig, "p publish a x q2 id=9", "");
    // The duplicate waits as the first.
    check_on(&mut rig, "p publish a x q2 id=9 dup", "");
    check_on(&mut rig, "durable", "p: pubrec 9");
    rig.quiet("crash");
    check_on(
        &mut rig,
        &format!("{BACK}\np publish a x q2 id=9 dup"),
        "s: connack present
         s: publish a x q1 id=1
         p: connack present
         p: pubrec 9",
    );

    // Neither survives without the other.
    let mut rig = pair("q1");
    rig.quiet("s drop\np publish a x q2 id=9\ncrash");
    check_on(
        &mut rig,
        &format!("{BACK}\np publish a x q2 id=9 dup\ndurable"),
        "s: connack present
         p: connack present
         s: publish a x q1 id=1
         p: pubrec 9",
    );
}

#[test]
fn pubcomp_waits_until_the_identifier_is_free_for_good() {
    let mut rig = pair("q1");
    rig.quiet("p publish a x q2 id=9\ndurable\ns puback 1\ndurable");
    check_on(&mut rig, "p pubrel 9", "");
    check_on(&mut rig, "durable", "p: pubcomp 9");
    rig.quiet("crash");
    rig.quiet(BACK);
    check_on(&mut rig, "p publish a y q2 id=9", "s: publish a y q1 id=2");

    // Before it is durable the identifier is held after a crash, and PUBREL frees it again.
    let mut rig = pair("q1");
    rig.quiet("p publish a x q2 id=9\ndurable\ns puback 1\ndurable\np pubrel 9\ncrash");
    rig.quiet(BACK);
    check_on(&mut rig, "p pubrel 9\ndurable", "p: pubcomp 9");
}

#[test]
fn a_refused_message_leaves_no_record_and_no_identifier() {
    let mut rig = Rig::with(1, |settings| {
        settings.recording = true;
        settings.payload_format_check = true;
    });
    rig.quiet("connect p v5 expiry=100\ndurable");
    let before = rig.records.len();
    // PUBLISH QoS 2, topic a, id 9, payload format indicator 1, payload 0xff
    let refused = "p raw 340900016100090201 01ff".replace("01 01ff", "0101ff");
    check_on(&mut rig, &refused, "p: pubrec 9 0x99");
    assert_eq!(rig.records.len(), before);
}

#[test]
fn suback_and_unsuback_wait_each_on_its_own() {
    let mut rig = recording();
    check_on(&mut rig, "connect s v5 expiry=100", "s: connack");
    check_on(&mut rig, "s subscribe a q1\n s ping", "s: pingresp");
    check_on(&mut rig, "durable", "s: suback 0x01");
    check_on(&mut rig, "s unsubscribe a\n s ping", "s: pingresp");
    check_on(&mut rig, "durable", "s: unsuback 0x00");
}

#[test]
fn a_stream_of_subscribes_does_not_starve_the_first() {
    let mut rig = recording();
    rig.quiet("connect s v5 expiry=100\ns subscribe a id=1\ns subscribe b id=2");
    let halfway = rig.last(0) - 1;
    rig.quiet("s subscribe c id=3");
    rig.durable_to(0, halfway);
    assert_eq!(rig.run("s ping"), "s: suback 0x00\ns: pingresp");
}

#[test]
fn subscriptions_come_back_as_acknowledged() {
    let mut rig = recording();
    rig.quiet(
        "connect s v5 expiry=100
         s subscribe a q1 sid=7 rap
         s subscribe b q1
         durable
         s unsubscribe b
         durable
         s subscribe c q1
         crash
         connect s v5 keep expiry=100
         connect p v5
         durable
         ",
    );
    check_on(
        &mut rig,
        "p publish a x q1 id=1 retain\np publish b x q1 id=2\np publish c x q1 id=3\ndurable",
        "s: publish a x q1 id=1 retain sid=7
         p: puback 1
         p: puback 2 0x10
         p: puback 3 0x10",
    );

    let mut rig = recording();
    rig.quiet("connect s v5 expiry=100\ns subscribe b q1\ndurable\ns unsubscribe b\ncrash");
    rig.quiet("connect s v5 keep expiry=100\nconnect p v5\ndurable");
    check_on(&mut rig, "p publish b x q0", "s: publish b x");
}

#[test]
fn connack_of_a_reset_session_waits_until_the_old_one_is_gone_for_good() {
    let mut rig = pair("q1");
    rig.quiet("s drop\np publish a x q1 id=1\ndurable");
    check_on(&mut rig, "connect s v311 clean", "");
    check_on(&mut rig, "durable", "s: connack");
    check_on(&mut rig, "crash\nconnect s v311 keep\ndurable", "s: connack");

    let mut rig = pair("q1");
    rig.quiet("s drop\np publish a x q1 id=1\ndurable\nconnect s v311 clean");
    check_on(
        &mut rig,
        "crash\nconnect s v311 keep\ndurable",
        "s: connack present\ns: publish a x q1 id=1",
    );
}

#[test]
fn a_new_durable_session_rides_with_its_first_record() {
    let mut rig = recording();
    check_on(&mut rig, "connect s v311 keep", "s: connack");
    check_on(&mut rig, "crash\nconnect s v311 keep", "s: connack");
    check_on(&mut rig, "durable\ncrash\nconnect s v311 keep\ndurable", "s: connack present");
}

#[test]
fn a_qos_2_message_leaves_when_its_identifier_is_fixed() {
    let mut rig = pair("q2");
    check_on(&mut rig, "p publish a x q1 id=1\np publish a y q2 id=2", "s: publish a x q1 id=1");
    check_on(&mut rig, "durable", "s: publish a y q2 id=2\np: puback 1\np: pubrec 2");
    // The client had it before the crash: it comes under the same identifier.
    check_on(
        &mut rig,
        "crash\nconnect s v311 keep\ndurable",
        "s: connack present
         s: publish a x q1 id=1 dup
         s: publish a y q2 id=2 dup",
    );
}

#[test]
fn qos_0_and_qos_1_leave_at_once() {
    let mut rig = pair("q1");
    check_on(
        &mut rig,
        "p publish a x\np publish a y q1 id=1",
        "s: publish a x\ns: publish a y q1 id=1",
    );
    // To a session that ends with its connection QoS 2 too.
    rig.quiet("connect c v311 clean\ndurable\nc subscribe b q2");
    check_on(&mut rig, "p publish b x q2 id=2", "c: publish b x q2 id=1");
}

#[test]
fn pubrel_waits_until_publish_will_not_come_again() {
    let mut rig = pair("q2");
    rig.quiet("p publish a x q2 id=2\ndurable");
    check_on(&mut rig, "s pubrec 1", "");
    check_on(&mut rig, "durable", "s: pubrel 1");
    check_on(&mut rig, "crash\nconnect s v311 keep\ndurable", "s: connack present\ns: pubrel 1");
    check_on(
        &mut rig,
        "s pubcomp 1\ndurable\ncrash\nconnect s v311 keep\ndurable",
        "s: connack present",
    );

    let mut rig = pair("q2");
    rig.quiet("p publish a x q2 id=2\ndurable\ns pubrec 1\ncrash");
    check_on(
        &mut rig,
        "connect s v311 keep\ndurable",
        "s: connack present\ns: publish a x q2 id=1 dup",
    );
}

#[test]
fn pubrel_of_a_resumed_session_waits_too() {
    let mut rig = pair("q2");
    rig.quiet("p publish a x q2 id=2\ndurable\ns pubrec 1\ns drop");
    check_on(&mut rig, "connect s v311 keep", "");
    check_on(&mut rig, "durable", "s: connack present\ns: pubrel 1");
}

#[test]
fn what_the_client_has_acknowledged_may_come_again_and_does_no_harm() {
    let mut rig = pair("q1");
    rig.quiet("p publish a x q1 id=1\ndurable");
    check_on(&mut rig, "s puback 1\np publish a y q1 id=2", "s: publish a y q1 id=2");
    check_on(
        &mut rig,
        "crash\nconnect s v311 keep\ndurable",
        "s: connack present\ns: publish a x q1 id=1 dup",
    );
    // Its identifier is not given to another message before it is done.
    check_on(
        &mut rig,
        "p drop\nconnect p v311 clean\ndurable\np publish a z q1 id=1",
        "p: connack\ns: publish a z q1 id=2",
    );
}

#[test]
fn identifiers_go_on_where_they_were() {
    let mut rig = pair("q2");
    rig.quiet("p publish a x q2 id=1\ndurable\ns pubrec 1\ndurable\ns pubcomp 1\ndurable\ncrash");
    rig.quiet(BACK);
    check_on(&mut rig, "p publish a y q2 id=2\ndurable", "s: publish a y q2 id=2\np: pubrec 2");
}

#[test]
fn a_retained_message_is_durable_when_it_is_acknowledged() {
    let mut rig = recording();
    rig.quiet("connect p v311 clean\np publish a old q1 id=1 retain\ndurable");
    check_on(&mut rig, "p publish a new q1 id=2 retain", "");
    check_on(&mut rig, "durable", "p: puback 2");
    let read = "connect r v311 clean\nr subscribe a";
    check_on(
        &mut rig,
        &format!("crash\n{read}"),
        "r: connack\nr: suback 0x00\nr: publish a new retain",
    );
    rig.quiet("connect p v311 clean");
    check_on(&mut rig, "p publish a - q1 id=3 retain", "r: publish a -");
    check_on(
        &mut rig,
        &format!("crash\n{read}"),
        "r: connack\nr: suback 0x00\nr: publish a new retain",
    );
    rig.quiet("connect p v311 clean\np publish a - q1 id=3 retain\ndurable");
    check_on(&mut rig, &format!("crash\n{read}"), "r: connack\nr: suback 0x00");
}

#[test]
fn a_hand_out_of_retained_messages_survives() {
    let mut rig = pair("q1");
    rig.quiet("p publish b x q1 id=1 retain\ndurable\ns subscribe b q1\ndurable\ndurable");
    check_on(
        &mut rig,
        "crash\nconnect s v311 keep\ndurable",
        "s: connack present\ns: publish b x q1 id=1 retain dup",
    );
}

#[test]
fn a_dropped_delivery_does_not_come_back() {
    let mut rig = recording();
    rig.quiet(
        "connect s v5 expiry=100
         s subscribe a q1
         s drop
         connect p v5
         p publish a x q1 id=1 expiry=5
         durable
         wait 6000
         connect s v5 keep expiry=100
         durable",
    );
    let ends = rig.records.iter().filter(|record| matches!(record, Record::Done { .. })).count();
    assert_eq!(ends, 1, "{:?}", kinds(&rig));
}

#[test]
fn expiry_goes_on_over_a_crash() {
    let mut rig = recording();
    rig.quiet(
        "connect s v5 expiry=60
         s subscribe a q1
         s drop
         connect p v5
         p publish a x q1 id=1 expiry=5
         p publish a y q1 id=2
         durable
         wait 6000
         crash",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=60\ndurable",
        "s: connack present\ns: publish a y q1 id=2",
    );
    rig.quiet("s drop\ndurable\nwait 30000\ncrash\nwait 29000");
    check_on(
        &mut rig,
        "connect s v5 keep expiry=60\ndurable",
        "s: connack present\ns: publish a y q1 id=2 dup",
    );
    rig.quiet("s drop\ndurable\nwait 30000\ncrash\nwait 31000");
    check_on(&mut rig, "connect s v5 keep expiry=60\ndurable", "s: connack");
}

#[test]
fn a_session_whose_expiry_became_0_does_not_come_back() {
    let mut rig = recording();
    rig.quiet("connect s v5 expiry=60\ns subscribe a q1\ndurable\ns bye expiry=0\ndurable\ncrash");
    check_on(&mut rig, "connect s v5 keep expiry=60\ndurable", "s: connack");
    rig.quiet("s subscribe a q1\ns drop\nconnect s v5 keep\ndurable\ns subscribe b q1\ndurable");
    // It was there when the power failed, and ended with its connection.
    check_on(&mut rig, "crash\nconnect s v5 keep expiry=60\ndurable", "s: connack");
}

#[test]
fn a_new_expiry_at_the_end_holds_nothing_up() {
    let mut rig = recording();
    rig.quiet("connect s v5 expiry=60\ndurable\ns bye expiry=10\ndurable\ncrash\nwait 11000");
    check_on(&mut rig, "connect s v5 keep expiry=60\ndurable", "s: connack");
}

#[test]
fn a_will_is_published_after_the_crash_unless_the_client_is_back() {
    let script = "connect w v5 expiry=100 will=a:gone q1
         connect s v5 expiry=100
         s subscribe a q1
         durable
         crash
         connect s v5 keep expiry=100
         durable";
    let mut rig = recording();
    rig.quiet(script);
    assert_eq!(rig.run("wait 9000"), "");
    assert_eq!(rig.run("wait 2000"), "s: publish a gone q1 id=1");
    // Once.
    rig.quiet("s puback 1\ndurable\ncrash\nconnect s v5 keep expiry=100\ndurable");
    assert_eq!(rig.run("wait 20000"), "");

    let mut rig = recording();
    rig.quiet(script);
    rig.quiet("connect w v5 keep expiry=100\ndurable");
    assert_eq!(rig.run("wait 20000"), "");
}

#[test]
fn a_cleared_will_does_not_come_back() {
    let mut rig = recording();
    rig.quiet(
        "connect w v5 expiry=100 will=a:gone delay=50
         w drop
         connect w v5 keep expiry=100
         connect s v5
         s subscribe a
         durable
         crash
         connect s v5
         s subscribe a
         durable",
    );
    assert_eq!(rig.run("wait 90000"), "");
}

#[test]
fn nothing_is_recorded_for_sessions_that_end_with_their_connection() {
    let mut rig = recording();
    check_on(
        &mut rig,
        "connect s v311 clean
         s subscribe a q1
         s publish a x q2 id=1
         s puback 1
         s drop",
        "s: connack
         s: suback 0x01
         s: publish a x q1 id=1
         s: pubrec 1",
    );
    assert!(rig.records.is_empty(), "{:?}", rig.records);
}

#[test]
fn the_time_of_day_is_recorded_if_anything_was() {
    let mut rig = recording();
    rig.quiet("wait 30000");
    assert!(rig.records.is_empty());
    rig.quiet("connect s v311 keep\nwait 30000");
    assert_eq!(kinds(&rig), ["session", "clock"]);
}

#[test]
fn a_message_makes_one_record_for_all_its_sessions() {
    let mut rig = recording();
    rig.quiet(
        "connect a v311 keep
         a subscribe t q1
         connect b v311 keep
         b subscribe t q2
         connect c v311 clean
         c subscribe t q2
         durable
         connect p v311 keep
         p publish t x q2 id=1 retain",
    );
    assert_eq!(kinds(&rig).iter().filter(|kind| **kind == "publish").count(), 1);
    let Some(Record::Publish(publish)) = rig.records.last() else { panic!("{:?}", kinds(&rig)) };
    assert!(publish.entries.len() == 2 && publish.retained && publish.onward.is_none());
}

#[test]
fn a_packet_identifier_waits_until_its_last_message_is_over_for_good() {
    // [MQTT-2.2.1-4] [MQTT-4.3.3-1] A queue over all identifiers: the last message has that of the
    // first. A PUBREL that a crash repeats for the first would release the last at the client.
    let mut rig = Rig::with(1, |settings| {
        settings.recording = true;
        settings.queue.queue_messages_max = 100_000;
        settings.queue.queue_qos0 = true;
    });
    rig.quiet("connect s v311 keep\ns subscribe a q2\ndurable\ns drop\nconnect p v5");
    rig.quiet("p publish a first q2 id=1\ndurable\np pubrel 1");
    for _ in 0..65_534 {
        rig.quiet("p publish a x");
    }
    rig.quiet("p publish a last q2 id=1\ndurable");
    let lines = rig.run("connect s v311 keep\ndurable");
    assert!(lines.contains("publish a first q2 id=1") && !lines.contains("last"));
    check_on(&mut rig, "s pubrec 1\ndurable", "s: pubrel 1");
    check_on(&mut rig, "s pubcomp 1", "");
    check_on(&mut rig, "durable", "s: publish a last q2 id=1");
    check_on(&mut rig, "s pubrec 1\ndurable\ns pubcomp 1\ndurable", "s: pubrel 1");
}

/// `a` holds a message of its group that lies in the log alone; `b` is the other member.
fn group_with_a_message_on_disk() -> Rig {
    let mut rig = recording();
    rig.quiet(
        "connect a v5 expiry=100
         a subscribe $share/g/t q1
         connect p v311
         p publish t 1 q1 id=1
         connect b v5 expiry=100
         b subscribe $share/g/t q1
         durable",
    );
    rig.hold_fetches = true;
    rig
}

#[test]
fn a_message_of_a_session_that_ends_survives_until_another_member_has_it() {
    let mut rig = group_with_a_message_on_disk();
    rig.quiet("a drop");
    // The end of the session is durable, and the message has not been read yet.
    check_on(&mut rig, "connect a v5\ndurable", "a: connack");
    rig.hold_fetches = false;
    rig.quiet("crash\ndurable");
    assert_eq!(rig.shards[0].report().sessions, 1);
    check_on(
        &mut rig,
        "connect b v5 keep expiry=100\ndurable\nb puback 1\ndurable",
        "b: connack present\nb: publish t 1 q1 id=1",
    );
    rig.quiet("crash");
    check_on(&mut rig, "connect b v5 keep expiry=100\ndurable", "b: connack present");
    check_on(&mut rig, "connect a v5 keep expiry=100\ndurable", "a: connack");
}

#[test]
fn a_message_of_a_session_that_ends_goes_to_another_member_when_it_was_read() {
    let mut rig = group_with_a_message_on_disk();
    rig.quiet("a drop");
    check_on(&mut rig, "connect a v5\ndurable", "a: connack");
    assert_eq!(rig.shards[0].report().sessions, 4);
    assert_eq!(rig.fetch(), "b: publish t 1 q1 id=1");
    assert_eq!(rig.shards[0].report().sessions, 3);
    assert_eq!(kinds(&rig)[kinds(&rig).len() - 3..], ["publish", "done", "end"]);
    assert_eq!(rig.counters().dropped_total(), 0);
}

#[test]
fn a_client_that_is_back_before_its_message_was_read_keeps_it() {
    let mut rig = group_with_a_message_on_disk();
    rig.quiet("a drop");
    check_on(&mut rig, "connect a v5 keep expiry=100\ndurable", "a: connack present");
    assert_eq!(rig.fetch(), "a: publish t 1 q1 id=1 dup");
}

#[test]
fn a_message_whose_segment_went_before_it_was_read_comes_from_its_new_place() {
    for is_durable in [false, true] {
        let mut rig = group_with_a_message_on_disk();
        rig.quiet("a drop");
        check_on(&mut rig, "connect a v5\ndurable", "a: connack");
        rig.clean(0);
        let mut lines = String::new();
        if is_durable {
            rig.quiet("durable");
        }
        lines += &rig.lose_fetches();
        lines += &rig.fetch();
        assert_eq!(lines, "b: publish t 1 q1 id=1");
        assert_eq!(rig.counters().dropped_total(), 0);
        rig.quiet("durable");
        assert_eq!(rig.shards[0].report().sessions, 3);
    }
}

#[test]
fn a_client_that_waits_for_a_message_is_not_cut_off_when_its_segment_goes() {
    let mut rig = recording();
    rig.quiet("connect s v5 expiry=100\ns subscribe t q1\ndurable\ns drop\nconnect p v311");
    rig.quiet("p publish t 1 q1 id=1\ndurable");
    rig.hold_fetches = true;
    check_on(&mut rig, "connect s v5 keep expiry=100\ndurable", "s: connack present");
    rig.clean(0);
    check_on(&mut rig, "durable", "s: publish t 1 q1 id=1");
    assert_eq!(rig.lose_fetches(), "");
    // One that cannot be read where it lies ends the connection.
    rig.quiet("s drop\nconnect s v5 keep expiry=100\ndurable");
    assert_eq!(rig.lose_fetches(), "s: disconnect 0x80\ns: closed");
}

#[test]
fn what_comes_before_an_unreadable_message_is_acknowledged_before_the_connection_ends() {
    let mut rig = recording();
    rig.quiet("connect s v5 expiry=100\ns subscribe t q1\ndurable\ns drop\nconnect p v311");
    rig.quiet("p publish t 1 q1 id=1\ndurable\np publish t 2 q1 id=2\ndurable");
    rig.quiet("p publish t 3 q1 id=3\ndurable");
    rig.hold_fetches = true;
    rig.quiet("connect s v5 keep expiry=100\ndurable");
    let lines = rig.lose_fetch(1);
    assert_eq!(lines, "s: publish t 1 q1 id=1");
    // At the next connection it is the first, and is tried again.
    check_on(&mut rig, "s puback 1", "s: disconnect 0x80\ns: closed");
    rig.quiet("connect s v5 keep expiry=100\ndurable");
    assert_eq!(rig.fetch(), "s: publish t 2 q1 id=2\ns: publish t 3 q1 id=3");
}

#[test]
fn an_expired_retained_message_takes_no_place_at_a_start() {
    // The order in which they come back is up to chance.
    for _ in 0..10 {
        let mut rig = Rig::with(1, |settings| {
            settings.recording = true;
            settings.retained_messages_max = 1;
        });
        rig.quiet("connect p v5\np publish a 1 retain expiry=5\ndurable\nwait 6000");
        // Whoever asks for retained messages finds that it has expired.
        rig.quiet("connect q v5\nq subscribe # q0\nq drop\np publish b 2 retain\ndurable");
        rig.quiet("crash\nconnect s v5\ndurable");
        let lines = rig.run("s subscribe # q0\ndurable");
        assert!(lines.contains("publish b 2 retain"), "{lines}");
        assert_eq!(rig.counters().dropped_total(), 0);
    }
}
