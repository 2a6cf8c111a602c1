//! Any record comes back; any bytes are refused or are the one encoding of a record.

use super::{decode, decode_message, encode, kind};
use crate::codec::{PacketId, Qos, RetainHandling, SubscribeOptions};
use crate::session::{Author, ClientId, Message};
use crate::store::record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
use crate::store::wall::Wall;
use crate::topic::Filter;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use shards::Millis;
use std::sync::Arc;

const WALL: Wall = Wall { start_ms: 1_700_000_000_000 };

/// Small numbers, and every length that a number can have.
fn number() -> impl Strategy<Value = u64> {
    (any::<u64>(), 0..64u32).prop_map(|(number, shift)| number >> shift)
}

fn session() -> impl Strategy<Value = SessionNumber> {
    number().prop_map(SessionNumber)
}

fn id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).expect("not 0"))
}

fn qos() -> impl Strategy<Value = Qos> {
    (0..3u8).prop_map(|qos| Qos::from_u8(qos).expect("below 3"))
}

fn filter() -> impl Strategy<Value = Filter> {
    "(\\$share/[a-zé]{1,3}/)?([a-z]{0,3}|\\+)(/([a-zü]{0,3}|\\+)){1,4}(/#)?"
        .prop_map(|text| Filter::parse(&text, usize::MAX).expect("a filter"))
}

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z€]{0,200}".prop_map(Arc::from)
}

fn message() -> impl Strategy<Value = Arc<Message>> {
    let bytes = || vec(any::<u8>(), 0..300);
    let terms = (qos(), any::<bool>(), option::of(0..u64::from(u32::MAX)));
    let author = option::of(option::of(text())).prop_map(|author| match author {
        None => Author::Vouched,
        Some(None) => Author::Anonymous,
        Some(Some(user)) => Author::User(user),
    });
    ("[a-z/é]{1,40}", (text(), author), bytes(), bytes(), terms).prop_map(
        |(topic, (publisher, author), forwarded, payload, (qos, retain, expires_at))| {
            let parts = (&*topic, Bytes::from(payload), &*forwarded);
            let terms = (qos, retain, expires_at.map(Millis));
            let message = Message::from_parts(parts, terms, ClientId::new(&publisher));
            Arc::new(message.written_by(author))
        },
    )
}

fn entry() -> impl Strategy<Value = Entry> {
    let identifiers = vec(1..=268_435_455u32, 0..3);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (session(), number(), flags, identifiers, option::of(filter())).prop_map(
        |(session, sequence, (exactly_once, retain, sent), identifiers, share)| Entry {
            session,
            sequence,
            qos: if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
            retain,
            sent,
            identifiers: identifiers.into(),
            share,
        },
    )
}

fn onward() -> impl Strategy<Value = Onward> {
    let part = (any::<u16>(), any::<bool>(), any::<bool>(), vec(filter(), 0..3));
    let part =
        part.prop_map(|(shard, direct, retain, shares)| Part { shard, direct, retain, shares });
    (number(), vec(part, 0..4)).prop_map(|(exchange, parts)| Onward { exchange, parts })
}

fn publish() -> impl Strategy<Value = Publish> {
    let from = prop_oneof![
        Just(Source::Plain),
        (session(), id()).prop_map(|(session, id)| Source::Received(session, id)),
        session().prop_map(Source::Will),
        (any::<u16>(), number())
            .prop_map(|(origin, exchange)| Source::Exchange { origin, exchange }),
    ];
    (message(), from, any::<bool>(), vec(entry(), 0..6), option::of(onward())).prop_map(
        |(message, from, retained, entries, onward)| Publish {
            message,
            from,
            retained,
            entries,
            onward,
        },
    )
}

fn head() -> impl Strategy<Value = SessionHead> {
    let expiry = prop_oneof![Just(u32::MAX), any::<u32>()];
    let user = (option::of(text()), option::of(text()));
    (session(), text(), user, expiry, option::of(number()), number()).prop_map(
        |(session, client, (user, users), expiry_s, offline_since_ms, next_sequence)| SessionHead {
            session,
            client: ClientId::new(&client),
            user,
            users,
            expiry_s,
            offline_since_ms,
            next_sequence,
        },
    )
}

