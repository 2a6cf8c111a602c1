//! Monotonic time as a number. Pure; [`crate::clock`] is the one place that asks the OS.

/// Milliseconds since the engine started. All shards of a process count from the same moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// A deadline that never comes.
    pub const MAX: Millis = Millis(u64::MAX);

    /// The moment `ms` later; saturates.
    #[must_use]
    pub const fn after(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; 0 if `earlier` is later.
    pub const fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
