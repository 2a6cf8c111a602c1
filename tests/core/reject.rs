//! `queue.overflow = "reject"`: a full queue of a durable session stops the publisher.

use crate::rig::{Rig, check_on};
use culex::session::{DropCause, Overflow};
use culex::shard::Flow;

/// One message fits in a queue.
fn rejecting(shards: usize) -> Rig {
    Rig::with(shards, |settings| {
        settings.queue.overflow = Overflow::Reject;
        settings.queue.queue_messages_max = 1;
    })
}

fn dropped(rig: &Rig, cause: DropCause) -> u64 {
    rig.counters().dropped[cause as usize]
}

fn paused(rig: &mut Rig) -> bool {
    std::mem::take(&mut rig.flows).contains(&Flow::Pause)
}

fn resumed(rig: &mut Rig) -> bool {
    std::mem::take(&mut rig.flows).contains(&Flow::Resume)
}

#[test]
fn a_publisher_is_told_of_a_full_queue() {
    let mut rig = rejecting(1);
    rig.quiet("connect s v5 expiry=100\ns subscribe t q1\ns drop\nconnect p v5");
    check_on(
        &mut rig,
        "p publish t 1 q1 id=1
         p publish t 2 q1 id=2
         p publish t 3 q2 id=3
         p pubrel 3
         p publish t 4
         connect s v5 keep expiry=100
         p publish t 5 q1 id=5",
        "p: puback 1
         p: puback 2 0x97
         p: pubrec 3 0x97
         p: pubcomp 3 0x92
         s: connack present
         s: publish t 1 q1 id=1
         s: publish t 5 q1 id=2
         p: puback 5",
    );
    assert_eq!((dropped(&rig, DropCause::Refused), dropped(&rig, DropCause::QueueFull)), (2, 0));
}

#[test]
fn the_sessions_of_a_shard_get_all_or_nothing() {
    let mut rig = rejecting(1);
    rig.quiet(
        "connect a v5 expiry=100\na subscribe t q1\na drop
         connect b v5 expiry=100\nb subscribe t q1
         connect p v5\np publish t 1 q1 id=1",
    );
    check_on(&mut rig, "p publish t 2 q1 id=2", "p: puback 2 0x97");
    rig.quiet("connect a v5 keep expiry=100");
    check_on(
        &mut rig,
        "p publish t 2 q1 id=2",
        "a: publish t 2 q1 id=2\nb: publish t 2 q1 id=2\np: puback 2",
    );
}

#[test]
fn another_shard_refuses_in_its_answer() {
    let mut rig = rejecting(2);
    let (s, b, p) = (rig.name_on("s", 0), rig.name_on("b", 1), rig.name_on("p", 1));
    rig.quiet(&format!(
        "connect {s} v5 expiry=100\n{s} subscribe t q1\n{s} drop
         connect {b} v5\n{b} subscribe t q1
         connect {p} v5\n{p} publish t 1 q1 id=1"
    ));
    // Who has it has it.
    check_on(
        &mut rig,
        &format!("{p} publish t 2 q1 id=2\n{p} publish t 3 q2 id=3\n{p} pubrel 3"),
        &format!(
            "{b}: publish t 2 q1 id=2
             {p}: puback 2 0x97
             {b}: publish t 3 q1 id=3
             {p}: pubrec 3 0x97
             {p}: pubcomp 3 0x92"
        ),
    );
    assert_eq!(dropped(&rig, DropCause::Refused), 2);
    rig.quiet(&format!("connect {s} v5 keep expiry=100"));
    check_on(
        &mut rig,
        &format!("{p} publish t 4 q1 id=2"),
        &format!("{b}: publish t 4 q1 id=4\n{s}: publish t 4 q1 id=2\n{p}: puback 2"),
    );
}

#[test]
fn a_refused_exchange_frees_its_identifier_before_it_says_so() {
    let mut rig = Rig::with(2, |settings| {
        settings.queue.overflow = Overflow::Reject;
        settings.queue.queue_messages_max = 1;
        settings.recording = true;
    });
    let (s, p) = (rig.name_on("s", 0), rig.name_on("p", 1));
    rig.quiet(&format!(
        "connect {s} v5 expiry=100\n{s} subscribe t q1\ndurable\n{s} drop
         connect {p} v5 expiry=100\n{p} publish t 1 q1 id=1\ndurable"
    ));
    // Record here, then the refusal there, then the end of the identifier here.
    check_on(&mut rig, &format!("{p} publish t 2 q2 id=2\ndurable 1\ndurable 0"), "");
    check_on(&mut rig, "durable 1", &format!("{p}: pubrec 2 0x97"));
    assert_eq!(dropped(&rig, DropCause::Refused), 1);
    rig.quiet("crash");
    rig.quiet(&format!("connect {s} v5 keep expiry=100\nconnect {p} v5 keep expiry=100\ndurable"));
    // The identifier is free for another message.
    let lines = rig.run(&format!("{p} publish t 3 q2 id=2\ndurable\ndurable\ndurable"));
    assert_eq!(lines, format!("{s}: publish t 3 q1 id=2\n{p}: pubrec 2"));
}

