//! What to run: from a TOML file, from the command line, or both.

use crate::clock::{SECOND_NS, seconds_ns};
use crate::layers::Transport;
use crate::stamp::PAYLOAD_BYTES_MIN;
use crate::traffic::Spread;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use culex::codec::{Qos, Version};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Most clients, topics and messages of a run.
const COUNT_MAX: usize = 10_000_000;

/// Kinds of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// N publishers to N subscribers, a topic for each pair.
    Pairs,
    /// One publisher to N subscribers.
    Fanout,
    /// N publishers to one subscriber.
    Fanin,
    /// N publishers to one shared group.
    Shared,
    /// Pairs at a fixed rate; latency counts from the intended send time.
    Latency,
    /// Pairs with one message on its way at a time.
    Roundtrip,
    /// N clients with one subscription each; memory, and CPU when nothing happens.
    Idle,
    /// N clients connect and subscribe as fast as they can.
    Connect,
    /// N subscribers come and each gets the retained messages of `messages` topics.
    Retained,
    /// N durable sessions miss `messages` each, then all come back at once.
    Offline,
    /// Pairs at a fixed rate, and beside them clients that connect, subscribe and leave.
    Churn,
    /// One publisher to N subscribers and to some more that do not read.
    Slow,
    /// Pairs of all QoS and of four payload sizes, and a subscriber of everything.
    Mixed,
    /// Messages over many topics, one subscription for each.
    Topics,
}

/// Filters of the kind `topics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Filters {
    /// Topic names.
    Exact,
    /// A third each: the name, `+` for its last level, `#` for its last level.
    Mixed,
}

/// Parameters of a run. Every field has a default, so a file or command line names what differs.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Kind of load.
    pub(crate) kind: Kind,
    /// Number of publishers.
    pub(crate) publishers: usize,
    /// Number of subscribers, or of clients in `idle` and `connect`.
    pub(crate) subscribers: usize,
    /// QoS of publishers and subscriptions.
    pub(crate) qos: u8,
    /// Most unacknowledged messages per publisher, QoS 1 and 2.
    pub(crate) window: u16,
    /// Most undelivered messages per publisher, rounded up to a power of two.
    pub(crate) outstanding: u32,
    /// Bytes of payload.
    pub(crate) payload_bytes: usize,
    /// 4 = MQTT 3.1.1, 5 = MQTT 5.0.
    pub(crate) version: u8,
    /// What lies below MQTT.
    pub(crate) transport: Transport,
    /// Authority of the broker's certificate; without it any certificate is taken.
    pub(crate) ca_file: Option<PathBuf>,
    /// Sessions that outlive their connections (3.1.1): what is acknowledged has to be on disk.
    pub(crate) durable: bool,
    /// Messages per second of all publishers; 0: as fast as credit allows.
    pub(crate) rate: u64,
    /// Messages of a fixed rate leave in ticks of this length; 0: each at its time.
    pub(crate) tick_us: u64,
    /// `retained`: topics. `offline`: messages that each session misses.
    pub(crate) messages: usize,
    /// `churn`: clients that come and go per second.
    pub(crate) churn_per_s: u64,
    /// `slow`: subscribers that do not read, beside the others.
    pub(crate) slow: usize,
    /// `topics`: number of topics.
    pub(crate) topics: usize,
    /// `topics`: how they are subscribed to.
    pub(crate) filters: Filters,
    /// `topics`: one more subscriber that gets everything.
    pub(crate) monitor: bool,
    /// Threads of the generator, for kinds whose clients come in pairs or alone.
    pub(crate) threads: usize,
    /// Seconds before measuring.
    pub(crate) warm_s: f64,
    /// Seconds measured.
    pub(crate) measured_s: f64,
    /// Most connections in the making at a time.
    pub(crate) connecting: usize,
    /// Number of the first pair or client of this thread.
    #[serde(skip)]
    pub(crate) first: usize,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            kind: Kind::Pairs,
            publishers: 10,
            subscribers: 10,
            qos: 0,
            window: 100,
            outstanding: 1024,
            payload_bytes: 64,
            version: 4,
            transport: Transport::Tcp,
            ca_file: None,
            durable: false,
            rate: 0,
            tick_us: 0,
            messages: 1000,
            churn_per_s: 1000,
            slow: 1,
            topics: 1000,
            filters: Filters::Exact,
            monitor: false,
            threads: 1,
            warm_s: 1.0,
            measured_s: 5.0,
            connecting: 64,
            first: 0,
        }
    }
}

