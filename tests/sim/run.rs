//! One run: events by chance, then rest, then the last checks.

use crate::client::{Client, Manner};
use crate::drive::Drive;
use crate::plant::Plant;
use crate::shadow::{Msg, MsgId};
use crate::wire::Stage;
use crate::world::{TICK_MS, World};
use culex::codec::Qos;
use std::collections::{BTreeMap, BTreeSet};

/// Rounds after which a world that still moves will never rest.
const ROUNDS_MAX: usize = 20_000;

/// Runs one seed. Gives the number of events, or what was wrong.
pub(crate) fn run(seed: u64, plant: Plant, trace: bool) -> Result<u64, String> {
    let mut world = World::new(seed, plant, trace);
    let steps = world.swarm.steps;
    for _ in 0..steps {
        world.event();
        if let Some(failure) = world.shadow.failure.take() {
            return Err(failure);
        }
    }
    world.end();
    world.shadow.failure.take().map_or(Ok(world.events), Err)
}

impl World {
    fn event(&mut self) {
        self.events += 1;
        let kind = self.schedule.weighted(&self.swarm.weights.clone());
        let conn = self.a_conn();
        let piece = self.network.between(1, self.swarm.piece_bytes_max);
        let shard = self.schedule.below(self.shards.len());
        let other = self.schedule.below(self.shards.len());
        match (kind, conn) {
            (0, _) => self.act(),
            (1, Some(at)) => {
                self.up(at, piece);
            }
            (2, Some(at)) => {
                self.down(at, piece);
            }
            (3, Some(at)) => {
                self.drained(at);
            }
            (4, _) => {
                self.clean(shard);
                self.finish_turn(shard);
            }
            (5, _) => {
                self.deliver(shard, other);
            }
            (6, _) => {
                let client = self.schedule.below(self.clients.len());
                self.write_acks(client);
            }
            (7, Some(at)) => {
                self.notice(at, false);
            }
            (8, _) => self.sync(shard),
            (9, Some(at)) => {
                if self.conns[at].client_open && self.conns[at].stage != Stage::Gone {
                    let keep = self.faults.below(self.conns[at].up.len() + 1);
                    self.cut(at, keep);
                }
            }
            (10, _) => self.pass_time(),
            (11, _) if self.swarm.settings.recording => self.crash(),
            _ => {}
        }
    }

    /// One of the latest connections.
    fn a_conn(&mut self) -> Option<usize> {
        let open: Vec<usize> = self.open_conns();
        (!open.is_empty()).then(|| *self.schedule.pick(&open))
    }

    fn open_conns(&self) -> Vec<usize> {
        let alive = |at: &usize| self.conns[*at].stage != Stage::Gone;
        (0..self.conns.len()).filter(alive).collect()
    }

    fn pass_time(&mut self) {
        let ticks = *self.schedule.pick(&[1, 1, 1, 20, 20, 100, 1400]);
        self.now = self.now.after(ticks * TICK_MS);
        for shard in 0..self.shards.len() {
            // A shard may be late.
            if self.schedule.chance(80) {
                self.tick(shard);
            }
        }
    }

    /// The disk of a shard gets on with its work.
    fn sync(&mut self, shard: usize) {
        let Some(drive) = self.drives.get_mut(shard) else { return };
        for _ in 0..drive.burst() {
            self.clean(shard);
            if !self.disk_step(shard) {
                return;
            }
        }
    }

    /// A client writes the acknowledgements that it owes.
    fn write_acks(&mut self, client: usize) {
        let slow = self.swarm.slow_acks;
        let Some(at) = self.clients[client].conn else { return };
        while let Some(ack) = self.clients[client].acks.pop_front() {
            self.conns[at].up.extend(ack);
            if self.script.chance(slow) {
                return;
            }
        }
    }

