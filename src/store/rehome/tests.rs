//! Any number of shards to any other, and back.

use super::*;
use crate::codec::{PacketId, SubscribeOptions};
use crate::session::ClientId;
use crate::store::image::tests::model::{Model, message};
use crate::store::record::{Onward, Part};
use crate::topic::Filter;
use bytes::Bytes;
use shards::testing::prng::Prng;
use std::convert::Infallible;

/// One shard's log: the record with LSN n stands at n - 1.
type Log = Vec<Record>;

fn place(lsn: u64) -> Place {
    Place { lsn, offset: 0, bytes: 0 }
}

fn image(log: &Log) -> Image {
    let mut image = Image::default();
    for (lsn, record) in (1..).zip(log) {
        image.apply(place(lsn), record.clone());
    }
    image
}

fn body(log: &Log, place: Place) -> Arc<Message> {
    let at = usize::try_from(place.lsn - 1).expect("short");
    match log.get(at) {
        Some(Record::Publish(publish)) => Arc::clone(&publish.message),
        other => panic!("LSN {} is {other:?}", place.lsn),
    }
}

fn home(shards: usize) -> impl Fn(&str) -> usize {
    move |name: &str| name.bytes().map(usize::from).sum::<usize>() % shards
}

/// The new logs.
fn moved(old: &[Log], shards: usize) -> (Vec<Log>, Moves) {
    let home = home(shards);
    let layout = Layout { shards, home: &home, may_receive: &|_, topic| topic != "secret" };
    let plan = rehome(old.iter().map(image).collect(), &layout);
    let write = |shard| {
        let mut log = Log::new();
        let put = |record: &Record| {
            log.push(record.clone());
            Ok::<_, Infallible>(())
        };
        let read = |old_shard: usize, place| Ok(body(&old[old_shard], place));
        let Ok(()) = plan.write(shard, read, put);
        log
    };
    ((0..shards).map(write).collect(), plan.moves())
}

/// What clients can see of the state, without numbers and places. Panics if something is in the
/// wrong shard.
fn seen(logs: &[Log], home: &dyn Fn(&str) -> usize) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (shard, log) in logs.iter().enumerate() {
        let mut image = image(log);
        let counts = image.finish();
        assert_eq!((counts.headless, counts.replaced, counts.exchanges), (0, 0, 0));
        for session in image.sessions.into_values() {
            let mut head = session.head.expect("finish() left those with a head");
            assert_eq!(home(head.client.as_str()), shard);
            head.session = SessionNumber(0);
            let queue = session.queue.into_sorted().into_iter().map(|one| {
                let text = match one.state {
                    State::Released => "released".to_owned(),
                    State::Queued | State::Sent | State::Done => {
                        format!("{:?} {:?}", one.state, body(log, one.place))
                    }
                };
                format!("{} {text} {:?} {} {:?}", one.sequence, one.qos, one.retain, one.extra)
            });
            let queue: Vec<String> = queue.collect();
            let client = head.client.as_str().to_owned();
            let rest = (head, session.will, session.filters, session.received, queue);
            assert_eq!(seen.insert(format!("client {client}"), format!("{rest:?}")), None);
        }
        for (topic, retained) in image.retained {
            assert_eq!(home(&topic), shard);
            let text = format!("{:?}", retained.message);
            assert_eq!(seen.insert(format!("topic {topic}"), text), None);
        }
    }
    seen
}

#[test]
fn everything_moves_with_its_name() {
    for seed in 0..150 {
        let mut prng = Prng::stream(seed, "rehome");
        let shards = 1 + prng.index(4);
        let one = home(1);
        // The logs of a single shard that was cleaned now and then, spread to begin with.
        let mut model = Model::new(20);
        for _ in 0..150 {
            model.step(&mut prng);
        }
        let without_exchanges = |mut record: Record| {
            if let Record::Publish(publish) = &mut record {
                publish.onward = None;
            }
            record
        };
        let first = vec![model.log.into_iter().map(without_exchanges).collect::<Log>()];
        let (mut logs, mut count) = (first, 1);
        let before = seen(&logs, &one);
        for _ in 0..3 {
            let (new, moves) = moved(&logs, shards + count % 3);
            count += 1;
            let queues =
                |logs: &[Log]| logs.iter().map(|l| image(l).finish().waiting).sum::<usize>();
            assert_eq!((moves.waiting, moves.doubled), (queues(&logs), 0), "seed {seed}");
            logs = new;
            assert_eq!(seen(&logs, &home(logs.len())), before, "seed {seed}");
        }
    }
}

