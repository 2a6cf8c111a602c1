//! What a shard writes to its log, and what waits until it is durable.
//!
//! Promise: a message makes one record on each shard that keeps it, with all deliveries of that
//! shard in it: all or nothing. Positions rise, and what waits is released in their order.
//!
//! ```text
//!  deliver ─▶ draft (entries) ─┐
//!  retain  ─▶ draft (retained) ┴▶ commit ─▶ Record::Publish at n ─▶ slots know n
//!                              on_durable(n) ─▶ acknowledgements, QoS 2, exchanges
//! ```

use super::mail::{Mail, Ticket};
use super::slots::Key;
use super::{Shard, Timer};
use crate::codec::{AckKind, PacketId, Qos, Reason};
use crate::session::{Delivered, Grant, Publication, Settlement};
use crate::store::{Entry, Onward, Publish, Record, SessionHead, SessionNumber, Source};
use ahash::AHashMap;
use shards::{ConnId, Millis};
use std::sync::Arc;

/// What waits for a log position.
#[derive(Debug)]
pub(super) enum Held {
    /// PUBACK and PUBREC of a session.
    Acks(Key),
    /// The answer to a ticket of another shard.
    Settle(usize, Ticket, bool),
    RetainStored(usize, Ticket),
    /// An acknowledgement that is written unless the session has another connection by then.
    Answer(Key, u32, AckKind, PacketId),
    /// A letter that must not overtake an exchange.
    Mail(usize, Box<Mail>),
    /// The parts of an exchange.
    Exchange(u64),
    /// The answer to an exchange.
    Applied(usize, u64, bool),
    /// Deliveries with `QoS` 0 of a session.
    Pump(Key),
    /// SUBACK or UNSUBACK.
    Suback(u64),
    /// Everything for a connection, from CONNACK on.
    Output(ConnId),
}

/// What the shard knows of its log.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// Deliveries of the message that is being handed out.
    entries: Vec<Entry>,
    /// Empty lists for those of the next messages.
    spare: Vec<Vec<Entry>>,
    /// Deliveries of it with `QoS` 0 that wait for its record.
    once_takers: Vec<(Key, u64)>,
    /// It may come again after a crash.
    pub(super) once: bool,
    /// What is handed out to other shards waits for this position: see `mail_in_order`.
    pub(super) after: u64,
    /// Who takes them.
    takers: Vec<(Key, u64)>,
    /// It has become the retained message of its topic here.
    pub(super) retained: bool,
    /// Buffer for deliveries that ended without an acknowledgement.
    ended: Vec<(Key, u64)>,
    /// Durable sessions.
    pub(super) sessions: AHashMap<SessionNumber, Logged>,
    /// Number of the next durable session.
    pub(super) next_session: u64,
    /// Position of the last `Clock`.
    clock_lsn: u64,
    /// Position of the last `SessionEnd`.
    pub(super) last_end: u64,
}

/// A durable session, as its log knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Logged {
    pub(super) key: Key,
    /// Position of its newest head.
    pub(super) head_lsn: u64,
    /// Position of its newest message that waited for the log before it went to other shards.
    pub(super) exchange_lsn: u64,
    /// Position of its newest will, if it has one.
    pub(super) will_lsn: u64,
    /// When its client went, in milliseconds since 1970.
    pub(super) offline_since_ms: Option<u64>,
}

/// Position of a head or will that a restart found: which of them is the newest is not known.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// Empty lists that are kept; who reads a whole buffer of small messages needs as many.
const SPARE_MAX: usize = 512;
/// Longer ones are not kept: few messages go to more sessions of a shard.
const SPARE_ENTRIES_MAX: usize = 16;

/// Time between two records of the time of day, if anything was recorded in between.
const CLOCK_MS: u64 = 10_000;

impl Journal {
    /// The number of a new durable session.
    pub(super) fn number(&mut self) -> SessionNumber {
        self.next_session += 1;
        SessionNumber(self.next_session)
    }

