//! Retransmission: when a session is resumed, and only then.

use crate::harness::{ALL, V5, check};

#[test]
fn resume_resends_with_dup() {
    // [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.3.2-3]; 3.1.1: [MQTT-4.4.0-1] [MQTT-3.3.1-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/t q2 p=2
        a < publish ~/t q1 p=1 id=$a
        a < publish ~/t q2 p=2 id=$b
        a leaves
        pub publishes ~/t q1 p=3
        a > connect clean=0 expiry=60
        a < connack *
        a < publish ~/t q1 dup p=1 id=$a
        a < publish ~/t q2 dup p=2 id=$b
        a < publish ~/t q1 p=3 id=$c
        a > puback $a
        a > pubrec $b
        a < pubrel $b
        a > pubcomp $b
        a > puback $c
        a < nothing
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a < nothing
    ",
    );
}

#[test]
fn resume_resends_pubrel_not_publish() {
    // [MQTT-4.4.0-1] [MQTT-4.3.3-5] [MQTT-4.3.3-6]; 3.1.1: [MQTT-4.3.3-1] [MQTT-4.4.0-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q2 p=1
        a < publish ~/t q2 p=1 id=$a
        a > pubrec $a
        a < pubrel $a
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a < pubrel $a
        a > pubcomp $a
        a < nothing
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a < nothing
    ",
    );
}

#[test]
fn resent_messages_keep_their_order() {
    // [MQTT-4.6.0-1]; 3.1.1: [MQTT-4.6.0-1]
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1 ~/u q1
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/u q1 p=2
        pub publishes ~/t q1 p=3
        pub publishes ~/u q1 p=4
        a < publish ~/t q1 p=1 id=$1
        a < publish ~/u q1 p=2 id=$2
        a < publish ~/t q1 p=3 id=$3
        a < publish ~/u q1 p=4 id=$4
        // The second is acknowledged, so there is a gap.
        a > puback $2
        a < nothing
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a < publish ~/t q1 dup p=1 id=$1
        a < publish ~/t q1 dup p=3 id=$3
        a < publish ~/u q1 dup p=4 id=$4
        a drops
        a > connect clean=0 expiry=60
        a < connack *
        a < publish ~/t q1 dup p=1 id=$1
        a < publish ~/t q1 dup p=3 id=$3
        a < publish ~/u q1 dup p=4 id=$4
    ",
    );
}

#[test]
fn nothing_is_resent_on_a_living_connection() {
    // [MQTT-4.4.0-1]: and only then
    check(
        ALL,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        pub connects
        pub publishes ~/t q1 p=1
        a < publish ~/t q1 p=1 id=$a
        a silent 1200
        a > puback $a
        a < nothing
    ",
    );
}

#[test]
fn negative_acknowledgement_ends_the_delivery() {
    // [MQTT-4.4.0-2] [MQTT-4.3.3-4] [MQTT-4.8.2-6]
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/t q2 p=2
        a < publish ~/t q1 p=1 id=$a
        a < publish ~/t q2 p=2 id=$b
        a > puback $a 0x80
        a > pubrec $b 0x97
        a < nothing
        a drops
        a connects clean=0 expiry=60 -> present
        a < nothing
    ",
    );
}
