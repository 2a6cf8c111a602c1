//! Phases of a run.
//!
//! ```text
//! messages:  connect ─▶ warm up ─▶ measure ─▶ drain (nothing new is sent) ─▶ close the books
//! silent:    memory ─▶ connect ─▶ memory ─▶ idle ─▶ disconnect ─▶ memory
//! stored:    see `stored`
//! ```
//! CPU and deliveries are counted over the measured interval, promises over the whole run. Each
//! thread runs a course with its part of the clients; the first one also looks at the broker.

mod stored;

use crate::clock::{Clock, SECOND_NS, float, quotient};
use crate::crew::{Crew, OTHER_FAILED, pin};
use crate::fleet::{Dialing, Fleet, Plan, Role};
use crate::guests::Guests;
use crate::handshake::Session;
use crate::host::{Cpu, Memory, disk_bytes};
use crate::latency::Latency;
use crate::layers::Below;
use crate::progress::Progress;
use crate::publisher::{Form, Limits, Publisher, Template};
use crate::report::{Connects, CpuUse, Disk, Footprint, Report, Slow, Subscriptions, Visits};
use crate::scenario::{Kind, Scenario, codec_qos};
use crate::traffic::{Schedule, Subscriber, Traffic};
use anyhow::{Result, anyhow, ensure};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Longest wait for what is in flight when sending has ended.
const DRAIN_MAX_NS: u64 = 10 * SECOND_NS;
/// Time in which a duplicate may still come.
const LINGER_NS: u64 = SECOND_NS / 5;
/// Time that a broker gets to settle before its memory is read.
const SETTLE_NS: u64 = SECOND_NS;
/// Largest latency that is told from a larger one.
const LATENCY_NS_MAX: u64 = 100 * SECOND_NS;
/// From one message of a publisher to its next in the row of topics: far enough that neither
/// subscribers nor caches see them in a row. A prime, times the number of publishers.
const TOPIC_STRIDE: u64 = 7919;

/// Whom to measure, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Address of the broker.
    pub(crate) address: SocketAddr,
    /// Its process, if it is on this machine and its cost is asked for.
    pub(crate) pid: Option<u32>,
    /// CPUs of the generator's threads in turn; none: wherever the system puts them.
    pub(crate) cpus: Vec<usize>,
}

/// Result of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What is printed.
    pub(crate) report: Report,
    /// Histograms in ns by name, for files.
    pub(crate) histograms: Vec<(&'static str, Histogram<u64>)>,
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Mark {
    now_ns: u64,
    delivered: u64,
    broker: Option<Cpu>,
    disk: Option<u64>,
    own: Cpu,
}

/// What one thread found.
struct Part {
    report: Report,
    interval: Option<(Mark, Mark)>,
    traffic: Traffic,
    connect_ns: Histogram<u64>,
}

/// Runs `scenario` against `target`.
pub(crate) fn run(scenario: &Scenario, target: &Target) -> Result<Outcome> {
    let crew = Crew::new(scenario.threads);
    let clock = Clock::start();
    let member = |index: usize| {
        let part = Course::new(scenario, target, index, clock, &crew).and_then(Course::run);
        part.inspect_err(|_| crew.fail())
    };
    let parts: Vec<Result<Part>> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..scenario.threads)
            .map(|index| {
                let member = &member;
                scope.spawn(move || member(index))
            })
            .collect();
        let mut parts = vec![member(0)];
        for other in others {
            parts.push(other.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))));
        }
        parts
    });
    let followed =
        |part: &Result<Part>| part.as_ref().is_err_and(|error| error.to_string() == OTHER_FAILED);
    let (after, first): (Vec<_>, Vec<_>) = parts.into_iter().partition(followed);
    let parts: Result<Vec<Part>> = first.into_iter().chain(after).collect();
    conclude(scenario, parts?)
}