    /// A client does something.
    fn act(&mut self) {
        let number = self.script.below(self.clients.len());
        let client = &self.clients[number];
        let manner = client.manner;
        let Some(at) = client.conn else {
            if self.script.chance(40) {
                self.connect(number);
            }
            return;
        };
        if manner == Manner::TakesOver && self.hostile.chance(30) {
            // The older connection stays until the broker ends it.
            return self.connect(number);
        }
        let deaf = manner == Manner::NeverReads;
        if !(client.connected || deaf) || !self.conns[at].client_open {
            return;
        }
        let swarm = &self.swarm;
        let weights = [swarm.publish_weight, swarm.subscribe_weight, swarm.subscribe_weight / 2];
        let [publish, subscribe, unsubscribe] = weights;
        let kind = self.script.weighted(&[publish, subscribe, unsubscribe, 2, swarm.end_weight]);
        let (client, script) = (&mut self.clients[number], &mut self.script);
        if manner != Manner::Correct && self.hostile.chance(50) {
            let bytes = client.misbehave(swarm, &mut self.hostile, &mut self.shadow);
            return self.conns[at].up.extend(bytes);
        }
        let bytes = match kind {
            0 => client.send(swarm, script, &mut self.shadow),
            1 => client.subscribe(swarm, script),
            2 => client.unsubscribe(swarm, script),
            3 => client.ping(),
            _ => {
                let expiry_s = script.chance(20).then(|| *script.pick(&[0, 5, 100]));
                let bytes = client.disconnect(script, expiry_s);
                self.conns[at].up.extend(bytes);
                return self.leave(at);
            }
        };
        self.conns[at].up.extend(bytes);
    }

    fn connect(&mut self, number: usize) {
        let clean = self.script.chance(self.swarm.clean);
        let will = self.script.chance(self.swarm.wills).then(|| self.invent_will(number));
        self.open(number, clean, will);
    }

    fn invent_will(&mut self, number: usize) -> (MsgId, u32) {
        let client = &self.clients[number];
        let id = client.invent(&self.swarm, &mut self.script, &mut self.shadow);
        let delay_s = *self.script.pick(&[0, 0, 1, 10]);
        let msg = &mut self.shadow.messages[id];
        msg.will = true;
        msg.expiry_s = None;
        (id, if client.is_v5() { delay_s } else { 0 })
    }

    // ---- the end ---------------------------------------------------------------------------

    /// Faults stop, hostile clients go, everybody comes back, everything arrives.
    fn end(&mut self) {
        let lengths = self.drives.iter().map(|drive| drive.log.segments().count());
        let lengths: Vec<_> = lengths.collect();
        let released = self.cleaning.released;
        self.note(|| format!("---- the end; {lengths:?} segments, {released} were released"));
        self.drives.iter_mut().for_each(Drive::heal);
        for at in self.open_conns() {
            let client = self.conns[at].client;
            let gone = self.clients[client].manner != Manner::Correct
                || self.clients[client].conn != Some(at);
            if gone && self.conns[at].client_open {
                self.cut(at, 0);
            }
        }
        self.settle();
        for shard in 0..self.shards.len() {
            self.tick(shard);
        }
        for round in 0..20 {
            for number in 0..self.swarm.clients {
                if self.clients[number].conn.is_none() {
                    self.open(number, false, None);
                }
            }
            self.settle();
            let back = |client: &Client| client.conn.is_some() && client.connected;
            if self.shadow.failure.is_some() || self.clients[..self.swarm.clients].iter().all(back)
            {
                break;
            }
            assert!(round < 19, "clients can't come back");
        }
        self.give_room();
        if self.shadow.failure.is_none() {
            self.shadow.check_rest();
            self.check_reports();
            self.check_clients();
        }
        if self.shadow.failure.is_none() {
            self.check_retained();
        }
    }

    /// What waits for room in a queue gets it.
    fn give_room(&mut self) {
        if !self.shadow.rejects || self.shadow.failure.is_some() {
            return;
        }
        let mut settings = self.swarm.settings.clone();
        settings.queue.queue_messages_max = 1 << 20;
        settings.queue.queue_bytes_max = 1 << 30;
        let now = self.now;
        self.shards.iter_mut().for_each(|shard| shard.reconfigure(&settings, now));
        self.now = self.now.after(2 * TICK_MS);
        for shard in 0..self.shards.len() {
            self.tick(shard);
        }
        self.settle();
    }

