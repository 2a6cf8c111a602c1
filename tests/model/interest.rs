//! Subscriptions over several shards against a scan of all that clients have asked for.
//!
//! Letters are delivered in any order between pairs of shards. A message reaches, once, each client
//! whose SUBACK came before it was published, and no client that does not want it.

use culex::codec::{
    self, Connect, Packet, PacketId, Properties, Publish, Qos, Subscribe, SubscribeFilter,
    SubscribeOptions, Unsubscribe, Version,
};
use culex::shard::{Effect, Input, Mail, Peer, Place, Settings, Shard};
use culex::topic::{Filter, TopicName};
use proptest::collection::vec;
use proptest::prelude::*;
use shards::{ConnId, Millis};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const SHARDS: usize = 3;
const CLIENTS: usize = 6;
const FILTERS: [&str; 7] = ["a", "a/b", "a/+", "a/#", "#", "+/b", "b"];
const TOPICS: [&str; 4] = ["a", "a/b", "b", "c/b"];
const NOW: Millis = Millis(1_000_000);

#[derive(Clone, Debug)]
enum Step {
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Publish(usize, usize),
    /// The first letter of one pair arrives.
    Letter(usize),
    /// The connection, and with it the session, ends; the client connects again.
    Reconnect(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        4 => (client.clone(), 0..FILTERS.len()).prop_map(|(c, f)| Step::Subscribe(c, f)),
        3 => (client.clone(), 0..FILTERS.len()).prop_map(|(c, f)| Step::Unsubscribe(c, f)),
        5 => (client.clone(), 0..TOPICS.len()).prop_map(|(c, t)| Step::Publish(c, t)),
        12 => (0..SHARDS * SHARDS).prop_map(Step::Letter),
        1 => client.prop_map(Step::Reconnect),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// SUBSCRIBE was sent.
    Asked,
    /// SUBACK has come.
    Granted,
}

#[derive(Debug, Default)]
struct Client {
    home: usize,
    generation: u32,
    wishes: BTreeMap<usize, Wish>,
    /// Filters of the SUBSCRIBEs without SUBACK, by packet id.
    asked: BTreeMap<u16, usize>,
    next_id: u16,
}

/// Who has to get a message, and who may.
#[derive(Debug)]
struct Sent {
    topic: usize,
    must: BTreeSet<usize>,
    may: BTreeSet<usize>,
    got: BTreeMap<usize, usize>,
}

struct Rig {
    shards: Vec<Shard>,
    mail: Vec<VecDeque<Mail>>,
    clients: Vec<Client>,
    sent: Vec<Sent>,
}

impl Rig {
    fn new() -> Self {
        let shard = |shard| {
            let settings = Settings { sys_interval_s: 0, ..Settings::default() };
            Shard::new(settings, Place { shard, shards: SHARDS }, NOW)
        };
        let mut rig = Rig {
            shards: (0..SHARDS).map(shard).collect(),
            mail: (0..SHARDS * SHARDS).map(|_| VecDeque::new()).collect(),
            clients: Vec::new(),
            sent: Vec::new(),
        };
        for client in 0..CLIENTS {
            let home = rig.shards[0].home_of(&name(client));
            rig.clients.push(Client { home, next_id: 1, ..Client::default() });
            rig.connect(client);
        }
        rig
    }

    fn conn(&self, client: usize) -> ConnId {
        ConnId::new(u32::try_from(client).unwrap(), self.clients[client].generation)
    }

    fn connect(&mut self, client: usize) {
        let (conn, home) = (self.conn(client), self.clients[client].home);
        let connect = Connect {
            version: Version::V311,
            bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            properties: Properties::default(),
            client_id: &name(client),
            will: None,
            username: None,
            password: None,
        };
        self.shards[home].handle(Input::Opened { conn, deadline: Millis::MAX }, NOW);
        self.shards[home].handle(Input::Connect { conn, peer: &Peer::default(), connect }, NOW);
    }

    fn packet(&mut self, client: usize, packet: Packet<'_>) {
        let (conn, home) = (self.conn(client), self.clients[client].home);
        self.shards[home].handle(Input::Packet { conn, packet }, NOW);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Subscribe(client, filter) => self.subscribe(client, filter),
            Step::Unsubscribe(client, filter) => {
                self.gives_up(client, Some(filter));
                let packet_id = PacketId::new(60_000).unwrap();
                let (properties, filters) = (Properties::default(), vec![FILTERS[filter]]);
                let packet = Unsubscribe { packet_id, properties, filters };
                self.packet(client, Packet::Unsubscribe(packet));
            }
            Step::Publish(client, topic) => self.publish(client, topic),
            Step::Letter(pair) => self.letter(pair),
            Step::Reconnect(client) => {
                self.gives_up(client, None);
                let (conn, home) = (self.conn(client), self.clients[client].home);
                self.shards[home].handle(Input::Closed { conn }, NOW);
                self.clients[client].asked.clear();
                self.clients[client].generation += 1;
                self.connect(client);
            }
        }
        self.settle();
    }

    fn subscribe(&mut self, client: usize, filter: usize) {
        let id = self.clients[client].next_id;
        self.clients[client].next_id += 1;
        self.clients[client].asked.insert(id, filter);
        self.clients[client].wishes.entry(filter).or_insert(Wish::Asked);
        // What is still on its way may find the new subscription.
        for sent in self.sent.iter_mut().filter(|sent| matches(filter, sent.topic)) {
            sent.may.insert(client);
        }
        let options = SubscribeOptions::with_qos(Qos::AtMostOnce);
        let filters = vec![SubscribeFilter { filter: FILTERS[filter], options }];
        let (packet_id, properties) = (PacketId::new(id).unwrap(), Properties::default());
        self.packet(client, Packet::Subscribe(Subscribe { packet_id, properties, filters }));
    }

