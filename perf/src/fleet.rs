//! The clients of a run and the event loop that serves them, all on one thread.
//!
//! ```text
//! turn: poll ─▶ read every ready socket ─▶ traffic checks, acks ─▶ refill publishers ─▶ flush
//! ```
//! Acknowledgements and messages gather in the connection's buffer and leave in one write per turn.

use crate::clock::{Clock, SECOND_NS};
use crate::handshake::{self, Session};
use crate::layers::Below;
use crate::link::{Arrived, Link};
use crate::traffic::Traffic;
use crate::wire::{Frame, Malformed, kind};
use anyhow::{Context, Result, anyhow, bail, ensure};
use culex::codec::{Qos, Version};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Smallest read buffer; it is larger if packets are.
const READ_BYTES: usize = 256 * 1024;
/// Clients that share a source address on loopback.
const CLIENTS_PER_SOURCE: usize = 10_000;
/// A client that is not ready after this time has failed.
const CONNECT_MAX_NS: u64 = 30 * SECOND_NS;

/// What a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Index into the publishers.
    Publisher(usize),
    /// Index into the subscribers.
    Subscriber(usize),
    /// Index into the subscribers; does not read while the fleet lets it sleep.
    Sleeper(usize),
}

/// A client to be connected.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its role.
    pub(crate) role: Role,
    /// Its filters, if it subscribes.
    pub(crate) filters: Vec<String>,
    /// QoS of its subscriptions.
    pub(crate) qos: Qos,
    /// Its session.
    pub(crate) session: Session,
}

/// How all clients connect.
#[derive(Clone, Debug)]
pub(crate) struct Dialing {
    /// Address of the broker.
    pub(crate) target: SocketAddr,
    /// Protocol version.
    pub(crate) version: Version,
    /// Most connections in the making at a time.
    pub(crate) connecting_max: usize,
    /// Size of the largest packet to come.
    pub(crate) packet_bytes_max: usize,
    /// Number of the first client of this thread, for names.
    pub(crate) first: usize,
    /// What lies below MQTT.
    pub(crate) below: Below,
}

impl Dialing {
    /// Client identifier of `role`: the same whenever it comes back.
    fn client_id(&self, role: Role) -> String {
        let process = std::process::id();
        match role {
            Role::Publisher(index) => format!("perf-{process}-p{}", self.first + index),
            Role::Subscriber(index) | Role::Sleeper(index) => {
                format!("perf-{process}-s{}", self.first + index)
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dialing,
    AwaitsConnack,
    AwaitsSuback,
    Ready,
}

#[derive(Debug)]
struct Client {
    link: Link,
    stage: Stage,
    role: Role,
    session: Session,
    qos: Qos,
    filters: Vec<String>,
    /// SUBACKs that have to come.
    subacks: usize,
    started_ns: u64,
    dirty: bool,
}

/// See the module.
pub(crate) struct Fleet {
    poll: Poll,
    events: Events,
    clock: Clock,
    clients: Vec<Client>,
    publisher_clients: Vec<usize>,
    dirty: Vec<usize>,
    buffer: Vec<u8>,
    dialing: Dialing,
    ready: usize,
    asleep: bool,
    /// Time in ns from the start of a connection to its SUBACK (or CONNACK without filter).
    pub(crate) connect_ns: Histogram<u64>,
}

impl Fleet {
    /// A fleet without clients.
    pub(crate) fn new(dialing: Dialing, clock: Clock) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().context("opening epoll")?,
            events: Events::with_capacity(1024),
            clock,
            clients: Vec::new(),
            publisher_clients: Vec::new(),
            dirty: Vec::new(),
            buffer: vec![0; READ_BYTES.max(dialing.packet_bytes_max * 4)],
            dialing,
            ready: 0,
            asleep: false,
            connect_ns: Histogram::new_with_max(2 * CONNECT_MAX_NS, 3)?,
        })
    }

    /// Connects and subscribes all clients of `plans`, a bounded number at a time. `heed` is called
    /// each turn with the number of clients that are ready.
    pub(crate) fn connect(
        &mut self,
        plans: impl Iterator<Item = Plan>,
        traffic: &mut Traffic,
        mut heed: impl FnMut(usize) -> Result<()>,
    ) -> Result<()> {
        let mut plans = plans.fuse();
        let mut dialed_all = false;
        while !dialed_all || self.ready < self.clients.len() {
            while self.clients.len() - self.ready < self.dialing.connecting_max {
                let Some(plan) = plans.next() else {
                    dialed_all = true;
                    break;
                };
                self.dial(plan)?;
            }
            self.turn(traffic, Duration::from_millis(100))?;
            heed(self.ready)?;
            let now_ns = self.clock.now_ns();
            // Clients get ready about in their order, so the first one that is not is the oldest.
            let first = self.ready.saturating_sub(self.dialing.connecting_max);
            let waiting = self.clients.iter().skip(first).find(|c| c.stage != Stage::Ready);
            if let Some(client) = waiting {
                let waited = now_ns.saturating_sub(client.started_ns);
                ensure!(waited < CONNECT_MAX_NS, "a client waits in stage {:?}", client.stage);
            }
        }
        Ok(())
    }

