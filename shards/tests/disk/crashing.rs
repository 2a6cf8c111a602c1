//! A process that appends is killed, or fails at a named point; afterwards everything it had
//! reported durable is there.
//!
//! The process is this test again, alone, told by its environment what to do. It prints a line for
//! each report; a line that was printed is a promise. Named points need a
//! debug build or the feature `failpoints`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use shards::EngineError;
use shards::log::{Lsn, Mode, Refused};

use crate::rig::{Act, Seen, TestIo, read, small, start};

/// The data directory of the process that is to be killed.
const DIRECTORY: &str = "SHARDS_TEST_DIRECTORY";
const IO_ERROR: i32 = 74;

/// Appends for ever, a few records at a time, and says what is durable.
struct Endless;

impl Act for Endless {
    fn start(&mut self, io: &mut TestIo, seen: &Sender<Seen>) {
        self.durable(io, Lsn(0), seen);
    }

    fn durable(&mut self, io: &mut TestIo, lsn: Lsn, _: &Sender<Seen>) {
        // One write: a line is there whole or not at all.
        let line = format!("{} {}\n", io.shard(), lsn.0);
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        let log = io.log().unwrap();
        for _ in 0..5 {
            let number = log.next_lsn().0;
            let more = usize::from(number.is_multiple_of(101)) * 200_000;
            let mut body = number.to_le_bytes().to_vec();
            body.resize(500 + more, 0xab);
            // Not kept waiting for a segment: what is refused here is not tried again.
            match log.append_urgent(3, &body) {
                Ok(_) | Err(Refused::Full | Refused::Closing) => {}
                Err(refused) => panic!("{refused}"),
            }
        }
        let segments: Vec<u64> = log.segments().map(|segment| segment.number).collect();
        if let [.., first, _, _] = segments.as_slice() {
            log.release_before(*first);
        }
    }
}

/// The process that is to be killed; in the suite it does nothing.
#[test]
fn child() {
    let Ok(path) = std::env::var(DIRECTORY) else { return };
    let rig = start(Path::new(&path), 2, &small(), |_| Endless);
    if let Err(EngineError::Log { failure, .. }) = rig.end() {
        eprintln!("{failure}");
        std::process::exit(IO_ERROR);
    }
}

fn spawn(path: &Path, failpoints: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "crashing::child"])
        .env(DIRECTORY, path)
        .env("CULEX_FAILPOINTS", failpoints)
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the process has promised for each shard; it is killed after so many lines, or ends.
fn run(path: &Path, failpoints: &str, lines_max: usize) -> ([Lsn; 2], ExitStatus) {
    let mut child = spawn(path, failpoints);
    let mut promised = [Lsn(0); 2];
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut count = 0;
    for line in lines.map_while(Result::ok) {
        let mut numbers = line.split(' ').map(str::parse::<u64>);
        let (Some(Ok(shard)), Some(Ok(lsn)), None) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            continue;
        };
        promised[usize::try_from(shard).unwrap()] = Lsn(lsn);
        count += 1;
        if count == lines_max {
            child.kill().unwrap();
        }
    }
    (promised, child.wait().unwrap())
}

/// Everything up to the promised number is there, but for the oldest, which was released; and it is
/// what was appended.
fn check(path: &Path, promised: [Lsn; 2], what: &str) {
    let records = read(path, 2, Mode::Strict).unwrap_or_else(|error| panic!("{what}: {error}"));
    for (records, promised) in records.iter().zip(promised) {
        let last = records.last().map_or(Lsn(0), |(lsn, ..)| *lsn);
        assert!(last >= promised, "{what}: {last:?} of {promised:?}");
        for pair in records.windows(2) {
            let (before, after) = (pair[0].0, pair[1].0);
            // Between two openings numbers are left out.
            let follows = after.0 == before.0 + 1 || after.0 >= before.0 + (1 << 20);
            assert!(follows, "{what}: {after:?} after {before:?}");
        }
        for (lsn, kind, body) in records {
            assert_eq!((*kind, &body[..8]), (3, lsn.0.to_le_bytes().as_slice()), "{what}");
            assert!(body[8..].iter().all(|byte| *byte == 0xab), "{what}: {lsn:?}");
        }
    }
}

#[test]
fn what_was_reported_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let (promised, status) = run(directory.path(), "", 50 + 150 * round);
        assert_eq!(status.code(), None, "killed");
        check(directory.path(), promised, "kill -9");
    }
}

#[cfg(any(feature = "failpoints", debug_assertions))]
mod failpoints {
    use super::*;

