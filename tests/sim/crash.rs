//! Power fails: every shard's disk keeps what was synced, and of the rest what it likes;
//! connections, letters and memory are gone. Or the process ends alone, and what was written stays.
//! What a start reads is held against what was written, and what comes back of it against what
//! clients were promised (the invariants of `docs/durability.md`), and what no promise fixed is
//! taken over by the shadow.

use crate::drive::{Fall, Read};
use crate::plant::Plant;
use crate::shadow::{MsgId, Session, Shadow, Sub, message_id};
use crate::wire::Stage;
use crate::world::World;
use culex::session::State;
use culex::shard::{Place, Shard};
use culex::store::image::{self, Queue, SessionImage};
use culex::store::{self, Image, Record, SessionNumber, Source};
use shards::Millis;
use std::collections::{BTreeMap, BTreeSet};

/// Records of one shard by position.
pub(crate) type Log = BTreeMap<u64, Record>;
/// Sessions of the shadow, by shard and number in the log.
pub(crate) type Numbers = BTreeMap<(usize, SessionNumber), usize>;

/// Grace of wills after a start.
const WILL_GRACE_MS: u64 = 10_000;

impl World {
    /// The broker ends, with the machine or alone.
    pub(crate) fn crash(&mut self) {
        let how = if self.restarts.chance(40) { Fall::Process } else { Fall::Power };
        self.next_step();
        let count = self.shards.len();
        let mut images = Vec::new();
        for shard in 0..count {
            let read = match self.drives[shard].restart(how) {
                Ok(read) => read,
                Err(wrong) => return self.shadow.fail(format!("shard {shard}: {wrong}")),
            };
            let read = self.planted.on_scan(read, &self.logs[shard]);
            let last = read.last().map_or(0, |(lsn, ..)| *lsn);
            let first = read.first().map_or(0, |(lsn, ..)| *lsn);
            self.note(|| format!("{how:?} ends: {shard} keeps records {first} to {last}"));
            let released = self.drives[shard].released;
            let durable = self.shadow.durable[shard];
            if let Some(wrong) = differs(&self.logs[shard], &read, (released, durable)) {
                return self.shadow.fail(format!("shard {shard}: {wrong}"));
            }
            self.logs[shard].split_off(&(last + 1));
            if let Some((first, ..)) = read.first() {
                self.logs[shard] = self.logs[shard].split_off(first);
                self.drives[shard].released = first - 1;
            }
            images.push(image_of(read, self.planted.plant));
            self.pending[shard].clear();
            self.places[shard].clear();
            for to in 0..count {
                self.outboxes[shard][to].clear();
                self.mailboxes[shard][to].clear();
            }
        }
        self.cleaning.restart();
        image::fence(&mut images);
        for at in 0..self.conns.len() {
            if self.conns[at].stage != Stage::Gone {
                self.cut(at, 0);
                self.conns[at].stage = Stage::Gone;
            }
        }
        // A number that is not in the log is free.
        self.numbers.retain(|(shard, number), _| images[*shard].sessions.contains_key(number));
        self.shadow.crashed(&images, &self.logs, &self.numbers);
        for (shard, image) in images.into_iter().enumerate() {
            let place = Place { shard, shards: count };
            self.shards[shard] = Shard::new(self.swarm.settings.clone(), place, self.now);
            self.lsn[shard] = self.drives[shard].log.next_lsn().0 - 1;
            self.shadow.durable[shard] = self.lsn[shard];
            self.dropped[shard] = [0; 11];
            self.forget_waiting(shard);
            self.ready[shard] = false;
            self.shadow.disk_full[shard] = false;
            self.shards[shard].restore(image, self.lsn[shard], self.now);
            self.collect(shard);
        }
    }
}

/// What was read is the beginning of what was written, and at least what was durable, but for
/// records of segments that were released.
fn differs(written: &Log, read: &[Read], (released, durable): (u64, u64)) -> Option<String> {
    let first = read.first().map_or(u64::MAX, |(lsn, ..)| *lsn).min(released + 1);
    let pairs = written.range(first..).zip(read);
    let same = |((lsn, record), (read_lsn, _, read)): &((&u64, &Record), &Read)| {
        *lsn == read_lsn && *record == read
    };
    let equal = pairs.take_while(same).count();
    if let Some((lsn, ..)) = read.get(equal) {
        let there = written.range(first..).nth(equal);
        return Some(format!("record {lsn} was read where {there:?} was written"));
    }
    let next = written.range(first..).map(|(lsn, _)| lsn).nth(equal).filter(|lsn| **lsn <= durable);
    next.map(|lsn| format!("record {lsn} was durable and is gone"))
}

fn image_of(records: Vec<Read>, plant: Plant) -> Image {
    let mut image = Image::default();
    for (lsn, offset, mut record) in records {
        let place = store::Place { lsn, offset, bytes: 0 };
        if plant == Plant::ReceivedForgotten
            && let Record::Publish(publish) = &mut record
        {
            publish.from = Source::Plain;
        }
        image.apply(place, record);
    }
    image.finish();
    image
}

