//! A naive broker, told of every packet when a shard has handled it: sessions, subscriptions,
//! wills and retained messages as maps and vectors. It predicts nothing that MQTT leaves open; it
//! keeps the facts from which `oracle` says which deliveries may and which must happen.
//!
//! Time is counted in steps of the simulation. A subscription is possible from the SUBSCRIBE and
//! certain from the SUBACK; a message lives from the handled PUBLISH to its acknowledgement.

use culex::codec::{Connect, Disconnect, Packet, Publish, Qos, Reason, SubscribeOptions, Version};
use culex::codec::{RetainHandling, Subscribe, Unsubscribe};
use shards::Millis;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(crate) type MsgId = usize;

/// Session expiry interval that means "never".
pub(crate) const NEVER: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub(crate) struct Msg {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub will: bool,
    pub expiry_s: Option<u32>,
    pub publisher: String,
    /// Steps at which the server took it; more than one if a client repeats it at `QoS` 1.
    pub instances: Vec<u64>,
    pub begun_at: Millis,
    /// Step at which its acknowledgement left.
    pub acked: Option<u64>,
    /// Step of its last arrival, by shard.
    pub arrived: BTreeMap<usize, u64>,
    /// Deliveries counted as dropped while the message was handled, by shard.
    pub drops: BTreeMap<usize, u64>,
    /// Shard and log position of its records, and whether they make it the retained message.
    pub records: Vec<((usize, u64), bool)>,
    /// The record that commits it for all shards.
    pub onward: Option<(usize, u64)>,
    /// A will that a crash may have lost: nobody waits for its acknowledgement.
    pub excused: bool,
    /// Instances of which a crash left nothing.
    pub lost: usize,
    /// Repetitions at `QoS` 2 that may count as new, because the message was refused meanwhile.
    pub maybe: usize,
    /// Deliveries at `QoS` 1 whose connection ended before the acknowledgement.
    pub lost_unacked: usize,
}

impl Msg {
    pub(crate) fn begun(&self) -> Option<u64> {
        self.instances.first().copied()
    }
}

/// Step of a SUBSCRIBE, its options and identifier.
pub(crate) type Terms = (u64, SubscribeOptions, Option<u32>);

#[derive(Clone, Debug)]
pub(crate) struct Sub {
    pub filter: String,
    /// Options and identifier, with the step of the SUBSCRIBE.
    pub versions: Vec<Terms>,
    pub acked: Option<u64>,
    pub ended: Option<u64>,
    /// UNSUBACK has left.
    pub end_acked: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub msg: MsgId,
    pub qos: u8,
    pub released: bool,
    /// PUBREL has left.
    pub pubrel_sent: bool,
    /// A crash may have forgotten that it was sent.
    pub crashed: bool,
    pub link: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Session {
    pub client: String,
    pub home: usize,
    pub expiry_s: u32,
    /// The shard whose log keeps it.
    pub log: Option<usize>,
    pub link: Option<usize>,
    pub subs: Vec<Sub>,
    /// `QoS` 2 identifiers of the client between PUBLISH and PUBREL.
    pub received: BTreeMap<u16, MsgId>,
    /// Those of them whose PUBREC has left.
    pub pubrec_sent: BTreeSet<u16>,
    /// Those between PUBREL and PUBCOMP.
    pub released: BTreeMap<u16, MsgId>,
    pub will: Option<(MsgId, u32)>,
    pub will_due: Option<Millis>,
    pub expires_at: Option<Millis>,
    pub ended: Option<u64>,
    /// Deliveries that the client has not finished.
    pub flights: BTreeMap<u16, Flight>,
    /// New deliveries that left for the client.
    pub copies: BTreeMap<MsgId, usize>,
    /// What the client's application got.
    pub app: BTreeMap<MsgId, usize>,
    /// The same, at `QoS` 2 alone.
    pub app_exactly: BTreeMap<MsgId, usize>,
    /// SUBSCRIBEs that ask for retained messages: filter, step.
    pub handouts: Vec<(String, u64)>,
    /// Position of the last delivery by publisher, topic, published and delivered `QoS`.
    pub order: BTreeMap<(String, String, u8, u8), u64>,
    pub packet_bytes_max: Option<u32>,
    pub hostile: bool,
    /// Something was acknowledged that has no meaning without the session.
    pub pledged: bool,
    /// The client was told of a new session after this one.
    pub replaced: bool,
    /// Deliveries that a crash may repeat, because it lost their end.
    pub repeats: BTreeMap<MsgId, usize>,
    /// After a crash, until its shard goes on: when it lost its connection.
    pub away_since: Option<Millis>,
}

/// A connection as the shadow sees it.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Link {
    pub session: Option<usize>,
    pub live: bool,
    pub hostile: bool,
    /// Acknowledges what it may not have got, so its window can't be followed.
    pub guesses: bool,
    pub v5: bool,
    pub window: usize,
    pub packet_bytes_max: Option<u32>,
    pub connack_due: Option<bool>,
    /// The session existed before this connection.
    pub present: bool,
    /// CONNACK can't say so: MQTT 3.1.
    pub speechless: bool,
    /// SUBSCRIBE and UNSUBSCRIBE without answer: identifier, filters, expected codes, log position.
    pub asked: VecDeque<Asked>,
    /// PUBLISH without acknowledgement: identifier, is `QoS` 2, message.
    pub acks_due: VecDeque<(u16, bool, MsgId)>,
    /// Identifiers of those that a full disk has refused.
    pub turned_away: BTreeSet<u16>,
    pub unacked: BTreeSet<u16>,
    pub aliases: BTreeMap<u16, String>,
}

