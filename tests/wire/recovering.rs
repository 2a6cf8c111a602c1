//! A damaged data directory: refused in words, and what `--recover` goes on with.

use crate::harness::culex;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// Starts a broker of one shard on the directory and waits until it listens; gives its port.
fn serve(data: &Path, more: &[&str]) -> (Child, String) {
    let all = [
        "serve",
        "-p",
        "0",
        "--shards",
        "1",
        "--data-dir",
        data.to_str().expect("a path of letters"),
    ];
    let mut child =
        culex(&[&all, more].concat()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let line = lines
        .find_map(|line| line.ok().filter(|line| line.contains("listening")))
        .expect("works on a directory of our own");
    // Whoever does not read the log lets the broker wait.
    std::thread::spawn(move || lines.for_each(drop));
    (child, line.rsplit(':').next().expect("works on a directory of our own").to_owned())
}

fn client(port: &str, arguments: &[&str]) -> String {
    let output = culex(&[arguments, &["-p", port]].concat())
        .output()
        .expect("works on a directory of our own");
    String::from_utf8(output.stdout).expect("works on a directory of our own")
}

fn first_segment(data: &Path) -> PathBuf {
    let entries = fs::read_dir(data.join("shard-0000")).expect("works on a directory of our own");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("works on a directory of our own").path()).collect();
    names.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    names.sort();
    names.remove(0)
}

#[test]
fn damage_is_refused_in_words_and_accepted_on_demand() {
    let directory = tempfile::tempdir().expect("works on a directory of our own");
    let data = directory.path().join("data");
    let (mut broker, port) = serve(&data, &[]);
    client(&port, &["sub", "-i", "s", "-c", "-q", "1", "-t", "a", "-W", "1"]);
    client(&port, &["pub", "-q", "1", "-t", "a", "-m", "kept"]);
    broker.kill().expect("works on a directory of our own");
    broker.wait().expect("works on a directory of our own");
    // The first batch of the log with records.
    let segment = OpenOptions::new()
        .write(true)
        .open(first_segment(&data))
        .expect("works on a directory of our own");
    segment.write_all_at(b"rotten", 8192 + 200).expect("works on a directory of our own");

    let arguments = [
        "serve",
        "-p",
        "0",
        "--shards",
        "1",
        "--data-dir",
        data.to_str().expect("a path of letters"),
    ];
    let refused = culex(&arguments).output().expect("works on a directory of our own");
    let text = String::from_utf8(refused.stderr).expect("works on a directory of our own");
    assert_eq!(refused.status.code(), Some(65), "{text}");
    assert!(text.contains("0x2000") && text.contains("--recover"), "{text}");
    let verified = culex(&["log", "verify", data.to_str().expect("a path of letters")])
        .output()
        .expect("works on a directory of our own");
    assert_eq!(verified.status.code(), Some(65));

    let (mut broker, port) = serve(&data, &["--recover", "salvage"]);
    client(&port, &["pub", "-q", "1", "-t", "a", "-m", "new"]);
    broker.kill().expect("works on a directory of our own");
    broker.wait().expect("works on a directory of our own");
    // What was accepted once is not asked again.
    let (mut broker, _port) = serve(&data, &[]);
    broker.kill().expect("works on a directory of our own");
    broker.wait().expect("works on a directory of our own");
}

#[test]
fn a_directory_has_one_broker() {
    let directory = tempfile::tempdir().expect("works on a directory of our own");
    let data = directory.path().join("data");
    let (mut broker, _port) = serve(&data, &[]);
    let arguments = [
        "serve",
        "-p",
        "0",
        "--shards",
        "1",
        "--data-dir",
        data.to_str().expect("a path of letters"),
    ];
    let second = culex(&arguments).output().expect("works on a directory of our own");
    let text = String::from_utf8(second.stderr).expect("works on a directory of our own");
    assert_eq!(second.status.code(), Some(73), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    broker.kill().expect("works on a directory of our own");
    broker.wait().expect("works on a directory of our own");
}
