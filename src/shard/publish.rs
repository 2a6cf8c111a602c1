//! PUBLISH of a client and the acknowledgements of both directions (MQTT 5.0 §3.3 to §3.7, §4.3).

use super::Shard;
use super::clients::Session;
use super::effects::{Effect, Flow};
use super::fanout::{Fanned, NO_TICKET};
use super::journal::Held;
use super::limits::deletes;
use super::mail::{Ticket, Waiter};
use super::room::{Room, Waiting};
use super::slots::Key;
use crate::access::{Action, Verdict, authorise};
use crate::codec::{Ack, AckKind, PacketId, Properties, Publish, Qos, Reason, Version};
use crate::session::{
    Acked, Author, ClientId, DropCause, Inbound, PendingAck, Publication, Received,
};
use crate::store::{Record, SessionNumber, Source};
use crate::topic::TopicName;
use shards::{ConnId, Millis};
use std::cell::OnceCell;
use std::sync::Arc;
use tracing::debug;

/// Acknowledgements of one client that may wait for other shards or the log; above it the client is
/// not read until half of them are gone.
const ACKS_WAITING_MAX: usize = 4096;

/// Who published last: messages come in runs of one client, and what is known of it is borrowed
/// while a message is handed out. Forgotten when the identity of a session changes.
#[derive(Debug)]
pub(super) struct Writer {
    key: Key,
    client_id: ClientId,
    author: Author,
}

impl Writer {
    fn new(key: Key, session: &Session) -> Self {
        Writer { key, client_id: session.client_id.clone(), author: session.author() }
    }
}

impl Shard {
    /// One PUBLISH, from packet to acknowledgement.
    pub(super) fn publish(&mut self, conn: ConnId, key: Key, publish: &Publish<'_>, now: Millis) {
        self.clients.counters.publish_received += 1;
        self.clients.counters.publish_received_bytes += publish.payload.len() as u64;
        // The alias is resolved before anything else, because all rules speak of topic names.
        let aliased;
        let text = match publish.topic_alias {
            None => publish.topic,
            Some(alias) => match self.resolve_alias(conn, alias, publish.topic) {
                Ok(topic) => {
                    aliased = topic;
                    &aliased
                }
                Err(reason) => return self.end_connection(conn, reason, now),
            },
        };
        let topic = match TopicName::parse(text) {
            Ok(topic) if self.topic_within_limits(topic) => topic,
            // [MQTT-3.3.2-2]
            Ok(_) | Err(_) => return self.end_connection(conn, Reason::TopicNameInvalid, now),
        };
        let properties = publish.properties;
        // [MQTT-3.3.4-6] [MQTT-3.3.2-14]
        if !properties.is_empty()
            && (properties.subscription_identifier().is_some() || !has_plain_response(properties))
        {
            return self.end_connection(conn, Reason::ProtocolError, now);
        }
        if publish.retain && !self.settings.retain_available {
            // [MQTT-3.2.2-14]
            return self.end_connection(conn, Reason::RetainNotSupported, now);
        }
        match publish.packet_id {
            None => match self.verdict(key, publish, topic) {
                Ok(()) => {
                    self.forward(key, publish, topic, NO_TICKET, now);
                }
                // A QoS 0 message has no acknowledgement to carry the refusal, and a client that
                // lies about its payload is told by the end of the connection.
                Err(Reason::PayloadFormatInvalid) => {
                    self.end_connection(conn, Reason::PayloadFormatInvalid, now);
                }
                Err(reason) => {
                    self.clients.counters.drop(self.cause_of(reason));
                    debug!(conn = conn.index(), topic = topic.as_str(), ?reason, "refused");
                }
            },
            Some(id) => self.publish_acknowledged(conn, key, (publish, topic, id), now),
        }
    }

