//! Real directories, written as a broker does.

use super::*;
use crate::codec::Qos;
use crate::session::{ClientId, Message};
use crate::store::encode;
use crate::store::{Entry, Publish, Record as StoreRecord, SessionHead, SessionNumber, Source};
use bytes::Bytes;
use serde_json::{Value, json};
use shards::disk::{Directory, OfflineLog, Settings};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn head(session: u64, client: &str) -> StoreRecord {
    StoreRecord::Session(SessionHead {
        session: SessionNumber(session),
        client: ClientId::new(client),
        user: Some(Arc::from("u")),
        users: None,
        expiry_s: u32::MAX,
        offline_since_ms: None,
        next_sequence: 0,
    })
}

fn publish(session: u64, payload: &'static str) -> StoreRecord {
    let parts = ("a b", Bytes::from_static(payload.as_bytes()), &[][..]);
    let terms = (Qos::AtLeastOnce, false, None);
    let entry = Entry {
        session: SessionNumber(session),
        sequence: 0,
        qos: Qos::AtLeastOnce,
        retain: false,
        sent: false,
        identifiers: Box::from([7]),
        share: None,
    };
    StoreRecord::Publish(Publish {
        message: Arc::new(Message::from_parts(parts, terms, ClientId::new("p"))),
        from: Source::Plain,
        retained: true,
        entries: vec![entry],
        onward: None,
    })
}

/// Appends to the logs of a directory with so many shards, and ends in order.
fn write(path: &Path, logs: &[&[StoreRecord]]) {
    let shards = u16::try_from(logs.len()).expect("few");
    let directory = Directory::open(path, shards).expect("a directory");
    for (shard, records) in (0..).zip(logs) {
        let recovery = directory.recover(shard, Mode::Strict, &mut |_| {}).expect("whole");
        let settings =
            Settings { segment_bytes: 1 << 20, batch_bytes_max: 1 << 16, ..Settings::default() };
        let mut log = OfflineLog::from(recovery.begin(&settings).expect("a log"));
        for record in *records {
            let mut body = Vec::new();
            let kind = encode(record, WALL, &mut body);
            log.append(kind, &body).expect("room");
        }
        log.close().expect("an end");
    }
}

fn dumped(path: &Path, mode: Mode, json: bool) -> (String, Result<(), Failure>) {
    let mut out = Vec::new();
    let printer = Printer { out: &mut out, json, payloads: json, faults: 0 };
    let done = dump(path, None, mode, printer);
    (String::from_utf8(out).expect("text"), done)
}

fn verified(path: &Path) -> (String, Result<(), Failure>) {
    let mut out = Vec::new();
    let done = verify(path, &mut out);
    (String::from_utf8(out).expect("text"), done)
}

fn first_segment(path: &Path) -> PathBuf {
    path.join("shard-0000").join("wal-0000000000000001.seg")
}

/// Changes the last byte of the text in the file.
fn rot(file: &Path, text: &str) {
    let mut bytes = fs::read(file).expect("a file");
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes());
    bytes[at.expect("it is there") + text.len() - 1] ^= 1;
    fs::write(file, bytes).expect("it can be written");
}

#[test]
fn records_are_printed_line_by_line() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    write(path, &[&[head(0, "c"), publish(0, "hello")], &[StoreRecord::Clock { wall_ms: 5 }]]);
    let (text, done) = dumped(path, Mode::Strict, false);
    assert_eq!(done, Ok(()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            concat!(
                r#"shard=0 lsn=1 session session=0 client="c" user="u" expiry_s="never" "#,
                "next_sequence=0",
            ),
            concat!(
                r#"shard=0 lsn=2 publish topic="a b" publisher="p" qos=1 payload_bytes=5 "#,
                r#"retained=true to=[{session=0 sequence=0 qos=1 identifiers=[7]}]"#,
            ),
            "shard=1 lsn=1 clock wall_ms=5",
        ]
    );
    let (text, _) = dumped(path, Mode::Strict, true);
    let json: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json[1]["payload"], "hello");
    assert_eq!(json[1]["to"][0]["identifiers"][0], 7);
    assert_eq!((&json[2]["shard"], &json[2]["record"]), (&json!(1), &json!("clock")));
}

#[test]
fn a_segment_is_printed_without_its_log() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    write(path, &[&[head(0, "c")]]);
    let moved = path.join("somewhere");
    fs::rename(first_segment(path), &moved).expect("it is there");
    let (text, done) = dumped(&moved, Mode::Strict, false);
    assert_eq!((text.lines().count(), done), (1, Ok(())), "{text}");
    fs::write(&moved, b"no segment").expect("it can be written");
    let (_, done) = dumped(&moved, Mode::Strict, false);
    assert!(done.expect_err("no segment").message.starts_with("cannot read "));
}

#[test]
fn whole_logs_are_verified() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    write(path, &[&[head(0, "c"), publish(0, "hello")], &[]]);
    write(path, &[&[head(1, "d")], &[]]);
    let (text, done) = verified(path);
    assert_eq!(done, Ok(()), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("3 records (1 to 1048"), "{text}");
    assert!(lines[0].ends_with("2 sessions, 1 messages waiting, 1 retained"), "{text}");
    assert!(lines[1].starts_with("shard 1: clean, "), "{text}");
}

#[test]
fn damage_is_reported_with_status_65() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    write(path, &[&[head(0, "c"), publish(0, "hello")], &[head(0, "e")]]);
    write(path, &[&[head(1, "d")], &[]]);
    rot(&first_segment(path), "hello");
    let (text, done) = verified(path);
    assert!(text.starts_with("shard 0: damaged: "), "{text}");
    assert!(text.contains("\nshard 1: clean, "), "{text}");
    let failure = done.expect_err("damage");
    assert_eq!((failure.status, &*failure.message), (65, "1 of 2 shards are damaged"));
    let (text, done) = dumped(path, Mode::Strict, false);
    assert_eq!(done.expect_err("damage").status, 65);
    assert!(text.contains(r#"client="e""#) && !text.contains(r#"client="d""#), "{text}");
    let (text, done) = dumped(path, Mode::Salvage, false);
    assert_eq!(done.expect_err("a gap").status, 65);
    assert!(text.contains(r#"client="d""#), "{text}");
}

#[test]
fn records_that_no_writer_wrote_are_damage() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    // A delivery to a session that never began.
    write(path, &[&[publish(3, "hello")]]);
    let (text, done) = verified(path);
    assert!(text.contains("1 sessions without a beginning"), "{text}");
    assert_eq!(done.expect_err("damage").status, 65);
}

#[test]
fn a_directory_in_use_and_a_missing_shard_are_refused() {
    let temporary = tempfile::tempdir().expect("a directory");
    let path = temporary.path();
    write(path, &[&[head(0, "c")], &[]]);
    let directory = Directory::open(path, 2).expect("it is free");
    let (_, done) = verified(path);
    let failure = done.expect_err("it is in use");
    assert_eq!(failure.status, 73);
    assert!(failure.message.contains("in use by another process (pid"), "{}", failure.message);
    drop(directory);
    fs::remove_dir_all(path.join("shard-0001")).expect("it is there");
    let (text, done) = verified(path);
    assert!(text.contains("shard 1: damaged: ") && text.contains("missing"), "{text}");
    assert_eq!(done.expect_err("damage").status, 65);
    let nowhere = path.join("nowhere");
    assert_eq!(verified(&nowhere).1.expect_err("nothing there").status, 73);
}
