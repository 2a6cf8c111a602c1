//! RESULTS.md and its plots, from the runs that `scripts/perf/results.sh` left.

mod plot;

use crate::summary::{Spread, short};
use anyhow::{Context, Result};
use plot::{Axis, Chart, Series};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Brokers in the order of the tables.
const BROKERS: [&str; 3] = ["culex", "relay", "mosquitto"];

/// All runs of one set.
#[derive(Debug, Default)]
struct Runs(Vec<Value>);

impl Runs {
    /// A set that was not measured is empty.
    fn load(folder: &Path, set: &str) -> Result<Self> {
        let path = folder.join(format!("{set}.jsonl"));
        let name = path.display();
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let runs: Result<Vec<Value>> = lines
            .map(|line| serde_json::from_str(line).with_context(|| format!("reading {name}")))
            .collect();
        Ok(Self(runs?))
    }

    fn of<'a>(&'a self, case: &'a str, broker: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .filter(move |run| text(run, "case") == case && text(run, "broker_name") == broker)
    }

    /// The figure at `pointer` in the runs of a case, in their order.
    fn figures(&self, case: &str, broker: &str, pointer: &str) -> Vec<f64> {
        self.of(case, broker).filter_map(|run| run.pointer(pointer)?.as_f64()).collect()
    }

    fn median(&self, case: &str, broker: &str, pointer: &str) -> Option<f64> {
        Spread::of(self.figures(case, broker, pointer)).map(|spread| spread.median)
    }

    /// Ratio of two brokers in runs that stood beside each other.
    fn ratio(&self, case: &str, brokers: [&str; 2], pointer: &str) -> Option<Spread> {
        let [above, below] = brokers.map(|broker| self.figures(case, broker, pointer));
        let pairs = above.iter().zip(&below).filter(|(_, below)| **below > 0.0);
        Spread::of(pairs.map(|(above, below)| above / below).collect())
    }

    /// Median of `y` at each value of `x`, ascending.
    fn curve(&self, broker: &str, x: &str, y: &str) -> Vec<(f64, f64)> {
        let number = |run: &Value, pointer: &str| run.pointer(pointer).and_then(Value::as_f64);
        let of_broker = || self.0.iter().filter(|run| text(run, "broker_name") == broker);
        let mut places: Vec<f64> = of_broker().filter_map(|run| number(run, x)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let at = |place: f64| {
            let there = of_broker().filter(|run| number(run, x) == Some(place));
            Spread::of(there.filter_map(|run| number(run, y)).collect())
        };
        places.iter().filter_map(|&place| Some((place, at(place)?.median))).collect()
    }
}

fn text<'a>(run: &'a Value, field: &str) -> &'a str {
    run.get(field).and_then(Value::as_str).unwrap_or("")
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), short)
}

/// One part in how many: a ratio below one as people say it.
fn part(spread: Option<Spread>) -> String {
    let say = |ratio: f64| {
        if ratio < 1.0 { format!("1/{}", short(1.0 / ratio)) } else { short(ratio) }
    };
    spread.map_or_else(
        || "–".to_owned(),
        |s| format!("{} [{}–{}]", say(s.median), say(s.low), say(s.high)),
    )
}

fn times(spread: Option<Spread>) -> String {
    spread.map_or_else(
        || "–".to_owned(),
        |s| format!("{} [{}–{}]", short(s.median), short(s.low), short(s.high)),
    )
}

/// Writes `out/RESULTS.md` and `out/plots/*.svg`.
///
/// # Errors
/// If the runs cannot be read or the files not be written.
pub(crate) fn write(folder: &Path, out: &Path) -> Result<()> {
    let plots = out.join("plots");
    fs::create_dir_all(&plots).with_context(|| format!("making {}", plots.display()))?;
    let mut text = introduction(folder);
    text += &headline(&Runs::load(folder, "headline")?);
    text += &footprint(&Runs::load(folder, "footprint")?);
    text += &load(&Runs::load(folder, "load")?, &plots)?;
    text += &clients(&Runs::load(folder, "clients")?, &plots)?;
    text += &durable(&Runs::load(folder, "durable")?);
    text += &others(&Runs::load(folder, "others")?);
    text += &many(&Runs::load(folder, "many")?);
    let path = out.join("RESULTS.md");
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

fn introduction(folder: &Path) -> String {
    let machine = fs::read_to_string(folder.join("machine")).unwrap_or_default();
    let mut out = String::from(
        "# Results\n\nWritten by `make perf-results`; what is measured and how stands in \
         [README.md](README.md).\nBroker on one core, generator on another, loopback, MQTT 3.1.1, \
         64-byte payloads unless said. Mosquitto\nis Debian's, with unlimited queues and window \
         and nothing on disk. The relay is the engine of Culex\nwithout a broker: bytes in, the \
         same bytes out; it is the limit of this machine.\n\n| | |\n|---|---|\n",
    );
    for line in machine.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        writeln!(out, "| {name} | {value} |").ok();
    }
    out
}

