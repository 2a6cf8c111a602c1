//! Messages that are committed by the log of the shard that took them: `QoS` 2 of durable sessions,
//! their wills, and what one member of a shared subscription leaves to others.
//!
//! Promise: each shard does its part exactly once, whatever crashes. The record here names all
//! parts; they are sent when it is durable, in the order of their numbers, and again after a
//! restart until the other shard has said that its own record is durable. That shard drops what it
//! has had: numbers of one origin only rise.
//!
//! ```text
//!  origin: Publish{onward} durable ─▶ PUBREC, Mail::Exchange ─▶ target: Publish{from: Exchange}
//!  origin: Settled, message forgotten ◀─ Mail::Applied ◀─────── durable there
//! ```

use super::Shard;
use super::fanout::{Fanned, NO_TICKET};
use super::journal::Held;
use super::mail::{Mail, Ticket};
use super::routes::bits;
use super::shares::{Hop, Outcome};
use super::slots::Key;
use crate::session::{AckKey, DropCause, Message, Overflow, Publication, Settlement};
use crate::store::{Onward, Part, Record, Source};
use shards::Millis;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Exchanges that other shards have not taken yet; above it the publisher's PUBREC waits until they
/// have.
const OPEN_MAX: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(super) struct Exchanges {
    /// Number of the last one.
    pub(super) last: u64,
    /// Those that some shard has not taken, by number.
    pub(super) open: BTreeMap<u64, Open>,
    /// Highest number that was applied here, by origin.
    pub(super) applied: Vec<u64>,
    /// Retained messages in those that were not sent yet, by owner.
    unsent_retains: Vec<u32>,
    /// Those of an earlier life whose retained message is not stored yet.
    old_retains: BTreeSet<u64>,
    /// PUBRECs of repeated messages that wait for them. At most what clients may leave
    /// unacknowledged.
    repeated: Vec<(Key, AckKey)>,
}

/// An exchange that some shard has not taken.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) message: Arc<Message>,
    /// What is left to do.
    pub(super) parts: Vec<Part>,
    /// Shards that could not queue it, one bit each.
    tried: u128,
    /// Told when the retained part is stored, or each part is taken.
    ticket: Option<Ticket>,
    every_part: bool,
    /// The publisher can still be told that a queue is full.
    refusable: bool,
}

/// What other shards have to do with a message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    parts: Vec<Part>,
    tried: u128,
    /// A shared subscription has nobody with room.
    refused: bool,
}

impl Plan {
    /// Adds to the part of a shard.
    fn add(&mut self, shard: usize, change: impl FnOnce(&mut Part)) {
        let shard = u16::try_from(shard).unwrap_or(u16::MAX);
        if let Some(part) = self.parts.iter_mut().find(|part| part.shard == shard) {
            return change(part);
        }
        let mut part = Part { shard, direct: false, retain: false, shares: Vec::new() };
        change(&mut part);
        self.parts.push(part);
    }
}

impl Open {
    pub(super) fn restored(message: Arc<Message>, parts: Vec<Part>) -> Self {
        let refusable = false;
        Open { message, parts, tried: 0, ticket: None, every_part: false, refusable }
    }
}

impl Exchanges {
    pub(super) fn new(shards: usize) -> Self {
        Exchanges {
            last: 0,
            open: BTreeMap::new(),
            applied: vec![0; shards],
            unsent_retains: vec![0; shards],
            old_retains: BTreeSet::new(),
            repeated: Vec::new(),
        }
    }

    /// A retained message of an exchange is on its way to this owner and must not be overtaken.
    pub(super) fn has_unsent_retains(&self, owner: usize) -> bool {
        self.unsent_retains.get(owner).is_some_and(|count| *count > 0)
    }

    /// An exchange that a restart found; it has to be sent again.
    pub(super) fn restore(&mut self, number: u64, open: Open) {
        self.count_unsent(&open.parts, false);
        if open.parts.iter().any(|part| part.retain) {
            self.old_retains.insert(number);
        }
        self.open.insert(number, open);
    }

    /// A message is repeated that may be one of an earlier life: its PUBREC, at this place, has to
    /// wait until their retained messages are stored. False if they are.
    pub(super) fn holds_repeated(&mut self, session: Key, ack: AckKey) -> bool {
        let waits = !self.old_retains.is_empty();
        if waits {
            self.repeated.push((session, ack));
        }
        waits
    }

