//! What the kernel says about a process: CPU time and memory.
//!
//! Source: proc(5). CPU time is utime + stime of the thread group, which counts every thread, those
//! that ended too; its grain is 10 ms. `run_ns` adds up `schedstat` of the living threads and has a
//! grain of nanoseconds; it serves where little is used.

use crate::clock::float;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs;

/// `USER_HZ`; fixed at 100 in the interface of every Linux architecture Culex runs on.
const TICKS_PER_S: f64 = 100.0;

/// CPU time used since the process started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// In the program.
    pub(crate) user_s: f64,
    /// In the kernel for the program.
    pub(crate) system_s: f64,
    /// Time on a CPU of all living threads, 0 if the kernel does not tell.
    pub(crate) run_ns: u64,
}

impl Cpu {
    /// Reads the counters of `pid`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let (user, system) = stat_ticks(&text).with_context(|| format!("parsing {path}"))?;
        Ok(Self {
            user_s: float(user) / TICKS_PER_S,
            system_s: float(system) / TICKS_PER_S,
            run_ns: run_ns(pid),
        })
    }

    /// What was used between `earlier` and `self`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
        }
    }

    /// User and system time.
    pub(crate) fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }
}

/// Fields 14 and 15 of `stat`; the name in field 2 may hold blanks and parentheses.
fn stat_ticks(text: &str) -> Option<(u64, u64)> {
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Sum of the time on CPU of all threads.
fn run_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let one = |text: String| text.split_ascii_whitespace().next()?.parse::<u64>().ok();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok())
        .filter_map(one)
        .sum()
}

/// Bytes that `pid` has had written to disks, those of its pages that left the cache included.
pub(crate) fn disk_bytes(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/io");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    let bytes = line.and_then(|number| number.trim().parse().ok());
    bytes.with_context(|| format!("{path} has no write_bytes"))
}

/// Memory of a process, from `smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to the names")]
pub(crate) struct Memory {
    /// Resident bytes.
    pub(crate) rss_bytes: u64,
    /// Resident bytes, shared pages divided by their users.
    pub(crate) pss_bytes: u64,
    /// Resident bytes that only this process has and that it wrote.
    pub(crate) private_dirty_bytes: u64,
}

impl Memory {
    /// Reads the memory of `pid`.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_ascii_whitespace().next());
            let kib = number.and_then(|digits| digits.parse::<u64>().ok());
            kib.map(|kib| kib * 1024).with_context(|| format!("{path} has no {name}"))
        };
        Ok(Self {
            rss_bytes: bytes("Rss:")?,
            pss_bytes: bytes("Pss:")?,
            private_dirty_bytes: bytes("Private_Dirty:")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 123 45 0 0 20 0 1 0 9 0 0";
        assert_eq!(stat_ticks(text), Some((123, 45)));
    }

    #[test]
    fn own_writes_are_seen() {
        assert!(disk_bytes(std::process::id()).is_ok());
    }

    #[test]
    fn own_memory_is_seen() {
        let memory = Memory::of(std::process::id()).unwrap();
        assert!(memory.rss_bytes >= memory.private_dirty_bytes);
        assert!(memory.pss_bytes > 0);
    }
}
