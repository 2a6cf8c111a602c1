//! Settings: what a running broker takes over, and what the commands say about files.

use std::process::Output;

use crate::harness::{Broker, Client, Event, Version, compose, culex};

/// A TOML broker on one listener, with a file that tests write again.
fn broker(config: &str) -> Broker {
    let directory = tempfile::tempdir().unwrap();
    Broker::launch(directory, "culex.toml", config, &["-p", "0", "--shards", "2"], &[])
}

/// Writes the file again, tells the broker, and waits for the line that says what came of it.
fn reload(broker: &Broker, config: &str, words: &str) -> String {
    std::fs::write(broker.directory().join("culex.toml"), config).unwrap();
    broker.signal("-HUP");
    broker.line(words)
}

fn is_foreign() -> bool {
    std::env::var("CULEX_TEST_ADDRESS").is_ok()
}

/// Code of the CONNACK to a client of this identifier.
fn connects(broker: &Broker, connect: &str) -> u8 {
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose(connect, Version::V5, ""));
    client.packet().codes[0]
}

const MEMORY: &str = "durability = 'none'\n";

#[test]
fn limits_rules_and_levels_change_while_it_serves() {
    if is_foreign() {
        return;
    }
    let broker = broker(MEMORY);
    let mut stays = Client::open(broker.address, Version::V5);
    stays.write(&compose("connect id=a-name-with-24-characters", Version::V5, ""));
    assert_eq!(stays.packet().codes, [0]);
    let strict = format!(
        "{MEMORY}[limits]\nclient_id_bytes_max = 23\n[log]\nlevel = 'debug'\n\
         [acl.roles.all]\nusers = ['anonymous']\nsubscribe = ['a/#']\npublish = ['a/#']\n"
    );
    reload(&broker, &strict, "settings read again");
    // MQTT 5.0 §3.2.2.2: 0x85
    assert_eq!(connects(&broker, "connect id=b-name-with-24-characters"), 0x85);
    broker.line("connection refused");
    stays.write(&compose("subscribe 1 a/b q1 b/c q1", Version::V5, ""));
    assert_eq!(stays.packet().codes, [1, 0x87], "who is connected has new rights");
}

#[test]
fn a_bad_file_changes_nothing() {
    if is_foreign() {
        return;
    }
    let broker = broker(&format!("{MEMORY}[limits]\nclient_id_bytes_max = 23\n"));
    let bad = format!("{MEMORY}\n[limits]\nclient_id_bytes_max = 100\nclient_id_byte_max = 1\n");
    let line = reload(&broker, &bad, "settings not taken");
    assert!(line.contains("culex.toml:5: limits.client_id_byte_max: unknown key"), "{line}");
    assert!(line.contains("did you mean `client_id_bytes_max`?"), "{line}");
    assert_eq!(connects(&broker, "connect id=b-name-with-24-characters"), 0x85);
    let missing = format!("{MEMORY}[acl]\nfile = 'nowhere'\n");
    std::fs::write(broker.directory().join("culex.toml"), missing).unwrap();
    broker.signal("-HUP");
    broker.line("nowhere: No such file");
    assert_eq!(connects(&broker, "connect id=c"), 0);
}

#[test]
fn a_log_that_cannot_be_opened_changes_nothing() {
    if is_foreign() {
        return;
    }
    let broker = broker(MEMORY);
    let config = format!(
        "{MEMORY}[limits]\nclient_id_bytes_max = 23\n\
         [log]\nto = ['file']\nfile = '/nowhere/culex.log'\n"
    );
    let line = reload(&broker, &config, "settings not taken");
    assert!(line.contains("/nowhere/culex.log"), "{line}");
    assert_eq!(connects(&broker, "connect id=b-name-with-24-characters"), 0);
}

#[test]
fn what_needs_a_new_start_is_named() {
    if is_foreign() {
        return;
    }
    let broker = broker(MEMORY);
    let config = "durability = 'none'\nlog_segment_bytes = 1048576\nfsync_interval_ms = 9\n\
                  [[listener]]\naddress = '127.0.0.1:0'\nbacklog = 7\n";
    let line = reload(&broker, config, "with the next start only");
    let keys = "keys=\"fsync_interval_ms, log_segment_bytes\"";
    assert!(line.contains(keys), "{line}");
}

