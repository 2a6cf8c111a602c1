//! The broker under test: started on a free port, stopped by SIGTERM.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// A running `culex serve`; killed if the test ends without [`Broker::stop`].
pub(crate) struct Broker {
    child: Child,
    addresses: Vec<String>,
    /// Lines of its log that nobody has read yet; disconnected when it has ended.
    log: Receiver<String>,
    seen: Vec<String>,
    _data: tempfile::TempDir,
}

impl Broker {
    /// Starts it and waits until it listens.
    pub(crate) fn start(shards: usize) -> Self {
        Self::start_with(shards, "[[listener]]\naddress = '127.0.0.1:0'\n")
    }

    /// Starts it with this configuration and waits until all its listeners listen.
    pub(crate) fn start_with(shards: usize, config: &str) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory can be made");
        let file = data.path().join("culex.toml");
        std::fs::write(&file, config).expect("the directory can be written to");
        let mut child = Command::new(env!("CARGO_BIN_EXE_culex"))
            .args(["serve", "--shards", &shards.to_string(), "--data-dir"])
            .arg(data.path().join("data"))
            .arg("-c")
            .arg(&file)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built can be started");
        let stderr = child.stderr.take().expect("it is piped");
        let (lines, log) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody listens any more once the test is over.
                let _ = lines.send(line);
            }
        });
        let mut broker = Self { child, addresses: Vec::new(), log, seen: Vec::new(), _data: data };
        broker.wait_for_addresses(config.matches("[[listener]]").count());
        broker
    }

    /// `HOST:PORT` of a listener, by its place in the configuration.
    pub(crate) fn address(&self, listener: usize) -> &str {
        self.addresses.get(listener).expect("a listener of the configuration")
    }

    /// Asks it to stop and checks that it does so cleanly.
    pub(crate) fn stop(mut self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().expect("kill exists");
        assert!(asked.success(), "the broker is gone already:\n{}", self.log_text());
        loop {
            match self.log.recv_timeout(STOP_DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("no stop after SIGTERM: {:?}", self.seen),
            }
        }
        let status = self.child.wait().expect("it is our child");
        assert!(status.success(), "the broker ended with {status}:\n{}", self.log_text());
    }

    fn wait_for_addresses(&mut self, count: usize) {
        while self.addresses.len() < count {
            let Ok(line) = self.log.recv_timeout(START_DEADLINE) else {
                panic!("the broker does not listen:\n{}", self.log_text());
            };
            self.addresses.extend(listening_address(&line).map(str::to_owned));
            self.seen.push(line);
        }
    }

    fn log_text(&mut self) -> String {
        self.seen.extend(self.log.try_iter());
        self.seen.join("\n")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // After `stop` it has ended, and both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("log of the broker:\n{}", self.log_text());
        }
    }
}

/// `HOST:PORT` of a log line `… listening … address=HOST:PORT …`.
fn listening_address(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("address=")?;
    before.contains("listening").then(|| {
        let end = after.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(after.len());
        after.split_at(end).0
    })
}

#[test]
fn address_is_found_in_the_log() {
    let line = "2026-11-20T10:00:00Z  INFO listening address=127.0.0.1:40001 shards=2";
    assert_eq!(listening_address(line), Some("127.0.0.1:40001"));
    assert_eq!(listening_address("INFO started address=1:2"), None);
}
