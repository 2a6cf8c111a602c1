//! The memory of the process, looked at from time to time.
//!
//! What counts is what the kernel counts: resident pages, whoever holds them. That takes in what no
//! account of queues could, such as buffers of sockets' libraries and the allocator's own waste.

use shards::Millis;

/// Time between two looks. A broker that takes in 1 GB/s is 100 MB further by then, so a limit
/// leaves that much room to what the host has.
pub(super) const LOOK_MS: u64 = 100;

/// Looks at the memory of the whole process, for one shard among all.
#[derive(Debug)]
pub(super) struct Watch {
    bytes_max: u64,
    due: Millis,
}

impl Watch {
    pub(super) fn new(bytes_max: u64, now: Millis) -> Self {
        Watch { bytes_max, due: now }
    }

    /// When the next look is due.
    pub(super) fn due(&self) -> Millis {
        self.due
    }

    /// Looks, if it is time. Says whether memory is above its limit.
    pub(super) fn look(&mut self, now: Millis) -> Option<bool> {
        if now < self.due {
            return None;
        }
        self.due = now.after(LOOK_MS);
        // Who cannot look does not refuse everybody for it.
        resident_bytes().map(|bytes| bytes > self.bytes_max)
    }
}

/// Makes the allocator take back, on this thread, what other threads have freed of it. It does so
/// by the way of allocations, and these are few while nothing new is taken in; without this the
/// memory would stay above its limit though it is free. About 10 µs.
pub(super) fn take_back_freed() {
    for shift in 10..20 {
        for _ in 0..16 {
            drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << shift)));
        }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_seen_and_compared() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        let mut tight = Watch::new(1, Millis(5));
        assert_eq!(tight.look(Millis(4)), None);
        assert_eq!(tight.look(Millis(5)), Some(true));
        assert_eq!(tight.look(Millis(6)), None);
        assert_eq!(Watch::new(u64::MAX, Millis(0)).look(Millis(0)), Some(false));
    }
}
