//! What can be wrong with a file, in one line.

use std::io;
use std::path::{Path, PathBuf};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not valid.
    #[error(
        "{}:{line}: {key}{}{message}",
        .path.display(),
        if .key.is_empty() { "" } else { ": " }
    )]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// The key with its table, or nothing if the error is at none.
        key: String,
        /// What is wrong with it, one line.
        message: String,
    },
}

impl ConfigError {
    /// Finds line and key of what the TOML reader did not like.
    pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let offset = error.span().map_or(0, |span| span.start);
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let key = key_in_force(text.lines().take(line));
        Self::Invalid { path: path.to_owned(), line, key, message: one_line(error.message()) }
    }

    /// An error of a value that reads well but cannot be used.
    pub(super) fn at_key(path: &Path, text: &str, key: &str, message: String) -> Self {
        let index = text.lines().position(|line| {
            let line = line.trim_start().trim_start_matches('[');
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
        });
        let line = index.map_or(1, |index| index + 1);
        Self::Invalid { path: path.to_owned(), line, key: key.to_owned(), message }
    }
}

/// The key in force at the last of `lines`, with its table.
fn key_in_force<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let (mut table, mut key) = ("", "");
    for line in lines.map(str::trim) {
        if let Some(header) = line.strip_prefix('[')
            && let Some((name, _)) = header.trim_start_matches('[').split_once(']')
        {
            (table, key) = (name.trim(), "");
        } else if let Some((name, _)) = line.split_once('=')
            && name
                .trim()
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            key = name.trim();
        }
    }
    [table, key].into_iter().filter(|name| !name.is_empty()).collect::<Vec<_>>().join(".")
}

/// The reader's words, shortened to what a user needs.
fn one_line(message: &str) -> String {
    let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    match message.strip_prefix("unknown field ") {
        // The list of all keys that follows is in the sample file, and too long for one line.
        Some(rest) => format!("unknown key {}", rest.split(',').next().unwrap_or(rest)),
        None => message
            .replace("missing field", "missing key")
            .replace("invalid socket address syntax", "must be IP:PORT or [IPV6]:PORT"),
    }
}
