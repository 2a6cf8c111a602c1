//! Shared subscriptions (MQTT 5.0 §4.8.2): one member of a group gets the message.
//!
//! The publishing shard picks a shard, in turn by the members that have a connection there; that
//! shard picks a member, in turn among those with an open window. Without one the message goes on
//! once to another shard, then to any member that can queue it, on one shard after the other.
//! Messages that a lost member did not acknowledge go to others, except `QoS` 2 deliveries that
//! began.
//! [MQTT-4.8.2-4] [MQTT-4.8.2-5]

use super::Shard;
use super::bodies::Purpose;
use super::clients::Session;
use super::fanout::{Fanned, NO_TICKET};
use super::mail::{Mail, Ticket};
use super::room::{Room, Waiting};
use super::slots::Key;
use crate::access::{Action, Verdict, authorise};
use crate::codec::Qos;
use crate::session::{DropCause, Grant, Message, Overflow, Publication, Settlement};
use crate::store::Source;
use crate::topic::{Filter, Match, TopicName};
use shards::Millis;
use std::num::NonZeroU32;
use std::sync::Arc;

/// What became of a message for a group on this shard.
pub(super) enum Outcome {
    Taken,
    /// Another shard has a better place for it.
    Elsewhere(usize, Hop),
    /// No member takes it; the caller counts that.
    Nobody {
        /// With [`Overflow::Reject`]: a member here would, if its queue had room.
        full: bool,
    },
}

/// How far a message for a group has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hop {
    /// No open window was found: it is queued where there is room.
    pub(super) last: bool,
    /// Shards whose members could not queue it, one bit each.
    pub(super) tried: u128,
}

impl Shard {
    /// Gives a message to a shared subscription. Adds to `fanned` whether a member here takes it,
    /// and how many letters will be settled.
    pub(super) fn give_share(
        &mut self,
        share: u32,
        message: &Publication<'_>,
        ticket: Option<Ticket>,
        fanned: &mut Fanned,
        now: Millis,
    ) {
        let Some((filter, outcome)) = self.choose_member(share, message, now) else { return };
        match outcome {
            Outcome::Elsewhere(to, hop) => {
                self.forward_shared(to, filter, Arc::clone(message.owned()), ticket, hop);
                fanned.waits += 1;
            }
            Outcome::Taken => fanned.matched = true,
            Outcome::Nobody { full } => match self.stopped(full, ticket) {
                Room::Free => self.clients.counters.drop(DropCause::NoMember),
                Room::Full => fanned.refused = true,
                Room::Later => {
                    let waiting = Waiting::Shared(filter, Arc::clone(message.owned()));
                    self.hold_back(ticket, waiting, now);
                    fanned.waits += 1;
                }
            },
        }
    }

    /// Chooses the shard whose turn it is, and a member if it is this one.
    pub(super) fn choose_member(
        &mut self,
        share: u32,
        message: &Publication<'_>,
        now: Millis,
    ) -> Option<(Filter, Outcome)> {
        let (chosen, filter) = self.routes.choose(share)?;
        let outcome = if chosen == self.place.shard {
            self.give_member(&filter, message, Hop::default(), now)
        } else {
            Outcome::Elsewhere(chosen, Hop::default())
        };
        Some((filter, outcome))
    }

    pub(super) fn forward_shared(
        &mut self,
        to: usize,
        filter: Filter,
        message: Arc<Message>,
        ticket: Option<Ticket>,
        hop: Hop,
    ) {
        let Hop { last: last_hop, tried } = hop;
        self.mail_in_order(to, Mail::ForwardShared { filter, message, ticket, last_hop, tried });
    }

    /// Another shard has chosen this one.
    pub(super) fn on_forward_shared(
        &mut self,
        filter: &Filter,
        message: &Arc<Message>,
        ticket: Option<Ticket>,
        hop: Hop,
        now: Millis,
    ) {
        let lsn_before = self.effects.lsn;
        let publication = message.publication();
        let outcome = self.give_member(filter, &publication, hop, now);
        self.commit(&publication, Source::Plain, None);
        match outcome {
            Outcome::Taken => self.settle_after(lsn_before, ticket, true),
            Outcome::Nobody { full } => match self.stopped(full, ticket) {
                Room::Free => {
                    self.clients.counters.drop(DropCause::NoMember);
                    self.settle(ticket, false);
                }
                Room::Full => self.settle_as(ticket, Settlement::Refused),
                Room::Later => {
                    let waiting = Waiting::Shared(filter.clone(), Arc::clone(message));
                    self.hold_back(ticket, waiting, now);
                }
            },
            Outcome::Elsewhere(to, hop) => {
                self.forward_shared(to, filter.clone(), Arc::clone(message), ticket, hop);
            }
        }
    }

