//! The `$SYS` tree: counts of all shards, published by shard 0 as retained messages.
//!
//! Each shard sends its own counts by mail once per interval; nothing is shared, so counting costs
//! an addition. Names and units follow Mosquitto's. A value is published when it has changed.

use super::fanout::NO_TICKET;
use super::mail::Mail;
use super::{Shard, Timer};
use crate::auth::Refusal;
use crate::codec::Qos;
use crate::session::{Author, ClientId, Counters, Publication};
use crate::store::Source;
use crate::topic::TopicName;
use ahash::AHashMap;
use shards::Millis;
use std::cell::OnceCell;

/// Rates are averaged over these many seconds.
const LOADS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// Bytes and sockets of one shard since its start, as its network engine counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Sockets accepted.
    pub sockets: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
}

/// State of one shard at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Monotonic counts.
    pub counters: Counters,
    /// Bytes on the network.
    pub network: Network,
    /// Connections whose CONNECT was accepted.
    pub connected: u64,
    /// Sessions with and without connection.
    pub sessions: u64,
    /// Subscriptions that are not shared.
    pub subscriptions: u64,
    /// Shared subscriptions.
    pub shared_subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Topics and payloads of retained messages.
    pub retained_bytes: u64,
    /// Messages in queues and windows.
    pub queued: u64,
    /// Topics and payloads of queued messages.
    pub queued_bytes: u64,
}

/// What the tree needs to remember.
#[derive(Debug)]
pub(super) struct Sys {
    network: Network,
    /// Settings that were taken at a reload, and those that were not; shard 0 is told.
    reloads: [u64; 2],
    /// Last report of each shard; only shard 0 has any.
    reports: AHashMap<usize, Report>,
    published: AHashMap<String, String>,
    sessions_max: u64,
    started: Millis,
    /// When the tree is published next; `None` without an interval.
    due: Option<Millis>,
    load_at: Millis,
    load_before: [u64; 9],
    loads: [[f64; 3]; 9],
    round: u64,
}

impl Report {
    fn merge(&mut self, other: &Report) {
        self.counters.merge(&other.counters);
        self.network.sockets += other.network.sockets;
        self.network.bytes_received += other.network.bytes_received;
        self.network.bytes_sent += other.network.bytes_sent;
        self.connected += other.connected;
        self.sessions += other.sessions;
        self.subscriptions += other.subscriptions;
        self.shared_subscriptions += other.shared_subscriptions;
        self.retained += other.retained;
        self.retained_bytes += other.retained_bytes;
        self.queued += other.queued;
        self.queued_bytes += other.queued_bytes;
    }
}

impl Sys {
    pub(super) fn new(now: Millis) -> Self {
        Sys {
            network: Network::default(),
            reloads: [0; 2],
            reports: AHashMap::new(),
            published: AHashMap::new(),
            sessions_max: 0,
            started: now,
            due: None,
            load_at: now,
            load_before: [0; 9],
            loads: [[0.0; 3]; 9],
            round: 0,
        }
    }

    /// Moves the rates on: exponentially weighted averages per minute.
    fn update_loads(&mut self, counts: [u64; 9], now: Millis) {
        let seconds = millis_to_s(now.0.saturating_sub(self.load_at.0));
        if seconds <= 0.0 {
            return;
        }
        self.load_at = now;
        let before = std::mem::replace(&mut self.load_before, counts);
        for ((loads, count), before) in self.loads.iter_mut().zip(counts).zip(before) {
            let growth = u32::try_from(count.saturating_sub(before)).unwrap_or(u32::MAX);
            let rate = f64::from(growth) * 60.0 / seconds;
            for (load, (_, span_s)) in loads.iter_mut().zip(LOADS) {
                *load = rate + (-seconds / span_s).exp() * (*load - rate);
            }
        }
    }
}

impl Shard {
    /// Tells the shard what its network engine counted.
    pub fn note_network(&mut self, network: Network) {
        self.sys.network = network;
    }

    /// Settings were read again, and taken or not.
    pub fn note_reload(&mut self, taken: bool) {
        let [accepted, refused] = &mut self.sys.reloads;
        *(if taken { accepted } else { refused }) += 1;
    }

    /// What this shard holds now.
    pub fn report(&self) -> Report {
        let sessions = self.clients.sessions.iter();
        let (queued, queued_bytes) = sessions.fold((0, 0), |(count, bytes), session| {
            let outbound = &session.outbound;
            (count + outbound.held() as u64, bytes + outbound.queued_bytes() as u64)
        });
        Report {
            counters: self.clients.counters.clone(),
            network: self.sys.network,
            connected: self.clients.connected() as u64,
            sessions: self.clients.sessions.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            shared_subscriptions: self.subscriptions.shared_len() as u64,
            retained: self.retained.len() as u64,
            retained_bytes: self.retained.bytes() as u64,
            queued,
            queued_bytes,
        }
    }

    pub(super) fn start_sys(&mut self, now: Millis) {
        if self.settings.sys_interval_s > 0 {
            self.sys.due = Some(now);
            self.timers.insert(now, Timer::Sys);
        } else {
            self.end_sys(now);
        }
    }

    /// The tree goes.
    fn end_sys(&mut self, now: Millis) {
        self.sys.due = None;
        self.sys.reports.clear();
        let mut topics: Vec<String> = self.sys.published.drain().map(|(topic, _)| topic).collect();
        topics.sort_unstable();
        for topic in topics {
            self.publish_own(&topic, "", now);
        }
    }

