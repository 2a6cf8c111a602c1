//! What can be wrong with a file, in one line.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// No key is longer.
const WORD_BYTES_MAX: usize = 64;

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
    /// A variable of the environment is not valid.
    #[error("{name} in the environment: {message}")]
    Variable {
        /// Its name.
        name: String,
        /// What is wrong with it, one line.
        message: String,
    },
}

/// What cannot be although every value by itself can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key, without its table, or the table.
    pub(super) key: &'static str,
    /// The listener that it is of, from 0; `None` if it is of none.
    pub(super) listener: Option<usize>,
    /// What is wrong, one line.
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, listener: None, message: message.into() }
    }

    /// The same of one listener.
    pub(super) fn of(self, listener: usize) -> Self {
        Self { listener: Some(listener), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.key, self.message)
    }
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

    /// An error of values that read well but cannot be used.
    pub(super) fn at_key(path: &Path, text: &str, fault: Fault) -> Self {
        let Fault { key, listener, message } = fault;
        let named = |line: &str| {
            let line = line.trim_start().trim_start_matches('[');
            line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(['=', ']']))
        };
        let lines = (1..).zip(text.lines());
        let begins = |line: &str| line.trim_start().starts_with("[[listener]]");
        let headers = lines.clone().filter(|(_, line)| begins(line)).map(|(line, _)| line);
        let begin = listener.and_then(|nth| headers.clone().nth(nth)).unwrap_or(1);
        let end = listener.and_then(|nth| headers.clone().nth(nth + 1)).unwrap_or(usize::MAX);
        let mut own = lines.skip(begin - 1).take_while(|(line, _)| *line < end);
        let line = own.find(|(_, line)| named(line)).map_or(begin, |(line, _)| line);
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
pub(super) fn one_line(message: &str) -> String {
    let message = message.split('\n').map(str::trim).collect::<Vec<_>>().join("; ");
    match message.strip_prefix("unknown field ") {
        Some(rest) => unknown_key(rest),
        None => message.replace("missing field", "missing key"),
    }
}

/// The list of all keys is in the sample file, and too long for one line; the nearest is enough.
fn unknown_key(rest: &str) -> String {
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let key = quoted.next().unwrap_or_default();
    format!("unknown key `{key}`{}", suggestion(key, quoted))
}

/// `; did you mean ...?` with the known word that is nearest to an unknown one, if one is near.
pub(super) fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let near = known
        .map(|known| (distance(word, known), known))
        .filter(|(distance, known)| {
            *distance <= (known.len().min(word.len()) / 3).max(1)
                || (word.len() > 3 && known.contains(word))
        })
        .min();
    near.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"))
}

/// Letters to insert, remove or replace to make one word of the other. Words longer than any key
/// are not compared.
fn distance(word: &str, known: &str) -> usize {
    if word.len() > WORD_BYTES_MAX {
        return usize::MAX;
    }
    let known: Vec<char> = known.chars().collect();
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (index, letter) in word.chars().enumerate() {
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, other) in row.windows(2).zip(&known) {
            let &[diagonal, above] = above else { continue };
            left = (diagonal + usize::from(letter != *other)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}