/// Adds the parts up.
fn conclude(scenario: &Scenario, parts: Vec<Part>) -> Result<Outcome> {
    let mut parts = parts.into_iter();
    let Some(leader) = parts.next() else { return Err(anyhow!("no thread")) };
    let Part { mut report, interval, mut traffic, mut connect_ns } = leader;
    let delivered_in = |interval: Option<(Mark, Mark)>| {
        interval.map_or(0, |(before, after)| after.delivered - before.delivered)
    };
    let mut delivered = delivered_in(interval);
    for part in parts {
        delivered += delivered_in(part.interval);
        traffic.tally.add(part.traffic.tally);
        connect_ns.add(part.connect_ns)?;
        add(&mut traffic.latency, part.traffic.latency)?;
        add(&mut traffic.acknowledged, part.traffic.acknowledged)?;
    }
    report.scenario = scenario.clone();
    report.tally = traffic.tally;
    if let Some((before, after)) = interval {
        report.measured_s = elapsed_s(before, after);
        report.delivered = delivered;
        report.delivered_per_s = quotient(float(delivered), report.measured_s);
        report.broker = cpu_use(before, after, delivered);
        report.generator = own_use(before, after, delivered);
        report.disk = disk_use(scenario, before, after, delivered);
        let silent = scenario.is_silent();
        ensure!(silent || delivered > 0, "nothing was delivered in the measured interval");
    }
    report.latency = traffic.latency.as_ref().map(Latency::of);
    report.acknowledged = traffic.acknowledged.as_ref().map(Latency::of);
    if let Some(connects) = &mut report.connects {
        connects.latency = Latency::of(&connect_ns);
    }
    let named = [
        ("latency", traffic.latency),
        ("acknowledged", traffic.acknowledged),
        ("connect", (!connect_ns.is_empty()).then_some(connect_ns)),
    ];
    let histograms = named.into_iter().filter_map(|(name, h)| Some((name, h?))).collect();
    Ok(Outcome { report, histograms })
}

fn add(sum: &mut Option<Histogram<u64>>, part: Option<Histogram<u64>>) -> Result<()> {
    if let (Some(sum), Some(part)) = (sum, part) {
        sum.add(part)?;
    }
    Ok(())
}

/// Subscribers come first, so that nothing is published before all have subscribed.
fn plans(scenario: &Scenario) -> impl Iterator<Item = Plan> {
    let publishers = (0..scenario.publishers).map(|index| publisher_plan(scenario, index));
    subscriber_plans(scenario, session(scenario)).chain(publishers)
}

fn session(scenario: &Scenario) -> Session {
    if scenario.durable { Session::Durable } else { Session::Transient }
}

fn publisher_plan(scenario: &Scenario, index: usize) -> Plan {
    let qos = codec_qos(scenario.qos_of(index));
    let session = session(scenario);
    Plan { role: Role::Publisher(index), filters: Vec::new(), qos, session }
}

/// Sleepers stand behind the others in the books.
fn subscriber_plans(scenario: &Scenario, session: Session) -> impl Iterator<Item = Plan> {
    (0..scenario.subscribers_all()).map(move |index| {
        let sleeps = scenario.kind == Kind::Slow && index >= scenario.subscribers;
        Plan {
            role: if sleeps { Role::Sleeper(index) } else { Role::Subscriber(index) },
            filters: scenario.filters(index),
            qos: codec_qos(scenario.qos_of(index)),
            session,
        }
    })
}

fn traffic(scenario: &Scenario) -> Traffic {
    let version = scenario.codec_version();
    let mut traffic = Traffic::new(version, scenario.spread());
    for index in 0..scenario.subscribers_all() {
        let (first, count) = scenario.heard(index);
        traffic.subscribers.push(if scenario.kind == Kind::Retained {
            Subscriber::stored(0, scenario.messages, true)
        } else if scenario.kind == Kind::Offline {
            Subscriber::stored(index, scenario.messages, false)
        } else if scenario.kind == Kind::Slow && index >= scenario.subscribers {
            Subscriber::slow(1)
        } else {
            Subscriber::new(first, count)
        });
    }
    let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let is_stored = matches!(scenario.kind, Kind::Retained | Kind::Offline);
    let limits = Limits {
        window: u64::from(scenario.window),
        outstanding: u64::from(scenario.outstanding),
        receivers: scenario.receivers(),
        messages: if is_stored { wide(scenario.messages) } else { u64::MAX },
        stride: if scenario.kind == Kind::Topics {
            wide(scenario.publishers) * TOPIC_STRIDE
        } else {
            1
        },
    };
    for index in 0..scenario.publishers {
        let (topic, qos) = (scenario.topic(index), codec_qos(scenario.qos_of(index)));
        let payload_bytes = scenario.payload_bytes_of(index);
        let retain = scenario.kind == Kind::Retained;
        let form = Form { topic: &topic, qos, version, payload_bytes, retain };
        let template = Template::new(form, wide(scenario.topics_of_publisher()));
        let id = u32::try_from(index).unwrap_or(u32::MAX);
        traffic.publishers.push(Publisher::new(id, qos, template, limits));
    }
    traffic
}

struct Course<'a> {
    scenario: Scenario,
    /// Clients of all threads.
    clients: usize,
    is_leader: bool,
    pid: Option<u32>,
    clock: Clock,
    crew: &'a Crew,
    meetings: usize,
    progress: Progress,
    phase: &'static str,
    told: u64,
    dialing: Dialing,
    fleet: Fleet,
    guests: Option<Guests>,
    traffic: Traffic,
    report: Report,
    interval: Option<(Mark, Mark)>,
}