fn subscribe() -> impl Strategy<Value = Record> {
    (session(), filter(), qos(), any::<(bool, bool)>(), 0..3u8, 0..=268_435_455u32).prop_map(
        |(session, filter, qos, (no_local, retain_as_published), handling, identifier)| {
            let retain_handling = match handling {
                0 => RetainHandling::Always,
                1 => RetainHandling::IfNew,
                _ => RetainHandling::Never,
            };
            let options = SubscribeOptions { qos, no_local, retain_as_published, retain_handling };
            Record::Subscribe { session, filter, options, identifier }
        },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let will = (message(), option::of(any::<u32>()), any::<u32>())
        .prop_map(|(message, expiry_s, delay_s)| StoredWill { message, expiry_s, delay_s });
    let pair = || (session(), number());
    prop_oneof![
        8 => publish().prop_map(Record::Publish),
        2 => head().prop_map(Record::Session),
        2 => (session(), option::of(will))
            .prop_map(|(session, will)| Record::Will { session, will }),
        2 => subscribe(),
        1 => session().prop_map(|session| Record::SessionEnd { session }),
        1 => (session(), filter())
            .prop_map(|(session, filter)| Record::Unsubscribe { session, filter }),
        1 => (session(), id()).prop_map(|(session, id)| Record::Received { session, id }),
        1 => (session(), id()).prop_map(|(session, id)| Record::Released { session, id }),
        1 => pair().prop_map(|(session, sequence)| Record::Owned { session, sequence }),
        1 => (pair(), any::<u16>())
            .prop_map(|((session, sequence), more)| Record::Done { session, sequence, more }),
        1 => "[a-z/]{1,9}"
            .prop_map(|topic| Record::RetainDeleted { topic: Arc::from(topic.as_str()) }),
        1 => (any::<u16>(), number())
            .prop_map(|(origin, exchange)| Record::Applied { origin, exchange }),
        1 => (number(), any::<u16>())
            .prop_map(|(exchange, shard)| Record::Settled { exchange, shard }),
        1 => number().prop_map(|wall_ms| Record::Clock { wall_ms }),
    ]
}

proptest! {
    #[test]
    fn what_was_encoded_comes_back(record in record(), before in vec(any::<u8>(), 0..4)) {
        let mut out = before.clone();
        let kind = encode(&record, WALL, &mut out);
        prop_assert_eq!(&out[..before.len()], &before);
        let body = &out[before.len()..];
        prop_assert_eq!(decode(kind, body, WALL), Ok(Some(record.clone())));
        if let Record::Publish(publish) = &record {
            let message = Ok(Arc::clone(&publish.message));
            prop_assert_eq!(decode_message(kind, body, WALL), message);
        }
    }

    #[test]
    fn damaged_bytes_are_refused_or_another_record(
        record in record(), at in any::<prop::sample::Index>(), change in 1..=255u8,
    ) {
        let mut body = Vec::new();
        let kind = encode(&record, WALL, &mut body);
        let at = at.index(body.len());
        body[at] ^= change;
        // A moment before the process began is moved to its beginning.
        let zero = Wall { start_ms: 0 };
        if let Ok(Some(other)) = decode(kind, &body, zero) {
            let mut again = Vec::new();
            prop_assert_eq!(encode(&other, zero, &mut again), kind);
            prop_assert_eq!(again, body);
        }
    }

    #[test]
    fn a_plain_entry_takes_six_bytes_at_most(
        first in 0..(1u64 << 20), step in 1..64u64, sequence in 0..(1u64 << 19),
    ) {
        let entry = |n: u64| Entry {
            session: SessionNumber(first + n * step),
            sequence: sequence + n * 8000 % 8191,
            qos: Qos::AtLeastOnce,
            retain: false,
            sent: false,
            identifiers: Box::default(),
            share: None,
        };
        let bytes = |count: u64| {
            let message = Message::from_parts(
                ("t", Bytes::new(), &[]),
                (Qos::AtLeastOnce, false, None),
                ClientId::new("p"),
            );
            let mut out = Vec::new();
            encode(
                &Record::Publish(Publish {
                    message: Arc::new(message),
                    from: Source::Plain,
                    retained: false,
                    entries: (0..count).map(entry).collect(),
                    onward: None,
                }),
                WALL,
                &mut out,
            );
            out.len()
        };
        prop_assert!(bytes(101) - bytes(1) <= 6 * 100);
        prop_assert!(bytes(1) - bytes(0) <= 7);
    }
}

#[test]
fn types_are_refused_or_left_out() {
    for unknown in [0x8e, 0xff, 0x80, 0x86 ^ 0x40] {
        assert!(decode(unknown, &[], WALL).is_err(), "{unknown:#x}");
    }
    for later in [0x00, 0x01, 0x0f, 0x7f] {
        assert_eq!(decode(later, b"whatever", WALL), Ok(None), "{later:#x}");
    }
    assert!(decode(kind::CLOCK, b"", WALL).is_err());
}

#[test]
fn encoding_does_not_grow_a_buffer_that_is_large_enough() {
    let record = Record::Done { session: SessionNumber(1), sequence: 2, more: 0 };
    let mut out = Vec::with_capacity(16);
    let place = out.as_ptr();
    encode(&record, WALL, &mut out);
    assert_eq!(out.as_ptr(), place);
}
