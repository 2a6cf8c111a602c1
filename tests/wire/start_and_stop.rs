//! How the process starts, fails to start, and stops.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use crate::harness::{ALL, Broker, culex, each_with};

/// Runs `culex serve` that must fail: one line on standard error, which has these words.
fn fails(arguments: &[&str], words: &[&str]) {
    assert_eq!(failure(":", arguments, words), 1, "{arguments:?}");
}

/// The same after a command of the shell that sets a limit. Gives the exit status.
fn failure(limit: &str, arguments: &[&str], words: &[&str]) -> i32 {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let all = [&["serve", "--data-dir", data.to_str().unwrap()], arguments].concat();
    let mut command = Command::new("sh");
    let script = format!("{limit}; exec \"$@\"");
    command.args(["-c", &script, "sh"]).arg(culex(&[]).get_program()).args(&all);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if line.contains("listening") {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{arguments:?} did not fail: {line}");
        }
        text.push_str(&line);
        text.push('\n');
    }
    let status = child.wait().unwrap();
    assert_eq!(text.lines().count(), 1, "{arguments:?}:\n{text}");
    for word in words {
        assert!(text.contains(word), "{arguments:?}: no {word} in {text}");
    }
    status.code().expect("it was not ended by a signal")
}

#[test]
fn what_the_host_lacks_ends_with_78() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let serve: &[&str] = &["-p", "0", "--shards", "2"];
    assert_eq!(failure("ulimit -n 60", serve, &["open files is 60", "ulimit -n"]), 78);
    assert_eq!(failure("ulimit -n 66", &["-p", "0", "--shards", "8"], &["open files is 66"]), 78);
    assert_eq!(failure("ulimit -l 64", serve, &["lockable memory", "ulimit -l"]), 78);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cores.toml");
    std::fs::write(&path, "affinity = [1023]\n").unwrap();
    let config = path.to_str().unwrap();
    assert_eq!(failure(":", &["-p", "0", "-c", config], &["CPU 1023", "available: ["]), 78);
}

#[test]
fn clean_stop_tells_the_clients() {
    // MQTT 5.0 §3.14.2.1: 0x8b; [MQTT-3.14.2-2]
    each_with("", ALL, |test| {
        let broker = Broker::start(test.shards, "");
        let address = broker.address;
        let mut names = Vec::new();
        for number in 0..20 {
            let id = format!("{}{number}", test.prefix);
            let mut client = crate::harness::Client::open(address, test.version);
            client.write(&crate::harness::compose("connect", test.version, &id));
            assert_eq!(client.packet().codes, [0]);
            names.push(client);
        }
        broker.terminate();
        for client in &mut names {
            if test.version == crate::harness::Version::V5 {
                let packet = client.packet();
                assert_eq!((packet.name, &packet.codes[..]), ("disconnect", &[0x8b][..]));
            }
            let event = client.next();
            assert!(matches!(event, crate::harness::Event::Closed), "{event:?}");
        }
        let status = broker.wait();
        assert!(status.success(), "{status}");
    });
}

#[test]
fn stop_flushes_what_was_accepted() {
    // MQTT 5.0 §4.2: TCP delivers what was sent before the end
    each_with("", ALL, |test| {
        let broker = Broker::start(test.shards, "");
        let mut client = crate::harness::Client::open(broker.address, test.version);
        client.write(&crate::harness::compose("connect", test.version, "c"));
        client.write(&crate::harness::compose("subscribe 1 t q1", test.version, ""));
        assert_eq!(client.packet().name, "connack");
        assert_eq!(client.packet().name, "suback");
        for number in 1..=50 {
            let text = format!("publish t q1 id={number} p=*1000");
            client.write(&crate::harness::compose(&text, test.version, ""));
        }
        let mut acknowledged = 0;
        while acknowledged < 50 {
            acknowledged += usize::from(client.packet().name == "puback");
        }
        broker.terminate();
        while let crate::harness::Event::Packet(packet) = client.next() {
            assert!(matches!(packet.name, "publish" | "disconnect"), "{}", packet.text());
        }
        assert!(broker.wait().success());
    });
}

#[test]
fn taken_port_is_one_line() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    fails(&["-p", &port], &[&port]);
    fails(&["-p", &port, "--shards", "1"], &[&port]);
}

#[test]
fn port_of_another_culex_is_taken() {
    // SO_REUSEPORT alone would let both have it, and clients would meet either.
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let first = Broker::start(2, "");
    let port = first.address.port().to_string();
    fails(&["-p", &port], &[&port]);
}

#[test]
fn wrong_configuration_names_file_and_line() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (text, line) in [
        ("\n[limits]\nno_such_limit = 1\n", "3"),
        ("[limits]\npacket_bytes_max = \"many\"\n", "2"),
        ("[limits]\n\n\nreceive_maximum = -1\n", "4"),
        ("[limits\n", "1"),
        ("\n\nno_such_key = true\n", "3"),
        ("[no_such_table]\nx = 1\n", "1"),
    ] {
        let path = directory.path().join("wrong.toml");
        std::fs::write(&path, text).unwrap();
        fails(&["-p", "0", "-c", path.to_str().unwrap()], &["wrong.toml", line]);
    }
}

#[test]
fn missing_configuration_is_named() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    fails(&["-p", "0", "-c", "/nowhere/culex.toml"], &["/nowhere/culex.toml"]);
}
