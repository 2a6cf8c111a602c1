//! Properties of a PUBLISH reach the subscriber as they were.

use crate::harness::{V5, check, each};

#[test]
fn every_property_is_unchanged_and_in_order() {
    // [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    // [MQTT-3.3.2-20]
    for qos in ["q0", "q1", "q2"] {
        let words =
            "up=b:1 up=a:2 up=b:1 up=é:😀 ct=text/plain resp=~/answer corr=x:00ff10 pf=1 p=ü";
        let got = format!("~/t {qos} {words}").replace(" q0", "");
        check(
            V5,
            &format!(
                "
            sub connects
            sub subscribes ~/t q2
            pub connects
            pub publishes {got}
            sub gets {got}
        "
            ),
        );
    }
}

#[test]
fn payload_format_0_is_forwarded_too() {
    // [MQTT-3.3.2-4]
    check(
        V5,
        "
        a connects
        a subscribes ~/t
        a publishes ~/t pf=0 p=x:ff00
        a gets ~/t pf=0 p=x:ff00
    ",
    );
}

#[test]
fn queued_messages_keep_their_properties() {
    // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        a leaves
        pub connects
        pub publishes ~/t q1 up=b:1 up=a:2 ct=c resp=r corr=k pf=1 p=1 alias=2
        a connects clean=0 expiry=60 -> present
        a gets ~/t q1 up=b:1 up=a:2 ct=c resp=r corr=k pf=1 p=1
    ",
    );
}

#[test]
fn request_and_response() {
    // MQTT 5.0 §4.10; [MQTT-3.3.2-15] [MQTT-3.3.2-16]
    check(
        V5,
        "
        asker connects
        answerer connects
        asker subscribes ~/answers/asker q1
        answerer subscribes ~/questions q1
        asker publishes ~/questions q1 resp=~/answers/asker corr=42 p=how-much
        answerer gets ~/questions q1 resp=~/answers/asker corr=42 p=how-much
        answerer publishes ~/answers/asker q1 corr=42 p=seven
        asker gets ~/answers/asker q1 corr=42 p=seven
    ",
    );
}

#[test]
fn old_versions_get_the_payload_alone() {
    // MQTT 3.1 and 3.1.1 have no properties
    check(
        V5,
        "
        old connects v=311
        older connects v=31
        new connects
        old subscribes ~/t q1
        older subscribes ~/t q1
        new subscribes ~/t q1
        new publishes ~/t q1 up=a:b mexp=100 ct=c p=1
        old gets ~/t q1 p=1
        older gets ~/t q1 p=1
        new gets ~/t q1 up=a:b mexp=100|99 ct=c p=1
        old publishes ~/t q1 p=2
        new gets ~/t q1 p=2
    ",
    );
}

#[test]
fn many_user_properties_pass() {
    // [MQTT-3.3.2-17] [MQTT-3.3.2-18]
    each(V5, |test| {
        let words: Vec<String> = (0..60).map(|n| format!("up=k{}:{n}", n % 7)).collect();
        let words = words.join(" ");
        test.run(&format!(
            "
            a connects
            a subscribes ~/t q1
            a publishes ~/t q1 p=1 {words}
            a gets ~/t q1 p=1 {words}
        "
        ));
    });
}

#[test]
fn wrong_properties_of_publish_are_refused() {
    // MQTT 5.0 §3.3.2.3, §2.2.2.2; [MQTT-4.13.1-1]
    for words in [
        "pf=2",
        "pf=1 pf=1",
        "mexp=1 mexp=2",
        "ct=a ct=b",
        "resp=a resp=b",
        "corr=a corr=b",
        "alias=1 alias=1",
        "expiry=1",
        "rmax=1",
        "rs=x",
        "wdelay=1",
        "maxq=1",
    ] {
        check(V5, &format!("a connects\n a > publish ~/t {words}\n a refused 0x81|0x82"));
    }
    // Property lengths that pass the end, or end in a property; an unknown property.
    for bytes in ["30 05 00 01 61 05 01", "30 06 00 01 61 02 02 00", "30 06 00 01 61 02 7f 00"] {
        check(V5, &format!("a connects\n a > raw {bytes}\n a refused 0x81|0x82"));
    }
}
