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
use super::fanout::NO_TICKET;
use super::mail::{Mail, Ticket};
use super::slots::Key;
use crate::access::{Action, Verdict, authorise};
use crate::codec::Qos;
use crate::session::{DropCause, Grant, Message, Publication};
use crate::store::{Record, Source};
use crate::topic::{Filter, Match, TopicName};
use shards::Millis;
use std::num::NonZeroU32;
use std::sync::Arc;

/// What became of a message for a group on this shard.
pub(super) enum Outcome {
    Taken,
    /// Another shard has a better place for it.
    Elsewhere(usize, Hop),
    Nobody,
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
    /// Gives a message to a shared subscription. Says whether a member here takes it, and how many
    /// letters will be settled.
    pub(super) fn give_share(
        &mut self,
        share: u32,
        message: &Publication<'_>,
        ticket: Option<Ticket>,
        now: Millis,
    ) -> (bool, u32) {
        match self.choose_member(share, message, now) {
            Some((filter, Outcome::Elsewhere(to, hop))) => {
                self.forward_shared(to, filter, Arc::clone(message.owned()), ticket, hop);
                (false, 1)
            }
            Some((_, Outcome::Taken)) => (true, 0),
            Some((_, Outcome::Nobody)) | None => (false, 0),
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

    fn forward_shared(
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
            Outcome::Nobody => self.settle(ticket, false),
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
            !shard.guarded || shard.member_may(member.client, message.topic)
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
        self.clients.counters.drop(DropCause::NoMember);
        Outcome::Nobody
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
        if !session.filters.iter().any(|filter| filter.share().is_some()) {
            return;
        }
        let shared = session.filters.iter().filter(|filter| filter.share().is_some());
        for filter in shared.cloned().collect::<Vec<_>>() {
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
    pub(super) fn hand_on_shared(&mut self, key: Key, now: Millis) {
        let routes = &self.routes;
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let ending = session.filters.is_empty();
        let taken = session.outbound.take_shared(|filter| {
            // Members that are away too are no better place, unless this one is going for good.
            if ending { routes.share_of(filter).is_some() } else { routes.any_online(filter) }
        });
        for slot in taken {
            let Some(filter) = slot.share().cloned() else { continue };
            let done = (slot.is_logged()).then_some((key, slot.sequence));
            match slot.message {
                Some(message) => self.hand_on(&filter, &message, done, now),
                None => self.fetch((slot.lsn, slot.at), Purpose::HandOn { filter, done }),
            }
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
                self.give_share(share, &publication, NO_TICKET, now);
                self.commit(&publication, Source::Plain, None);
            }
        } else {
            self.clients.counters.drop(DropCause::NoMember);
        }
        if let Some((key, sequence)) = done {
            // After what the other member was given: a crash in between repeats, and loses nothing.
            self.record(key, |session| Record::Done { session, sequence });
        }
    }
}