impl<'a> Course<'a> {
    fn new(
        whole: &Scenario,
        target: &Target,
        index: usize,
        clock: Clock,
        crew: &'a Crew,
    ) -> Result<Self> {
        if let Some(&cpu) = target.cpus.get(index % target.cpus.len().max(1)) {
            pin(cpu)?;
        }
        let scenario = whole.part(index);
        let dialing = Dialing {
            target: target.address,
            version: scenario.codec_version(),
            connecting_max: scenario.connecting,
            packet_bytes_max: scenario.payload_bytes_max() + 1024,
            first: scenario.first,
            below: Below::new(scenario.transport, scenario.ca_file.as_deref(), target.address)?,
        };
        let is_leader = index == 0;
        Ok(Self {
            clients: whole.subscribers,
            is_leader,
            pid: target.pid.filter(|_| is_leader),
            clock,
            crew,
            meetings: 0,
            progress: if is_leader { Progress::on_terminal() } else { Progress::none() },
            phase: "connect",
            told: 0,
            fleet: Fleet::new(dialing.clone(), clock)?,
            dialing,
            guests: None,
            traffic: traffic(&scenario),
            report: Report::default(),
            interval: None,
            scenario,
        })
    }

    fn run(mut self) -> Result<Part> {
        let result = if self.scenario.is_silent() {
            self.run_silent()
        } else if self.scenario.kind == Kind::Offline {
            self.run_offline()
        } else if self.scenario.kind == Kind::Retained {
            self.run_retained()
        } else {
            self.run_messages()
        };
        self.progress.clear();
        result?;
        let Self { report, interval, traffic, fleet, .. } = self;
        Ok(Part { report, interval, traffic, connect_ns: fleet.connect_ns })
    }

    fn connect(&mut self) -> Result<()> {
        let Self { fleet, traffic, progress, clock, crew, scenario, .. } = self;
        fleet.connect(plans(scenario), traffic, |ready| {
            progress.tell(clock.now_ns(), "connect", u64::try_from(ready).unwrap_or(0));
            crew.check()
        })
    }

    fn meet(&mut self) -> Result<()> {
        self.meetings += 1;
        let Self { crew, fleet, traffic, meetings, .. } = self;
        crew.meet(*meetings, || fleet.turn(traffic, Duration::from_millis(1)))
    }

    fn run_messages(&mut self) -> Result<()> {
        let kind = self.scenario.kind;
        let empty = self.memory()?;
        self.connect()?;
        if kind == Kind::Topics {
            self.serve_until(self.clock.now_ns() + SETTLE_NS)?;
            let count = u64::try_from(self.scenario.topics).unwrap_or(u64::MAX);
            self.report.subscriptions = Subscriptions::of(count, empty, self.memory()?);
        }
        self.meet()?;
        let start_ns = self.clock.now_ns();
        let warm_until = start_ns + self.scenario.warm_ns();
        let measured_until = warm_until + self.scenario.measured_ns();
        let Scenario { rate, tick_us, .. } = self.scenario;
        let schedule = (rate > 0).then(|| Schedule::new(start_ns, rate, tick_us * 1000));
        let histogram = || Histogram::new_with_max(LATENCY_NS_MAX, 3);
        if self.scenario.has_latency() {
            self.traffic.latency = Some(histogram()?);
        }
        if self.scenario.qos > 0 || kind == Kind::Mixed {
            self.traffic.acknowledged = Some(histogram()?);
        }
        self.traffic.measured = warm_until..measured_until;
        if kind == Kind::Churn {
            let (dialing, per_s) = (self.dialing.clone(), self.scenario.churn_per_s);
            self.guests = Some(Guests::new(dialing, per_s, self.clock, start_ns)?);
        }
        if kind == Kind::Slow {
            self.fleet.fall_asleep();
        }
        self.phase = "warm up";
        self.traffic.start(schedule);
        self.serve_until(warm_until)?;
        let before = self.mark()?;
        let served_before = self.guests.as_ref().map_or(0, |guests| guests.served);
        let memory_before = self.memory()?;
        self.phase = "measure";
        self.serve_until(measured_until)?;
        let after = self.mark()?;
        self.report.memory = self.memory()?;
        self.interval = Some((before, after));
        if let Some(guests) = &mut self.guests {
            guests.shut();
            let served = guests.served - served_before;
            self.report.visits = Some(Visits::of(served, elapsed_s(before, after)));
        }
        self.traffic.stop();
        self.phase = "drain";
        self.drain()?;
        if let Some(guests) = &self.guests
            && let Some(visits) = &mut self.report.visits
        {
            visits.latency = Latency::of(&guests.took_ns);
        }
        if kind == Kind::Slow {
            self.wake_up()?;
            self.report.slow = Some(Slow {
                clients: self.scenario.slow,
                offered: self.traffic.tally.sent,
                delivered: self.traffic.slow_delivered,
                before: memory_before,
                after: self.report.memory,
            });
        }
        self.traffic.close_books();
        Ok(())
    }