fn head(session: u64, client: &str) -> Record {
    Record::Session(SessionHead {
        session: SessionNumber(session),
        client: ClientId::new(client),
        user: None,
        users: None,
        expiry_s: 60,
        offline_since_ms: Some(1),
        next_sequence: 7,
    })
}

fn subscribe(session: u64, filter: &str, qos: Qos, identifier: u32) -> Record {
    Record::Subscribe {
        session: SessionNumber(session),
        filter: Filter::parse(filter, 8).expect("a filter"),
        options: SubscribeOptions::with_qos(qos),
        identifier,
    }
}

/// An exchange of the shard in whose log it stands.
fn exchange(number: u64, topic: &str, body: &str, parts: Vec<Part>) -> Record {
    Record::Publish(Publish {
        message: message(topic, body, None),
        from: Source::Plain,
        retained: false,
        entries: Vec::new(),
        onward: Some(Onward { exchange: number, parts }),
    })
}

fn direct(shard: u16) -> Part {
    Part { shard, direct: true, retain: false, shares: Vec::new() }
}

/// Client, sequence, payload, `QoS`, identifiers of all that waits.
fn waiting(logs: &[Log]) -> Vec<(String, u64, Bytes, u8, Vec<u32>)> {
    let mut all = Vec::new();
    for log in logs {
        for session in image(log).sessions.into_values() {
            let client = session.head.expect("a head").client;
            for one in session.queue.into_sorted() {
                let payload = body(log, one.place).payload().clone();
                let identifiers = one.extra.map(|extra| extra.identifiers.to_vec());
                let identifiers = identifiers.unwrap_or_default();
                let client = client.as_str().to_owned();
                all.push((client, one.sequence, payload, one.qos as u8, identifiers));
            }
        }
    }
    all.sort();
    all
}

