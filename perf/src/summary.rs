//! Table of medians and ratios over the JSON lines of many runs.
//!
//! Runs of one case are paired in their order, as the brokers ran alternately; the spread of a
//! ratio is that of the pairs.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A figure of a run: its unit and where it stands.
struct Metric {
    name: &'static str,
    pointer: &'static str,
}

/// Figures in the table; those that a run does not have are left out.
const METRICS: [Metric; 18] = [
    Metric { name: "broker µs/msg", pointer: "/broker/us_per_message" },
    Metric { name: "msg/s", pointer: "/delivered_per_s" },
    Metric { name: "generator µs/msg", pointer: "/generator/us_per_message" },
    Metric { name: "latency p50 µs", pointer: "/latency/p50_us" },
    Metric { name: "latency p99 µs", pointer: "/latency/p99_us" },
    Metric { name: "acknowledged p50 µs", pointer: "/acknowledged/p50_us" },
    Metric { name: "acknowledged p99 µs", pointer: "/acknowledged/p99_us" },
    Metric { name: "first message p99 µs", pointer: "/stored/first/p99_us" },
    Metric { name: "last message p99 µs", pointer: "/stored/last/p99_us" },
    Metric { name: "visits/s", pointer: "/visits/per_s" },
    Metric { name: "visit p99 µs", pointer: "/visits/latency/p99_us" },
    Metric { name: "B/subscription", pointer: "/subscriptions/rss_bytes_each" },
    Metric { name: "Rss B/client", pointer: "/footprint/rss_bytes_per_client" },
    Metric { name: "dirty B/client", pointer: "/footprint/private_dirty_bytes_per_client" },
    Metric { name: "Rss empty B", pointer: "/footprint/empty/rss_bytes" },
    Metric { name: "connect µs", pointer: "/connects/broker_us" },
    Metric { name: "connect p99 µs", pointer: "/connects/latency/p99_us" },
    Metric { name: "idle % CPU", pointer: "/broker/percent_run" },
];

/// Median and extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Smallest.
    pub(crate) low: f64,
    /// The middle one, or between the middle two.
    pub(crate) median: f64,
    /// Largest.
    pub(crate) high: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { low, median: f64::midpoint(lower, upper), high })
    }
}

/// Three digits.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |s| format!("{} [{}–{}]", short(s.median), short(s.low), short(s.high)),
    )
}

/// Runs of one case, by broker, in the order of their rounds.
type Case = BTreeMap<String, Vec<Value>>;

/// Makes the Markdown table; `base` is the broker that the others are divided by.
pub(crate) fn table(lines: &str, base: &str) -> Result<String> {
    let mut order: Vec<String> = Vec::new();
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (number, line) in lines.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let run: Value =
            serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
        let name = |field: &str| run.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let (case, broker) = (name("case"), name("broker_name"));
        if !order.contains(&case) {
            order.push(case.clone());
        }
        cases.entry(case).or_default().entry(broker).or_default().push(run);
    }
    ensure!(!order.is_empty(), "no runs");
    let mut out = String::from("| case | figure | broker | median [range] | ratio [range] |\n");
    out.push_str("|---|---|---|---|---|\n");
    for case in &order {
        let Some(brokers) = cases.get(case) else { continue };
        for metric in &METRICS {
            append_rows(&mut out, case, metric, brokers, base);
        }
    }
    Ok(out)
}

fn figures(runs: &[Value], metric: &Metric) -> Vec<f64> {
    let silent = |run: &Value| run.pointer("/connects").is_some_and(|c| !c.is_null());
    // The CPU share means something only where nothing happens, and a cost per message only where
    // there are messages.
    let belongs = |run: &&Value| match metric.pointer {
        "/broker/percent_run" => silent(run),
        "/broker/us_per_message" | "/generator/us_per_message" | "/delivered_per_s" => !silent(run),
        _ => true,
    };
    runs.iter().filter(belongs).filter_map(|run| run.pointer(metric.pointer)?.as_f64()).collect()
}

fn append_rows(out: &mut String, case: &str, metric: &Metric, brokers: &Case, base: &str) {
    let base_values = brokers.get(base).map(|runs| figures(runs, metric)).unwrap_or_default();
    let names = brokers.keys().filter(|name| *name == base);
    for name in names.chain(brokers.keys().filter(|name| *name != base)) {
        let values = brokers.get(name).map(|runs| figures(runs, metric)).unwrap_or_default();
        if values.is_empty() {
            continue;
        }
        let pairs = values.iter().zip(&base_values).filter(|(_, base)| **base > 0.0);
        let ratios = pairs.map(|(value, base)| value / base).collect();
        let ratio = if name == base { String::new() } else { cell(Spread::of(ratios)) };
        let figure = cell(Spread::of(values));
        // Writing to a string cannot fail.
        writeln!(out, "| {case} | {} | {name} | {figure} | {ratio} |", metric.name).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_even_and_odd_counts() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { low: 1.0, median: 2.0, high: 3.0 });
        assert!((Spread::of(vec![4.0, 1.0]).unwrap().median - 2.5).abs() < 1e-9);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn pairs_make_the_ratio() {
        let run = |broker: &str, us: f64| {
            format!(
                "{{\"case\":\"a\",\"broker_name\":\"{broker}\",\
                 \"broker\":{{\"us_per_message\":{us}}}}}"
            )
        };
        let lines = [run("old", 10.0), run("new", 1.0), run("new", 4.0), run("old", 20.0)];
        let table = table(&lines.join("\n"), "old").unwrap();
        let expected = "| a | broker µs/msg | new | 2.50 [1.00–4.00] | 0.150 [0.100–0.200] |";
        assert!(table.contains(expected), "{table}");
    }
}