    /// Lets the slow ones read until nothing comes any more.
    fn wake_up(&mut self) -> Result<()> {
        self.fleet.wake_up(&mut self.traffic)?;
        let give_up_ns = self.clock.now_ns() + DRAIN_MAX_NS;
        loop {
            let before = self.traffic.slow_delivered;
            let now_ns = self.clock.now_ns();
            self.serve_until(now_ns + LINGER_NS)?;
            if self.traffic.slow_delivered == before || now_ns > give_up_ns {
                return Ok(());
            }
        }
    }

    fn run_silent(&mut self) -> Result<()> {
        let empty = self.memory()?;
        let before = self.mark()?;
        self.meet()?;
        self.connect()?;
        self.meet()?;
        let after = self.mark()?;
        let clients = u64::try_from(self.clients).unwrap_or(u64::MAX);
        let us = cpu_use(before, after, clients).map(|cpu| cpu.us_per_message);
        self.report.connects = Some(Connects::of(clients, elapsed_s(before, after), us));
        self.phase = "settle";
        self.serve_until(self.clock.now_ns() + SETTLE_NS)?;
        let full = self.memory()?;

        self.phase = "idle";
        let before = self.mark()?;
        self.serve_until(before.now_ns + self.scenario.measured_ns())?;
        self.interval = Some((before, self.mark()?));
        self.meet()?;

        self.phase = "leave";
        let nobody = Fleet::new(self.dialing.clone(), self.clock)?;
        let everybody = std::mem::replace(&mut self.fleet, nobody);
        self.fleet.connect_ns.add(&everybody.connect_ns)?;
        everybody.disconnect();
        self.meet()?;
        self.serve_until(self.clock.now_ns() + 2 * SETTLE_NS)?;
        if let (Some(empty), Some(full), Some(left)) = (empty, full, self.memory()?) {
            self.report.footprint = Some(Footprint::of(clients, empty, full, left));
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
            self.turn(wait_ms.min(100))?;
        }
    }

    fn turn(&mut self, wait_ms: u64) -> Result<()> {
        let wait_ms = if self.guests.is_some() { 0 } else { wait_ms };
        self.fleet.turn(&mut self.traffic, Duration::from_millis(wait_ms))?;
        if let Some(guests) = &mut self.guests {
            guests.turn()?;
        }
        self.crew.check()?;
        let delivered = self.traffic.tally.delivered;
        let all = self.crew.delivered.fetch_add(delivered - self.told, Ordering::Relaxed);
        self.told = delivered;
        if self.is_leader {
            self.progress.tell(self.clock.now_ns(), self.phase, all);
        }
        Ok(())
    }

    /// Waits for what is in flight, then a little for what should not come.
    fn drain(&mut self) -> Result<()> {
        let give_up_ns = self.clock.now_ns() + DRAIN_MAX_NS;
        while !self.is_settled() && self.clock.now_ns() < give_up_ns {
            self.turn(10)?;
        }
        let gone = self.guests.as_ref().is_none_or(Guests::are_gone);
        ensure!(gone, "clients that came beside the others got no answer");
        self.serve_until(self.clock.now_ns() + LINGER_NS)
    }

    fn is_settled(&self) -> bool {
        self.traffic.is_settled() && self.guests.as_ref().is_none_or(Guests::are_gone)
    }

    fn memory(&self) -> Result<Option<Memory>> {
        self.pid.map(Memory::of).transpose()
    }

    fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            now_ns: self.clock.now_ns(),
            delivered: self.traffic.tally.delivered,
            broker: self.pid.map(Cpu::of).transpose()?,
            // Only the broker's own user and root may read it; the run does not depend on it.
            disk: self.pid.and_then(|pid| disk_bytes(pid).ok()),
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

fn disk_use(scenario: &Scenario, before: Mark, after: Mark, messages: u64) -> Option<Disk> {
    let written = after.disk?.checked_sub(before.disk?)?;
    let payload = messages * u64::try_from(scenario.payload_bytes).unwrap_or(0);
    Some(Disk {
        written_bytes: written,
        bytes_per_payload_byte: quotient(float(written), float(payload)),
        bytes_per_message: quotient(float(written), float(messages)),
    })
}