/// What the cases of the headline table are called.
const HEADLINE: [(&str, &str); 8] = [
    ("qos0", "10 → 10, QoS 0"),
    ("qos1", "10 → 10, QoS 1, window 100"),
    ("qos2", "10 → 10, QoS 2, window 100"),
    ("fanout", "1 → 100, QoS 0"),
    ("fanin", "100 → 1, QoS 0"),
    ("shared", "10 → shared group of 10, QoS 1"),
    ("sparse", "1000 pairs, 20,000 msg/s in all, QoS 0"),
    ("qos0_4k", "10 → 10, QoS 0, 4 KiB"),
];

fn headline(runs: &Runs) -> String {
    const US: &str = "/broker/us_per_message";
    let mut out = String::from(
        "\n## Broker CPU per delivered message\n\nIn µs, user and system, median; ratios of runs \
         beside each other: median [smallest–largest].\n\n| case | Culex | relay | Mosquitto | \
         Culex : Mosquitto | Culex : relay | Culex, msg/s | Mosquitto, msg/s |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (case, name) in HEADLINE {
        let [culex, relay, mosquitto] = BROKERS.map(|broker| number(runs.median(case, broker, US)));
        let against = part(runs.ratio(case, ["culex", "mosquitto"], US));
        let ceiling = times(runs.ratio(case, ["culex", "relay"], US));
        let [ours, theirs] = ["culex", "mosquitto"]
            .map(|broker| number(runs.median(case, broker, "/delivered_per_s")));
        writeln!(
            out,
            "| {name} | {culex} | {relay} | {mosquitto} | {against} | {ceiling} | {ours} | \
             {theirs} |"
        )
        .ok();
    }
    let p99 = |broker| number(runs.median("sparse", broker, "/latency/p99_us"));
    let [culex, relay, mosquitto] = BROKERS.map(p99);
    let rounds = runs.of("qos0", "culex").count();
    writeln!(
        out,
        "\nMedians of {rounds} rounds. Latency of the 1000 pairs, p99: Culex {culex} µs, relay \
         {relay} µs, Mosquitto {mosquitto} µs.\nWhere the generator's core is full, messages per \
         second are its limit, not the broker's."
    )
    .ok();
    out
}

fn footprint(runs: &Runs) -> String {
    let mut out = String::from(
        "\n## Connections\n\n18,000 clients with one subscription each.\n\n\
         | | Culex | relay | Mosquitto |\n|---|---|---|---|\n",
    );
    let rows = [
        ("memory per client, bytes", "idle", "/footprint/rss_bytes_per_client", 1.0),
        ("memory without clients, MiB", "idle", "/footprint/empty/rss_bytes", MIB),
        ("memory after all have left, MiB", "idle", "/footprint/left/rss_bytes", MIB),
        ("CPU while idle, %", "idle", "/broker/percent_run", 1.0),
        ("connect + subscribe, µs of CPU", "connect", "/connects/broker_us", 1.0),
        ("connect + subscribe, p99 µs", "connect", "/connects/latency/p99_us", 1.0),
        ("connects per second", "connect", "/connects/per_s", 1.0),
    ];
    for (name, case, pointer, unit) in rows {
        let cells = BROKERS
            .map(|broker| number(runs.median(case, broker, pointer).map(|value| value / unit)));
        writeln!(out, "| {name} | {} |", cells.join(" | ")).ok();
    }
    out
}

const MIB: f64 = 1024.0 * 1024.0;

fn series(runs: &Runs, x: &str, y: &str, unit: f64) -> Vec<Series> {
    let curve = |broker| {
        let points = runs.curve(broker, x, y);
        points.into_iter().map(|(x, y)| (x, y / unit)).collect()
    };
    let name = |broker: &str| match broker {
        "culex" => "Culex",
        "relay" => "relay",
        _ => "Mosquitto",
    };
    BROKERS.map(|broker| Series { name: name(broker), points: curve(broker) }).into_iter().collect()
}