    fn count_unsent(&mut self, parts: &[Part], sent: bool) {
        for part in parts.iter().filter(|part| part.retain) {
            if let Some(count) = self.unsent_retains.get_mut(usize::from(part.shard)) {
                *count = if sent { *count - 1 } else { *count + 1 };
            }
        }
    }
}

impl Shard {
    /// Hands a message to all who want it, on all shards, by way of this shard's log.
    pub(super) fn fan_out_logged(
        &mut self,
        message: &Publication<'_>,
        from: Source,
        ticket: Option<Ticket>,
        now: Millis,
    ) -> Fanned {
        let mut plan = Plan::default();
        if message.retain {
            let owner = self.home.of(message.topic.as_str());
            if owner == self.place.shard {
                self.store_retained(message.owned());
            } else {
                plan.add(owner, |part| part.retain = true);
            }
        }
        self.journal.once = true;
        let mut matched = self.deliver(message, now);
        if !self.routes.is_empty() {
            let targets = self.routes.targets(message.topic);
            for shard in bits(targets.shards) {
                plan.add(shard, |part| part.direct = true);
            }
            for share in &targets.shares {
                matched |= self.plan_share(*share, message, &mut plan, now);
            }
        }
        // Whether the others have subscribers is not waited for.
        matched |= !plan.parts.is_empty();
        self.journal.once = false;
        let refused = self.refuses_share(&plan, ticket);
        let (lsn, waits) = self.commit_onward(message, from, plan, ticket);
        Fanned { matched, waits, lsn, refused }
    }

    /// A shared subscription has nobody with room: the publisher is told, or the drop is counted.
    fn refuses_share(&mut self, plan: &Plan, ticket: Option<Ticket>) -> bool {
        let told = ticket.is_some_and(|ticket| !ticket.patient);
        if plan.refused && !told {
            self.clients.counters.drop(DropCause::NoMember);
        }
        plan.refused && told
    }

    /// Gives a message to a shared subscription, here or as part of an exchange. True if a member
    /// here takes it.
    pub(super) fn plan_share(
        &mut self,
        share: u32,
        message: &Publication<'_>,
        plan: &mut Plan,
        now: Millis,
    ) -> bool {
        let Some((filter, outcome)) = self.choose_member(share, message, now) else { return false };
        match outcome {
            Outcome::Elsewhere(to, _) => plan.add(to, |part| part.shares.push(filter)),
            Outcome::Nobody { full: true } => plan.refused = true,
            Outcome::Nobody { full: false } => self.clients.counters.drop(DropCause::NoMember),
            Outcome::Taken => return true,
        }
        false
    }

    /// Emits the record of a message with its plan. Gives its log position, and the number of
    /// settlements that the ticket waits for.
    pub(super) fn commit_onward(
        &mut self,
        message: &Publication<'_>,
        from: Source,
        plan: Plan,
        ticket: Option<Ticket>,
    ) -> (u64, u32) {
        let Plan { parts, tried, refused: _ } = plan;
        if parts.is_empty() {
            return (self.commit(message, from, None), 0);
        }
        // A shard may refuse its part, and the publisher has to be told.
        let refusable = self.settings.queue.overflow == Overflow::Reject
            && ticket.is_some_and(|ticket| !ticket.patient);
        let every_part = refusable || self.exchanges.open.len() >= OPEN_MAX;
        let waited = parts.iter().filter(|part| every_part || part.retain).count();
        let waits = if ticket.is_some() { u32::try_from(waited).unwrap_or(u32::MAX) } else { 0 };
        for part in parts.iter().filter(|part| part.retain) {
            self.retained.note_sent(part.shard.into());
        }
        self.exchanges.last += 1;
        let exchange = self.exchanges.last;
        self.exchanges.count_unsent(&parts, false);
        let onward = Onward { exchange, parts: parts.clone() };
        let lsn = self.commit(message, from, Some(onward));
        let message = Arc::clone(message.owned());
        let open = Open { message, parts, tried, ticket, every_part, refusable };
        self.exchanges.open.insert(exchange, open);
        self.hold(lsn, Held::Exchange(exchange));
        (lsn, waits)
    }