#[derive(Debug)]
pub(crate) struct Asked {
    pub id: u16,
    pub step: u64,
    pub subscribe: bool,
    pub filters: Vec<String>,
    pub codes: Vec<u8>,
    pub lsn: u64,
}

/// One change of a retained message.
#[derive(Debug)]
pub(crate) struct Write {
    pub msg: MsgId,
    pub begun: u64,
    pub done: Option<u64>,
    /// A crash came before its acknowledgement.
    pub doubtful: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Shadow {
    pub step: u64,
    pub now: Millis,
    pub subscriptions_max: usize,
    pub inflight_max: u16,
    pub expiry_max: u32,
    /// Full queues stop publishers: a message may come later than it arrived, or not at all.
    pub rejects: bool,
    pub messages: Vec<Msg>,
    pub sessions: Vec<Session>,
    pub current: BTreeMap<String, usize>,
    pub links: Vec<Link>,
    pub writes: BTreeMap<String, Vec<Write>>,
    /// Log positions that are durable, by shard.
    pub durable: Vec<u64>,
    /// Shards that were told that the disk is full.
    pub disk_full: Vec<bool>,
    /// Drops that no message could be blamed for.
    pub other_drops: u64,
    pub failure: Option<String>,
}

impl Shadow {
    pub(crate) fn fail(&mut self, text: String) {
        self.failure.get_or_insert(text);
    }

    /// A new message; its number stands in its payload.
    pub(crate) fn message(&mut self, mut msg: Msg, payload_bytes: usize) -> MsgId {
        let id = self.messages.len();
        msg.payload = format!("m{id}.").into_bytes();
        let bytes = payload_bytes.max(msg.payload.len());
        msg.payload.resize(bytes, b'x');
        self.messages.push(msg);
        id
    }

    /// CONNECT was accepted.
    pub(crate) fn connected(&mut self, link: usize, connect: &Connect<'_>, home: usize) {
        let v5 = connect.version == Version::V5;
        let wanted = match v5 {
            true => connect.properties.session_expiry_interval().unwrap_or(0),
            false if connect.clean_start => 0,
            false => NEVER,
        };
        let expiry_s = wanted.min(self.expiry_max);
        let client = match connect.client_id {
            "" => format!("auto {link}"),
            id => id.to_string(),
        };
        if let Some(known) = self.current.get(&client).copied() {
            self.take_over(known, connect.clean_start);
        }
        let present = self.current.contains_key(&client);
        let index = self.current.get(&client).copied().unwrap_or_else(|| {
            let (client, log) = (client.clone(), (expiry_s > 0).then_some(home));
            self.sessions.push(Session { client, home, log, ..Session::default() });
            self.sessions.len() - 1
        });
        self.current.insert(client, index);
        let packet_bytes_max = connect.properties.maximum_packet_size();
        let session = &mut self.sessions[index];
        session.hostile = self.links[link].hostile;
        session.expiry_s = expiry_s;
        session.link = Some(link);
        session.will_due = None;
        session.expires_at = None;
        session.away_since = None;
        session.packet_bytes_max =
            session.packet_bytes_max.into_iter().chain(packet_bytes_max).min();
        session.will = connect.will.as_ref().map(|will| {
            let id = message_id(will.payload).expect("wills carry a number");
            (id, will.properties.will_delay_interval().unwrap_or(0))
        });
        let entry = &mut self.links[link];
        entry.session = Some(index);
        entry.live = true;
        entry.v5 = v5;
        let receive_maximum = connect.properties.receive_maximum().unwrap_or(u16::MAX);
        entry.window = usize::from(receive_maximum.min(self.inflight_max));
        entry.packet_bytes_max = packet_bytes_max;
        entry.connack_due = Some(present);
        entry.present = present;
        entry.speechless = connect.version == Version::V31;
    }

