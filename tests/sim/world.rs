//! The simulated world: shards, mailboxes, connections, clients and time, in one thread. One event
//! at a time, picked by chance.

mod connections;

use crate::clean::Cleaning;
use crate::client::Client;
use crate::crash::{Log, Numbers};
use crate::drive::Drive;
use crate::plant::{Plant, Planted};
use crate::rng::{Rng, Stream};
use crate::shadow::{MsgId, Shadow, message_id};
use crate::swarm::Swarm;
use crate::wire::{Conn, Stage};
use culex::codec::{self, Packet};
use culex::session::Overflow;
use culex::shard::{Bundle, Effect, Flow, Mail, Place, Purpose, Shard};
use culex::store::{Record, SessionNumber, Source};
use shards::log::Commit;
use shards::{ConnId, Millis};
use std::collections::VecDeque;
use std::sync::Arc;

/// A message waits so long for room in a queue.
const PATIENCE_MS: u64 = 30_000;
/// All points in time are multiples of the resolution of the broker's timers.
pub(crate) const TICK_MS: u64 = 50;

pub(crate) struct World {
    pub swarm: Swarm,
    pub shards: Vec<Shard>,
    /// Letters that wait for room, and letters in the mailbox, from and to.
    pub outboxes: Vec<Vec<VecDeque<Mail>>>,
    pub mailboxes: Vec<Vec<VecDeque<Mail>>>,
    /// Effects of a shard that its turn has not carried out.
    pub pending: Vec<Vec<Effect>>,
    pub lsn: Vec<u64>,
    /// Records of each shard that are not lost, and the sessions in them.
    pub logs: Vec<Log>,
    /// What the logs are written to; none if nothing is recorded.
    pub drives: Vec<Drive>,
    pub cleaning: Cleaning,
    pub numbers: Numbers,
    /// The shard has come back after the last crash.
    pub ready: Vec<bool>,
    pub conns: Vec<Conn>,
    /// Connections of a shard by index; `None` is free.
    pub places: Vec<Vec<Option<usize>>>,
    generation: u32,
    pub clients: Vec<Client>,
    pub shadow: Shadow,
    pub planted: Planted,
    pub now: Millis,
    pub schedule: Rng,
    pub script: Rng,
    pub network: Rng,
    pub faults: Rng,
    pub hostile: Rng,
    /// Which ends of the broker are ends of the process alone.
    pub restarts: Rng,
    pub events: u64,
    pub trace: bool,
    pub dropped: Vec<[u64; 11]>,
    /// Messages that may wait for room on a shard, and since when.
    held_back: Vec<VecDeque<(Millis, MsgId)>>,
}

/// What a call of a shard brought about.
#[derive(Default)]
pub(crate) struct Outcome {
    closed: Vec<usize>,
    /// Log position of the last record of this call; 0 = none.
    lsn: u64,
    /// Sessions whose heads were recorded.
    heads: Vec<SessionNumber>,
    /// The message that was handled waits for room.
    held_back: bool,
}