impl Shadow {
    fn crashed(&mut self, images: &[Image], logs: &[Log], numbers: &Numbers) {
        for link in 0..self.links.len() {
            if self.links[link].live {
                let index = self.links[link].session.unwrap();
                self.part(link, index);
                self.sessions[index].link = None;
            }
        }
        for write in self.writes.values_mut().flatten().filter(|write| write.done.is_none()) {
            write.doubtful = true;
        }
        for (id, msg) in self.messages.iter_mut().enumerate() {
            // What lay in a segment that was released was durable.
            let is_there = |at: &(usize, u64)| {
                let first = logs[at.0].first_key_value().map_or(0, |(lsn, _)| *lsn);
                at.1 < first || logs[at.0].contains_key(&at.1)
            };
            let (kept, gone): (Vec<_>, Vec<_>) =
                msg.records.iter().partition(|(at, _)| is_there(at));
            msg.records = kept;
            msg.onward = msg.onward.filter(is_there);
            msg.excused |= msg.will && msg.onward.is_none();
            // Its origin sends it again to a shard that has lost it, with what it delivered.
            for ((shard, _), _) in gone.iter().filter(|_| msg.onward.is_some()) {
                for session in self.sessions.iter_mut().filter(|session| session.home == *shard) {
                    let again = usize::from(session.copies.contains_key(&id));
                    *session.repeats.entry(id).or_default() += again;
                }
            }
        }
        let mut found = BTreeMap::new();
        for (shard, image) in images.iter().enumerate() {
            for (number, session) in &image.sessions {
                if session.head.as_ref().is_some_and(|head| head.client.as_str().is_empty()) {
                    self.left_over(session, &logs[shard]);
                    continue;
                }
                found.insert(numbers[&(shard, *number)], session);
            }
        }
        for index in self.current.values().copied().collect::<Vec<_>>() {
            if !found.contains_key(&index) {
                let session = &mut self.sessions[index];
                session.will = None;
                if session.pledged {
                    let text = format!("[I8] the session of {} is lost", session.client);
                    self.fail(text);
                }
                self.end(index);
            }
        }
        for (index, image) in found {
            let session = &mut self.sessions[index];
            if session.ended.take().is_some() && session.replaced {
                let text = format!("[I8] a session of {} that was reset is back", session.client);
                self.fail(text);
            }
            self.current.insert(self.sessions[index].client.clone(), index);
            self.recovered(index, image, &logs[self.sessions[index].home]);
        }
    }

    /// A session that has ended holds messages for other members of its groups.
    fn left_over(&mut self, session: &SessionImage, log: &Log) {
        for waiting in session.queue.iter() {
            if let Some(Record::Publish(publish)) = log.get(&waiting.place.lsn)
                && let Some(id) = message_id(publish.message.payload())
            {
                self.messages[id].lost_unacked += 1;
            }
        }
    }

    /// A session is back: what was promised is there, the rest is as the log has it.
    fn recovered(&mut self, index: usize, image: &SessionImage, log: &Log) {
        let (step, now) = (self.step, self.now);
        let session = &mut self.sessions[index];
        let mut wrong = recover_filters(session, image, step);
        let (lost, fault) = recover_received(session, image);
        wrong = wrong.or(fault);
        let (again, shared, fault) = recover_queue(session, &image.queue, log);
        wrong = wrong.or(fault);
        let will = image.will.as_ref().map(|will| {
            (message_id(will.message.payload()).expect("wills carry a number"), will.delay_s)
        });
        let published_in_vain = will.filter(|_| session.will.is_none());
        session.will = will;
        session.will_due = None;
        session.expires_at = None;
        let head = image.head.as_ref().expect("the image is finished");
        session.expiry_s = head.expiry_s;
        session.away_since = Some(Millis(head.offline_since_ms.unwrap_or(now.0)));
        for id in again {
            *session.repeats.entry(id).or_default() += 1;
        }
        let client = session.client.clone();
        for id in lost {
            // One that was refused after all has no identifier, and some have it all the same.
            let msg = &mut self.messages[id];
            msg.lost += usize::from(msg.onward.is_none());
        }
        for id in shared {
            self.messages[id].lost_unacked += 1;
        }
        if let Some((id, _)) =
            published_in_vain.filter(|(id, _)| self.messages[*id].begun().is_some())
        {
            self.messages[id].lost += 1;
        }
        if let Some(wrong) = wrong {
            self.fail(format!("{client}: {wrong}"));
        }
    }

    /// A shard goes on: wills and expiry of its sessions begin to count.
    pub(crate) fn woke(&mut self, shard: usize) {
        let now = self.now;
        let mine: Vec<usize> =
            self.current.values().copied().filter(|at| self.sessions[*at].home == shard).collect();
        for index in mine {
            let session = &mut self.sessions[index];
            let Some(since) = session.away_since.take().filter(|_| session.link.is_none()) else {
                continue;
            };
            let after = |seconds: u32| since.after(u64::from(seconds) * 1000).max(now);
            let never = session.expiry_s == crate::shadow::NEVER;
            if !never && after(session.expiry_s) <= now {
                self.end(index);
                continue;
            }
            session.will_due =
                session.will.map(|(_, delay_s)| after(delay_s).max(now.after(WILL_GRACE_MS)));
            if !never {
                session.expires_at = Some(after(session.expiry_s));
            }
        }
    }
}

