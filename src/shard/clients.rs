//! Sessions and connections of one shard, and the delivery of one message to one session.

use super::login::{Method, Pending};
use super::slots::{Key, Slots};
use crate::access::{Identity, Who};
use crate::codec::{AckKind, Packet, PacketId, Qos, Reason};
use crate::session::{
    AliasesIn, Author, ClientId, Counters, Delivered, Grant, Inbound, Keeping, Layouts, Limits,
    Link, Message, Outbound, Publication, Spares, Tools,
};
use crate::store::SessionNumber;
use crate::topic::FilterId;
use ahash::AHashMap;
use shards::{ConnId, Millis};
use std::sync::Arc;

/// A session, with or without connection. Who has expiry 0 lives as long as its connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: ClientId,
    /// Its number in the log, for life; `None` if it ends with its connection or nothing is
    /// recorded.
    pub(super) log: Option<SessionNumber>,
    pub(super) connection: Option<ConnId>,
    pub(super) expiry_s: u32,
    /// Changes whenever a connection comes or goes: timers of an earlier time are void.
    pub(super) epoch: u32,
    /// Hand-outs of retained messages; the first is under way.
    pub(super) queries: Vec<u64>,
    /// What it has subscribed to, in no particular order.
    pub(super) filters: Vec<FilterId>,
    pub(super) outbound: Outbound,
    /// Made by the first PUBLISH with `QoS` > 0.
    pub(super) inbound: Option<Box<Inbound>>,
    pub(super) will: Option<Box<Will>>,
    /// Who it acts for: the identity of its last connection.
    pub(super) identity: Identity,
    /// What waits for the client was allowed by the rules of this epoch.
    pub(super) access_epoch: u32,
    /// Order of its last CONNECT among all of the shard.
    pub(super) serial: u64,
    /// It is over, but for messages that go to other members of groups when they have been read
    /// from the log. It has no client any more.
    pub(super) ended: bool,
}

impl Session {
    /// Whom decisions about this session are about.
    pub(super) fn who(&self) -> Who<'_> {
        self.identity.who(self.client_id.as_str())
    }

    /// Whose right is asked again for what it published.
    pub(super) fn author(&self) -> Author {
        author_of(&self.identity)
    }
}

/// Whose right is asked again for what somebody published.
pub(super) fn author_of(identity: &Identity) -> Author {
    match (&identity.claims, &identity.user) {
        (Some(_), _) => Author::Vouched,
        (None, Some(user)) => Author::User(Arc::clone(user)),
        (None, None) => Author::Anonymous,
    }
}

/// A will that waits for the end of its connection.
#[derive(Debug)]
pub(super) struct Will {
    /// Message without expiry: its interval starts when it is published.
    pub(super) message: Arc<Message>,
    pub(super) expiry_s: Option<u32>,
    pub(super) delay_s: u32,
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for CONNECT.
    Opened,
    /// CONNECT came; whether it is true is being found out.
    Authenticating,
    /// CONNECT was accepted.
    Connected(Key),
    /// The end is decided; nothing more is read, the output still leaves.
    Closing,
}

/// One network connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) phase: Phase,
    pub(super) link: Link,
    /// In the list of connections whose output grew.
    dirty: bool,
    /// Reading was stopped because acknowledgements pile up.
    pub(super) paused: bool,
    /// The edge does not read it, for the sake of other shards or of a rate.
    pub(super) unread: bool,
    /// When CONNECT is due; `None` once the keep-alive has a timer of its own.
    pub(super) connect_deadline: Option<Millis>,
    /// 1.5 keep-alive periods; 0 = none.
    pub(super) silence_ms_max: u32,
    pub(super) last_packet: Millis,
    /// Output is held until this log position is durable.
    pub(super) held_until: u64,
    pub(super) aliases: Option<Box<AliasesIn>>,
    /// Who is at the other end, as far as that is known before CONNECT is accepted.
    pub(super) identity: Identity,
    /// A login that is not decided.
    pub(super) pending: Option<Box<Pending>>,
    /// Enhanced authentication, if the client asked for it.
    pub(super) method: Option<Box<Method>>,
    /// When its login ends, if it does.
    pub(super) login_ends: Option<Millis>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) sessions: Slots<Session>,
    pub(super) by_id: AHashMap<ClientId, Key>,
    /// Number of sessions of each user that has one here.
    by_user: AHashMap<Arc<str>, usize>,
    pub(super) counters: Counters,
    pub(super) layouts: Layouts,
    /// Records up to this log position are on stable storage.
    pub(super) durable: u64,
    /// Recorded deliveries that ended without an acknowledgement.
    ended: Vec<(Key, u64)>,
    /// Buffer for those of one session.
    ended_here: Vec<u64>,
    /// Sessions whose next message has to be fetched from the log.
    starved: Vec<Key>,
    connections: Vec<Option<Box<Connection>>>,
    connected: usize,
    dirty: Vec<ConnId>,
    /// Buffers of finished sends, emptied.
    spares: Spares,
    limits: Limits,
    output_bytes_max: usize,
}

