//! A damaged data directory: refused in words, and what `--recover` goes on with.

use crate::harness::culex;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A broker with a data directory; killed when it goes.
struct Server {
    child: Child,
    port: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.child.kill().and_then(|()| self.child.wait());
        assert!(ended.is_ok(), "a broker that runs can be killed");
    }
}

/// `culex serve` with one shard on the directory.
fn command(data: &Path, more: &[&str]) -> Command {
    let mut command = culex(&["serve", "-p", "0", "--shards", "1", "--data-dir"]);
    command.arg(data).args(more);
    command
}

/// Starts a broker and waits until it listens.
fn serve(data: &Path, more: &[&str]) -> Server {
    let mut child = command(data, more).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("listening")));
    // Whoever does not read the log lets the broker wait.
    std::thread::spawn(move || lines.for_each(drop));
    let port = line.as_deref().and_then(|line| line.rsplit(':').next()).map(str::to_owned);
    Server { child, port: port.expect("the line names the address") }
}

/// Runs `culex serve`, which has to end by itself, and gives its status and words.
fn refused(data: &Path) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command(data, &[]).output().expect("it starts");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// Exit status of a client.
fn client(server: &Server, arguments: &[&str]) -> Option<i32> {
    let output = culex(&[arguments, &["-p", &server.port]].concat()).output();
    output.expect("it starts").status.code()
}

fn first_segment(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("shard-0000")).expect("the shard has a directory");
    let paths = entries.flatten().map(|entry| entry.path());
    let segments = paths.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.min().expect("the log has a segment")
}

#[test]
fn damage_is_refused_in_words_and_accepted_on_demand() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = serve(&data, &[]);
    client(&server, &["sub", "-i", "s", "-c", "-q", "1", "-t", "a", "-W", "1"]);
    assert_eq!(client(&server, &["pub", "-q", "1", "-t", "a", "-m", "kept"]), Some(0));
    drop(server);
    // The first batch of the log with records.
    let segment = OpenOptions::new().write(true).open(first_segment(&data)).unwrap();
    segment.write_all_at(b"rotten", 8192 + 200).unwrap();

    let (status, text) = refused(&data);
    assert_eq!(status, Some(65), "{text}");
    assert!(text.contains("0x2000") && text.contains("--recover"), "{text}");
    let verified = culex(&["log", "verify"]).arg(&data).output().unwrap();
    assert_eq!(verified.status.code(), Some(65));

    let server = serve(&data, &["--recover", "salvage"]);
    assert_eq!(client(&server, &["pub", "-q", "1", "-t", "a", "-m", "new"]), Some(0));
    drop(server);
    // What was accepted once is not asked again.
    drop(serve(&data, &[]));
}

#[test]
fn what_a_start_found_is_in_the_audit_log() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let audit = directory.path().join("audit");
    let config = directory.path().join("culex.toml");
    fs::write(&config, format!("[log]\naudit_file = {audit:?}\n")).unwrap();
    let with_audit = ["-c", config.to_str().unwrap()];
    let server = serve(&data, &with_audit);
    client(&server, &["sub", "-i", "s", "-c", "-q", "1", "-t", "a", "-W", "1"]);
    assert_eq!(client(&server, &["pub", "-r", "-q", "1", "-t", "a", "-m", "kept"]), Some(0));
    drop(server);
    drop(serve(&data, &with_audit));
    let text = fs::read_to_string(&audit).unwrap();
    let found: Vec<&str> = text.lines().filter(|line| line.contains("\"recovery\"")).collect();
    let [empty, full] = found[..] else { panic!("two starts of one shard: {text}") };
    for (line, sessions, retained) in [(empty, 0, 0), (full, 1, 1)] {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = [("sessions", sessions), ("retained", retained), ("lost", 0)];
        for (key, number) in expected {
            assert_eq!(object[key], number, "{key}: {line}");
        }
    }
}

#[test]
fn a_directory_has_one_broker() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let _first = serve(&data, &[]);
    let (status, text) = refused(&data);
    assert_eq!(status, Some(73), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_directory_that_cannot_be_made_is_refused_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (status, text) = refused(&file.join("data"));
    assert_eq!(status, Some(73), "{text}");
    assert!(text.contains("cannot create data directory"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}
