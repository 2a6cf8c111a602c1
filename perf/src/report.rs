//! What a run found, as a line for people and as JSON.

use crate::clock::{SECOND_NS, float, quotient};
use crate::host::{Cpu, Memory};
use crate::scenario::Scenario;
use crate::traffic::Tally;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};

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

/// Percentiles in µs.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Latency {
    /// Messages counted.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50_us: f64,
    /// 90 of 100 are below.
    pub(crate) p90_us: f64,
    /// 99 of 100 are below.
    pub(crate) p99_us: f64,
    /// 999 of 1000 are below.
    pub(crate) p999_us: f64,
    /// Largest.
    pub(crate) max_us: f64,
}

impl Latency {
    /// Reads the percentiles of a histogram of nanoseconds.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let us = |quantile: f64| float(histogram.value_at_quantile(quantile)) / 1000.0;
        Self {
            count: histogram.len(),
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: float(histogram.max()) / 1000.0,
        }
    }
}

/// How connecting went.
#[derive(Clone, Copy, Debug, Serialize)]
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
    /// Puts the figures together.
    pub(crate) fn of(count: u64, seconds: f64, ns: &Histogram<u64>, cpu: Option<f64>) -> Self {
        let per_s = quotient(float(count), seconds);
        Self { count, per_s, latency: Latency::of(ns), broker_us: cpu }
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
    /// Connects, in kinds without messages.
    pub(crate) connects: Option<Connects>,
    /// Memory, in kinds without messages.
    pub(crate) footprint: Option<Footprint>,
    /// Counters and broken promises of the whole run.
    pub(crate) tally: Tally,
}

impl Report {
    fn write_messages(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, " {:>9.0} msg/s", self.delivered_per_s)?;
        if let Some(cpu) = &self.broker {
            let (us, system) = (cpu.us_per_message, cpu.system_us_per_message);
            write!(f, "  broker {us:.3} µs/msg ({system:.3} system), {:.0} % CPU", cpu.percent)?;
        }
        let own = &self.generator;
        write!(f, "  generator {:.3} µs/msg, {:.0} % CPU", own.us_per_message, own.percent)
    }

    fn write_silent(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(connects) = &self.connects {
            let Connects { per_s, latency, broker_us, .. } = connects;
            write!(f, " {per_s:.0} connects/s, p99 {:.1} ms", latency.p99_us / 1000.0)?;
            if let Some(us) = broker_us {
                write!(f, ", broker {us:.1} µs each")?;
            }
        }
        if let Some(memory) = &self.footprint {
            let (rss, dirty) = (memory.rss_bytes_per_client, memory.private_dirty_bytes_per_client);
            let kib = |bytes: u64| bytes / 1024;
            let (empty, full) = (kib(memory.empty.rss_bytes), kib(memory.full.rss_bytes));
            let left = kib(memory.left.rss_bytes);
            write!(f, "  Rss {empty} → {full} → {left} KiB, {rss:.0} B/client")?;
            write!(f, " (private dirty {dirty:.0})")?;
        }
        if let Some(cpu) = &self.broker {
            write!(f, "  idle {:.3} % CPU", cpu.percent_run)?;
        }
        Ok(())
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<10}", self.case, self.broker_name)?;
        if self.scenario.is_silent() {
            self.write_silent(f)?;
        } else {
            self.write_messages(f)?;
        }
        if let Some(latency) = &self.latency {
            let Latency { p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
            write!(f, "  latency µs p50 {p50_us:.0} p90 {p90_us:.0} p99 {p99_us:.0}")?;
            write!(f, " p999 {p999_us:.0} max {max_us:.0}")?;
        }
        if self.tally.is_clean() {
            return write!(f, "  ok");
        }
        let Tally { lost, duplicates, disordered, acks_disordered, refused, corrupt, .. } =
            self.tally;
        write!(f, "  BROKEN: lost {lost}, duplicates {duplicates}, disordered {disordered}, ")?;
        write!(f, "acks disordered {acks_disordered}, refused {refused}, corrupt {corrupt}")
    }
}