/// [I6] Subscriptions are the acknowledged ones, less those whose end was acknowledged.
fn recover_filters(session: &mut Session, image: &SessionImage, step: u64) -> Option<String> {
    let mut wrong = None;
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    for (at, sub) in session.subs.iter().enumerate() {
        known.insert(sub.filter.clone(), at);
    }
    let in_image: BTreeMap<&str, _> =
        image.filters.iter().map(|(filter, terms)| (filter.as_str(), terms)).collect();
    for (filter, at) in &known {
        let sub = &mut session.subs[*at];
        let found = in_image.get(filter.as_str());
        match (found, sub.ended) {
            (None, None) if sub.acked.is_some() => {
                wrong = Some(format!("[I6] the subscription {filter} is lost"));
            }
            (None, None) => sub.ended = Some(step),
            (None, Some(_)) => {}
            (Some((options, identifier)), None) => {
                let identifier = (*identifier > 0).then_some(*identifier);
                let (_, last_options, last_identifier) = sub.versions.last().unwrap();
                if (last_options, *last_identifier) != (options, identifier) {
                    sub.versions.push((step, *options, identifier));
                }
                sub.acked.get_or_insert(step);
            }
            (Some(_), Some(_)) if sub.end_acked => {
                wrong = Some(format!("[I6] the subscription {filter} is back"));
            }
            (Some((options, identifier)), Some(_)) => {
                let identifier = (*identifier > 0).then_some(*identifier);
                session.subs.push(Sub {
                    filter: filter.clone(),
                    versions: vec![(step, *options, identifier)],
                    acked: Some(step),
                    ended: None,
                    end_acked: false,
                });
            }
        }
    }
    if let Some(filter) = in_image.keys().find(|filter| !known.contains_key(**filter)) {
        wrong = Some(format!("[I6] nobody subscribed to {filter}"));
    }
    wrong
}

/// [I3] Identifiers are those of accepted messages, less those that were released. Gives messages
/// whose acceptance was lost.
fn recover_received(session: &mut Session, image: &SessionImage) -> (Vec<MsgId>, Option<String>) {
    let in_image: BTreeSet<u16> = image.received.iter().map(|id| id.get()).collect();
    let (mut lost, mut wrong) = (Vec::new(), None);
    for (id, msg) in std::mem::take(&mut session.received) {
        if in_image.contains(&id) {
            session.received.insert(id, msg);
        } else if session.pubrec_sent.remove(&id) {
            wrong = Some(format!("[I3] identifier {id} of m{msg} is forgotten"));
        } else {
            lost.push(msg);
        }
    }
    let released = std::mem::take(&mut session.released);
    for id in in_image {
        if session.received.contains_key(&id) {
            continue;
        }
        match released.get(&id) {
            Some(msg) => {
                session.received.insert(id, *msg);
                session.pubrec_sent.insert(id);
            }
            None => wrong = Some(format!("[I3] identifier {id} is held again")),
        }
    }
    (lost, wrong)
}

/// [I2] What left at `QoS` 2 is there under its identifier, as far as its client has got. Gives
/// messages that may come again, and those of shared subscriptions.
fn recover_queue(
    session: &mut Session,
    queue: &Queue,
    log: &Log,
) -> (Vec<MsgId>, Vec<MsgId>, Option<String>) {
    let (mut again, mut shared, mut wrong) = (Vec::new(), Vec::new(), None);
    let mut states = BTreeMap::new();
    for waiting in queue.iter() {
        let id = u16::try_from(waiting.sequence % 65_535 + 1).unwrap();
        states.insert(id, waiting.state);
        if waiting.state == State::Released {
            continue;
        }
        let Some(Record::Publish(publish)) = log.get(&waiting.place.lsn) else {
            wrong = Some(format!("delivery {} lies nowhere", waiting.sequence));
            continue;
        };
        let Some(msg) = message_id(publish.message.payload()) else { continue };
        if !session.flights.contains_key(&id) && session.copies.contains_key(&msg) {
            again.push(msg);
        }
        if waiting.extra.as_ref().is_some_and(|extra| extra.share.is_some()) {
            shared.push(msg);
        }
    }
    session.flights.retain(|id, flight| {
        flight.crashed = true;
        let state = states.get(id);
        match (flight.qos, state) {
            // Who guesses identifiers ends deliveries before he has read them.
            (2, None) if session.hostile => false,
            (2, None) => {
                wrong = Some(format!("[I2] identifier {id} of m{} is lost", flight.msg));
                false
            }
            (2, Some(State::Released)) => true,
            (2, Some(_)) if flight.pubrel_sent => {
                wrong = Some(format!("[I2] m{} would come after its PUBREL", flight.msg));
                true
            }
            (2, Some(_)) => {
                flight.released = false;
                true
            }
            (_, state) => state.is_some(),
        }
    });
    (again, shared, wrong)
}
