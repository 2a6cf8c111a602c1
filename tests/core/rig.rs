//! N shards, their mail, and clients that speak bytes.
//!
//! A script is one command per line:
//!
//! ```text
//! connect NAME v5 [user=NAME] [clean|keep] [expiry=S] [rmax=N] [will=TOPIC:PAYLOAD] [delay=S] …
//! NAME publish TOPIC PAYLOAD [q1|q2] [id=N] [retain] [dup] [expiry=S]
//! NAME subscribe FILTER [q1|q2] [nl] [rap] [rh=N] [sid=N]
//! NAME unsubscribe FILTER | puback N | pubrec N | pubrel N | pubcomp N | ping | bye | drop
//! wait MS | durable [SHARD] | crash
//! NAME granted USER [ends=MS] | NAME denied CAUSE | NAME checked
//! ```
//!
//! [`Rig::run`] answers with every packet that clients were sent, one line each, `NAME: packet`.

use culex::access::{Builder, Identity, Rules};
use culex::auth::scram::{ITERATIONS, NONCE_BYTES, SALT_BYTES, ScramFile, Stored};
use culex::auth::{Credentials, Outcome, Proof, Proven, Refusal};
use culex::codec::{
    self, Ack, Auth, Connect, Disconnect, Packet, PacketId, Properties, Property, PropertyList,
    Publish, Qos, Reason, RetainHandling, Subscribe, SubscribeFilter, SubscribeOptions,
    Unsubscribe, Version, Will,
};
use culex::session::Counters;
use culex::shard::{Certificate, Effect, Flow, Input, Mail, Peer, Place, Purpose, Settings, Shard};
use culex::store::{Image, Record, image};
use shards::{ConnId, Millis};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

/// Both kinds of protocol that differ in rules.
pub(crate) const VERSIONS: [&str; 3] = ["v31", "v311", "v5"];

pub(crate) struct Rig {
    pub shards: Vec<Shard>,
    mail: VecDeque<(usize, usize, Mail)>,
    clients: BTreeMap<String, Client>,
    by_conn: BTreeMap<(usize, u32), String>,
    pub now: Millis,
    next_conn: u32,
    pub records: Vec<Record>,
    pub(crate) settings: Settings,
    /// The log of each shard, and how far it is durable.
    logs: Vec<Log>,
    pub flows: Vec<Flow>,
    /// Mail stays where it is until [`Rig::deliver_mail`].
    pub hold_mail: bool,
    /// Messages stay in the log until [`Rig::fetch`].
    pub hold_fetches: bool,
    fetches: Vec<(usize, u64, Purpose)>,
    /// Output is not taken: the client does not read.
    pub unread: Vec<String>,
    /// User names are asked about; else they are believed.
    pub asking: bool,
    /// Logins to check: shard and what it asked.
    asked: Vec<(usize, ConnId, Box<Credentials>)>,
    lines: Vec<String>,
}

#[derive(Default)]
struct Log {
    records: BTreeMap<u64, Record>,
    last: u64,
    durable: u64,
}

struct Client {
    shard: usize,
    conn: ConnId,
    version: Version,
    open: bool,
}

impl Rig {
    pub(crate) fn new(shards: usize) -> Rig {
        Rig::with(shards, |_| {})
    }

