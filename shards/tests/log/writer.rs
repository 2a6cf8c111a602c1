//! Group commit, step by step: what is asked of the disk, and when.

use shards::log::Urgency::Usual;
use shards::log::{Action, File, Lane, Log, Lsn, Manifest, Operation, Outcome, Refused, Resume};
use shards::log::{RECORD_BYTES_MAX, Settings};

use crate::rig::IDENTITY;

fn settings() -> Settings {
    Settings {
        segment_bytes: 0x8000,
        batch_bytes_max: 0x2000,
        pending_bytes_max: 0x6000,
        spares: 1,
        ..Settings::new(IDENTITY)
    }
}

fn outcome(action: &Action) -> Outcome {
    match action {
        Action::Write(write) => Outcome::Wrote(write.bytes().len()),
        Action::Sync(_)
        | Action::Create(_)
        | Action::Rename(..)
        | Action::SyncDirectory
        | Action::Remove(_) => Outcome::Done,
    }
}

fn settle(log: &mut Log) {
    while let Some(operation) = log.next() {
        let outcome = outcome(&operation.action);
        log.complete(operation, outcome);
    }
}

fn opened() -> Log {
    let settings = settings();
    let manifest = Manifest::fresh(1, settings.segment_blocks());
    let mut log = Log::open(settings, &Resume::fresh(manifest), 77);
    assert!(!log.is_open());
    settle(&mut log);
    assert!(log.is_open());
    log
}

fn commit(log: &mut Log) -> Operation {
    loop {
        let operation = log.next().expect("the commit lane has something to do");
        if operation.lane == Lane::Commit {
            return operation;
        }
        let outcome = outcome(&operation.action);
        log.complete(operation, outcome);
    }
}

#[test]
fn records_share_one_write_and_one_sync() {
    let mut log = opened();
    log.append(1, b"first", Usual).unwrap();
    settle(&mut log);
    let lsns: Vec<Lsn> = (0..3).map(|_| log.append(1, b"record", Usual).unwrap().lsn).collect();
    assert_eq!(lsns, [Lsn(2), Lsn(3), Lsn(4)]);
    let write = commit(&mut log);
    assert!(matches!(&write.action, Action::Write(write) if write.file == File::Segment(1)));
    // While the window is in flight the next batch fills, and nothing of it is written.
    log.append(1, b"later", Usual).unwrap();
    let mark = log.next().unwrap();
    assert_eq!(mark.lane, Lane::Mark, "the ring catches up beside the window");
    assert!(log.next().is_none());
    log.complete(write, Outcome::Wrote(0x1000));
    let sync = commit(&mut log);
    assert!(matches!(sync.action, Action::Sync(File::Segment(1))));
    assert!(log.next().is_none(), "no write while a sync is in flight");
    assert_eq!(log.durable(), Lsn(1));
    log.complete(sync, Outcome::Done);
    assert_eq!(log.durable(), Lsn(4));
    settle(&mut log);
    assert_eq!(log.durable(), Lsn(5));
}

#[test]
fn short_write_goes_on_at_a_whole_block() {
    let mut log = opened();
    log.append(1, &[1; 6000], Usual).unwrap();
    let write = commit(&mut log);
    log.complete(write, Outcome::Wrote(0x1200));
    let rest = commit(&mut log);
    let Action::Write(write) = &rest.action else { panic!("{rest:?}") };
    assert_eq!((write.offset(), write.bytes().len()), (0x3000, 0x1000));
    log.complete(rest, Outcome::Wrote(0x1000));
    settle(&mut log);
    assert_eq!(log.durable(), Lsn(1));
}

#[test]
fn write_without_progress_ends_the_log() {
    for (bytes, attempts) in [(0, 1), (0x200, 3)] {
        let mut log = opened();
        log.append(1, b"record", Usual).unwrap();
        for _ in 0..attempts {
            assert_eq!(log.failure(), None);
            let write = commit(&mut log);
            log.complete(write, Outcome::Wrote(bytes));
        }
        assert_eq!(log.failure().unwrap().file, Some(File::Segment(1)));
        assert!(log.next().is_none());
    }
}

#[test]
fn failed_sync_is_final() {
    let mut log = opened();
    log.append(1, b"first", Usual).unwrap();
    settle(&mut log);
    log.append(1, b"record", Usual).unwrap();
    let write = commit(&mut log);
    let mark = log.next().unwrap();
    log.complete(write, Outcome::Wrote(0x1000));
    let sync = commit(&mut log);
    log.complete(sync, Outcome::Failed(5));
    assert_eq!(log.failure().unwrap().errno, Some(5));
    assert_eq!(log.append(1, b"more", Usual), Err(Refused::Failed));
    log.complete(mark, Outcome::Wrote(0x1000));
    assert!(log.next().is_none(), "never tried again");
    assert!(log.idle().is_none());
    assert_eq!(log.durable(), Lsn(1));
}

#[test]
fn waiting_bytes_are_limited() {
    let mut log = opened();
    let mut taken = 0;
    while log.append(1, &[0; 1000], Usual).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 0x6000 / 1007);
    assert_eq!(log.append(1, &[0; 1000], Usual), Err(Refused::Full));
    settle(&mut log);
    assert_eq!((log.durable(), log.pending_bytes()), (Lsn(taken), 0));
    // One record may be longer than all that may wait, and than a segment.
    log.append(1, &vec![9; 0x10000], Usual).unwrap();
    settle(&mut log);
    assert_eq!(log.durable(), Lsn(taken + 1));
    assert_eq!(log.append(1, &vec![0; RECORD_BYTES_MAX + 1], Usual), Err(Refused::TooLong));
}

#[test]
fn full_disk_waits_for_space() {
    let mut log = opened();
    let mut full = true;
    for round in 0..40 {
        let _ = log.append(1, &[0; 4000], Usual);
        while let Some(operation) = log.next() {
            let creates = matches!(operation.action, Action::Create(_));
            let outcome =
                if creates && full { Outcome::Failed(28) } else { outcome(&operation.action) };
            log.complete(operation, outcome);
        }
        assert_eq!(log.failure(), None);
        if round == 30 {
            assert_eq!(log.prepare_error(), Some(28));
            assert_eq!(log.append(1, &[0; 8000], Usual), Err(Refused::Full));
            full = false;
            log.retry_preparation();
        }
    }
    assert_eq!(log.pending_bytes(), 0);
}

#[test]
fn closing_makes_all_durable() {
    let mut log = opened();
    log.append(1, b"record", Usual).unwrap();
    log.close();
    assert_eq!(log.append(1, b"more", Usual), Err(Refused::Closing));
    settle(&mut log);
    assert!(log.is_closed());
    assert_eq!(log.durable(), Lsn(1));
}
