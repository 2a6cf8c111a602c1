//! What each listener offers its clients, and the topics of clients that see only a part of them.
//!
//! Promise: a connection keeps its offer to its end. Behind [`Shard::served`] all topics and
//! filters have their whole names; [`Link::publish`](crate::session::Link::publish) takes away
//! again what a client does not see.

use super::login_rules::ListenerRules;
use super::slots::Key;
use super::{Settings, Shard};
use crate::codec::{Packet, Publish, Qos, Subscribe, SubscribeFilter, Unsubscribe};
use crate::session::Offer;
use crate::topic::Mount;
use shards::{ConnId, Millis};
use std::rc::Rc;

/// What all listeners offer, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Offers(Vec<Rc<Offer>>);

impl Shard {
    /// Takes new limits and choices over. What is above a new limit stays; nothing more comes.
    ///
    /// What clients were told at CONNECT holds for them to the end. What all shards agree on does
    /// not change: keys, recording, time.
    pub fn reconfigure(&mut self, settings: &Settings, now: Millis) {
        let old = &self.settings;
        let new = Settings {
            hash_key: old.hash_key,
            id_seed: old.id_seed,
            recording: old.recording,
            wall_offset_ms: old.wall_offset_ms,
            ..settings.clone()
        };
        self.clients.reconfigure(new.queue, new.output_bytes_max);
        self.retained.reconfigure(&new);
        let sys_interval_s = old.sys_interval_s;
        self.settings = Rc::new(new);
        self.make_offers();
        self.tell_users();
        if self.settings.sys_interval_s != sys_interval_s {
            self.start_sys(now);
        }
        self.watch_certificates(now);
    }

    /// The settings have changed: other offers for who comes from now on.
    pub(super) fn make_offers(&mut self) {
        let listeners = &self.login_rules.listeners;
        self.offers =
            Offers(listeners.iter().map(|rules| Rc::new(self.make_offer(rules))).collect());
    }

    fn make_offer(&self, rules: &ListenerRules) -> Offer {
        let aliases = rules.topic_alias_maximum.unwrap_or(self.settings.topic_alias_maximum);
        Offer {
            packet_bytes_max: self.settings.packet_bytes_max,
            receive_maximum: self.settings.receive_maximum,
            topic_alias_maximum: aliases,
            qos_max: rules.qos_max.unwrap_or(Qos::ExactlyOnce),
            mount: rules.mount.as_deref().map(Mount::new),
        }
    }

    /// What a listener offers now.
    pub(super) fn offer(&self, listener: u16) -> Rc<Offer> {
        let made = self.offers.0.get(usize::from(listener)).cloned();
        made.unwrap_or_else(|| Rc::new(self.make_offer(self.listener_rules(listener))))
    }

    /// Largest packet that this client may send.
    pub fn packet_bytes_max(&self, conn: ConnId) -> u32 {
        let connection = self.clients.connection(conn);
        let offer = connection.and_then(|connection| connection.link.offer.as_ref());
        offer.map_or(self.settings.packet_bytes_max, |offer| offer.packet_bytes_max)
    }

    /// A packet of a client that sees only a part of the topics.
    pub(super) fn mounted(&mut self, conn: ConnId, key: Key, packet: Packet<'_>, now: Millis) {
        let offer = self.clients.connection(conn).and_then(|one| one.link.offer.clone());
        let Some(mount) = offer.as_ref().and_then(|offer| offer.mount.as_ref()) else { return };
        match packet {
            Packet::Publish(publish) => {
                let topic = mount.topic(publish.topic);
                let publish = Publish { topic: &topic, ..publish };
                self.served(conn, key, Packet::Publish(publish), now);
            }
            Packet::Subscribe(Subscribe { packet_id, properties, filters }) => {
                let whole: Vec<String> =
                    filters.iter().map(|wanted| mount.filter(wanted.filter)).collect();
                let filters = whole.iter().zip(&filters);
                let filters = filters
                    .map(|(filter, wanted)| SubscribeFilter { filter, ..wanted.clone() })
                    .collect();
                let subscribe = Subscribe { packet_id, properties, filters };
                self.served(conn, key, Packet::Subscribe(subscribe), now);
            }
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }) => {
                let whole: Vec<String> =
                    filters.iter().map(|filter| mount.filter(filter)).collect();
                let filters = whole.iter().map(String::as_str).collect();
                let unsubscribe = Unsubscribe { packet_id, properties, filters };
                self.served(conn, key, Packet::Unsubscribe(unsubscribe), now);
            }
            // These name no topics.
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Suback(_)
            | Packet::Unsuback(_)
            | Packet::Pingreq
            | Packet::Pingresp
            | Packet::Disconnect(_)
            | Packet::Auth(_) => self.served(conn, key, packet, now),
        }
    }
}