fn load(runs: &Runs, plots: &Path) -> Result<String> {
    const RATE: &str = "/scenario/rate";
    let offered = Axis { name: "offered messages per second", log: true };
    for (file, title, y, name) in [
        ("latency_p50", "Latency, median", "/latency/p50_us", "µs"),
        ("latency_p99", "Latency, 99th percentile", "/latency/p99_us", "µs"),
    ] {
        let y_axis = Axis { name, log: true };
        let series = series(runs, RATE, y, 1.0);
        plot::draw(&plots.join(file), &Chart { title, x: offered, y: y_axis, series })?;
    }
    let delivered = Axis { name: "delivered messages per second", log: true };
    let series = series(runs, RATE, "/delivered_per_s", 1.0);
    let title = "Throughput";
    plot::draw(&plots.join("throughput"), &Chart { title, x: offered, y: delivered, series })?;

    let mut out = String::from(
        "\n## Latency and throughput against load\n\n50 pairs, QoS 0, a fixed rate in all; latency \
         from the intended time of sending.\n\n![median latency](plots/latency_p50.svg)\n\
         ![99th percentile](plots/latency_p99.svg)\n![throughput](plots/throughput.svg)\n\n\
         | offered msg/s | Culex p50, p99 µs | relay p50, p99 µs | Mosquitto p50, p99 µs |\n\
         |---|---|---|---|\n",
    );
    for (rate, _) in runs.curve("culex", RATE, "/latency/p50_us") {
        let at = |broker: &str, y: &str| {
            let curve = runs.curve(broker, RATE, y);
            number(curve.iter().find(|(x, _)| x.total_cmp(&rate).is_eq()).map(|(_, y)| *y))
        };
        let cells = BROKERS.map(|broker| {
            format!("{}, {}", at(broker, "/latency/p50_us"), at(broker, "/latency/p99_us"))
        });
        writeln!(out, "| {rate:.0} | {} |", cells.join(" | ")).ok();
    }
    Ok(out)
}

fn clients(runs: &Runs, plots: &Path) -> Result<String> {
    const CLIENTS: &str = "/scenario/subscribers";
    const FULL: &str = "/footprint/full/rss_bytes";
    let x = Axis { name: "connected clients, one subscription each", log: false };
    let y = Axis { name: "resident memory, MiB", log: false };
    let series = series(runs, CLIENTS, FULL, MIB);
    let title = "Memory against connections";
    plot::draw(&plots.join("memory"), &Chart { title, x, y, series })?;
    let mut out = String::from(
        "\n## Memory against connections\n\n![memory](plots/memory.svg)\n\n\
         | clients | Culex MiB | relay MiB | Mosquitto MiB |\n|---|---|---|---|\n",
    );
    for (count, _) in runs.curve("culex", CLIENTS, FULL) {
        let cells = BROKERS.map(|broker| {
            let curve = runs.curve(broker, CLIENTS, FULL);
            let there = curve.iter().find(|(x, _)| x.total_cmp(&count).is_eq());
            number(there.map(|(_, bytes)| bytes / MIB))
        });
        writeln!(out, "| {count:.0} | {} |", cells.join(" | ")).ok();
    }
    Ok(out)
}

fn durable(runs: &Runs) -> String {
    const PUBLISHERS: &str = "/scenario/publishers";
    let mut out = String::from(
        "\n## What durability costs\n\nCulex, QoS 1, window 100 per publisher, each publisher to a \
         durable session of its own. Acknowledged:\nfrom sending to PUBACK, with the window full. \
         Written: what the kernel counts for the process, per\nbyte of payload.\n\n\
         | publishers | durability | msg/s | acknowledged p50 µs | p99 µs | written | \
         CPU µs/msg |\n\
         |---|---|---|---|---|---|---|\n",
    );
    let mut counts: Vec<f64> =
        runs.0.iter().filter_map(|run| run.pointer(PUBLISHERS)?.as_f64()).collect();
    counts.sort_by(f64::total_cmp);
    counts.dedup();
    for count in counts {
        for mode in ["fsync", "interval", "none"] {
            let at = |pointer: &str| {
                let there = runs
                    .of(mode, "culex")
                    .filter(|run| run.pointer(PUBLISHERS).and_then(Value::as_f64) == Some(count));
                let figures = there.filter_map(|run| run.pointer(pointer)?.as_f64()).collect();
                number(Spread::of(figures).map(|spread| spread.median))
            };
            let cells = [
                "/delivered_per_s",
                "/acknowledged/p50_us",
                "/acknowledged/p99_us",
                "/disk/bytes_per_payload_byte",
                "/broker/us_per_message",
            ]
            .map(at);
            writeln!(out, "| {count:.0} | {mode} | {} |", cells.join(" | ")).ok();
        }
    }
    out
}

