//! Counters of one shard's log, all since its start.

/// Steps of [`LogStats::sync_latency`].
pub const LATENCY_STEPS: usize = 16;
/// A sync longer than this is slow.
pub(super) const SLOW_SYNC_US: u64 = 1_000_000;

/// What one log has done. Plain numbers: only the shard itself reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Records taken.
    pub records: u64,
    /// Records refused, for whatever reason.
    pub refused: u64,
    /// Batches written.
    pub batches: u64,
    /// Bytes of batches written, padding included.
    pub bytes: u64,
    /// Syncs of batches.
    pub syncs: u64,
    /// Longest sync of batches, in microseconds.
    pub sync_us_max: u64,
    /// Syncs of batches by duration: step n counts those of less than 2^n × 64 µs that no step
    /// before counts; the last one counts the rest, from about a second on.
    pub sync_latency: [u64; LATENCY_STEPS],
    /// Syncs that took longer than a second.
    pub slow_syncs: u64,
    /// Records and chunks read back.
    pub reads: u64,
    /// Reads that gave none.
    pub read_faults: u64,
    /// Segments that were made.
    pub segments_made: u64,
    /// Segments that were removed.
    pub segments_removed: u64,
}

impl LogStats {
    pub(super) fn synced(&mut self, us: u64) {
        self.syncs += 1;
        self.sync_us_max = self.sync_us_max.max(us);
        self.slow_syncs += u64::from(us > SLOW_SYNC_US);
        let step = (us / 64).checked_ilog2().map_or(0, |log| log as usize + 1);
        if let Some(count) = self.sync_latency.get_mut(step.min(LATENCY_STEPS - 1)) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_steps() {
        let mut stats = LogStats::default();
        for us in [0, 63, 64, 127, 128, 1_048_575, 1_048_576, u64::MAX] {
            stats.synced(us);
        }
        let latency = stats.sync_latency;
        assert_eq!((latency[0], latency[1], latency[2], latency[14], latency[15]), (2, 2, 1, 1, 2));
        assert_eq!((stats.syncs, stats.slow_syncs, stats.sync_us_max), (8, 3, u64::MAX));
    }
}
