//! The one file that asks the operating system for the time.

use std::time::{Instant, SystemTime};

use crate::time::Millis;

/// A monotonic clock. Copies share their origin, so their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// Starts counting at 0.
    #[expect(clippy::disallowed_methods, reason = "this is the file that asks the OS")]
    pub fn start() -> Clock {
        Clock { origin: Instant::now() }
    }

    /// Microseconds since the start, for durations.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Time since the start.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// Milliseconds since 1970-01-01 UTC, for times that must outlive the process; 0 before that.
#[expect(clippy::disallowed_methods, reason = "this is the file that asks the OS")]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