    /// The message that is being handed out has left nothing to record or to be told of a record.
    fn is_blank(&self) -> bool {
        !self.retained
            && self.entries.is_empty()
            && self.takers.is_empty()
            && self.once_takers.is_empty()
    }
}

impl Shard {
    /// Emits a record of a session, if it is a durable one. Gives its log position, 0 if there is
    /// none.
    pub(super) fn record(&mut self, key: Key, build: impl FnOnce(SessionNumber) -> Record) -> u64 {
        let log = self.clients.sessions.get(key).and_then(|session| session.log);
        log.map_or(0, |session| self.effects.record(build(session)))
    }

    /// Emits that a delivery of a session is over, if it is a durable one.
    pub(super) fn record_done(&mut self, key: Key, sequence: u64) {
        let log = self.clients.sessions.get(key).and_then(|session| session.log);
        if let Some(session) = log {
            self.effects.done(session, sequence);
        }
    }

    /// Emits the head of a durable session.
    pub(super) fn record_head(&mut self, key: Key, offline_since_ms: Option<u64>) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let Some(number) = session.log else { return };
        let head = SessionHead {
            session: number,
            client: session.client_id.clone(),
            user: session.identity.user.clone(),
            users: session.identity.users.clone(),
            expiry_s: session.expiry_s,
            offline_since_ms,
            next_sequence: session.outbound.next_sequence(),
        };
        let head_lsn = self.effects.record(Record::Session(head));
        let before = self.journal.sessions.get(&number);
        let will_lsn = before.map_or(0, |before| before.will_lsn);
        let exchange_lsn = before.map_or(0, |before| before.exchange_lsn);
        let logged = Logged { key, head_lsn, exchange_lsn, will_lsn, offline_since_ms };
        self.journal.sessions.insert(number, logged);
    }

    /// Milliseconds since 1970.
    pub(super) fn wall_ms(&self, now: Millis) -> u64 {
        now.0.saturating_add(self.settings.wall_offset_ms)
    }

    pub(super) fn start_clock(&mut self, now: Millis) {
        if self.settings.recording {
            self.timers.insert(now.after(CLOCK_MS), Timer::Clock);
        }
    }

    pub(super) fn clock_due(&mut self, now: Millis) {
        self.timers.insert(now.after(CLOCK_MS), Timer::Clock);
        if self.effects.lsn != self.journal.clock_lsn {
            let wall_ms = self.wall_ms(now);
            self.journal.clock_lsn = self.effects.record(Record::Clock { wall_ms });
        }
    }

    /// The newest will of a durable session has this position.
    pub(super) fn note_will(&mut self, key: Key, will_lsn: u64) {
        let number = self.clients.sessions.get(key).and_then(|session| session.log);
        if let Some(number) = number
            && let Some(logged) = self.journal.sessions.get_mut(&number)
        {
            logged.will_lsn = will_lsn;
        }
    }

    /// A session here was given a message: it becomes part of the message's record.
    pub(super) fn draft(
        &mut self,
        client: u32,
        message: &Publication<'_>,
        grant: &Grant<'_>,
        outcome: Delivered,
    ) {
        let qos = message.qos.min(grant.qos);
        let taken = matches!(outcome, Delivered::Sent | Delivered::Queued);
        if !taken {
            return;
        }
        let Some(key) = self.clients.sessions.key_at(client) else { return };
        let Some(session) = self.clients.sessions.get(key) else { return };
        if qos == Qos::AtMostOnce {
            // Without connection it may not have been kept at all.
            if self.journal.once && session.outbound.awaits_position() {
                self.journal.once_takers.push((key, session.outbound.last_sequence()));
            }
            return;
        }
        let Some(number) = session.log else { return };
        let sequence = session.outbound.last_sequence();
        self.journal.takers.push((key, sequence));
        self.journal.entries.push(Entry {
            session: number,
            sequence,
            qos,
            retain: grant.retain,
            sent: false,
            identifiers: Box::from(grant.identifiers),
            share: grant.share.cloned(),
        });
    }

    /// Emits the record of the message that was handed out, if anything of it has to survive here.
    /// Gives its log position, 0 if there is none.
    pub(super) fn commit(
        &mut self,
        message: &Publication<'_>,
        from: Source,
        onward: Option<Onward>,
    ) -> u64 {
        if !self.settings.recording {
            return 0;
        }
        let plain = from == Source::Plain && onward.is_none();
        if plain && self.journal.is_blank() && !self.clients.has_ended() {
            // Most messages of QoS 0.
            return 0;
        }
        let retained = std::mem::take(&mut self.journal.retained);
        let record = if self.journal.entries.is_empty() && !retained && onward.is_none() {
            // Nobody will ask for the message again.
            match from {
                Source::Plain => None,
                Source::Received(session, id) => Some(Record::Received { session, id }),
                Source::Will(session) => Some(Record::Will { session, will: None }),
                Source::Exchange { origin, exchange } => Some(Record::Applied { origin, exchange }),
            }
        } else {
            let message = Arc::clone(message.owned());
            let next = self.journal.spare.pop().unwrap_or_default();
            let entries = std::mem::replace(&mut self.journal.entries, next);
            Some(Record::Publish(Publish { message, from, retained, entries, onward }))
        };
        let lsn = record.map_or(0, |record| self.effects.record(record));
        let mut takers = std::mem::take(&mut self.journal.takers);
        for (key, sequence) in takers.drain(..) {
            self.note_delivery(key, sequence, lsn);
        }
        self.journal.takers = takers;
        let mut takers = std::mem::take(&mut self.journal.once_takers);
        for (key, sequence) in takers.drain(..) {
            if let Some(session) = self.clients.sessions.get_mut(key) {
                session.outbound.note_position(sequence, lsn);
                self.hold(lsn, Held::Pump(key));
            }
        }
        self.journal.once_takers = takers;
        self.record_ended();
        lsn
    }

    /// A record was written: what of it can be used again is taken out.
    pub fn recycle_record(&mut self, record: &mut Record) {
        if let Record::Publish(Publish { entries, .. }) = record
            && (1..=SPARE_ENTRIES_MAX).contains(&entries.capacity())
            && self.journal.spare.len() < SPARE_MAX
        {
            entries.clear();
            self.journal.spare.push(std::mem::take(entries));
        }
    }

    /// Posts a letter of the message that is being handed out, after those of earlier messages of
    /// its publisher that still wait for the log. [MQTT-4.6.0-5]
    pub(super) fn mail_in_order(&mut self, to: usize, mail: Mail) {
        if self.journal.after > self.clients.durable {
            // What is held leaves in its order, so the position is that of the last one; later
            // messages of the publisher wait for it too.
            let last = self.held.back().map_or(0, |(lsn, _)| *lsn);
            self.journal.after = self.journal.after.max(last);
            self.hold(self.journal.after, Held::Mail(to, Box::new(mail)));
        } else {
            self.effects.mail(to, mail);
        }
    }

    /// The same for a message to all sessions of a shard.
    pub(super) fn forward_in_order(
        &mut self,
        to: usize,
        message: &Publication<'_>,
        ticket: Option<Ticket>,
    ) {
        if self.journal.after > self.clients.durable {
            let message = Arc::clone(message.owned());
            self.mail_in_order(to, Mail::Forward { message, ticket });
        } else {
            self.effects.forward(to, message, ticket);
        }
    }

    /// The messages of this session to other shards wait for this log position, at least.
    pub(super) fn exchange_position(&self, session: Option<SessionNumber>) -> u64 {
        let logged = session.and_then(|number| self.journal.sessions.get(&number));
        logged.map_or(0, |logged| logged.exchange_lsn)
    }

    /// A message of this session goes to other shards when this position is durable.
    pub(super) fn note_exchange(&mut self, session: Option<SessionNumber>, lsn: u64) {
        if let Some(logged) = session.and_then(|number| self.journal.sessions.get_mut(&number)) {
            logged.exchange_lsn = lsn;
        }
    }

    /// Emits what says that recorded deliveries ended without an acknowledgement.
    pub(super) fn record_ended(&mut self) {
        let mut ended = std::mem::take(&mut self.journal.ended);
        self.clients.take_ended(&mut ended);
        for (key, sequence) in ended.drain(..) {
            self.record_done(key, sequence);
        }
        self.journal.ended = ended;
    }

    /// Keeps something until a log position is durable; positions rise.
    pub(super) fn hold(&mut self, lsn: u64, held: Held) {
        self.held.push_back((lsn, held));
    }

    /// Holds the output of a connection until all records so far are durable.
    pub(super) fn hold_output(&mut self, conn: ConnId) {
        let lsn = self.effects.lsn;
        if lsn <= self.clients.durable {
            return;
        }
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.held_until = lsn;
            self.hold(lsn, Held::Output(conn));
        }
    }

    /// Writes an acknowledgement when a log position is durable.
    pub(super) fn answer_after(
        &mut self,
        lsn: u64,
        conn: ConnId,
        key: Key,
        answer: (AckKind, PacketId),
    ) {
        let (kind, id) = answer;
        let Some(session) = self.clients.sessions.get(key) else { return };
        if lsn > self.clients.durable {
            let epoch = session.epoch;
            self.hold(lsn, Held::Answer(key, epoch, kind, id));
        } else {
            self.clients.ack(conn, kind, id, Reason::Success);
        }
    }

    /// Records up to this log position are on stable storage.
    pub fn on_durable(&mut self, lsn: u64, now: Millis) {
        self.clients.durable = self.clients.durable.max(lsn);
        self.settle_bodies(now);
        while self.held.front().is_some_and(|(lsn, _)| *lsn <= self.clients.durable) {
            let Some((_, held)) = self.held.pop_front() else { return };
            match held {
                Held::Acks(key) => {
                    self.skip_acks(key);
                    self.release_acks(key);
                }
                Held::Settle(to, ticket, matched) => {
                    let settlement = Settlement::of(matched);
                    self.effects.mail(to, Mail::Settled { ticket, settlement });
                }
                Held::RetainStored(to, ticket) => {
                    self.effects.mail(to, Mail::RetainStored { ticket: Some(ticket) });
                }
                Held::Answer(key, epoch, kind, id) => self.answer_now(key, epoch, kind, id),
                Held::Mail(to, mail) => self.effects.mail(to, *mail),
                Held::Pump(key) => self.progress(key, now),
                Held::Exchange(exchange) => self.exchange_durable(exchange),
                Held::Applied(to, exchange, refused) => {
                    self.effects.mail(to, Mail::Applied { exchange, refused });
                }
                Held::Suback(number) => self.suback_durable(number, now),
                Held::Output(conn) => self.clients.mark(conn),
            }
        }
    }

    /// One release is for all acknowledgements of a session that are due: messages come in runs of
    /// one client.
    fn skip_acks(&mut self, key: Key) {
        let durable = self.clients.durable;
        let same = |(lsn, held): &mut (u64, Held)| {
            *lsn <= durable && matches!(held, Held::Acks(other) if *other == key)
        };
        while self.held.pop_front_if(same).is_some() {}
    }

    fn answer_now(&mut self, key: Key, epoch: u32, kind: AckKind, id: PacketId) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        // A later connection was sent its PUBREL by the resume, and repeats its own PUBREL.
        if session.epoch == epoch
            && let Some(conn) = session.connection
        {
            self.clients.ack(conn, kind, id, Reason::Success);
        }
    }
}
