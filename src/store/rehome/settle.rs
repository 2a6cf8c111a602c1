//! Finishes what shards had still to do for each other.

use super::{Layout, Moves};
use crate::codec::Qos;
use crate::session::Message;
use crate::store::image::{Image, Place, Retained};
use crate::store::record::{Entry, Part, SessionNumber};
use crate::topic::{Filter, Match, Subscriptions, TopicName};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Deliveries of a message, each with the old shard of its session.
type Deliveries = (Arc<Message>, Vec<(usize, Entry)>);

/// The subscriptions of one old shard.
struct Index {
    subscriptions: Subscriptions,
    /// Session of each client index.
    numbers: Vec<SessionNumber>,
}

impl Index {
    fn new(image: &Image) -> Index {
        let mut subscriptions = Subscriptions::new();
        let mut numbers = Vec::with_capacity(image.sessions.len());
        for (client, (number, session)) in (0u32..).zip(&image.sessions) {
            numbers.push(*number);
            for (filter, (options, identifier)) in &session.filters {
                let identifier = NonZeroU32::new(*identifier);
                subscriptions.subscribe(filter, client, *options, identifier);
            }
        }
        Index { subscriptions, numbers }
    }

    fn number(&self, one: &Match) -> SessionNumber {
        let index = usize::try_from(one.client).expect("u32 fits");
        *self.numbers.get(index).expect("each client index has a session")
    }
}

/// Takes all exchanges out of the images and does the parts that their shards have not applied:
/// retained messages in the images, deliveries as what is returned. Sequence numbers are those of
/// the sessions, which go on after them.
///
/// Exchanges are done in the order of their numbers, so messages of one publisher stay in order.
pub(super) fn settle(
    images: &mut [Image],
    layout: &Layout<'_>,
    moves: &mut Moves,
) -> Vec<Deliveries> {
    let mut open = Vec::new();
    for (origin, image) in (0u16..).zip(images.iter_mut()) {
        for (number, exchange) in std::mem::take(&mut image.exchanges) {
            open.push((origin, number, exchange));
        }
    }
    let mut all = Vec::new();
    if open.is_empty() {
        return all;
    }
    let mut indexes: Vec<Index> = images.iter().map(Index::new).collect();
    for (origin, number, exchange) in open {
        let mut entries = Vec::new();
        for part in exchange.parts {
            let shard = usize::from(part.shard);
            let applied = images.get(shard).and_then(|image| image.applied.get(&origin));
            // The shard has done it; that it is settled was not durable at the origin.
            if applied.is_some_and(|applied| *applied >= number) {
                continue;
            }
            let mut work = Work {
                images: &mut *images,
                indexes: &mut indexes,
                layout,
                moves: &mut *moves,
                entries: &mut entries,
            };
            work.part(shard, &part, &exchange.message);
            if part.retain {
                retain(images, shard, &exchange.message, exchange.place);
            }
        }
        if !entries.is_empty() {
            all.push((exchange.message, entries));
        }
    }
    all
}

/// [MQTT-3.3.1-6] Without payload it deletes.
fn retain(images: &mut [Image], shard: usize, message: &Arc<Message>, place: Place) {
    let Some(image) = images.get_mut(shard) else { return };
    if message.payload().is_empty() {
        image.retained.remove(message.topic());
    } else {
        let message = Arc::clone(message);
        let topic = Arc::clone(message.shared_topic());
        image.retained.insert(topic, Retained { message, place });
    }
}

struct Work<'a, 'l> {
    images: &'a mut [Image],
    indexes: &'a mut [Index],
    layout: &'a Layout<'l>,
    moves: &'a mut Moves,
    entries: &'a mut Vec<(usize, Entry)>,
}

/// Terms of one delivery.
struct Terms {
    qos: Qos,
    retain: bool,
    identifiers: Box<[u32]>,
    share: Option<Filter>,
}

impl Work<'_, '_> {
    fn part(&mut self, shard: usize, part: &Part, message: &Arc<Message>) {
        if part.direct {
            self.direct(shard, message);
        }
        for share in &part.shares {
            self.share(shard, share, message);
        }
    }

