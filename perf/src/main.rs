//! Load generator and checker for MQTT brokers; see `perf/README.md`.
//!
//! The modules form a ladder; each uses only those below it:
//! `main` › `run` › `guests` › `fleet` › `traffic` › `publisher` › `handshake`, `link`, `layers`,
//! `wire`, `stamp`.
#![forbid(unsafe_code)]

mod clock;
mod crew;
mod fleet;
mod guests;
mod handshake;
mod host;
mod latency;
mod layers;
mod link;
mod progress;
mod publisher;
mod report;
mod results;
mod run;
mod scenario;
mod stamp;
mod summary;
mod traffic;
mod wire;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use layers::Transport;
use scenario::{Filters, Kind, Scenario};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit status when a broker broke a promise.
const BROKEN_PROMISE: u8 = 2;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one scenario. Exit status 2: a promise was broken, 1: the run failed.
    Run(Box<RunArguments>),
    /// Writes RESULTS.md and its plots from the runs of scripts/perf/results.sh.
    Results {
        /// Folder of the runs.
        runs: PathBuf,
        /// Folder of RESULTS.md and plots.
        out: PathBuf,
    },
    /// Prints medians and ratios over the JSON lines of many runs.
    Summary {
        /// File with the output of runs with --json.
        file: PathBuf,
        /// Broker that the others are divided by.
        #[arg(long, default_value = "mosquitto")]
        base: String,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// Kind of load; may also come from the scenario file.
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// TOML file; what the command line names replaces what the file says.
    #[arg(long)]
    scenario: Option<PathBuf>,
    /// Address of the broker.
    #[arg(long, default_value = "127.0.0.1:1883")]
    address: SocketAddr,
    /// Process of the broker, to read its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// CPUs of the generator's threads, e.g. "1" or "2,3"; without it they run anywhere.
    #[arg(long, value_delimiter = ',')]
    cpu: Vec<usize>,
    /// Writes PREFIX.latency.hgrm, PREFIX.acknowledged.hgrm, PREFIX.connect.hgrm: all percentiles.
    #[arg(long, value_name = "PREFIX")]
    hgrm: Option<PathBuf>,
    /// Prints one line of JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Name of this case in the output.
    #[arg(long)]
    case: Option<String>,
    /// Name of the broker in the output.
    #[arg(long, default_value = "broker")]
    broker: String,
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Args)]
struct Overrides {
    /// Number of publishers.
    #[arg(long)]
    publishers: Option<usize>,
    /// Number of subscribers, or of clients in idle and connect.
    #[arg(long)]
    subscribers: Option<usize>,
    /// QoS of publishers and subscriptions.
    #[arg(long)]
    qos: Option<u8>,
    /// Most unacknowledged messages per publisher.
    #[arg(long)]
    window: Option<u16>,
    /// Most undelivered messages per publisher.
    #[arg(long)]
    outstanding: Option<u32>,
    /// Bytes of payload.
    #[arg(long)]
    payload_bytes: Option<usize>,
    /// 4 = MQTT 3.1.1, 5 = MQTT 5.0.
    #[arg(long)]
    version: Option<u8>,
    /// What lies below MQTT.
    #[arg(long)]
    transport: Option<Transport>,
    /// Authority of the broker's certificate (PEM); without it any certificate is taken.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Sessions that outlive their connections.
    #[arg(long)]
    durable: Option<bool>,
    /// Messages per second of all publishers; 0: as fast as it goes.
    #[arg(long)]
    rate: Option<u64>,
    /// Messages of a fixed rate leave in ticks of this length.
    #[arg(long)]
    tick_us: Option<u64>,
    /// Topics in retained; messages that each session misses in offline.
    #[arg(long)]
    messages: Option<usize>,
    /// Clients that come and go per second, in churn.
    #[arg(long)]
    churn_per_s: Option<u64>,
    /// Subscribers that do not read, in slow.
    #[arg(long)]
    slow: Option<usize>,
    /// Number of topics, in topics.
    #[arg(long)]
    topics: Option<usize>,
    /// How the topics are subscribed to, in topics.
    #[arg(long)]
    filters: Option<Filters>,
    /// One more subscriber that gets everything, in topics.
    #[arg(long)]
    monitor: Option<bool>,
    /// Threads of the generator, for pairs, latency, roundtrip, idle and connect.
    #[arg(long)]
    threads: Option<usize>,
    /// Seconds before measuring.
    #[arg(long)]
    warm_s: Option<f64>,
    /// Seconds measured.
    #[arg(long)]
    measured_s: Option<f64>,
    /// Most connections in the making at a time.
    #[arg(long)]
    connecting: Option<usize>,
}

