//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 §3.8 to §3.11), and interest between shards.
//!
//! A subscription works here at once; its SUBACK waits until all shards know of it, so that a
//! message published after SUBACK reaches it from everywhere.

use super::Shard;
use super::mail::{Interest, Mail, Ticket, Waiter};
use super::slots::Key;
use crate::codec::{
    Packet, PacketId, Properties, Reason, RetainHandling, Suback, Subscribe, SubscribeFilter,
    Unsuback, Unsubscribe,
};
use crate::store::Record;
use crate::topic::Filter;
use ahash::AHashMap;
use shards::{ConnId, Millis};
use std::num::NonZeroU32;
use tracing::debug;

/// SUBACKs that wait for other shards.
#[derive(Debug, Default)]
pub(super) struct Subacks {
    pending: AHashMap<u64, Pending>,
    next: u64,
}

#[derive(Debug)]
struct Pending {
    conn: ConnId,
    key: Key,
    id: PacketId,
    reasons: Vec<Reason>,
    waits: u32,
    retained: Vec<Wanted>,
}

/// Retained messages to hand out after SUBACK.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) qos: crate::codec::Qos,
    pub(super) identifier: Option<u32>,
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
            waits: 0,
            retained: Vec::new(),
        };
        for wanted in &subscribe.filters {
            match self.subscribe_one(key, number, wanted, identifier, &mut pending) {
                Ok(reason) => pending.reasons.push(reason),
                // [MQTT-3.8.3-4]
                Err(reason) => return self.end_connection(conn, reason, now),
            }
        }
        if pending.waits == 0 {
            self.send_suback(pending, now);
        } else {
            self.subacks.pending.insert(number, pending);
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
        if session.filters.len() >= maximum && !session.filters.contains(&filter) {
            return Ok(Reason::QuotaExceeded);
        }
        let subscribed = self.subscriptions.subscribe(&filter, key.index, options, identifier);
        if subscribed.was_new {
            session.filters.push(filter.clone());
        }
        let client = session.client_id.clone();
        debug!(client = client.as_str(), filter = filter.as_str(), "subscribed");
        let (recorded, number_of_id) = (filter.clone(), identifier.map_or(0, NonZeroU32::get));
        self.record(key, || Record::Subscribe {
            client,
            filter: recorded,
            options,
            identifier: number_of_id,
        });
        let waiter = Waiter::Suback { number };
        let ticket = Ticket { origin: self.place.origin(), waiter };
        if filter.share().is_some() {
            if subscribed.was_new {
                let (online, total) = self.routes.members(&filter, self.place.shard);
                pending.waits += self.tell_members(&filter, online + 1, total + 1, Some(ticket));
            }
        } else if subscribed.first || !self.subacks.pending.is_empty() {
            // While answers are outstanding another client's interest may not be known
            // everywhere yet, so it is announced again: that is harmless.
            for shard in self.place.others() {
                let (filter, change) = (filter.clone(), Interest::Added(ticket));
                self.effects.mail(shard, Mail::Interest { filter, change });
                pending.waits += 1;
            }
        }
        // Retained messages are not sent to shared subscriptions (§4.8.2).
        let hand_out = match options.retain_handling {
            // [MQTT-3.3.1-9] [MQTT-3.8.4-4]
            RetainHandling::Always => true,
            // [MQTT-3.3.1-10]
            RetainHandling::IfNew => subscribed.was_new,
            // [MQTT-3.3.1-11]
            RetainHandling::Never => false,
        };
        if hand_out && filter.share().is_none() {
            let identifier = identifier.map(NonZeroU32::get);
            pending.retained.push(Wanted { filter, qos: options.qos, identifier });
        }
        Ok(match options.qos {
            crate::codec::Qos::AtMostOnce => Reason::GRANTED_QOS0,
            crate::codec::Qos::AtLeastOnce => Reason::GrantedQos1,
            crate::codec::Qos::ExactlyOnce => Reason::GrantedQos2,
        })
    }

    pub(super) fn suback_settled(&mut self, number: u64, now: Millis) {
        let Some(pending) = self.subacks.pending.get_mut(&number) else { return };
        pending.waits -= 1;
        if pending.waits == 0
            && let Some(pending) = self.subacks.pending.remove(&number)
        {
            self.send_suback(pending, now);
        }
    }

    /// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-3.8.4-6]
    fn send_suback(&mut self, pending: Pending, now: Millis) {
        let Pending { conn, key, id, reasons, retained, .. } = pending;
        if self.clients.session_of(conn) != Some(key) {
            return;
        }
        let suback = Suback { packet_id: id, properties: Properties::default(), reasons };
        self.clients.packet(conn, &Packet::Suback(suback));
        self.hold_output(conn);
        for wanted in retained {
            // The client may have given the subscription up while its SUBACK waited.
            let session = self.clients.sessions.get(key);
            if session.is_some_and(|session| session.filters.contains(&wanted.filter)) {
                self.start_query(key, wanted, now);
            }
        }
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, key: Key, packet: &Unsubscribe<'_>) {
        let mut reasons = Vec::with_capacity(packet.filters.len());
        for text in &packet.filters {
            let Ok(filter) = Filter::parse(text, self.settings.topic_levels_max) else {
                reasons.push(Reason::TopicFilterInvalid);
                continue;
            };
            let Some(session) = self.clients.sessions.get_mut(key) else { return };
            // [MQTT-3.10.4-1]
            let Some(index) = session.filters.iter().position(|held| *held == filter) else {
                reasons.push(Reason::NoSubscriptionExisted);
                continue;
            };
            session.filters.swap_remove(index);
            if session.filters.is_empty() {
                session.filters = Vec::new();
            }
            let client = session.client_id.clone();
            self.drop_subscription(key, &filter);
            self.cancel_queries(key, &filter);
            self.record(key, || Record::Unsubscribe { client, filter });
            reasons.push(Reason::Success);
        }
        // [MQTT-3.10.4-4] [MQTT-3.10.4-5]
        let unsuback =
            Unsuback { packet_id: packet.packet_id, properties: Properties::default(), reasons };
        self.clients.packet(conn, &Packet::Unsuback(unsuback));
        self.hold_output(conn);
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
                if self.retained.fence(ticket) {
                    self.settle(Some(ticket), true);
                }
            }
            Interest::Removed => self.routes.remove(filter, from),
        }
    }
}
