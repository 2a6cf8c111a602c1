//! Between the clock of a process and the time of day.

use shards::Millis;

/// What the time of day was when the clock of this process stood at 0.
///
/// Records keep moments as milliseconds since 1970, because the clock of a process ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Milliseconds since 1970.
    pub start_ms: u64,
}

impl Wall {
    /// The time of day at `at`; saturates.
    pub const fn of(self, at: Millis) -> u64 {
        self.start_ms.saturating_add(at.0)
    }

    /// The moment of this process at that time of day; its start if that was earlier.
    pub const fn at(self, wall_ms: u64) -> Millis {
        Millis(wall_ms.saturating_sub(self.start_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_go_there_and_back() {
        let wall = Wall { start_ms: 1_700_000_000_000 };
        assert_eq!(wall.of(Millis(5)), 1_700_000_000_005);
        assert_eq!(wall.at(1_700_000_000_005), Millis(5));
    }

    #[test]
    fn earlier_than_the_process_is_its_start() {
        assert_eq!(Wall { start_ms: 10 }.at(9), Millis(0));
        assert_eq!(Wall { start_ms: 10 }.of(Millis::MAX), u64::MAX);
    }
}
