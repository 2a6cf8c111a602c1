//! Threads of the generator: which CPUs they run on, and where they wait for each other.

use anyhow::{Context, Result, ensure};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Points of a run that all threads reach before any goes on.
#[derive(Debug)]
pub(crate) struct Crew {
    size: usize,
    arrived: AtomicUsize,
    failed: AtomicBool,
    /// Messages delivered so far, for the progress line.
    pub(crate) delivered: AtomicU64,
}

impl Crew {
    /// A crew of `size` threads.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            arrived: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
        }
    }

    /// Waits until all threads have come to their point `number`, counted from 1; `serve` keeps the
    /// caller's sockets alive meanwhile.
    ///
    /// # Errors
    /// If another thread has failed, or `serve` fails.
    pub(crate) fn meet(&self, number: usize, mut serve: impl FnMut() -> Result<()>) -> Result<()> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        while self.arrived.load(Ordering::SeqCst) < number * self.size {
            self.check()?;
            serve()?;
        }
        self.check()
    }

    /// # Errors
    /// If a thread has failed.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.failed.load(Ordering::SeqCst), OTHER_FAILED);
        Ok(())
    }

    /// Nobody needs to go on.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }
}

/// What threads say that only followed another one's failure.
pub(crate) const OTHER_FAILED: &str = "another thread failed";

/// Keeps the calling thread on `cpu`.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};
    ensure!(cpu < CpuSet::MAX_CPU, "there is no CPU {cpu}");
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("running on CPU {cpu}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_meet_before_any_goes_on() {
        let crew = Crew::new(3);
        let passed = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for point in 1..=100 {
                        let wait = || {
                            std::thread::yield_now();
                            Ok(())
                        };
                        crew.meet(point, wait).unwrap();
                        let before = passed.fetch_add(1, Ordering::SeqCst);
                        assert!((point - 1) * 3 <= before + 2, "nobody is a point ahead");
                    }
                });
            }
        });
        assert_eq!(passed.load(Ordering::SeqCst), 300);
    }

    #[test]
    fn failure_frees_those_who_wait() {
        let crew = Crew::new(2);
        let waited = crew.meet(1, || {
            crew.fail();
            Ok(())
        });
        assert_eq!(waited.unwrap_err().to_string(), OTHER_FAILED);
    }

    #[test]
    fn threads_stay_where_they_are_put() {
        let thread = std::thread::spawn(|| {
            let allowed = rustix::thread::sched_getaffinity(None).unwrap();
            let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|&cpu| allowed.is_set(cpu));
            pin(first.unwrap()).unwrap();
            rustix::thread::sched_getaffinity(None).unwrap().count()
        });
        assert_eq!(thread.join().unwrap(), 1);
    }
}
