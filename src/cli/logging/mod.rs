//! The log of the broker, and its audit log.
//!
//! ```text
//!   info!(…) ─▶ level of its target? ─▶ Entry ─▶ queue ─▶ writer thread ─▶ stderr, file, syslog, …
//!      └─ target "audit" ─▶ Entry ─▶ queue ─▶ audit thread ─▶ file, syslog, …
//! ```

mod audit;
mod entry;
mod sink;
mod writer;

pub(super) use audit::TARGET as AUDIT;
pub(super) use sink::Owner;

use super::clock;
use super::failure::{Failure, status};
use crate::config::{Level, Log};
use audit::Audit;
use entry::Entry;
use sink::Sink;
use std::io;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{Filtered, Targets};
use tracing_subscriber::layer::{Context, Layer, Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};
use writer::{Repeats, Writer};

/// Parts of the broker whose level is the log's; libraries are heard from warnings on.
const OWN: [&str; 2] = ["culex", "shards"];

/// Levels that can change.
type Levels<S> = reload::Layer<Targets, S>;
/// Where the audit log listens: behind the log.
type Inner = Layered<Filtered<Lines, Levels<Registry>, Registry>, Registry>;

/// The log while it runs.
#[derive(Debug)]
pub(super) struct Logging {
    writer: Writer,
    audit: Audit,
    levels: reload::Handle<Targets, Registry>,
    audited: reload::Handle<Targets, Inner>,
    log: Log,
}

/// New settings of the log with what they opened; nothing if they are those in force.
#[derive(Debug)]
pub(super) struct Prepared(Option<(Log, Vec<Sink>, Vec<Sink>)>);

impl Logging {
    /// Starts logging for the whole process; has no effect if a log is set up already.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn start(log: &Log, owner: Owner) -> Result<Self, Failure> {
        let failure = |error: io::Error| Failure::new(status::USAGE, format!("log: {error}"));
        let sinks = Sink::all(log, owner).map_err(failure)?;
        let writer = Writer::start("log", sinks, Repeats::Count).map_err(failure)?;
        let audit = Sink::audit(log, owner).and_then(Audit::start).map_err(failure)?;
        let (levels, handle) = reload::Layer::new(levels(log));
        let lines = Lines(writer.clone()).with_filter(levels);
        let (events, audited) = reload::Layer::new(events(log));
        let events = Events(audit.clone()).with_filter(events);
        // Only a second call can fail, and then the first one's log is the one to keep.
        let _already_set = tracing_subscriber::registry().with(lines).with(events).try_init();
        Ok(Self { writer, audit, levels: handle, audited, log: log.clone() })
    }

    /// Opens what new settings name. Changes nothing.
    ///
    /// # Errors
    /// What cannot be opened.
    pub(super) fn prepare(&self, log: &Log) -> Result<Prepared, String> {
        if *log == self.log {
            return Ok(Prepared(None));
        }
        // The process may have become somebody else meanwhile; what it makes is its own.
        let failed = |error: io::Error| format!("log: {error}");
        let sinks = Sink::all(log, None).map_err(failed)?;
        let audit = Sink::audit(log, None).map_err(failed)?;
        Ok(Prepared(Some((log.clone(), sinks, audit))))
    }

    /// Takes new settings over.
    pub(super) fn take(&mut self, prepared: Prepared) {
        let Some((log, sinks, audit)) = prepared.0 else { return };
        // These fail only if the process logs elsewhere, and then there are no levels here.
        let _elsewhere = self.levels.reload(levels(&log));
        self.writer.replace(sinks);
        self.audit.replace(audit);
        let _elsewhere = self.audited.reload(events(&log));
        self.log = log;
    }

    /// Opens the files anew, because another program has moved them.
    pub(super) fn reopen(&self) {
        self.writer.reopen();
        self.audit.reopen();
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.writer.flush();
        self.audit.flush();
    }
}

/// What is logged of whom.
fn levels(log: &Log) -> Targets {
    let level = filter(log.level);
    let mut targets = Targets::new().with_default(level.min(LevelFilter::WARN));
    for own in OWN {
        targets = targets.with_target(own, level);
    }
    for (target, level) in &log.targets {
        targets = targets.with_target(target, filter(*level));
    }
    targets.with_target(AUDIT, LevelFilter::OFF)
}

/// What the audit log hears: its events, if they go anywhere.
fn events(log: &Log) -> Targets {
    let is_kept = log.audit_file.is_some() || !log.audit_to.is_empty();
    let level = if is_kept { LevelFilter::TRACE } else { LevelFilter::OFF };
    Targets::new().with_target(AUDIT, level)
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// Events of the log.
#[derive(Debug)]
struct Lines(Writer);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(Entry::new(event, clock::wall()));
    }
}

/// Events of the audit log.
#[derive(Debug)]
struct Events(Audit);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(Entry::new(event, clock::wall()));
    }
}
