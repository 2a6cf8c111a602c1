//! Bytes of every type of record, written by hand.

use super::{decode, decode_message, encode};
use crate::codec::{PacketId, Qos, RetainHandling, SubscribeOptions};
use crate::session::{ClientId, Message};
use crate::store::record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
use crate::store::wall::Wall;
use crate::topic::Filter;
use bytes::Bytes;
use shards::Millis;
use std::sync::Arc;

const WALL: Wall = Wall { start_ms: 1000 };

/// The record has exactly this type and these bytes, and comes back from them.
#[track_caller]
fn check(record: &Record, kind: u8, pieces: &[&[u8]]) {
    let mut body = Vec::new();
    assert_eq!(encode(record, WALL, &mut body), kind);
    assert_eq!(body, pieces.concat());
    assert_eq!(decode(kind, &body, WALL).as_ref(), Ok(&Some(record.clone())));
    for end in 0..body.len() {
        assert!(decode(kind, &body[..end], WALL).is_err(), "{end} bytes of {record:?}");
    }
    body.push(0);
    assert!(decode(kind, &body, WALL).is_err(), "a byte too much after {record:?}");
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

fn filter(text: &str) -> Filter {
    Filter::parse(text, 8).expect("a filter")
}

fn message(expires_at: Option<Millis>) -> Arc<Message> {
    let parts = ("a/b", Bytes::from_static(b"hi"), &[0x01, 0x01][..]);
    let terms = (Qos::ExactlyOnce, true, expires_at);
    Arc::new(Message::from_parts(parts, terms, ClientId::new("pub")))
}

const MESSAGE: &[u8] = b"\x06\x03a/b\x03pub\x02\x01\x01\x02hi";

fn plain(session: u64, sequence: u64, qos: Qos) -> Entry {
    Entry {
        session: SessionNumber(session),
        sequence,
        qos,
        retain: false,
        sent: false,
        identifiers: Box::default(),
        share: None,
    }
}

#[test]
fn session() {
    let mut head = SessionHead {
        session: SessionNumber(0x81),
        client: ClientId::new("c"),
        user: Some(Arc::from("me")),
        users: None,
        expiry_s: 60,
        offline_since_ms: Some(300),
        next_sequence: 2,
    };
    let record = Record::Session(head.clone());
    check(&record, 0x81, &[&[0x03, 0x81, 0x01], b"\x01c\x02me", &[60, 0xac, 0x02, 2]]);
    head.users = Some(Arc::from("/f"));
    let record = Record::Session(head.clone());
    check(&record, 0x81, &[&[0x07, 0x81, 0x01], b"\x01c\x02me\x02/f", &[60, 0xac, 0x02, 2]]);
    head.users = None;
    head.user = None;
    head.offline_since_ms = None;
    head.expiry_s = u32::MAX;
    let never = [0xff, 0xff, 0xff, 0xff, 0x0f];
    check(&Record::Session(head), 0x81, &[&[0x00, 0x81, 0x01], b"\x01c", &never, &[2]]);
}

#[test]
fn session_end() {
    check(&Record::SessionEnd { session: SessionNumber(0) }, 0x82, &[&[0]]);
}

#[test]
fn will() {
    let session = SessionNumber(5);
    check(&Record::Will { session, will: None }, 0x83, &[&[5, 0]]);
    let mut will = StoredWill { message: message(None), expiry_s: None, delay_s: 7 };
    let record = Record::Will { session, will: Some(will.clone()) };
    check(&record, 0x83, &[&[5, 1, 7], MESSAGE]);
    will.expiry_s = Some(9);
    check(&Record::Will { session, will: Some(will) }, 0x83, &[&[5, 3, 7, 9], MESSAGE]);
}

#[test]
fn subscriptions() {
    let (session, filter) = (SessionNumber(5), filter("$share/g/a/+"));
    let options = SubscribeOptions {
        qos: Qos::AtLeastOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::Never,
    };
    let identifier = 268_435_455;
    let record = Record::Subscribe { session, filter: filter.clone(), options, identifier };
    let tail = [0x2d, 0xff, 0xff, 0xff, 0x7f];
    check(&record, 0x84, &[&[5, 12], b"$share/g/a/+", &tail]);
    check(&Record::Unsubscribe { session, filter }, 0x85, &[&[5, 12], b"$share/g/a/+"]);
}

#[test]
fn publish() {
    let mut publish = Publish {
        message: message(None),
        from: Source::Plain,
        retained: false,
        entries: Vec::new(),
        onward: None,
    };
    check(&Record::Publish(publish.clone()), 0x86, &[MESSAGE, &[0, 0]]);
    publish.from = Source::Received(SessionNumber(3), id(0x100));
    check(&Record::Publish(publish.clone()), 0x86, &[MESSAGE, &[1, 3, 0x80, 0x02, 0]]);
    publish.from = Source::Will(SessionNumber(3));
    check(&Record::Publish(publish.clone()), 0x86, &[MESSAGE, &[2, 3, 0]]);
    publish.from = Source::Exchange { origin: 1, exchange: 2 };
    publish.retained = true;
    check(&Record::Publish(publish), 0x86, &[MESSAGE, &[7, 1, 2, 0]]);
}

#[test]
fn publish_with_entries() {
    let mut rich = plain(10, 39, Qos::ExactlyOnce);
    rich.retain = true;
    rich.sent = true;
    rich.identifiers = Box::from([1, 0x80]);
    rich.share = Some(filter("$share/g/a"));
    let onward = Onward {
        exchange: 4,
        parts: vec![
            Part { shard: 1, direct: true, retain: false, shares: vec![filter("$share/g/a")] },
            Part { shard: 2, direct: false, retain: true, shares: Vec::new() },
        ],
    };
    let record = Record::Publish(Publish {
        message: message(Some(Millis(24))),
        from: Source::Plain,
        retained: false,
        entries: vec![plain(8, 40, Qos::AtLeastOnce), rich, plain(9, 0, Qos::ExactlyOnce)],
        onward: Some(onward),
    });
    check(
        &record,
        0x86,
        &[
            // 1024 ms since 1970
            b"\x0e\x03a/b\x03pub\x80\x08\x02\x01\x01\x02hi",
            &[0x08, 3],
            &[0x00, 16, 80],
            &[0x1f, 4, 1, 2, 0x01, 0x80, 0x01, 10],
            b"$share/g/a",
            &[0x01, 1, 77],
            &[4, 2],
            &[1, 0x01, 1, 10],
            b"$share/g/a",
            &[2, 0x02, 0],
        ],
    );
}

#[test]
fn small_records() {
    let session = SessionNumber(0x80);
    check(&Record::Received { session, id: id(1) }, 0x87, &[&[0x80, 0x01, 1]]);
    check(&Record::Released { session, id: id(65_535) }, 0x88, &[&[0x80, 1, 0xff, 0xff, 0x03]]);
    check(&Record::Owned { session, sequence: 0 }, 0x89, &[&[0x80, 0x01, 0]]);
    check(&Record::Done { session, sequence: 9, more: 0 }, 0x8a, &[&[0x80, 0x01, 9]]);
    let many = Record::Done { session, sequence: 9, more: 300 };
    check(&many, 0x8f, &[&[0x80, 0x01, 9, 0xac, 0x02]]);
    check(&Record::RetainDeleted { topic: Arc::from("a/b") }, 0x8b, &[b"\x03a/b"]);
    check(&Record::Applied { origin: 1, exchange: 2 }, 0x8c, &[&[1, 2]]);
    check(&Record::Settled { exchange: 2, shard: 1 }, 0x8d, &[&[2, 1]]);
    check(&Record::Clock { wall_ms: 300 }, 0x0e, &[&[0xac, 0x02]]);
}

#[test]
fn a_message_is_read_back_alone() {
    let body = [MESSAGE, &[0, 0]].concat();
    assert_eq!(decode_message(0x86, &body, WALL), Ok(message(None)));
    let fault = decode_message(0x83, &body, WALL).expect_err("a will is no Publish");
    assert_eq!(fault.to_string(), "byte 0 of the record: type 0x83 is not known to this version");
}
