//! A report for people: one line for each thing that was measured.

use super::{CpuUse, Report};
use crate::host::Memory;
use crate::latency::Latency;
use crate::layers::Transport;
use crate::scenario::Scenario;
use crate::traffic::Tally;
use std::fmt::{self, Display, Formatter};

const MIB: f64 = 1024.0 * 1024.0;

/// A number with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are counts")]
fn rounded(value: f64) -> String {
    grouped(value.round().max(0.0) as u64)
}

/// A time in the unit that suits it.
fn time(us: f64) -> String {
    if us >= 1e6 {
        format!("{:.2} s", us / 1e6)
    } else if us >= 1e3 {
        format!("{:.2} ms", us / 1e3)
    } else {
        format!("{us:.0} µs")
    }
}

fn percentiles(latency: &Latency) -> String {
    let Latency { count, p50_us, p90_us, p99_us, p999_us, max_us, .. } = latency;
    let [p50, p90, p99, p999, max] = [p50_us, p90_us, p99_us, p999_us, max_us].map(|us| time(*us));
    format!("p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, max {max} ({} times)", grouped(*count))
}

#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn mib(memory: Memory) -> f64 {
    memory.rss_bytes as f64 / MIB
}

fn subject(scenario: &Scenario) -> String {
    let Scenario { kind, publishers, subscribers, qos, payload_bytes, version, .. } = scenario;
    let kind = format!("{kind:?}").to_lowercase();
    let version = if *version == 5 { "5.0" } else { "3.1.1" };
    let transport = match scenario.transport {
        Transport::Tcp => "TCP",
        Transport::Tls => "TLS",
        Transport::Ws => "WebSocket",
        Transport::Wss => "WebSocket over TLS",
    };
    if scenario.is_silent() {
        return format!("{kind}, {subscribers} clients, MQTT {version} over {transport}");
    }
    let durable = if scenario.durable { ", durable sessions" } else { "" };
    format!(
        "{kind}, {publishers} → {subscribers}, QoS {qos}, {payload_bytes} bytes, \
         MQTT {version} over {transport}{durable}"
    )
}

impl Report {
    fn row(f: &mut Formatter<'_>, name: &str, value: &str) -> fmt::Result {
        writeln!(f, "  {name:<18} {value}")
    }

    fn cpu(&self, cpu: &CpuUse) -> String {
        let share = format!("{:.1} % of a CPU", cpu.percent);
        if self.scenario.is_silent() {
            return format!("{:.3} % of a CPU while nothing happens", cpu.percent_run);
        }
        let CpuUse { us_per_message, system_us_per_message, .. } = cpu;
        format!("{us_per_message:.3} µs per message ({system_us_per_message:.3} system), {share}")
    }

    fn costs(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(cpu) = &self.broker {
            Self::row(f, "broker", &self.cpu(cpu))?;
        }
        Self::row(f, "generator", &self.cpu(&self.generator))?;
        if let Some(disk) = self.disk.filter(|disk| disk.written_bytes > 0) {
            let (each, factor) = (disk.bytes_per_message, disk.bytes_per_payload_byte);
            let text = format!("{each:.0} bytes written per message, {factor:.2} per payload byte");
            Self::row(f, "disk", &text)?;
        }
        if let Some(memory) = self.memory {
            Self::row(f, "broker's memory", &format!("{:.1} MiB resident", mib(memory)))?;
        }
        if let Some(of) = &self.subscriptions {
            let count = grouped(of.count);
            let text = format!("{:.0} bytes each of {count}", of.rss_bytes_each);
            Self::row(f, "subscriptions", &text)?;
        }
        if let Some(memory) = &self.footprint {
            let (empty, full, left) = (mib(memory.empty), mib(memory.full), mib(memory.left));
            let (rss, dirty) = (memory.rss_bytes_per_client, memory.private_dirty_bytes_per_client);
            let text = format!(
                "{empty:.1} MiB empty, {full:.1} full, {left:.1} afterwards; {rss:.0} bytes per \
                 client ({dirty:.0} private dirty)"
            );
            Self::row(f, "broker's memory", &text)?;
        }
        Ok(())
    }

    fn times(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Some(connects) = &self.connects {
            let us = connects.broker_us.map_or(String::new(), |us| format!(", {us:.1} µs of CPU"));
            let (count, per_s) = (grouped(connects.count), rounded(connects.per_s));
            Self::row(f, "connects", &format!("{count}, {per_s}/s{us} of the broker each"))?;
            Self::row(f, "connect time", &percentiles(&connects.latency))?;
        }
        if let Some(stored) = &self.stored {
            let cpu = stored.taken_broker_us;
            let us = cpu.map_or(String::new(), |us| format!(", {us:.3} µs of CPU each"));
            let (messages, per_s) = (grouped(stored.messages), rounded(stored.taken_per_s));
            Self::row(f, "taken", &format!("{messages} messages, {per_s}/s{us}"))?;
            Self::row(f, "first message", &percentiles(&stored.first))?;
            Self::row(f, "last message", &percentiles(&stored.last))?;
        }
        if let Some(latency) = &self.latency {
            Self::row(f, "latency", &percentiles(latency))?;
        }
        if let Some(latency) = &self.acknowledged {
            Self::row(f, "acknowledged", &percentiles(latency))?;
        }
        if let Some(visits) = &self.visits {
            let (count, per_s) = (grouped(visits.count), rounded(visits.per_s));
            Self::row(f, "visits", &format!("{count}, {per_s}/s"))?;
            Self::row(f, "visit until SUBACK", &percentiles(&visits.latency))?;
        }
        if let Some(slow) = &self.slow {
            let offered = slow.offered * u64::try_from(slow.clients).unwrap_or(0);
            let got = format!("got {} of {}", grouped(slow.delivered), grouped(offered));
            let text = if let (Some(before), Some(after)) = (slow.before, slow.after) {
                format!("{got}; broker {:.1} → {:.1} MiB", mib(before), mib(after))
            } else {
                got
            };
            Self::row(f, "slow readers", &text)?;
        }
        Ok(())
    }

    fn promises(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.tally.is_clean() {
            let delivered = grouped(self.tally.delivered);
            return Self::row(f, "promises", &format!("kept, {delivered} messages checked"));
        }
        let Tally { lost, duplicates, disordered, acks_disordered, refused, corrupt, .. } =
            self.tally;
        let text = format!(
            "BROKEN: lost {lost}, duplicates {duplicates}, disordered {disordered}, acks \
             disordered {acks_disordered}, refused {refused}, corrupt {corrupt}"
        );
        Self::row(f, "promises", &text)
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} · {}: {}", self.case, self.broker_name, subject(&self.scenario))?;
        if !self.scenario.is_silent() {
            let per_s = rounded(self.delivered_per_s);
            Self::row(f, "messages", &format!("{per_s}/s over {:.1} s", self.measured_s))?;
        }
        self.costs(f)?;
        self.times(f)?;
        self.promises(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let counts = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([time(12.3), time(1234.0), time(2.5e6)], ["12 µs", "1.23 ms", "2.50 s"]);
    }

    #[test]
    fn broken_promises_stand_out() {
        let mut report = Report { case: "a".to_owned(), ..Report::default() };
        assert!(report.to_string().contains("kept"));
        report.tally.lost = 3;
        assert!(report.to_string().contains("BROKEN: lost 3"));
    }
}
