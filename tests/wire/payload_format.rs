//! Payload format check, an option.

use crate::harness::{V5, check, check_with};

#[test]
fn text_that_is_none_is_refused() {
    // MQTT 5.0 §3.3.2.3.2: 0x99
    check_with(
        "[mqtt]\npayload_format_check = true\n",
        V5,
        "
        sub connects
        sub subscribes ~/t q2
        a connects
        a > publish ~/t q1 id=1 pf=1 p=x:ff
        a < puback 1 0x99
        a > publish ~/t q2 id=1 pf=1 p=x:c0
        a < pubrec 1 0x99
        a publishes ~/t q1 pf=1 p=ü
        a publishes ~/t q1 pf=0 p=x:ff
        a publishes ~/t q1 p=x:ff
        sub gets ~/t q1 pf=1 p=ü
        sub gets ~/t q1 pf=0 p=x:ff
        sub gets ~/t q1 p=x:ff
        sub < nothing
    ",
    );
}

#[test]
fn nobody_looks_unless_configured() {
    // [MQTT-3.3.2-4]
    check(
        V5,
        "
        a connects
        a subscribes ~/t
        a publishes ~/t pf=1 p=x:ff
        a gets ~/t pf=1 p=x:ff
    ",
    );
}
