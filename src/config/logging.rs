//! `[log]` and `[process]`.

use super::error::Fault;
use super::range::within;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// TOML integers end here.
const I64: u64 = i64::MAX as u64;
/// Pieces of times, of those of `strftime(3)`.
const TIME_PIECES: &str = "%aAbBcCdDeFhHIjklmMpPrRsSTuUwWxXyYzZ";

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Least important kind of line that is written.
    pub level: Level,
    /// Other levels for parts of the broker, as `"culex::edge" = "debug"`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<String, Level>,
    /// Form of the lines.
    pub format: Format,
    /// Lines of text for files and standard error begin with the time.
    pub timestamps: bool,
    /// How, with the pieces of `strftime(3)`, in UTC; unset: as in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_format: Option<String>,
    /// Colours.
    pub ansi: Ansi,
    /// Where the lines go; empty = nowhere.
    pub to: Vec<Destination>,
    /// For `file`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// From this many bytes on the file is renamed and a new one begun; 0 = never.
    #[serde(deserialize_with = "within::<_, _, 0, I64>")]
    pub rotate_bytes: u64,
    /// Renamed files that are kept.
    #[serde(deserialize_with = "within::<_, _, 0, 1000>")]
    pub rotate_files: u32,
    /// Socket of the system's log.
    pub syslog_socket: PathBuf,
    /// What kind of program its lines say they are of.
    pub syslog_facility: Facility,
    /// Socket of the journal.
    pub journald_socket: PathBuf,
    /// Who did what: one JSON object per line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_file: Option<PathBuf>,
    /// Where else that goes; not `file`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audit_to: Vec<Destination>,
    /// As `rotate_bytes`, for the audit log.
    #[serde(deserialize_with = "within::<_, _, 0, I64>")]
    pub audit_rotate_bytes: u64,
    /// As `rotate_files`.
    #[serde(deserialize_with = "within::<_, _, 0, 1000>")]
    pub audit_rotate_files: u32,
    /// The audit file is on disk before more is written to it.
    pub audit_fsync: bool,
}

/// Facilities of RFC 5424 that a broker may have; each is its number there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
#[expect(missing_docs, reason = "the names say it all")]
pub enum Facility {
    #[default]
    Daemon = 3,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

/// Importance of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The broker cannot do what it should.
    Error,
    /// Something that an administrator should look at.
    Warn,
    /// Start, listeners, stop.
    #[default]
    Info,
    /// Connections and refusals too.
    Debug,
    /// Everything there is.
    Trace,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object per line.
    Json,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Destination {
    /// Standard error.
    Stderr,
    /// The file of `[log] file`.
    File,
    /// The system's log, `/dev/log`.
    Syslog,
    /// The journal's own socket, with fields.
    Journald,
}

/// Use of colours in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ansi {
    /// If the log goes to a terminal.
    #[default]
    Auto,
    /// In any case.
    Always,
    /// In no case.
    Never,
}

/// `[process]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Whom to become when started as root, after the listeners are bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its group; unset = the user's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Where the number of the process is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,
    /// Neither the broker nor what it starts can gain rights (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Debuggers and core files may show the memory of the process (`PR_SET_DUMPABLE`).
    pub dumpable: bool,
    /// Tell systemd about start, reload and stop, if it asks to be told.
    pub systemd: bool,
    /// What to do about files with secrets that others can read.
    pub secret_modes: SecretModes,
}

/// What to do about files with secrets that others can read. Those that others can write are
/// refused in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretModes {
    /// Do not start.
    #[default]
    Refuse,
    /// Say so, as Mosquitto does.
    Warn,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: Level::default(),
            targets: BTreeMap::new(),
            format: Format::default(),
            timestamps: true,
            time_format: None,
            ansi: Ansi::default(),
            to: vec![Destination::Stderr],
            file: None,
            rotate_bytes: 0,
            rotate_files: 5,
            syslog_socket: PathBuf::from("/dev/log"),
            syslog_facility: Facility::default(),
            journald_socket: PathBuf::from("/run/systemd/journal/socket"),
            audit_file: None,
            audit_to: Vec::new(),
            audit_rotate_bytes: 0,
            audit_rotate_files: 5,
            audit_fsync: false,
        }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            pid_file: None,
            no_new_privs: true,
            dumpable: false,
            systemd: true,
            secret_modes: SecretModes::default(),
        }
    }
}

impl Log {
    pub(super) fn resolve(&mut self, directory: &Path) {
        let sockets = [&mut self.syslog_socket, &mut self.journald_socket];
        for path in self.file.iter_mut().chain(&mut self.audit_file).chain(sockets) {
            *path = directory.join(&*path);
        }
    }

    /// What cannot be.
    pub(super) fn fault(&self) -> Option<Fault> {
        let fault = |key, text: &str| Some(Fault::new(key, text));
        if self.audit_to.contains(&Destination::File) {
            return fault("audit_to", "a file is named by audit_file");
        }
        if let Some(why) = self.time_format.as_deref().and_then(time_format_fault) {
            return fault("time_format", &why);
        }
        match (self.to.contains(&Destination::File), &self.file) {
            (true, None) => fault("to", "\"file\" needs the key file"),
            (false, Some(_)) => fault("file", "needs \"file\" in the key to"),
            (true, Some(_)) | (false, None) => None,
        }
    }
}

/// What is wrong with a time's format.
pub(super) fn time_format_fault(text: &str) -> Option<String> {
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter.is_control() {
            return Some("must have no control characters".to_owned());
        }
        match (letter == '%').then(|| letters.next()) {
            None => {}
            Some(Some(piece)) if TIME_PIECES.contains(piece) => {}
            Some(piece) => {
                let piece = piece.map(String::from).unwrap_or_default();
                return Some(format!("has `%{piece}`; there are %% and % with {TIME_PIECES}"));
            }
        }
    }
    None
}

impl Process {
    pub(super) fn resolve(&mut self, directory: &Path) {
        if let Some(path) = &mut self.pid_file {
            *path = directory.join(&*path);
        }
    }
}
