//! Start from what the log says: sessions, queues, retained messages and exchanges come back.
//!
//! Promise: nothing is served, published or ended before all shards have come back and know all
//! subscriptions: each says so after its interest, and letters keep their order, so who has heard
//! all knows them; and it says so again then, so who goes on sends to nobody who does not know
//! them. Exchanges leave in the order of their numbers, those of an earlier life first.
//!
//! ```text
//!  restore(image) ─▶ Mail::Interest, Mail::Members, …, Mail::Restored ─▶ other shards
//!  all others have said Restored ─▶ Mail::Restored { knows_all } ─▶ other shards
//!  all others know all ─▶ wake: exchanges again, ends, wills and expiry begin to count
//! ```

use super::clients::{Session, Will};
use super::connect::EXPIRY_NEVER;
use super::exchange::Open;
use super::fanout::NO_TICKET;
use super::journal::{Logged, UNKNOWN};
use super::mail::{Interest, Mail};
use super::slots::Key;
use super::{Shard, Timer};
use crate::access::Identity;
use crate::session::{Inbound, Message, Outbound, Slot, State};
use crate::store::image::{Exchange, Queue, SessionImage, Waiting};
use crate::store::{Image, SessionNumber, StoredWill};
use shards::Millis;
use std::collections::VecDeque;
use std::num::NonZeroU32;

/// A client whose connection was cut by the restart has this time to come back before its will is
/// published.
const WILL_GRACE_MS: u64 = 10_000;

/// Where a start stands.
#[derive(Debug, Default)]
pub(super) struct Start {
    /// Shards that have come back, one bit each.
    heard: u128,
    /// Shards that know all interest.
    knowing: u128,
    /// The others were told that this one does.
    told: bool,
    /// This one has come back, and waits for the others.
    waits: bool,
    /// Exchanges that leave when it goes on: what it found, then what it made meanwhile.
    exchanges: Vec<u64>,
}

impl Shard {
    /// Takes over what a restart found in this shard's log. Called once, before anything else, on
    /// all shards of the broker or on none; [`crate::store::image::fence`] has seen all images.
    ///
    /// `last_lsn` is the last position that is taken: all up to it is durable, the next record has
    /// the next one. The clock of the settings has to say a time of day that is not before that of
    /// the image. O(state); bodies of queued messages stay in the log.
    pub fn restore(&mut self, image: Image, last_lsn: u64, now: Millis) {
        self.effects.lsn = last_lsn;
        self.clients.durable = last_lsn;
        self.journal.next_session = image.next_session.saturating_sub(1);
        self.exchanges.last = image.next_exchange.saturating_sub(1);
        for (origin, exchange) in image.applied {
            if let Some(applied) = self.exchanges.applied.get_mut(usize::from(origin)) {
                *applied = exchange;
            }
        }
        // One that has expired must not take the place of one that has not.
        let kept = |message: &Message| !message.is_expired(now);
        for retained in image.retained.into_values().filter(|stored| kept(&stored.message)) {
            self.store_retained(&retained.message);
            self.journal.retained = false;
        }
        for (number, exchange) in image.exchanges {
            self.restore_exchange(number, exchange);
        }
        // Nobody knows when those whom the end of the broker cut off would have left. Their time
        // begins now: a session may live longer than it asked, but never ends too early.
        let cut_ms = self.wall_ms(now);
        for (number, session) in image.sessions {
            self.restore_session(number, session, cut_ms);
        }
        self.start.exchanges = self.exchanges.open.keys().copied().collect();
        self.say_restored(false);
        self.start.waits = true;
        self.wake_if_all_know(now);
    }

    /// All shards have come back, so clients can be served. True for a shard that has nothing to
    /// restore.
    pub fn is_ready(&self) -> bool {
        !self.start.waits
    }

    fn say_restored(&mut self, knows_all: bool) {
        for shard in self.place.others() {
            self.effects.mail(shard, Mail::Restored { knows_all });
        }
    }

    /// Another shard has come back; its interest came before.
    pub(super) fn on_restored(&mut self, from: usize, knows_all: bool, now: Millis) {
        self.start.heard |= 1 << from;
        if knows_all {
            self.start.knowing |= 1 << from;
        }
        self.wake_if_all_know(now);
    }

    fn wake_if_all_know(&mut self, now: Millis) {
        let is_in = |set: u128| move |shard: usize| set & (1 << shard) != 0;
        if !self.start.waits || !self.place.others().all(is_in(self.start.heard)) {
            return;
        }
        if !std::mem::replace(&mut self.start.told, true) {
            self.say_restored(true);
        }
        if self.place.others().all(is_in(self.start.knowing)) {
            self.start.waits = false;
            self.wake(now);
        }
    }

    /// The record of an exchange is durable. One that this shard made while it waited for others
    /// must not overtake those of its earlier life: numbers only rise.
    pub(super) fn exchange_durable(&mut self, exchange: u64) {
        if self.start.waits {
            self.start.exchanges.push(exchange);
        } else {
            self.send_exchange(exchange);
        }
    }

    /// What was under way goes on.
    fn wake(&mut self, now: Millis) {
        for exchange in std::mem::take(&mut self.start.exchanges) {
            self.send_exchange(exchange);
        }
        for key in self.clients.sessions.keys() {
            self.count_down(key, now);
        }
    }

