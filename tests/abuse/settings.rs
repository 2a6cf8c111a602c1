//! Rows C01 and C02: settings at their ends, and a host that does not give what is asked for.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::process::Stdio;

use culex::config::Config;

use crate::broker::culex;
use crate::packet::Version;
use crate::siege::Siege;

/// Keys of `[limits]` with their values, from the sample file.
fn limits() -> Vec<(String, u64)> {
    let sample = include_str!("../../conf/culex.toml");
    let table: toml::Table = sample.parse().unwrap();
    let limits = table["limits"].as_table().unwrap();
    let number = |value: &toml::Value| u64::try_from(value.as_integer().unwrap()).unwrap();
    limits.iter().map(|(key, value)| (key.clone(), number(value))).collect()
}

fn is_valid(key: &str, value: i128) -> bool {
    let text = format!("[limits]\n{key} = {value}\n");
    Config::parse(&text, std::path::Path::new("c01.toml")).is_ok()
}

/// The smallest and the largest value that is accepted, looked for between what is refused and the
/// default.
fn ends(key: &str, default: u64) -> (i128, i128) {
    let (mut low, mut bad) = (i128::from(default), -1);
    while low - bad > 1 {
        let middle = i128::midpoint(low, bad);
        if is_valid(key, middle) { low = middle } else { bad = middle }
    }
    let (mut high, mut bad) = (i128::from(default), i128::from(u64::MAX));
    while bad - high > 1 {
        let middle = i128::midpoint(high, bad);
        if is_valid(key, middle) { high = middle } else { bad = middle }
    }
    (low, high)
}

#[test]
fn every_number_at_its_ends() {
    // C01: below and above it is refused in words; at both ends, alone and all together, the broker
    // starts and serves, as far as the limits let a client in at all.
    let mut all = [String::new(), String::new()];
    for (key, default) in limits() {
        let (low, high) = ends(&key, default);
        assert!(is_valid(&key, low) && is_valid(&key, high), "{key}");
        assert!(!is_valid(&key, low - 1) && !is_valid(&key, high + 1), "{key}");
        // Limits that let nobody in, and one second in which nothing else happens, are not run.
        let closed = ["connections", "sessions_max", "connecting", "accepts", "memory"];
        if closed.iter().any(|word| key.starts_with(word)) {
            continue;
        }
        for (text, value) in all.iter_mut().zip([low, high]) {
            writeln!(text, "{key} = {value}").unwrap();
        }
    }
    for (name, text) in ["C01 low", "C01 high"].into_iter().zip(&all) {
        let siege = Siege::lay_tolerant(name, &format!("[limits]\n{text}"));
        for version in [Version::V311, Version::V5] {
            let mut client = siege.connected(version, "id=c01");
            client.alive();
            client.say("subscribe 1 a q1");
            client.say("publish a q1 id=1 p=x");
            client.alive();
        }
        siege.lifted();
    }
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line() {
    // C02
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let output = culex(&["serve", "-p", &port, "--shards", "1", "--data-dir"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code().is_some_and(|code| code != 0 && code != 101), "{stderr}");
    assert!(stderr.contains(&port) && !stderr.contains("panicked"), "{stderr}");
}