fn pair_rows(out: &mut String, runs: &Runs, rows: &[(&str, &str, &str, f64)]) {
    for (name, case, pointer, unit) in rows {
        let cells = ["culex", "mosquitto"]
            .map(|broker| number(runs.median(case, broker, pointer).map(|value| value / unit)));
        writeln!(out, "| {name} | {} |", cells.join(" | ")).ok();
    }
}

fn others(runs: &Runs) -> String {
    let mut out = String::from(
        "\n## Other loads\n\nWhat each of them is stands in its file in [scenarios](scenarios).\n\n\
         | | Culex | Mosquitto |\n|---|---|---|\n",
    );
    let cpu = "/broker/us_per_message";
    pair_rows(
        &mut out,
        runs,
        &[
            ("mixed: CPU µs/msg", "mixed", cpu, 1.0),
            ("mixed: latency p99, µs", "mixed", "/latency/p99_us", 1.0),
            ("churn: visitors per second", "churn", "/visits/per_s", 1.0),
            ("churn: visitor until SUBACK p99, µs", "churn", "/visits/latency/p99_us", 1.0),
            ("churn: latency of messages p99, µs", "churn", "/latency/p99_us", 1.0),
            ("slow: latency of the others p99, µs", "slow", "/latency/p99_us", 1.0),
            ("slow: memory at the end, MiB", "slow", "/memory/rss_bytes", MIB),
            ("retained: first message p99, ms", "retained", "/stored/first/p99_us", 1000.0),
            ("retained: last message p99, ms", "retained", "/stored/last/p99_us", 1000.0),
            ("retained: CPU µs/msg", "retained", cpu, 1.0),
            ("offline: messages taken per second", "offline", "/stored/taken_per_s", 1.0),
            ("offline: first message p99, ms", "offline", "/stored/first/p99_us", 1000.0),
            ("offline: last message p99, ms", "offline", "/stored/last/p99_us", 1000.0),
            ("offline: CPU µs/msg", "offline", cpu, 1.0),
            ("10 → 10 over TLS: CPU µs/msg", "tls", cpu, 1.0),
            ("10 → 10 over WebSocket: CPU µs/msg", "ws", cpu, 1.0),
            ("10 → 10 over both: CPU µs/msg", "wss", cpu, 1.0),
            ("connect over TLS: CPU µs", "tls_connect", "/connects/broker_us", 1.0),
            ("connect over TLS: p99, µs", "tls_connect", "/connects/latency/p99_us", 1.0),
        ],
    );
    out += "\nIn `offline` Culex has every message on disk before it is acknowledged; Mosquitto \
            has nothing there.\n";
    out
}

fn many(runs: &Runs) -> String {
    let mut out = String::from(
        "\n## Many subscriptions\n\n10 publishers, QoS 0, over all topics; one subscription for \
         each.\n\n| | Culex | Mosquitto |\n|---|---|---|\n",
    );
    let cpu = "/broker/us_per_message";
    let bytes = "/subscriptions/rss_bytes_each";
    pair_rows(
        &mut out,
        runs,
        &[
            ("1,000 exact, `+`, `#`: CPU µs/msg", "subs_1k", cpu, 1.0),
            ("1,000,000 exact, `+`, `#`: CPU µs/msg", "subs_1m", cpu, 1.0),
            ("1,000,000: bytes each", "subs_1m", bytes, 1.0),
            ("100,000 exact and one `#`: CPU µs/msg", "topics_100k", cpu, 1.0),
            ("100,000: bytes each", "topics_100k", bytes, 1.0),
        ],
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_written_even_from_few_runs() {
        let folder = std::env::temp_dir().join(format!("perf-results-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let run = |broker: &str, us: f64| {
            format!(
                "{{\"case\":\"qos0\",\"broker_name\":\"{broker}\",\
                 \"broker\":{{\"us_per_message\":{us}}}}}\n"
            )
        };
        fs::write(folder.join("headline.jsonl"), run("culex", 0.25) + &run("mosquitto", 5.0))
            .unwrap();
        fs::write(folder.join("machine"), "cpu Some CPU\n").unwrap();
        write(&folder, &folder).unwrap();
        let text = fs::read_to_string(folder.join("RESULTS.md")).unwrap();
        assert!(text.contains("| cpu | Some CPU |"), "{text}");
        let row = "| 10 → 10, QoS 0 | 0.250 | – | 5.00 | 1/20.0 [1/20.0–1/20.0] | – |";
        assert!(text.contains(row), "{text}");
        for plot in ["latency_p50", "latency_p99", "throughput", "memory"] {
            let svg = fs::read_to_string(folder.join(format!("plots/{plot}.svg"))).unwrap();
            assert!(svg.contains("</svg>"), "{plot}");
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
