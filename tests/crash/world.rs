//! One thread that carries all clients, with `poll`: load, faults, and the way back to rest.

use std::os::fd::AsFd as _;

use rustix::event::{PollFd, PollFlags, poll};
use shards::clock::Clock;

use crate::broker::{Broker, timespec};
use crate::client::Client;
use crate::ledger::{Kind, Ledger, What, Wrong};
use crate::packet;
use crate::rng::Rng;
use crate::tamper::Tamper;

/// How long the broker may take to serve its first client after a start.
const BACK_MS: u64 = 30_000;

/// How long a connection that was left is kept open for the broker to close it.
const LEFT_MS: u64 = 2_000;

/// The prober and the reader: they act when all is at rest.
const LAST: usize = 2;

/// Everything of one run.
pub(crate) struct World {
    pub(crate) broker: Broker,
    pub(crate) clients: Vec<Client>,
    pub(crate) ledger: Ledger,
    pub(crate) tamper: Tamper,
    clock: Clock,
    rng: Rng,
    patience: Patience,
    /// The broker may end by itself now.
    pub(crate) may_end: bool,
    retry_ms: Vec<u64>,
    last_packet_ms: u64,
    acted_ms: u64,
    started_ms: Option<u64>,
    pub(crate) restarts_ms: Vec<u64>,
    /// Wills that were left in order: message, and when the broker closed the connection.
    settled_wills: Vec<(usize, u64)>,
    /// Wills of connections that the fault before the last ended.
    due_wills: Vec<usize>,
}

/// When what is missing will not come.
struct Patience {
    /// After so long without a packet.
    still_ms: u64,
    /// Restart grace of wills, with room.
    wills_ms: u64,
}

/// What the clients do at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Busy,
    /// Nothing new; what was begun is finished.
    Calm,
}

impl World {
    pub(crate) fn new(broker: Broker, plan: crate::load::Load, tamper: Tamper, seed: u64) -> Self {
        let clients = plan.plans.into_iter().enumerate();
        let clients: Vec<_> = clients.map(|(at, plan)| Client::new(at, plan)).collect();
        Self {
            broker,
            patience: Patience { still_ms: 5_000, wills_ms: 25_000 },
            may_end: false,
            retry_ms: vec![0; clients.len()],
            clients,
            ledger: Ledger { topics: plan.topics, ..Ledger::default() },
            tamper,
            clock: Clock::start(),
            rng: Rng::new(seed, "load"),
            last_packet_ms: 0,
            acted_ms: 0,
            started_ms: None,
            restarts_ms: Vec::new(),
            settled_wills: Vec::new(),
            due_wills: Vec::new(),
        }
    }

    /// Waits less for what may be missing.
    pub(crate) fn hasten(&mut self) {
        self.patience = Patience { still_ms: 1_000, wills_ms: 2_000 };
    }

    pub(crate) fn now(&self) -> u64 {
        self.clock.now().0
    }

    /// Starts the broker; the time until the first CONNACK is written down.
    pub(crate) fn start_broker(&mut self) {
        self.broker.start();
        self.started_ms = Some(self.now());
        self.ledger.note(None, What::Started, None, 0);
    }

    /// Writes a fault down: all connections end.
    pub(crate) fn fault(&mut self) {
        self.ledger.ms = self.now();
        self.ledger.faults += 1;
        self.ledger.note(None, What::Fault, None, 0);
        let now = self.ledger.ms;
        self.settled_wills.retain(|(_, at)| at + 500 < now);
        self.forbid_wills();
        self.due_wills.clear();
        for client in &mut self.clients {
            // What still lies in the socket was sent before: it counts.
            while client.is_live()
                && client.read()
                && Self::parse(client, &mut self.tamper, &mut self.ledger, 0)
            {}
            let will = client.link.as_ref().and_then(|link| link.will).filter(|will| will.stored);
            self.due_wills.extend(will.map(|will| will.message));
            client.closed(&mut self.ledger);
            client.left.clear();
        }
    }

    fn forbid_wills(&mut self) {
        for (will, _) in self.settled_wills.drain(..) {
            self.ledger.messages[will].forbidden = true;
        }
    }

    /// Lets time pass with this much activity.
    pub(crate) fn run(&mut self, ms: u64, mood: Mood) -> Result<(), String> {
        let end = self.now() + ms;
        while self.now() < end {
            self.tick(mood)?;
        }
        Ok(())
    }

    /// Busy until the first CONNACK after a start, or the end of a broker that may end.
    pub(crate) fn until_served(&mut self) -> Result<(), String> {
        while self.started_ms.is_some() && self.broker.ended().is_none() {
            self.tick(Mood::Busy)?;
        }
        Ok(())
    }

