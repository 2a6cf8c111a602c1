//! Time for the command-line tools, which run outside the shards.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// Monotonic milliseconds since the first call.
#[expect(clippy::disallowed_methods, reason = "the tools run outside the shards")]
pub(super) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Time since 1970 in UTC; zero if the clock stands before.
#[expect(clippy::disallowed_methods, reason = "the tools run outside the shards")]
pub(super) fn wall() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
