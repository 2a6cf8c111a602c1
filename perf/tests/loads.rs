//! Every kind of load, for a moment, against the broker in this process and against the relay:
//! promises are kept, and what the run has to say is there.

#![cfg(test)]

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Ports of the broker: TCP, TLS, WebSocket, both.
fn broker() -> [u16; 4] {
    static PORTS: OnceLock<[u16; 4]> = OnceLock::new();
    *PORTS.get_or_init(|| {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let held = [free(), free(), free(), free()];
        let ports = held.each_ref().map(|socket| socket.local_addr().unwrap().port());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("loads-{}", ports[0]));
        std::fs::create_dir_all(&folder).unwrap();
        let settings = write_settings(&folder, ports);
        drop(held);
        let arguments = ["culex", "serve", "-c", &settings].map(Into::into);
        std::thread::spawn(move || culex::cli::run(arguments));
        for port in ports {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                std::thread::park_timeout(Duration::from_millis(10));
            }
        }
        ports
    })
}

fn write_settings(folder: &Path, ports: [u16; 4]) -> String {
    let identity = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("broker.crt"), folder.join("broker.key"));
    std::fs::write(&certificate, identity.cert.pem()).unwrap();
    std::fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut text = String::from("shards = 1\ndurability = \"none\"\nsys_interval_s = 0\n");
    for (index, port) in ports.into_iter().enumerate() {
        writeln!(text, "[[listener]]\naddress = \"127.0.0.1:{port}\"").unwrap();
        if index >= 2 {
            text += "protocol = \"websocket\"\n";
        }
        if index % 2 == 1 {
            let (certificate, key) = (certificate.display(), key.display());
            writeln!(text, "[listener.tls]\ncert_file = \"{certificate}\"").unwrap();
            writeln!(text, "key_file = \"{key}\"").unwrap();
        }
    }
    text += "[process]\nsystemd = false\n";
    let path = folder.join("culex.toml");
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs the generator, one at a time as runs share their topics; its exit status and its report.
fn run(port: u16, arguments: &[&str]) -> (i32, Value) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_perf"))
        .args(["run", "--json", "--address", &SocketAddr::from(([127, 0, 0, 1], port)).to_string()])
        .args(["--warm-s", "0.05", "--measured-s", "0.5"])
        .args(arguments)
        .output()
        .unwrap();
    let status = output.status.code().unwrap();
    if status == 1 {
        eprintln!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (status, serde_json::from_slice(&output.stdout).unwrap_or_default())
}

/// A run that keeps its promises.
fn kept(port: u16, arguments: &[&str]) -> Value {
    let (status, report) = run(port, arguments);
    assert_eq!(status, 0, "{arguments:?}: {report}");
    report
}

fn count(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

#[test]
fn messages_flow_at_every_qos_and_version() {
    let [tcp, ..] = broker();
    for (qos, version) in [("0", "4"), ("1", "4"), ("2", "5")] {
        let report = kept(tcp, &["pairs", "--qos", qos, "--version", version]);
        assert_eq!(count(&report, "/acknowledged/count") > 0, qos != "0");
    }
    for kind in ["fanout", "fanin", "shared", "roundtrip"] {
        kept(tcp, &[kind]);
    }
    // Together no more than the queue of the one that gets everything holds.
    kept(tcp, &["mixed", "--outstanding", "64"]);
}

#[test]
fn all_transports_carry_messages() {
    for (port, transport) in broker().into_iter().zip(["tcp", "tls", "ws", "wss"]) {
        kept(port, &["pairs", "--qos", "1", "--transport", transport]);
        let large = ["pairs", "--payload-bytes", "70000", "--publishers", "2"];
        kept(port, &[&large[..], &["--outstanding", "2", "--transport", transport]].concat());
    }
}

#[test]
fn threads_share_the_clients() {
    let [tcp, ..] = broker();
    let report = kept(tcp, &["latency", "--threads", "3", "--rate", "3000"]);
    assert!(count(&report, "/latency/count") > 0);
    let report = kept(tcp, &["idle", "--threads", "2", "--subscribers", "50"]);
    assert_eq!(count(&report, "/connects/latency/count"), 50);
}

#[test]
fn stored_messages_come_to_those_who_come_later() {
    let [tcp, ..] = broker();
    let offline = ["offline", "--qos", "1", "--publishers", "5", "--messages", "200"];
    let report = kept(tcp, &offline);
    assert_eq!(count(&report, "/stored/messages"), 1000);
    assert_eq!(count(&report, "/stored/last/count"), 5);
    let retained = ["retained", "--qos", "1", "--subscribers", "5", "--messages", "200"];
    for _ in 0..2 {
        let report = kept(tcp, &retained);
        assert_eq!(count(&report, "/tally/delivered"), 1000, "and nothing is left over");
    }
}

#[test]
fn guests_and_slow_readers_are_counted() {
    let [tcp, ..] = broker();
    let report = kept(tcp, &["churn", "--rate", "1000", "--churn-per-s", "200"]);
    assert!(count(&report, "/visits/latency/count") > 0);
    let report = kept(tcp, &["slow", "--rate", "1000", "--slow", "2"]);
    assert!(count(&report, "/slow/delivered") > 0);
}

#[test]
fn many_topics_have_a_subscription_each() {
    let [tcp, ..] = broker();
    let topics = ["topics", "--topics", "3000", "--filters", "mixed", "--monitor", "true"];
    kept(tcp, &topics);
}

#[test]
fn percentiles_are_written_to_files() {
    let [tcp, ..] = broker();
    let prefix =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hgrm-{}", std::process::id()));
    let name = prefix.display().to_string();
    let report = kept(tcp, &["latency", "--qos", "1", "--rate", "1000", "--hgrm", &name]);
    assert!(report.pointer("/latency/percentiles/10").is_some());
    for kind in ["latency", "acknowledged", "connect"] {
        let path = format!("{name}.{kind}.hgrm");
        assert!(std::fs::read_to_string(&path).unwrap().contains("#[Max"), "{path}");
        std::fs::remove_file(path).unwrap();
    }
}

/// The relay on a port of its own; ends with the test.
struct Relay {
    process: Child,
    port: u16,
}

impl Relay {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("127.0.0.1:0")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self { process, port }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[test]
fn relay_passes_what_pairs_and_groups_say() {
    let relay = Relay::start(&[]);
    for qos in ["0", "1", "2"] {
        kept(relay.port, &["pairs", "--qos", qos]);
        kept(relay.port, &["shared", "--qos", qos]);
    }
    for kind in ["fanout", "roundtrip", "idle", "connect"] {
        kept(relay.port, &[kind]);
    }
}

#[test]
fn relay_keeps_frames_of_many_publishers_apart() {
    let relay = Relay::start(&["--whole-frames"]);
    let large = ["--payload-bytes", "1000", "--outstanding", "64"];
    kept(relay.port, &[&["fanin", "--publishers", "20"], &large[..]].concat());
}

#[test]
fn broken_promises_and_failures_have_their_status() {
    // The relay passes the acknowledgements of all subscribers back, where a broker sends its own.
    let relay = Relay::start(&[]);
    let (status, report) = run(relay.port, &["fanout", "--qos", "1"]);
    assert_eq!(status, 2, "{report}");
    assert!(count(&report, "/tally/acks_disordered") > 0);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(run(closed, &["pairs"]).0, 1);
}
