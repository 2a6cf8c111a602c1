//! The state of all shards, for another number of shards.
//!
//! Promise: each session, with its queue in the same order and under the same sequence numbers, and
//! each retained message comes to the shard that its name belongs to now; no delivery is lost or
//! made twice. Nothing here touches a file: [`rehome`] plans, and [`Plan::write`] gives the records
//! of each new log, reading message bodies from the old logs one at a time.
//! Not here: new files beside the old ones, and the switch from one to the other.
//!
//! ```text
//!  old images ─rehome─▶ Plan ─write(0)─▶ log 0 ┐
//!                            ─write(1)─▶ log 1 ├ all synced ─▶ switch ─▶ start reads the new logs
//!                            ─ …               ┘
//! ```
//!
//! What shards had still to do for each other is done here: a part of an exchange that its shard
//! has not applied is addressed to the sessions of that shard, which live in several shards now. So
//! it is delivered to them, as that shard would have done, and no exchange is left. New logs begin
//! without exchanges, and count them anew.

mod settle;
#[cfg(test)]
mod tests;

use crate::codec::Qos;
use crate::session::{Message, State};
use crate::store::image::{Image, Place, SessionImage, Waiting};
use crate::store::record::{Entry, Publish, Record, SessionHead, SessionNumber, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Deliveries in one record are cut into several records above this many bytes of entries.
const ENTRIES_BYTES_MAX: usize = 256 * 1024;

/// What decides who belongs where.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    /// Number of shards from now on; not 0.
    pub shards: usize,
    /// The shard of a client identifier or topic name, less than `shards`.
    pub home: &'a dyn Fn(&str) -> usize,
    /// May this session receive messages of this topic.
    pub may_receive: &'a dyn Fn(&SessionHead, &str) -> bool,
}

/// What was decided about exchanges that were not finished, and what could not be kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Sessions.
    pub sessions: usize,
    /// Deliveries that were not over.
    pub waiting: usize,
    /// Retained messages.
    pub retained: usize,
    /// Deliveries made of unfinished exchanges.
    pub delivered: usize,
    /// Shared subscriptions for which no member was left that can take the message.
    pub no_member: usize,
    /// Dropped: sessions whose client identifier another old shard has too. Not 0 only if logs were
    /// repaired by an operator.
    pub doubled: usize,
}

/// What each shard's new log begins with.
#[derive(Debug)]
pub struct Plan {
    targets: Vec<Target>,
    clock_ms: u64,
    moves: Moves,
}

/// One shard's part of the plan.
#[derive(Debug, Default)]
struct Target {
    /// In the order of their new numbers, from 0 on.
    sessions: Vec<Moved>,
    retained: Vec<Arc<Message>>,
    /// Deliveries of exchanges; session numbers are the new ones.
    given: Vec<Given>,
}

#[derive(Debug)]
struct Moved {
    /// Shard in whose log the messages of the queue lie.
    old_shard: usize,
    head: SessionHead,
    image: SessionImage,
    queue: Vec<Waiting>,
}

#[derive(Debug)]
struct Given {
    message: Arc<Message>,
    entries: Vec<Entry>,
}

/// Plans where everything goes. `images` are those of all old shards, in their order.
///
/// Memory: that of the images, and while exchanges are settled an index of the subscriptions of one
/// shard.
///
/// # Panics
/// If `layout` names no shard, or a shard that it has not.
pub fn rehome(mut images: Vec<Image>, layout: &Layout<'_>) -> Plan {
    assert!(layout.shards > 0, "somebody must have the sessions");
    for image in &mut images {
        image.finish();
    }
    let mut moves = Moves::default();
    let given = settle::settle(&mut images, layout, &mut moves);
    let mut plan = Plan { targets: Vec::new(), clock_ms: 0, moves };
    plan.targets.resize_with(layout.shards, Target::default);
    let mut numbers = BTreeMap::new();
    let mut clients = BTreeSet::new();
    for (old_shard, image) in images.into_iter().enumerate() {
        plan.clock_ms = plan.clock_ms.max(image.clock_ms);
        for (number, mut session) in image.sessions {
            let head = session.head.take().expect("finish() drops sessions without a head");
            let ended = head.client.as_str().is_empty();
            if !clients.insert(head.client.clone()) && !ended {
                plan.moves.doubled += 1;
                continue;
            }
            let new_shard = (layout.home)(head.client.as_str());
            let new_number = plan.take_in(new_shard, old_shard, head, session);
            numbers.insert((old_shard, number), (new_shard, new_number));
        }
        for retained in image.retained.into_values() {
            let target = plan.target((layout.home)(retained.message.topic()));
            target.retained.push(retained.message);
            plan.moves.retained += 1;
        }
    }
    for (message, entries) in given {
        plan.give(&message, entries, &numbers);
    }
    plan
}

/// New shard and number of a session, by old shard and number.
type Numbers = BTreeMap<(usize, SessionNumber), (usize, SessionNumber)>;

impl Plan {
    /// What was decided.
    pub fn moves(&self) -> Moves {
        self.moves
    }

    fn target(&mut self, shard: usize) -> &mut Target {
        self.targets.get_mut(shard).expect("the layout names shards that it has")
    }

    fn take_in(
        &mut self,
        new_shard: usize,
        old_shard: usize,
        mut head: SessionHead,
        mut image: SessionImage,
    ) -> SessionNumber {
        let queue = std::mem::take(&mut image.queue).into_sorted();
        self.moves.sessions += 1;
        self.moves.waiting += queue.len();
        let target = self.target(new_shard);
        head.session = SessionNumber(target.sessions.len() as u64);
        let number = head.session;
        target.sessions.push(Moved { old_shard, head, image, queue });
        number
    }