    /// Gives a message to one member on this shard.
    pub(super) fn give_member(
        &mut self,
        filter: &Filter,
        message: &Publication<'_>,
        hop: Hop,
        now: Millis,
    ) -> Outcome {
        let may = |shard: &Shard, member: &Match| {
            shard.clients.sees(member.client, message.topic.as_str())
                && (!shard.guarded || shard.member_may(member.client, message.topic))
        };
        let open = |shard: &Shard, member: &Match| {
            let qos = message.qos.min(member.options.qos);
            shard.clients.is_ready(member.client, qos) && may(shard, member)
        };
        if let Some(member) = self.next_member(filter, open) {
            self.give_chosen(filter, member, message, now);
            return Outcome::Taken;
        }
        if !hop.last
            && let Some(other) = self.routes.other_online(filter, self.place.shard)
        {
            return Outcome::Elsewhere(other, Hop { last: true, ..hop });
        }
        let bytes = message.weight_bytes();
        // QoS 0 does not wait.
        let queues = |online| {
            move |shard: &Shard, member: &Match| {
                message.qos.min(member.options.qos) != Qos::AtMostOnce
                    && shard.clients.can_queue(member.client, bytes, online)
                    && may(shard, member)
            }
        };
        let chosen = self
            .next_member(filter, queues(true))
            .or_else(|| self.next_member(filter, queues(false)));
        if let Some(member) = chosen {
            self.give_chosen(filter, member, message, now);
            return Outcome::Taken;
        }
        let tried = hop.tried | (1 << self.place.shard);
        if message.qos != Qos::AtMostOnce
            && let Some(other) = self.routes.untried(filter, tried)
        {
            return Outcome::Elsewhere(other, Hop { last: true, tried });
        }
        let full = |shard: &Shard, member: &Match| {
            let qos = message.qos.min(member.options.qos);
            shard.clients.is_full_for(member.client, qos, bytes) && may(shard, member)
        };
        let rejects = self.settings.queue.overflow == Overflow::Reject;
        Outcome::Nobody { full: rejects && self.next_member(filter, full).is_some() }
    }

    /// A member may have messages of this topic.
    fn member_may(&self, client: u32, topic: TopicName<'_>) -> bool {
        let (access, topic) = (&self.access, topic.as_str());
        let may = |session: &Session| {
            authorise(access, session.who(), Action::Receive, topic) == Verdict::Allow
        };
        self.clients.sessions.at(client).is_some_and(may)
    }

    /// The next member in turn that is fit.
    fn next_member(
        &mut self,
        filter: &Filter,
        fit: impl Fn(&Shard, &Match) -> bool,
    ) -> Option<Match> {
        let id = self.subscriptions.group_of(filter)?;
        let count = self.subscriptions.group(id)?.members().len();
        for _ in 0..count {
            let member = self.subscriptions.group_mut(id)?.advance();
            if fit(self, &member) {
                return Some(member);
            }
        }
        None
    }

    fn give_chosen(
        &mut self,
        filter: &Filter,
        member: Match,
        message: &Publication<'_>,
        now: Millis,
    ) {
        let identifier = member.identifier.map(NonZeroU32::get);
        let grant = Grant {
            // [MQTT-4.8.2-3]
            qos: member.options.qos,
            retain: message.retain && member.options.retain_as_published,
            identifiers: identifier.as_slice(),
            share: Some(filter),
        };
        self.clients.layouts.reset();
        self.deliver_to(member.client, message, &grant, now);
    }

