//! The broker as a process: user, background, log files, systemd.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::{Broker, Client, DEADLINE, Version, compose, culex};

const MEMORY: &str = "durability = 'none'\n";

fn is_foreign() -> bool {
    std::env::var("CULEX_TEST_ADDRESS").is_ok()
}

fn launch(config: &str, variables: &[(&str, &str)]) -> Broker {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let arguments = ["-p", "0", "--shards", "2"];
    Broker::launch(directory, "culex.toml", config, &arguments, variables)
}

/// Looks every 10 ms until there is something to see, for 10 s at most.
fn await_that<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what} does not come");
}

/// Waits until a file has this text.
fn await_text(path: &Path, words: &str) -> String {
    let text = || fs::read_to_string(path).ok().filter(|text| text.contains(words));
    await_that(words, text)
}

/// A process in the background; it ends with the test.
struct Background(String);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", self.0.trim()]).stderr(Stdio::null()).status();
    }
}

#[test]
fn root_becomes_another_user_in_all_threads() {
    if is_foreign() || fs::metadata("/proc/self").unwrap().uid() != 0 {
        return println!("SKIPPED: not started by root");
    }
    let config = format!(
        "{MEMORY}[log]\nto = ['stderr', 'file']\nfile = 'log'\n[process]\nuser = 'nobody'\n"
    );
    let broker = launch(&config, &[]);
    let pid = broker.pid.unwrap();
    let nobody = fs::read_to_string("/etc/passwd").unwrap();
    let nobody = nobody.lines().find(|line| line.starts_with("nobody:")).unwrap().to_owned();
    let uid = nobody.split(':').nth(2).unwrap();
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(field("Uid:"), [uid; 4], "{status}");
        assert_eq!(field("NoNewPrivs:"), ["1"]);
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), ["0000000000000000"], "{set}");
        }
        threads += 1;
    }
    assert!(threads > 4, "{threads} threads");
    let log = fs::metadata(broker.directory().join("log")).unwrap();
    assert_eq!((log.uid().to_string().as_str(), log.mode() & 0o777), (uid, 0o600));
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose("connect id=c", Version::V5, ""));
    assert_eq!(client.packet().codes, [0]);
}

#[test]
fn an_unknown_user_is_one_line() {
    if is_foreign() || fs::metadata("/proc/self").unwrap().uid() != 0 {
        return println!("SKIPPED: not started by root");
    }
    let output = culex(&["serve", "-p", "0"])
        .envs([("CULEX_PROCESS__USER", "no-such-user"), ("CULEX_DURABILITY", "none")])
        .output()
        .unwrap();
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line, "culex serve: process.user: there is no user no-such-user\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_background_begins_when_it_serves() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let config =
        format!("{MEMORY}[log]\nto = ['file']\nfile = 'log'\n[process]\npid_file = 'pid'\n");
    fs::write(place("culex.toml"), config).unwrap();
    let file = place("culex.toml").to_str().unwrap().to_owned();
    let output = culex(&["serve", "-d", "-p", "0", "-c", &file]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b""[..], &b""[..]));
    let pid_file = place("pid").to_str().unwrap().to_owned();
    let background = Background(fs::read_to_string(&pid_file).unwrap());
    await_text(&place("log"), "listening address=127.0.0.1:");
    let reload = culex(&["reload", "--pid-file", &pid_file]).output().unwrap();
    assert!(reload.status.success(), "{reload:?}");
    await_text(&place("log"), "settings read again");
    assert!(Command::new("kill").arg(background.0.trim()).status().unwrap().success());
    await_text(&place("log"), " stopped");
    // The file goes with the process.
    await_that("the end", || (!place("pid").exists()).then_some(()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = culex(&["serve", "-d", "-p", &port, "-c", &file]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains(&port));
}

#[test]
fn reload_asks_only_a_culex() {
    let own = std::process::id().to_string();
    for (arguments, words) in [
        (&["reload", "--pid", &own][..], "is no culex"),
        (&["reload", "--pid", "1"], "1 is no process"),
        (&["reload", "--pid", "0"], "0 is no process"),
        (&["reload", "--pid-file", "/nowhere/pid"], "/nowhere/pid: No such file"),
        (&["reload"], "required arguments"),
    ] {
        let output = culex(arguments).output().unwrap();
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(line.contains(words) && line.lines().count() == 1, "{line}");
        assert_ne!(output.status.code(), Some(0));
    }
}

#[test]
fn log_files_are_opened_anew_and_rotated() {
    if is_foreign() {
        return;
    }
    let config = format!(
        "{MEMORY}[log]\nto = ['stderr', 'file']\nfile = 'log'\nformat = 'json'\n\
         level = 'debug'\nrotate_bytes = 20000\nrotate_files = 2\naudit_file = 'audit'\n\
         [limits]\ntakeovers_per_min_max = 0\n"
    );
    let directory = tempfile::tempdir().unwrap();
    // The address is looked for in lines of text.
    let listening = config.replace("format = 'json'\n", "");
    let broker = Broker::launch(directory, "culex.toml", &listening, &["-p", "0"], &[]);
    let place = |name: &str| broker.directory().join(name);
    fs::write(place("culex.toml"), config).unwrap();
    broker.signal("-HUP");
    broker.line("settings read again");
    fs::rename(place("log"), place("moved")).unwrap();
    broker.signal("-USR1");
    let text = await_text(&place("log"), "log files opened anew");
    let object: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&object["level"], &object["message"]),
        (&"info".into(), &"log files opened anew".into())
    );
    for _ in 0..200 {
        let mut client = Client::open(broker.address, Version::V5);
        client.write(&compose("connect id=c", Version::V5, ""));
        assert_eq!(client.packet().codes, [0]);
    }
    await_text(&place("log.2"), "accepted");
    // Between two renamings there is none.
    let first = await_that("the next file", || fs::metadata(place("log.1")).ok());
    assert!(first.len() <= 20_000);
    assert!(!place("log.3").exists());
    broker.terminate();
    let audit = await_text(&place("audit"), "\"stop\"");
    let mut events = Vec::new();
    for (number, line) in (1..).zip(audit.lines()) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["seq"], number, "{line}");
        events.push(object["event"].as_str().unwrap().to_owned());
    }
    events.retain(|event| !["login", "take_over"].contains(&event.as_str()));
    assert_eq!(events, ["listen", "start", "reload", "stop"]);
}