    /// Busy until no CONNECT is unanswered: of one whose connection was cut, nobody knows whether
    /// the broker takes it before or after the next.
    pub(crate) fn until_answered(&mut self) -> Result<(), String> {
        let waits = |client: &Client| client.link.as_ref().is_some_and(|link| !link.live);
        while self.clients.iter().any(waits) {
            self.tick(Mood::Busy)?;
        }
        Ok(())
    }

    /// One turn of the loop, at most a millisecond of waiting.
    pub(crate) fn tick(&mut self, mood: Mood) -> Result<(), String> {
        self.ledger.ms = self.now();
        self.ledger.may_refuse = self.may_end;
        if let Some(text) = self.broker.ended().filter(|_| !self.may_end) {
            return Err(text);
        }
        self.connect_all();
        let acting = self.clients.len() - LAST;
        let acts = mood == Mood::Busy && self.ledger.ms > self.acted_ms;
        self.acted_ms = self.ledger.ms;
        for at in 0..self.clients.len() {
            if acts && at < acting && self.clients[at].is_live() {
                crate::load::act(&mut self.clients[at], &mut self.ledger, &mut self.rng);
            }
            let client = &mut self.clients[at];
            client.hurry = mood == Mood::Calm;
            client.acknowledge(&mut self.ledger);
            self.flush(at);
        }
        self.wait_and_read();
        self.look_after_left();
        let limit = self.started_ms.map_or(u64::MAX, |at| at + BACK_MS);
        if self.ledger.ms > limit {
            return Err(format!("nobody is served after a start:\n{}", self.broker.log_end()));
        }
        Ok(())
    }

    fn connect_all(&mut self) {
        let now = self.ledger.ms;
        for (client, retry) in self.clients.iter_mut().zip(&mut self.retry_ms) {
            let wanted = client.link.is_none() && client.rest_until <= now;
            if wanted && *retry <= now && !client.connect(self.broker.address, &mut self.ledger) {
                *retry = now + 5;
            }
        }
    }

    /// Moves what a client wants to say into its socket, through the tamperer.
    fn flush(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let version = client.plan.version;
        for frame in client.take_outbox() {
            let (frame, forged) = self.tamper.outbound(at, frame, version);
            if let Some(link) = &mut client.link {
                link.output.extend(frame);
            }
            for packet in forged {
                client.take(&packet, 0, &mut self.ledger);
            }
        }
        if !client.write() {
            client.closed(&mut self.ledger);
        }
    }