    pub(crate) fn with(count: usize, adjust: impl Fn(&mut Settings)) -> Rig {
        let now = Millis(1_000_000);
        let mut settings = Settings { sys_interval_s: 0, ..Settings::default() };
        adjust(&mut settings);
        let place = |shard| Place { shard, shards: count };
        Rig {
            shards: (0..count).map(|n| Shard::new(settings.clone(), place(n), now)).collect(),
            mail: VecDeque::new(),
            clients: BTreeMap::new(),
            by_conn: BTreeMap::new(),
            now,
            next_conn: 0,
            records: Vec::new(),
            settings,
            logs: (0..count).map(|_| Log::default()).collect(),
            flows: Vec::new(),
            hold_mail: false,
            hold_fetches: false,
            fetches: Vec::new(),
            unread: Vec::new(),
            asking: false,
            asked: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Runs a script and gives what clients were sent.
    pub(crate) fn run(&mut self, script: &str) -> String {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.command(line);
        }
        std::mem::take(&mut self.lines).join("\n")
    }

    /// Runs a script whose output does not matter.
    pub(crate) fn quiet(&mut self, script: &str) {
        self.run(script);
    }

    /// A client name whose home is `shard`.
    pub(crate) fn name_on(&self, prefix: &str, shard: usize) -> String {
        let home = &self.shards[0];
        (0..).map(|n| format!("{prefix}{n}")).find(|name| home.home_of(name) == shard).unwrap()
    }

    /// A topic whose retained message lives on `shard`.
    pub(crate) fn topic_on(&self, shard: usize) -> String {
        self.name_on("topic", shard)
    }

    /// New rules for all shards, in Mosquitto's format.
    pub(crate) fn rules(&mut self, file: &str) {
        let lines: Vec<&str> = file.lines().map(str::trim).collect();
        let mut builder = Builder::new();
        builder.file(&lines.join("\n")).unwrap();
        let access = Arc::new(builder.build());
        self.shards.iter_mut().for_each(|shard| shard.set_access(Arc::clone(&access)));
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        self.shards.iter().for_each(|shard| all.merge(shard.counters()));
        all
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["connect", name, ref options @ ..] => self.connect(name, options),
            ["wait", ms] => self.wait(ms.parse().unwrap()),
            ["durable"] => (0..self.shards.len()).for_each(|shard| self.durable(shard)),
            ["durable", shard] => self.durable(shard.parse().unwrap()),
            ["crash"] => self.crash(),
            ["stop"] => self.shards.iter_mut().for_each(Shard::stop),
            [name, "drop"] => self.drop_connection(name),
            [name, "granted", ref rest @ ..] => self.granted(name, rest),
            [name, "denied", cause] => self.denied(name, cause),
            [name, "checked"] => self.checked(name),
            [name, "raw", hex] => {
                let bytes: Vec<u8> = (0..hex.len())
                    .step_by(2)
                    .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                    .collect();
                self.feed(name, &bytes);
            }
            [name, command, ref rest @ ..] => self.packet(name, command, rest),
            _ => panic!("unknown command {line:?}"),
        }
        self.settle();
    }