    pub(super) fn sys_due(&mut self, now: Millis) {
        // A timer of a former interval is void.
        if self.sys.due.is_none_or(|due| now < due) {
            return;
        }
        let next = now.after(u64::from(self.settings.sys_interval_s) * 1000);
        self.sys.due = Some(next);
        self.timers.insert(next, Timer::Sys);
        let report = self.report();
        if self.place.shard == 0 {
            self.sys.reports.insert(0, report);
            self.publish_sys(now);
        } else {
            self.effects.mail(0, Mail::Report(Box::new(report)));
        }
    }

    pub(super) fn on_report(&mut self, from: usize, report: Report) {
        self.sys.reports.insert(from, report);
    }

    fn publish_sys(&mut self, now: Millis) {
        let mut all = Report::default();
        for report in self.sys.reports.values() {
            all.merge(report);
        }
        self.sys.sessions_max = self.sys.sessions_max.max(all.sessions);
        let c = &all.counters;
        let counts = [
            c.packets_received,
            c.packets_sent,
            c.publish_received,
            c.publish_sent,
            c.dropped_total(),
            all.network.bytes_received,
            all.network.bytes_sent,
            all.network.sockets,
            c.connects,
        ];
        self.sys.update_loads(counts, now);
        let mut values = self.plain_values(&all, now);
        if self.sys.round > 0 {
            values.extend(self.load_values());
        }
        self.sys.round += 1;
        for (topic, value) in values {
            if self.sys.published.get(&topic) != Some(&value) {
                self.publish_own(&topic, &value, now);
                self.sys.published.insert(topic, value);
            }
        }
    }

    fn plain_values(&self, all: &Report, now: Millis) -> Vec<(String, String)> {
        let c = &all.counters;
        let uptime_s = now.0.saturating_sub(self.sys.started.0) / 1000;
        let name = if self.settings.sys_version_mosquitto { "mosquitto" } else { "culex" };
        let offline = all.sessions.saturating_sub(all.connected);
        let stored = all.queued + all.retained;
        let [accepted, refused] = self.sys.reloads;
        let numbers = [
            ("clients/total", all.sessions),
            ("clients/connected", all.connected),
            ("clients/active", all.connected),
            ("clients/disconnected", offline),
            ("clients/inactive", offline),
            ("clients/maximum", self.sys.sessions_max),
            ("clients/expired", c.sessions_expired),
            ("messages/stored", stored),
            ("store/messages/count", stored),
            ("store/messages/bytes", all.queued_bytes + all.retained_bytes),
            ("retained messages/count", all.retained),
            ("subscriptions/count", all.subscriptions + all.shared_subscriptions),
            ("shared_subscriptions/count", all.shared_subscriptions),
            ("messages/received", c.packets_received),
            ("messages/sent", c.packets_sent),
            ("bytes/received", all.network.bytes_received),
            ("bytes/sent", all.network.bytes_sent),
            ("publish/messages/received", c.publish_received),
            ("publish/messages/sent", c.publish_sent),
            ("publish/messages/dropped", c.dropped_total()),
            ("publish/bytes/received", c.publish_received_bytes),
            ("publish/bytes/sent", c.publish_sent_bytes),
            ("packet/out/count", all.queued),
            ("packet/out/bytes", all.queued_bytes),
            ("clients/logins/accepted", c.logins),
            ("connections/socket/count", all.network.sockets),
            ("listeners/open", self.settings.open_listeners as u64),
            ("reloads/accepted", accepted),
            ("reloads/refused", refused),
        ];
        let mut values: Vec<(String, String)> = numbers
            .into_iter()
            .map(|(name, value)| (format!("$SYS/broker/{name}"), value.to_string()))
            .collect();
        for (cause, count) in super::DROP_NAMES.iter().zip(c.dropped) {
            let topic = format!("$SYS/broker/publish/messages/dropped/{cause}");
            values.push((topic, count.to_string()));
        }
        for (cause, count) in Refusal::NAMES.iter().zip(c.logins_refused) {
            let topic = format!("$SYS/broker/clients/logins/refused/{cause}");
            values.push((topic, count.to_string()));
        }
        if let Some(end_s) = self.first_certificate_end_s() {
            let topic = "$SYS/broker/listeners/certificates/expiry";
            values.push((topic.into(), end_s.to_string()));
        }
        let version = env!("CARGO_PKG_VERSION");
        values.push(("$SYS/broker/version".into(), format!("{name} version {version}")));
        values.push(("$SYS/broker/uptime".into(), format!("{uptime_s} seconds")));
        values
    }

    fn load_values(&self) -> Vec<(String, String)> {
        const NAMES: [&str; 9] = [
            "messages/received",
            "messages/sent",
            "publish/received",
            "publish/sent",
            "publish/dropped",
            "bytes/received",
            "bytes/sent",
            "sockets",
            "connections",
        ];
        let mut values = Vec::with_capacity(NAMES.len() * LOADS.len());
        for (name, loads) in NAMES.iter().zip(self.sys.loads) {
            for ((span, _), load) in LOADS.iter().zip(loads) {
                values.push((format!("$SYS/broker/load/{name}/{span}"), format!("{load:.2}")));
            }
        }
        values
    }

    /// Publishes a retained message of the server itself.
    fn publish_own(&mut self, topic: &str, value: &str, now: Millis) {
        let publisher = ClientId::new("");
        let publication = Publication {
            topic: TopicName::trusted(topic),
            payload: value.as_bytes(),
            forwarded: &[],
            qos: Qos::AtMostOnce,
            retain: true,
            expires_at: None,
            publisher: &publisher,
            author: &Author::Vouched,
            owned: OnceCell::new(),
        };
        self.fan_out(&publication, Source::Plain, NO_TICKET, now);
    }
}

fn millis_to_s(millis: u64) -> f64 {
    f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0
}