    fn wait_and_read(&mut self) {
        let mut fds = Vec::new();
        let mut owners = Vec::new();
        for (at, client) in self.clients.iter().enumerate() {
            let Some(link) = &client.link else { continue };
            let out = if link.output.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::from_borrowed_fd(link.stream.as_fd(), PollFlags::IN | out));
            owners.push(at);
        }
        let ready = poll(&mut fds, Some(&timespec(1))).unwrap_or_default();
        if ready == 0 {
            return;
        }
        let ready: Vec<usize> = fds
            .iter()
            .zip(owners)
            .filter_map(|(fd, at)| (!fd.revents().is_empty()).then_some(at))
            .collect();
        drop(fds);
        self.ledger.ms = self.now();
        for at in ready {
            let client = &mut self.clients[at];
            let open = client.read();
            let was_live = client.is_live();
            let lazy = self.rng.below(usize::try_from(client.plan.lazy_ms).unwrap() + 1) as u64;
            if Self::parse(client, &mut self.tamper, &mut self.ledger, lazy) {
                self.last_packet_ms = self.ledger.ms;
            }
            if !was_live
                && client.is_live()
                && let Some(started) = self.started_ms.take()
            {
                self.restarts_ms.push(self.ledger.ms - started);
            }
            if !open {
                client.closed(&mut self.ledger);
            }
        }
    }

    /// Hands over the packets that are complete. True if there were some.
    fn parse(client: &mut Client, tamper: &mut Tamper, ledger: &mut Ledger, lazy: u64) -> bool {
        let mut any = false;
        while let Some(link) = &mut client.link {
            match packet::take(&mut link.input, client.plan.version) {
                Ok(Some(packet)) => {
                    any = true;
                    let (packets, forged) =
                        tamper.inbound(client.index, packet, client.plan.version);
                    link.output.extend(forged);
                    for packet in packets {
                        client.take(&packet, lazy, ledger);
                    }
                }
                Ok(None) => break,
                Err(text) => {
                    ledger.found(Wrong::Protocol, client.index, None, text);
                    client.closed(ledger);
                }
            }
        }
        any
    }

    /// Drops connections that were left, when the broker has closed them or has had its time.
    fn look_after_left(&mut self) {
        let now = self.ledger.ms;
        for client in &mut self.clients {
            let settled = &mut self.settled_wills;
            client.left.retain_mut(|(link, since)| {
                let mut bytes = [0; 4096];
                let closed = loop {
                    match std::io::Read::read(&mut link.stream, &mut bytes) {
                        Ok(0) => break true,
                        Ok(_) => {}
                        Err(error) => break error.kind() != std::io::ErrorKind::WouldBlock,
                    }
                };
                if closed && let Some(will) = link.will {
                    settled.push((will.message, now));
                }
                !closed && now < *since + LEFT_MS
            });
        }
    }

    /// After the last fault: everybody comes back, everything that was begun ends, all that is owed
    /// arrives; then every topic is tried once more, and the retained messages are read.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        self.wait_for_wills()?;
        for client in &mut self.clients {
            client.rest_until = 0;
        }
        self.settle()?;
        self.probe();
        self.settle()?;
        let reader = self.clients.len() - 1;
        for want in 0..self.clients[reader].wants.len() {
            self.clients[reader].toggle(want, &mut self.ledger);
        }
        self.settle()?;
        self.read_retained(reader)?;
        // What nobody waits for has no event; what may not come has this long to come.
        self.run(200, Mood::Calm)?;
        self.forbid_wills();
        Ok(())
    }

    /// Retained messages follow SUBACK: what has to be there is waited for as all that is owed.
    fn read_retained(&mut self, reader: usize) -> Result<(), String> {
        let topics = crate::judge::retained_topics(&self.ledger);
        self.last_packet_ms = self.now();
        loop {
            let read = &self.clients[reader].retained;
            let missing = topics.iter().any(|topic| !read.contains_key(topic));
            if !missing || self.now() > self.last_packet_ms + self.patience.still_ms {
                return Ok(());
            }
            self.tick(Mood::Calm)?;
        }
    }

    /// Those whose will is due stay away until it is there.
    fn wait_for_wills(&mut self) -> Result<(), String> {
        let end = self.now() + self.patience.wills_ms;
        let mut due = std::mem::take(&mut self.due_wills);
        due.retain(|will| self.ledger.messages[*will].qos > 0);
        for will in &due {
            let publisher = self.ledger.messages[*will].publisher;
            self.clients[publisher].rest_until = end;
        }
        let watcher = self.clients.iter().position(|client| client.plan.name == "watcher");
        let watcher = watcher.expect("every load has one");
        loop {
            let session = self.clients[watcher].session;
            let missing = |will: &&usize| {
                session.is_none_or(|at| !self.ledger.sessions[at].copies.contains_key(*will))
            };
            let missing: Vec<usize> = due.iter().filter(missing).copied().collect();
            if missing.is_empty() || self.now() >= end {
                for will in missing {
                    self.ledger.found(Wrong::Will, watcher, Some(will), "it did not come".into());
                }
                return Ok(());
            }
            self.tick(Mood::Calm)?;
        }
    }

    fn settle(&mut self) -> Result<(), String> {
        self.last_packet_ms = self.now();
        while self.started_ms.is_some() {
            self.tick(Mood::Calm)?;
            self.last_packet_ms = self.now();
        }
        let mut collected = false;
        loop {
            self.tick(Mood::Calm)?;
            let quiet = self.clients.iter().all(Client::is_quiet);
            if quiet && !collected {
                self.ledger.outstanding = crate::judge::owed(&self.ledger);
                collected = true;
            }
            if quiet && self.ledger.outstanding.is_empty() {
                return Ok(());
            }
            if self.now() > self.last_packet_ms + self.patience.still_ms {
                if !quiet {
                    let restless = self.clients.iter().find(|client| !client.is_quiet()).unwrap();
                    let text = format!("{} waits for the broker", restless.plan.name);
                    let at = restless.index;
                    self.ledger.found(Wrong::Protocol, at, restless.waits_for(), text);
                }
                return Ok(());
            }
        }
    }

    /// One QoS 1 and one QoS 2 message to every topic: who is subscribed gets them, nobody else.
    fn probe(&mut self) {
        let prober = self.clients.len() - 2;
        for topic in 0..self.ledger.topics.len() {
            for qos in [1, 2] {
                let what = (Kind::Publish, false, 0);
                self.clients[prober].publish(topic, qos, what, &mut self.ledger);
            }
        }
    }
}