impl Clients {
    /// For what is queued from now on, and for clients that connect from now on.
    pub(super) fn reconfigure(&mut self, limits: Limits, output_bytes_max: usize) {
        self.limits = limits;
        self.output_bytes_max = output_bytes_max;
    }

    pub(super) fn new(limits: Limits, output_bytes_max: usize) -> Self {
        Clients {
            sessions: Slots::default(),
            by_id: AHashMap::new(),
            by_user: AHashMap::new(),
            counters: Counters::default(),
            layouts: Layouts::default(),
            durable: 0,
            ended: Vec::new(),
            ended_here: Vec::new(),
            starved: Vec::new(),
            connections: Vec::new(),
            connected: 0,
            dirty: Vec::new(),
            spares: Spares::default(),
            limits,
            output_bytes_max,
        }
    }

    pub(super) fn open(&mut self, id: ConnId, connect_deadline: Millis, now: Millis) {
        if self.connections.len() <= id.index() {
            self.connections.resize_with(id.index() + 1, || None);
        }
        let connection = Box::new(Connection {
            id,
            phase: Phase::Opened,
            link: Link::new(self.output_bytes_max),
            dirty: false,
            paused: false,
            unread: false,
            connect_deadline: Some(connect_deadline),
            silence_ms_max: 0,
            last_packet: now,
            held_until: 0,
            aliases: None,
            identity: Identity::default(),
            pending: None,
            method: None,
            login_ends: None,
        });
        if let Some(entry) = self.connections.get_mut(id.index()) {
            *entry = Some(connection);
        }
    }

    /// Sessions of a user on this shard.
    pub(super) fn sessions_of(&self, user: &str) -> usize {
        self.by_user.get(user).copied().unwrap_or(0)
    }

