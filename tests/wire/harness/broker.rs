//! The broker under test: the real binary as a child process.
//!
//! Each shard count has one broker that all tests share; a test with limits of its own starts its own.
//! A shell stands between: it kills the broker when its standard input closes, and that happens at
//! drop as well as at the end of this process, however it ends.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

/// Configuration of the shared brokers. Written out, so that no test depends on a default.
pub(crate) const SHARED_CONFIG: &str = "
sys_interval_s = 1
[limits]
packet_bytes_max = 20000000
receive_maximum = 20
inflight_max = 100
topic_alias_maximum = 10
topic_alias_out_maximum = 10
queue_messages_max = 20000
queue_bytes_max = 100000000
";

const WATCH: &str = r#"
"$@" </dev/null & broker=$!
exec 2>/dev/null
echo $broker
read -r line
kill -9 $broker
wait $broker
"#;

/// A running broker.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    pub(crate) pid: Option<u32>,
    child: Option<Child>,
    errors: Option<JoinHandle<()>>,
    lines: Arc<Mutex<Vec<String>>>,
    _config: Option<tempfile::TempDir>,
}

/// Address of a foreign broker to test instead, from `CULEX_TEST_ADDRESS`.
pub(crate) fn foreign() -> Option<SocketAddr> {
    let address = std::env::var("CULEX_TEST_ADDRESS").ok()?;
    Some(address.parse().expect("CULEX_TEST_ADDRESS is HOST:PORT"))
}

/// The broker that all tests of this shard count use.
pub(crate) fn shared(shards: usize) -> &'static Broker {
    static BROKERS: [OnceLock<Broker>; 2] = [OnceLock::new(), OnceLock::new()];
    BROKERS[shards - 1].get_or_init(|| Broker::start(shards, SHARED_CONFIG))
}

/// The binary with these arguments.
pub(crate) fn culex(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culex"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

impl Broker {
    /// Starts a broker of `shards` shards, or takes the foreign one.
    pub(crate) fn start(shards: usize, config: &str) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        if let Some(address) = foreign() {
            return Self { address, pid: None, child: None, errors: None, lines, _config: None };
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("culex.toml");
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", WATCH, "sh", env!("CARGO_BIN_EXE_culex"), "serve", "-c"])
            .arg(&path)
            .args(["-p", "0", "--shards", &shards.to_string(), "--data-dir"])
            .arg(directory.path().join("data"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let address = await_listening(&mut errors, &lines);
        let sink = Arc::clone(&lines);
        let errors = std::thread::spawn(move || keep_lines(errors, &sink));
        Self {
            address,
            pid: Some(pid.trim().parse().unwrap()),
            child: Some(child),
            errors: Some(errors),
            lines,
            _config: Some(directory),
        }
    }

    /// Sends SIGTERM and returns at once.
    pub(crate) fn terminate(&self) {
        let pid = self.pid.expect("an own broker").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    /// Waits until the broker has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        // Standard error of the broker ends with the process; only then may the shell kill.
        self.errors.take().expect("an own broker").join().unwrap();
        let mut child = self.child.take().expect("an own broker");
        drop(child.stdin.take());
        child.wait().unwrap()
    }

    /// What the broker wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Open descriptors and resident kilobytes.
    pub(crate) fn descriptors_and_memory(&self) -> (usize, u64) {
        let pid = self.pid.expect("an own broker");
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        (descriptors, line.split_whitespace().nth(1).unwrap().parse().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if let Some(mut stdin) = child.stdin.take() {
                let _ = stdin.write_all(b"\n");
            }
            let _ = child.wait();
        }
    }
}

fn await_listening(errors: &mut impl BufRead, lines: &Mutex<Vec<String>>) -> SocketAddr {
    loop {
        let mut line = String::new();
        let count = errors.read_line(&mut line).unwrap();
        let line = plain(&line);
        lines.lock().unwrap().push(line.trim_end().to_owned());
        assert!(count > 0, "the broker ended:\n{}", lines.lock().unwrap().join("\n"));
        if let Some((_, rest)) = line.split_once("address=").filter(|_| line.contains("listening"))
        {
            let text = rest.split_whitespace().next().unwrap();
            return text.trim_matches('"').parse().expect("address=HOST:PORT");
        }
    }
}

fn keep_lines(errors: impl BufRead, lines: &Mutex<Vec<String>>) {
    for line in errors.lines().map_while(Result::ok) {
        let line = plain(&line);
        if line.contains("panicked at") {
            eprintln!("broker: {line}");
        }
        lines.lock().unwrap().push(line);
    }
}

/// The line without colour sequences.
fn plain(line: &str) -> String {
    let mut pieces = line.split('\u{1b}');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        text.push_str(piece.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}
