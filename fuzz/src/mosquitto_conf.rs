//! Files of Mosquitto: never a panic, one line per error and warning; as TOML they mean the same.

use culex::config::{Config, mosquitto};
use std::path::Path;

/// The bytes are the file. Names of hosts are left out: looking them up is not the parser's work.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let asks_a_server = |line: &str| {
        let mut words = line.split_whitespace();
        let host = match words.next() {
            Some("listener") => words.nth(1),
            Some("bind_address") => words.next(),
            _ => None,
        };
        host.is_some_and(|host| host.parse::<std::net::IpAddr>().is_err())
    };
    if text.lines().any(asks_a_server) {
        return;
    }
    match mosquitto::parse(text, Path::new("/nowhere/m.conf")) {
        Ok(loaded) => {
            assert!(loaded.warnings.iter().all(|line| !line.contains('\n')));
            let toml = loaded.config.to_short_toml();
            let again = Config::parse(&toml, Path::new("/nowhere/culex.toml"));
            assert_eq!(again.expect("what is written can be read"), loaded.config, "{toml}");
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("/nowhere/m.conf:"), "{line:?}");
            assert!(!line.contains('\n'), "{line:?}");
        }
    }
}
