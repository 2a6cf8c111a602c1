//! Settings files: never a panic, one line per error, the same answer twice.

use culex::config::Config;
use std::path::Path;

/// The bytes are the file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let parse = || Config::parse(text, Path::new("/nowhere/culex.toml"));
    match parse() {
        Ok(config) => {
            assert!(!config.listeners.is_empty());
            assert!(config.limits.packet_bytes_max >= 256);
            let _either_way = config.check_shards();
            assert_eq!(parse().expect("accepted before"), config);
        }
        Err(error) => {
            let line = error.to_string();
            assert!(line.starts_with("/nowhere/culex.toml:"), "{line:?}");
            assert!(!line.contains('\n'), "{line:?}");
        }
    }
}
