//! Quotas and limits count what they are named after, also across connections.

use crate::rig::{Rig, check_on};

#[test]
fn a_publisher_that_comes_back_has_its_whole_quota() {
    // [MQTT-3.3.4-7] What waits for other shards belongs to the connection before.
    let mut rig = Rig::with(2, |settings| settings.receive_maximum = 2);
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!("connect {s} v5\n{s} subscribe t q1\nconnect {p} v5 keep expiry=100"));
    rig.hold_mail = true;
    rig.quiet(&format!("{p} publish t 1 q1 id=1\n{p} publish t 2 q1 id=2\n{p} drop"));
    check_on(
        &mut rig,
        &format!(
            "connect {p} v5 keep expiry=100
             {p} publish t 1 q1 id=1 dup
             {p} publish t 2 q1 id=2 dup"
        ),
        &format!("{p}: connack present"),
    );
    rig.hold_mail = false;
    check_on(
        &mut rig,
        &format!("{p} ping"),
        &format!(
            "{p}: pingresp
             {s}: publish t 1 q1 id=1
             {s}: publish t 2 q1 id=2
             {s}: publish t 1 q1 id=3
             {s}: publish t 2 q1 id=4
             {p}: puback 1
             {p}: puback 2"
        ),
    );
}

#[test]
fn messages_that_will_be_repeated_are_not_queued_ones() {
    // A smaller window leaves two of them waiting; there is room for one message in the queue.
    let mut rig = Rig::with(1, |settings| settings.queue.queue_messages_max = 1);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe t q1
         connect p v5
         p publish t 1 q1 id=1
         p publish t 2 q1 id=2
         p publish t 3 q1 id=3
         s drop",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100 rmax=1
         p publish t 4 q1 id=4
         p publish t 5 q1 id=5
         s puback 1
         s puback 2
         s puback 3
         s puback 4",
        "s: connack present
         s: publish t 1 q1 id=1 dup
         p: puback 4
         p: puback 5
         s: publish t 2 q1 id=2 dup
         s: publish t 3 q1 id=3 dup
         s: publish t 4 q1 id=4",
    );
}

#[test]
fn a_message_of_qos_0_does_not_overtake_one_that_was_kept() {
    // [MQTT-4.6.0-5] The second waits behind the first, for which the window has to open.
    let mut rig = Rig::with(1, |settings| settings.queue.queue_qos0 = true);
    rig.quiet(
        "connect s v5 keep expiry=100
         s subscribe t q1
         connect p v5
         s drop
         p publish t 1 q1 id=1
         p publish t 2 q1 id=2
         p publish t 3",
    );
    check_on(
        &mut rig,
        "connect s v5 keep expiry=100 rmax=1
         p publish t 4
         s puback 1
         p publish t 5
         s puback 2
         p publish t 6",
        "s: connack present
         s: publish t 1 q1 id=1
         s: publish t 2 q1 id=2
         s: publish t 3
         s: publish t 4
         s: publish t 5
         s: publish t 6",
    );
}
