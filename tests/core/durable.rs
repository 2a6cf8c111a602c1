//! Records for the log, and what waits until they are durable.

use crate::rig::{Rig, check_on};
use culex::store::Record;

fn recording() -> Rig {
    Rig::with(1, |settings| settings.recording = true)
}

#[test]
fn an_acknowledgement_waits_for_the_subscribers_record() {
    let mut rig = recording();
    rig.quiet("connect s v311 keep");
    rig.durable(0);
    rig.quiet("s subscribe a q1");
    rig.durable(0);
    rig.quiet("connect p v311 clean");
    check_on(&mut rig, "p publish a x q1 id=1", "s: publish a x q1 id=1");
    rig.durable(0);
    assert_eq!(rig.run("p ping"), "p: puback 1\np: pingresp");
    assert!(matches!(rig.records.last(), Some(Record::Publish(_))), "{:?}", rig.records);
}

#[test]
fn suback_of_a_durable_session_waits() {
    let mut rig = recording();
    check_on(&mut rig, "connect s v5 expiry=100", "s: connack");
    check_on(&mut rig, "s subscribe a q1\n s ping", "s: pingresp");
    rig.durable(0);
    check_on(&mut rig, "s unsubscribe a\n s ping", "s: suback 0x01\ns: pingresp");
    rig.durable(0);
    check_on(&mut rig, "s ping", "s: unsuback 0x00\ns: pingresp");
}

#[test]
fn pubrec_pubrel_and_pubcomp_wait_for_their_records() {
    let mut rig = recording();
    rig.quiet("connect c v311 keep\nc subscribe a q2");
    rig.durable(0);
    rig.quiet("c ping");
    check_on(&mut rig, "c publish a x q2 id=9", "");
    rig.durable(0);
    check_on(&mut rig, "c pubrec 1", "c: publish a x q2 id=1\nc: pubrec 9");
    rig.durable(0);
    check_on(&mut rig, "c pubrel 9", "c: pubrel 1");
    rig.durable(0);
    check_on(&mut rig, "c pubcomp 1", "c: pubcomp 9");
    let kinds: Vec<&str> = rig.records.iter().map(kind).collect();
    assert_eq!(kinds, ["session", "subscribe", "publish", "owned", "released", "done"]);
}

fn kind(record: &Record) -> &'static str {
    match record {
        Record::Session(_) => "session",
        Record::Subscribe { .. } => "subscribe",
        Record::Publish(_) => "publish",
        Record::Owned { .. } => "owned",
        Record::Released { .. } => "released",
        Record::Done { .. } => "done",
        other => panic!("{other:?}"),
    }
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
fn an_acknowledgement_waits_for_the_record_of_the_retained_message_elsewhere() {
    let mut rig = Rig::with(2, |settings| settings.recording = true);
    let (publisher, topic) = (rig.name_on("p", 0), rig.topic_on(1));
    rig.quiet(&format!("connect {publisher} v311 clean"));
    check_on(&mut rig, &format!("{publisher} publish {topic} x q1 id=1 retain"), "");
    rig.durable(1);
    let expected = format!("{publisher}: puback 1\n{publisher}: pingresp");
    check_on(&mut rig, &format!("{publisher} ping"), &expected);
}
