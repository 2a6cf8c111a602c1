//! The rig itself: a wrong expectation must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::packet::{self, Version};
use super::{V5, compose, each, hex};

#[test]
fn wrong_expectations_fail() {
    each(V5, |test| {
        test.run("a connects\n a subscribes ~/t q1");
        for wrong in [
            "a < publish ~/t q1 p=2",
            "a < publish ~/t p=1",
            "a < publish ~/u q1 p=1",
            "a < publish ~/t q1",
            "a < publish ~/t q1 p=1 ct=x",
            "a < publish ~/t q1 p=1 retain",
            "a < publish ~/t q1 p=1 up=b:2 up=a:1",
            "a < puback 1",
            "a < closed",
            "a < nothing",
        ] {
            test.run("a publishes ~/t q1 p=1 up=a:1 up=b:2");
            let result = catch_unwind(AssertUnwindSafe(|| test.run(wrong)));
            assert!(result.is_err(), "passed: {wrong}");
            // What is left of it.
            test.client("a").waiting.clear();
            test.send("a", "pingreq");
            while test.client("a").packet().name != "pingresp" {}
        }
    });
}

#[test]
fn illegal_packets_of_a_broker_are_seen() {
    for (bytes, version) in [
        ("2002 02 00", Version::V311),
        ("2002 01 05", Version::V311),
        ("2003 00 00 00 00", Version::V5),
        ("2005 00 00 02 13 00", Version::V5),
        ("2006 00 00 03 01 00 00", Version::V5),
        ("30 03 00 01 2b", Version::V311),
        ("30 04 00 01 61 80", Version::V5),
        ("38 03 00 01 61", Version::V311),
        ("36 05 00 01 61 00 01", Version::V311),
        ("32 05 00 01 61 00 00", Version::V311),
        ("60 02 00 01", Version::V311),
        ("40 03 00 01 00", Version::V311),
        ("e0 00", Version::V311),
        ("c0 00", Version::V5),
        ("d0 80 00", Version::V5),
    ] {
        let mut bytes = hex(&bytes.replace(' ', ""));
        let result = packet::take(&mut bytes, version);
        let seen = match &result {
            Ok(Some(_)) => !bytes.is_empty(),
            Ok(None) | Err(_) => true,
        };
        assert!(seen, "passed: {result:?}");
    }
}

#[test]
fn composed_packets_are_those_of_the_specification() {
    // MQTT 3.1.1 figure 3.6, MQTT 5.0 §3.3.2.4 by hand
    for (text, version, bytes) in [
        ("connect id=a keep=10", Version::V311, "100d 0004 4d515454 04 02 000a 0001 61"),
        ("connect id=a keep=10", Version::V31, "100f 0006 4d5149736470 03 02 000a 0001 61"),
        (
            "connect id=a expiry=1",
            Version::V5,
            "1013 0004 4d515454 05 02 0000 0511 00000001 0001 61",
        ),
        ("publish a q1 id=10 p=x", Version::V311, "3206 0001 61 000a 78"),
        ("publish a q1 id=10 p=x", Version::V5, "3207 0001 61 000a 00 78"),
        ("subscribe 1 a q1 nl rap rh=2", Version::V5, "8207 0001 00 0001 61 2d"),
        ("pubrel 1", Version::V5, "6202 0001"),
        ("pubrel 1 0x92", Version::V5, "6203 0001 92"),
        ("disconnect 0 expiry=1", Version::V5, "e007 00 05 11 00000001"),
        ("disconnect 0x04", Version::V311, "e000"),
    ] {
        assert_eq!(compose(text, version, ""), hex(&bytes.replace(' ', "")), "{text}");
    }
}