    #[expect(clippy::too_many_lines, reason = "one field for each option of the script")]
    fn connect(&mut self, name: &str, options: &[&str]) {
        let version = match options.first() {
            Some(&"v31") => Version::V31,
            Some(&"v311") => Version::V311,
            Some(&"v5") => Version::V5,
            other => panic!("no version: {other:?}"),
        };
        let options = &options[1..];
        let id = value(options, "id=").unwrap_or(name);
        let id = if id == "-" { "" } else { id };
        let mut properties = PropertyList::new();
        let mut number = |key: &str, make: &dyn Fn(u32) -> Property<'static>| {
            if let Some(text) = value(options, key) {
                properties.push(make(text.parse().unwrap()));
            }
        };
        number("expiry=", &Property::SessionExpiryInterval);
        number("rmax=", &|n| Property::ReceiveMaximum(n.try_into().unwrap()));
        number("pmax=", &Property::MaximumPacketSize);
        number("amax=", &|n| Property::TopicAliasMaximum(n.try_into().unwrap()));
        if let Some(method) = value(options, "method=") {
            properties.push(Property::AuthenticationMethod(method));
        }
        if let Some(data) = value(options, "data=") {
            properties.push(Property::AuthenticationData(data.as_bytes()));
        }
        let mut will_properties = PropertyList::new();
        if let Some(delay) = value(options, "delay=") {
            will_properties.push(Property::WillDelayInterval(delay.parse().unwrap()));
        }
        let will = value(options, "will=").map(|text| {
            let (topic, payload) = text.split_once(':').unwrap();
            Will {
                qos: qos(options),
                retain: options.contains(&"retain"),
                properties: will_properties.as_properties(),
                topic,
                payload: payload.as_bytes(),
            }
        });
        let connect = Connect {
            version,
            bridge: false,
            clean_start: !options.contains(&"keep"),
            keep_alive_s: value(options, "alive=").map_or(0, |text| text.parse().unwrap()),
            properties: properties.as_properties(),
            client_id: id,
            will,
            username: value(options, "user="),
            password: value(options, "pass=").map(str::as_bytes),
        };
        let shard = if id.is_empty() { 0 } else { self.shards[0].home_of(id) };
        let conn = ConnId::new(self.next_conn, 0);
        self.next_conn += 1;
        self.clients.insert(name.into(), Client { shard, conn, version, open: true });
        self.by_conn.insert((shard, u32::try_from(conn.index()).unwrap()), name.into());
        let deadline = self.now.after(10_000);
        self.shards[shard].handle(Input::Opened { conn, deadline }, self.now);
        let address = value(options, "from=").unwrap_or("10.0.0.1").parse().unwrap();
        let address = Some(SocketAddr::new(address, 1883));
        let certificate = value(options, "cert=").map(|user| {
            Arc::new(Certificate { user: Some(user.into()), ..Certificate::default() })
        });
        let listener = value(options, "listener=").map_or(0, |text| text.parse().unwrap());
        let peer = &Peer { listener, address, certificate };
        if !self.asking {
            let user = value(options, "user=").map(Arc::from);
            let claims = value(options, "claims=")
                .map(|topic| Arc::new(Rules::new([topic], [topic], []).unwrap()));
            self.shards[shard].identify(conn, Identity { user, claims, ..Identity::default() });
        }
        self.shards[shard].handle(Input::Connect { conn, peer, connect }, self.now);
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each command of the script")]
    fn packet(&mut self, name: &str, command: &str, rest: &[&str]) {
        let version = self.clients[name].version;
        let id = |index: usize| PacketId::new(rest[index].parse().unwrap()).unwrap();
        let given = value(rest, "id=").and_then(|text| PacketId::new(text.parse().unwrap()));
        let empty = Properties::default();
        let ack = |id: PacketId, reason: Reason| Ack { packet_id: id, reason, properties: empty };
        let reason = |index: usize| {
            rest.get(index).map_or(Reason::Success, |text| {
                Reason::from_u8(u8::from_str_radix(&text[2..], 16).unwrap()).unwrap()
            })
        };
        let mut list = PropertyList::new();
        let packet = match command {
            "publish" => {
                let qos = qos(rest);
                if let Some(expiry) = value(rest, "expiry=") {
                    list.push(Property::MessageExpiryInterval(expiry.parse().unwrap()));
                }
                if let Some(pair) = value(rest, "user=") {
                    let (key, text) = pair.split_once(':').unwrap();
                    list.push(Property::UserProperty(key, text));
                }
                if let Some(alias) = value(rest, "alias=") {
                    list.push(Property::TopicAlias(alias.parse().unwrap()));
                }
                Packet::Publish(Publish {
                    dup: rest.contains(&"dup"),
                    qos,
                    retain: rest.contains(&"retain"),
                    topic: if rest[0] == "-" { "" } else { rest[0] },
                    packet_id: (qos != Qos::AtMostOnce).then(|| given.unwrap()),
                    properties: list.as_properties(),
                    topic_alias: None,
                    message_expiry_s: None,
                    payload: if rest[1] == "-" { b"" } else { rest[1].as_bytes() },
                })
            }
            "subscribe" => {
                if let Some(sid) = value(rest, "sid=") {
                    list.push(Property::SubscriptionIdentifier(sid.parse().unwrap()));
                }
                let options = SubscribeOptions {
                    qos: qos(rest),
                    no_local: rest.contains(&"nl"),
                    retain_as_published: rest.contains(&"rap"),
                    retain_handling: match value(rest, "rh=") {
                        Some("1") => RetainHandling::IfNew,
                        Some("2") => RetainHandling::Never,
                        _ => RetainHandling::Always,
                    },
                };
                let filters = vec![SubscribeFilter { filter: rest[0], options }];
                let packet_id = given.unwrap_or(PacketId::new(1).unwrap());
                let properties = list.as_properties();
                Packet::Subscribe(Subscribe { packet_id, properties, filters })
            }
            "unsubscribe" => Packet::Unsubscribe(Unsubscribe {
                packet_id: given.unwrap_or(PacketId::new(1).unwrap()),
                properties: empty,
                filters: vec![rest[0]],
            }),
            "puback" => Packet::Puback(ack(id(0), reason(1))),
            "pubrec" => Packet::Pubrec(ack(id(0), reason(1))),
            "pubrel" => Packet::Pubrel(ack(id(0), reason(1))),
            "pubcomp" => Packet::Pubcomp(ack(id(0), reason(1))),
            "auth" => {
                if let Some(method) = value(rest, "method=") {
                    list.push(Property::AuthenticationMethod(method));
                }
                if let Some(data) = value(rest, "data=") {
                    list.push(Property::AuthenticationData(data.as_bytes()));
                }
                Packet::Auth(Auth { reason: reason(0), properties: list.as_properties() })
            }
            "ping" => Packet::Pingreq,
            "bye" => {
                if let Some(expiry) = value(rest, "expiry=") {
                    list.push(Property::SessionExpiryInterval(expiry.parse().unwrap()));
                }
                let reason = if rest.contains(&"will") {
                    Reason::DisconnectWithWill
                } else {
                    Reason::NORMAL_DISCONNECTION
                };
                Packet::Disconnect(Disconnect { reason, properties: list.as_properties() })
            }
            other => panic!("unknown command {other:?}"),
        };
        let mut bytes = Vec::new();
        codec::encode(&packet, version, &mut bytes);
        self.feed(name, &bytes);
    }

