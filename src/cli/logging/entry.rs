//! One event of the log, and its forms.

use super::super::calendar::Utc;
use std::fmt::{Debug, Write as _};
use std::time::Duration;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

/// Longest value; the rest of a longer one is cut off.
const VALUE_CHARS_MAX: usize = 256;
/// More fields of one event are left out.
const FIELDS_MAX: usize = 32;

/// What lines of text begin with.
#[derive(Clone, Debug)]
pub(super) enum Stamp {
    /// Nothing.
    Absent,
    /// The time.
    Rfc3339,
    /// The time as `strftime` would write it with this text.
    Pieces(String),
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Since 1970, UTC.
    pub(super) time: Duration,
    pub(super) level: Level,
    pub(super) target: &'static str,
    /// Where in the program.
    pub(super) place: Identifier,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, Value)>,
}

/// Value of a field, of bounded length.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// What was given as text; stands between quotes.
    Text(String),
    /// The display of something; stands between quotes if it has to.
    Shown(String),
    Number(i64),
    Count(u64),
    Flag(bool),
}

impl Entry {
    pub(super) fn new(event: &Event<'_>, time: Duration) -> Self {
        let metadata = event.metadata();
        let mut entry = Self {
            time,
            level: *metadata.level(),
            target: metadata.target(),
            place: metadata.callsite(),
            message: String::new(),
            fields: Vec::new(),
        };
        event.record(&mut entry);
        entry
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Shown(text)) => self.message = text,
            (name, value) if self.fields.len() < FIELDS_MAX => self.fields.push((name, value)),
            _ => {}
        }
    }

    /// `2026-11-20T10:27:59.217Z  INFO what happened key=value`
    pub(super) fn text(&self, stamp: &Stamp, colours: bool, out: &mut String) {
        let level = match self.level {
            Level::ERROR => ("31", "ERROR"),
            Level::WARN => ("33", " WARN"),
            Level::INFO => ("32", " INFO"),
            Level::DEBUG => ("34", "DEBUG"),
            Level::TRACE => ("35", "TRACE"),
        };
        match stamp {
            Stamp::Absent => {}
            Stamp::Rfc3339 => {
                put_time(self.time, out);
                out.push(' ');
            }
            Stamp::Pieces(text) => {
                put_pieces(text, self.time, out);
                out.push_str(": ");
            }
        }
        let _infallible = if colours {
            write!(out, "\u{1b}[{}m{}\u{1b}[0m ", level.0, level.1)
        } else {
            write!(out, "{} ", level.1)
        };
        self.text_without_time(out);
    }

    /// `what happened key=value`
    pub(super) fn text_without_time(&self, out: &mut String) {
        put_escaped(&self.message, Quotes::Bare, out);
        for (nth, (name, value)) in self.fields.iter().enumerate() {
            // Events of the audit log have no message.
            if nth > 0 || !self.message.is_empty() {
                out.push(' ');
            }
            let _infallible = match value {
                Value::Shown(text) if is_plain(text) => write!(out, "{name}={text}"),
                Value::Text(text) | Value::Shown(text) => {
                    let _infallible = write!(out, "{name}=\"");
                    put_escaped(text, Quotes::Inside, out);
                    write!(out, "\"")
                }
                Value::Number(number) => write!(out, "{name}={number}"),
                Value::Count(number) => write!(out, "{name}={number}"),
                Value::Flag(flag) => write!(out, "{name}={flag}"),
            };
        }
    }

    /// One JSON object.
    pub(super) fn json(&self, out: &mut String) {
        out.push_str("{\"time\":\"");
        put_time(self.time, out);
        let level = self.level.as_str().to_ascii_lowercase();
        let _infallible = write!(out, "\",\"level\":\"{level}\"");
        put_pair("target", &Value::Text(self.target.to_owned()), out);
        if !self.message.is_empty() {
            put_pair("message", &Value::Text(self.message.clone()), out);
        }
        for (name, value) in &self.fields {
            put_pair(name, value, out);
        }
        out.push('}');
    }
}

impl Visit for Entry {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = Bounded(String::new());
        // Fails when the text is long enough.
        let _cut = write!(text, "{value:?}");
        self.put(field, Value::Shown(text.0));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.chars().take(VALUE_CHARS_MAX).collect()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Number(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Count(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Flag(value));
    }
}

/// Takes no more than a value may have.
struct Bounded(String);

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let left = VALUE_CHARS_MAX.saturating_sub(self.0.chars().count());
        self.0.extend(text.chars().take(left));
        if text.chars().count() > left { Err(std::fmt::Error) } else { Ok(()) }
    }
}

