//! Ends: of connections, by either side; of sessions; and the wills they leave (§3.1.2.5, §3.14).

use super::clients::Phase;
use super::connect::EXPIRY_NEVER;
use super::effects::Effect;
use super::fanout::NO_TICKET;
use super::slots::Key;
use super::trail::CONNECTIONS;
use super::{Shard, Timer};
use crate::access::{Action, Verdict, authorise};
use crate::codec::{Disconnect, Packet, Properties, Qos, Reason, Version};
use crate::session::{ClientId, DropCause, Publication};
use crate::store::{Record, Source};
use crate::topic::{Filter, TopicName};
use shards::{ConnId, Millis};
use std::cell::OnceCell;
use tracing::debug;

impl Shard {
    /// The client broke a rule, or we can't go on with it: say why (5.0) and close. The will is
    /// published: this is no normal disconnection.
    pub(super) fn end_connection(&mut self, conn: ConnId, reason: Reason, now: Millis) {
        debug!(target: CONNECTIONS, conn = conn.index(), ?reason, "connection ended by the server");
        if !matches!(reason, Reason::KeepAliveTimeout | Reason::MaximumConnectTime) {
            self.clients.counters.protocol_errors += 1;
        }
        self.audit_kicked(conn, reason, now);
        self.say_goodbye(conn, reason);
        self.lost(conn, now);
    }

    /// DISCONNECT for 5.0 clients whose CONNECT was accepted [MQTT-3.14.0-1], then close.
    pub(super) fn say_goodbye(&mut self, conn: ConnId, reason: Reason) {
        let Some(connection) = self.clients.connection(conn) else { return };
        let told = matches!(connection.phase, Phase::Connected(_))
            && connection.link.version == Version::V5;
        if told {
            let disconnect = Disconnect { reason, properties: Properties::default() };
            self.clients.packet(conn, &Packet::Disconnect(disconnect));
        }
        self.close(conn);
    }

    /// Closes after the output has left.
    pub(super) fn close(&mut self, conn: ConnId) {
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        if matches!(connection.phase, Phase::Opened | Phase::Authenticating) {
            connection.phase = Phase::Closing;
            connection.pending = None;
        }
        self.effects.list.push(Effect::Close(conn));
    }

    /// The client says good-bye (MQTT 5.0 §3.14.4).
    pub(super) fn disconnect(
        &mut self,
        conn: ConnId,
        key: Key,
        disconnect: &Disconnect<'_>,
        now: Millis,
    ) {
        let expiry_max_s = self.settings.session_expiry_s_max;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        if let Some(wanted_s) = disconnect.properties.session_expiry_interval() {
            // MQTT 5.0 §3.14.2.2.2: a session that ends with its connection can't be prolonged.
            if session.expiry_s == 0 && wanted_s > 0 {
                return self.end_connection(conn, Reason::ProtocolError, now);
            }
            session.expiry_s = wanted_s.min(expiry_max_s);
        }
        if disconnect.reason == Reason::NORMAL_DISCONNECTION {
            // [MQTT-3.14.4-3] [MQTT-3.1.2-10]
            self.clear_will(key);
        }
        let reason = disconnect.reason;
        debug!(target: CONNECTIONS, conn = conn.index(), ?reason, "disconnected by the client");
        self.lost(conn, now);
        self.close(conn);
    }

    /// The transport is gone, expected or not.
    pub(super) fn closed(&mut self, conn: ConnId, now: Millis) {
        self.lost(conn, now);
        self.clients.remove(conn);
    }

    /// A session has lost its connection: will and expiry begin to count.
    pub(super) fn lost(&mut self, conn: ConnId, now: Millis) {
        let Some(key) = self.clients.detach(conn) else { return };
        self.members_online(key, false);
        let queue = self.settings.queue;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        session.outbound.put_away(queue);
        let (expiry_s, epoch) = (session.expiry_s, session.epoch);
        let delay_s = session.will.as_ref().map(|will| will.delay_s.min(expiry_s));
        if expiry_s == 0 {
            // [MQTT-4.1.0-2] The session ends, and with it every delay of the will.
            return self.end_session(key, now);
        }
        self.record_head(key, Some(self.wall_ms(now)));
        match delay_s {
            Some(0) => self.publish_will(key, now),
            Some(delay_s) => {
                let due = after(now, delay_s);
                self.wait(due, Timer::Will(key, epoch, due), now);
            }
            None => {}
        }
        if expiry_s != EXPIRY_NEVER {
            let due = after(now, expiry_s);
            self.wait(due, Timer::SessionExpiry(key, epoch, due), now);
        }
        self.hand_on_shared(key, now);
    }

    pub(super) fn will_due(&mut self, key: Key, epoch: u32, due: Millis, now: Millis) {
        if self.clients.sessions.get(key).is_none_or(|session| session.epoch != epoch) {
            return;
        }
        if now < due {
            return self.wait(due, Timer::Will(key, epoch, due), now);
        }
        self.publish_will(key, now);
    }

    pub(super) fn session_due(&mut self, key: Key, epoch: u32, due: Millis, now: Millis) {
        if self.clients.sessions.get(key).is_none_or(|session| session.epoch != epoch) {
            return;
        }
        if now < due {
            return self.wait(due, Timer::SessionExpiry(key, epoch, due), now);
        }
        self.clients.counters.sessions_expired += 1;
        self.audit_session_end(key, "expired");
        self.end_session(key, now);
    }