    fn feed(&mut self, name: &str, bytes: &[u8]) {
        let Client { shard, conn, version, open } = self.clients[name];
        if !open {
            return;
        }
        let input = match codec::decode(bytes, version, 1 << 24) {
            Ok(Some((packet, _))) => Input::Packet { conn, packet },
            Ok(None) => panic!("incomplete packet"),
            Err(error) => Input::Malformed { conn, error },
        };
        self.shards[shard].handle(input, self.now);
    }

    /// The oldest login that this client's connection has to have checked.
    fn take_asked(&mut self, name: &str) -> (usize, ConnId, Box<Credentials>) {
        let Client { shard, conn, .. } = self.clients[name];
        let at = self.asked.iter().position(|(s, c, _)| (*s, *c) == (shard, conn));
        self.asked.remove(at.expect("a login is being checked"))
    }

    fn answer(&mut self, name: &str, outcome: impl FnOnce(Proof) -> Outcome) {
        let (shard, conn, credentials) = self.take_asked(name);
        let (suspect, outcome) = (credentials.suspect, outcome(credentials.proof));
        self.shards[shard].handle(Input::Authenticated { conn, suspect, outcome }, self.now);
    }

    fn granted(&mut self, name: &str, rest: &[&str]) {
        let valid_ms = value(rest, "ends=").map(|text| text.parse().unwrap());
        let proven = Proven { valid_ms, ..Proven::named(rest[0]) };
        self.answer(name, |_| Outcome::Proven(Box::new(proven)));
    }

    fn denied(&mut self, name: &str, cause: &str) {
        let refusal = match cause {
            "guess" => Refusal::BadCredentials,
            "busy" => Refusal::Busy,
            "unavailable" => Refusal::Unavailable,
            "method" => Refusal::BadMethod,
            other => panic!("unknown cause {other:?}"),
        };
        self.answer(name, |_| Outcome::Refused(refusal));
    }

    /// Checks a step of SCRAM-SHA-256 against the user `ada` with the password `pencil`.
    fn checked(&mut self, name: &str) {
        self.answer(name, |proof| match proof {
            Proof::Begin { data, .. } => {
                let stored = Stored::new(b"pencil", ITERATIONS, &[1; SALT_BYTES]);
                let text = format!("ada:{stored}\n");
                let file = ScramFile::parse(text.as_bytes(), [0; 32]).unwrap();
                match file.begin(data.expose(), [0; NONCE_BYTES]) {
                    Ok((exchange, data)) => {
                        Outcome::Challenge { exchange: Box::new(exchange), data }
                    }
                    Err(_) => Outcome::Refused(Refusal::BadCredentials),
                }
            }
            Proof::Continue { exchange, data } => match exchange.finish(data.expose()) {
                Ok((user, data)) => {
                    Outcome::Proven(Box::new(Proven { data: Some(data), ..Proven::named(user) }))
                }
                Err(_) => Outcome::Refused(Refusal::BadCredentials),
            },
            Proof::Password(_) => panic!("no exchange"),
        });
    }

