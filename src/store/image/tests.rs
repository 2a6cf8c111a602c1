//! The image against a shard that keeps its state in another way and cleans its log as it goes.

use super::*;
use crate::codec::Qos;
use crate::session::State;
use bytes::Bytes;
use shards::testing::prng::Prng;

pub(in crate::store) mod model;

use model::{Model, message};

fn place(lsn: u64) -> Place {
    Place { lsn, offset: 7, bytes: 9 }
}

/// Applies the records, the first with LSN 1.
fn replay(records: &[Record]) -> Image {
    let mut image = Image::default();
    for (lsn, record) in (1..).zip(records) {
        image.apply(place(lsn), record.clone());
    }
    image
}

fn head(session: u64, client: &str) -> Record {
    Record::Session(SessionHead {
        session: SessionNumber(session),
        client: ClientId::new(client),
        user: None,
        users: None,
        expiry_s: 60,
        offline_since_ms: None,
        next_sequence: 0,
    })
}

fn entry(session: u64, sequence: u64) -> Entry {
    Entry {
        session: SessionNumber(session),
        sequence,
        qos: Qos::ExactlyOnce,
        retain: false,
        sent: false,
        identifiers: Box::default(),
        share: None,
    }
}

fn publish(entries: Vec<Entry>) -> Record {
    let from = Source::Plain;
    let message = message("t", "body", None);
    Record::Publish(Publish { message, from, retained: false, entries, onward: None })
}

/// (sequence, LSN, state) of all deliveries of session 1.
fn waiting(image: &Image) -> Vec<(u64, u64, State)> {
    let session = image.sessions.get(&SessionNumber(1)).expect("session 1");
    session.queue.iter().map(|one| (one.sequence, one.place.lsn, one.state)).collect()
}

