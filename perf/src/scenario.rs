//! What to run: from a TOML file, from the command line, or both.

use crate::clock::{SECOND_NS, seconds_ns};
use crate::stamp::PAYLOAD_BYTES_MIN;
use crate::traffic::Spread;
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use culex::codec::{Qos, Version};
use serde::{Deserialize, Serialize};
use std::path::Path;

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
    /// Sessions that outlive their connections (3.1.1): what is acknowledged has to be on disk.
    pub(crate) durable: bool,
    /// Messages per second of all publishers; 0: as fast as credit allows.
    pub(crate) rate: u64,
    /// Messages of a fixed rate leave in ticks of this length; 0: each at its time.
    pub(crate) tick_us: u64,
    /// Seconds before measuring.
    pub(crate) warm_s: f64,
    /// Seconds measured.
    pub(crate) measured_s: f64,
    /// Most connections in the making at a time.
    pub(crate) connecting: usize,
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
            durable: false,
            rate: 0,
            tick_us: 0,
            warm_s: 1.0,
            measured_s: 5.0,
            connecting: 64,
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
        match self.kind {
            Kind::Pairs => self.subscribers = self.publishers,
            Kind::Latency => {
                self.subscribers = self.publishers;
                ensure!(self.rate > 0, "latency needs a rate");
            }
            Kind::Roundtrip => {
                self.subscribers = self.publishers;
                self.outstanding = 1;
            }
            Kind::Fanout => self.publishers = 1,
            Kind::Fanin => self.subscribers = 1,
            Kind::Shared => {}
            Kind::Idle | Kind::Connect => self.publishers = 0,
        }
        ensure!((1..=1_000_000).contains(&self.subscribers), "subscribers: 1 to 1,000,000");
        ensure!(self.is_silent() || self.publishers > 0, "at least one publisher");
        ensure!(self.publishers <= 1_000_000, "publishers: at most 1,000,000");
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
        self.outstanding = self.outstanding.next_power_of_two();
        Ok(self)
    }

    /// Is it one of the kinds without messages.
    pub(crate) fn is_silent(&self) -> bool {
        self.publishers == 0
    }

    /// Does the run say something about latency.
    pub(crate) fn has_latency(&self) -> bool {
        self.rate > 0 || self.kind == Kind::Roundtrip
    }

    /// QoS as the codec knows it.
    pub(crate) fn codec_qos(&self) -> Qos {
        match self.qos {
            0 => Qos::AtMostOnce,
            1 => Qos::AtLeastOnce,
            _ => Qos::ExactlyOnce,
        }
    }

    /// Version as the codec knows it.
    pub(crate) fn codec_version(&self) -> Version {
        if self.version == 5 { Version::V5 } else { Version::V311 }
    }

    /// How messages spread over subscribers.
    pub(crate) fn spread(&self) -> Spread {
        if self.kind == Kind::Shared { Spread::Group } else { Spread::Each }
    }

    /// Receivers of one message.
    pub(crate) fn receivers(&self) -> u32 {
        if self.kind != Kind::Fanout {
            return 1;
        }
        u32::try_from(self.subscribers).unwrap_or(u32::MAX)
    }

    /// Topic of publisher `index`.
    pub(crate) fn topic(&self, index: usize) -> String {
        match self.kind {
            Kind::Fanout => "perf/fanout".to_owned(),
            Kind::Fanin => "perf/fanin".to_owned(),
            Kind::Shared => format!("perf/shared/{index}"),
            Kind::Pairs | Kind::Latency | Kind::Roundtrip | Kind::Idle | Kind::Connect => {
                format!("perf/pairs/{index}")
            }
        }
    }

    /// Filter of subscriber `index`.
    pub(crate) fn filter(&self, index: usize) -> String {
        if self.kind == Kind::Shared {
            return "$share/perf/perf/shared/+".to_owned();
        }
        self.topic(index)
    }

    /// First publisher and number of publishers that subscriber `index` hears.
    pub(crate) fn heard(&self, index: usize) -> (usize, usize) {
        match self.kind {
            Kind::Fanout | Kind::Fanin | Kind::Shared => (0, self.publishers),
            Kind::Pairs | Kind::Latency | Kind::Roundtrip => (index, 1),
            Kind::Idle | Kind::Connect => (0, 0),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_decides_the_numbers() {
        let scenario: Scenario = toml::from_str("kind = 'fanout'\npublishers = 7").unwrap();
        let scenario = scenario.complete().unwrap();
        assert_eq!((scenario.publishers, scenario.subscribers), (1, 10));
        assert_eq!(scenario.receivers(), 10);
        let silent: Scenario = toml::from_str("kind = 'idle'\nsubscribers = 5").unwrap();
        assert!(silent.complete().unwrap().is_silent());
    }

    #[test]
    fn bad_values_are_refused() {
        for text in ["qos = 3", "payload_bytes = 20", "kind = 'latency'", "version = 3"] {
            let scenario: Scenario = toml::from_str(text).unwrap();
            assert!(scenario.complete().is_err(), "{text}");
        }
        assert!(toml::from_str::<Scenario>("colour = 1").is_err());
    }
}