    fn publish_acknowledged(
        &mut self,
        conn: ConnId,
        key: Key,
        packet: (&Publish<'_>, TopicName<'_>, PacketId),
        now: Millis,
    ) {
        let (publish, topic, id) = packet;
        let Some(connection) = self.clients.connection(conn) else { return };
        let version = connection.link.version;
        let offer = connection.link.offer.as_deref();
        if offer.is_some_and(|offer| publish.qos > offer.qos_max) {
            return self.end_connection(conn, Reason::QosNotSupported, now);
        }
        let maximum = offer.filter(|_| version == Version::V5).map(|offer| offer.receive_maximum);
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let inbound = session.inbound.get_or_insert_default();
        let next = inbound.next_key();
        let kind = ack_kind(publish.qos);
        match inbound.receive(publish.qos, id, maximum) {
            Received::New => {}
            Received::Duplicate if self.exchanges.holds_repeated(key, next) => {
                let ack = PendingAck { matched: true, waits: 1, ..pending(kind, id) };
                return self.acknowledge(conn, key, ack);
            }
            // [MQTT-4.3.3-10] Not past one that this connection waits for: [MQTT-4.6.0-3]
            Received::Duplicate if inbound.owes_pubrec() => {
                let ack = PendingAck { matched: true, ..pending(kind, id) };
                return self.acknowledge(conn, key, ack);
            }
            Received::Duplicate => return self.clients.ack(conn, kind, id, Reason::Success),
            Received::DuplicatePending => return self.pause_if_many_wait(conn, key),
            // [MQTT-3.3.4-7]
            Received::TooMany => {
                return self.end_connection(conn, Reason::ReceiveMaximumExceeded, now);
            }
        }
        let mut ack = pending(kind, id);
        ack.reason = self.verdict(key, publish, topic).err().unwrap_or(Reason::Success);
        if ack.reason == Reason::Success {
            let waiter = Waiter::Ack { session: key, key: next };
            let patient = version != Version::V5;
            let ticket = Ticket { origin: self.place.origin(), waiter, patient };
            let fanned = self.forward(key, publish, topic, Some(ticket), now);
            (ack.matched, ack.waits) = (fanned.matched, fanned.waits);
            ack.lsn = fanned.lsn;
            if fanned.refused {
                self.refuse_partly(key, &mut ack);
                if version != Version::V5 {
                    return self.cut_refused(conn, key, &ack, now);
                }
            }
        } else {
            self.clients.counters.drop(self.cause_of(ack.reason));
            debug!(conn = conn.index(), topic = topic.as_str(), reason = ?ack.reason, "refused");
            // [MQTT-4.3.3-9] A refused identifier is free at once: a repetition is refused too.
            if let Some(session) = self.clients.sessions.get_mut(key)
                && let Some(inbound) = session.inbound.as_deref_mut()
            {
                inbound.release(id);
            }
            if version != Version::V5 {
                // 3.x acknowledgements can't refuse: either this one does not say so, or the
                // connection ends. 3.1.1: [MQTT-3.3.5-2]
                let quiet = matches!(ack.reason, Reason::NotAuthorized | Reason::PacketTooLarge);
                if !(quiet && self.settings.acknowledge_denied) {
                    return self.end_connection(conn, ack.reason, now);
                }
                ack.reason = Reason::Success;
            } else if ack.reason == Reason::PacketTooLarge {
                // PUBACK and PUBREC have no code for a payload (§3.4.2.1).
                ack.reason = Reason::QuotaExceeded;
            }
        }
        self.acknowledge(conn, key, ack);
    }

    /// Writes an acknowledgement now, or puts it in the queue of those that wait.
    fn acknowledge(&mut self, conn: ConnId, key: Key, ack: PendingAck) {
        let durable = self.clients.durable;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let Some(inbound) = session.inbound.as_deref_mut() else { return };
        if ack.waits == 0 && ack.lsn <= durable && inbound.is_clear() {
            let (kind, id, reason) = (ack.kind, ack.id, ack.final_reason());
            if ack.frees {
                inbound.release(ack.id);
            }
            return self.clients.ack(conn, kind, id, reason);
        }
        if ack.lsn > durable {
            self.held.push_back((ack.lsn, Held::Acks(key)));
        }
        inbound.push(ack);
        self.pause_if_many_wait(conn, key);
    }

