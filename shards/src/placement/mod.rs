//! Which CPUs the shards run on.

pub mod probe;

use std::io;

use crate::sys;

/// One CPU per shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    cpus: Vec<usize>,
}

impl Placement {
    /// The CPU of each shard, by shard index. Never empty. A CPU appears twice only if more
    /// shards than CPUs were asked for.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Whether shards have to share a CPU, which costs latency.
    pub fn is_crowded(&self) -> bool {
        self.cpus
            .iter()
            .enumerate()
            .any(|(at, cpu)| self.cpus.iter().skip(at + 1).any(|c| c == cpu))
    }
}

/// Why no CPUs could be chosen.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The system does not tell.
    #[error("cannot read which CPUs this process may use: {0}")]
    Unknown(#[from] io::Error),
    /// A listed CPU does not exist or is denied (cpuset, taskset, container limit).
    #[error("CPU {cpu} is not available to this process; available: {available:?}")]
    NotAvailable {
        /// The CPU asked for.
        cpu: usize,
        /// Those it may use.
        available: Vec<usize>,
    },
    /// An empty list of CPUs, or 0 shards.
    #[error("at least one shard on one CPU is needed")]
    Nothing,
    /// More shards than the engine is built for.
    #[error("{shards} shards are too many, the maximum is {SHARDS_MAX}")]
    TooMany {
        /// The number asked for.
        shards: usize,
    },
}

/// Most shards of one engine: mailboxes grow with its square.
pub const SHARDS_MAX: usize = 128;

/// The longest slice of time there is, in nanoseconds.
const BACKGROUND_SLICE_NS: u64 = 100_000_000;

/// The calling thread computes for long, and shards that wake on its core come first.
///
/// Niceness alone makes it yield the greater part of a core, but a thread that wakes waits all the
/// same until the slice of the one that runs is over, some milliseconds. The kernel (from 6.12 on)
/// makes an exception for who has a shorter slice than the one that runs, so this one's is long.
/// The idle class would do the same, but leave next to nothing of a busy core.
///
/// `nice` is its niceness, at least what it has.
///
/// # Errors
/// What the system said; the thread goes on as before.
pub fn enter_background(nice: i32) -> io::Result<()> {
    sys::schedule(nice, BACKGROUND_SLICE_NS)
}

/// Chooses CPUs among those the process may use, or those listed.
///
/// Without a number there is one shard per CPU, up to [`SHARDS_MAX`]. With more shards than CPUs
/// they are dealt out in turn; see [`Placement::is_crowded`].
///
/// # Errors
/// [`PlacementError`]
pub fn choose(shards: Option<usize>, cpus: Option<&[usize]>) -> Result<Placement, PlacementError> {
    place(&sys::allowed_cpus()?, shards, cpus)
}

fn place(
    available: &[usize],
    shards: Option<usize>,
    cpus: Option<&[usize]>,
) -> Result<Placement, PlacementError> {
    let candidates = cpus.unwrap_or(available);
    if let Some(&cpu) = candidates.iter().find(|cpu| !available.contains(cpu)) {
        return Err(PlacementError::NotAvailable { cpu, available: available.to_vec() });
    }
    let shards = shards.unwrap_or(candidates.len().min(SHARDS_MAX));
    if shards > SHARDS_MAX {
        return Err(PlacementError::TooMany { shards });
    }
    let cpus: Vec<usize> = candidates.iter().copied().cycle().take(shards).collect();
    if cpus.is_empty() { Err(PlacementError::Nothing) } else { Ok(Placement { cpus }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_enters_the_background() {
        let entered = std::thread::spawn(|| enter_background(19)).join().expect("no panic");
        // Where all is idle work (SCHED_IDLE), or system calls are filtered, nobody may.
        if let Err(error) = entered {
            assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}");
        }
    }

    #[test]
    fn one_shard_per_allowed_cpu() {
        assert_eq!(place(&[2, 5], None, None).expect("fits").cpus(), [2, 5]);
        assert_eq!(place(&[2, 5], Some(1), None).expect("fits").cpus(), [2]);
        assert_eq!(place(&[2, 5], None, Some(&[5])).expect("fits").cpus(), [5]);
    }

    #[test]
    fn more_shards_than_cpus_share() {
        let placement = place(&[2, 5], Some(3), None).expect("fits");
        assert_eq!(placement.cpus(), [2, 5, 2]);
        assert!(placement.is_crowded());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let denied = place(&[2, 5], None, Some(&[3]));
        assert!(matches!(denied, Err(PlacementError::NotAvailable { cpu: 3, .. })));
        assert!(matches!(place(&[2], Some(0), None), Err(PlacementError::Nothing)));
        assert!(matches!(place(&[2], None, Some(&[])), Err(PlacementError::Nothing)));
        let many = place(&[2], Some(SHARDS_MAX + 1), None);
        assert!(matches!(many, Err(PlacementError::TooMany { .. })));
        assert!(place(&[2], Some(SHARDS_MAX), None).is_ok());
        let large: Vec<usize> = (0..200).collect();
        assert_eq!(place(&large, None, None).expect("some").cpus().len(), SHARDS_MAX);
    }
}
