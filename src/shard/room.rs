//! `queue.overflow = "reject"`: a durable session whose queue is full stops the publisher instead
//! of losing the message.
//!
//! Promise: of one PUBLISH with `QoS` 1 or 2 the sessions of a shard get all or nothing; groups of
//! shared subscriptions decide each for itself. A 5.0 publisher is told (0x97) when any shard
//! refused, however many others have the message. A 3.x publisher cannot be told: its message waits
//! here, in order, and it is not read meanwhile; after [`PATIENCE_MS`] its connection ends.
//! Counted once for each refused PUBLISH ([`DropCause::Refused`]). Without a publisher who waits
//! (wills, what a group member leaves, `QoS` 0), and for sessions that end with their connection,
//! a full queue drops the message that comes, as always counted.
//!
//! One case is left: a `QoS` 2 message of a durable 3.x session is committed by its own shard
//! before the others see it ([`super::exchange`]), so a full queue elsewhere drops it, counted.
//!
//! ```text
//!   room_for ─┬─ Free ─▶ deliver
//!             ├─ Full ─▶ Settlement::Refused ─▶ PUBACK 0x97
//!             └─ Later ─▶ hold_back, Mail::HeldBack ─▶ publisher paused
//!                             └─ every RETRY_MS ─▶ deliver, Settled ─▶ publisher read on
//! ```

use super::effects::{Effect, Flow};
use super::journal::Held;
use super::mail::{Mail, Ticket, Waiter};
use super::shares::{Hop, Outcome};
use super::slots::Key;
use super::{Shard, Timer};
use crate::codec::{AckKind, Qos, Reason};
use crate::session::{AckKey, ClientId, DropCause, Message, Overflow, Publication, Settlement};
use crate::store::{Record, Source};
use crate::topic::{Filter, Match};
use ahash::{AHashMap, AHashSet};
use shards::Millis;
use std::collections::VecDeque;
use std::sync::Arc;
use tracing::debug;

/// A message waits so long for room; then its publisher is cut off.
const PATIENCE_MS: u64 = 30_000;
/// Time between two looks at what waits.
const RETRY_MS: u64 = 50;
/// Messages that wait on one shard; the publishers of further ones are cut off at once. What a
/// publisher had sent before it was held back is all that one publisher adds.
const HELD_BACK_MAX: usize = 65_536;

/// What a message finds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It is taken; what cannot be kept is dropped and counted.
    Free,
    /// Its publisher is told.
    Full,
    /// It waits, and its publisher with it.
    Later,
}

/// What is to be done with a message when there is room.
#[derive(Debug)]
pub(super) enum Waiting {
    /// Hand it to everybody; nobody has it.
    Publish(Source, Arc<Message>),
    /// Hand it to the sessions here.
    Forward(Arc<Message>),
    /// Hand it to a member of this shared subscription.
    Shared(Filter, Arc<Message>),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct HeldBack {
    /// In the order in which they came.
    list: VecDeque<(Millis, Ticket, Waiting)>,
    /// Messages in it of each publisher: what follows them waits too.
    publishers: AHashMap<ClientId, u32>,
    /// A timer is set.
    timed: bool,
}

impl HeldBack {
    fn leave(&mut self, publisher: &ClientId) {
        if let Some(count) = self.publishers.get_mut(publisher) {
            *count -= 1;
            if *count == 0 {
                self.publishers.remove(publisher);
            }
        }
    }
}

impl Waiting {
    fn publisher(&self) -> ClientId {
        let (Waiting::Publish(_, message)
        | Waiting::Forward(message)
        | Waiting::Shared(_, message)) = self;
        message.publisher().clone()
    }
}

impl Shard {
    /// May a message be handed to the sessions of this shard now?
    pub(super) fn room_for(&mut self, message: &Publication<'_>, ticket: Option<Ticket>) -> Room {
        if self.settings.queue.overflow != Overflow::Reject {
            return Room::Free;
        }
        // [MQTT-4.6.0-5] Not past those of its publisher that wait.
        if ticket.is_some() && self.held_back.publishers.contains_key(message.publisher) {
            // Also those of a later connection of the same client, with 5.0.
            let full = self.held_back.list.len() >= HELD_BACK_MAX;
            return if full { Room::Full } else { Room::Later };
        }
        let too_large = message.weight_bytes() > self.settings.queue.queue_bytes_max;
        if ticket.is_some_and(|ticket| ticket.patient) && too_large {
            // It would wait for ever.
            return Room::Free;
        }
        let full = ticket.is_some() && self.lacks_room(message);
        self.stopped(full, ticket)
    }