    /// Who has too many acknowledgements that wait is not read until some have left.
    fn pause_if_many_wait(&mut self, conn: ConnId, key: Key) {
        let session = self.clients.sessions.get(key);
        let inbound = session.and_then(|session| session.inbound.as_deref());
        if inbound.is_some_and(|inbound| inbound.waiting() > ACKS_WAITING_MAX)
            && let Some(connection) = self.clients.connection_mut(conn)
            && !connection.paused
        {
            connection.paused = true;
            self.effects.list.push(Effect::Flow(conn, Flow::Pause));
        }
    }

    /// Writes what waits no longer, and reads on if reading had stopped.
    pub(super) fn release_acks(&mut self, key: Key) {
        let waiting = self.clients.flush_acks(key, self.clients.durable);
        let session = self.clients.sessions.get(key);
        let conn = session.and_then(|session| session.connection);
        let inbound = session.and_then(|session| session.inbound.as_deref());
        let held_back = inbound.is_some_and(Inbound::is_held_back);
        if waiting <= ACKS_WAITING_MAX / 2
            && let Some(conn) = conn
            && let Some(connection) = self.clients.connection_mut(conn)
            && connection.paused
            && !held_back
        {
            connection.paused = false;
            self.effects.list.push(Effect::Flow(conn, Flow::Resume));
        }
    }

    /// May this message go on?
    fn verdict(&self, key: Key, publish: &Publish<'_>, topic: TopicName<'_>) -> Result<(), Reason> {
        let session = self.clients.sessions.get(key).ok_or(Reason::UnspecifiedError)?;
        let topic = topic.as_str();
        if authorise(&self.access, session.who(), Action::Publish, topic) == Verdict::Deny {
            self.audit_denied(key, Action::Publish, topic);
            return Err(Reason::NotAuthorized);
        }
        let deletes = deletes(publish);
        if self.pressed && !deletes {
            return Err(Reason::QuotaExceeded);
        }
        if publish.payload.len() > self.settings.payload_bytes_max {
            return Err(Reason::PacketTooLarge);
        }
        if self.disk_full && !deletes && self.needs_disk(key, publish) {
            return Err(Reason::QuotaExceeded);
        }
        let unchecked = !self.settings.payload_format_check || publish.properties.is_empty();
        if !unchecked
            && publish.properties.payload_format_indicator() == Some(1)
            && std::str::from_utf8(publish.payload).is_err()
        {
            return Err(Reason::PayloadFormatInvalid);
        }
        Ok(())
    }

    /// A message that may have to be kept on disk, from a publisher who can be told that it is
    /// full. In 3.x an acknowledgement cannot refuse: there it waits, and with it the publisher.
    fn needs_disk(&self, key: Key, publish: &Publish<'_>) -> bool {
        let session = self.clients.sessions.get(key);
        let conn = session.and_then(|session| session.connection);
        let can_be_told = conn.is_some_and(|conn| self.version_of(conn) == Version::V5);
        if publish.qos == Qos::AtMostOnce { publish.retain } else { can_be_told }
    }

    /// What a refused PUBLISH counts as.
    fn cause_of(&self, reason: Reason) -> DropCause {
        if reason == Reason::PacketTooLarge {
            DropCause::TooLarge
        } else if reason != Reason::QuotaExceeded {
            DropCause::Denied
        } else if self.pressed {
            DropCause::MemoryFull
        } else {
            DropCause::DiskFull
        }
    }