/// I1, I2, I3, I6, I7, I13 in a log that is cleaned: after every record, the image of what the log
/// holds then is the state of its writer.
#[test]
fn every_prefix_of_a_cleaned_log_is_the_state_of_then() {
    let seeds = std::env::var("SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let mut cleaned: u64 = 0;
    for seed in 0..seeds {
        let mut prng = Prng::stream(seed, "image");
        let mut model = Model::new(1 + prng.index(40));
        for step in 0..250 {
            model.step(&mut prng);
            // Some steps are not looked at, so that long runs are one replay.
            if prng.chance(300) || step == 249 {
                model.check(seed);
            }
        }
        cleaned += u64::from(model.has_dropped());
    }
    assert!(cleaned > seeds / 2, "most logs were cleaned, not {cleaned}");
}

/// The rig notices one lost record.
#[test]
#[should_panic(expected = "seed 1,")]
fn a_lost_record_is_noticed() {
    let mut prng = Prng::stream(1, "image");
    let mut model = Model::new(10);
    let is_done = |record: &Record| matches!(record, Record::Done { .. });
    while !model.log.last().is_some_and(is_done) {
        model.step(&mut prng);
    }
    model.check(0);
    model.log.pop();
    model.check(1);
}

#[test]
fn a_queue_in_any_order_is_sorted() {
    let mut prng = Prng::stream(7, "queue");
    let mut left: Vec<u64> = (0..3000).collect();
    let mut image = replay(&[head(1, "c")]);
    let (mut lsn, mut live) = (2, BTreeMap::new());
    while !left.is_empty() {
        let near_front = prng.index(left.len().min(200));
        let at = if prng.chance(100) { prng.index(left.len()) } else { near_front };
        let sequence = left.remove(at);
        image.apply(place(lsn), publish(vec![entry(1, sequence)]));
        live.insert(sequence, lsn);
        lsn += 1;
        if prng.chance(500) {
            let done = *live.keys().nth(prng.index(live.len())).expect("below the count");
            live.remove(&done);
            let session = SessionNumber(1);
            image.apply(place(lsn), Record::Done { session, sequence: done, more: 0 });
            lsn += 1;
        }
    }
    let expected: Vec<_> = live.iter().map(|(key, lsn)| (*key, *lsn, State::Queued)).collect();
    assert_eq!(waiting(&image), expected);
    assert_eq!(image.finish().waiting, expected.len());
    assert_eq!(waiting(&image), expected);
    let queue = std::mem::take(&mut image.sessions.get_mut(&SessionNumber(1)).expect("1").queue);
    assert_eq!(queue.into_sorted().len(), expected.len());
}

#[test]
fn a_copy_moves_a_delivery_and_keeps_its_state() {
    let session = SessionNumber(1);
    let mut copy = entry(1, 5);
    copy.sent = true;
    let copies = [publish(vec![entry(1, 5)]), publish(vec![copy]), publish(vec![entry(1, 5)])];
    let mut image = replay(&copies);
    assert_eq!(waiting(&image), [(5, 3, State::Sent)]);
    image.apply(place(4), Record::Owned { session, sequence: 5 });
    image.apply(place(5), publish(vec![entry(1, 5)]));
    assert_eq!(waiting(&image), [(5, 0, State::Released)]);
    image.apply(place(6), Record::Done { session, sequence: 5, more: 0 });
    assert_eq!(waiting(&image), []);
}

#[test]
fn owned_stands_without_its_publish() {
    let session = SessionNumber(1);
    let mut image = replay(&[Record::Owned { session, sequence: 8 }, head(1, "c")]);
    let counts = image.finish();
    assert_eq!(waiting(&image), [(8, 0, State::Released)]);
    assert_eq!((counts.waiting, counts.waiting_bytes), (1, 0));
    let head = image.sessions.get(&session).and_then(|one| one.head.as_ref()).expect("a head");
    assert_eq!(head.next_sequence, 9);
}

#[test]
fn what_has_no_head_is_dropped_and_counted() {
    let mut image = replay(&[publish(vec![entry(1, 0), entry(2, 0), entry(2, 1)]), head(1, "c")]);
    let counts = image.finish();
    let expected = Counts {
        sessions: 1,
        waiting: 1,
        waiting_bytes: 5,
        headless: 1,
        headless_waiting: 2,
        ..Counts::default()
    };
    assert_eq!(counts, expected);
    assert_eq!(image.next_session, 3);
    assert_eq!(image.finish(), Counts { headless: 0, headless_waiting: 0, ..expected });
}

#[test]
fn of_two_sessions_of_a_client_the_newer_stays() {
    let mut image = replay(&[head(4, "c"), head(9, "c"), head(5, "c"), head(6, "d")]);
    assert_eq!(image.finish().replaced, 2);
    let numbers: Vec<u64> = image.sessions.keys().map(|number| number.0).collect();
    assert_eq!(numbers, [6, 9]);
}

#[test]
fn session_end_takes_everything() {
    let session = SessionNumber(1);
    let id = PacketId::new(3).expect("not 0");
    let mut image = replay(&[
        head(1, "c"),
        Record::Received { session, id },
        publish(vec![entry(1, 0)]),
        Record::SessionEnd { session },
    ]);
    assert_eq!(image.finish(), Counts::default());
    assert_eq!(image.next_session, 2);
}

#[test]
fn an_empty_retained_message_deletes() {
    let retain = |body| {
        let message = message("t", body, None);
        let from = Source::Plain;
        Record::Publish(Publish { message, from, retained: true, entries: vec![], onward: None })
    };
    assert_eq!(replay(&[retain("x")]).finish().retained, 1);
    assert_eq!(replay(&[retain("x"), retain("")]).finish().retained, 0);
}

#[test]
fn exchanges_stay_open_until_all_parts_are_settled() {
    let part = |shard| Part { shard, direct: true, retain: false, shares: vec![] };
    let open = |parts| {
        let onward = Some(Onward { exchange: 6, parts });
        let message = message("t", "x", None);
        let from = Source::Plain;
        Record::Publish(Publish { message, from, retained: false, entries: vec![], onward })
    };
    let settled = |shard| Record::Settled { exchange: 6, shard };
    let image = replay(&[open(vec![part(0), part(2)]), settled(2), settled(1)]);
    assert_eq!(image.exchanges.get(&6).map(|open| open.parts.clone()), Some(vec![part(0)]));
    let image = replay(&[settled(2), open(vec![part(0)]), settled(0)]);
    assert_eq!((image.exchanges.len(), image.next_exchange), (0, 7));
}

#[test]
fn exchange_numbers_go_on_past_what_others_applied() {
    let mut images = vec![
        replay(&[Record::Applied { origin: 1, exchange: 9 }]),
        replay(&[Record::Settled { exchange: 3, shard: 0 }]),
        replay(&[
            Record::Applied { origin: 1, exchange: 11 },
            Record::Applied { origin: 1, exchange: 10 },
        ]),
    ];
    fence(&mut images);
    let next: Vec<u64> = images.iter().map(|image| image.next_exchange).collect();
    assert_eq!(next, [1, 12, 1]);
}

/// The bound that the documentation of [`Queue`] gives, with a million deliveries.
#[test]
fn a_waiting_message_takes_sixty_bytes_at_most() {
    let mut image = replay(&[head(1, "c")]);
    let session = image.sessions.get_mut(&SessionNumber(1)).expect("session 1");
    let body = message("t", "body", None);
    for sequence in 0..1_000_000 {
        session.queue(entry(1, sequence), &body, place(sequence));
    }
    let bytes = session.queue.heap_bytes();
    assert!(bytes <= 60 * 1_000_000, "{bytes}");
    assert!(bytes >= 48 * 1_000_000, "{bytes}");
}
