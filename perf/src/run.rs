//! Phases of a run.
//!
//! ```text
//! messages:  connect ─▶ warm up ─▶ measure ─▶ drain (nothing new is sent) ─▶ close the books
//! silent:    memory ─▶ connect ─▶ memory ─▶ idle ─▶ disconnect ─▶ memory
//! ```
//! CPU and deliveries are counted over the measured interval, promises over the whole run.

use crate::clock::{Clock, SECOND_NS, float, quotient};
use crate::fleet::{Dialing, Fleet, Plan, Role};
use crate::host::{Cpu, Memory};
use crate::publisher::{Limits, Publisher, Template};
use crate::report::{Connects, CpuUse, Footprint, Latency, Report};
use crate::scenario::Scenario;
use crate::traffic::{Schedule, Subscriber, Traffic};
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::time::Duration;

/// Longest wait for what is in flight when sending has ended.
const DRAIN_MAX_NS: u64 = 10 * SECOND_NS;
/// Time in which a duplicate may still come.
const LINGER_NS: u64 = SECOND_NS / 5;
/// Time that a broker gets to settle before its memory is read.
const SETTLE_NS: u64 = SECOND_NS;
/// Largest latency that is told from a larger one.
const LATENCY_NS_MAX: u64 = 100 * SECOND_NS;

/// Whom to measure.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address of the broker.
    pub(crate) address: SocketAddr,
    /// Its process, if it is on this machine and its cost is asked for.
    pub(crate) pid: Option<u32>,
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Mark {
    now_ns: u64,
    delivered: u64,
    broker: Option<Cpu>,
    own: Cpu,
}

/// Runs `scenario` against `target`.
pub(crate) fn run(scenario: &Scenario, target: &Target) -> Result<Report> {
    let clock = Clock::start();
    let dialing = Dialing {
        target: target.address,
        version: scenario.codec_version(),
        durable: scenario.durable,
        qos: scenario.codec_qos(),
        connecting_max: scenario.connecting,
        packet_bytes_max: scenario.payload_bytes + 1024,
    };
    let mut course = Course {
        clock,
        pid: target.pid,
        fleet: Fleet::new(dialing, clock)?,
        traffic: traffic(scenario),
    };
    let mut report = Report { scenario: scenario.clone(), ..Report::default() };
    if scenario.is_silent() {
        course.run_silent(scenario, &mut report)?;
    } else {
        course.run_messages(scenario, &mut report)?;
    }
    report.tally = course.traffic.tally;
    Ok(report)
}

/// Subscribers come first, so that nothing is published before all have subscribed.
fn plans(scenario: &Scenario) -> Vec<Plan> {
    let subscribers = (0..scenario.subscribers)
        .map(|i| Plan { role: Role::Subscriber(i), filter: Some(scenario.filter(i)) });
    let publishers =
        (0..scenario.publishers).map(|i| Plan { role: Role::Publisher(i), filter: None });
    subscribers.chain(publishers).collect()
}

fn traffic(scenario: &Scenario) -> Traffic {
    let (version, qos) = (scenario.codec_version(), scenario.codec_qos());
    let payload_bytes = scenario.payload_bytes;
    let mut traffic = Traffic::new(version, scenario.qos, payload_bytes, scenario.spread());
    for index in 0..scenario.subscribers {
        let (first, count) = scenario.heard(index);
        traffic.subscribers.push(Subscriber::new(first, count));
    }
    let limits = Limits {
        window: u64::from(scenario.window),
        outstanding: u64::from(scenario.outstanding),
        receivers: scenario.receivers(),
    };
    for index in 0..scenario.publishers {
        let template = Template::new(&scenario.topic(index), qos, version, payload_bytes);
        let id = u32::try_from(index).unwrap_or(u32::MAX);
        traffic.publishers.push(Publisher::new(id, qos, template, limits));
    }
    traffic
}

struct Course {
    clock: Clock,
    pid: Option<u32>,
    fleet: Fleet,
    traffic: Traffic,
}

