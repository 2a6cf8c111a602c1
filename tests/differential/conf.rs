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

/// A file for brokers, and what clients do with them.
struct Case {
    conf: fn(&[u16], &Path) -> String,
    /// Connections of lines that begin with `@N` go to the listener N, others to the first.
    script: &'static [(&'static str, &'static [&'static str])],
    /// The watcher's CONNECT and SUBSCRIBE.
    watcher: [&'static str; 2],
}

impl Case {
    /// How many listeners clients go to.
    fn listeners(&self) -> usize {
        let lines = self.script.iter().map(|(line, _)| *line).chain([self.watcher[0]]);
        lines.map(|line| listener(line).0 + 1).max().expect("a watcher")
    }
}

/// The listener that a line is for, and the rest of the line.
fn listener(line: &str) -> (usize, &str) {
    let Some(rest) = line.strip_prefix('@') else { return (0, line) };
    let (listener, line) = rest.split_once(' ').expect("a listener and a packet");
    (listener.parse().expect("a number"), line)
}

const TUTORIAL: Case = Case {
    conf: tutorial,
    script: SCRIPT,
    watcher: ["connect id=watcher user=alice pass=wonder", "subscribe 1 house/# q0"],
};

/// Each listener has its own users and rules, or none.
const PER_LISTENER: Case = Case {
    conf: per_listener,
    script: &[
        ("connect id=a1 user=alice pass=wonder", &["publish house/a1 q1 id=2 p=yes"]),
        ("@1 connect id=a2 user=alice pass=wonder", &[]),
        ("@1 connect id=a3 user=alice pass=other", &["publish garden/a3 q1 id=2 p=yes"]),
        ("@1 connect id=a4 user=alice pass=other", &["publish house/a4 q1 id=2 p=no"]),
        ("connect id=a5 user=alice pass=other", &[]),
        ("connect id=a6 user=alice pass=wonder", &["publish garden/a6 q1 id=2 p=no"]),
        ("connect id=a7", &[]),
        ("@1 connect id=a8", &[]),
        ("@1 connect id=a9 user=bob pass=build", &[]),
        ("@2 connect id=a10", &["publish garden/a10 q1 id=2 p=yes"]),
    ],
    watcher: ["@2 connect id=watcher", "subscribe 1 # q0"],
};

fn per_listener(ports: &[u16], directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "per_listener_settings true
listener {} 127.0.0.1
password_file {directory}/passwd
acl_file {directory}/acl
listener {} 127.0.0.1
password_file {directory}/passwd2
acl_file {directory}/acl2
listener {} 127.0.0.1
allow_anonymous true
",
        ports[0], ports[1], ports[2]
    )
}

fn tutorial(ports: &[u16], directory: &Path) -> String {
    let (port, directory) = (ports[0], directory.display());
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
    addresses: Vec<SocketAddr>,
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
fn start(program: &str, arguments: &[&str], case: &Case) -> Running {
    // The port may be taken by somebody else before the broker has it.
    (0..5).find_map(|_| try_start(program, arguments, case)).expect("the broker starts")
}

fn try_start(program: &str, arguments: &[&str], case: &Case) -> Option<Running> {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let sockets = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
    drop(sockets);
    let ports = addresses.map(|address| address.port());
    // Started by root both become the user mosquitto, who reads and writes here.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    fs::write(place("mosquitto.conf"), (case.conf)(&ports, directory.path())).unwrap();
    fs::write(place("acl"), ACL).unwrap();
    fs::write(place("acl2"), "user alice\ntopic readwrite garden/#\n").unwrap();
    for (first, file, user, password) in [
        (true, "passwd", "alice", "wonder"),
        (false, "passwd", "bob", "build"),
        (true, "passwd2", "alice", "other"),
    ] {
        let mut command = Command::new("mosquitto_passwd");
        command.args(if first { &["-c", "-b"][..] } else { &["-b"] });
        let told = command.arg(place(file)).args([user, password]).stderr(Stdio::null());
        assert!(told.status().expect("mosquitto_passwd runs").success());
        fs::set_permissions(place(file), Permissions::from_mode(0o644)).unwrap();
    }
    let mut command = watched(program);
    let child = command.args(arguments).arg("-c").arg(place("mosquitto.conf"));
    let mut child = child.stderr(Stdio::null()).spawn().expect("sh starts");
    let begin = Instant::now();
    while begin.elapsed() < START && child.try_wait().unwrap().is_none() {
        if addresses[..case.listeners()].iter().all(|at| TcpStream::connect(at).is_ok()) {
            let addresses = addresses.to_vec();
            return Some(Running { addresses, child, _directory: directory });
        }
        std::thread::yield_now();
    }
    None
}

/// What the clients of the script see, one line per packet.
fn play(broker: &Running, case: &Case, version: Version) -> Vec<String> {
    let mut seen = Vec::new();
    let open = |line: &str| {
        let (listener, line) = listener(line);
        let mut client = Client::open(broker.addresses[listener], version);
        client.write(&compose(line, version, ""));
        client
    };
    let mut watcher = open(case.watcher[0]);
    assert!(collect(&mut watcher, "connack", &mut Vec::new()));
    watcher.write(&compose(case.watcher[1], version, ""));
    assert!(collect(&mut watcher, "suback", &mut Vec::new()));
    for (connect, rest) in case.script {
        seen.push(format!("> {connect}"));
        let mut client = open(connect);
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

/// Plays a case with both; gives what was seen.
fn alike(case: &Case) -> Option<Vec<String>> {
    if !mosquitto_is_there() {
        println!("SKIPPED: no {MOSQUITTO}, nothing to compare with");
        return None;
    }
    let theirs = start(MOSQUITTO, &[], case);
    let ours = start(env!("CARGO_BIN_EXE_culex"), &["serve"], case);
    let mut seen = Vec::new();
    for version in [Version::V31, Version::V311] {
        let expected = play(&theirs, case, version);
        let got = play(&ours, case, version);
        assert_eq!(got, expected, "{version:?}");
        seen = expected;
    }
    Some(seen)
}

#[test]
fn the_file_of_the_tutorials_means_the_same() {
    let Some(seen) = alike(&TUTORIAL) else { return };
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn users_and_rules_of_single_listeners_mean_the_same() {
    let Some(seen) = alike(&PER_LISTENER) else { return };
    let watched = |text: &str| {
        seen.iter().filter(|line| line.starts_with("publish [] ") && line.ends_with(text)).count()
    };
    assert_eq!((watched(" yes"), watched(" no")), (3, 0), "{seen:?}");
}
