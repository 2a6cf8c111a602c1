//! The clients of a run and the event loop that serves them, all on one thread.
//!
//! ```text
//! turn: poll ─▶ read every ready socket ─▶ traffic checks, acks ─▶ refill publishers ─▶ flush
//! ```
//! Acknowledgements and messages gather in the connection's buffer and leave in one write per turn.

use crate::clock::{Clock, SECOND_NS};
use crate::handshake;
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
}

/// A client to be connected.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its role.
    pub(crate) role: Role,
    /// Its filter, if it subscribes.
    pub(crate) filter: Option<String>,
}

/// How all clients connect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialing {
    /// Address of the broker.
    pub(crate) target: SocketAddr,
    /// Protocol version.
    pub(crate) version: Version,
    /// Sessions outlive their connections.
    pub(crate) durable: bool,
    /// QoS of subscriptions.
    pub(crate) qos: Qos,
    /// Most connections in the making at a time.
    pub(crate) connecting_max: usize,
    /// Size of the largest packet to come.
    pub(crate) packet_bytes_max: usize,
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
    filter: Option<String>,
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
            connect_ns: Histogram::new_with_max(2 * CONNECT_MAX_NS, 3)?,
        })
    }

    /// How the clients connect.
    pub(crate) fn dialing(&self) -> Dialing {
        self.dialing
    }

    /// Connects and subscribes all clients of `plans`, a bounded number at a time.
    pub(crate) fn connect(&mut self, plans: Vec<Plan>, traffic: &mut Traffic) -> Result<()> {
        let total = self.clients.len() + plans.len();
        let mut plans = plans.into_iter();
        while self.ready < total {
            while self.clients.len() - self.ready < self.dialing.connecting_max {
                let Some(plan) = plans.next() else { break };
                self.dial(plan)?;
            }
            self.turn(traffic, Duration::from_millis(100))?;
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
        let source = source_address(self.dialing.target, index);
        let mut link = Link::connect(self.dialing.target, source)
            .with_context(|| format!("client {index}"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut link.stream, Token(index), interest)?;
        if let Role::Publisher(publisher) = plan.role {
            assert_eq!(publisher, self.publisher_clients.len(), "publishers connect in order");
            self.publisher_clients.push(index);
        }
        let Plan { role, filter } = plan;
        let stage = Stage::Dialing;
        self.clients.push(Client { link, stage, role, filter, started_ns, dirty: false });
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
            let client_id = format!("perf-{}-{index}", std::process::id());
            let Dialing { version, durable, .. } = self.dialing;
            handshake::append_connect(&client_id, version, durable, &mut client.link.out);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            loop {
                let more = match client.link.read(&mut self.buffer)? {
                    Arrived::Nothing => break,
                    Arrived::Closed => bail!("the broker closed the connection"),
                    Arrived::Bytes { total, more } => {
                        if t.latency.is_some() {
                            // Messages may have come after the turn began.
                            t.now_ns = self.clock.now_ns();
                        }
                        let bytes = self.buffer.get(..total).unwrap_or_default();
                        let (used, ready) = client.take(bytes, &self.dialing, t)?;
                        client.link.carry_over(bytes.get(used..).unwrap_or_default());
                        if ready {
                            self.ready += 1;
                            let took_ns = self.clock.now_ns() - client.started_ns;
                            self.connect_ns.saturating_record(took_ns);
                        }
                        more || event.is_read_closed()
                    }
                };
                if !more {
                    break;
                }
            }
        }
        mark_dirty(client, index, &mut self.dirty);
        Ok(())
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
    fn take(&mut self, bytes: &[u8], dialing: &Dialing, t: &mut Traffic) -> Result<(usize, bool)> {
        let mut used = 0;
        let mut became_ready = false;
        while self.stage != Stage::Ready {
            let part = bytes.get(used..).unwrap_or_default();
            let Some(frame) = Frame::split(part).map_err(malformed)? else {
                return Ok((used, became_ready));
            };
            self.shake_hands(part, frame, dialing, t)?;
            became_ready = self.stage == Stage::Ready;
            used = bytes.len() - frame.rest.len();
        }
        let part = bytes.get(used..).unwrap_or_default();
        let out = &mut self.link.out;
        let result = match self.role {
            Role::Publisher(index) => t.at_publisher(index, part, out),
            Role::Subscriber(index) => t.at_subscriber(index, part, out),
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
        dialing: &Dialing,
        traffic: &mut Traffic,
    ) -> Result<()> {
        if self.stage == Stage::AwaitsSuback {
            handshake::accept_suback(bytes, frame, dialing.qos, dialing.version)?;
            self.stage = Stage::Ready;
            self.link.shrink();
            return Ok(());
        }
        let receive_maximum = handshake::accept_connack(bytes, frame, dialing.version)?;
        if let Role::Publisher(index) = self.role
            && let Some(publisher) = traffic.publishers.get_mut(index)
        {
            publisher.limit_window(receive_maximum);
        }
        // The filter is not needed afterwards, and there are thousands of clients.
        self.stage = match self.filter.take() {
            Some(filter) => {
                let out = &mut self.link.out;
                handshake::append_subscribe(&filter, dialing.qos, dialing.version, out);
                Stage::AwaitsSuback
            }
            None => Stage::Ready,
        };
        Ok(())
    }
}

fn mark_dirty(client: &mut Client, index: usize, dirty: &mut Vec<usize>) {
    if !client.dirty && !client.link.out.is_empty() {
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
fn source_address(target: SocketAddr, index: usize) -> Option<SocketAddr> {
    if target.ip() != IpAddr::V4(Ipv4Addr::LOCALHOST) {
        return None;
    }
    let [.., high, low] = std::process::id().to_be_bytes();
    let block = u8::try_from(index / CLIENTS_PER_SOURCE % 100).ok()? + 1;
    Some(SocketAddr::from((Ipv4Addr::new(127, block, high, low.max(1)), 0)))
}
