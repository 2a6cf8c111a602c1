//! The broker under test: the real binary as a child process.
//!
//! Each shard count has one broker that all tests share; a test with limits of its own starts its
//! own. A shell stands between: it kills the broker when its standard input closes, and that
//! happens at drop as well as at the end of this process, however it ends.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

/// Configuration of the shared brokers. Written out, so that no test depends on a default.
pub(crate) const SHARED_CONFIG: &str = "
sys_interval_s = 1
[limits]
packet_bytes_max = 20000000
receive_maximum = 20
inflight_max = 100
topic_alias_maximum = 10
topic_alias_out_maximum = 10
topic_bytes_max = 65535
keep_alive_s_max = 65535
session_expiry_s_max = 4294967295
takeovers_per_min_max = 0
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

/// How long a start or a stop may take.
const PROCESS_DEADLINE: Duration = Duration::from_secs(20);

/// What standard error of a broker tells about it.
enum Life {
    Listening(String),
    Ended,
}

/// What a broker wrote to standard error.
#[derive(Default)]
struct Lines {
    all: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running broker.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    /// Of all listeners, in their order.
    pub(crate) addresses: Vec<String>,
    pub(crate) pid: Option<u32>,
    child: Option<Child>,
    life: Mutex<Option<Receiver<Life>>>,
    lines: Arc<Lines>,
    directory: Option<tempfile::TempDir>,
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
        if let Some(address) = foreign() {
            let lines = Arc::default();
            return Self {
                address,
                addresses: vec![address.to_string()],
                pid: None,
                child: None,
                life: Mutex::new(None),
                lines,
                directory: None,
            };
        }
        let directory = tempfile::tempdir().unwrap();
        let shards = shards.to_string();
        let arguments = ["-p", "0", "--shards", &shards, "--durability", "none"];
        Self::launch(directory, "culex.toml", config, &arguments, &[])
    }

    /// Starts a broker whose file of this name stands in `directory`.
    pub(crate) fn launch(
        directory: tempfile::TempDir,
        name: &str,
        config: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let lines = Arc::new(Lines::default());
        let path = directory.path().join(name);
        std::fs::write(&path, config).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", WATCH, "sh", env!("CARGO_BIN_EXE_culex"), "serve", "-c"])
            .arg(&path)
            .args(arguments)
            .env("NO_COLOR", "1")
            // Tests count descriptors in /proc, also when they are not run by root.
            .env("CULEX_PROCESS__DUMPABLE", "true")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = channel();
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || keep_lines(errors, &sink, &tell));
        let mut addresses = Vec::new();
        while addresses.len() < config.matches("[[listener]]").count().max(1) {
            match told.recv_timeout(PROCESS_DEADLINE) {
                Ok(Life::Listening(address)) => addresses.push(address),
                Ok(Life::Ended) | Err(_) => {
                    let lines = lines.all.lock().unwrap().join("\n");
                    panic!("the broker does not listen:\n{lines}")
                }
            }
        }
        Self {
            address: addresses[0].parse().expect("the first listener is one of TCP"),
            addresses,
            pid: Some(pid.trim().parse().unwrap()),
            child: Some(child),
            life: Mutex::new(Some(told)),
            lines,
            directory: Some(directory),
        }
    }

    /// The same broker, reached at another address.
    pub(crate) fn behind(address: SocketAddr) -> Self {
        Self {
            address,
            addresses: vec![address.to_string()],
            pid: None,
            child: None,
            life: Mutex::new(None),
            lines: Arc::default(),
            directory: None,
        }
    }

    /// The address of a TCP listener, by its place in the configuration.
    pub(crate) fn listener(&self, index: usize) -> SocketAddr {
        self.addresses[index].parse().expect("a listener of TCP")
    }

    /// Where its configuration stands.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.as_ref().expect("an own broker").path()
    }

    /// Sends SIGTERM and returns at once.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends a signal and returns at once.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid.expect("an own broker").to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Waits until the broker has ended by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        // Standard error of the broker ends with the process; only then may the shell kill.
        let life = self.life.lock().unwrap().take().expect("an own broker");
        // It may have listened at more addresses since its start.
        while !matches!(
            life.recv_timeout(PROCESS_DEADLINE).expect("it ends when told"),
            Life::Ended
        ) {}
        let mut child = self.child.take().expect("an own broker");
        drop(child.stdin.take());
        child.wait().unwrap()
    }

    /// What the broker wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.lines.all.lock().unwrap().join("\n")
    }

    /// The first line with these words, which may still be on its way.
    pub(crate) fn line(&self, words: &str) -> String {
        let all = self.lines.all.lock().unwrap();
        let find = |all: &Vec<String>| all.iter().find(|line| line.contains(words)).cloned();
        let waits = |all: &mut Vec<String>| find(all).is_none();
        let (all, _) = self.lines.grown.wait_timeout_while(all, PROCESS_DEADLINE, waits).unwrap();
        find(&all).unwrap_or_else(|| panic!("no line with {words:?}:\n{}", all.join("\n")))
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

/// Reads standard error to its end, and tells when the broker listens and when it has ended.
fn keep_lines(errors: impl BufRead, lines: &Lines, tell: &Sender<Life>) {
    for line in errors.lines().map_while(Result::ok) {
        let line = plain(&line);
        if line.contains("panicked at") {
            eprintln!("broker: {line}");
        }
        if let Some((_, rest)) = line.split_once("address=").filter(|_| line.contains("listening"))
        {
            let word = rest.split_whitespace().next().unwrap_or_default();
            let _ = tell.send(Life::Listening(word.trim_matches('"').to_owned()));
        }
        lines.all.lock().unwrap().push(line);
        lines.grown.notify_all();
    }
    let _ = tell.send(Life::Ended);
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
