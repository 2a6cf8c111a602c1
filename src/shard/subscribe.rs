//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 §3.8 to §3.11), and interest between shards.
//!
//! A subscription works here at once; its SUBACK waits until all shards know of it, so that a
//! message published after SUBACK reaches it from everywhere.

use super::Shard;
use super::journal::Held;
use super::mail::{Interest, Mail, Ticket, Waiter};
use super::slots::Key;
use crate::access::{Action, Verdict, authorise};
use crate::codec::{
    Packet, PacketId, Properties, Qos, Reason, RetainHandling, Suback, Subscribe, SubscribeFilter,
    SubscribeOptions, Unsuback, Unsubscribe,
};
use crate::store::Record;
use crate::topic::{Filter, Subscribed};
use ahash::AHashMap;
use shards::{ConnId, Millis};
use std::num::NonZeroU32;
use tracing::debug;

/// Most sessions stay below this and get no spare room; above it growing one by one would cost.
const FEW_FILTERS: usize = 8;

/// SUBACKs and UNSUBACKs that wait for other shards or the log.
#[derive(Debug, Default)]
pub(super) struct Subacks {
    pending: AHashMap<u64, Pending>,
    next: u64,
    /// Those of them that wait for other shards.
    announced: usize,
}

#[derive(Debug)]
struct Pending {
    conn: ConnId,
    key: Key,
    id: PacketId,
    reasons: Vec<Reason>,
    /// It is an UNSUBACK.
    ends: bool,
    /// Shards that have not settled yet.
    waits: u32,
    /// Log position that has to be durable; 0 = none.
    lsn: u64,
    /// Hand-outs of retained messages that begin after it.
    queries: Vec<u64>,
}

