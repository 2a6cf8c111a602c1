//! The log of the broker, and its audit log.
//!
//! ```text
//!   info!(…) ─▶ level of its target? ─▶ Entry ─▶ queue ─▶ writer thread ─▶ stderr, file, syslog, …
//!      └─ target "audit" ─▶ Entry ─▶ queue ─▶ audit thread ─▶ file
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
use tracing::{Event, Subscriber, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};
use writer::{Repeats, Writer};

/// Parts of the broker whose level is the log's; libraries are heard from warnings on.
const OWN: [&str; 2] = ["culex", "shards"];

/// The log while it runs.
#[derive(Debug)]
pub(super) struct Logging {
    writer: Writer,
    audit: Option<Audit>,
    levels: reload::Handle<Targets, Registry>,
    log: Log,
}

impl Logging {
    /// Starts logging for the whole process; has no effect if a log is set up already.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub(super) fn start(log: &Log, owner: Owner) -> Result<Self, Failure> {
        let failure = |error: io::Error| Failure::new(status::USAGE, format!("log: {error}"));
        let sinks = Sink::all(log, owner).map_err(failure)?;
        let writer = Writer::start("log", sinks, Repeats::Count).map_err(failure)?;
        let audit = log.audit_file.as_deref().map(|path| Audit::start(path, owner));
        let audit = audit.transpose().map_err(failure)?;
        let (levels, handle) = reload::Layer::new(levels(log));
        let lines = Lines(writer.clone()).with_filter(levels);
        let events = audit.clone().map(|audit| {
            let own = Targets::new().with_target(AUDIT, LevelFilter::TRACE);
            Events(audit).with_filter(own)
        });
        // Only a second call can fail, and then the first one's log is the one to keep.
        let _already_set = tracing_subscriber::registry().with(lines).with(events).try_init();
        Ok(Self { writer, audit, levels: handle, log: log.clone() })
    }

    /// Takes new settings over. Files that cannot be opened leave the old destinations.
    ///
    /// # Errors
    /// What is not as the settings say, for the log.
    pub(super) fn reload(&mut self, log: &Log) -> Result<(), String> {
        self.levels.reload(levels(log)).map_err(|error| error.to_string())?;
        if *log != self.log {
            // The process may have become somebody else meanwhile; what it makes is its own.
            let sinks = Sink::all(log, None).map_err(|error| format!("log: {error}"))?;
            self.writer.replace(sinks);
            if log.audit_file != self.log.audit_file {
                warn!("log.audit_file changes with the next start only");
            }
            self.log = log.clone();
        }
        Ok(())
    }

    /// Opens the files anew, because another program has moved them.
    pub(super) fn reopen(&self) {
        self.writer.reopen();
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.writer.flush();
        if let Some(audit) = &self.audit {
            audit.flush();
        }
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
struct Lines(Writer);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(Entry::new(event, clock::wall()));
    }
}

/// Events of the audit log.
struct Events(Audit);

impl<S: Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.0.write(Entry::new(event, clock::wall()));
    }
}