impl World {
    pub(crate) fn new(seed: u64, plant: Plant, trace: bool) -> World {
        let swarm = Swarm::new(seed);
        let count = swarm.shards;
        let now = Millis(1_000_000);
        let shard = |shard| Shard::new(swarm.settings.clone(), Place { shard, shards: count }, now);
        let settings = &swarm.settings;
        let shadow = Shadow {
            step: 1,
            now,
            subscriptions_max: settings.subscriptions_per_session_max,
            inflight_max: settings.inflight_max,
            expiry_max: settings.session_expiry_s_max,
            rejects: settings.queue.overflow == Overflow::Reject,
            durable: vec![0; count],
            disk_full: vec![false; count],
            ..Shadow::default()
        };
        let boxes = || (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect();
        let mut world = World {
            shards: (0..count).map(shard).collect(),
            outboxes: boxes(),
            mailboxes: boxes(),
            pending: (0..count).map(|_| Vec::new()).collect(),
            lsn: vec![0; count],
            logs: vec![Log::new(); count],
            drives: drives(seed, &swarm, plant),
            cleaning: Cleaning::new(seed, count),
            numbers: Numbers::new(),
            ready: vec![true; count],
            conns: Vec::new(),
            places: vec![Vec::new(); count],
            generation: 0,
            clients: Vec::new(),
            shadow,
            planted: Planted::new(plant, seed),
            now,
            schedule: Rng::new(seed, Stream::Schedule),
            script: Rng::new(seed, Stream::Script),
            network: Rng::new(seed, Stream::Network),
            faults: Rng::new(seed, Stream::Fault),
            hostile: Rng::new(seed, Stream::Hostile),
            restarts: Rng::new(seed, Stream::Restart),
            events: 0,
            trace,
            dropped: vec![[0; 11]; count],
            held_back: vec![VecDeque::new(); count],
            swarm,
        };
        for number in 0..world.swarm.clients + world.swarm.hostile {
            let hostile = number >= world.swarm.clients;
            let client = Client::new(number, &world.swarm, hostile, &mut world.script);
            world.clients.push(client);
        }
        world
    }

    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>6} {:>9} {}", self.shadow.step, self.now.0 - 1_000_000, text());
        }
    }

    // ---- shards ----------------------------------------------------------------------------

    /// Takes what a call of a shard has brought about.
    pub(crate) fn collect(&mut self, shard: usize) -> Outcome {
        self.collect_from(shard, false)
    }

    /// What the cleaner has brought about: records of what was recorded before.
    pub(crate) fn collect_revived(&mut self, shard: usize) {
        self.collect_from(shard, true);
    }

    fn collect_from(&mut self, shard: usize, revived: bool) -> Outcome {
        let mut effects = Vec::new();
        self.shards[shard].take_effects(&mut effects);
        let mut outcome = Outcome::default();
        for effect in effects {
            match effect {
                // Letters may stop between any two messages, so each travels on its own.
                Effect::Mail(to, Mail::Bundle(bundle)) => {
                    for (message, ticket) in bundle.unpack() {
                        let message = Arc::clone(message.owned());
                        let mail = Mail::Forward { message, ticket };
                        self.note(|| format!("  {shard} -> {to} {}", show_mail(&mail)));
                        self.post(shard, to, mail);
                    }
                }
                Effect::Mail(to, mail) => {
                    self.note(|| format!("  {shard} -> {to} {}", show_mail(&mail)));
                    outcome.held_back |= matches!(mail, Mail::HeldBack { .. });
                    self.post(shard, to, mail);
                }
                Effect::Record(record) => {
                    self.lsn[shard] += 1;
                    outcome.lsn = self.lsn[shard];
                    self.note(|| format!("  {shard} records {} {record:?}", outcome.lsn));
                    if let Record::Session(head) = &record {
                        outcome.heads.push(head.session);
                    }
                    if let Some((id, onward, retained)) = message_of(&record).filter(|_| !revived) {
                        let at = (shard, self.lsn[shard]);
                        let msg = &mut self.shadow.messages[id];
                        msg.records.push((at, retained));
                        if onward {
                            msg.onward.get_or_insert(at);
                        }
                    }
                    self.planted.on_record(shard, &record, &mut self.mailboxes);
                    let places = self.drives[shard].append(&record);
                    self.logs[shard].insert(outcome.lsn, record);
                    self.placed(shard, &places);
                }
                Effect::Close(conn) => {
                    if let Some(at) = self.at(shard, conn) {
                        outcome.closed.push(at);
                    }
                    self.pending[shard].push(Effect::Close(conn));
                }
                Effect::Flow(..) | Effect::Fetch { .. } => self.pending[shard].push(effect),
                Effect::Authenticate(..) => unreachable!("nobody is asked who he is"),
            }
        }
        if !self.ready[shard] && self.shards[shard].is_ready() {
            self.ready[shard] = true;
            self.shadow.woke(shard);
        }
        outcome
    }

    /// The log of a shard has taken records.
    fn placed(&mut self, shard: usize, places: &[shards::log::Place]) {
        for place in places {
            let lsn = place.lsn.0;
            assert!(self.logs[shard].contains_key(&lsn), "the log counts otherwise: {lsn}");
            self.shards[shard].note_place(lsn, place.at);
        }
    }

    /// One operation of a shard's disk ends. False if there is none.
    pub(crate) fn disk_step(&mut self, shard: usize) -> bool {
        let Some(drive) = self.drives.get_mut(shard) else { return false };
        if !drive.step() {
            return false;
        }
        if let Some(failure) = drive.log.failure() {
            self.note(|| format!("the log of {shard} fails, and with it the broker: {failure:?}"));
            self.crash();
            return true;
        }
        let settled = drive.log.settled().0;
        if settled > self.shadow.durable[shard] {
            self.durable(shard, settled);
        }
        true
    }

    fn post(&mut self, from: usize, to: usize, mail: Mail) {
        let Some(mail) = self.planted.on_post((from, to), mail, &self.shadow, &mut self.mailboxes)
        else {
            return;
        };
        let outbox = &mut self.outboxes[from][to];
        outbox.push_back(mail);
        self.planted.in_outbox(outbox);
        self.fill(from, to);
    }

    /// Moves letters into a mailbox while it has room.
    fn fill(&mut self, from: usize, to: usize) {
        while self.mailboxes[from][to].len() < self.swarm.mailbox_room {
            let Some(mail) = self.outboxes[from][to].pop_front() else { return };
            self.mailboxes[from][to].push_back(mail);
        }
    }

    /// A mailbox is full, so who publishes here has to wait.
    fn is_blocked(&self, shard: usize) -> bool {
        self.outboxes[shard].iter().any(|outbox| !outbox.is_empty())
    }

    /// Ends what `collect` has begun: the shadow knows of every end, and of every drop.
    fn conclude(&mut self, shard: usize, carried: Option<MsgId>, outcome: &Outcome) {
        if let Some(id) = carried.filter(|_| outcome.held_back) {
            self.held_back[shard].push_back((self.now, id));
        }
        self.conclude_for(shard, &Vec::from_iter(carried), outcome);
    }

    /// The same for one of several messages.
    fn conclude_for(&mut self, shard: usize, carried: &[MsgId], outcome: &Outcome) {
        for link in &outcome.closed {
            self.shadow.lost(*link);
        }
        let dropped = self.shards[shard].counters().dropped;
        let before = std::mem::replace(&mut self.dropped[shard], dropped);
        let grown = |cause: usize| dropped[cause] - before[cause];
        // Queue full, retained store full, no member, disk full, refused: the causes that no client
        // chose.
        let step = self.shadow.step;
        // What a full disk has refused may be repeated, and nothing of that is dropped.
        let taken = |id: &MsgId| {
            let msg = &self.shadow.messages[*id];
            msg.qos == 0 || msg.instances.last() == Some(&step)
        };
        let by_disk = if carried.iter().all(taken) { grown(9) } else { 0 };
        let count = grown(0) + grown(6) + grown(7) + by_disk + grown(10);
        if count == 0 {
            return;
        }
        self.note(|| format!("  {shard} drops {count} of {carried:?}"));
        let mut blamed = false;
        for (id, msg) in self.shadow.messages.iter_mut().enumerate() {
            if carried.contains(&id) || msg.instances.last() == Some(&step) {
                *msg.drops.entry(shard).or_default() += count;
                blamed = true;
            }
        }
        if !blamed {
            self.shadow.other_drops += count;
        }
    }

    /// A shard begins anew.
    pub(crate) fn forget_waiting(&mut self, shard: usize) {
        self.held_back[shard].clear();
    }

    /// Messages that may have waited for room here until now: no longer than their publishers do.
    fn waiting_for_room(&mut self, shard: usize) -> Vec<MsgId> {
        let (now, held_back) = (self.now, &mut self.held_back[shard]);
        held_back.retain(|(since, _)| now <= since.after(2 * PATIENCE_MS));
        held_back.iter().map(|(_, id)| *id).collect()
    }

    pub(crate) fn next_step(&mut self) {
        self.shadow.step += 1;
        self.shadow.now = self.now;
    }

    pub(crate) fn tick(&mut self, shard: usize) {
        if !self.ready[shard] {
            return;
        }
        self.next_step();
        self.note(|| format!("tick {shard}"));
        let waiting = self.waiting_for_room(shard);
        self.shards[shard].tick(self.now);
        let outcome = self.collect(shard);
        self.shadow.tick(shard);
        self.conclude_for(shard, &waiting, &outcome);
        self.after_input(shard);
    }

    pub(crate) fn durable(&mut self, shard: usize, lsn: u64) {
        self.next_step();
        self.note(|| format!("durable {shard} up to {lsn}"));
        self.shadow.durable[shard] = lsn;
        let told =
            if self.planted.plant == Plant::AckBeforeDurable { self.lsn[shard] } else { lsn };
        self.shards[shard].on_durable(told, self.now);
        let places = self.drives[shard].retry();
        self.placed(shard, &places);
        let outcome = self.collect(shard);
        self.conclude(shard, None, &outcome);
        self.after_input(shard);
    }

    /// Delivers the oldest letter of a pair.
    pub(crate) fn deliver(&mut self, from: usize, to: usize) -> bool {
        let Some(mail) = self.mailboxes[from][to].pop_front() else { return false };
        self.fill(from, to);
        self.next_step();
        self.note(|| format!("mail {from} -> {to} {}", show_mail(&mail)));
        let carried = carried(&mail);
        let direct = match &mail {
            Mail::Forward { .. } => true,
            Mail::Exchange { part, .. } => part.direct,
            _ => false,
        };
        if let Some(id) = carried.filter(|_| direct) {
            let step = self.shadow.step;
            self.shadow.messages[id].arrived.insert(to, step);
        }
        let queued = self.shards[to].report().queued;
        let limit = self.swarm.settings.queue.queue_messages_max as u64;
        let Some(mail) =
            self.planted.on_deliver((from, to), mail, queued >= limit, &mut self.mailboxes)
        else {
            return true;
        };
        let mail = match mail {
            // As it was posted.
            Mail::Forward { message, ticket } if self.shadow.step.is_multiple_of(2) => {
                Mail::Bundle(Box::new(Bundle::of(&message.publication(), ticket)))
            }
            mail => mail,
        };
        self.shards[to].on_mail(from, mail, self.now);
        let outcome = self.collect(to);
        self.conclude(to, carried, &outcome);
        self.after_input(to);
        true
    }

    fn after_input(&mut self, shard: usize) {
        if self.schedule.chance(self.swarm.short_turns) {
            self.finish_turn(shard);
        }
    }

    /// Carries out effects and sends output.
    pub(crate) fn finish_turn(&mut self, shard: usize) {
        let mut closes = Vec::new();
        if let Some(drive) = self.drives.get(shard) {
            self.shards[shard].set_disk_full(drive.is_full());
            self.shadow.disk_full[shard] = drive.is_full();
        }
        for effect in std::mem::take(&mut self.pending[shard]) {
            match effect {
                Effect::Close(conn) => closes.extend(self.at(shard, conn)),
                Effect::Flow(conn, flow) => {
                    if let Some(at) = self.at(shard, conn) {
                        self.conns[at].paused = flow == Flow::Pause;
                    }
                }
                Effect::Fetch { lsn, at, purpose } => self.fetch(shard, (lsn, at), purpose),
                Effect::Mail(..) | Effect::Record(_) | Effect::Authenticate(..) => {
                    unreachable!("taken at once")
                }
            }
        }
        let mut dirty = Vec::new();
        self.shards[shard].take_dirty(&mut dirty);
        for conn in dirty {
            if let Some(at) = self.at(shard, conn)
                && !self.conns[at].sending
            {
                self.send(at);
            }
        }
        for at in closes {
            if self.conns[at].stage != Stage::Gone {
                self.conns[at].stage = Stage::Closing;
                if !self.conns[at].sending {
                    self.send(at);
                }
            }
        }
    }

    /// A message is read back from the log.
    fn fetch(&mut self, shard: usize, place: (u64, u32), purpose: Purpose) {
        let (lsn, at) = place;
        match (self.drives[shard].fetch(lsn, at), self.logs[shard].get(&lsn)) {
            (Ok(Some(message)), Some(Record::Publish(known))) if *message == *known.message => {
                self.shards[shard].on_fetched(purpose, message, self.now);
            }
            (Ok(Some(message)), known) => {
                return self.shadow.fail(format!("{message:?} was read where {known:?} lies"));
            }
            (Ok(None), _) => {
                if !self.shards[shard].is_read_elsewhere(&purpose, lsn, self.now) {
                    let text = format!("{purpose:?} needs record {lsn}, which was released");
                    return self.shadow.fail(text);
                }
            }
            (Err(wrong), _) => return self.shadow.fail(wrong),
        }
        self.collect(shard);
    }

    /// Takes the output of a connection and looks at every packet in it.
    fn send(&mut self, at: usize) {
        let (shard, id) = (self.conns[at].shard, self.conns[at].id);
        let Some(out) = self.shards[shard].take_output(id) else { return };
        self.shadow.step += 1;
        let mut bytes: Vec<u8> = out.slices(0).flatten().copied().collect();
        self.conns[at].sending = true;
        let version = self.shards[shard].version_of(id);
        let mut done = 0;
        while done < bytes.len() {
            self.planted.on_output(&mut bytes[done..], version, &self.shadow.links[at]);
            match codec::decode(&bytes[done..], version, 1 << 28) {
                Ok(Some((packet, used))) => {
                    self.note(|| format!("  {} <= {}", self.name(at), show(&packet)));
                    self.shadow.emitted(at, &packet, used);
                    done += used;
                }
                other => return self.shadow.fail(format!("a broken packet is sent: {other:?}")),
            }
        }
        let conn = &mut self.conns[at];
        if conn.client_open {
            conn.down.extend(bytes);
        }
    }

    fn at(&self, shard: usize, conn: ConnId) -> Option<usize> {
        let at = (*self.places[shard].get(conn.index())?)?;
        (self.conns[at].id == conn).then_some(at)
    }

    pub(crate) fn name(&self, at: usize) -> String {
        format!("{}#{at}", self.clients[self.conns[at].client].id)
    }
}