impl Course {
    fn run_messages(&mut self, scenario: &Scenario, report: &mut Report) -> Result<()> {
        self.fleet.connect(plans(scenario), &mut self.traffic)?;
        let start_ns = self.clock.now_ns();
        let warm_until = start_ns + scenario.warm_ns();
        let measured_until = warm_until + scenario.measured_ns();
        let schedule = (scenario.rate > 0)
            .then(|| Schedule::new(start_ns, scenario.rate, scenario.tick_us * 1000));
        if scenario.has_latency() {
            self.traffic.latency = Some(Histogram::new_with_max(LATENCY_NS_MAX, 3)?);
            self.traffic.measured = warm_until..measured_until;
        }
        self.traffic.start(schedule);
        self.serve_until(warm_until)?;
        let before = self.mark()?;
        self.serve_until(measured_until)?;
        let after = self.mark()?;
        self.traffic.stop();
        self.drain()?;
        self.traffic.close_books();

        report.measured_s = elapsed_s(before, after);
        report.delivered = after.delivered - before.delivered;
        report.delivered_per_s = quotient(float(report.delivered), report.measured_s);
        report.broker = cpu_use(before, after, report.delivered);
        report.generator = own_use(before, after, report.delivered);
        report.latency = self.traffic.latency.as_ref().map(Latency::of);
        ensure!(report.delivered > 0, "nothing was delivered in the measured interval");
        Ok(())
    }

    fn run_silent(&mut self, scenario: &Scenario, report: &mut Report) -> Result<()> {
        let clients = u64::try_from(scenario.subscribers).unwrap_or(u64::MAX);
        let memory = |pid: Option<u32>| pid.map(Memory::of).transpose();
        let empty = memory(self.pid)?;
        let before = self.mark()?;
        self.fleet.connect(plans(scenario), &mut self.traffic)?;
        let after = self.mark()?;
        report.connects = Some(Connects::of(
            clients,
            elapsed_s(before, after),
            &self.fleet.connect_ns,
            cpu_use(before, after, clients).map(|cpu| cpu.us_per_message),
        ));
        self.serve_until(self.clock.now_ns() + SETTLE_NS)?;
        let full = memory(self.pid)?;

        let before = self.mark()?;
        self.serve_until(before.now_ns + scenario.measured_ns())?;
        let after = self.mark()?;
        report.measured_s = elapsed_s(before, after);
        report.broker = cpu_use(before, after, 0);
        report.generator = own_use(before, after, 0);

        let dialing_over = Fleet::new(self.fleet.dialing(), self.clock)?;
        std::mem::replace(&mut self.fleet, dialing_over).disconnect();
        self.serve_until(self.clock.now_ns() + 2 * SETTLE_NS)?;
        if let (Some(empty), Some(full), Some(left)) = (empty, full, memory(self.pid)?) {
            report.footprint = Some(Footprint::of(clients, empty, full, left));
        }
        Ok(())
    }

    /// Runs the event loop until `until_ns`.
    fn serve_until(&mut self, until_ns: u64) -> Result<()> {
        loop {
            let now_ns = self.clock.now_ns();
            if now_ns >= until_ns {
                return Ok(());
            }
            let due_ns = self.traffic.schedule.map_or(until_ns, |s| s.next_due_ns().min(until_ns));
            // epoll waits for whole milliseconds; what is due earlier is awaited by polling, as
            // being late would count as latency of the broker.
            let wait_ms = due_ns.saturating_sub(now_ns) / 1_000_000;
            self.fleet.turn(&mut self.traffic, Duration::from_millis(wait_ms.min(100)))?;
        }
    }

    /// Waits for what is in flight, then a little for what should not come.
    fn drain(&mut self) -> Result<()> {
        let give_up_ns = self.clock.now_ns() + DRAIN_MAX_NS;
        while !self.traffic.is_settled() && self.clock.now_ns() < give_up_ns {
            self.fleet.turn(&mut self.traffic, Duration::from_millis(10))?;
        }
        self.serve_until(self.clock.now_ns() + LINGER_NS)
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            now_ns: self.clock.now_ns(),
            delivered: self.traffic.tally.delivered,
            broker: self.pid.map(Cpu::of).transpose()?,
            own: Cpu::of(std::process::id())?,
        })
    }
}

fn elapsed_s(before: Mark, after: Mark) -> f64 {
    quotient(float(after.now_ns - before.now_ns), float(SECOND_NS))
}

fn cpu_use(before: Mark, after: Mark, messages: u64) -> Option<CpuUse> {
    let used = after.broker?.since(before.broker?);
    Some(CpuUse::of(used, elapsed_s(before, after), messages))
}

fn own_use(before: Mark, after: Mark, messages: u64) -> CpuUse {
    CpuUse::of(after.own.since(before.own), elapsed_s(before, after), messages)
}
