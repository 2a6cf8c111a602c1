//! Runs in which the broker keeps messages for those who come later.
//!
//! ```text
//! offline:   subscribe, leave ─▶ publish until all is acknowledged ─▶ come back all at once
//! retained:  publish until all is acknowledged ─▶ N clients come and subscribe
//! ```
//! The measured interval begins with the first of those who come and ends when all of them have
//! all. Afterwards nothing is left in the broker.

use super::{
    Course, DRAIN_MAX_NS, LINGER_NS, cpu_use, elapsed_s, publisher_plan, subscriber_plans,
};
use crate::clock::{SECOND_NS, float, quotient};
use crate::fleet::{Fleet, Plan};
use crate::handshake::Session;
use crate::latency::Latency;
use crate::report::Stored;
use crate::scenario::{Scenario, numbered_topic};
use anyhow::{Result, ensure};
use culex::codec::{self, Packet, Properties, Publish, Qos};
use hdrhistogram::Histogram;

/// Longest time in which all messages have to be taken by the broker.
const STORE_MAX_NS: u64 = 120 * SECOND_NS;
/// Largest time that is told from a larger one.
const TIME_NS_MAX: u64 = 200 * SECOND_NS;

impl Course<'_> {
    pub(super) fn run_offline(&mut self) -> Result<()> {
        let scenario = self.scenario.clone();
        self.phase = "subscribe";
        self.connect_plans(subscriber_plans(&scenario, Session::Durable))?;
        self.renew_fleet()?;
        self.serve_until(self.clock.now_ns() + LINGER_NS)?;
        self.store()?;
        self.renew_fleet()?;

        let without = |plan| Plan { filters: Vec::new(), ..plan };
        self.fetch(subscriber_plans(&scenario, Session::Resumed).map(without), 0)?;
        let connect_ns = self.fleet.connect_ns.clone();
        self.renew_fleet()?;

        self.phase = "clean up";
        self.connect_plans(subscriber_plans(&scenario, Session::Transient).map(without))?;
        self.renew_fleet()?;
        self.fleet.connect_ns = connect_ns;
        Ok(())
    }

    pub(super) fn run_retained(&mut self) -> Result<()> {
        let scenario = self.scenario.clone();
        self.store()?;
        self.fetch(subscriber_plans(&scenario, Session::Transient), 1)?;
        let connect_ns = self.fleet.connect_ns.clone();
        self.renew_fleet()?;

        self.phase = "clean up";
        self.connect_plans([publisher_plan(&scenario, 0)].into_iter())?;
        self.fleet.send_beside(|out| append_removals(&scenario, out));
        let give_up_ns = self.clock.now_ns() + DRAIN_MAX_NS;
        while !self.fleet.is_flushed() && self.clock.now_ns() < give_up_ns {
            self.turn(10)?;
        }
        self.renew_fleet()?;
        self.fleet.connect_ns = connect_ns;
        Ok(())
    }

    /// Connects the publishers and lets them send all they have.
    fn store(&mut self) -> Result<()> {
        self.phase = "connect";
        let scenario = self.scenario.clone();
        let publishers = (0..scenario.publishers)
            .map(|index| Plan { session: Session::Transient, ..publisher_plan(&scenario, index) });
        self.connect_plans(publishers)?;
        self.phase = "store";
        let before = self.mark()?;
        self.traffic.start(None);
        while !self.traffic.publishers.iter().all(crate::publisher::Publisher::is_done) {
            self.turn(10)?;
            let waited = self.clock.now_ns() - before.now_ns;
            ensure!(waited < STORE_MAX_NS, "the broker takes the messages too slowly");
        }
        self.traffic.stop();
        let after = self.mark()?;
        let sent = self.traffic.tally.sent;
        let seconds = elapsed_s(before, after);
        self.report.stored = Some(Stored {
            messages: sent,
            taken_per_s: quotient(float(sent), seconds),
            taken_broker_us: cpu_use(before, after, sent).map(|cpu| cpu.us_per_message),
            ..Stored::default()
        });
        Ok(())
    }

    /// Connects those who get the messages; in the fleet the first of them is client `place`.
    fn fetch(&mut self, plans: impl Iterator<Item = Plan>, place: usize) -> Result<()> {
        self.phase = "fetch";
        let before = self.mark()?;
        let connect_ns = Histogram::new_from(&self.fleet.connect_ns);
        self.fleet.connect_ns = connect_ns;
        self.connect_plans(plans)?;
        let mut progress_ns = self.clock.now_ns();
        let mut delivered = self.traffic.tally.delivered;
        while !self.traffic.subscribers.iter().all(crate::traffic::Subscriber::is_complete) {
            self.turn(10)?;
            let now_ns = self.clock.now_ns();
            if self.traffic.tally.delivered > delivered {
                (delivered, progress_ns) = (self.traffic.tally.delivered, now_ns);
            } else if now_ns > progress_ns + DRAIN_MAX_NS {
                break;
            }
        }
        self.interval = Some((before, self.mark()?));
        self.report.memory = self.memory()?;
        let mut first_ns = Histogram::<u64>::new_with_max(TIME_NS_MAX, 3)?;
        let mut last_ns = first_ns.clone();
        for (index, subscriber) in self.traffic.subscribers.iter().enumerate() {
            let began_ns = self.fleet.started_ns(place + index);
            first_ns.saturating_record(subscriber.first_ns.saturating_sub(began_ns));
            last_ns.saturating_record(subscriber.last_ns.saturating_sub(began_ns));
        }
        if let Some(stored) = &mut self.report.stored {
            (stored.first, stored.last) = (Latency::of(&first_ns), Latency::of(&last_ns));
        }
        self.drain()?;
        self.traffic.close_books();
        Ok(())
    }

    fn connect_plans(&mut self, plans: impl Iterator<Item = Plan>) -> Result<()> {
        let Self { fleet, traffic, progress, clock, crew, phase, .. } = self;
        fleet.connect(plans, traffic, |ready| {
            progress.tell(clock.now_ns(), phase, u64::try_from(ready).unwrap_or(0));
            crew.check()
        })
    }

    /// All clients say goodbye; the books stay.
    fn renew_fleet(&mut self) -> Result<()> {
        let mut nobody = Fleet::new(self.dialing.clone(), self.clock)?;
        std::mem::swap(&mut nobody, &mut self.fleet);
        self.fleet.connect_ns = nobody.connect_ns.clone();
        nobody.disconnect();
        Ok(())
    }
}

/// A retained message without payload takes the one before it away. [MQTT-3.3.1-6]
fn append_removals(scenario: &Scenario, out: &mut Vec<u8>) {
    for number in 0..scenario.messages {
        let topic = numbered_topic("retained", number);
        let packet = Packet::Publish(Publish {
            dup: false,
            qos: Qos::AtMostOnce,
            retain: true,
            topic: &topic,
            packet_id: None,
            properties: Properties::default(),
            topic_alias: None,
            message_expiry_s: None,
            payload: &[],
        });
        codec::encode(&packet, scenario.codec_version(), out);
    }
}