fn expected(
    list: &[(&str, u64, &'static str, u8, &[u32])],
) -> Vec<(String, u64, Bytes, u8, Vec<u32>)> {
    let one =
        |(client, sequence, payload, qos, identifiers): &(&str, u64, &'static str, u8, &[u32])| {
            let payload = Bytes::from_static(payload.as_bytes());
            ((*client).to_owned(), *sequence, payload, *qos, identifiers.to_vec())
        };
    list.iter().map(one).collect()
}

#[test]
fn unfinished_exchanges_are_delivered_once() {
    let origin = vec![
        exchange(4, "a/b", "x", vec![direct(1), direct(2)]),
        exchange(5, "a/b", "y", vec![direct(1), direct(2)]),
        exchange(6, "secret", "z", vec![direct(1)]),
        Record::Settled { exchange: 4, shard: 1 },
    ];
    let first = vec![
        head(3, "one"),
        subscribe(3, "a/+", Qos::AtLeastOnce, 8),
        subscribe(3, "a/b", Qos::ExactlyOnce, 0),
        subscribe(3, "#", Qos::AtLeastOnce, 9),
        head(4, "p"),
        subscribe(4, "a/b", Qos::AtMostOnce, 0),
    ];
    // It has applied exchange 4, and the origin did not get to know.
    let second = vec![
        head(3, "two"),
        subscribe(3, "a/b", Qos::AtLeastOnce, 0),
        Record::Applied { origin: 0, exchange: 4 },
    ];
    for shards in 1..5 {
        let (logs, moves) = moved(&[origin.clone(), first.clone(), second.clone()], shards);
        let wanted = expected(&[("one", 7, "y", 2, &[9, 8]), ("two", 7, "y", 1, &[])]);
        let mut found = waiting(&logs);
        for one in &mut found {
            // In which order filters match is left open.
            one.4.sort_by(|a, b| b.cmp(a));
        }
        assert_eq!(found, wanted, "{shards} shards");
        assert_eq!((moves.delivered, moves.no_member), (2, 0));
        let next = image(&logs[home(shards)("one")]).sessions.into_values();
        let heads: Vec<SessionHead> = next.filter_map(|session| session.head).collect();
        let one = heads.iter().find(|head| head.client.as_str() == "one").expect("it is there");
        assert_eq!(one.next_sequence, 8);
    }
}

#[test]
fn no_local_and_shares_count_in_unfinished_exchanges() {
    let share = || Filter::parse("$share/g/t", 8).expect("a filter");
    let part = |shard| Part { shard, direct: true, retain: false, shares: vec![share()] };
    let mut own = SubscribeOptions::with_qos(Qos::ExactlyOnce);
    own.no_local = true;
    let publisher = vec![
        head(0, "p"),
        Record::Subscribe {
            session: SessionNumber(0),
            filter: Filter::parse("t", 8).expect("a filter"),
            options: own,
            identifier: 0,
        },
    ];
    let members = vec![
        head(0, "a"),
        subscribe(0, "$share/g/t", Qos::ExactlyOnce, 3),
        head(1, "b"),
        subscribe(1, "$share/g/t", Qos::ExactlyOnce, 0),
        exchange(1, "t", "1", vec![part(0)]),
        exchange(2, "t", "2", vec![part(0)]),
        exchange(
            3,
            "u",
            "3",
            vec![Part { shares: vec![Filter::parse("$share/g/u", 8).unwrap()], ..direct(0) }],
        ),
    ];
    let (logs, moves) = moved(&[publisher, members], 3);
    // The chosen shard has no member any more, so those of the other one take turns.
    let wanted = expected(&[("a", 7, "1", 2, &[3]), ("b", 7, "2", 2, &[])]);
    assert_eq!(waiting(&logs), wanted);
    assert_eq!((moves.delivered, moves.no_member), (2, 1));
}

#[test]
fn unfinished_retained_messages_are_retained() {
    let retain = |shard| Part { shard, direct: false, retain: true, shares: Vec::new() };
    let kept = |topic: &str| {
        let message = message(topic, "old", None);
        let from = Source::Plain;
        Record::Publish(Publish { message, from, retained: true, entries: vec![], onward: None })
    };
    let origin =
        vec![exchange(1, "t", "new", vec![retain(1)]), exchange(2, "u", "", vec![retain(1)])];
    let (logs, _) = moved(&[origin, vec![kept("t"), kept("u"), kept("v")]], 2);
    let mut found: Vec<(String, Bytes)> = Vec::new();
    for log in &logs {
        let retained = image(log).retained.into_iter();
        found.extend(retained.map(|(t, one)| (t.to_string(), one.message.payload().clone())));
    }
    found.sort();
    assert_eq!(found, [("t".into(), "new".into()), ("v".into(), "old".into())]);
}

#[test]
fn a_message_for_many_is_read_once_and_cut_into_records() {
    let entry = |session: u64| Entry {
        session: SessionNumber(session),
        sequence: 0,
        qos: Qos::AtLeastOnce,
        retain: false,
        sent: false,
        identifiers: Box::default(),
        share: None,
    };
    let count = 20_000;
    let mut old: Log = (0..count).map(|n| head(n, &format!("c{n}"))).collect();
    old.push(Record::Publish(Publish {
        message: message("t", "x", None),
        from: Source::Plain,
        retained: false,
        entries: (0..count).map(entry).collect(),
        onward: None,
    }));
    let home = home(1);
    let layout = Layout { shards: 1, home: &home, may_receive: &|_, _| true };
    let plan = rehome(vec![image(&old)], &layout);
    let (mut reads, mut records, mut entries) = (0, 0, 0);
    let read = |_, place| {
        reads += 1;
        Ok::<_, Infallible>(body(&old, place))
    };
    let put = |record: &Record| {
        if let Record::Publish(publish) = record {
            records += 1;
            entries += publish.entries.len();
        }
        Ok(())
    };
    let Ok(()) = plan.write(0, read, put);
    assert_eq!((reads, records, entries), (1, 2, 20_000));
}

#[test]
fn the_first_error_ends_the_writing() {
    let id = PacketId::new(1).expect("not 0");
    let old = vec![head(0, "a"), Record::Received { session: SessionNumber(0), id }];
    let home = home(1);
    let layout = Layout { shards: 1, home: &home, may_receive: &|_, _| true };
    let plan = rehome(vec![image(&old)], &layout);
    let mut left = 1;
    let put = |_: &Record| {
        left -= 1;
        if left < 0 { Err("disk full") } else { Ok(()) }
    };
    assert_eq!(plan.write(0, |_, _| Err("not asked"), put), Err("disk full"));
}
