//! The one place of this crate that asks for the time.

use std::time::Instant;

/// Monotonic nanoseconds since the start of the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this file is the crate's clock")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start. Wraps after 584 years.
    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds per second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// A count as a number to divide by; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "reports show three digits")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// `part / whole`, 0 if there is no whole.
pub(crate) fn quotient(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Seconds given by a person, as nanoseconds; at most one day.
pub(crate) fn seconds_ns(seconds: f64) -> u64 {
    let duration = std::time::Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0));
    duration.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}