impl Scenario {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
        toml::from_str(&text).with_context(|| format!("parsing {name}"))
    }

    /// Sets what follows from the kind and checks the rest.
    pub(crate) fn complete(mut self) -> Result<Self> {
        self.follow_kind()?;
        ensure!((1..=COUNT_MAX).contains(&self.subscribers), "subscribers: 1 to {COUNT_MAX}");
        ensure!(self.is_silent() || self.publishers > 0, "at least one publisher");
        ensure!(self.publishers <= COUNT_MAX, "publishers: at most {COUNT_MAX}");
        ensure!((1..=COUNT_MAX).contains(&self.messages), "messages: 1 to {COUNT_MAX}");
        ensure!((1..=COUNT_MAX).contains(&self.topics), "topics: 1 to {COUNT_MAX}");
        ensure!((1..=1_000_000).contains(&self.churn_per_s), "churn_per_s: 1 to 1,000,000");
        ensure!(self.window > 0, "window: at least 1");
        ensure!((1..=1 << 20).contains(&self.outstanding), "outstanding: 1 to 2^20");
        ensure!(
            (PAYLOAD_BYTES_MIN..=1 << 24).contains(&self.payload_bytes),
            "payload_bytes: {PAYLOAD_BYTES_MIN} to 2^24"
        );
        ensure!(self.rate <= 100_000_000, "rate: at most 100,000,000");
        ensure!(self.tick_us <= 1_000_000, "tick_us: at most a second");
        ensure!(self.connecting > 0, "connecting: at least 1");
        ensure!(self.qos <= 2, "qos: 0 to 2");
        ensure!([4, 5].contains(&self.version), "version: 4 or 5");
        ensure!(!self.durable || self.version == 4, "durable: needs version 4");
        ensure!(
            self.ca_file.is_none() || self.transport.is_secure(),
            "ca_file: needs transport tls or wss"
        );
        self.check_threads()?;
        self.outstanding = self.outstanding.next_power_of_two();
        Ok(self)
    }

    fn follow_kind(&mut self) -> Result<()> {
        match self.kind {
            Kind::Pairs | Kind::Mixed => self.subscribers = self.publishers,
            Kind::Latency | Kind::Churn => {
                self.subscribers = self.publishers;
                ensure!(self.rate > 0, "{:?} needs a rate", self.kind);
            }
            Kind::Roundtrip => {
                self.subscribers = self.publishers;
                self.outstanding = 1;
            }
            Kind::Fanout => self.publishers = 1,
            Kind::Slow => {
                self.publishers = 1;
                ensure!((1..=COUNT_MAX).contains(&self.slow), "slow: 1 to {COUNT_MAX}");
            }
            Kind::Fanin => self.subscribers = 1,
            Kind::Shared => {}
            Kind::Topics => {
                ensure!(self.subscribers <= self.topics, "topics: one for each subscriber");
            }
            Kind::Idle | Kind::Connect => self.publishers = 0,
            Kind::Retained => {
                self.publishers = 1;
                ensure!(self.qos > 0, "retained: needs QoS 1 or 2, to know what is stored");
            }
            Kind::Offline => {
                self.subscribers = self.publishers;
                self.durable = true;
                ensure!(self.qos > 0, "offline: needs QoS 1 or 2");
            }
        }
        Ok(())
    }

    fn check_threads(&self) -> Result<()> {
        ensure!((1..=64).contains(&self.threads), "threads: 1 to 64");
        if self.threads == 1 {
            return Ok(());
        }
        let divisible = matches!(
            self.kind,
            Kind::Pairs | Kind::Latency | Kind::Roundtrip | Kind::Idle | Kind::Connect
        );
        ensure!(divisible, "threads: all clients of {:?} belong to one thread", self.kind);
        ensure!(self.threads <= self.subscribers, "threads: a subscriber for each");
        ensure!(
            self.rate == 0 || self.rate >= u64::try_from(self.threads).unwrap_or(u64::MAX),
            "rate: at least one message per second and thread"
        );
        Ok(())
    }

    /// The part of thread `index`.
    pub(crate) fn part(&self, index: usize) -> Self {
        if self.threads == 1 {
            return self.clone();
        }
        let bounds =
            |total: usize| (total * index / self.threads, total * (index + 1) / self.threads);
        let (first, end) = bounds(self.subscribers);
        let threads = u64::try_from(self.threads).unwrap_or(1);
        let part = u64::try_from(index).unwrap_or(0);
        Self {
            publishers: if self.is_silent() { 0 } else { end - first },
            subscribers: end - first,
            rate: self.rate * (part + 1) / threads - self.rate * part / threads,
            threads: 1,
            first,
            ..self.clone()
        }
    }

    /// Is it one of the kinds without messages.
    pub(crate) fn is_silent(&self) -> bool {
        self.publishers == 0
    }

    /// Does the run say something about latency.
    pub(crate) fn has_latency(&self) -> bool {
        self.rate > 0 || self.kind == Kind::Roundtrip
    }

    /// QoS of publisher or subscriber `index` as a number.
    pub(crate) fn qos_of(&self, index: usize) -> u8 {
        if self.kind != Kind::Mixed {
            return self.qos;
        }
        // The last subscriber gets everything as it was published.
        if index == self.publishers { 2 } else { u8::try_from(index % 3).unwrap_or(0) }
    }

    /// Payload of publisher `index`.
    pub(crate) fn payload_bytes_of(&self, index: usize) -> usize {
        if self.kind == Kind::Mixed {
            return self.payload_bytes << (2 * (index / 3 % 4));
        }
        self.payload_bytes
    }

    /// Largest payload.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        if self.kind == Kind::Mixed { self.payload_bytes << 6 } else { self.payload_bytes }
    }

    /// Version as the codec knows it.
    pub(crate) fn codec_version(&self) -> Version {
        if self.version == 5 { Version::V5 } else { Version::V311 }
    }

    /// How messages spread over subscribers.
    pub(crate) fn spread(&self) -> Spread {
        if matches!(self.kind, Kind::Shared | Kind::Topics) {
            return Spread::Group;
        }
        if self.kind == Kind::Retained {
            return Spread::Bag;
        }
        if self.kind == Kind::Offline { Spread::Stored } else { Spread::Each }
    }

    /// Receivers of one message that have to get it while it is outstanding.
    pub(crate) fn receivers(&self) -> u32 {
        if matches!(self.kind, Kind::Fanout | Kind::Slow) {
            return u32::try_from(self.subscribers).unwrap_or(u32::MAX);
        }
        if matches!(self.kind, Kind::Retained | Kind::Offline) {
            return 0;
        }
        1 + u32::from(self.has_monitor())
    }

    /// Is there one more subscriber that gets everything.
    pub(crate) fn has_monitor(&self) -> bool {
        self.kind == Kind::Mixed || (self.kind == Kind::Topics && self.monitor)
    }

    /// Subscribers with a place in the books: those counted by `subscribers`, slow ones, and the
    /// one that gets everything.
    pub(crate) fn subscribers_all(&self) -> usize {
        let slow = if self.kind == Kind::Slow { self.slow } else { 0 };
        self.subscribers + slow + usize::from(self.has_monitor())
    }

    /// Topic of publisher `index`; with many topics, the first of them.
    pub(crate) fn topic(&self, index: usize) -> String {
        match self.kind {
            Kind::Fanout | Kind::Slow => "perf/fanout".to_owned(),
            Kind::Fanin => "perf/fanin".to_owned(),
            Kind::Shared => format!("perf/shared/{index}"),
            Kind::Mixed => format!("perf/mixed/{index}"),
            Kind::Retained => numbered_topic("retained", 0),
            Kind::Topics => numbered_topic("topics", 0),
            Kind::Pairs
            | Kind::Latency
            | Kind::Roundtrip
            | Kind::Idle
            | Kind::Connect
            | Kind::Offline
            | Kind::Churn => format!("perf/pairs/{}", self.first + index),
        }
    }

    /// Topics that the messages of a publisher go over in turn; 1 = it has one.
    pub(crate) fn topics_of_publisher(&self) -> usize {
        if self.kind == Kind::Retained {
            return self.messages;
        }
        if self.kind == Kind::Topics { self.topics } else { 1 }
    }

    /// Filters of subscriber `index`.
    pub(crate) fn filters(&self, index: usize) -> Vec<String> {
        if self.kind == Kind::Shared {
            return vec!["$share/perf/perf/shared/+".to_owned()];
        }
        if self.kind == Kind::Retained {
            return vec!["perf/retained/#".to_owned()];
        }
        if self.has_monitor() && index == self.subscribers {
            let name = if self.kind == Kind::Mixed { "mixed" } else { "topics" };
            return vec![format!("perf/{name}/#")];
        }
        if self.kind != Kind::Topics {
            return vec![self.topic(index)];
        }
        let first = self.topics * index / self.subscribers;
        let end = self.topics * (index + 1) / self.subscribers;
        (first..end).map(|number| self.numbered_filter(number)).collect()
    }

    fn numbered_filter(&self, number: usize) -> String {
        let topic = numbered_topic("topics", number);
        let above = topic.rsplit_once('/').map_or("", |(above, _)| above);
        match (self.filters, number % 3) {
            (Filters::Exact, _) | (Filters::Mixed, 0) => topic,
            (Filters::Mixed, 1) => format!("{above}/+"),
            (Filters::Mixed, _) => format!("{above}/#"),
        }
    }

    /// First publisher and number of publishers that subscriber `index` hears.
    pub(crate) fn heard(&self, index: usize) -> (usize, usize) {
        if self.is_silent() {
            return (0, 0);
        }
        let all = matches!(
            self.kind,
            Kind::Fanout | Kind::Fanin | Kind::Shared | Kind::Slow | Kind::Topics | Kind::Retained
        );
        let monitor = self.has_monitor() && index == self.subscribers;
        if all || monitor { (0, self.publishers) } else { (index, 1) }
    }

    /// Warm-up in ns.
    pub(crate) fn warm_ns(&self) -> u64 {
        seconds_ns(self.warm_s)
    }

    /// Measured time in ns, at least a hundredth of a second.
    pub(crate) fn measured_ns(&self) -> u64 {
        seconds_ns(self.measured_s).max(SECOND_NS / 100)
    }
}

/// QoS as the codec knows it.
pub(crate) fn codec_qos(qos: u8) -> Qos {
    match qos {
        0 => Qos::AtMostOnce,
        1 => Qos::AtLeastOnce,
        _ => Qos::ExactlyOnce,
    }
}

/// Topic `number` of many: `perf/NAME/GROUP/NUMBER/v`, a thousand in each group. All have one
/// length, so a frame that is encoded once serves all of them.
pub(crate) fn numbered_topic(name: &str, number: usize) -> String {
    format!("perf/{name}/{:05}/{number:08}/v", number / 1000)
}

#[cfg(test)]
#[path = "scenario/tests.rs"]
mod tests;
