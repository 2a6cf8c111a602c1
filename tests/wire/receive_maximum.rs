//! Flow control by receive maximum (MQTT 5.0 §4.9).

use crate::harness::{V5, check, check_with, each};

#[test]
fn broker_keeps_to_the_clients_maximum() {
    // [MQTT-3.3.4-9] [MQTT-3.3.4-10] [MQTT-4.9.0-1] [MQTT-4.9.0-2] [MQTT-4.9.0-3]
    check(
        V5,
        "
        a connects rmax=2
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/t q2 p=2
        pub publishes ~/t q1 p=3
        pub publishes ~/t q2 p=4
        a < publish ~/t q1 p=1 id=$1
        a < publish ~/t q2 p=2 id=$2
        a < nothing
        pub publishes ~/t q0 p=free
        a gets ~/t p=free
        a > puback $1
        a < publish ~/t q1 p=3 id=$3
        a < nothing
        a > pubrec $2
        a < pubrel $2
        // QoS 2 keeps its place until PUBCOMP.
        a < nothing
        a > pubcomp $2
        a < publish ~/t q2 p=4 id=$4
        a > puback $3
        a < nothing
    ",
    );
}

#[test]
fn pubrec_with_an_error_gives_the_place_back() {
    // [MQTT-4.9.0-2]; MQTT 5.0 §4.9
    check(
        V5,
        "
        a connects rmax=1
        a subscribes ~/t q2
        pub connects
        pub publishes ~/t q2 p=1
        pub publishes ~/t q2 p=2
        a < publish ~/t q2 p=1 id=$1
        a < nothing
        a > pubrec $1 0x80
        a < publish ~/t q2 p=2 id=$2
        a < nothing
    ",
    );
}

#[test]
fn maximum_counts_after_resume() {
    // [MQTT-3.3.4-9] [MQTT-4.4.0-1]: the new connection has its own, smaller maximum
    check(
        V5,
        "
        a connects clean=0 expiry=60
        a subscribes ~/t q1
        pub connects
        pub publishes ~/t q1 p=1
        pub publishes ~/t q1 p=2
        pub publishes ~/t q1 p=3
        a < publish ~/t q1 p=1 id=$1
        a < publish ~/t q1 p=2 id=$2
        a < publish ~/t q1 p=3 id=$3
        a drops
        a connects clean=0 expiry=60 rmax=1 -> present
        a < publish ~/t q1 dup p=1 id=$1
        a < nothing
        a > puback $1
        a < publish ~/t q1 dup p=2 id=$2
        a < nothing
    ",
    );
}

#[test]
fn client_over_the_brokers_maximum_is_disconnected() {
    // [MQTT-3.3.4-7]; MQTT 5.0 §3.3.4: 0x93
    check_with(
        "[limits]\nreceive_maximum = 3\n",
        V5,
        "
        a connects -> rmax=3
        a > publish ~/t q2 id=1
        a > publish ~/t q2 id=2
        a > publish ~/t q2 id=3
        a < pubrec 1 0|0x10
        a < pubrec 2 0|0x10
        a < pubrec 3 0|0x10
        // Other packets, QoS 0, and repetitions do not count.
        a publishes ~/t
        a > publish ~/t q2 id=3 dup
        a < pubrec 3 0|0x10
        a < nothing
        a > pubrel 1
        a < pubcomp 1
        a > publish ~/t q2 id=1
        a < pubrec 1 0|0x10
        a > publish ~/t q2 id=4
        a ended 0x93
    ",
    );
}

#[test]
fn exactly_the_maximum_may_be_in_flight() {
    // [MQTT-3.3.4-7] [MQTT-4.9.0-1]
    each(V5, |test| {
        test.run("a connects -> rmax=20");
        for id in 1..=20 {
            test.run(&format!("a > publish ~/t q2 id={id}"));
        }
        for id in 1..=20 {
            test.run(&format!("a < pubrec {id} 0|0x10"));
        }
        test.run("a < nothing\n a > publish ~/t q2 id=21\n a ended 0x93");
    });
}
