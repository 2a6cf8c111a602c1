//! One message to all who want it: sessions here, other shards, shared groups, retained store.
//!
//! Overlapping subscriptions of one session get one copy, at the highest granted `QoS`, with the
//! identifiers of all of them [MQTT-3.3.4-2] [MQTT-3.3.4-4]; shared subscriptions are on their own.

use super::Shard;
use super::clients::Session;
use super::journal::Held;
use super::mail::Ticket;
use super::room::{Room, Waiting};
use super::routes::bits;
use crate::access::{Action, Verdict, authorise};
use crate::codec::Qos;
use crate::session::{Grant, Publication, Settlement};
use crate::store::Source;
use crate::topic::{Match, Matches};
use shards::Millis;
use std::rc::Rc;
use std::sync::Arc;

/// Nobody waits for the outcome: `QoS` 0, wills, the server's own messages.
pub(super) const NO_TICKET: Option<Ticket> = None;

/// Outcome of a fan-out.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fanned {
    /// Somebody here takes it.
    pub(super) matched: bool,
    /// Letters sent that will be settled.
    pub(super) waits: u32,
    /// Log position of the last record that the message left here; 0 = none.
    pub(super) lsn: u64,
    /// A queue here is full, and not everybody takes it.
    pub(super) refused: bool,
}

impl Shard {
    /// Hands a message to all who want it, on all shards.
    pub(super) fn fan_out(
        &mut self,
        message: &Publication<'_>,
        from: Source,
        ticket: Option<Ticket>,
        now: Millis,
    ) -> Fanned {
        if from != Source::Plain {
            return self.fan_out_logged(message, from, ticket, now);
        }
        let mut fanned = Fanned::default();
        let lsn_before = self.effects.lsn;
        if message.retain {
            fanned.waits += self.retain(message, ticket);
        }
        fanned.matched = self.deliver(message, now);
        if !self.routes.is_empty() {
            let targets = self.routes.targets(message.topic);
            for shard in bits(targets.shards) {
                self.forward_in_order(shard, message, ticket);
                fanned.waits += 1;
            }
            for share in &targets.shares {
                self.give_share(*share, message, ticket, &mut fanned, now);
            }
        }
        self.commit(message, Source::Plain, None);
        if self.effects.lsn != lsn_before {
            fanned.lsn = self.effects.lsn;
        }
        fanned
    }

    /// A message of another shard.
    pub(super) fn on_forward(
        &mut self,
        message: &Publication<'_>,
        ticket: Option<Ticket>,
        now: Millis,
    ) {
        match self.room_for(message, ticket) {
            Room::Free => {}
            Room::Full => return self.settle_as(ticket, Settlement::Refused),
            Room::Later => {
                let waiting = Waiting::Forward(Arc::clone(message.owned()));
                return self.hold_back(ticket, waiting, now);
            }
        }
        self.take_forward(message, ticket, now);
    }

    /// Hands a message of another shard to the sessions here, and says so.
    pub(super) fn take_forward(
        &mut self,
        message: &Publication<'_>,
        ticket: Option<Ticket>,
        now: Millis,
    ) {
        let lsn_before = self.effects.lsn;
        let matched = self.deliver(message, now);
        self.commit(message, Source::Plain, None);
        self.settle_after(lsn_before, ticket, matched);
    }

    /// Answers a ticket when the records since `lsn_before` are durable.
    pub(super) fn settle_after(&mut self, lsn_before: u64, ticket: Option<Ticket>, matched: bool) {
        let lsn = self.effects.lsn;
        match ticket {
            Some(ticket) if lsn != lsn_before && lsn > self.clients.durable => {
                let held = Held::Settle(usize::from(ticket.origin), ticket, matched);
                self.hold(lsn, held);
            }
            Some(_) | None => self.settle(ticket, matched),
        }
    }

    /// The subscriptions of this shard that get a message.
    pub(super) fn matches(&mut self, message: &Publication<'_>) -> Rc<Matches> {
        if !self.guarded {
            return self.subscriptions.matches(message.topic);
        }
        let (sessions, access) = (&self.clients.sessions, &self.access);
        let topic = message.topic.as_str();
        self.subscriptions.matches_allowed(message.topic, |client| {
            let may = |session: &Session| {
                authorise(access, session.who(), Action::Receive, topic) == Verdict::Allow
            };
            sessions.at(client).is_some_and(may)
        })
    }

    /// Hands a message to the sessions of this shard. True if one of them has subscribed to it.
    pub(super) fn deliver(&mut self, message: &Publication<'_>, now: Millis) -> bool {
        let found = self.matches(message);
        if found.direct.is_empty() {
            return false;
        }
        self.clients.layouts.reset();
        let mut matched = false;
        for run in found.direct.chunk_by(|a, b| a.client == b.client) {
            matched |= match run {
                [one] if one.identifier.is_none() && !one.options.no_local => {
                    // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
                    let retain = message.retain && one.options.retain_as_published;
                    let grant = Grant::plain(one.options.qos, retain);
                    self.deliver_to(one.client, message, grant, now);
                    true
                }
                run => self.deliver_merged(run, message, now),
            };
        }
        matched
    }

    /// Several subscriptions of one session match, or one with special terms.
    fn deliver_merged(&mut self, run: &[Match], message: &Publication<'_>, now: Millis) -> bool {
        let Some(client) = run.first().map(|first| first.client) else { return false };
        let Some(session) = self.clients.sessions.at(client) else { return false };
        let own = session.client_id == *message.publisher;
        let mut identifiers = std::mem::take(&mut self.identifiers);
        identifiers.clear();
        let mut qos = None;
        let mut retain = false;
        // [MQTT-3.8.3-3] No Local takes the publisher's own messages out of that subscription.
        for one in run.iter().filter(|one| !(own && one.options.no_local)) {
            qos = qos.max(Some(one.options.qos));
            retain |= message.retain && one.options.retain_as_published;
            identifiers.extend(one.identifier.map(std::num::NonZeroU32::get));
        }
        let matched = match qos {
            Some(qos) => {
                let grant = Grant { qos, retain, identifiers: &identifiers, share: None };
                self.deliver_to(client, message, &grant, now);
                true
            }
            None => false,
        };
        self.identifiers = identifiers;
        matched
    }

    /// Hands a message to one session; records it if it has to survive.
    ///
    /// What the client cannot take, because it is too large for it, counts as sent [MQTT-3.1.2-25].
    pub(super) fn deliver_to(
        &mut self,
        client: u32,
        message: &Publication<'_>,
        grant: &Grant<'_>,
        now: Millis,
    ) {
        if message.retain {
            self.note_live(client, message.topic);
        }
        let outcome = self.clients.deliver(client, message, (grant, self.journal.once), now);
        // At QoS 0 only what may come again after a crash has to do with the log.
        let recorded = message.qos != Qos::AtMostOnce || self.journal.once;
        if self.settings.recording && recorded {
            self.draft(client, message, grant, outcome);
        }
    }
}
