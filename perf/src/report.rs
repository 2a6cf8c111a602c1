//! What a run found; as JSON it is one object.

mod table;

use crate::clock::{SECOND_NS, float, quotient};
use crate::host::{Cpu, Memory};
use crate::latency::Latency;
use crate::scenario::Scenario;
use crate::traffic::Tally;
use serde::Serialize;

/// CPU of one process over the measured interval.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct CpuUse {
    /// User and system time per delivered message (or connect), 0 without any.
    pub(crate) us_per_message: f64,
    /// Part of that in the kernel.
    pub(crate) system_us_per_message: f64,
    /// Share of one CPU in percent, from utime and stime.
    pub(crate) percent: f64,
    /// The same from the scheduler's nanoseconds; for what is nearly idle.
    pub(crate) percent_run: f64,
}

impl CpuUse {
    /// Spreads `used` over `messages` and `seconds`.
    pub(crate) fn of(used: Cpu, seconds: f64, messages: u64) -> Self {
        let run_s = quotient(float(used.run_ns), float(SECOND_NS));
        Self {
            us_per_message: quotient(used.total_s() * 1e6, float(messages)),
            system_us_per_message: quotient(used.system_s * 1e6, float(messages)),
            percent: quotient(used.total_s() * 100.0, seconds),
            percent_run: quotient(run_s * 100.0, seconds),
        }
    }
}

/// How connecting went.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Connects {
    /// Clients that connected and subscribed.
    pub(crate) count: u64,
    /// Clients per second.
    pub(crate) per_s: f64,
    /// From the start of a connection to its SUBACK.
    pub(crate) latency: Latency,
    /// CPU of the broker per client, in µs.
    pub(crate) broker_us: Option<f64>,
}

impl Connects {
    /// Puts the figures together; the latency comes with those of all threads.
    pub(crate) fn of(count: u64, seconds: f64, broker_us: Option<f64>) -> Self {
        let per_s = quotient(float(count), seconds);
        Self { count, per_s, latency: Latency::default(), broker_us }
    }
}

/// Memory of the broker without, with, and again without clients.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Footprint {
    /// Before the first client.
    pub(crate) empty: Memory,
    /// With all clients.
    pub(crate) full: Memory,
    /// Two seconds after they left.
    pub(crate) left: Memory,
    /// Growth of Rss per client in bytes.
    pub(crate) rss_bytes_per_client: f64,
    /// Growth of Pss per client in bytes.
    pub(crate) pss_bytes_per_client: f64,
    /// Growth of `Private_Dirty` per client in bytes.
    pub(crate) private_dirty_bytes_per_client: f64,
}

impl Footprint {
    /// Spreads the growth over `clients`.
    pub(crate) fn of(clients: u64, empty: Memory, full: Memory, left: Memory) -> Self {
        let each =
            |before: u64, after: u64| quotient(float(after.saturating_sub(before)), float(clients));
        Self {
            empty,
            full,
            left,
            rss_bytes_per_client: each(empty.rss_bytes, full.rss_bytes),
            pss_bytes_per_client: each(empty.pss_bytes, full.pss_bytes),
            private_dirty_bytes_per_client: each(
                empty.private_dirty_bytes,
                full.private_dirty_bytes,
            ),
        }
    }
}

/// Memory of the broker without and with subscriptions.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Subscriptions {
    /// Subscriptions.
    pub(crate) count: u64,
    /// Before the first client.
    pub(crate) empty: Memory,
    /// With all subscriptions.
    pub(crate) full: Memory,
    /// Growth of Rss per subscription in bytes.
    pub(crate) rss_bytes_each: f64,
}

impl Subscriptions {
    /// Spreads the growth over `count`, if both are known.
    pub(crate) fn of(count: u64, empty: Option<Memory>, full: Option<Memory>) -> Option<Self> {
        let (empty, full) = (empty?, full?);
        let grown = full.rss_bytes.saturating_sub(empty.rss_bytes);
        Some(Self { count, empty, full, rss_bytes_each: quotient(float(grown), float(count)) })
    }
}

/// What the broker wrote to disk in the measured interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Disk {
    /// All of it.
    pub(crate) written_bytes: u64,
    /// Divided by the payload that was delivered.
    pub(crate) bytes_per_payload_byte: f64,
    /// Divided by the messages that were delivered.
    pub(crate) bytes_per_message: f64,
}

/// Messages that the broker kept for those who came later.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Stored {
    /// Messages it took.
    pub(crate) messages: u64,
    /// How many per second.
    pub(crate) taken_per_s: f64,
    /// CPU of the broker for each, in µs.
    pub(crate) taken_broker_us: Option<f64>,
    /// From the start of a connection to its first message.
    pub(crate) first: Latency,
    /// From the start of a connection to its last message.
    pub(crate) last: Latency,
}

/// Clients that came and went beside the others.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Visits {
    /// Clients served in the measured interval.
    pub(crate) count: u64,
    /// The same per second.
    pub(crate) per_s: f64,
    /// From when a client was due to its SUBACK, over the whole run.
    pub(crate) latency: Latency,
}

impl Visits {
    /// `count` clients in `seconds`; the latency comes when all have left.
    pub(crate) fn of(count: u64, seconds: f64) -> Self {
        let latency = Latency::default();
        Self { count, per_s: quotient(float(count), seconds), latency }
    }
}

/// Subscribers that did not read.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Slow {
    /// Their number.
    pub(crate) clients: usize,
    /// Messages for each of them.
    pub(crate) offered: u64,
    /// Messages that all of them together got when they read again.
    pub(crate) delivered: u64,
    /// Memory of the broker at the start of the measured interval.
    pub(crate) before: Option<Memory>,
    /// Memory of the broker at its end.
    pub(crate) after: Option<Memory>,
}

/// Result of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Name of the case, for `summary`.
    pub(crate) case: String,
    /// Name of the broker, for `summary`.
    pub(crate) broker_name: String,
    /// Parameters.
    pub(crate) scenario: Scenario,
    /// Length of the measured interval.
    pub(crate) measured_s: f64,
    /// Messages delivered in it.
    pub(crate) delivered: u64,
    /// The same per second.
    pub(crate) delivered_per_s: f64,
    /// CPU of the broker, if its pid was given.
    pub(crate) broker: Option<CpuUse>,
    /// CPU of the generator.
    pub(crate) generator: CpuUse,
    /// Latency, if the kind of load says something about it.
    pub(crate) latency: Option<Latency>,
    /// Time from the intended sending to PUBACK or PUBCOMP, at QoS 1 and 2.
    pub(crate) acknowledged: Option<Latency>,
    /// Connects, in kinds without messages.
    pub(crate) connects: Option<Connects>,
    /// Memory, in kinds without messages.
    pub(crate) footprint: Option<Footprint>,
    /// Memory at the end of the measured interval.
    pub(crate) memory: Option<Memory>,
    /// Memory of subscriptions, in `topics`.
    pub(crate) subscriptions: Option<Subscriptions>,
    /// What went to disk, if the kernel tells.
    pub(crate) disk: Option<Disk>,
    /// In `offline` and `retained`.
    pub(crate) stored: Option<Stored>,
    /// In `churn`.
    pub(crate) visits: Option<Visits>,
    /// In `slow`.
    pub(crate) slow: Option<Slow>,
    /// Counters and broken promises of the whole run.
    pub(crate) tally: Tally,
}