    fn drop_connection(&mut self, name: &str) {
        let client = self.clients.get_mut(name).unwrap();
        if std::mem::replace(&mut client.open, false) {
            let conn = client.conn;
            self.shards[client.shard].handle(Input::Closed { conn }, self.now);
        }
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now.after(ms);
        loop {
            let next = self.shards.iter().filter_map(Shard::next_deadline).min();
            self.now = next.map_or(end, |next| next.max(self.now.after(1)).min(end));
            for shard in &mut self.shards {
                shard.tick(self.now);
            }
            self.settle();
            if self.now == end {
                return;
            }
        }
    }

    /// Takes effects and output until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        loop {
            self.take_effects();
            self.take_output();
            if self.hold_mail || !self.deliver_mail() {
                return;
            }
        }
    }

    /// Delivers one letter.
    pub(crate) fn deliver_mail(&mut self) -> bool {
        let Some((from, to, mail)) = self.mail.pop_front() else { return false };
        self.shards[to].on_mail(from, mail, self.now);
        true
    }

    /// Delivers the first letter on its way to `to`.
    pub(crate) fn deliver_mail_to(&mut self, to: usize) -> bool {
        let Some(at) = self.mail.iter().position(|(_, target, _)| *target == to) else {
            return false;
        };
        let (from, to, mail) = self.mail.remove(at).unwrap();
        self.shards[to].on_mail(from, mail, self.now);
        self.take_effects();
        self.take_output();
        true
    }

    /// Delivers the first letter of one pair of shards.
    pub(crate) fn deliver_mail_between(&mut self, sender: usize, receiver: usize) -> bool {
        let pair = (sender, receiver);
        let Some(at) = self.mail.iter().position(|(from, to, _)| (*from, *to) == pair) else {
            return false;
        };
        let (from, to, mail) = self.mail.remove(at).unwrap();
        self.shards[to].on_mail(from, mail, self.now);
        self.take_effects();
        self.take_output();
        true
    }

    /// Position of the last record of a shard.
    pub(crate) fn last(&self, shard: usize) -> u64 {
        self.logs[shard].last
    }

    pub(crate) fn durable(&mut self, shard: usize) {
        self.durable_to(shard, self.last(shard));
    }

    pub(crate) fn durable_to(&mut self, shard: usize, lsn: u64) {
        self.logs[shard].durable = lsn;
        self.shards[shard].on_durable(lsn, self.now);
        self.settle();
    }

    /// Power fails: what is durable is all that is left. Every shard starts again from it.
    pub(crate) fn crash(&mut self) {
        self.restart();
        let hold_mail = std::mem::replace(&mut self.hold_mail, false);
        self.settle();
        self.hold_mail = hold_mail;
        assert!(self.shards.iter().all(Shard::is_ready));
    }

    /// The same, before the shards have heard of each other.
    pub(crate) fn restart(&mut self) {
        let mut images: Vec<Image> = self.logs.iter_mut().map(Log::recover).collect();
        image::fence(&mut images);
        self.mail.clear();
        self.fetches.clear();
        self.by_conn.clear();
        self.clients.values_mut().for_each(|client| client.open = false);
        let shards = self.logs.len();
        for (shard, image) in images.into_iter().enumerate() {
            let place = Place { shard, shards };
            self.shards[shard] = Shard::new(self.settings.clone(), place, self.now);
            let last = self.logs[shard].last;
            self.shards[shard].restore(image, last, self.now);
        }
        self.take_effects();
    }

    /// Delivers the letters that are on their way now.
    pub(crate) fn deliver_round(&mut self) {
        for _ in 0..self.mail.len() {
            self.deliver_mail();
        }
        self.take_effects();
        self.take_output();
    }

    fn take_effects(&mut self) {
        for index in 0..self.shards.len() {
            let mut effects = Vec::new();
            self.shards[index].take_effects(&mut effects);
            let (mut closes, mut fetches) = (Vec::new(), Vec::new());
            for effect in effects {
                match effect {
                    Effect::Mail(to, mail) => self.mail.push_back((index, to, mail)),
                    Effect::Close(conn) => closes.push(conn),
                    Effect::Flow(_, flow) => self.flows.push(flow),
                    Effect::Authenticate(conn, credentials) => {
                        let key = (index, u32::try_from(conn.index()).unwrap());
                        let login = &credentials.login;
                        let user = login.user.as_deref().unwrap_or("-");
                        let name = &self.by_conn[&key];
                        self.lines.push(format!("{name}: asks as {user}").trim_end().to_owned());
                        self.asked.push((index, conn, credentials));
                    }
                    Effect::Record(record) => {
                        let log = &mut self.logs[index];
                        log.last += 1;
                        log.records.insert(log.last, record.clone());
                        self.shards[index].note_place(log.last, 0);
                        self.records.push(record);
                    }
                    Effect::Fetch { lsn, purpose, .. } => fetches.push((lsn, purpose)),
                }
            }
            self.take_output();
            for conn in closes {
                let key = (index, u32::try_from(conn.index()).unwrap());
                let name = self.by_conn[&key].clone();
                let client = self.clients.get_mut(&name).unwrap();
                if client.conn == conn && std::mem::replace(&mut client.open, false) {
                    self.lines.push(format!("{name}: closed"));
                }
                self.shards[index].handle(Input::Closed { conn }, self.now);
            }
            let fetches = fetches.into_iter().map(|(lsn, purpose)| (index, lsn, purpose));
            self.fetches.extend(fetches);
            if !self.hold_fetches {
                self.give_fetched();
            }
        }
    }

    /// Gives what was asked for from the log.
    pub(crate) fn fetch(&mut self) -> String {
        self.give_fetched();
        self.settle();
        std::mem::take(&mut self.lines).join("\n")
    }

    /// The cleaner shows a shard all its records: what still holds is recorded again.
    pub(crate) fn clean(&mut self, shard: usize) {
        for (lsn, record) in self.logs[shard].records.clone() {
            self.shards[shard].revive(lsn, record);
        }
        self.shards[shard].revive_rest(self.now);
        self.settle();
    }

    /// One of those that were asked for cannot be read; the others are given.
    pub(crate) fn lose_fetch(&mut self, index: usize) -> String {
        let (shard, lsn, purpose) = self.fetches.remove(index);
        assert!(!self.shards[shard].is_read_elsewhere(&purpose, lsn, self.now));
        self.shards[shard].on_unreadable(&purpose, self.now);
        self.fetch()
    }

    /// What was asked for cannot be read where it was.
    pub(crate) fn lose_fetches(&mut self) -> String {
        for (shard, lsn, purpose) in std::mem::take(&mut self.fetches) {
            if !self.shards[shard].is_read_elsewhere(&purpose, lsn, self.now) {
                self.shards[shard].on_unreadable(&purpose, self.now);
            }
        }
        self.settle();
        std::mem::take(&mut self.lines).join("\n")
    }

    fn give_fetched(&mut self) {
        for (shard, lsn, purpose) in std::mem::take(&mut self.fetches) {
            let Record::Publish(publish) = &self.logs[shard].records[&lsn] else {
                panic!("what was fetched is no message");
            };
            let message = Arc::clone(&publish.message);
            self.shards[shard].on_fetched(purpose, message, self.now);
        }
    }

    fn take_output(&mut self) {
        for index in 0..self.shards.len() {
            let mut dirty = Vec::new();
            loop {
                self.shards[index].take_dirty(&mut dirty);
                if dirty.is_empty() {
                    break;
                }
                let conn = dirty.remove(0);
                let key = (index, u32::try_from(conn.index()).unwrap());
                let name = self.by_conn[&key].clone();
                if self.unread.contains(&name) {
                    continue;
                }
                let version = self.shards[index].version_of(conn);
                let Some(out) = self.shards[index].take_output(conn) else {
                    continue;
                };
                let bytes: Vec<u8> = out.slices(0).flatten().copied().collect();
                let mut rest = &bytes[..];
                while let Some((packet, used)) = codec::decode(rest, version, 1 << 28).unwrap() {
                    self.lines.push(format!("{name}: {}", show(&packet)));
                    rest = &rest[used..];
                }
                assert!(rest.is_empty(), "a broken packet was sent: {rest:?}");
                self.shards[index].handle(Input::Drained { conn }, self.now);
            }
        }
    }
}

