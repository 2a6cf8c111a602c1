//! One core's share of the broker: its clients, its subscriptions, its part of the retained store.
//!
//! Promise: pure. Everything that happens comes in through [`Shard::handle`], [`Shard::on_mail`],
//! [`Shard::on_durable`] and [`Shard::tick`], with the time as argument; everything that has to be
//! done comes out as [`Effect`]s and as output of connections. Two runs with the same calls give
//! the same results.
//!
//! ```text
//!  handle(Publish) ─▶ publish ─▶ fanout ─┬─▶ retained (owner shard)
//!                                        ├─▶ deliver ─▶ sessions here
//!                                        └─▶ Mail::Bundle ─▶ other shards ─▶ Mail::Settled ─▶ ack
//! ```

mod bodies;
mod bundle;
mod census;
mod certificates;
mod cleaner;
mod clients;
mod connect;
mod effects;
mod end;
mod exchange;
mod fanout;
mod home;
mod journal;
mod limits;
mod login;
mod login_rules;
mod mail;
mod offers;
mod peer;
mod publish;
mod restore;
mod retained;
mod revive;
mod rights;
mod room;
mod routes;
mod settings;
mod shares;
mod slots;
mod subscribe;
mod sys;
mod takeovers;
mod trail;
mod users;

pub use bodies::{LastRead, Purpose};
pub use bundle::Bundle;
pub use census::Census;
pub use certificates::Certified;
pub use cleaner::{CleanedLog, Cleaner, Pace};
pub use effects::{Effect, Flow};
pub use home::Home;
pub use login_rules::{ListenerRules, LoginRules};
pub use mail::{Interest, Mail, Ticket, Waiter};
pub use peer::{Certificate, Peer};
pub use settings::{Place, SHARDS_MAX, Settings};
pub use slots::Key;
pub use sys::{Network, Report};
pub use trail::CONNECTIONS;

use crate::access::Access;
use crate::auth::limiter::{Limiter, Limits};
use crate::auth::{Outcome, Suspect};
use crate::codec::{Connect, DecodeError, Packet, Reason, Version};
use crate::session::{Counters, Settlement};
use crate::store::Source;
use crate::topic::Subscriptions;
use clients::{Clients, Phase};
use effects::Effects;
use exchange::Exchanges;
use home::ClientIds;
use journal::{Held, Journal};
use retained::Retained;
use routes::Routes;
use shards::{ConnId, Millis, Outgoing, Wheel};
use shares::Hop;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Everything that a connection can bring.
#[derive(Debug)]
pub enum Input<'a> {
    /// A socket is here and has to send CONNECT before the deadline.
    Opened {
        /// The connection.
        conn: ConnId,
        /// End of patience, counted from accept.
        deadline: Millis,
    },
    /// CONNECT arrived, at the home shard of its client id.
    Connect {
        /// The connection.
        conn: ConnId,
        /// Where it comes from.
        peer: &'a Peer,
        /// The packet.
        connect: Connect<'a>,
    },
    /// What [`Effect::Authenticate`] asked for.
    Authenticated {
        /// The connection; it may be gone.
        conn: ConnId,
        /// What a failure counts against.
        suspect: Suspect,
        /// What was found.
        outcome: Outcome,
    },
    /// Any later packet.
    Packet {
        /// The connection.
        conn: ConnId,
        /// The packet.
        packet: Packet<'a>,
    },
    /// Bytes that are no packet.
    Malformed {
        /// The connection.
        conn: ConnId,
        /// What is wrong.
        error: DecodeError,
    },
    /// The transport is gone.
    Closed {
        /// The connection.
        conn: ConnId,
    },
    /// All output that was taken has left.
    Drained {
        /// The connection.
        conn: ConnId,
    },
}

/// What the timing wheel remembers. Entries are never cancelled: who is called looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    ConnectDeadline(ConnId),
    /// A login that waits because others failed.
    Login(ConnId),
    /// A login that ends.
    LoginEnd(ConnId),
    KeepAlive(ConnId),
    /// Session, its epoch, and when the will is due.
    Will(Key, u32, Millis),
    /// Session, its epoch, and when it ends.
    SessionExpiry(Key, u32, Millis),
    Sys,
    /// A look at certificates.
    Certificates,
    /// Time of day for the log.
    Clock,
    /// Messages that wait for room in a queue.
    Room,
}

