//! The log: one line per event on stderr, `2026-11-20T10:27:59.217Z  INFO what happened key=value`.

use super::calendar::Utc;
use super::clock;
use crate::config::{Ansi, Level, Log};
use std::fmt;
use std::io::{IsTerminal, stderr};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging for the whole process; has no effect if a log is set up already.
///
/// Libraries are heard from warnings on only, whatever the level is.
pub(super) fn start(log: &Log) {
    let ansi = match log.ansi {
        Ansi::Auto => stderr().is_terminal(),
        Ansi::Always => true,
        Ansi::Never => false,
    };
    let level = match log.level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("culex", level)
        .with_target("shards", level);
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_target(false)
        .with_timer(Stamp)
        .with_ansi(ansi)
        .with_writer(stderr);
    // Only a second call can fail, and then the first one's log is the one to keep.
    let _already_set = tracing_subscriber::registry().with(targets).with(lines).try_init();
}

/// UTC with milliseconds.
struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, out: &mut Writer<'_>) -> fmt::Result {
        let Utc { year, month, day, hour, minute, second, nanosecond, .. } =
            Utc::new(clock::wall());
        let ms = nanosecond / 1_000_000;
        write!(out, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}