    /// A session with shared subscriptions got or lost its connection.
    pub(super) fn members_online(&mut self, key: Key, online: bool) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let shared = session.filters.iter().filter(|id| id.is_shared());
        for filter in shared.map(|id| self.subscriptions.filter(*id)).collect::<Vec<_>>() {
            let (before, total) = self.routes.members(&filter, self.place.shard);
            let after = if online { before + 1 } else { before.saturating_sub(1) };
            self.tell_members(&filter, after, total, NO_TICKET);
        }
    }

    /// Makes this shard's member count known to all shards. Gives the number of letters sent.
    pub(super) fn tell_members(
        &mut self,
        filter: &Filter,
        online: u32,
        total: u32,
        ticket: Option<Ticket>,
    ) -> u32 {
        self.routes.set_members(filter, self.place.shard, online, total);
        let mut letters = 0;
        for shard in self.place.others() {
            let filter = filter.clone();
            self.effects.mail(shard, Mail::Members { filter, online, total, ticket });
            letters += 1;
        }
        letters
    }

    /// Gives the messages that a session without connection holds for its groups to other members.
    /// Those that lie in the log alone stay with it until they have been read: a crash finds them
    /// there. Gives their sequence numbers.
    pub(super) fn hand_on_shared(&mut self, key: Key, now: Millis) -> Vec<u64> {
        let routes = &self.routes;
        let Some(session) = self.clients.sessions.get_mut(key) else { return Vec::new() };
        let ending = session.filters.is_empty();
        let mut away = Vec::new();
        let to_others = |filter: &Filter| {
            // Members that are away too are no better place, unless this one is going for good.
            if ending { routes.share_of(filter).is_some() } else { routes.any_online(filter) }
        };
        let taken = session.outbound.take_shared(to_others, |slot| {
            away.extend(slot.share().map(|filter| {
                let (filter, sequence) = (filter.clone(), slot.sequence);
                ((slot.lsn, slot.at), Purpose::HandOn { filter, session: key, sequence })
            }));
        });
        for slot in taken {
            let Some(filter) = slot.share().cloned() else { continue };
            let done = (slot.is_logged()).then_some((key, slot.sequence));
            if let Some(message) = slot.message {
                self.hand_on(&filter, &message, done, now);
            }
        }
        let sequence = |purpose: &Purpose| match purpose {
            Purpose::HandOn { sequence, .. } | Purpose::Deliver(_, sequence) => *sequence,
        };
        let sequences = away.iter().map(|(_, purpose)| sequence(purpose)).collect();
        for (place, purpose) in away {
            self.fetch(place, purpose);
        }
        sequences
    }

    /// A message that another member may get has come from the log.
    pub(super) fn hand_on_fetched(
        &mut self,
        filter: &Filter,
        delivery: (Key, u64),
        message: &Arc<Message>,
        now: Millis,
    ) {
        let (key, sequence) = delivery;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        if session.connection.is_some() {
            // The client is back.
            session.outbound.fetched(sequence, Arc::clone(message));
            return self.progress(key, now);
        }
        if !session.ended && !self.routes.any_online(filter) {
            return session.outbound.leave_away(sequence);
        }
        if session.outbound.take_fetched(sequence) {
            self.hand_on(filter, message, Some(delivery), now);
        }
        self.end_if_empty(key);
    }

    /// A message that another member would get cannot be read. A session that has ended has no
    /// client who could come back for it.
    pub(super) fn leave_unreadable(&mut self, key: Key, sequence: u64) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        session.outbound.leave_away(sequence);
        if session.ended && session.outbound.take_fetched(sequence) {
            self.clients.counters.drop(DropCause::NoMember);
            self.end_if_empty(key);
        }
    }

    /// Gives one message of a shared subscription to another member.
    pub(super) fn hand_on(
        &mut self,
        filter: &Filter,
        message: &Arc<Message>,
        done: Option<(Key, u64)>,
        now: Millis,
    ) {
        // [MQTT-3.3.2-5]
        if message.is_expired(now) {
            self.clients.counters.drop(DropCause::Expired);
        } else if let Some(share) = self.routes.share_of(filter) {
            let publication = message.publication();
            if done.is_some() {
                self.hand_on_logged(share, &publication, now);
            } else {
                let mut fanned = Fanned::default();
                self.give_share(share, &publication, NO_TICKET, &mut fanned, now);
                self.commit(&publication, Source::Plain, None);
            }
        } else {
            self.clients.counters.drop(DropCause::NoMember);
        }
        if let Some((key, sequence)) = done {
            // After what the other member was given: a crash in between repeats, and loses nothing.
            self.record_done(key, sequence);
        }
    }
}