    /// Hands the message to everybody who wants it.
    fn forward(
        &mut self,
        key: Key,
        publish: &Publish<'_>,
        topic: TopicName<'_>,
        ticket: Option<Ticket>,
        now: Millis,
    ) -> Fanned {
        let Some(session) = self.clients.sessions.get(key) else { return Fanned::default() };
        let log = session.log;
        let writer = match self.writer.take() {
            Some(last) if last.key == key => last,
            Some(_) | None => Writer::new(key, session),
        };
        let from = match (publish.qos, publish.packet_id, session.log) {
            // Message and identifier in one record: neither may survive without the other.
            (Qos::ExactlyOnce, Some(id), Some(session)) => Source::Received(session, id),
            _ => Source::Plain,
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let expires_at =
            publish.message_expiry_s.map(|expiry_s| Millis(now.0 + u64::from(expiry_s) * 1000));
        let publication = Publication {
            topic,
            payload: publish.payload,
            forwarded: publish.properties.forwarded(&mut scratch),
            qos: publish.qos,
            retain: publish.retain,
            expires_at,
            publisher: &writer.client_id,
            author: &writer.author,
            owned: OnceCell::new(),
        };
        let fanned = match self.room_for(&publication, ticket) {
            Room::Free => self.fan_out_in_order(&publication, (from, log), ticket, now),
            Room::Full => Fanned { refused: true, ..Fanned::default() },
            Room::Later => {
                let waiting = Waiting::Publish(from, Arc::clone(publication.owned()));
                self.hold_back(ticket, waiting, now);
                Fanned { waits: 1, ..Fanned::default() }
            }
        };
        scratch.clear();
        self.scratch = scratch;
        self.writer = Some(writer);
        fanned
    }

    /// Hands a message to everybody, after those that its publisher sent before.
    pub(super) fn fan_out_in_order(
        &mut self,
        message: &Publication<'_>,
        from: (Source, Option<SessionNumber>),
        ticket: Option<Ticket>,
        now: Millis,
    ) -> Fanned {
        let (from, log) = from;
        self.journal.after = self.exchange_position(log);
        let fanned = self.fan_out(message, from, ticket, now);
        let after = std::mem::take(&mut self.journal.after);
        if from != Source::Plain {
            self.note_exchange(log, fanned.lsn);
        } else if after > self.clients.durable {
            self.note_exchange(log, after);
        }
        fanned
    }

    /// A queue here is full, and the publisher cannot be told. Who has the message keeps it, and
    /// then its identifier too, so that a repetition at `QoS` 2 is known.
    fn cut_refused(&mut self, conn: ConnId, key: Key, ack: &PendingAck, now: Millis) {
        let nobody = ack.waits == 0 && ack.lsn == 0;
        if let Some(session) = self.clients.sessions.get_mut(key)
            && let Some(inbound) = session.inbound.as_deref_mut()
            && nobody
        {
            let _ = inbound.release(ack.id);
        }
        self.end_connection(conn, ack.reason, now);
    }

    /// A queue here is full; others may have the message all the same. The publisher is told.
    fn refuse_partly(&mut self, key: Key, ack: &mut PendingAck) {
        self.clients.counters.drop(DropCause::Refused);
        ack.reason = Reason::QuotaExceeded;
        // [MQTT-4.3.3-9]
        ack.frees = ack.kind == AckKind::Pubrec;
        if ack.frees && ack.lsn > 0 {
            // In the log the identifier has to be free before PUBREC leaves.
            let id = ack.id;
            let lsn = self.record(key, |session| Record::Released { session, id });
            ack.lsn = ack.lsn.max(lsn);
        }
    }

    /// Topic of a PUBLISH with alias (MQTT 5.0 §3.3.2.3.4).
    fn resolve_alias(
        &mut self,
        conn: ConnId,
        alias: std::num::NonZeroU16,
        topic: &str,
    ) -> Result<Arc<str>, Reason> {
        let connection = self.clients.connection_mut(conn).ok_or(Reason::UnspecifiedError)?;
        let maximum = connection.link.offer.as_ref().map_or(0, |offer| offer.topic_alias_maximum);
        // [MQTT-3.3.2-9]
        if alias.get() > maximum {
            return Err(Reason::TopicAliasInvalid);
        }
        let aliases = connection.aliases.get_or_insert_default();
        if !topic.is_empty() {
            TopicName::parse(topic).map_err(|_| Reason::TopicNameInvalid)?;
            aliases.define(alias, topic);
        }
        // An alias that was never defined stands for no topic at all (§3.3.2.1).
        aliases.topic(alias).ok_or(Reason::ProtocolError)
    }

    /// Levels and bytes of a topic name are within the settings.
    pub(super) fn topic_within_limits(&self, topic: TopicName<'_>) -> bool {
        let text = topic.as_str();
        let levels_max = self.settings.topic_levels_max;
        // A name of n levels has at least n - 1 bytes, so short names need no count.
        text.len() <= self.settings.topic_bytes_max
            && (text.len() < levels_max
                || text.bytes().filter(|byte| *byte == b'/').count() < levels_max)
    }

    pub(super) fn puback(&mut self, key: Key, ack: &Ack<'_>, now: Millis) {
        if let Acked::Done(_) = self.acked(key, AckKind::Puback, ack) {
            self.progress(key, now);
        }
    }

    pub(super) fn pubrec(&mut self, conn: ConnId, key: Key, ack: &Ack<'_>, now: Millis) {
        match self.acked(key, AckKind::Pubrec, ack) {
            Acked::Done(_) => self.progress(key, now),
            Acked::Release(sequence) => {
                // PUBREL says that PUBLISH will not be repeated, so that has to be durable.
                let lsn = self.record(key, |session| Record::Owned { session, sequence });
                self.answer_after(lsn, conn, key, (AckKind::Pubrel, ack.packet_id));
            }
            // MQTT 5.0 §3.6.2.1; in 3.x the client can finish with a plain PUBREL.
            Acked::Unknown if !ack.reason.is_error() => {
                let reason = Reason::PacketIdentifierNotFound;
                self.clients.ack(conn, AckKind::Pubrel, ack.packet_id, reason);
            }
            Acked::Unknown => {}
        }
    }

    pub(super) fn pubcomp(&mut self, key: Key, ack: &Ack<'_>, now: Millis) {
        if let Acked::Done(_) = self.acked(key, AckKind::Pubcomp, ack) {
            self.progress(key, now);
        }
    }

    fn acked(&mut self, key: Key, kind: AckKind, ack: &Ack<'_>) -> Acked {
        let Some(session) = self.clients.sessions.get_mut(key) else { return Acked::Unknown };
        let acked = session.outbound.acknowledge(kind, ack.packet_id, ack.reason);
        if let (Acked::Done(sequence), Some(log)) = (acked, session.log) {
            self.effects.done(log, sequence);
        }
        acked
    }

    pub(super) fn pubrel(&mut self, conn: ConnId, key: Key, ack: &Ack<'_>) {
        let id = ack.packet_id;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let held = session.inbound.as_deref_mut().is_some_and(|inbound| inbound.release(id));
        if held {
            // A crash must not bring back an identifier that the client may use again.
            let lsn = self.record(key, |session| Record::Released { session, id });
            self.answer_after(lsn, conn, key, (AckKind::Pubcomp, id));
        } else {
            // [MQTT-4.3.3-11] PUBCOMP also for an identifier that is not known (§3.7.2.1).
            self.clients.ack(conn, AckKind::Pubcomp, id, Reason::PacketIdentifierNotFound);
        }
    }
}

/// An acknowledgement that waits for nothing yet.
fn pending(kind: AckKind, id: PacketId) -> PendingAck {
    PendingAck {
        kind,
        id,
        waits: 0,
        lsn: 0,
        reason: Reason::Success,
        matched: false,
        silent: false,
        held_back: false,
        frees: false,
        repeats: false,
        repeated: false,
    }
}

/// The response topic, if there is one, is a topic name. [MQTT-3.3.2-14]
pub(super) fn has_plain_response(properties: Properties<'_>) -> bool {
    properties.response_topic().is_none_or(|topic| TopicName::parse(topic).is_ok())
}

fn ack_kind(qos: Qos) -> AckKind {
    match qos {
        Qos::ExactlyOnce => AckKind::Pubrec,
        Qos::AtMostOnce | Qos::AtLeastOnce => AckKind::Puback,
    }
}
