//! A message that was sent is past its expiry: the handshake goes on.

use crate::rig::{Rig, check_on};

#[test]
fn a_message_in_flight_outlives_its_expiry() {
    // [MQTT-4.3.3-7] [MQTT-4.3.3-13] [MQTT-4.4.0-1]
    let mut rig = Rig::new(1);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe a q2
         connect p v5
         p publish a x q2 id=1 expiry=5
         s drop
         wait 6000",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100
         s pubrec 1
         s pubcomp 1
         p pubrel 1",
        "s: connack present
         s: publish a x q2 id=1 dup expiry=0
         s: pubrel 1
         p: pubcomp 1",
    );
}
