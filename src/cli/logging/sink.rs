//! Where lines go: standard error, a file, syslog, the journal.

use super::super::calendar::Utc;
use super::entry::{Entry, Stamp, Value};
use crate::config::{Ansi, Destination, Facility, Format, Log};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write as _, stderr};
use std::os::unix::fs::{OpenOptionsExt as _, fchown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use tracing::Level;

/// Logs name clients and topics.
const FILE_MODE: u32 = 0o600;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Whose files the log's are, if the process is going to be another user's.
pub(in super::super) type Owner = Option<(u32, u32)>;

/// One destination.
#[derive(Debug)]
pub(super) enum Sink {
    Stderr { form: Form, colours: bool, waiting: String },
    File { form: Form, file: Rotating, waiting: String },
    Syslog(Datagrams, Facility),
    Journal(Datagrams),
}

/// What lines look like.
#[derive(Clone, Debug)]
pub(super) enum Form {
    Json,
    Text(Stamp),
}

impl Form {
    fn of(log: &Log) -> Self {
        match (log.format, &log.time_format) {
            (Format::Json, _) => Self::Json,
            (Format::Text, _) if !log.timestamps => Self::Text(Stamp::Absent),
            (Format::Text, Some(pieces)) => Self::Text(Stamp::Pieces(pieces.clone())),
            (Format::Text, None) => Self::Text(Stamp::Rfc3339),
        }
    }
}

impl Sink {
    /// The destinations of the settings.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn all(log: &Log, owner: Owner) -> io::Result<Vec<Self>> {
        let colours = match log.ansi {
            Ansi::Auto => stderr().is_terminal(),
            Ansi::Always => true,
            Ansi::Never => false,
        };
        let form = Form::of(log);
        let one = |to: &Destination| match (to, &log.file) {
            (Destination::Stderr, _) => {
                let form = form.clone();
                Ok(Some(Self::Stderr { form, colours, waiting: String::new() }))
            }
            (Destination::File, Some(path)) => {
                let file = Rotating::open(path, log.rotate_bytes, log.rotate_files, owner)?;
                let form = form.clone();
                Ok(Some(Self::File { form, file, waiting: String::new() }))
            }
            (Destination::File, None) => Ok(None),
            (Destination::Syslog, _) => Ok(Some(Self::syslog(log))),
            (Destination::Journald, _) => Ok(Some(Self::journal(log))),
        };
        log.to.iter().filter_map(|to| one(to).transpose()).collect()
    }

    /// The destinations of the audit log.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn audit(log: &Log, owner: Owner) -> io::Result<Vec<Self>> {
        let form = Form::Json;
        let mut sinks = Vec::new();
        if let Some(path) = &log.audit_file {
            let (bytes_max, kept) = (log.audit_rotate_bytes, log.audit_rotate_files);
            let mut file = Rotating::open(path, bytes_max, kept, owner)?;
            file.is_synced = log.audit_fsync;
            let form = form.clone();
            sinks.push(Self::File { form, file, waiting: String::new() });
        }
        for to in &log.audit_to {
            match to {
                Destination::Stderr => {
                    let form = form.clone();
                    sinks.push(Self::Stderr { form, colours: false, waiting: String::new() });
                }
                // The settings do not allow it.
                Destination::File => {}
                Destination::Syslog => sinks.push(Self::syslog(log)),
                Destination::Journald => sinks.push(Self::journal(log)),
            }
        }
        Ok(sinks)
    }

    fn syslog(log: &Log) -> Self {
        Self::Syslog(Datagrams::new(&log.syslog_socket), log.syslog_facility)
    }

    fn journal(log: &Log) -> Self {
        Self::Journal(Datagrams::new(&log.journald_socket))
    }

    /// Takes one event; files get it with [`Self::flush`].
    pub(super) fn put(&mut self, entry: &Entry) {
        let before = self.waiting_bytes();
        self.append(entry);
        let Self::File { file, waiting, .. } = self else { return };
        // Lines that came together may belong to two files.
        if before > 0 && file.is_passed_by(waiting.len()) {
            let last = waiting.split_off(before);
            file.write(waiting.as_bytes());
            *waiting = last;
        }
    }

    fn waiting_bytes(&self) -> usize {
        match self {
            Self::Stderr { waiting, .. } | Self::File { waiting, .. } => waiting.len(),
            Self::Syslog(..) | Self::Journal(_) => 0,
        }
    }

    fn append(&mut self, entry: &Entry) {
        match self {
            Self::Stderr { form: Form::Json, waiting, .. }
            | Self::File { form: Form::Json, waiting, .. } => {
                entry.json(waiting);
                waiting.push('\n');
            }
            Self::Stderr { form: Form::Text(stamp), colours, waiting } => {
                entry.text(stamp, *colours, waiting);
                waiting.push('\n');
            }
            Self::File { form: Form::Text(stamp), waiting, .. } => {
                entry.text(stamp, false, waiting);
                waiting.push('\n');
            }
            Self::Syslog(datagrams, facility) => {
                datagrams.send(syslog(entry, *facility).as_bytes());
            }
            Self::Journal(datagrams) => datagrams.send(journal(entry).as_bytes()),
        }
    }

    /// Writes what waits. Who cannot be written to has lost it.
    pub(super) fn flush(&mut self) {
        match self {
            Self::Stderr { waiting, .. } => {
                let _closed = stderr().write_all(waiting.as_bytes());
                waiting.clear();
            }
            Self::File { file, waiting, .. } => {
                file.write(waiting.as_bytes());
                waiting.clear();
            }
            Self::Syslog(..) | Self::Journal(_) => {}
        }
    }

    /// Another program has moved the file away.
    pub(super) fn reopen(&mut self) {
        if let Self::File { file, .. } = self {
            file.reopen();
        }
    }
}