    fn dial(&mut self, plan: Plan) -> Result<()> {
        let index = self.clients.len();
        let started_ns = self.clock.now_ns();
        let Dialing { target, below, first, .. } = &self.dialing;
        let source = source_address(*target, first + index);
        let seed = u64::try_from(first + index).unwrap_or(0) << 32 | 0x9e37_79b9;
        let mut link = Link::connect(*target, source, below, seed)
            .with_context(|| format!("client {index}"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut link.stream, Token(index), interest)?;
        if let Role::Publisher(publisher) = plan.role {
            assert_eq!(publisher, self.publisher_clients.len(), "publishers connect in order");
            self.publisher_clients.push(index);
        }
        let Plan { role, filters, qos, session } = plan;
        let stage = Stage::Dialing;
        let dirty = false;
        let client =
            Client { link, stage, role, session, qos, filters, subacks: 0, started_ns, dirty };
        self.clients.push(client);
        Ok(())
    }

    /// When the connection of client `index` was begun.
    pub(crate) fn started_ns(&self, index: usize) -> u64 {
        self.clients.get(index).map_or(0, |client| client.started_ns)
    }

    /// Sleepers do not read from now on.
    pub(crate) fn fall_asleep(&mut self) {
        self.asleep = true;
    }

    /// Sleepers read what has come, and go on reading.
    pub(crate) fn wake_up(&mut self, traffic: &mut Traffic) -> Result<()> {
        self.asleep = false;
        for index in 0..self.clients.len() {
            if let Some(client) = self.clients.get_mut(index)
                && matches!(client.role, Role::Sleeper(_))
            {
                // Their events came while they slept. epoll(7), edge-triggered
                self.read_all(index, true, traffic).with_context(|| format!("client {index}"))?;
            }
        }
        Ok(())
    }

    /// Serves the sockets once; waits at most `wait` for the first event.
    pub(crate) fn turn(&mut self, traffic: &mut Traffic, wait: Duration) -> Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        if let Err(error) = self.poll.poll(&mut events, Some(wait))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            return Err(error).context("waiting for events");
        }
        traffic.now_ns = self.clock.now_ns();
        for event in &events {
            let Token(index) = event.token();
            self.serve(index, event, traffic).with_context(|| format!("client {index}"))?;
        }
        self.events = events;
        traffic.advance_schedule();
        while let Some(publisher) = traffic.next_touched() {
            let Some(&index) = self.publisher_clients.get(publisher) else { continue };
            let Some(client) = self.clients.get_mut(index) else { continue };
            traffic.refill(publisher, &mut client.link.out);
            mark_dirty(client, index, &mut self.dirty);
        }
        for index in self.dirty.drain(..) {
            let Some(client) = self.clients.get_mut(index) else { continue };
            client.dirty = false;
            client.link.flush().with_context(|| format!("client {index}"))?;
        }
        Ok(())
    }

    fn serve(&mut self, index: usize, event: &mio::event::Event, t: &mut Traffic) -> Result<()> {
        let client = self.clients.get_mut(index).context("an event of nobody")?;
        if client.stage == Stage::Dialing {
            if let Some(error) = client.link.stream.take_error()? {
                return Err(error).context("connecting");
            }
            if !event.is_writable() {
                return Ok(());
            }
            client.stage = Stage::AwaitsConnack;
            let client_id = self.dialing.client_id(client.role);
            let version = self.dialing.version;
            handshake::append_connect(&client_id, version, client.session, &mut client.link.out);
        }
        let asleep = self.asleep && matches!(client.role, Role::Sleeper(_));
        if !asleep && (event.is_readable() || event.is_read_closed() || event.is_error()) {
            self.read_all(index, event.is_read_closed(), t)?;
        }
        if let Some(client) = self.clients.get_mut(index) {
            mark_dirty(client, index, &mut self.dirty);
        }
        Ok(())
    }

    /// Reads until the socket is empty; `to_end`: until it says so itself.
    fn read_all(&mut self, index: usize, to_end: bool, t: &mut Traffic) -> Result<()> {
        let client = self.clients.get_mut(index).context("nobody reads")?;
        loop {
            match client.link.read(&mut self.buffer)? {
                Arrived::Nothing => return Ok(()),
                Arrived::Closed => bail!("the broker closed the connection"),
                Arrived::Bytes { total, more } => {
                    if t.is_timed() {
                        // Messages may have come after the turn began.
                        t.now_ns = self.clock.now_ns();
                    }
                    let bytes = self.buffer.get(..total).unwrap_or_default();
                    let (used, ready) = client.take(bytes, self.dialing.version, t)?;
                    client.link.carry_over(bytes.get(used..).unwrap_or_default());
                    if ready {
                        self.ready += 1;
                        let took_ns = self.clock.now_ns() - client.started_ns;
                        self.connect_ns.saturating_record(took_ns);
                    }
                    if !more && !to_end {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Sends what `write` appends to the output of the first publisher.
    pub(crate) fn send_beside(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if let Some(&index) = self.publisher_clients.first()
            && let Some(client) = self.clients.get_mut(index)
        {
            write(&mut client.link.out);
            mark_dirty(client, index, &mut self.dirty);
        }
    }

    /// Has all output been taken by the kernel.
    pub(crate) fn is_flushed(&self) -> bool {
        self.clients.iter().all(|client| !client.link.wants_write())
    }

    /// Says goodbye for all clients and closes their connections.
    pub(crate) fn disconnect(mut self) {
        for client in &mut self.clients {
            handshake::append_disconnect(self.dialing.version, &mut client.link.out);
            // The connection ends in any case; a broker that is gone is noticed by the caller.
            client.link.flush().ok();
        }
    }
}

impl Client {
    /// Reads what came; returns the bytes used and whether the client has become ready.
    fn take(&mut self, bytes: &[u8], version: Version, t: &mut Traffic) -> Result<(usize, bool)> {
        let mut used = 0;
        let mut became_ready = false;
        while self.stage != Stage::Ready {
            let part = bytes.get(used..).unwrap_or_default();
            let Some(frame) = Frame::split(part).map_err(malformed)? else {
                return Ok((used, became_ready));
            };
            self.shake_hands(part, frame, version, t)?;
            became_ready = self.stage == Stage::Ready;
            used = bytes.len() - frame.rest.len();
        }
        let part = bytes.get(used..).unwrap_or_default();
        let out = &mut self.link.out;
        let result = match self.role {
            Role::Publisher(index) => t.at_publisher(index, part, out),
            Role::Subscriber(index) | Role::Sleeper(index) => t.at_subscriber(index, part, out),
        };
        match result {
            Ok(count) => Ok((used + count, became_ready)),
            Err(error) => Err(farewell(part).unwrap_or_else(|| malformed(error))),
        }
    }

    fn shake_hands(
        &mut self,
        bytes: &[u8],
        frame: Frame<'_>,
        version: Version,
        traffic: &mut Traffic,
    ) -> Result<()> {
        if self.stage == Stage::AwaitsSuback {
            handshake::accept_suback(bytes, frame, self.qos, version)?;
            self.subacks -= 1;
            if self.subacks == 0 {
                self.stage = Stage::Ready;
                self.link.shrink();
            }
            return Ok(());
        }
        let resumed = self.session == Session::Resumed;
        let receive_maximum = handshake::accept_connack(bytes, frame, resumed, version)?;
        if let Role::Publisher(index) = self.role
            && let Some(publisher) = traffic.publishers.get_mut(index)
        {
            publisher.limit_window(receive_maximum);
        }
        // The filters are not needed afterwards, and there may be a million.
        let filters = std::mem::take(&mut self.filters);
        let out = &mut self.link.out;
        self.subacks = handshake::append_subscribes(&filters, self.qos, version, out);
        self.stage = if self.subacks > 0 { Stage::AwaitsSuback } else { Stage::Ready };
        Ok(())
    }
}

fn mark_dirty(client: &mut Client, index: usize, dirty: &mut Vec<usize>) {
    if !client.dirty && client.link.wants_write() {
        client.dirty = true;
        dirty.push(index);
    }
}

fn malformed(_: Malformed) -> anyhow::Error {
    anyhow!("the broker sent a packet that cannot be read or is not expected")
}

/// A broker of MQTT 5.0 says why it ends a connection.
fn farewell(bytes: &[u8]) -> Option<anyhow::Error> {
    let mut rest = bytes;
    while let Ok(Some(frame)) = Frame::split(rest) {
        if frame.kind() == kind::DISCONNECT {
            return Some(anyhow!("the broker sent DISCONNECT, reason {:?}", frame.body.first()));
        }
        rest = frame.rest;
    }
    None
}

/// One of many loopback addresses, another for each process, or none if the broker is elsewhere.
pub(crate) fn source_address(target: SocketAddr, index: usize) -> Option<SocketAddr> {
    if target.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return None;
    }
    let [.., high, low] = std::process::id().to_be_bytes();
    let block = u8::try_from(index / CLIENTS_PER_SOURCE % 100).ok()? + 1;
    Some(SocketAddr::from((Ipv4Addr::new(127, block, high, low.max(1)), 0)))
}