#[test]
fn a_3x_publisher_waits_for_room() {
    for shards in 1..=2 {
        let mut rig = rejecting(shards);
        let (s, p) = (rig.name_on("s", 0), rig.name_on("p", shards - 1));
        rig.quiet(&format!(
            "connect {s} v5 expiry=100\n{s} subscribe t q1\n{s} drop
             connect {p} v311\n{p} publish t 1 q1 id=1"
        ));
        assert!(!paused(&mut rig));
        check_on(&mut rig, &format!("{p} publish t 2 q1 id=2\n{p} publish t 3 q2 id=3"), "");
        assert!(paused(&mut rig));
        check_on(&mut rig, "wait 20000", "");
        check_on(
            &mut rig,
            &format!("connect {s} v5 keep expiry=100\nwait 100"),
            &format!(
                "{s}: connack present
                 {s}: publish t 1 q1 id=1
                 {s}: publish t 2 q1 id=2
                 {s}: publish t 3 q1 id=3
                 {p}: puback 2
                 {p}: pubrec 3"
            ),
        );
        assert!(resumed(&mut rig));
        assert_eq!(dropped(&rig, DropCause::Refused), 0);
    }
}

#[test]
fn a_3x_publisher_is_cut_off_when_it_has_waited_too_long() {
    for shards in 1..=2 {
        let mut rig = rejecting(shards);
        let (s, p) = (rig.name_on("s", 0), rig.name_on("p", shards - 1));
        rig.quiet(&format!(
            "connect {s} v5 expiry=100\n{s} subscribe t q1\n{s} drop
             connect {p} v311 keep\n{p} publish t 1 q1 id=1"
        ));
        check_on(&mut rig, &format!("{p} publish t 2 q2 id=2\nwait 29900"), "");
        check_on(&mut rig, "wait 200", &format!("{p}: closed"));
        assert_eq!(dropped(&rig, DropCause::Refused), 1);
        // On its own shard nobody has the message: the repetition counts.
        rig.quiet(&format!("connect {s} v5 keep expiry=100\nconnect {p} v311 keep"));
        let lines = rig.run(&format!("{p} publish t 2 q2 id=2 dup"));
        let expected = match shards {
            1 => format!("{s}: publish t 2 q1 id=2\n{p}: pubrec 2"),
            // Elsewhere others may have it, so that it would come twice.
            _ => format!("{p}: pubrec 2"),
        };
        assert_eq!(lines, expected);
    }
}

#[test]
fn a_group_refuses_when_no_member_has_room() {
    for shards in 1..=2 {
        let mut rig = rejecting(shards);
        let (a, b) = (rig.name_on("a", 0), rig.name_on("b", shards - 1));
        for member in [&a, &b] {
            rig.quiet(&format!(
                "connect {member} v5 expiry=100\n{member} subscribe $share/g/t q1\n{member} drop"
            ));
        }
        let p = rig.name_on("p", 0);
        rig.quiet(&format!("connect {p} v5"));
        check_on(
            &mut rig,
            &format!(
                "{p} publish t 1 q1 id=1\n{p} publish t 2 q1 id=2\n{p} publish t 3 q1 id=3
                 {p} publish t 4 q2 id=4"
            ),
            &format!("{p}: puback 1\n{p}: puback 2\n{p}: puback 3 0x97\n{p}: pubrec 4 0x97"),
        );
        assert_eq!(dropped(&rig, DropCause::Refused), 2);
        assert_eq!(dropped(&rig, DropCause::NoMember), 0);
    }
}

#[test]
fn where_nobody_can_be_told_the_message_is_dropped_and_counted() {
    let mut rig = rejecting(1);
    rig.quiet(
        "connect s v5 expiry=100\ns subscribe t q1\ns drop
         connect w v5 will=t:gone q1\nconnect p v5\np publish t 1 q1 id=1\nw drop",
    );
    assert_eq!((dropped(&rig, DropCause::Refused), dropped(&rig, DropCause::QueueFull)), (0, 1));
    // A session that ends with its connection stops nobody.
    let mut rig = rejecting(1);
    rig.quiet("connect s v5 rmax=1\ns subscribe t q1\nconnect p v5");
    check_on(
        &mut rig,
        "p publish t 1 q1 id=1\np publish t 2 q1 id=2\np publish t 3 q1 id=3",
        "s: publish t 1 q1 id=1\np: puback 1\np: puback 2\np: puback 3",
    );
    assert_eq!((dropped(&rig, DropCause::Refused), dropped(&rig, DropCause::QueueFull)), (0, 1));
}

#[test]
fn a_message_that_was_given_up_is_new_when_it_is_repeated() {
    let mut rig = rejecting(2);
    let (s, far, p) = (rig.name_on("s", 0), rig.name_on("far", 1), rig.name_on("p", 0));
    rig.quiet(&format!(
        "connect {s} v5 expiry=1000\n{s} subscribe t q2\n{s} drop
         connect {far} v5\n{far} subscribe x q2
         connect {p} v311 keep\n{p} publish t first q1 id=9"
    ));
    rig.hold_mail = true;
    // The first waits for the other shard, the second behind it for room here.
    rig.quiet(&format!("{p} publish x 1 q2 id=1\n{p} publish t 2 q2 id=2"));
    check_on(&mut rig, "wait 31000", &format!("{p}: closed"));
    rig.quiet(&format!("connect {s} v5 keep expiry=1000\n{s} puback 1\nconnect {p} v311 keep"));
    let mut lines = rig.run(&format!("{p} publish t 2 q2 id=2 dup"));
    rig.hold_mail = false;
    lines += "\n";
    lines += &rig.run(&format!("{p} ping"));
    assert!(lines.contains(&format!("{s}: publish t 2 q2 id=2")), "{lines}");
    assert!(lines.contains(&format!("{p}: pubrec 2")), "{lines}");
}