/// Which retained messages a subscription gets, and how.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) qos: crate::codec::Qos,
    pub(super) identifier: Option<u32>,
    pub(super) no_local: bool,
}

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        conn: ConnId,
        key: Key,
        subscribe: &Subscribe<'_>,
        now: Millis,
    ) {
        let number = self.subacks.next;
        self.subacks.next += 1;
        let identifier = subscribe.properties.subscription_identifier().and_then(NonZeroU32::new);
        let mut pending = Pending {
            conn,
            key,
            id: subscribe.packet_id,
            reasons: Vec::with_capacity(subscribe.filters.len()),
            ends: false,
            waits: 0,
            lsn: 0,
            queries: Vec::new(),
        };
        let connection = self.clients.connection(conn);
        let offer = connection.and_then(|connection| connection.link.offer.as_ref());
        let qos_max = offer.map_or(Qos::ExactlyOnce, |offer| offer.qos_max);
        for wanted in &subscribe.filters {
            // [MQTT-3.2.2-10] [MQTT-3.9.3-2] More is asked for than there is, and granted is less.
            let qos = wanted.options.qos.min(qos_max);
            let options = SubscribeOptions { qos, ..wanted.options };
            let wanted = SubscribeFilter { options, ..wanted.clone() };
            match self.subscribe_one(key, number, &wanted, identifier, &mut pending) {
                Ok(reason) => pending.reasons.push(reason),
                // [MQTT-3.8.3-4]
                Err(reason) => {
                    self.drop_queries(key, &pending.queries, now);
                    return self.end_connection(conn, reason, now);
                }
            }
        }
        self.answer_subscriber(number, pending, now);
    }

    /// Sends a SUBACK or UNSUBACK, or keeps it until it is true everywhere and durable. It waits
    /// on its own: other output of the connection goes on.
    fn answer_subscriber(&mut self, number: u64, pending: Pending, now: Millis) {
        let (waits, lsn) = (pending.waits, pending.lsn);
        if waits == 0 && lsn <= self.clients.durable {
            return self.send_suback(pending, now);
        }
        self.subacks.announced += usize::from(waits > 0);
        self.subacks.pending.insert(number, pending);
        if lsn > self.clients.durable {
            self.hold(lsn, Held::Suback(number));
        }
    }

    /// One filter. `Err` ends the connection, a refusal stands in the SUBACK.
    fn subscribe_one(
        &mut self,
        key: Key,
        number: u64,
        wanted: &SubscribeFilter<'_>,
        identifier: Option<NonZeroU32>,
        pending: &mut Pending,
    ) -> Result<Reason, Reason> {
        let options = wanted.options;
        let Ok(filter) = Filter::parse(wanted.filter, self.settings.topic_levels_max) else {
            return Ok(Reason::TopicFilterInvalid);
        };
        if wanted.filter.len() > self.settings.topic_bytes_max {
            return Ok(Reason::TopicFilterInvalid);
        }
        if filter.share().is_some() && options.no_local {
            return Err(Reason::ProtocolError);
        }
        let maximum = self.settings.subscriptions_per_session_max;
        let session = self.clients.sessions.get_mut(key).ok_or(Reason::UnspecifiedError)?;
        if authorise(&self.access, session.who(), Action::Subscribe, filter.path()) == Verdict::Deny
        {
            self.audit_denied(key, Action::Subscribe, filter.as_str());
            return Ok(Reason::NotAuthorized);
        }
        let full = self.pressed || (self.disk_full && session.log.is_some());
        if (session.filters.len() >= maximum || full)
            && self.subscriptions.get(&filter, key.index).is_none()
        {
            return Ok(Reason::QuotaExceeded);
        }
        let subscribed = self.subscriptions.subscribe(&filter, key.index, options, identifier);
        if subscribed.was_new {
            if session.filters.len() < FEW_FILTERS {
                session.filters.reserve_exact(1);
            }
            session.filters.push(subscribed.id);
        }
        debug!(client = session.client_id.as_str(), filter = filter.as_str(), "subscribed");
        let lsn = self.record(key, |session| Record::Subscribe {
            session,
            filter: filter.clone(),
            options,
            identifier: identifier.map_or(0, NonZeroU32::get),
        });
        pending.lsn = pending.lsn.max(lsn);
        // Retained messages are not sent to shared subscriptions (§4.8.2).
        let hand_out = match options.retain_handling {
            _ if filter.share().is_some() => false,
            // [MQTT-3.3.1-9] [MQTT-3.8.4-4]
            RetainHandling::Always => true,
            // [MQTT-3.3.1-10]
            RetainHandling::IfNew => subscribed.was_new,
            // [MQTT-3.3.1-11]
            RetainHandling::Never => false,
        };
        pending.waits += self.announce(&filter, number, subscribed, hand_out);
        if hand_out {
            let identifier = identifier.map(NonZeroU32::get);
            let (qos, no_local) = (options.qos, options.no_local);
            let wanted = Wanted { filter, qos, identifier, no_local };
            pending.queries.push(self.prepare_query(key, wanted, subscribed.was_new));
        }
        Ok(match options.qos {
            crate::codec::Qos::AtMostOnce => Reason::GRANTED_QOS0,
            crate::codec::Qos::AtLeastOnce => Reason::GrantedQos1,
            crate::codec::Qos::ExactlyOnce => Reason::GrantedQos2,
        })
    }

    /// Tells the other shards of a subscription. Gives the letters whose answer its SUBACK awaits.
    fn announce(
        &mut self,
        filter: &Filter,
        number: u64,
        subscribed: Subscribed,
        hand_out: bool,
    ) -> u32 {
        let waiter = Waiter::Suback { number };
        let ticket = Ticket { origin: self.place.origin(), waiter, patient: false };
        // While answers are outstanding an earlier announcement may not be known everywhere yet, so
        // it is made again: that is harmless.
        let outstanding = self.subacks.announced > 0;
        if filter.share().is_some() {
            if !(subscribed.was_new || outstanding) {
                return 0;
            }
            let (online, total) = self.routes.members(filter, self.place.shard);
            let new = u32::from(subscribed.was_new);
            return self.tell_members(filter, online + new, total + new, Some(ticket));
        }
        // A retained message may have come here live, for other clients, while it is still on its
        // way to its owner on a third shard: only the fence makes sure that the owner has it when
        // it is asked.
        let fence = hand_out && self.place.shards > 2;
        if !(subscribed.first || outstanding || fence) {
            return 0;
        }
        let mut letters = 0;
        for shard in self.place.others() {
            let (filter, change) = (filter.clone(), Interest::Added(Some(ticket)));
            self.effects.mail(shard, Mail::Interest { filter, change });
            letters += 1;
        }
        letters
    }

    pub(super) fn suback_settled(&mut self, number: u64, now: Millis) {
        let Some(pending) = self.subacks.pending.get_mut(&number) else { return };
        pending.waits -= 1;
        self.subacks.announced -= usize::from(pending.waits == 0);
        self.finish_suback(number, now);
    }

    pub(super) fn suback_durable(&mut self, number: u64, now: Millis) {
        self.finish_suback(number, now);
    }

    fn finish_suback(&mut self, number: u64, now: Millis) {
        let durable = self.clients.durable;
        let done = |pending: &Pending| pending.waits == 0 && pending.lsn <= durable;
        if self.subacks.pending.get(&number).is_some_and(done)
            && let Some(pending) = self.subacks.pending.remove(&number)
        {
            self.send_suback(pending, now);
        }
    }

    /// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6]
    fn send_suback(&mut self, pending: Pending, now: Millis) {
        let Pending { conn, key, id, reasons, ends, queries, .. } = pending;
        if self.clients.session_of(conn) != Some(key) {
            return self.drop_queries(key, &queries, now);
        }
        if let Some(reason) = reasons.iter().find(|reason| reason.is_error()) {
            debug!(conn = conn.index(), ?reason, "subscription refused");
        }
        let properties = Properties::default();
        let answer = if ends {
            // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
            Packet::Unsuback(Unsuback { packet_id: id, properties, reasons })
        } else {
            Packet::Suback(Suback { packet_id: id, properties, reasons })
        };
        if !self.clients.packet(conn, &answer) {
            self.drop_queries(key, &queries, now);
            return self.end_connection(conn, Reason::PacketTooLarge, now);
        }
        for number in queries {
            self.release_query(number);
        }
        self.drive_queries(key, now);
    }

    /// A SUBACK will not be sent, so its hand-outs do not begin; others go on.
    fn drop_queries(&mut self, key: Key, queries: &[u64], now: Millis) {
        for number in queries {
            self.end_query(key, *number);
        }
        self.drive_queries(key, now);
    }

    pub(super) fn unsubscribe(
        &mut self,
        conn: ConnId,
        key: Key,
        packet: &Unsubscribe<'_>,
        now: Millis,
    ) {
        let mut reasons = Vec::with_capacity(packet.filters.len());
        let mut lsn = 0;
        for text in &packet.filters {
            // [MQTT-3.10.4-1]
            let Some((filter, index)) = self.held(key, text) else {
                let valid = Filter::parse(text, self.settings.topic_levels_max);
                reasons.push(match valid {
                    Ok(_) => Reason::NoSubscriptionExisted,
                    Err(_) => Reason::TopicFilterInvalid,
                });
                continue;
            };
            let Some(session) = self.clients.sessions.get_mut(key) else { return };
            session.filters.swap_remove(index);
            if session.filters.is_empty() {
                session.filters = Vec::new();
            }
            self.cancel_query(key, &filter);
            self.drop_subscription(key, &filter);
            lsn = lsn.max(self.record(key, |session| Record::Unsubscribe { session, filter }));
            reasons.push(Reason::Success);
        }
        let number = self.subacks.next;
        self.subacks.next += 1;
        let (id, queries) = (packet.packet_id, Vec::new());
        let pending = Pending { conn, key, id, reasons, ends: true, waits: 0, lsn, queries };
        self.answer_subscriber(number, pending, now);
        self.drive_queries(key, now);
    }

    /// The subscription of this session with this filter, and its place in the session. Filters may
    /// have more levels than may be subscribed to by now.
    fn held(&self, key: Key, text: &str) -> Option<(Filter, usize)> {
        let filter = Filter::parse(text, usize::MAX).ok()?;
        let id = self.subscriptions.id_of(&filter)?;
        let session = self.clients.sessions.get(key)?;
        let index = session.filters.iter().position(|held| *held == id)?;
        Some((filter, index))
    }

    /// Takes a subscription out of the index, and tells the other shards if it was the last.
    pub(super) fn drop_subscription(&mut self, key: Key, filter: &Filter) {
        let Some(removed) = self.subscriptions.unsubscribe(filter, key.index) else { return };
        if filter.share().is_some() {
            let (online, total) = self.routes.members(filter, self.place.shard);
            let connected =
                self.clients.sessions.get(key).is_some_and(|session| session.connection.is_some());
            let online = online.saturating_sub(u32::from(connected));
            self.tell_members(filter, online, total.saturating_sub(1), None);
        } else if removed.last {
            for shard in self.place.others() {
                let (filter, change) = (filter.clone(), Interest::Removed);
                self.effects.mail(shard, Mail::Interest { filter, change });
            }
        }
    }

    /// Another shard's interest has changed.
    pub(super) fn on_interest(&mut self, from: usize, filter: &Filter, change: Interest) {
        match change {
            Interest::Added(ticket) => {
                self.routes.add(filter, from);
                // Retained messages that were published here before the interest was known have
                // to be in their store before the subscriber looks for them there.
                if let Some(ticket) = ticket
                    && self.retained.fence(ticket)
                {
                    self.settle(Some(ticket), true);
                }
            }
            Interest::Removed => self.routes.remove(filter, from),
        }
    }
}