    /// Users that have sessions here.
    pub(super) fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_user.keys()
    }

    /// A session begins to belong to a user.
    pub(super) fn count_user(&mut self, user: Option<&Arc<str>>) {
        if let Some(user) = user {
            *self.by_user.entry(Arc::clone(user)).or_default() += 1;
        }
    }

    /// A session no longer belongs to a user.
    pub(super) fn discount_user(&mut self, user: Option<&Arc<str>>) {
        let Some(user) = user else { return };
        if let Some(count) = self.by_user.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.by_user.remove(user);
            }
        }
    }

    /// The transport is gone.
    pub(super) fn remove(&mut self, id: ConnId) {
        if self.connection(id).is_some()
            && let Some(entry) = self.connections.get_mut(id.index())
        {
            *entry = None;
        }
    }

    pub(super) fn connection(&self, id: ConnId) -> Option<&Connection> {
        self.connections.get(id.index())?.as_deref().filter(|c| c.id == id)
    }

    pub(super) fn connection_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.get_mut(id.index())?.as_deref_mut().filter(|c| c.id == id)
    }

    /// Gives back what was kept for connections and sessions that have gone.
    pub(super) fn shrink(&mut self) {
        let used = self.connections.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.connections.truncate(used);
        self.connections.shrink_to_fit();
        self.by_id.shrink_to_fit();
        self.dirty.shrink_to_fit();
        self.spares = Spares::default();
    }

    /// Connections that are open, for a clean stop.
    pub(super) fn connection_ids(&self) -> Vec<ConnId> {
        self.connections.iter().flatten().map(|c| c.id).collect()
    }

    pub(super) fn session_of(&self, id: ConnId) -> Option<Key> {
        match self.connection(id)?.phase {
            Phase::Connected(key) => Some(key),
            Phase::Opened | Phase::Authenticating | Phase::Closing => None,
        }
    }

    pub(super) fn connected(&self) -> usize {
        self.connected
    }

    /// Ties a session and a connection together.
    pub(super) fn attach(&mut self, key: Key, id: ConnId) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.connection = Some(id);
            session.epoch = session.epoch.wrapping_add(1);
            session.outbound.resume();
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.phase = Phase::Connected(key);
            self.connected += 1;
        }
    }

    /// Parts them; the connection may still have output to send.
    pub(super) fn detach(&mut self, id: ConnId) -> Option<Key> {
        let connection = self.connection_mut(id)?;
        let phase = std::mem::replace(&mut connection.phase, Phase::Closing);
        connection.aliases = None;
        connection.link.aliases = None;
        connection.pending = None;
        connection.login_ends = None;
        let Phase::Connected(key) = phase else { return None };
        self.connected -= 1;
        let session = self.sessions.get_mut(key)?;
        session.connection = None;
        session.epoch = session.epoch.wrapping_add(1);
        if let Some(inbound) = &mut session.inbound {
            inbound.detach();
        }
        Some(key)
    }

    /// Hands one message to one session. Everything not delivered is counted here.
    pub(super) fn deliver(
        &mut self,
        session: u32,
        message: &Publication<'_>,
        (grant, once): (&Grant<'_>, bool),
        now: Millis,
    ) -> Delivered {
        let Some((key, session)) = self.sessions.at_mut(session) else { return Delivered::Queued };
        let connection = connection_of(&mut self.connections, session.connection);
        let mut tools = Tools {
            layouts: &mut self.layouts,
            now,
            counters: &mut self.counters,
            durable: self.durable,
            ended: &mut self.ended_here,
        };
        let limits = &self.limits;
        let terms = (grant, Keeping { logged: session.log.is_some(), once });
        let outcome = match connection {
            None => session.outbound.deliver(message, terms, None, limits, &mut tools),
            Some(connection) => {
                connection.link.output.prepare(&mut self.spares);
                let link = Some(&mut connection.link);
                let outcome = session.outbound.deliver(message, terms, link, limits, &mut tools);
                if outcome == Delivered::Sent {
                    connection.mark(&mut self.dirty);
                }
                outcome
            }
        };
        self.note_ended(key);
        if let Delivered::Dropped(cause) = outcome {
            self.counters.drop(cause);
        }
        outcome
    }

    /// A durable session would have to queue this message, and has no room for it.
    pub(super) fn is_full_for(&self, session: u32, qos: Qos, bytes: usize) -> bool {
        let Some(session) = self.sessions.at(session) else { return false };
        let link = session.connection.and_then(|id| self.connection(id)).map(|c| &c.link);
        let logged = session.log.is_some();
        session.expiry_s > 0 && !session.outbound.accepts((qos, bytes), logged, link, &self.limits)
    }

    /// A message for this session would leave at once.
    pub(super) fn is_ready(&self, session: u32, qos: Qos) -> bool {
        let Some(session) = self.sessions.at(session) else { return false };
        let link = session.connection.and_then(|id| self.connection(id)).map(|c| &c.link);
        link.is_some_and(|link| {
            let open = qos == Qos::AtMostOnce
                || !session.outbound.has_waiting() && session.outbound.window_open(link);
            open && link.has_room()
        })
    }

    /// The listener of this session's client shows it this topic; true if the client is away.
    pub(super) fn sees(&self, session: u32, topic: &str) -> bool {
        let Some(session) = self.sessions.at(session) else { return false };
        let link = session.connection.and_then(|id| self.connection(id)).map(|c| &c.link);
        link.and_then(Link::mount).is_none_or(|mount| mount.strip(topic).is_some())
    }

    /// The connected session can take a batch of that many bytes without dropping anything.
    pub(super) fn has_batch_room(&self, key: Key, bytes: usize) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let Some(id) = session.connection else { return false };
        let Some(link) = self.connection(id).map(|connection| &connection.link) else {
            return false;
        };
        let waiting = link.output.total_bytes() + link.unsent_bytes;
        // The last message of a batch may be of any size, so an empty output always has room.
        let output = waiting == 0 || waiting + bytes < link.output_bytes_max;
        output && !session.outbound.has_waiting() && session.outbound.window_open(link)
    }

    /// The connected session can take one more message without dropping it. One that leaves at once
    /// needs no room in the queue, however large it is.
    pub(super) fn can_take(&self, key: Key, qos: Qos, bytes: usize) -> bool {
        self.is_ready(key.index, qos)
            || qos != Qos::AtMostOnce && self.can_queue(key.index, bytes, true)
    }

    /// The session has a connection (or not, as asked) and room in its queue.
    pub(super) fn can_queue(&self, session: u32, bytes: usize, online: bool) -> bool {
        let Some(session) = self.sessions.at(session) else { return false };
        session.connection.is_some() == online
            && session.outbound.has_queue_room(bytes, &self.limits)
    }

    /// Sends what waits for this session, as far as it may.
    pub(super) fn pump(&mut self, key: Key, now: Millis) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(connection) = connection_of(&mut self.connections, session.connection) else {
            return;
        };
        if !session.outbound.has_waiting() {
            return;
        }
        connection.link.output.prepare(&mut self.spares);
        let mut tools = Tools {
            layouts: &mut self.layouts,
            now,
            counters: &mut self.counters,
            durable: self.durable,
            ended: &mut self.ended_here,
        };
        let starved = session.outbound.pump(&mut connection.link, &mut tools);
        if !connection.link.output.is_empty() {
            connection.mark(&mut self.dirty);
        }
        if starved {
            self.starved.push(key);
        }
        self.note_ended(key);
    }

    fn note_ended(&mut self, key: Key) {
        if !self.ended_here.is_empty() {
            self.ended.extend(self.ended_here.drain(..).map(|sequence| (key, sequence)));
        }
    }

    /// Recorded deliveries of a session have ended without an acknowledgement.
    pub(super) fn ended_unsent(&mut self, key: Key, sequences: Vec<u64>) {
        self.ended.extend(sequences.into_iter().map(|sequence| (key, sequence)));
    }

    /// Some recorded delivery has ended without an acknowledgement.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Moves the recorded deliveries that ended without an acknowledgement to `into`.
    pub(super) fn take_ended(&mut self, into: &mut Vec<(Key, u64)>) {
        into.append(&mut self.ended);
    }

    /// Moves the sessions whose next message has to be fetched from the log to `into`.
    pub(super) fn take_starved(&mut self, into: &mut Vec<Key>) {
        into.append(&mut self.starved);
    }

    /// Writes the acknowledgements of this session that wait for nothing more.
    pub(super) fn flush_acks(&mut self, key: Key, durable: u64) -> usize {
        let Some(session) = self.sessions.get_mut(key) else { return 0 };
        let Some(inbound) = session.inbound.as_deref_mut() else { return 0 };
        let connection = connection_of(&mut self.connections, session.connection);
        match connection {
            None => inbound.flush(durable, None, &mut self.counters),
            Some(connection) => {
                connection.link.output.prepare(&mut self.spares);
                inbound.flush(durable, Some(&mut connection.link), &mut self.counters);
                if !connection.link.output.is_empty() {
                    connection.mark(&mut self.dirty);
                }
            }
        }
        inbound.waiting()
    }

    /// Writes an acknowledgement.
    pub(super) fn ack(&mut self, conn: ConnId, kind: AckKind, id: PacketId, reason: Reason) {
        let Some(connection) = connection_of(&mut self.connections, Some(conn)) else { return };
        connection.link.output.prepare(&mut self.spares);
        connection.link.ack(kind, id, reason, &mut self.counters);
        connection.mark(&mut self.dirty);
    }

    /// Writes any other packet; false if it passes the client's Maximum Packet Size.
    pub(super) fn packet(&mut self, conn: ConnId, packet: &Packet<'_>) -> bool {
        let Some(connection) = connection_of(&mut self.connections, Some(conn)) else {
            return false;
        };
        connection.link.output.prepare(&mut self.spares);
        let written = connection.link.packet(packet, &mut self.counters);
        connection.mark(&mut self.dirty);
        written
    }

    /// Puts a connection in the list of those with output.
    pub(super) fn mark(&mut self, conn: ConnId) {
        if let Some(connection) = connection_of(&mut self.connections, Some(conn)) {
            connection.mark(&mut self.dirty);
        }
    }

    /// Keeps the buffer of a finished send for another one.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        self.spares.keep(buffer);
    }

    /// Moves the list of connections whose output grew to `into`.
    pub(super) fn take_dirty(&mut self, into: &mut Vec<ConnId>) {
        for id in self.dirty.drain(..) {
            if let Some(connection) = connection_of(&mut self.connections, Some(id)) {
                connection.dirty = false;
                into.push(id);
            }
        }
    }
}

impl Connection {
    fn mark(&mut self, dirty: &mut Vec<ConnId>) {
        if !self.dirty {
            self.dirty = true;
            dirty.push(self.id);
        }
    }
}

fn connection_of(
    connections: &mut [Option<Box<Connection>>],
    id: Option<ConnId>,
) -> Option<&mut Connection> {
    let id = id?;
    connections.get_mut(id.index())?.as_deref_mut().filter(|c| c.id == id)
}