impl Overrides {
    fn apply(&self, scenario: &mut Scenario) {
        fn set<T: Copy>(field: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *field = value;
            }
        }
        set(&mut scenario.publishers, self.publishers);
        set(&mut scenario.subscribers, self.subscribers);
        set(&mut scenario.qos, self.qos);
        set(&mut scenario.window, self.window);
        set(&mut scenario.outstanding, self.outstanding);
        set(&mut scenario.payload_bytes, self.payload_bytes);
        set(&mut scenario.version, self.version);
        set(&mut scenario.transport, self.transport);
        if self.ca_file.is_some() {
            scenario.ca_file.clone_from(&self.ca_file);
        }
        set(&mut scenario.durable, self.durable);
        set(&mut scenario.rate, self.rate);
        set(&mut scenario.tick_us, self.tick_us);
        set(&mut scenario.messages, self.messages);
        set(&mut scenario.churn_per_s, self.churn_per_s);
        set(&mut scenario.slow, self.slow);
        set(&mut scenario.topics, self.topics);
        set(&mut scenario.filters, self.filters);
        set(&mut scenario.monitor, self.monitor);
        set(&mut scenario.threads, self.threads);
        set(&mut scenario.warm_s, self.warm_s);
        set(&mut scenario.measured_s, self.measured_s);
        set(&mut scenario.connecting, self.connecting);
    }
}

fn main() -> ExitCode {
    obey(Arguments::parse().command).unwrap_or_else(|error| {
        eprintln!("perf: {error:#}");
        ExitCode::FAILURE
    })
}

fn obey(command: Command) -> Result<ExitCode> {
    match command {
        Command::Run(arguments) => run_scenario(&arguments),
        Command::Results { runs, out } => {
            results::write(&runs, &out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Summary { file, base } => {
            let lines = std::fs::read_to_string(&file)
                .with_context(|| format!("reading {}", file.display()))?;
            print!("{}", summary::table(&lines, &base)?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_scenario(arguments: &RunArguments) -> Result<ExitCode> {
    let file = arguments.scenario.as_deref();
    let mut scenario = file.map(Scenario::load).transpose()?.unwrap_or_default();
    if let Some(kind) = arguments.kind {
        scenario.kind = kind;
    }
    arguments.overrides.apply(&mut scenario);
    let scenario = scenario.complete()?;
    let RunArguments { address, pid, cpu, .. } = arguments;
    let target = run::Target { address: *address, pid: *pid, cpus: cpu.clone() };
    let run::Outcome { mut report, histograms } = run::run(&scenario, &target)?;
    if let Some(prefix) = &arguments.hgrm {
        for (name, histogram) in &histograms {
            let path = format!("{}.{name}.hgrm", prefix.display());
            let text = latency::hgrm(histogram);
            std::fs::write(&path, text).with_context(|| format!("writing {path}"))?;
        }
    }
    let stem = file.and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into());
    let kind = || format!("{:?}", scenario.kind).to_lowercase();
    report.case = arguments.case.clone().or(stem).unwrap_or_else(kind);
    report.broker_name.clone_from(&arguments.broker);
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    let kept = report.tally.is_clean();
    Ok(if kept { ExitCode::SUCCESS } else { ExitCode::from(BROKEN_PROMISE) })
}
