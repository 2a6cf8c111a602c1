//! The brokers: child processes that end with this one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Where Debian puts it.
pub(crate) const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// How long a broker may take to start.
const START: Duration = Duration::from_secs(20);

/// The same limits as in [`MOSQUITTO_CONFIG`].
const CULEX_CONFIG: &str = "
sys_interval_s = 0
[log]
level = \"debug\"
[limits]
packet_bytes_max = 20000
receive_maximum = 20
inflight_max = 20
topic_alias_maximum = 10
topic_alias_out_maximum = 10
session_expiry_s_max = 4_294_967_295
keep_alive_s_max = 65_535
";

const MOSQUITTO_CONFIG: &str = "
allow_anonymous true
persistence false
log_type none
sys_interval 0
set_tcp_nodelay true
max_packet_size 20000
max_inflight_messages 20
allow_duplicate_messages true
max_topic_alias 10
";

/// Kills the broker when standard input closes, however this process ends.
const WATCH: &str = r#"
"$@" </dev/null & broker=$!
exec 2>/dev/null
read -r line
kill -9 $broker
wait $broker
"#;

/// A running broker.
pub(crate) struct Broker {
    pub(crate) address: SocketAddr,
    child: Child,
    log: Option<Receiver<String>>,
    _directory: tempfile::TempDir,
}

pub(crate) fn mosquitto_is_there() -> bool {
    Path::new(MOSQUITTO).exists()
}

impl Broker {
    pub(crate) fn culex(shards: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("culex.toml");
        std::fs::write(&path, CULEX_CONFIG).unwrap();
        let shards = shards.to_string();
        let mut command = watched(env!("CARGO_BIN_EXE_culex"));
        command
            .args(["serve", "-p", "0", "--shards", &shards, "--durability", "none", "-c"])
            .arg(&path);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("sh starts");
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if line.contains("panicked") {
                    eprintln!("culex: {line}");
                }
                // Nobody listens any more once all is known that the log can tell.
                let _ = lines.send(line);
            }
        });
        let address = loop {
            let line = log.recv_timeout(START).expect("culex says where it listens");
            if let Some(text) = line.contains("listening").then(|| word(&line, "address")).flatten()
            {
                break text.parse().expect("address=HOST:PORT");
            }
        };
        Self { address, child, log: Some(log), _directory: directory }
    }

    pub(crate) fn mosquitto() -> Self {
        // Mosquitto cannot say which port it got, and another process may take the one found here.
        (0..5).find_map(|_| Self::try_mosquitto()).expect("mosquitto starts")
    }

    fn try_mosquitto() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mosquitto.conf");
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = format!("listener {} 127.0.0.1\n{MOSQUITTO_CONFIG}", address.port());
        std::fs::write(&path, text).unwrap();
        let mut command = watched(MOSQUITTO);
        let mut child =
            command.arg("-c").arg(&path).stderr(Stdio::null()).spawn().expect("sh starts");
        let begin = Instant::now();
        while begin.elapsed() < START && child.try_wait().unwrap().is_none() {
            if TcpStream::connect(address).is_ok() {
                return Some(Self { address, child, log: None, _directory: directory });
            }
            std::thread::yield_now();
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// The shard that accepted the connection from `peer`.
    pub(crate) fn shard_of(&self, peer: SocketAddr) -> usize {
        let log = self.log.as_ref().expect("asked of Culex alone");
        loop {
            let line = log.recv_timeout(START).expect("culex logs what it accepts");
            if line.contains("accepted") && word(&line, "peer") == Some(&peer.to_string()) {
                return word(&line, "shard").unwrap().parse().unwrap();
            }
        }
    }

    /// From here on nobody needs the log.
    pub(crate) fn forget_log(&mut self) {
        self.log = None;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut stdin) = self.child.stdin.take() {
            let _ = stdin.write_all(b"\n");
        }
        let _ = self.child.wait();
    }
}

pub(crate) fn watched(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", WATCH, "sh", program]).env("NO_COLOR", "1").stdin(Stdio::piped());
    command
}

/// Value of `key=value` in a line of the log.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let word = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    word.map(|text| text.trim_matches('"'))
}