/// One core's share of the broker.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a state of its own")]
pub struct Shard {
    settings: Rc<Settings>,
    place: Place,
    home: Home,
    client_ids: ClientIds,
    access: Arc<Access>,
    /// Rules of the broker or of a token say who may have what: deliveries are decided on.
    guarded: bool,
    /// A client came with rules of its own.
    claimed: bool,
    /// Memory is above its limit.
    pressed: bool,
    disk_full: bool,
    /// Rises whenever rights may have changed.
    access_epoch: u32,
    login_rules: LoginRules,
    offers: offers::Offers,
    limiter: Limiter,
    login_lines: login::Lines,
    trail: trail::Trail,
    /// Time of the input that is handled.
    now: Millis,
    takeovers: takeovers::TakeOvers,
    elsewhere: users::Elsewhere,
    /// CONNECT packets so far.
    serial: u64,
    clients: Clients,
    subscriptions: Subscriptions,
    routes: Routes,
    retained: Retained,
    subacks: subscribe::Subacks,
    timers: Wheel<Timer>,
    expired: Vec<Timer>,
    effects: Effects,
    held: VecDeque<(u64, Held)>,
    bodies: bodies::Bodies,
    starved: Vec<Key>,
    revived: revive::Revived,
    journal: Journal,
    exchanges: Exchanges,
    held_back: room::HeldBack,
    start: restore::Start,
    sys: sys::Sys,
    /// The next look at certificates.
    certificates_due: Option<Millis>,
    stopping: bool,
    writer: Option<publish::Writer>,
    /// Buffer for property bytes that are passed on.
    scratch: Vec<u8>,
    /// Buffer for the identifiers of overlapping subscriptions.
    identifiers: Vec<u32>,
}

/// Names of the drop causes in `$SYS`, in the order of [`DropCause`](crate::session::DropCause).
const DROP_NAMES: [&str; 11] = [
    "queue_full",
    "output_full",
    "expired",
    "too_large",
    "session_ended",
    "denied",
    "retained_full",
    "no_member",
    "memory_full",
    "disk_full",
    "refused",
];

/// Acknowledgements and other answers that may wait in one connection's output.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// Resolution of all protocol timers.
const TIMER_TICK_MS: u64 = 50;
/// Longer waits look again after this time, so that a timer that has become void is soon gone.
const TIMER_SPAN_MS_MAX: u64 = 60_000;

impl Shard {
    /// An empty shard.
    ///
    /// # Panics
    /// If the place is not within [`SHARDS_MAX`].
    pub fn new(settings: Settings, place: Place, now: Millis) -> Self {
        assert!(place.shards <= SHARDS_MAX && place.shard < place.shards);
        let mut shard = Shard {
            home: Home::new(settings.hash_key, place.shards),
            client_ids: ClientIds::new(settings.id_seed, place.shard),
            access: Arc::default(),
            guarded: false,
            claimed: false,
            pressed: false,
            disk_full: false,
            access_epoch: 0,
            login_rules: LoginRules::default(),
            offers: offers::Offers::default(),
            limiter: Limiter::new(Limits::default(), settings.hash_key),
            login_lines: login::Lines::default(),
            trail: trail::Trail::default(),
            now,
            takeovers: takeovers::TakeOvers::new(settings.hash_key),
            elsewhere: users::Elsewhere::default(),
            serial: 0,
            clients: Clients::new(settings.queue, settings.output_bytes_max),
            subscriptions: Subscriptions::default(),
            routes: Routes::default(),
            retained: Retained::new(&settings, place.shards),
            subacks: subscribe::Subacks::default(),
            timers: Wheel::new(now, TIMER_TICK_MS),
            expired: Vec::new(),
            effects: Effects::default(),
            held: VecDeque::new(),
            bodies: bodies::Bodies::default(),
            starved: Vec::new(),
            revived: revive::Revived::default(),
            journal: Journal::default(),
            exchanges: Exchanges::new(place.shards),
            held_back: room::HeldBack::default(),
            start: restore::Start::default(),
            sys: sys::Sys::new(now),
            certificates_due: None,
            stopping: false,
            writer: None,
            scratch: Vec::new(),
            identifiers: Vec::new(),
            settings: Rc::new(settings),
            place,
        };
        shard.tell_users();
        shard.start_sys(now);
        shard.watch_certificates(now);
        shard.start_clock(now);
        shard
    }