    /// One record per new shard for the deliveries of an exchange. Those to sessions that were
    /// dropped are dropped with them.
    fn give(&mut self, message: &Arc<Message>, entries: Vec<(usize, Entry)>, numbers: &Numbers) {
        let mut by_shard: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
        for (old_shard, mut entry) in entries {
            if let Some((new_shard, number)) = numbers.get(&(old_shard, entry.session)) {
                entry.session = *number;
                by_shard.entry(*new_shard).or_default().push(entry);
                self.moves.delivered += 1;
            }
        }
        for (new_shard, entries) in by_shard {
            let message = Arc::clone(message);
            self.target(new_shard).given.push(Given { message, entries });
        }
    }

    /// Gives `put` the records of the new log of `shard`, in order, and ends with the first error.
    /// `body` reads the message of the record at that place in the log of that old shard; it is
    /// asked once for each record and new shard, in the order of the old log.
    ///
    /// # Errors
    /// That of `body` or `put`.
    pub fn write<E>(
        &self,
        shard: usize,
        mut body: impl FnMut(usize, Place) -> Result<Arc<Message>, E>,
        mut put: impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(target) = self.targets.get(shard) else { return Ok(()) };
        if self.clock_ms > 0 {
            put(&Record::Clock { wall_ms: self.clock_ms })?;
        }
        for moved in &target.sessions {
            moved.write(&mut put)?;
        }
        target.write_queues(&mut body, &mut put)?;
        for given in &target.given {
            write_entries(&given.message, given.entries.clone(), &mut put)?;
        }
        for message in &target.retained {
            let (message, entries) = (Arc::clone(message), Vec::new());
            let from = Source::Plain;
            let publish = Publish { message, from, retained: true, entries, onward: None };
            put(&Record::Publish(publish))?;
        }
        Ok(())
    }
}

impl Moved {
    /// Everything but the messages.
    fn write<E>(&self, put: &mut impl FnMut(&Record) -> Result<(), E>) -> Result<(), E> {
        let session = self.head.session;
        put(&Record::Session(self.head.clone()))?;
        if self.image.will.is_some() {
            put(&Record::Will { session, will: self.image.will.clone() })?;
        }
        for (filter, (options, identifier)) in &self.image.filters {
            let (filter, options, identifier) = (filter.clone(), *options, *identifier);
            put(&Record::Subscribe { session, filter, options, identifier })?;
        }
        for id in &self.image.received {
            put(&Record::Received { session, id: *id })?;
        }
        for waiting in self.queue.iter().filter(|waiting| waiting.state == State::Released) {
            put(&Record::Owned { session, sequence: waiting.sequence })?;
        }
        Ok(())
    }
}

impl Target {
    /// The messages of all queues, each once for all sessions that wait for it.
    fn write_queues<E>(
        &self,
        body: &mut impl FnMut(usize, Place) -> Result<Arc<Message>, E>,
        put: &mut impl FnMut(&Record) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut waiting: Vec<(usize, &Waiting, SessionNumber)> = Vec::new();
        for moved in &self.sessions {
            let with_message = moved.queue.iter().filter(|one| one.state != State::Released);
            waiting.extend(with_message.map(|one| (moved.old_shard, one, moved.head.session)));
        }
        waiting.sort_by_key(|(old_shard, one, session)| (*old_shard, one.place.lsn, *session));
        let same = |a: &(usize, &Waiting, _), b: &(usize, &Waiting, _)| {
            (a.0, a.1.place.lsn) == (b.0, b.1.place.lsn)
        };
        for run in waiting.chunk_by(same) {
            let Some((old_shard, first, _)) = run.first() else { continue };
            let message = body(*old_shard, first.place)?;
            let entries = run.iter().map(|(_, one, session)| entry(one, *session));
            write_entries(&message, entries.collect(), put)?;
        }
        Ok(())
    }
}

fn entry(waiting: &Waiting, session: SessionNumber) -> Entry {
    let extra = waiting.extra.as_deref();
    Entry {
        session,
        sequence: waiting.sequence,
        qos: waiting.qos,
        retain: waiting.retain,
        sent: waiting.state == State::Sent,
        identifiers: extra.map(|extra| extra.identifiers.clone()).unwrap_or_default(),
        share: extra.and_then(|extra| extra.share.clone()),
    }
}

/// One record, or several if the entries of several old shards would make it too long.
fn write_entries<E>(
    message: &Arc<Message>,
    entries: Vec<Entry>,
    put: &mut impl FnMut(&Record) -> Result<(), E>,
) -> Result<(), E> {
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let mut part = Vec::new();
        let mut bytes = 0;
        while let Some(entry) = entries.next_if(|_| bytes < ENTRIES_BYTES_MAX) {
            let share_bytes = entry.share.as_ref().map_or(0, |share| share.as_str().len());
            bytes += 24 + 4 * entry.identifiers.len() + share_bytes;
            debug_assert!(entry.qos != Qos::AtMostOnce, "QoS 0 is not kept");
            part.push(entry);
        }
        let (message, from) = (Arc::clone(message), Source::Plain);
        let publish = Publish { message, from, retained: false, entries: part, onward: None };
        put(&Record::Publish(publish))?;
    }
    Ok(())
}