    /// The record of an exchange is durable: the other shards may see it.
    pub(super) fn send_exchange(&mut self, exchange: u64) {
        let Some(open) = self.exchanges.open.get(&exchange) else { return };
        let (parts, tried, refusable) = (open.parts.clone(), open.tried, open.refusable);
        for part in &parts {
            let (to, part) = (usize::from(part.shard), part.clone());
            let message = Arc::clone(&open.message);
            let mail = Mail::Exchange { exchange, part, tried, message, refusable };
            self.effects.mail(to, mail);
        }
        self.exchanges.count_unsent(&parts, true);
    }

    /// This shard's part of an exchange.
    pub(super) fn on_exchange(
        &mut self,
        number: (usize, u64),
        todo: (&Part, u128),
        message: &Arc<Message>,
        refusable: bool,
        now: Millis,
    ) {
        let ((from, exchange), (part, tried)) = (number, todo);
        let Some(applied) = self.exchanges.applied.get_mut(from) else { return };
        if exchange <= *applied {
            // Sent again after a restart, and kept here before it.
            return self.effects.mail(from, Mail::Applied { exchange, refused: false });
        }
        *applied = exchange;
        let publication = message.publication();
        let mut plan = Plan { parts: Vec::new(), tried, refused: false };
        if part.retain {
            self.store_retained(message);
        }
        self.journal.once = true;
        let mut refused = false;
        if part.direct {
            refused = refusable && self.lacks_room(&publication);
            if !refused {
                self.deliver(&publication, now);
            }
        }
        for filter in &part.shares {
            let hop = Hop { last: true, tried };
            match self.give_member(filter, &publication, hop, now) {
                Outcome::Taken => {}
                Outcome::Elsewhere(to, hop) => {
                    plan.add(to, |part| part.shares.push(filter.clone()));
                    plan.tried |= hop.tried;
                }
                Outcome::Nobody { full } if full && refusable => refused = true,
                Outcome::Nobody { .. } => self.clients.counters.drop(DropCause::NoMember),
            }
        }
        self.journal.once = false;
        let origin = u16::try_from(from).unwrap_or(u16::MAX);
        let source = Source::Exchange { origin, exchange };
        let (lsn, _) = self.commit_onward(&publication, source, plan, None);
        self.hold(lsn, Held::Applied(from, exchange, refused));
    }

    /// Another shard has taken its part.
    pub(super) fn on_applied(&mut self, from: usize, exchange: u64, refused: bool, now: Millis) {
        let Some(open) = self.exchanges.open.get_mut(&exchange) else { return };
        let Some(index) = open.parts.iter().position(|part| usize::from(part.shard) == from) else {
            return;
        };
        let part = open.parts.swap_remove(index);
        let (ticket, every_part) = (open.ticket, open.every_part);
        if open.parts.is_empty() {
            self.exchanges.open.remove(&exchange);
        }
        self.effects.record(Record::Settled { exchange, shard: part.shard });
        if part.retain {
            self.on_retain_stored(from, None, now);
            self.old_retain_stored(exchange);
        }
        if let Some(ticket) = ticket.filter(|_| every_part || part.retain) {
            let settlement =
                if refused { Settlement::Refused } else { Settlement::of(!part.retain) };
            self.on_settled(ticket, settlement, now);
        }
    }

    /// With the last retained message of an earlier life those who repeated one are answered.
    fn old_retain_stored(&mut self, exchange: u64) {
        let was_old = self.exchanges.old_retains.remove(&exchange);
        if !was_old || !self.exchanges.old_retains.is_empty() {
            return;
        }
        for (key, ack) in std::mem::take(&mut self.exchanges.repeated) {
            let session = self.clients.sessions.get_mut(key);
            if let Some(inbound) = session.and_then(|session| session.inbound.as_deref_mut()) {
                inbound.settle(ack, Settlement::Matched);
                self.release_acks(key);
            }
        }
    }

    /// Gives what one member of a shared subscription has left to another one.
    pub(super) fn hand_on_logged(&mut self, share: u32, message: &Publication<'_>, now: Millis) {
        let mut plan = Plan::default();
        self.plan_share(share, message, &mut plan, now);
        self.refuses_share(&plan, NO_TICKET);
        self.commit_onward(message, Source::Plain, plan, None);
    }
}