/// A file that is renamed and begun anew when it is large.
#[derive(Debug)]
pub(super) struct Rotating {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
    kept: u32,
    /// What is written is on disk before more is.
    is_synced: bool,
    /// The last failure has been told.
    told: bool,
}

impl Rotating {
    pub(super) fn open(path: &Path, bytes_max: u64, kept: u32, owner: Owner) -> io::Result<Self> {
        let file = append(path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
        let bytes = file.metadata()?.len();
        let path = path.to_owned();
        Ok(Self { path, file: Some(file), bytes, bytes_max, kept, is_synced: false, told: false })
    }

    pub(super) fn write(&mut self, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if self.bytes > 0 && self.is_passed_by(text.len()) {
            self.rotate();
        }
        let result = match &mut self.file {
            Some(file) if self.is_synced => file.write_all(text).and_then(|()| file.sync_data()),
            Some(file) => file.write_all(text),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match result {
            Ok(()) => {
                self.bytes += text.len() as u64;
                self.told = false;
            }
            Err(error) => self.tell(&error),
        }
    }

    /// Would the file be larger than it may be with so many bytes more?
    fn is_passed_by(&self, bytes: usize) -> bool {
        self.bytes_max > 0 && self.bytes + bytes as u64 > self.bytes_max
    }

    /// The last way to say that the log cannot be written, once.
    fn tell(&mut self, error: &io::Error) {
        if !self.told {
            self.told = true;
            let path = self.path.display();
            let _closed = writeln!(stderr(), "culex: cannot write the log {path}: {error}");
        }
    }

    fn rotate(&mut self) {
        for number in (1..self.kept).rev() {
            // The first ones do not exist yet.
            let _missing = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        let moved = if self.kept > 0 {
            std::fs::rename(&self.path, self.numbered(1))
        } else {
            std::fs::remove_file(&self.path)
        };
        match moved {
            Ok(()) => self.reopen(),
            Err(error) => self.tell(&error),
        }
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Keeps the old file if there cannot be a new one.
    pub(super) fn reopen(&mut self) {
        match append(&self.path) {
            Ok(file) => {
                self.bytes = file.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some(file);
            }
            Err(error) => self.tell(&error),
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

/// A socket that takes one message at a time; what it does not take at once is lost.
#[derive(Debug)]
pub(super) struct Datagrams {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl Datagrams {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), socket: None }
    }

    fn send(&mut self, message: &[u8]) {
        let open = || -> io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            socket.connect(&self.path)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        if self.socket.is_none() {
            self.socket = open().ok();
        }
        let sent = self.socket.as_ref().map(|socket| socket.send(message));
        if let Some(Err(error)) = sent
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // Its reader may have been started again.
            self.socket = open().ok();
            if let Some(socket) = &self.socket {
                let _lost = socket.send(message);
            }
        }
    }
}

/// Severity of RFC 5424.
fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// As the C library sends it: RFC 3164, without a host.
fn syslog(entry: &Entry, facility: Facility) -> String {
    let priority = facility as u8 * 8 + severity(entry.level);
    let Utc { month, day, hour, minute, second, .. } = Utc::new(entry.time);
    let month = usize::try_from(month).unwrap_or(1).saturating_sub(1);
    let month = MONTHS.get(month).unwrap_or(&"Jan");
    let pid = std::process::id();
    let mut line =
        format!("<{priority}>{month} {day:2} {hour:02}:{minute:02}:{second:02} culex[{pid}]: ");
    entry.text_without_time(&mut line);
    line
}

/// The journal's own form: one field per line. Values have no line ends.
fn journal(entry: &Entry) -> String {
    let mut message = String::new();
    entry.text_without_time(&mut message);
    let priority = severity(entry.level);
    let mut text = format!(
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER=culex\nMESSAGE={message}\nCULEX_TARGET={}\n",
        entry.target
    );
    for (name, value) in &entry.fields {
        let value = match value {
            Value::Text(value) | Value::Shown(value) => value.replace(char::is_control, " "),
            Value::Number(value) => value.to_string(),
            Value::Count(value) => value.to_string(),
            Value::Flag(value) => value.to_string(),
        };
        let name = name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
        let _infallible = writeln!(text, "CULEX_{name}={value}");
    }
    text
}