    /// [MQTT-3.1.4-3], and the comment below it about wills.
    fn take_over(&mut self, index: usize, clean: bool) {
        let session = &mut self.sessions[index];
        if let Some(old) = session.link.take() {
            let ends = clean || session.expiry_s == 0;
            let delayed = session.will.is_some_and(|(_, delay_s)| delay_s > 0);
            self.part(old, index);
            if delayed && !ends {
                self.sessions[index].will = None;
            }
            self.publish_will(index);
            if ends {
                self.end(index);
            }
        } else if clean {
            self.end(index);
        } else {
            // [MQTT-3.1.3-9]
            session.will = None;
        }
    }

    /// Session and link have nothing to do with each other any more.
    pub(crate) fn part(&mut self, link: usize, index: usize) {
        self.links[link].live = false;
        for flight in self.sessions[index].flights.values() {
            if flight.qos == 1 && flight.link == link {
                self.messages[flight.msg].lost_unacked += 1;
            }
        }
    }

    /// The connection has ended without DISCONNECT: by the client, the network or the server.
    pub(crate) fn lost(&mut self, link: usize) {
        if !self.links[link].live {
            return;
        }
        let Some(index) = self.links[link].session else { return };
        self.part(link, index);
        let now = self.now;
        let session = &mut self.sessions[index];
        session.link = None;
        if session.expiry_s == 0 {
            return self.end(index);
        }
        if session.expiry_s != NEVER {
            session.expires_at = Some(now.after(u64::from(session.expiry_s) * 1000));
        }
        match session.will.map(|(_, delay_s)| delay_s.min(session.expiry_s)) {
            Some(0) => self.publish_will(index),
            Some(delay_s) => session.will_due = Some(now.after(u64::from(delay_s) * 1000)),
            None => {}
        }
    }

    fn disconnect(&mut self, link: usize, packet: &Disconnect<'_>) {
        let Some(index) = self.links[link].session else { return };
        let expiry_max = self.expiry_max;
        let session = &mut self.sessions[index];
        if let Some(expiry_s) = packet.properties.session_expiry_interval() {
            if session.expiry_s == 0 && expiry_s > 0 {
                // MQTT 5.0 §3.14.2.2.2: a protocol error, so the will stays.
                return self.lost(link);
            }
            session.expiry_s = expiry_s.min(expiry_max);
        }
        if packet.reason == Reason::NORMAL_DISCONNECTION {
            session.will = None; // [MQTT-3.14.4-3]
        }
        self.lost(link);
    }

    pub(crate) fn end(&mut self, index: usize) {
        self.publish_will(index);
        let step = self.step;
        let session = &mut self.sessions[index];
        session.ended = Some(step);
        for sub in &mut session.subs {
            sub.ended.get_or_insert(step);
        }
        let client = session.client.clone();
        self.current.remove(&client);
    }

    fn publish_will(&mut self, index: usize) {
        let session = &mut self.sessions[index];
        session.will_due = None;
        let home = session.home;
        if let Some((id, _)) = session.will.take() {
            self.begin(id, home);
        }
    }

    /// The server has taken a message.
    fn begin(&mut self, id: MsgId, home: usize) {
        let (step, now) = (self.step, self.now);
        let msg = &mut self.messages[id];
        msg.instances.push(step);
        msg.begun_at = now;
        msg.arrived.insert(home, step);
        if msg.retain {
            let writes = self.writes.entry(msg.topic.clone()).or_default();
            writes.push(Write { msg: id, begun: step, done: None, doubtful: false });
        }
    }