/// Runs a command that ends by itself.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    culex(arguments).envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn files_are_checked_shown_and_converted() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (toml, conf) = (place("culex.toml"), place("mosquitto.conf"));
    std::fs::write(&toml, "[limits]\ninflight_max = 7\n").unwrap();
    std::fs::write(&conf, "allow_anonymous true\nmax_inflight_messages 7\nhttp_dir x\n").unwrap();
    for arguments in [&["check", "-c", &toml][..], &["serve", "--test-config", "-c", &conf]] {
        let output = run(arguments, &[]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(text(&output.stdout), "The settings are valid.\n");
    }
    let shown = run(
        &["check", "--show-effective", "-c", &toml],
        &[("CULEX_LIMITS__RECEIVE_MAXIMUM", "9"), ("CULEX_DATA_DIR", "/d")],
    );
    for line in ["inflight_max = 7", "receive_maximum = 9", "data_dir = \"/d\""] {
        assert!(text(&shown.stdout).lines().any(|shown| shown == line), "{line}: {shown:?}");
    }
    let converted = run(&["config", "convert", &conf], &[]);
    let why = "mosquitto.conf:3: http_dir: without effect: files are not served";
    assert!(text(&converted.stderr).contains(why), "{converted:?}");
    let again = place("again.toml");
    std::fs::write(&again, &converted.stdout).unwrap();
    let effective = |file: &str| run(&["check", "--show-effective", "-c", file], &[]).stdout;
    assert_eq!(text(&effective(&again)), text(&effective(&conf)));
}

#[test]
fn what_is_wrong_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content, expected) in [
        ("a.conf", "listner 1883\n", "a.conf:1: listner: unknown option; did you mean `listener`?"),
        ("b.conf", "connection x\n", "b.conf:1: connection: bridges are not supported"),
        ("c.conf", "listener 1883\n", "c.conf:1: listener: address: nobody can connect"),
        ("d.toml", "[[listener]]\naddress = '0.0.0.0:0'\n", "d.toml:2: address: without [auth]"),
    ] {
        let path = directory.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(&path, content).unwrap();
        for arguments in [&["check", "-c", &path][..], &["serve", "-c", &path]] {
            let output = run(arguments, &[]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let line = text(&output.stderr);
            assert!(line.contains(expected) && line.lines().count() == 1, "{line}");
        }
    }
    // Files that the settings name are read too.
    let path = directory.path().join("e.toml").to_str().unwrap().to_owned();
    let text_of = "acl = 'allow-all'\n[auth]\npassword_file = 'passwords'\n";
    std::fs::write(&path, text_of).unwrap();
    std::fs::write(directory.path().join("passwords"), "ada:secret\n").unwrap();
    for arguments in [&["check", "-c", &path][..], &["serve", "--test-config", "-c", &path]] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = text(&output.stderr);
        assert!(line.contains("passwords") && line.lines().count() == 1, "{line}");
    }
    let output = run(&["serve"], &[("CULEX_LIMITS__INFLIGHT", "1")]);
    let line = "CULEX_LIMITS__INFLIGHT in the environment: unknown key `inflight`; did you mean";
    assert!(text(&output.stderr).contains(line), "{output:?}");
}

#[test]
fn a_file_of_mosquitto_runs() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = "listener 1883 127.0.0.1\nallow_anonymous true\nmax_packet_size 300\nuser root\n\
                log_type all\n";
    let broker = Broker::launch(directory, "mosquitto.conf", file, &["-p", "0", "-v"], &[]);
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose("connect id=m", Version::V5, ""));
    let packet = client.packet();
    assert!(packet.text().contains("max=300"), "{}", packet.text());
    client.write(&compose("publish t p=*400", Version::V5, ""));
    // MQTT 5.0 §3.14.2.1: 0x95
    assert_eq!(client.packet().codes, [0x95]);
    assert!(matches!(client.next(), Event::Closed));
}