    /// What a full queue means for a message.
    pub(super) fn stopped(&self, full: bool, ticket: Option<Ticket>) -> Room {
        let list = &self.held_back.list;
        match ticket {
            Some(ticket) if full && ticket.patient && list.len() < HELD_BACK_MAX => Room::Later,
            Some(_) if full => Room::Full,
            Some(_) | None => Room::Free,
        }
    }

    /// A durable session of this shard would have to queue the message and cannot.
    pub(super) fn lacks_room(&mut self, message: &Publication<'_>) -> bool {
        if message.qos == Qos::AtMostOnce {
            return false;
        }
        let (found, bytes) = (self.matches(message), message.weight_bytes());
        found.direct.chunk_by(|a, b| a.client == b.client).any(|run| {
            let Some(first) = run.first() else { return false };
            let session = self.clients.sessions.at(first.client);
            let own = session.is_some_and(|session| session.client_id == *message.publisher);
            // [MQTT-3.8.3-3]
            let wanted = |one: &&Match| !(own && one.options.no_local);
            let qos = run.iter().filter(wanted).map(|one| one.options.qos).max();
            qos.is_some_and(|qos| {
                self.clients.is_full_for(first.client, qos.min(message.qos), bytes)
            })
        })
    }

    /// Keeps a message until there is room for it, and has its publisher held back.
    pub(super) fn hold_back(&mut self, ticket: Option<Ticket>, waiting: Waiting, now: Millis) {
        let Some(ticket) = ticket else { return };
        self.time_room(now);
        *self.held_back.publishers.entry(waiting.publisher()).or_default() += 1;
        self.held_back.list.push_back((now, ticket, waiting));
        self.effects.mail(usize::from(ticket.origin), Mail::HeldBack { ticket });
    }

    fn time_room(&mut self, now: Millis) {
        if !std::mem::replace(&mut self.held_back.timed, true) {
            self.timers.insert(now.after(RETRY_MS), Timer::Room);
        }
    }

    /// A message of a client here waits for room somewhere: the client is not read meanwhile.
    pub(super) fn on_held_back(&mut self, ticket: Ticket) {
        let Waiter::Ack { session: key, key: ack } = ticket.waiter else { return };
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let Some(inbound) = session.inbound.as_deref_mut() else { return };
        if !inbound.is_asked(ack) {
            return;
        }
        let Some(ack) = inbound.ack_mut(ack) else { return };
        ack.held_back = true;
        if let Some(conn) = session.connection
            && let Some(connection) = self.clients.connection_mut(conn)
            && !connection.paused
        {
            connection.paused = true;
            self.effects.list.push(Effect::Flow(conn, Flow::Pause));
        }
    }

    /// Looks again at what waits, in its order.
    pub(super) fn room_due(&mut self, now: Millis) {
        self.held_back.timed = false;
        let mut stopped: AHashSet<ClientId> = AHashSet::new();
        for (since, ticket, waiting) in std::mem::take(&mut self.held_back.list) {
            let publisher = waiting.publisher();
            let left = if now >= since.after(PATIENCE_MS) {
                self.give_up(ticket, &waiting, now);
                None
            } else if stopped.contains(&publisher) {
                Some(waiting)
            } else {
                let before = self.held_back.list.len();
                let left = self.try_again(ticket, waiting, now);
                if self.held_back.list.len() > before {
                    // A group of it waits on.
                    stopped.insert(publisher.clone());
                }
                left
            };
            match left {
                Some(waiting) => {
                    stopped.insert(publisher);
                    self.held_back.list.push_back((since, ticket, waiting));
                }
                None => self.held_back.leave(&publisher),
            }
        }
        if !self.held_back.list.is_empty() {
            self.time_room(now);
        }
    }