    /// Timers of one shard have fired.
    pub(crate) fn tick(&mut self, shard: usize) {
        let now = self.now;
        let mine: Vec<usize> =
            self.current.values().copied().filter(|at| self.sessions[*at].home == shard).collect();
        for index in mine {
            let due = |at: Option<Millis>| at.is_some_and(|at| at <= now);
            if due(self.sessions[index].will_due) {
                self.publish_will(index);
            }
            if due(self.sessions[index].expires_at) && self.sessions[index].link.is_none() {
                self.end(index);
            }
        }
    }

    /// A packet was handled. `closed`: the server ended the connection because of it. Gives the
    /// message that it brought.
    pub(crate) fn handled(&mut self, link: usize, packet: &Packet<'_>, closed: bool, lsn: u64) {
        if !self.links[link].live {
            return;
        }
        let Some(index) = self.links[link].session else { return };
        if let Packet::Disconnect(packet) = packet {
            return self.disconnect(link, packet);
        }
        if closed {
            if !self.links[link].hostile {
                self.fail(format!("a correct client was sent away for {packet:?}"));
            }
            return self.lost(link);
        }
        match packet {
            Packet::Publish(publish) => self.publish(link, index, publish),
            Packet::Pubrel(ack) => {
                let session = &mut self.sessions[index];
                let id = ack.packet_id.get();
                session.pubrec_sent.remove(&id);
                if let Some(msg) = session.received.remove(&id) {
                    session.released.insert(id, msg);
                }
            }
            Packet::Subscribe(subscribe) => self.subscribe(link, index, subscribe, lsn),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(link, index, unsubscribe, lsn),
            Packet::Puback(ack) => self.acked(link, index, ack.packet_id.get(), 1, false),
            Packet::Pubrec(ack) => {
                self.acked(link, index, ack.packet_id.get(), 2, ack.reason.is_error());
            }
            Packet::Pubcomp(ack) => self.acked(link, index, ack.packet_id.get(), 3, false),
            _ => {}
        }
    }

    fn acked(&mut self, link: usize, index: usize, id: u16, kind: u8, error: bool) {
        let flights = &mut self.sessions[index].flights;
        let Some(flight) = flights.get_mut(&id) else { return };
        let done = match (kind, flight.qos, flight.released) {
            (1, 1, _) | (3, 2, true) => true,
            (2, 2, _) => {
                flight.released |= !error;
                error
            }
            _ => false,
        };
        if done {
            flights.remove(&id);
            self.links[link].unacked.remove(&id);
        }
    }

    fn publish(&mut self, link: usize, index: usize, publish: &Publish<'_>) {
        let qos2 = publish.qos == Qos::ExactlyOnce;
        let home = self.sessions[index].home;
        let pid = publish.packet_id.map(culex::codec::PacketId::get);
        let deletes = publish.retain && publish.payload.is_empty();
        let full = self.disk_full[home] && self.links[link].v5 && !deletes;
        let repeated = pid.filter(|_| qos2).and_then(|id| self.sessions[index].received.get(&id));
        let id = match repeated {
            Some(first) => {
                let first = *first;
                let pid = pid.unwrap_or_default();
                if self.rejects && !self.sessions[index].pubrec_sent.contains(&pid) {
                    let (step, msg) = (self.step, &mut self.messages[first]);
                    msg.maybe += 1;
                    if msg.retain {
                        let writes = self.writes.entry(msg.topic.clone()).or_default();
                        writes.push(Write { msg: first, begun: step, done: None, doubtful: true });
                    }
                }
                first
            }
            None => {
                let id = message_id(publish.payload).unwrap_or_else(|| {
                    // Without payload there is no number; every deletion is a message of its own.
                    self.messages.push(Msg {
                        topic: publish.topic.into(),
                        qos: publish.qos as u8,
                        retain: publish.retain,
                        publisher: self.sessions[index].client.clone(),
                        ..Msg::default()
                    });
                    self.messages.len() - 1
                });
                if let Some(pid) = pid.filter(|_| full) {
                    // Its identifier is free at once; a repetition is a message like any other.
                    self.links[link].turned_away.insert(pid);
                    self.links[link].acks_due.push_back((pid, qos2, id));
                    return;
                }
                self.begin(id, home);
                id
            }
        };
        if let Some(pid) = pid {
            if qos2 {
                self.sessions[index].received.insert(pid, id);
            }
            let due = &mut self.links[link].acks_due;
            if !due.iter().any(|(other, kind, _)| (*other, *kind) == (pid, qos2)) {
                due.push_back((pid, qos2, id));
            }
        }
    }