    /// Publishes the will, once. [MQTT-3.1.2-8] [MQTT-3.1.2-10]
    pub(super) fn publish_will(&mut self, key: Key, now: Millis) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let Some(will) = session.will.take() else { return };
        let message = &will.message;
        // The right may have been withdrawn since CONNECT.
        let topic = message.topic();
        if authorise(&self.access, session.who(), Action::Publish, topic) == Verdict::Deny {
            self.clients.counters.drop(DropCause::Denied);
            self.record(key, |session| Record::Will { session, will: None });
            return;
        }
        let survives = message.qos() != Qos::AtMostOnce || message.retain();
        let from = match session.log {
            Some(number) if survives => Source::Will(number),
            Some(_) | None => Source::Plain,
        };
        let publication = Publication {
            topic: TopicName::trusted(message.topic()),
            payload: message.payload(),
            forwarded: message.forwarded(),
            qos: message.qos(),
            // [MQTT-3.1.2-14] [MQTT-3.1.2-15]
            retain: message.retain(),
            expires_at: will.expiry_s.map(|expiry_s| after(now, expiry_s)),
            publisher: message.publisher(),
            author: message.author(),
            owned: OnceCell::new(),
        };
        self.fan_out(&publication, from, NO_TICKET, now);
        if from == Source::Plain {
            self.record(key, |session| Record::Will { session, will: None });
        }
    }

    /// Ends a session: subscriptions, queue, will. Its messages of shared subscriptions go to other
    /// members, all others are counted as dropped.
    pub(super) fn end_session(&mut self, key: Key, now: Millis) {
        self.publish_will(key, now);
        self.end_queries(key);
        let filters = match self.clients.sessions.get_mut(key) {
            Some(session) => std::mem::take(&mut session.filters),
            None => return,
        };
        let filters: Vec<Filter> =
            filters.into_iter().map(|id| self.subscriptions.filter(id)).collect();
        for filter in &filters {
            self.drop_subscription(key, filter);
        }
        let left = self.hand_on_shared(key, now);
        if left.is_empty() {
            self.forget_session(key);
        } else {
            self.empty_session(key, &left, filters, now);
        }
    }

    fn forget_session(&mut self, key: Key) {
        let end = self.record(key, |session| Record::SessionEnd { session });
        self.journal.last_end = self.journal.last_end.max(end);
        let Some(session) = self.clients.sessions.remove(key) else { return };
        if let Some(number) = session.log {
            self.journal.sessions.remove(&number);
        }
        let lost = session.outbound.unfinished() as u64;
        self.clients.counters.drop_many(DropCause::SessionEnded, lost);
        if !session.ended {
            self.clients.by_id.remove(&session.client_id);
            self.clients.discount_user(session.identity.user.as_ref());
            self.tell_user(session.identity.user.as_ref());
        }
    }

    /// The session is over for its client; some messages for other members of its groups are still
    /// being read from the log. Until then a crash finds a session without client identifier, which
    /// the next start ends.
    fn empty_session(&mut self, key: Key, left: &[u64], filters: Vec<Filter>, now: Millis) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let lost = session.outbound.keep_only(left) as u64;
        self.clients.counters.drop_many(DropCause::SessionEnded, lost);
        if std::mem::replace(&mut session.ended, true) {
            // A restart found it so.
            return;
        }
        let client_id = std::mem::replace(&mut session.client_id, ClientId::new(""));
        let identity = std::mem::take(&mut session.identity);
        session.inbound = None;
        session.expiry_s = 0;
        session.epoch = session.epoch.wrapping_add(1);
        self.clients.by_id.remove(&client_id);
        self.clients.discount_user(identity.user.as_ref());
        self.tell_user(identity.user.as_ref());
        for filter in filters {
            self.record(key, |session| Record::Unsubscribe { session, filter });
        }
        self.record_head(key, Some(self.wall_ms(now)));
        self.journal.last_end = self.effects.lsn;
    }

    /// The last message of a session that has ended went to somebody else.
    pub(super) fn end_if_empty(&mut self, key: Key) {
        let session = self.clients.sessions.get(key);
        if session.is_some_and(|session| session.ended && session.outbound.unfinished() == 0) {
            self.forget_session(key);
        }
    }

    /// Looks whether a connection has been silent too long. [MQTT-3.1.2-22]
    pub(super) fn keep_alive(&mut self, conn: ConnId, now: Millis) {
        let Some(connection) = self.clients.connection(conn) else { return };
        if !matches!(connection.phase, Phase::Connected(_)) {
            return;
        }
        // Who is not read for the sake of other shards or the log may have sent its PINGREQ.
        let unread = connection.paused || connection.unread;
        let heard = if unread { now } else { connection.last_packet };
        let deadline = heard.after(u64::from(connection.silence_ms_max));
        if now < deadline {
            self.wait(deadline, Timer::KeepAlive(conn), now);
        } else {
            self.end_connection(conn, Reason::KeepAliveTimeout, now);
        }
    }
}

/// A point in time `seconds` from now.
fn after(now: Millis, seconds: u32) -> Millis {
    Millis(now.0 + u64::from(seconds) * 1000)
}