    /// A wish ends, or all of them: what is on its way need not come any more.
    fn gives_up(&mut self, client: usize, filter: Option<usize>) {
        let wishes = &mut self.clients[client].wishes;
        match filter {
            Some(filter) => drop(wishes.remove(&filter)),
            None => wishes.clear(),
        }
        for sent in &mut self.sent {
            let still = wishes
                .iter()
                .any(|(filter, wish)| *wish == Wish::Granted && matches(*filter, sent.topic));
            if !still {
                sent.must.remove(&client);
            }
        }
    }

    fn publish(&mut self, client: usize, topic: usize) {
        let wanted = |wish: &dyn Fn(Wish) -> bool| {
            let fits =
                |client: &Client| client.wishes.iter().any(|(f, w)| wish(*w) && matches(*f, topic));
            (0..CLIENTS).filter(|c| fits(&self.clients[*c])).collect::<BTreeSet<usize>>()
        };
        let must = wanted(&|wish| wish == Wish::Granted);
        let may = wanted(&|_| true);
        let number = u32::try_from(self.sent.len()).unwrap();
        self.sent.push(Sent { topic, must, may, got: BTreeMap::new() });
        self.packet(
            client,
            Packet::Publish(Publish {
                dup: false,
                qos: Qos::AtMostOnce,
                retain: false,
                topic: TOPICS[topic],
                packet_id: None,
                properties: Properties::default(),
                topic_alias: None,
                message_expiry_s: None,
                payload: &number.to_be_bytes(),
            }),
        );
    }

    fn letter(&mut self, pair: usize) {
        if let Some(letter) = self.mail[pair].pop_front() {
            self.shards[pair % SHARDS].on_mail(pair / SHARDS, letter, NOW);
        }
    }

    fn settle(&mut self) {
        for from in 0..SHARDS {
            let mut effects = Vec::new();
            self.shards[from].take_effects(&mut effects);
            for effect in effects {
                match effect {
                    Effect::Mail(to, mail) => self.mail[from * SHARDS + to].push_back(mail),
                    other => panic!("{other:?}"),
                }
            }
        }
        for client in 0..CLIENTS {
            self.read(client);
        }
    }

    fn read(&mut self, client: usize) {
        let (conn, home) = (self.conn(client), self.clients[client].home);
        let Some(out) = self.shards[home].take_output(conn) else { return };
        let bytes: Vec<u8> = out.slices(0).flatten().copied().collect();
        let mut rest = &bytes[..];
        while let Some((packet, consumed)) = codec::decode(rest, Version::V311, u32::MAX).unwrap() {
            rest = &rest[consumed..];
            match packet {
                Packet::Suback(suback) => {
                    let filter = self.clients[client].asked.remove(&suback.packet_id.get());
                    // It may have been given up since, and asked for again: that SUBACK counts.
                    let asked_again =
                        self.clients[client].asked.values().any(|f| Some(*f) == filter);
                    let wishes = &mut self.clients[client].wishes;
                    if let Some(wish) = wishes.get_mut(&filter.unwrap()).filter(|_| !asked_again) {
                        *wish = Wish::Granted;
                    }
                }
                Packet::Publish(publish) => {
                    let number = u32::from_be_bytes(publish.payload.try_into().unwrap());
                    let sent = &mut self.sent[usize::try_from(number).unwrap()];
                    assert_eq!(TOPICS[sent.topic], publish.topic);
                    *sent.got.entry(client).or_default() += 1;
                }
                Packet::Connack(_) | Packet::Unsuback(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.shards[home].handle(Input::Drained { conn }, NOW);
    }

    fn come_to_rest(&mut self) {
        while self.mail.iter().any(|pair| !pair.is_empty()) {
            (0..self.mail.len()).for_each(|pair| self.letter(pair));
            self.settle();
        }
    }

    fn check(&self) {
        for (number, sent) in self.sent.iter().enumerate() {
            assert!(sent.got.values().all(|count| *count == 1), "{number} twice: {sent:?}");
            let got: BTreeSet<usize> = sent.got.keys().copied().collect();
            assert!(got.is_superset(&sent.must), "{number} is missing: {sent:?}");
            assert!(got.is_subset(&sent.may), "{number} is not wanted: {sent:?}");
        }
        assert!(self.clients.iter().all(|client| client.asked.is_empty()), "no SUBACK");
    }
}

fn name(client: usize) -> String {
    format!("client{client}")
}

fn matches(filter: usize, topic: usize) -> bool {
    Filter::parse(FILTERS[filter], 8).unwrap().matches(TopicName::parse(TOPICS[topic]).unwrap())
}

proptest! {
    #[test]
    fn receivers_are_those_of_a_scan(steps in vec(step(), 1..300)) {
        let mut rig = Rig::new();
        for step in &steps {
            rig.run(step);
        }
        rig.come_to_rest();
        rig.check();
        // With all letters delivered the answer is exact: all that is wanted and nothing else.
        rig.sent.clear();
        for topic in 0..TOPICS.len() {
            rig.run(&Step::Publish(topic % CLIENTS, topic));
        }
        rig.come_to_rest();
        rig.check();
        for sent in &rig.sent {
            prop_assert_eq!(&sent.must, &sent.may);
        }
        // Who has nobody left gets no letters: interest ends with the last subscription.
        for client in 0..CLIENTS {
            rig.run(&Step::Reconnect(client));
        }
        rig.come_to_rest();
        (0..CLIENTS).for_each(|client| rig.run(&Step::Publish(client, 1)));
        prop_assert!(rig.mail.iter().all(VecDeque::is_empty));
    }
}