    /// Everything moves until nothing moves any more; time stands still.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let mut moved = false;
            for shard in 0..self.shards.len() {
                self.finish_turn(shard);
                for to in 0..self.shards.len() {
                    moved |= self.deliver(shard, to);
                }
                moved |= self.disk_step(shard);
            }
            for at in self.open_conns() {
                moved |= self.up(at, 5000) | self.down(at, 5000) | self.drained(at);
                moved |= self.notice(at, true);
            }
            for number in 0..self.clients.len() {
                moved |=
                    !self.clients[number].acks.is_empty() && self.clients[number].conn.is_some();
                self.write_acks(number);
            }
            self.events += 1;
            if !moved || self.shadow.failure.is_some() {
                return;
            }
        }
        self.shadow.fail("it does not come to rest".into());
    }

    fn check_clients(&mut self) {
        for client in &self.clients[..self.swarm.clients] {
            if !client.is_idle() {
                self.shadow.failure.get_or_insert(format!("unfinished: {}", client.state()));
            }
        }
    }

    /// What the shards say they hold is what the shadow knows.
    fn check_reports(&mut self) {
        let reports: Vec<_> = self.shards.iter().map(culex::shard::Shard::report).collect();
        let sum = |what: fn(&culex::shard::Report) -> u64| reports.iter().map(what).sum::<u64>();
        let offline =
            self.shadow.current.values().filter(|at| self.shadow.sessions[**at].link.is_none());
        let offline = offline.count();
        let subs = || {
            let current = self.shadow.current.values().map(|at| &self.shadow.sessions[*at]);
            current.flat_map(|session| &session.subs).filter(|sub| sub.ended.is_none())
        };
        let shared = subs().filter(|sub| crate::shadow::is_shared(&sub.filter)).count();
        let plain = subs().count() - shared;
        let mut facts = vec![
            ("sessions", sum(|r| r.sessions), self.shadow.current.len()),
            ("subscriptions", sum(|r| r.subscriptions), plain),
            ("shared subscriptions", sum(|r| r.shared_subscriptions), shared),
        ];
        if offline == 0 {
            facts.push(("queued", sum(|r| r.queued), 0));
            facts.push(("queued bytes", sum(|r| r.queued_bytes), 0));
        }
        for (what, found, expected) in facts {
            if found != expected as u64 {
                self.shadow.fail(format!("{what}: {found} reported, should be {expected}"));
            }
        }
    }

    /// A new client asks for everything that is retained.
    fn check_retained(&mut self) {
        let number = self.clients.len();
        self.clients.push(Client::checker());
        self.open(number, true, None);
        self.settle();
        if self.clients[number].conn.is_none() {
            return self.shadow.fail("the checker was sent away".into());
        }
        let qos = *self.faults.pick(&[Qos::AtLeastOnce, Qos::ExactlyOnce]);
        let bytes = self.clients[number].subscribe_all(qos);
        let at = self.clients[number].conn.unwrap();
        self.conns[at].up.extend(bytes);
        self.settle();
        let session = self.shadow.links[at].session.unwrap();
        let found: Vec<MsgId> = self.shadow.sessions[session].app.keys().copied().collect();
        let mut by_topic: BTreeMap<String, BTreeSet<Option<MsgId>>> = BTreeMap::new();
        for id in found {
            let msg: &Msg = &self.shadow.messages[id];
            by_topic.entry(msg.topic.clone()).or_default().insert(Some(id));
        }
        let topics: Vec<String> = self.shadow.writes.keys().cloned().collect();
        for topic in topics {
            let candidates = self.shadow.retained_candidates(&topic);
            let found = by_topic.remove(&topic).unwrap_or_else(|| BTreeSet::from([None]));
            if found.len() > 1 || !found.is_subset(&candidates) {
                let text = format!("retained for {topic}: {found:?}, should be {candidates:?}");
                self.shadow.fail(text);
            }
        }
    }
}