impl Log {
    /// What a start finds. Positions that were lost are not used again.
    fn recover(&mut self) -> Image {
        self.records.split_off(&(self.durable + 1));
        let mut image = Image::default();
        for (lsn, record) in &self.records {
            let place = culex::store::Place { lsn: *lsn, offset: 0, bytes: 0 };
            image.apply(place, record.clone());
        }
        image.finish();
        self.last += 1000;
        self.durable = self.last;
        image
    }
}

/// Runs a script on one shard and compares what clients were sent, line by line.
#[track_caller]
pub(crate) fn check(script: &str, expected: &str) {
    check_on(&mut Rig::new(1), script, expected);
}

#[track_caller]
pub(crate) fn check_on(rig: &mut Rig, script: &str, expected: &str) {
    let expected: Vec<&str> = expected.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(rig.run(script), expected.join("\n"), "\nscript:\n{script}");
}

fn value<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key))
}

fn qos(words: &[&str]) -> Qos {
    if words.contains(&"q2") {
        Qos::ExactlyOnce
    } else if words.contains(&"q1") {
        Qos::AtLeastOnce
    } else {
        Qos::AtMostOnce
    }
}

fn show(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| match ack.reason {
        Reason::Success => format!("{name} {}", ack.packet_id.get()),
        reason => format!("{name} {} {:#04x}", ack.packet_id.get(), reason as u8),
    };
    let codes = |reasons: &[Reason]| {
        let texts: Vec<String> = reasons.iter().map(|r| format!("{:#04x}", *r as u8)).collect();
        texts.join(",")
    };
    match packet {
        Packet::Connack(connack) => {
            let present = if connack.session_present { " present" } else { "" };
            let id = connack.properties.assigned_client_identifier();
            let id = id.map_or(String::new(), |_| " assigned".into());
            let method = connack.properties.authentication_method();
            let method = method.map_or(String::new(), |name| format!(" {name}"));
            match connack.reason {
                Reason::Success => format!("connack{present}{id}{method}"),
                reason => format!("connack {:#04x}", reason as u8),
            }
        }
        Packet::Publish(publish) => {
            let mut text = format!("publish {}", publish.topic);
            let payload = String::from_utf8_lossy(publish.payload);
            text.push_str(&format!(" {}", if payload.is_empty() { "-" } else { &payload }));
            if let Some(id) = publish.packet_id {
                text.push_str(&format!(" q{} id={}", publish.qos as u8, id.get()));
            }
            for (flag, word) in [(publish.retain, " retain"), (publish.dup, " dup")] {
                text.push_str(if flag { word } else { "" });
            }
            for property in publish.properties.iter() {
                match property {
                    Property::SubscriptionIdentifier(id) => text.push_str(&format!(" sid={id}")),
                    Property::MessageExpiryInterval(s) => text.push_str(&format!(" expiry={s}")),
                    Property::TopicAlias(alias) => text.push_str(&format!(" alias={alias}")),
                    Property::UserProperty(k, v) => text.push_str(&format!(" user={k}:{v}")),
                    other => text.push_str(&format!(" {other:?}")),
                }
            }
            text
        }
        Packet::Puback(a) => ack("puback", a),
        Packet::Pubrec(a) => ack("pubrec", a),
        Packet::Pubrel(a) => ack("pubrel", a),
        Packet::Pubcomp(a) => ack("pubcomp", a),
        Packet::Suback(suback) => format!("suback {}", codes(&suback.reasons)),
        Packet::Unsuback(unsuback) => format!("unsuback {}", codes(&unsuback.reasons)),
        Packet::Auth(auth) => {
            let data = auth.properties.authentication_data().unwrap_or_default();
            let method = auth.properties.authentication_method().unwrap_or("-");
            let data = String::from_utf8_lossy(data);
            format!("auth {:#04x} {method} {data}", auth.reason as u8)
        }
        Packet::Pingresp => "pingresp".into(),
        Packet::Disconnect(disconnect) => format!("disconnect {:#04x}", disconnect.reason as u8),
        other => panic!("a server does not send {other:?}"),
    }
}