/// The next messages of a socket, until one has these words.
fn received(socket: &UnixDatagram, words: &str) -> String {
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut bytes = [0; 8192];
    loop {
        let count = match socket.recv(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            received => received.unwrap_or_else(|error| panic!("no {words:?}: {error}")),
        };
        let text = String::from_utf8(bytes[..count].to_vec()).unwrap();
        if text.contains(words) {
            return text;
        }
    }
}

#[test]
fn syslog_and_journal_get_lines_in_their_own_forms() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let syslog = UnixDatagram::bind(place("log")).unwrap();
    let journal = UnixDatagram::bind(place("journal")).unwrap();
    let config = format!(
        "{MEMORY}[log]\nto = ['stderr', 'syslog', 'journald']\nsyslog_socket = {:?}\n\
         journald_socket = {:?}\naudit_to = ['syslog']\n\
         syslog_facility = 'local3'\ntargets = {{ 'culex::connections' = 'debug' }}\n",
        place("log"),
        place("journal"),
    );
    let broker = launch(&config, &[]);
    let pid = broker.pid.unwrap();
    let line = received(&syslog, "listening");
    // RFC 3164: facility 19, severity 6; the host is syslog's own to add.
    assert!(line.starts_with("<158>"), "{line}");
    let tag = format!(" culex[{pid}]: listening address=127.0.0.1:");
    assert!(line.contains(&tag) && !line.ends_with('\n'), "{line}");
    let fields = received(&journal, "MESSAGE=listening");
    for field in ["PRIORITY=6\n", "SYSLOG_IDENTIFIER=culex\n", "\nCULEX_ADDRESS=127.0.0.1:"] {
        assert!(fields.contains(field), "{fields}");
    }
    // What a client sends begins neither a line nor a field.
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose("connect", Version::V5, "x\nPRIORITY=0\n"));
    assert_eq!(client.packet().codes, [0]);
    let fields = received(&journal, "\nCULEX_CLIENT=");
    let priorities = fields.lines().filter(|line| line.starts_with("PRIORITY=")).count();
    assert_eq!(priorities, 1, "{fields}");
    let line = received(&syslog, "event=\"login\"");
    assert!(line.starts_with("<158>") && !line.contains('\n'), "{line}");
    assert!(line.contains("]: seq="), "{line}");
    // The reader of syslog starts again: at the same place, another socket.
    drop(syslog);
    fs::remove_file(place("log")).unwrap();
    let syslog = UnixDatagram::bind(place("log")).unwrap();
    broker.signal("-USR1");
    received(&syslog, "log files opened anew");
}