    /// To the sessions of that shard that match, once each, with merged terms.
    /// [MQTT-3.3.4-2] [MQTT-3.3.4-4]
    fn direct(&mut self, shard: usize, message: &Arc<Message>) {
        let Some(index) = self.indexes.get_mut(shard) else { return };
        let topic = TopicName::trusted(message.topic());
        let found = index.subscriptions.matches(topic);
        for run in found.direct.chunk_by(|a, b| a.client == b.client) {
            let Some(index) = self.indexes.get(shard) else { return };
            let Some(number) = run.first().map(|one| index.number(one)) else { continue };
            if !self.may_receive(shard, number, message) {
                continue;
            }
            let own = self.is_publisher(shard, number, message);
            let mut terms = None;
            // [MQTT-3.8.3-3]
            for one in run.iter().filter(|one| !(own && one.options.no_local)) {
                let (qos, retain, identifiers) =
                    terms.get_or_insert_with(|| (Qos::AtMostOnce, false, Vec::new()));
                *qos = one.options.qos.max(*qos);
                *retain |= message.retain() && one.options.retain_as_published;
                identifiers.extend(one.identifier.map(NonZeroU32::get));
            }
            let Some((qos, retain, identifiers)) = terms else { continue };
            let qos = qos.min(message.qos());
            let identifiers = identifiers.into_boxed_slice();
            self.deliver(shard, number, Terms { qos, retain, identifiers, share: None });
        }
    }

    /// To one member: of the shard that was chosen, or of another one if it has none that can take
    /// the message. The members take turns. [MQTT-4.8.2-4]
    fn share(&mut self, chosen: usize, share: &Filter, message: &Arc<Message>) {
        let others = (0..self.indexes.len()).filter(|other| *other != chosen);
        for shard in std::iter::once(chosen).chain(others.collect::<Vec<_>>()) {
            let Some((number, member)) = self.member(shard, share, message) else { continue };
            let terms = Terms {
                // [MQTT-4.8.2-3]
                qos: member.options.qos.min(message.qos()),
                retain: message.retain() && member.options.retain_as_published,
                identifiers: member.identifier.map(NonZeroU32::get).into_iter().collect(),
                share: Some(share.clone()),
            };
            self.deliver(shard, number, terms);
            return;
        }
        self.moves.no_member += 1;
    }

    fn member(
        &mut self,
        shard: usize,
        filter: &Filter,
        message: &Arc<Message>,
    ) -> Option<(SessionNumber, Match)> {
        let index = self.indexes.get_mut(shard)?;
        let id = index.subscriptions.group_of(filter)?;
        for _ in 0..index.subscriptions.group(id)?.members().len() {
            let index = self.indexes.get_mut(shard)?;
            let one = index.subscriptions.group_mut(id)?.advance();
            let number = index.number(&one);
            // QoS 0 does not wait for a client that is away.
            let waits = one.options.qos.min(message.qos()) != Qos::AtMostOnce;
            if waits && self.may_receive(shard, number, message) {
                return Some((number, one));
            }
        }
        None
    }

    fn may_receive(&self, shard: usize, number: SessionNumber, message: &Message) -> bool {
        let session = self.images.get(shard).and_then(|image| image.sessions.get(&number));
        let head = session.and_then(|session| session.head.as_ref());
        head.is_some_and(|head| (self.layout.may_receive)(head, message.topic()))
    }

    fn is_publisher(&self, shard: usize, number: SessionNumber, message: &Message) -> bool {
        let session = self.images.get(shard).and_then(|image| image.sessions.get(&number));
        let head = session.and_then(|session| session.head.as_ref());
        head.is_some_and(|head| head.client == *message.publisher())
    }

    fn deliver(&mut self, shard: usize, number: SessionNumber, terms: Terms) {
        let Terms { qos, retain, identifiers, share } = terms;
        if qos == Qos::AtMostOnce {
            return;
        }
        let session = self.images.get_mut(shard).and_then(|image| image.sessions.get_mut(&number));
        let Some(head) = session.and_then(|session| session.head.as_mut()) else { return };
        let sequence = head.next_sequence;
        head.next_sequence = sequence.saturating_add(1);
        let (session, sent) = (number, false);
        let entry = Entry { session, sequence, qos, retain, sent, identifiers, share };
        self.entries.push((shard, entry));
    }
}