/// UTC with milliseconds.
fn put_time(time: Duration, out: &mut String) {
    let Utc { year, month, day, hour, minute, second, nanosecond, .. } = Utc::new(time);
    let ms = nanosecond / 1_000_000;
    let _infallible =
        write!(out, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z");
}

/// What `strftime` would write; the settings have only pieces that there are.
fn put_pieces(text: &str, time: Duration, out: &mut String) {
    let utc = Utc::new(time);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '%' => match letters.next() {
                Some('%') | None => out.push('%'),
                Some(piece) => out.push_str(&utc.piece(piece).unwrap_or_default()),
            },
            letter => out.push(letter),
        }
    }
}

/// Nothing that has to stand between quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_control() && c != ' ' && c != '"' && c != '\\')
}

/// Where an escaped text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    Bare,
    Inside,
}

/// What would begin a line, move a cursor or hide text comes out as an escape.
fn put_escaped(text: &str, quotes: Quotes, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' | '"' if quotes == Quotes::Inside => out.extend(['\\', c]),
            c if c.is_control() || is_direction(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
}

/// Changes the direction of the text after it.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn put_pair(name: &str, value: &Value, out: &mut String) {
    let _infallible = match value {
        Value::Text(text) | Value::Shown(text) => {
            let text = serde_json::Value::from(text.as_str());
            write!(out, ",\"{name}\":{text}")
        }
        Value::Number(number) => write!(out, ",\"{name}\":{number}"),
        Value::Count(number) => write!(out, ",\"{name}\":{number}"),
        Value::Flag(flag) => write!(out, ",\"{name}\":{flag}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place;

    impl tracing::Callsite for Place {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &tracing::Metadata<'_> {
            unreachable!("only its identity is asked for")
        }
    }

    static PLACE: Place = Place;

    fn entry(fields: &[(&'static str, Value)]) -> Entry {
        Entry {
            time: Duration::from_millis(1_795_256_879_217),
            level: Level::WARN,
            target: "culex::edge",
            place: Identifier(&PLACE),
            message: "bad\nnews \u{1b}[2J".to_owned(),
            fields: fields.to_vec(),
        }
    }

    #[test]
    fn nothing_a_peer_sends_begins_a_line_or_moves_the_cursor() {
        let hostile = "a\r\nFAKE line \u{1b}[31m\u{202e}\"\\";
        let entry = entry(&[("id", Value::Text(hostile.to_owned())), ("n", Value::Number(-1))]);
        let mut line = String::new();
        entry.text(&Stamp::Rfc3339, false, &mut line);
        assert_eq!(
            line,
            "2026-11-21T10:27:59.217Z  WARN bad\\nnews \\u{1b}[2J \
             id=\"a\\r\\nFAKE line \\u{1b}[31m\\u{202e}\\\"\\\\\" n=-1"
        );
        let mut json = String::new();
        entry.json(&mut json);
        assert!(!json.contains(char::is_control), "{json}");
        let object: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(object["id"], hostile);
        assert_eq!(object["n"], -1);
        assert_eq!(object["level"], "warn");
        assert_eq!(object["time"], "2026-11-21T10:27:59.217Z");
    }

    #[test]
    fn plain_values_stand_without_quotes() {
        let mut line = String::new();
        let address = Value::Shown("[::1]:1883".to_owned());
        entry(&[("address", address), ("up", Value::Flag(true))]).text(
            &Stamp::Rfc3339,
            false,
            &mut line,
        );
        assert!(line.ends_with(" address=[::1]:1883 up=true"), "{line}");
    }

    #[test]
    fn lines_begin_with_the_time_that_is_wanted() {
        let written = |stamp| {
            let mut line = String::new();
            entry(&[]).text(&stamp, false, &mut line);
            line
        };
        let news = "bad\\nnews \\u{1b}[2J";
        let pieces = Stamp::Pieces("%Y-%m-%dT%H:%M:%S 100%%".to_owned());
        assert_eq!(written(pieces), format!("2026-11-21T10:27:59 100%:  WARN {news}"));
        assert_eq!(written(Stamp::Absent), format!(" WARN {news}"));
    }

    #[test]
    fn long_values_are_cut() {
        let mut text = Bounded(String::new());
        assert!(write!(text, "{}", "\u{e4}".repeat(VALUE_CHARS_MAX)).is_ok());
        assert!(write!(text, "x").is_err());
        assert_eq!(text.0.chars().count(), VALUE_CHARS_MAX);
    }
}
