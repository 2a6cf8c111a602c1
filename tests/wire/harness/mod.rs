//! What all wire tests use: a broker, clients, and scripts for both.
//!
//! A test says for which versions it holds; it runs for each of them at one and at two shards.

mod broker;
mod certificates;
mod client;
mod compose;
mod packet;
mod script;
mod tests;
mod tunnel;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use broker::{Broker, culex};
pub(crate) use certificates::{Authority, Issued, allow};
pub(crate) use client::{Client, DEADLINE, Event};
pub(crate) use compose::{compose, frame, hex, varint};
pub(crate) use packet::{Packet, Version, pattern};
pub(crate) use tunnel::{Carrier, Tunnel, WebsocketClient, client_frame, take_server_frame};

/// Every version.
pub(crate) const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];
/// MQTT 5.0 alone.
pub(crate) const V5: &[Version] = &[Version::V5];
/// MQTT 3.1 and 3.1.1.
pub(crate) const V3: &[Version] = &[Version::V31, Version::V311];
/// MQTT 3.1.1 and 5.0.
pub(crate) const V311_AND_V5: &[Version] = &[Version::V311, Version::V5];

/// One run of a test: one version at one shard count.
pub(crate) struct Test<'a> {
    pub(crate) broker: &'a Broker,
    pub(crate) version: Version,
    pub(crate) shards: usize,
    pub(crate) prefix: String,
    clients: BTreeMap<String, Client>,
    names: BTreeMap<String, String>,
    step: String,
    packet_id: u16,
}

/// Runs a script for each version at each shard count.
pub(crate) fn check(versions: &[Version], script: &str) {
    each(versions, |test| test.run(script));
}

/// Runs `body` for each version at each shard count on the shared brokers.
pub(crate) fn each(versions: &[Version], body: impl Fn(&mut Test<'_>) + Sync) {
    for_each(versions, None, &body);
}

/// The same on brokers of this test alone, with this configuration.
pub(crate) fn each_with(config: &str, versions: &[Version], body: impl Fn(&mut Test<'_>) + Sync) {
    if broker::foreign().is_some() {
        return println!("needs a broker of its own: not run");
    }
    for_each(versions, Some(config), &body);
}

/// Runs `body` on a broker that is reached by `carrier`, started with this configuration.
pub(crate) fn each_over(
    carrier: &Carrier,
    (config, listener): (&str, usize),
    versions: &[Version],
    body: impl Fn(&mut Test<'_>) + Sync,
) {
    each_with(config, versions, |test| {
        let tunnel = Tunnel::open(test.broker.addresses[listener].clone(), carrier.clone());
        let behind = Broker::behind(tunnel.address);
        let prefix = test.prefix.clone();
        let mut inside = Test::new(&behind, test.version, test.shards, prefix);
        body(&mut inside);
    });
}

/// Runs `body` on brokers of this test alone, with the usual configuration.
pub(crate) fn each_alone(versions: &[Version], body: impl Fn(&mut Test<'_>) + Sync) {
    each_with(broker::SHARED_CONFIG, versions, body);
}

/// [`check`] on brokers of this test alone, with this configuration.
pub(crate) fn check_with(config: &str, versions: &[Version], script: &str) {
    each_with(config, versions, |test| test.run(script));
}

fn for_each(versions: &[Version], config: Option<&str>, body: &(impl Fn(&mut Test<'_>) + Sync)) {
    static PREFIXES: AtomicUsize = AtomicUsize::new(1);
    let counts = if broker::foreign().is_some() { 1..=1 } else { 1..=2 };
    std::thread::scope(|scope| {
        let mut runs = Vec::new();
        for shards in counts {
            for version in versions {
                runs.push(scope.spawn(move || {
                    let own = config.map(|config| Broker::start(shards, config));
                    let broker = own.as_ref().unwrap_or_else(|| broker::shared(shards));
                    let prefix = format!("w{}", PREFIXES.fetch_add(1, Ordering::Relaxed));
                    let mut test = Test::new(broker, *version, shards, prefix);
                    let result = catch_unwind(AssertUnwindSafe(|| body(&mut test)));
                    result.err().map(|panic| {
                        let log = own.as_ref().map(Broker::log).unwrap_or_default();
                        let reason = message(panic.as_ref());
                        format!("{version:?} at {shards} shards: {reason}\n{log}")
                    })
                }));
            }
        }
        let failures: Vec<String> =
            runs.into_iter().filter_map(|run| run.join().expect("runs catch panics")).collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "a panic without text".into())
}

/// Randomness of a test: splitmix64; the seed is in the failure message of its user.
pub(crate) struct Prng(pub(crate) u64);

impl Prng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }
}