    /// Gives back what still has to wait.
    fn try_again(&mut self, ticket: Ticket, waiting: Waiting, now: Millis) -> Option<Waiting> {
        match waiting {
            Waiting::Publish(from, message) => {
                if self.lacks_room(&message.publication()) {
                    return Some(Waiting::Publish(from, message));
                }
                self.publish_late(ticket, from, &message, now);
            }
            Waiting::Forward(message) => {
                if self.lacks_room(&message.publication()) {
                    return Some(Waiting::Forward(message));
                }
                self.take_forward(&message.publication(), Some(ticket), now);
            }
            Waiting::Shared(filter, message) => {
                let lsn_before = self.effects.lsn;
                let publication = message.publication();
                let hop = Hop { last: true, tried: 0 };
                match self.give_member(&filter, &publication, hop, now) {
                    Outcome::Nobody { full: true } => {
                        return Some(Waiting::Shared(filter, message));
                    }
                    Outcome::Nobody { full: false } => {
                        self.clients.counters.drop(DropCause::NoMember);
                        self.settle(Some(ticket), false);
                    }
                    Outcome::Taken => {
                        self.commit(&publication, Source::Plain, None);
                        self.settle_after(lsn_before, Some(ticket), true);
                    }
                    Outcome::Elsewhere(to, hop) => {
                        let message = Arc::clone(&message);
                        self.forward_shared(to, filter, message, Some(ticket), hop);
                    }
                }
            }
        }
        None
    }

    /// Hands a message of a client here to everybody, later than it came.
    fn publish_late(&mut self, ticket: Ticket, from: Source, message: &Arc<Message>, now: Millis) {
        let Waiter::Ack { session, key } = ticket.waiter else { return };
        // A session that has ended was told nothing.
        let Some(log) = self.clients.sessions.get(session).map(|session| session.log) else {
            return;
        };
        let fanned = self.fan_out_in_order(&message.publication(), (from, log), Some(ticket), now);
        let Some(publisher) = self.clients.sessions.get_mut(session) else { return };
        if let Some(ack) = publisher.inbound.as_deref_mut().and_then(|it| it.ack_mut(key)) {
            ack.waits += fanned.waits;
        }
        self.delay_ack(session, key, fanned.lsn);
        let settlement =
            if fanned.refused { Settlement::Refused } else { Settlement::of(fanned.matched) };
        self.on_settled(ticket, settlement, now);
    }

    /// A message has waited too long: its publisher is cut off, so that it comes back and repeats
    /// it.
    fn give_up(&mut self, ticket: Ticket, waiting: &Waiting, now: Millis) {
        let Waiting::Publish(..) = waiting else {
            return self.settle_as(Some(ticket), Settlement::Refused);
        };
        // Nobody has it, so that a repetition is a new message.
        if let Waiter::Ack { session, key } = ticket.waiter
            && let Some(session) = self.clients.sessions.get_mut(session)
            && let Some(inbound) = session.inbound.as_deref_mut()
            && let Some(ack) = inbound.ack_mut(key).filter(|ack| ack.kind == AckKind::Pubrec)
        {
            if ticket.patient {
                // Nothing is written for it, and it may stay in the queue for others before it.
                let id = ack.id;
                inbound.release(id);
            } else {
                ack.frees = true;
            }
        }
        self.on_settled(ticket, Settlement::Refused, now);
    }

    /// A shard has not taken the message of a client here.
    pub(super) fn refused_elsewhere(
        &mut self,
        key: Key,
        place: AckKey,
        patient: bool,
        now: Millis,
    ) {
        let Some(session) = self.clients.sessions.get_mut(key) else {
            return self.clients.counters.drop(DropCause::Refused);
        };
        let conn = session.connection;
        let Some(inbound) = session.inbound.as_deref_mut() else { return };
        let asked = inbound.is_asked(place);
        let Some(ack) = inbound.ack_mut(place) else { return };
        if ack.reason.is_error() {
            // Another shard has refused it before.
            return;
        }
        let (kind, id) = (ack.kind, ack.id);
        self.clients.counters.drop(DropCause::Refused);
        debug!(id = id.get(), "a queue is full");
        if patient {
            // Who has it keeps it: the identifier stays, so that a repetition at QoS 2 is known.
            inbound.silence(place);
            if let Some(conn) = conn.filter(|_| asked) {
                self.end_connection(conn, Reason::QuotaExceeded, now);
            }
            return;
        }
        ack.reason = Reason::QuotaExceeded;
        if kind == AckKind::Pubrec {
            // [MQTT-4.3.3-9] In the log the identifier has to be free before PUBREC leaves: the
            // client may use it for another message then.
            ack.frees = true;
            let lsn = self.record(key, |session| Record::Released { session, id });
            self.delay_ack(key, place, lsn);
        }
    }

    /// An acknowledgement waits for this log position too.
    fn delay_ack(&mut self, key: Key, place: AckKey, lsn: u64) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let Some(inbound) = session.inbound.as_deref_mut() else { return };
        if let Some(ack) = inbound.ack_mut(place) {
            ack.lsn = ack.lsn.max(lsn);
        }
        if lsn > self.clients.durable {
            self.hold(lsn, Held::Acks(key));
        }
    }
}