    fn subscribe(&mut self, link: usize, index: usize, subscribe: &Subscribe<'_>, lsn: u64) {
        let step = self.step;
        let identifier = subscribe.properties.subscription_identifier();
        let session = &mut self.sessions[index];
        let (mut filters, mut codes) = (Vec::new(), Vec::new());
        let disk_full = session.log.is_some_and(|shard| self.disk_full[shard]);
        for wanted in &subscribe.filters {
            let active = session.subs.iter().filter(|sub| sub.ended.is_none()).count();
            let known = session
                .subs
                .iter_mut()
                .find(|sub| sub.ended.is_none() && sub.filter == wanted.filter);
            filters.push(wanted.filter.to_string());
            if !is_filter(wanted.filter) {
                codes.push(0x8f);
                continue;
            }
            let version = (step, wanted.options, identifier);
            let is_new = known.is_none();
            match known {
                Some(sub) => sub.versions.push(version),
                None if disk_full || active >= self.subscriptions_max => {
                    codes.push(0x97);
                    continue;
                }
                None => session.subs.push(Sub {
                    filter: wanted.filter.into(),
                    versions: vec![version],
                    acked: None,
                    ended: None,
                    end_acked: false,
                }),
            }
            let wants_retained = match wanted.options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => is_new,
                RetainHandling::Never => false,
            };
            if wants_retained && !is_shared(wanted.filter) {
                session.handouts.push((wanted.filter.into(), step));
            }
            codes.push(wanted.options.qos as u8);
        }
        let id = subscribe.packet_id.get();
        self.links[link].asked.push_back(Asked { id, step, subscribe: true, filters, codes, lsn });
    }

    fn unsubscribe(&mut self, link: usize, index: usize, packet: &Unsubscribe<'_>, lsn: u64) {
        let step = self.step;
        let subs = &mut self.sessions[index].subs;
        let mut codes = Vec::new();
        for filter in &packet.filters {
            let known = subs.iter_mut().find(|sub| sub.ended.is_none() && sub.filter == *filter);
            codes.push(if known.is_some() { 0 } else { 0x11 });
            if let Some(sub) = known {
                sub.ended = Some(step);
            }
        }
        let filters = packet.filters.iter().map(ToString::to_string).collect();
        let id = packet.packet_id.get();
        self.links[link].asked.push_back(Asked { id, step, subscribe: false, filters, codes, lsn });
    }
}

/// The number in a payload.
pub(crate) fn message_id(payload: &[u8]) -> Option<MsgId> {
    let text = payload.strip_prefix(b"m")?;
    let end = text.iter().position(|byte| *byte == b'.')?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

pub(crate) fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// A filter without its `$share/NAME/`.
pub(crate) fn path_of(filter: &str) -> &str {
    if is_shared(filter) { filter.splitn(3, '/').nth(2).unwrap_or("") } else { filter }
}

fn is_filter(filter: &str) -> bool {
    let path = path_of(filter);
    let mut levels = path.split('/').rev();
    let last = levels.next().unwrap_or("");
    let plain = |level: &str| level == "+" || !level.contains(['+', '#']);
    !path.is_empty() && (last == "#" || plain(last)) && levels.all(plain)
}

/// MQTT 5.0 §4.7, level by level.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let path = path_of(filter);
    if topic.starts_with('$') && path.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let mut topic_levels = topic.split('/');
    for level in path.split('/') {
        match (level, topic_levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(other)) if level == other => {}
            _ => return false,
        }
    }
    topic_levels.next().is_none()
}

impl Sub {
    /// May be in force at some time from `low` to `high`.
    pub(crate) fn possible(&self, low: u64, high: u64) -> bool {
        self.versions[0].0 <= high && self.ended.is_none_or(|ended| ended > low)
    }

    /// Is in force all the time.
    pub(crate) fn certain(&self, low: u64, high: u64) -> bool {
        self.acked.is_some_and(|acked| acked <= low) && self.ended.is_none_or(|ended| ended > high)
    }

    /// Options that may have been in force from `low` to `high`.
    pub(crate) fn versions(&self, low: u64, high: u64) -> impl Iterator<Item = &Terms> {
        let first = self.versions.iter().rposition(|version| version.0 <= low).unwrap_or(0);
        self.versions[first..].iter().take_while(move |version| version.0 <= high.max(low))
    }
}