fn carried(mail: &Mail) -> Option<MsgId> {
    match mail {
        Mail::Forward { message, .. }
        | Mail::ForwardShared { message, .. }
        | Mail::Exchange { message, .. }
        | Mail::Retain { message, .. } => message_id(message.payload()),
        _ => None,
    }
}

/// A disk for the log of each shard.
fn drives(seed: u64, swarm: &Swarm, plant: Plant) -> Vec<Drive> {
    let count = if swarm.settings.recording { swarm.shards } else { 0 };
    let commit = if plant == Plant::AckBeforeSync { Commit::Interval } else { Commit::Sync };
    let mut drives: Vec<Drive> =
        (0..count).map(|shard| Drive::new(seed, shard, count, commit)).collect();
    for drive in &mut drives {
        drive.lies = plant == Plant::SyncSkipped;
        if plant == Plant::CacheTrusted {
            drive.trust_cache();
        }
    }
    drives
}

/// Message of a record, whether the record commits it for all shards, whether it is retained here.
/// What is handed out to new subscribers is not counted: no acknowledgement waits for that.
fn message_of(record: &Record) -> Option<(MsgId, bool, bool)> {
    match record {
        Record::Publish(publish) => {
            let id = message_id(publish.message.payload())?;
            let commits = !matches!(publish.from, Source::Plain | Source::Exchange { .. });
            let handed_out = publish.from == Source::Plain
                && !publish.retained
                && publish.entries.iter().all(|entry| entry.retain);
            (!handed_out).then_some((id, commits, publish.retained))
        }
        _ => None,
    }
}

fn show_mail(mail: &Mail) -> String {
    match mail {
        Mail::Forward { message, ticket } | Mail::Retain { message, ticket } => {
            let kind = if matches!(mail, Mail::Retain { .. }) { "Retain" } else { "Forward" };
            let payload = String::from_utf8_lossy(message.payload());
            let payload = payload.trim_end_matches('x');
            format!("{kind} {} {payload} {ticket:?}", message.topic())
        }
        other => format!("{other:?}"),
    }
}

fn show(packet: &Packet<'_>) -> String {
    match packet {
        Packet::Publish(p) => format!(
            "PUBLISH {} {} q{} id={:?}{}{} alias={:?} {:?}",
            p.topic,
            String::from_utf8_lossy(p.payload).trim_end_matches('x'),
            p.qos as u8,
            p.packet_id.map(codec::PacketId::get),
            if p.dup { " dup" } else { "" },
            if p.retain { " retain" } else { "" },
            p.topic_alias,
            p.properties.iter().collect::<Vec<_>>(),
        ),
        other => format!("{other:?}"),
    }
}
