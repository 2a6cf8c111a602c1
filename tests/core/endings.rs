//! What a connection gets at its end, and nothing after it.

use crate::rig::{Rig, check, check_on};

#[test]
fn nothing_follows_the_disconnect_of_a_stopping_broker() {
    // [MQTT-3.14.4-1]: neither the will of another client nor the answer to a late packet
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect a v5
         a subscribe t
         connect b v5 will=t:gone",
    );
    rig.shards[0].stop();
    check_on(
        &mut rig,
        "b drop
         a ping",
        "a: disconnect 0x8b
         a: closed",
    );
}

#[test]
fn connack_that_does_not_fit_ends_the_connection() {
    // [MQTT-3.1.2-24] [MQTT-3.1.4-5]
    check("connect a v5 pmax=5", "a: closed");
}

#[test]
fn suback_that_does_not_fit_ends_the_connection() {
    // [MQTT-3.1.2-24] [MQTT-3.8.4-1]: a client must not wait for what cannot be sent
    let mut rig = Rig::new(1);
    rig.quiet("connect a v5 pmax=30");
    let filters: String = (0..40).map(|_| "00016100").collect();
    check_on(
        &mut rig,
        &format!("a raw 82a301000100{filters}"),
        "a: disconnect 0x95
         a: closed",
    );
}
