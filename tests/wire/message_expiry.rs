//! Message expiry interval (MQTT 5.0). One second where it must pass.

use crate::harness::{V5, check};

#[test]
fn remaining_interval_is_forwarded() {
    // [MQTT-3.3.2-6]
    check(
        V5,
        "
        a connects
        a subscribes ~/t q1
        a publishes ~/t q1 mexp=100 p=1
        a gets ~/t q1 mexp=100|99 p=1
        a publishes ~/t q1 p=2
        a gets ~/t q1 p=2
        a publishes ~/t q1 mexp=0xffffffff p=3
        a gets ~/t q1 mexp=4294967295|4294967294 p=3
    ",
    );
}

#[test]
fn expired_messages_are_not_delivered() {
    // [MQTT-3.3.2-5] [MQTT-3.3.2-6]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        a leaves
        pub connects
        pub publishes ~/t q1 mexp=1 p=gone
        pub publishes ~/t q2 mexp=1 p=gone
        pub publishes ~/t q1 mexp=100 p=1
        pub publishes ~/r q1 retain mexp=1 p=gone
        pub publishes ~/s q1 retain mexp=100 p=2
        pub silent 2100
        a connects clean=0 expiry=60 -> present
        a gets ~/t q1 mexp=98|97|96 p=1
        a < nothing
        a subscribes ~/r q1 ~/s q1
        a gets ~/s q1 retain mexp=98|97|96 p=2
        a < nothing
    ",
    );
}

#[test]
fn waiting_behind_a_closed_window_counts() {
    // [MQTT-3.3.2-5]
    check(
        V5,
        "
        a connects rmax=1
        a subscribes ~/t q1
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/t q1 mexp=1 p=gone
        pub publishes ~/t q1 p=2
        a < publish ~/t q1 p=1 id=$1
        a silent 2100
        a > puback $1
        a gets ~/t q1 p=2
        a < nothing
    ",
    );
}

#[test]
fn a_delivery_begun_does_not_expire() {
    // [MQTT-4.3.3-7] [MQTT-4.3.3-13] [MQTT-4.4.0-1]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q2 mexp=1 p=1
        a < publish ~/t q2 mexp=1|0 p=1 id=$1
        a > pubrec $1
        a < pubrel $1
        a drops
        pub silent 2100
        a connects clean=0 expiry=60 -> present
        a < pubrel $1
        a > pubcomp $1
        a < nothing
    ",
    );
}

#[test]
fn interval_0_is_gone_before_it_can_be_stored() {
    // [MQTT-3.3.2-5]: at once for an absent client
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        a leaves
        pub connects
        pub publishes ~/t q1 mexp=0 p=gone
        pub publishes ~/t q1 p=1
        pub silent 20
        a connects clean=0 expiry=60 -> present
        a gets ~/t q1 p=1
    ",
    );
}