    /// Takes what a connection brings.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) {
        match input {
            Input::Opened { conn, deadline } => {
                self.clients.open(conn, deadline, now);
                self.timers.insert(deadline, Timer::ConnectDeadline(conn));
            }
            Input::Connect { conn, peer, connect } => self.connect(conn, peer, &connect, now),
            Input::Authenticated { conn, suspect, outcome } => {
                self.authenticated(conn, suspect, outcome, now);
            }
            Input::Packet { conn, packet } => self.packet(conn, packet, now),
            Input::Malformed { conn, error } => self.malformed(conn, &error, now),
            Input::Closed { conn } => self.closed(conn, now),
            Input::Drained { conn } => self.drained(conn, now),
        }
    }

    fn packet(&mut self, conn: ConnId, packet: Packet<'_>, now: Millis) {
        self.clients.counters.packets_received += 1;
        self.now = now;
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        connection.last_packet = now;
        let key = match connection.phase {
            Phase::Connected(key) => key,
            // [MQTT-3.1.0-1] The first packet is CONNECT; the edge has not seen one.
            Phase::Opened => return self.refuse(conn, Reason::ProtocolError),
            Phase::Authenticating => return self.early(conn, &packet, now),
            // [MQTT-3.1.4-6] Nothing is processed after the end was decided.
            Phase::Closing => return,
        };
        let mounted = connection.link.mount().is_some();
        if !self.within_user_properties(packet.properties()) {
            return self.end_connection(conn, Reason::QuotaExceeded, now);
        }
        if mounted {
            self.mounted(conn, key, packet, now);
        } else {
            self.served(conn, key, packet, now);
        }
    }

    /// A packet of a client with a session; topics have their whole names.
    fn served(&mut self, conn: ConnId, key: Key, packet: Packet<'_>, now: Millis) {
        match packet {
            Packet::Publish(publish) => self.publish(conn, key, &publish, now),
            Packet::Puback(ack) => self.puback(key, &ack, now),
            Packet::Pubrec(ack) => self.pubrec(conn, key, &ack, now),
            Packet::Pubrel(ack) => self.pubrel(conn, key, &ack),
            Packet::Pubcomp(ack) => self.pubcomp(key, &ack, now),
            Packet::Subscribe(subscribe) => self.subscribe(conn, key, &subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(conn, key, &unsubscribe, now),
            // [MQTT-3.12.4-1]
            Packet::Pingreq => {
                self.clients.packet(conn, &Packet::Pingresp);
            }
            Packet::Disconnect(disconnect) => self.disconnect(conn, key, &disconnect, now),
            Packet::Auth(auth) => self.auth(conn, &auth, now),
            // [MQTT-3.1.0-2] second CONNECT; the rest are packets that only a server sends.
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingresp => self.end_connection(conn, Reason::ProtocolError, now),
        }
    }

    fn malformed(&mut self, conn: ConnId, error: &DecodeError, now: Millis) {
        match self.clients.connection(conn).map(|connection| connection.phase) {
            Some(Phase::Connected(_)) => self.end_connection(conn, error.reason(), now),
            Some(Phase::Opened | Phase::Authenticating) => {
                if let DecodeError::UnsupportedVersion { level: 6.. } = error
                    && let Some(connection) = self.clients.connection_mut(conn)
                {
                    // A client of a later version understands 5.0's answer best. [MQTT-3.1.2-2]
                    connection.link.version = Version::V5;
                }
                self.refuse(conn, error.reason());
            }
            Some(Phase::Closing) | None => {}
        }
    }

    fn drained(&mut self, conn: ConnId, now: Millis) {
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        connection.link.unsent_bytes = 0;
        let waits = !connection.link.output.is_empty();
        if let Some(key) = self.clients.session_of(conn) {
            self.progress(key, now);
        }
        if waits {
            self.clients.mark(conn);
        }
    }

    /// A session got room in its window or output: more may leave.
    fn progress(&mut self, key: Key, now: Millis) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        if !session.outbound.has_waiting()
            && !session.outbound.watches_identifiers()
            && session.queries.is_empty()
            && session.access_epoch == self.access_epoch
            && !self.clients.has_ended()
        {
            return;
        }
        self.revoke_waiting(key);
        self.clients.pump(key, now);
        self.fetch_wanted();
        self.record_ended();
        self.mark_ended(key, now);
        if self.clients.sessions.get(key).is_some_and(|session| !session.queries.is_empty()) {
            self.drive_queries(key, now);
        }
        self.end_stopped(key, now);
    }

    /// What has ended is recorded: when that is durable, its packet identifiers are free.
    fn mark_ended(&mut self, key: Key, now: Millis) {
        let lsn = self.effects.lsn;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        if !session.outbound.mark_ended(lsn) {
            return;
        }
        if lsn > self.clients.durable {
            self.hold(lsn, Held::Pump(key));
        } else {
            self.clients.pump(key, now);
        }
    }

    /// Takes a letter of another shard.
    pub fn on_mail(&mut self, from: usize, mail: Mail, now: Millis) {
        match mail {
            Mail::Bundle(bundle) => {
                for (message, ticket) in bundle.unpack() {
                    self.on_forward(&message, ticket, now);
                }
            }
            Mail::Forward { message, ticket } => {
                self.on_forward(&message.publication(), ticket, now);
            }
            Mail::ForwardShared { filter, message, ticket, last_hop, tried } => {
                let hop = Hop { last: last_hop, tried };
                self.on_forward_shared(&filter, &message, ticket, hop, now);
            }
            Mail::Exchange { exchange, part, tried, message, refusable } => {
                self.on_exchange((from, exchange), (&part, tried), &message, refusable, now);
            }
            Mail::Applied { exchange, refused } => self.on_applied(from, exchange, refused, now),
            Mail::Settled { ticket, settlement } => self.on_settled(ticket, settlement, now),
            Mail::HeldBack { ticket } => self.on_held_back(ticket),
            Mail::Interest { filter, change } => self.on_interest(from, &filter, change),
            Mail::Members { filter, online, total, ticket } => {
                self.routes.set_members(&filter, from, online, total);
                self.settle(ticket, true);
            }
            Mail::Retain { message, ticket } => {
                let lsn_before = self.effects.lsn;
                self.store_retained(&message);
                self.commit(&message.publication(), Source::Plain, None);
                self.confirm_retained(from, lsn_before, ticket);
            }
            Mail::RetainStored { ticket } => self.on_retain_stored(from, ticket, now),
            Mail::RetainedQuery { query, filter, after } => {
                self.answer_query(from, query, &filter, after.as_deref(), now);
            }
            Mail::RetainedBatch { query, messages, next } => {
                self.on_batch(query, &messages, next, now);
            }
            Mail::Restored { knows_all } => self.on_restored(from, knows_all, now),
            Mail::UserSessions { user, sessions } => self.on_user_sessions(from, &user, sessions),
            Mail::UsersForgotten => self.on_users_forgotten(from),
            Mail::Report(report) => self.on_report(from, *report),
        }
    }

    fn on_settled(&mut self, ticket: Ticket, settlement: Settlement, now: Millis) {
        match ticket.waiter {
            Waiter::Ack { session, key } => {
                if settlement == Settlement::Refused {
                    self.refused_elsewhere(session, key, ticket.patient, now);
                }
                let inbound =
                    self.clients.sessions.get_mut(session).and_then(|s| s.inbound.as_deref_mut());
                if let Some(inbound) = inbound {
                    inbound.settle(key, settlement);
                    self.release_acks(session);
                }
            }
            Waiter::Suback { number } => self.suback_settled(number, now),
        }
    }

    /// Answers a ticket, at once: everything it asked for holds in memory. What also has to be
    /// durable goes through `hold`.
    fn settle(&mut self, ticket: Option<Ticket>, matched: bool) {
        self.settle_as(ticket, Settlement::of(matched));
    }

    fn settle_as(&mut self, ticket: Option<Ticket>, settlement: Settlement) {
        let Some(ticket) = ticket else { return };
        self.effects.mail(usize::from(ticket.origin), Mail::Settled { ticket, settlement });
    }

    /// Fires what is due.
    pub fn tick(&mut self, now: Millis) {
        let mut due = std::mem::take(&mut self.expired);
        self.timers.expire(now, &mut due);
        for timer in due.drain(..) {
            match timer {
                Timer::ConnectDeadline(conn) => self.connect_deadline(conn, now),
                Timer::Login(conn) => self.login_due(conn),
                Timer::LoginEnd(conn) => self.login_over(conn, now),
                Timer::KeepAlive(conn) => self.keep_alive(conn, now),
                Timer::Will(key, epoch, due) => self.will_due(key, epoch, due, now),
                Timer::SessionExpiry(key, epoch, due) => self.session_due(key, epoch, due, now),
                Timer::Sys => self.sys_due(now),
                Timer::Certificates => self.certificates_due(now),
                Timer::Clock => self.clock_due(now),
                Timer::Room => self.room_due(now),
            }
        }
        self.expired = due;
    }

    /// When [`Shard::tick`] wants to be called next. May be early, never late.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.next_deadline()
    }

    /// Wants a timer at `due`, or at an earlier time to look again.
    fn wait(&mut self, due: Millis, timer: Timer, now: Millis) {
        self.timers.insert(due.min(now.after(TIMER_SPAN_MS_MAX)), timer);
    }

    /// Says good-bye to every client; nothing new is accepted from now on.
    ///
    /// Sessions stay as they are and wills are not published (MQTT 5.0 §3.1.2.5 allows to defer
    /// them to the next start).
    pub fn stop(&mut self) {
        self.stopping = true;
        for conn in self.clients.connection_ids() {
            self.say_goodbye(conn, Reason::ServerShuttingDown);
            // [MQTT-3.14.4-1] Nothing follows DISCONNECT.
            self.clients.detach(conn);
        }
    }

    /// The shard on which a client with this identifier lives.
    pub fn home_of(&self, client_id: &str) -> usize {
        self.home.of(client_id)
    }

    /// Version that packets of this connection are decoded with.
    pub fn version_of(&self, conn: ConnId) -> Version {
        self.clients.connection(conn).map_or(Version::V311, |connection| connection.link.version)
    }

    /// Moves all effects to `into`, in order.
    pub fn take_effects(&mut self, into: &mut Vec<Effect>) {
        self.effects.take(into);
    }

    /// Moves the connections whose output grew to `into`.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        self.clients.take_dirty(into);
    }

    /// Takes the output of a connection for one send. `None` if there is nothing to send, or
    /// nothing that may be sent yet. When the send is over the driver says [`Input::Drained`].
    pub fn take_output(&mut self, conn: ConnId) -> Option<Outgoing> {
        let durable = self.clients.durable;
        let connection = self.clients.connection_mut(conn)?;
        if connection.link.output.is_empty() || connection.held_until > durable {
            return None;
        }
        connection.link.unsent_bytes = connection.link.output.total_bytes();
        let (bytes, shared) = connection.link.output.take();
        Some(Outgoing { bytes, shared })
    }

    /// Takes back the buffer of a finished send.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.clients.recycle(buffer);
    }

    /// Output of this connection waits, now or for a log position.
    pub fn has_output(&self, conn: ConnId) -> bool {
        self.clients.connection(conn).is_some_and(|connection| !connection.link.output.is_empty())
    }

    /// So many answers wait for this client to read them that its own packets have to wait too.
    pub fn is_choked(&self, conn: ConnId) -> bool {
        let link = self.clients.connection(conn).map(|connection| &connection.link);
        link.is_some_and(|link| link.output.control_bytes() >= ANSWER_BYTES_MAX)
    }

    /// What this shard counted since its start.
    pub fn counters(&self) -> &Counters {
        &self.clients.counters
    }
}