    use std::os::unix::process::ExitStatusExt;

    const SIGABRT: i32 = 6;
    const LINES_MAX: usize = 3_000;

    /// Each opening of the two logs passes the points of an opening twice.
    fn crash(points: &[&str], hits: u32) {
        for point in points {
            let directory = tempfile::tempdir().unwrap();
            for hit in 1..=hits {
                let failpoints = format!("{point}=crash@{hit}");
                let (promised, status) = run(directory.path(), &failpoints, LINES_MAX);
                assert_eq!(status.signal(), Some(SIGABRT), "{failpoints}");
                check(directory.path(), promised, &failpoints);
            }
            let (promised, _) = run(directory.path(), "", 100);
            check(directory.path(), promised, point);
        }
    }

    #[test]
    fn crash_while_committing() {
        crash(&["log.write", "log.write.done", "log.sync", "log.sync.done"], 9);
    }

    #[test]
    fn crash_while_opening() {
        crash(&["ring.write", "ring.sync.done", "manifest.write", "manifest.sync"], 2);
        crash(&["manifest.sync.done", "log.header", "log.header.done"], 2);
    }

    #[test]
    fn crash_while_making_segments() {
        crash(&["draft.create.done", "draft.write.done", "draft.sync", "draft.rename"], 3);
        crash(&["draft.rename.done", "directory.sync", "directory.sync.done"], 3);
    }

    #[test]
    fn crash_while_marking_and_releasing() {
        crash(&["mark.write", "mark.write.done", "release.remove", "release.remove.done"], 3);
    }

    #[test]
    fn first_error_ends_all_shards() {
        let points =
            ["log.write@9", "log.sync@9", "log.header@4", "mark.write@4", "manifest.write@3"];
        for point in points {
            let (name, hit) = point.split_once('@').unwrap();
            for errno in ["eio", "enospc"] {
                let directory = tempfile::tempdir().unwrap();
                let failpoints = format!("{name}={errno}@{hit}");
                let (promised, status) = run(directory.path(), &failpoints, LINES_MAX);
                assert_eq!(status.code(), Some(IO_ERROR), "{failpoints}");
                check(directory.path(), promised, &failpoints);
            }
        }
    }

    #[test]
    fn file_system_without_direct_io_will_do() {
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            let (promised, status) = run(directory.path(), "probe=einval", 300);
            assert_eq!(status.code(), None, "killed");
            check(directory.path(), promised, "without direct I/O");
        }
    }

    #[test]
    fn end_of_the_log_is_written_anew_without_direct_io() {
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let directory = tempfile::tempdir().unwrap();
        let (promised, _) = run(directory.path(), "probe=einval", 2);
        let files = std::fs::read_dir(directory.path().join("shard-0000")).unwrap();
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| file.extension().is_none_or(|one| one != "tmp"));
        files.sort();
        let begun =
            |file: &&std::path::PathBuf| std::fs::read(file).unwrap().iter().any(|b| *b > 0);
        let last = files.iter().rfind(begun).unwrap().clone();
        let believed = [last, files[0].clone(), files[1].clone()];
        let before = believed.each_ref().map(|file| inode(file));
        run(directory.path(), "probe=einval", 1);
        let after = believed.each_ref().map(|file| inode(file));
        for (file, (before, after)) in believed.iter().zip(before.into_iter().zip(after)) {
            assert!(before != after, "{}", file.display());
        }
        check(directory.path(), promised, "without direct I/O");
    }

    #[test]
    fn a_draft_of_a_start_that_ended_does_not_stop_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let (promised, _) = run(directory.path(), "probe=einval", 2);
        // Three files are written anew for each of the two logs.
        for hit in 1..=6 {
            let failpoints = format!("probe=einval;file.rename=crash@{hit}");
            let (_, status) = run(directory.path(), &failpoints, LINES_MAX);
            assert_eq!(status.signal(), Some(SIGABRT), "{failpoints}");
        }
        let (_, status) = run(directory.path(), "probe=einval", 1);
        assert_eq!(status.code(), None, "killed after it had started");
        check(directory.path(), promised, "drafts");
    }

    #[test]
    fn short_writes_and_failing_preparations_are_overcome() {
        for failpoints in [
            "log.write=short",
            "draft.write=short@5",
            "draft.write=enospc@30",
            "log.sync=delay(20)@5",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (promised, status) = run(directory.path(), failpoints, 600);
            assert_eq!(status.code(), None, "{failpoints}: killed");
            check(directory.path(), promised, failpoints);
        }
    }
}