    /// Will and expiry of a session whose client is away begin to count.
    fn count_down(&mut self, key: Key, now: Millis) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let (expiry_s, epoch) = (session.expiry_s, session.epoch);
        let delay_s = session.will.as_ref().map(|will| will.delay_s);
        let logged = session.log.and_then(|number| self.journal.sessions.get(&number));
        let Some(since_ms) = logged.and_then(|logged| logged.offline_since_ms) else { return };
        let after = |seconds: u32| {
            let due_ms = since_ms.saturating_add(u64::from(seconds) * 1000);
            Millis(due_ms.saturating_sub(self.settings.wall_offset_ms)).max(now)
        };
        let will_due = delay_s.map(|delay_s| after(delay_s).max(now.after(WILL_GRACE_MS)));
        let expiry_due = (expiry_s != EXPIRY_NEVER).then(|| after(expiry_s));
        if expiry_due.is_some_and(|due| due <= now) {
            // [MQTT-3.1.2-23] It was over while nobody looked; without expiry, with its connection.
            self.clients.counters.sessions_expired += u64::from(expiry_s > 0);
            return self.end_session(key, now);
        }
        if let Some(due) = will_due {
            self.wait(due, Timer::Will(key, epoch, due), now);
        }
        if let Some(due) = expiry_due {
            self.wait(due, Timer::SessionExpiry(key, epoch, due), now);
        }
    }

    fn restore_exchange(&mut self, number: u64, exchange: Exchange) {
        let Exchange { message, parts, .. } = exchange;
        for part in parts.iter().filter(|part| part.retain) {
            self.retained.note_sent(part.shard.into());
        }
        self.exchanges.restore(number, Open::restored(message, parts));
    }

    fn restore_session(&mut self, number: SessionNumber, image: SessionImage, cut_ms: u64) {
        let SessionImage { head, will, filters, received, queue, sent_before, .. } = image;
        // A session without head was cut off by the operator, and counted.
        let Some(head) = head else { return };
        let inbound = Inbound::restored(received.into_iter().collect());
        let slots = self.restored_slots(queue, sent_before);
        let will_lsn = if will.is_some() { UNKNOWN } else { 0 };
        let session = Session {
            client_id: head.client.clone(),
            log: Some(number),
            connection: None,
            expiry_s: head.expiry_s,
            epoch: 0,
            queries: Vec::new(),
            filters: Vec::new(),
            outbound: Outbound::restored(head.next_sequence, slots),
            inbound: inbound.map(Box::new),
            will: will.map(|will| Box::new(restored_will(will))),
            serial: 0,
            ended: head.client.as_str().is_empty(),
            identity: Identity { user: head.user, users: head.users, ..Identity::default() },
            access_epoch: self.access_epoch,
        };
        let user = session.identity.user.clone();
        self.clients.count_user(user.as_ref());
        self.tell_user(user.as_ref());
        let key = self.clients.sessions.insert(session);
        if !head.client.as_str().is_empty() {
            self.clients.by_id.insert(head.client, key);
        }
        let offline_since_ms = Some(head.offline_since_ms.unwrap_or(cut_ms));
        let logged = Logged { key, head_lsn: UNKNOWN, exchange_lsn: 0, will_lsn, offline_since_ms };
        self.journal.sessions.insert(number, logged);
        if head.offline_since_ms.is_none() {
            self.record_head(key, offline_since_ms);
        }
        let mut ids = Vec::with_capacity(filters.len());
        for (filter, (options, identifier)) in filters {
            let identifier = NonZeroU32::new(identifier);
            let made = self.subscriptions.subscribe(&filter, key.index, options, identifier);
            ids.push(made.id);
            if filter.share().is_some() {
                let (online, total) = self.routes.members(&filter, self.place.shard);
                self.tell_members(&filter, online, total + 1, NO_TICKET);
            } else if made.first {
                for shard in self.place.others() {
                    let (filter, change) = (filter.clone(), Interest::Added(None));
                    self.effects.mail(shard, Mail::Interest { filter, change });
                }
            }
        }
        if let Some(session) = self.clients.sessions.get_mut(key) {
            session.filters = ids;
        }
    }

    /// Those that may have been sent before are sent with DUP, in their order; the others count as
    /// new. [MQTT-4.4.0-1]
    fn restored_slots(&self, queue: Queue, sent_before: u64) -> VecDeque<Slot> {
        let waiting = queue.into_sorted();
        let begun = waiting.iter().rposition(|one| one.state != State::Queued);
        let window = usize::from(self.settings.inflight_max);
        let in_window = waiting.iter().take(window).filter(|one| one.sequence < sent_before);
        let sent = in_window.count().max(begun.map_or(0, |last| last + 1));
        let slot = |(index, one): (usize, Waiting)| {
            let state = match one.state {
                State::Queued if index < sent => State::Sent,
                other @ (State::Queued | State::Sent | State::Released | State::Done) => other,
            };
            let place = (one.place.lsn, one.place.offset);
            let weight_bytes = u32::try_from(one.weight_bytes()).unwrap_or(u32::MAX);
            let (share, identifiers) = match one.extra {
                Some(extra) => (extra.share, extra.identifiers),
                None => (None, Box::default()),
            };
            let slot = Slot::stored(one.sequence, place, one.qos, state);
            slot.with_terms(weight_bytes, one.retain, share, &identifiers)
        };
        waiting.into_iter().enumerate().map(slot).collect()
    }
}

fn restored_will(will: StoredWill) -> Will {
    let StoredWill { message, expiry_s, delay_s } = will;
    Will { message, expiry_s, delay_s }
}
