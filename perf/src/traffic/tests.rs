use super::*;
use crate::publisher::{Form, Limits, Template};
use culex::codec::Qos;

/// Two publishers and subscribers; what the publishers send comes back as frames of 33 + 5 bytes.
fn rig(spread: Spread) -> (Traffic, Vec<Vec<u8>>) {
    let mut traffic = Traffic::new(Version::V311, spread);
    let qos = Qos::AtMostOnce;
    let form = Form { topic: "t", qos, version: Version::V311, payload_bytes: 33, retain: false };
    for id in 0..2 {
        let limits =
            Limits { window: 4, outstanding: 4, receivers: 1, messages: u64::MAX, stride: 1 };
        traffic.publishers.push(Publisher::new(id, qos, Template::new(form, 1), limits));
        traffic.subscribers.push(Subscriber::new(0, 2));
    }
    traffic.start(None);
    let mut out = [Vec::new(), Vec::new()];
    while let Some(index) = traffic.next_touched() {
        traffic.refill(index, &mut out[index]);
    }
    (traffic, out.iter().flat_map(|all| all.chunks(38).map(<[u8]>::to_vec)).collect())
}

fn feed(traffic: &mut Traffic, subscriber: usize, frame: &[u8]) {
    let used = traffic.at_subscriber(subscriber, frame, &mut Vec::new());
    assert_eq!(used, Ok(frame.len()));
}

#[test]
fn clean_delivery_settles() {
    let (mut traffic, frames) = rig(Spread::Each);
    assert_eq!((frames.len(), traffic.tally.sent), (8, 8));
    for frame in &frames {
        feed(&mut traffic, 0, frame);
    }
    assert!(traffic.is_settled() && traffic.tally.is_clean());
    assert_eq!(traffic.tally.delivered, 8);
}

#[test]
fn gap_counts_as_lost_and_frees_credit() {
    let (mut traffic, frames) = rig(Spread::Each);
    feed(&mut traffic, 0, &frames[2]);
    assert_eq!(traffic.tally.lost, 2);
    assert_eq!(traffic.publishers[0].credit(), 3);
}

#[test]
fn repeated_message_is_a_duplicate() {
    let (mut traffic, frames) = rig(Spread::Each);
    feed(&mut traffic, 0, &frames[0]);
    feed(&mut traffic, 0, &frames[0]);
    assert_eq!(traffic.tally.duplicates, 1);
}

#[test]
fn older_message_is_disorder() {
    let (mut traffic, frames) = rig(Spread::Group);
    feed(&mut traffic, 0, &frames[3]);
    feed(&mut traffic, 0, &frames[1]);
    assert_eq!((traffic.tally.disordered, traffic.tally.lost), (1, 0));
}

#[test]
fn group_gets_each_message_once() {
    let (mut traffic, frames) = rig(Spread::Group);
    feed(&mut traffic, 0, &frames[0]);
    feed(&mut traffic, 1, &frames[1]);
    assert!(traffic.tally.is_clean());
    feed(&mut traffic, 1, &frames[2]);
    feed(&mut traffic, 0, &frames[2]);
    assert_eq!(traffic.tally.duplicates, 1, "two members got the same message");
}

#[test]
fn missing_messages_are_lost_at_the_end() {
    let (mut traffic, frames) = rig(Spread::Group);
    feed(&mut traffic, 0, &frames[0]);
    traffic.close_books();
    assert_eq!(traffic.tally.lost, 7);
}

#[test]
fn changed_payload_is_corrupt() {
    let (mut traffic, mut frames) = rig(Spread::Each);
    *frames[0].last_mut().unwrap() ^= 1;
    let frame = frames[0].clone();
    feed(&mut traffic, 0, &frame);
    assert_eq!(traffic.tally.corrupt, 1);
}

#[test]
fn schedule_sends_what_is_due() {
    let (mut traffic, frames) = rig(Spread::Each);
    for frame in &frames {
        feed(&mut traffic, 0, frame);
    }
    traffic.schedule = Some(Schedule::new(1_000, 1_000_000, 0));
    traffic.now_ns = 3_500;
    traffic.advance_schedule();
    assert_eq!((traffic.publishers[0].owed, traffic.publishers[1].owed), (2, 1));
    let next = traffic.schedule.unwrap().next_due_ns();
    assert_eq!(next, 4_000);
    traffic.schedule = Some(Schedule::new(1_000, 1_000_000, 5_000));
    assert_eq!(traffic.schedule.unwrap().next_due_ns(), 5_000);
}

#[test]
fn slow_subscriber_may_miss_messages_but_not_their_order() {
    let (mut traffic, frames) = rig(Spread::Each);
    traffic.subscribers.push(Subscriber::slow(2));
    feed(&mut traffic, 2, &frames[2]);
    assert!(traffic.tally.is_clean());
    assert_eq!((traffic.tally.delivered, traffic.slow_delivered), (0, 1));
    feed(&mut traffic, 2, &frames[0]);
    assert_eq!(traffic.tally.disordered, 1);
}

#[test]
fn stored_messages_come_all_and_once() {
    let (mut traffic, frames) = rig(Spread::Stored);
    traffic.subscribers = vec![Subscriber::stored(0, 4, false)];
    let first: Vec<&Vec<u8>> =
        frames.iter().filter(|f| Stamp::read(&f[5..]).unwrap().publisher == 0).collect();
    traffic.now_ns = 5;
    feed(&mut traffic, 0, first[0]);
    traffic.now_ns = 9;
    for frame in &first[1..3] {
        feed(&mut traffic, 0, frame);
    }
    let subscriber = &traffic.subscribers[0];
    assert_eq!((subscriber.first_ns, subscriber.last_ns), (5, 9));
    assert!(!subscriber.is_complete());
    traffic.publishers.clear();
    traffic.close_books();
    assert_eq!(traffic.tally.lost, 1);
}

#[test]
fn retained_messages_come_in_any_order() {
    let (mut traffic, frames) = rig(Spread::Bag);
    traffic.subscribers = vec![Subscriber::stored(0, 4, true)];
    let mut first: Vec<&Vec<u8>> =
        frames.iter().filter(|f| Stamp::read(&f[5..]).unwrap().publisher == 0).collect();
    first.reverse();
    for frame in &first {
        feed(&mut traffic, 0, frame);
    }
    assert!(traffic.tally.is_clean() && traffic.subscribers[0].is_complete());
    feed(&mut traffic, 0, first[1]);
    assert_eq!(traffic.tally.duplicates, 1);
}

#[test]
fn acknowledgements_are_timed_from_the_intended_sending() {
    let (mut traffic, _) = rig(Spread::Each);
    let qos = Qos::AtLeastOnce;
    let form = Form { topic: "t", qos, version: Version::V311, payload_bytes: 33, retain: false };
    let limits = Limits { window: 4, outstanding: 4, receivers: 1, messages: 9, stride: 1 };
    traffic.publishers = vec![Publisher::new(0, qos, Template::new(form, 1), limits)];
    traffic.acknowledged = Some(Histogram::new(3).unwrap());
    traffic.measured = 100..200;
    traffic.publishers[0].publish(150, &mut Vec::new());
    traffic.now_ns = 400;
    let used = traffic.at_publisher(0, &[0x40, 2, 0, 1], &mut Vec::new());
    assert_eq!(used, Ok(4));
    assert_eq!(traffic.acknowledged.unwrap().max(), 250);
}
