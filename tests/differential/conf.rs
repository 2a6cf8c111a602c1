//! The same mosquitto.conf, the same clients: Culex and Mosquitto answer alike.
//!
//! The file is what the tutorials for servers at home end with: persistence, a log file, users,
//! rules and limits. Both brokers read it unchanged but for the port.

use std::fs::{self, Permissions};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::brokers::{MOSQUITTO, mosquitto_is_there, watched};
use crate::client::{Client, Event};
use crate::compose::compose;
use crate::packet::Version;

/// How long a broker may take to listen.
const START: Duration = Duration::from_secs(20);

const ACL: &str = "
topic read public/#
user alice
topic readwrite house/#
topic deny house/safe
user bob
topic read house/+/temperature
pattern readwrite devices/%u/#
";

/// Who connects, and what is sent and answered. What is denied has the payload `no`; both
/// acknowledge it, which [MQTT-3.3.5-2] allows. The watcher would see it.
const SCRIPT: &[(&str, &[&str])] = &[
    ("connect id=a1 user=alice pass=wonder", &[]),
    ("connect id=a2 user=alice pass=wrong", &[]),
    ("connect id=a3 user=nobody pass=wonder", &[]),
    ("connect id=a4 user=alice", &[]),
    ("connect id=a5", &["subscribe 1 public/# q1", "publish house/x q1 id=2 p=no"]),
    ("connect id=a6", &["publish public/x q1 id=2 p=no"]),
    (
        "connect id=a7 user=alice pass=wonder",
        &[
            "subscribe 1 house/# q1",
            "publish house/kitchen/temperature q1 id=2 p=21",
            "subscribe 5 devices/alice/# q0",
            "publish devices/alice/x q1 id=6 p=yes",
            "publish house/safe q1 id=3 p=no",
        ],
    ),
    ("connect id=a8 user=alice pass=wonder", &["publish devices/bob/x q1 id=7 p=no"]),
    (
        "connect id=a9 user=bob pass=build",
        &[
            "subscribe 1 house/kitchen/temperature q0",
            "publish devices/bob/y q2 id=3 p=yes",
            "publish house/kitchen/temperature q1 id=2 p=no",
        ],
    ),
];

fn conf(port: u16, directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "port {port}
protocol mqtt
persistence true
persistence_location {directory}/
persistence_file mosquitto.db
log_dest file {directory}/mosquitto.log
log_type all
allow_anonymous true
password_file {directory}/passwd
acl_file {directory}/acl
max_connections 1000
max_queued_messages 100
"
    )
}

struct Running {
    address: SocketAddr,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Starts `program -c mosquitto.conf` in a directory of its own.
fn start(program: &str, arguments: &[&str]) -> Running {
    // The port may be taken by somebody else before the broker has it.
    (0..5).find_map(|_| try_start(program, arguments)).expect("the broker starts")
}

fn try_start(program: &str, arguments: &[&str]) -> Option<Running> {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // Started by root both become the user mosquitto, who reads and writes here.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(place("mosquitto.conf"), conf(port, directory.path())).unwrap();
    fs::write(place("acl"), ACL).unwrap();
    for (first, user, password) in [(true, "alice", "wonder"), (false, "bob", "build")] {
        let mut command = Command::new("mosquitto_passwd");
        command.args(if first { &["-c", "-b"][..] } else { &["-b"] });
        let told = command.arg(place("passwd")).args([user, password]).stderr(Stdio::null());
        assert!(told.status().expect("mosquitto_passwd runs").success());
    }
    fs::set_permissions(place("passwd"), Permissions::from_mode(0o644)).unwrap();
    let mut command = watched(program);
    let child = command.args(arguments).arg("-c").arg(place("mosquitto.conf"));
    let mut child = child.stderr(Stdio::null()).spawn().expect("sh starts");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let begin = Instant::now();
    while begin.elapsed() < START && child.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return Some(Running { address, child, _directory: directory });
        }
        std::thread::yield_now();
    }
    None
}

/// What the clients of the script see, one line per packet.
fn play(address: SocketAddr, version: Version) -> Vec<String> {
    let mut seen = Vec::new();
    let mut watcher = Client::open(address, version);
    watcher.write(&compose("connect id=watcher user=alice pass=wonder", version, ""));
    assert!(collect(&mut watcher, "connack", &mut Vec::new()));
    watcher.write(&compose("subscribe 1 house/# q0", version, ""));
    assert!(collect(&mut watcher, "suback", &mut Vec::new()));
    for (connect, rest) in SCRIPT {
        seen.push(format!("> {connect}"));
        let mut client = Client::open(address, version);
        client.write(&compose(connect, version, ""));
        let mut open = collect(&mut client, "connack", &mut seen);
        for line in *rest {
            seen.push(format!("> {line}"));
            if open {
                client.write(&compose(line, version, ""));
                let answer = match line.split(' ').next() {
                    Some("subscribe") => "suback",
                    _ if line.contains(" q2 ") => "pubrec",
                    _ => "puback",
                };
                let mut batch = Vec::new();
                open = collect(&mut client, answer, &mut batch);
                // A message to oneself may come before or after its acknowledgement.
                client.write(&compose("pingreq", version, ""));
                open = open && collect(&mut client, "pingresp", &mut batch);
                batch.sort();
                seen.extend(batch);
            }
        }
    }
    seen.push("> watcher".to_owned());
    watcher.write(&compose("pingreq", version, ""));
    assert!(collect(&mut watcher, "pingresp", &mut seen));
    seen
}

/// Takes packets until one of this name; false if the connection has ended before.
fn collect(client: &mut Client, until: &str, seen: &mut Vec<String>) -> bool {
    loop {
        match client.next() {
            Event::Packet(packet) => {
                let refused = packet.name == "connack" && packet.codes != [0];
                // 4 = bad user name or password, 5 = not authorised: brokers choose differently.
                let codes = if refused { vec![5] } else { packet.codes.clone() };
                let payload = String::from_utf8_lossy(&packet.payload).into_owned();
                if packet.name != "pingresp" {
                    seen.push(format!("{} {codes:?} {} {payload}", packet.name, packet.topic));
                }
                if refused || packet.name == until {
                    return !refused;
                }
            }
            Event::Closed => {
                seen.push("closed".to_owned());
                return false;
            }
            Event::Trouble(why) => panic!("{why}"),
        }
    }
}

#[test]
fn the_file_of_the_tutorials_means_the_same() {
    if !mosquitto_is_there() {
        return println!("SKIPPED: no {MOSQUITTO}, nothing to compare with");
    }
    let theirs = start(MOSQUITTO, &[]);
    let ours = start(env!("CARGO_BIN_EXE_culex"), &["serve"]);
    for version in [Version::V31, Version::V311] {
        let expected = play(theirs.address, version);
        let got = play(ours.address, version);
        assert_eq!(got, expected, "{version:?}");
        assert!(expected.len() > 30, "{expected:?}");
    }
}
