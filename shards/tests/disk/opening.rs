//! What a directory must be before it is used.

use std::fs;
use std::path::Path;

use shards::disk::{Directory, DirectoryError};
use shards::log::{File, Mode};

use crate::rig::{Act, TestIo, read, small, start};

/// Appends three records at the start.
struct Three;

impl Act for Three {
    fn start(&mut self, io: &mut TestIo, _: &std::sync::mpsc::Sender<crate::rig::Seen>) {
        for body in [b"one".as_slice(), b"two", b"three"] {
            io.log().unwrap().append(1, body).unwrap();
        }
    }
}

fn filled(path: &Path, shards: u16) {
    let rig = start(path, shards, &small(), |_| Three);
    rig.stop();
}

#[test]
fn identity_is_the_same_at_every_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a/b");
    let first = *Directory::open(&path, 2).unwrap().broker();
    let second = *Directory::open(&path, 2).unwrap().broker();
    assert_eq!(first, second);
    let other = tempfile::tempdir().unwrap();
    assert_ne!(first, *Directory::open(other.path(), 2).unwrap().broker());
}

#[test]
fn second_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Directory::open(directory.path(), 1).unwrap();
    let error = Directory::open(directory.path(), 1).unwrap_err();
    assert_eq!(error.exit_status(), 73);
    let (path, pid) = (directory.path().display(), std::process::id());
    let told = format!("data directory {path} is in use by another process (pid {pid})");
    assert_eq!(error.to_string(), told);
}

#[test]
fn lock_is_held_as_long_as_the_engine_runs() {
    let directory = tempfile::tempdir().unwrap();
    let rig = start(directory.path(), 1, &small(), |_| Three);
    let error = Directory::open(directory.path(), 1).unwrap_err();
    assert!(matches!(error, DirectoryError::InUse { .. }), "{error}");
    rig.stop();
    assert_eq!(read(directory.path(), 1, Mode::Strict).unwrap()[0].len(), 3);
}

#[test]
fn other_number_of_shards_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 2);
    for wanted in [1, 3] {
        let error = Directory::open(directory.path(), wanted).unwrap_err();
        assert_eq!(error.exit_status(), 78, "{error}");
        assert!(error.to_string().contains("written with 2 shards"), "{error}");
    }
    assert_eq!(read(directory.path(), 2, Mode::Strict).unwrap()[1].len(), 3);
}

#[test]
fn lost_shard_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 2);
    let lost = directory.path().join("shard-0001");
    fs::remove_dir_all(&lost).unwrap();
    for _ in 0..2 {
        let error = Directory::open(directory.path(), 2).unwrap_err();
        assert_eq!(error.exit_status(), 65, "{error}");
        assert!(error.to_string().contains("shard-0001"), "{error}");
        let _ = fs::create_dir(&lost);
    }
}

#[test]
fn damaged_or_lost_broker_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let path = directory.path().join("broker");
    let mut bytes = fs::read(&path).unwrap();
    bytes[20] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Directory::open(directory.path(), 1).unwrap_err().exit_status(), 65);
    fs::remove_file(&path).unwrap();
    assert_eq!(Directory::open(directory.path(), 1).unwrap_err().exit_status(), 65);
}

#[test]
fn damage_is_refused_and_can_be_accepted() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 1);
    let path = directory.path().join("shard-0000").join(File::Segment(1).to_string());
    let mut bytes = fs::read(&path).unwrap();
    // The first batch with records follows the header and the marker.
    bytes[0x2050] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = read(directory.path(), 1, Mode::Strict).unwrap_err();
    assert_eq!(error.exit_status(), 65);
    let text = error.to_string();
    assert!(text.contains("wal-0000000000000001.seg at byte 0x2000"), "{text}");
    assert!(text.contains("records 1 to 3"), "{text}");
    assert_eq!(read(directory.path(), 1, Mode::Salvage).unwrap()[0].len(), 0);
}

#[test]
fn a_lost_manifest_does_not_change_the_number_of_shards() {
    let directory = tempfile::tempdir().unwrap();
    filled(directory.path(), 2);
    fs::remove_file(directory.path().join("shard-0000").join(File::Manifest.to_string())).unwrap();
    assert_eq!(read(directory.path(), 2, Mode::Strict).unwrap_err().exit_status(), 65);
    let opened = Directory::open(directory.path(), 2).unwrap();
    for shard in 0..2 {
        let recovery = opened.recover(shard, Mode::Salvage, &mut |_| {}).unwrap();
        recovery.begin(&small()).unwrap();
    }
    drop(opened);
    let records = read(directory.path(), 2, Mode::Strict).unwrap();
    assert_eq!(records.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn file_in_the_way_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "x").unwrap();
    let error = Directory::open(&path.join("data"), 1).unwrap_err();
    assert_eq!(error.exit_status(), 73);
    let told = format!("cannot create data directory {}: ", path.join("data").display());
    assert!(error.to_string().starts_with(&told), "{error}");
}
