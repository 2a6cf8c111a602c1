//! Named points at which a test makes the disk fail or the process end. Only in builds with debug
//! assertions or the feature `failpoints`; in others every point is [`Fault::None`] and costs
//! nothing.
//!
//! ```text
//!   CULEX_FAILPOINTS = point "=" action [ "@" n [ "+" ] ] { ";" … }
//!   action           = crash | crash(ms) | skip | short | eio | enospc | einval | delay(ms)
//! ```
//! `@n`: only at the n-th time (from 1); `@n+`: from then on; neither: always. `crash(ms)` ends the
//! process so many milliseconds later, when what was to happen there has happened.

use crate::log::{Action, File, Lane, Operation};

/// What is to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(any(feature = "failpoints", debug_assertions)),
    expect(dead_code, reason = "only tests make faults")
)]
pub(crate) enum Fault {
    /// Nothing special.
    None,
    /// It is not done, and said to be done.
    Skip,
    /// Only a part is written.
    Short,
    /// It is not done, and fails with this `errno`.
    Errno(i32),
    /// It is done later.
    DelayMs(u64),
}

/// The point before an operation of the log.
pub(crate) fn name(operation: &Operation) -> &'static str {
    match (&operation.action, operation.lane) {
        (Action::Write(write), Lane::Commit) => match write.file {
            File::Segment(_) if write.offset() == 0 => "log.header",
            File::Segment(_) => "log.write",
            File::Ring => "ring.write",
            File::Manifest => "manifest.write",
            File::Draft(_) => "draft.write",
        },
        (Action::Sync(file), Lane::Commit) => match file {
            File::Segment(_) => "log.sync",
            File::Ring => "ring.sync",
            File::Manifest => "manifest.sync",
            File::Draft(_) => "draft.sync",
        },
        (Action::Write(_), Lane::Mark) => "mark.write",
        (Action::Sync(_), Lane::Mark) => "mark.sync",
        (Action::Write(_), Lane::Prepare | Lane::Release) => "draft.write",
        (Action::Sync(_), Lane::Prepare | Lane::Release) => "draft.sync",
        (Action::Create(_), _) => "draft.create",
        (Action::Rename(..), _) => "draft.rename",
        (Action::SyncDirectory, _) => "directory.sync",
        (Action::Remove(_), Lane::Release) => "release.remove",
        (Action::Remove(_), _) => "draft.remove",
    }
}

#[cfg(not(any(feature = "failpoints", debug_assertions)))]
mod points {
    use super::Fault;

    /// What is to happen at this point; a crash does not return.
    pub(crate) fn hit(_: &str) -> Fault {
        Fault::None
    }

    /// The same after an operation has ended: only `crash` has a meaning there.
    pub(crate) fn hit_after(_: &str) {}

    /// Is there a point at which something is to happen?
    pub fn points_are_set() -> bool {
        false
    }

    /// The process ends here if a test wants it to.
    pub fn point(_: &str) {}
}

#[cfg(any(feature = "failpoints", debug_assertions))]
mod points {
    use super::Fault;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum What {
        Crash,
        CrashLater(u64),
        Fault(Fault),
    }

    #[derive(Debug)]
    pub(super) struct Point {
        name: String,
        what: What,
        first: u64,
        last: u64,
        hits: AtomicU64,
    }

    pub(super) fn parse(text: &str) -> Option<Vec<Point>> {
        let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        parts.map(parse_one).collect()
    }

    fn parse_one(text: &str) -> Option<Point> {
        let (name, rest) = text.split_once('=')?;
        let (what, when) = rest.split_once('@').map_or((rest, ""), |(what, when)| (what, when));
        let (first, last) = match when.strip_suffix('+') {
            Some(first) => (first.parse().ok()?, u64::MAX),
            None if when.is_empty() => (1, u64::MAX),
            None => (when.parse().ok()?, when.parse().ok()?),
        };
        let what = match what {
            "crash" => What::Crash,
            "skip" => What::Fault(Fault::Skip),
            "short" => What::Fault(Fault::Short),
            "eio" => What::Fault(Fault::Errno(libc::EIO)),
            "enospc" => What::Fault(Fault::Errno(libc::ENOSPC)),
            "einval" => What::Fault(Fault::Errno(libc::EINVAL)),
            _ => {
                let (what, ms) = what.strip_suffix(')')?.split_once('(')?;
                match (what, ms.parse().ok()?) {
                    ("crash", ms) => What::CrashLater(ms),
                    ("delay", ms) => What::Fault(Fault::DelayMs(ms)),
                    _ => return None,
                }
            }
        };
        Some(Point { name: name.trim().to_owned(), what, first, last, hits: AtomicU64::new(0) })
    }

    fn points() -> &'static [Point] {
        static POINTS: OnceLock<Vec<Point>> = OnceLock::new();
        POINTS.get_or_init(|| {
            let text = std::env::var("CULEX_FAILPOINTS").unwrap_or_default();
            let points = parse(&text);
            points.expect("CULEX_FAILPOINTS is written as shards/src/disk/faults.rs says")
        })
    }

    /// What is to happen at this point; a crash does not return.
    pub(crate) fn hit(name: &str) -> Fault {
        for point in points().iter().filter(|point| point.name == name) {
            let hit = point.hits.fetch_add(1, Ordering::Relaxed) + 1;
            if !(point.first..=point.last).contains(&hit) {
                continue;
            }
            match point.what {
                What::Crash => std::process::abort(),
                What::CrashLater(ms) => end_later(ms),
                What::Fault(fault) => return fault,
            }
        }
        Fault::None
    }

    /// The same after an operation has ended: only `crash` has a meaning there.
    pub(crate) fn hit_after(name: &str) {
        if points_are_set() {
            let _ = hit(&format!("{name}.done"));
        }
    }

    /// Is there a point at which something is to happen?
    pub fn points_are_set() -> bool {
        !points().is_empty()
    }

    /// The process ends here if a test wants it to.
    pub fn point(name: &str) {
        let _ = hit(name);
    }

    fn end_later(ms: u64) {
        std::thread::spawn(move || {
            std::thread::park_timeout(std::time::Duration::from_millis(ms));
            std::process::abort()
        });
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn points_are_parsed() {
            let points =
                parse("log.sync=skip; log.write=eio@3;log.sync.done=crash@2+;a=crash(5)").unwrap();
            let all: Vec<_> =
                points.iter().map(|p| (p.name.as_str(), p.what, p.first, p.last)).collect();
            let expected = [
                ("log.sync", What::Fault(Fault::Skip), 1, u64::MAX),
                ("log.write", What::Fault(Fault::Errno(libc::EIO)), 3, 3),
                ("log.sync.done", What::Crash, 2, u64::MAX),
                ("a", What::CrashLater(5), 1, u64::MAX),
            ];
            assert_eq!(all, expected);
            for wrong in ["log.sync", "a=b", "a=delay(x)", "a=crash@x", "a=x(1)"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}

pub(crate) use points::{hit, hit_after};
pub use points::{point, points_are_set};