#[test]
fn levels_of_parts_change_while_it_runs() {
    if is_foreign() {
        return;
    }
    let quiet = format!("{MEMORY}[log]\nlevel = 'warn'\n[log.targets]\n'culex::cli' = 'info'\n");
    // The address is looked for in lines of level info.
    let broker = launch(&quiet, &[]);
    let write = |config: &str| fs::write(broker.directory().join("culex.toml"), config).unwrap();
    write(
        &quiet.replace("'culex::cli' = 'info'", "'culex::cli' = 'info'\n'culex::shard' = 'debug'"),
    );
    broker.signal("-HUP");
    broker.line("settings read again");
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose("connect id=heard", Version::V5, ""));
    assert_eq!(client.packet().codes, [0]);
    client.write(&compose("subscribe 1 t", Version::V5, ""));
    assert_eq!(client.packet().name, "suback");
    broker.line("subscribed client=\"heard\"");
    assert!(!broker.log().contains("accepted"), "those of connections are of level warn");
}

#[test]
fn the_audit_log_says_who_did_what() {
    if is_foreign() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let passwords = folder.path().join("passwd");
    let file = passwords.to_str().unwrap();
    assert!(culex(&["passwd", "-b", "-c", file, "ada", "secret"]).status().unwrap().success());
    let config = format!(
        "{MEMORY}[auth]\npassword_file = {passwords:?}\n[acl.roles.all]\nusers = ['*']\n\
         publish = ['a/#']\nsubscribe = ['a/#']\n[log]\naudit_file = 'audit'\n\
         audit_fsync = true\n"
    );
    let broker = launch(&config, &[]);
    let connect = |words: &str| {
        let mut client = Client::open(broker.address, Version::V5);
        client.write(&compose(&format!("connect {words}"), Version::V5, "x\n{\"seq\":1}"));
        (client.packet().codes[0], client)
    };
    let (code, mut first) = connect("id=c user=ada pass=secret expiry=60 clean=0");
    assert_eq!(code, 0);
    assert_eq!(connect("user=ada pass=hunter2").0, 0x86);
    first.write(&compose("subscribe 1 b q0", Version::V5, ""));
    assert_eq!(first.packet().codes, [0x87]);
    first.write(&compose("publish b q1 id=2 p=x", Version::V5, ""));
    assert_eq!(first.packet().codes, [0x87]);
    let (code, mut second) = connect("id=c user=ada pass=secret expiry=60 clean=0");
    assert_eq!(code, 0);
    // MQTT 5.0 §3.3.2.3.4: an alias above the maximum
    second.write(&compose("publish a alias=60000 p=x", Version::V5, ""));
    assert_eq!(second.packet().codes, [0x94]);
    assert_eq!(connect("id=c user=ada pass=secret clean=1").0, 0);
    fs::write(broker.directory().join("culex.toml"), "durability = 'no'").unwrap();
    broker.signal("-HUP");
    broker.line("settings not taken");
    broker.terminate();
    let audit = await_text(&broker.directory().join("audit"), "\"stop\"");
    assert!(!audit.contains("secret") && !audit.contains("hunter2"), "{audit}");
    let mut events = Vec::new();
    for (number, line) in (1..).zip(audit.lines()) {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(object["seq"], number, "{line}");
        let word = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
        events.push([word("event"), word("outcome") + &word("action") + &word("cause")].join(" "));
        if word("event") == "login" {
            assert_eq!(word("user"), "ada", "{line}");
            assert!(word("peer").starts_with("127.0.0.1:"), "{line}");
        }
    }
    let reload = "reload refused";
    let expected = [
        "listen ",
        "start ",
        "login ok",
        "session_created ",
        "login refusedbad_credentials",
        "denied Subscribe",
        "denied Publish",
        "take_over ",
        "login ok",
        "disconnected TopicAliasInvalid",
        "session_ended clean_start",
        "login ok",
        reload,
        "stop ",
    ];
    assert_eq!(events, expected, "{audit}");
}

#[test]
fn systemd_is_told() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut bytes = [0; 200];
        let count = loop {
            match socket.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("a message in time"),
            }
        };
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let other = || loop {
        let message = next();
        if message != "WATCHDOG=1" {
            return message;
        }
    };
    let name = path.to_str().unwrap();
    let broker = launch(MEMORY, &[("NOTIFY_SOCKET", name), ("WATCHDOG_USEC", "400000")]);
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), "WATCHDOG=1");
    assert_eq!(next(), "WATCHDOG=1");
    broker.signal("-HUP");
    assert!(other().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(other(), "READY=1");
    broker.terminate();
    assert_eq!(other(), "STOPPING=1");
    assert!(broker.wait().success());
}
