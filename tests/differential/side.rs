//! One broker's half of the play: connections, what is not acknowledged yet, and the barrier.

use std::collections::BTreeMap;
use std::net::Shutdown;

use crate::brokers::Broker;
use crate::client::{Client, Event};
use crate::compose::compose;
use crate::packet::{Packet, Version};
use crate::script::Step;

/// Topic of the barrier; scripts see it through `#` and do not report it.
const BARRIER: &str = "barrier/a/b/c/d/e/f";

/// What one step gave one client: the slot, and a line per packet in the order they came.
pub(crate) type Output = BTreeMap<usize, Vec<String>>;

/// A broker and who is connected to it.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    broker: Broker,
    /// One on each shard if there is more than one.
    controllers: Vec<Client>,
    slots: Vec<Slot>,
    output: Output,
}

#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    /// Connections that another one replaced.
    replaced: Vec<Connection>,
    pending: Vec<Pending>,
}

struct Connection {
    client: Client,
    /// Topics by alias, as the broker told them.
    aliases: BTreeMap<String, String>,
    /// The client has said that this is the end.
    leaving: bool,
    accepted: bool,
    /// Nothing came in time, or bytes that are no packet.
    broken: bool,
}

/// A PUBLISH with QoS 1 or 2 that the client has not acknowledged completely.
#[derive(Clone, Debug)]
struct Pending {
    key: String,
    id: u16,
    qos: u8,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Stage {
    Published,
    Received,
    Released,
}

impl Side {
    pub(crate) fn new(name: &'static str, mut broker: Broker, shards: usize) -> Self {
        let mut controllers = Vec::new();
        let mut known = Vec::new();
        while shards > 1 && known.len() < shards {
            let mut client = Client::open(broker.address, Version::V311);
            let shard = broker.shard_of(client.stream.local_addr().unwrap());
            if known.contains(&shard) {
                continue;
            }
            known.push(shard);
            // A client without identifier gets one that lives on the shard that accepted it.
            for text in ["connect id=", &format!("subscribe 1 {BARRIER}")] {
                client.write(&compose(text, Version::V311, ""));
                client.packet();
            }
            controllers.push(client);
        }
        broker.forget_log();
        Self { name, broker, controllers, slots: Vec::new(), output: Output::new() }
    }

    /// Forgets the clients of the last script.
    pub(crate) fn reset(&mut self, slots: usize) {
        self.slots = (0..slots).map(|_| Slot::default()).collect();
    }

    /// Sends what the step says.
    pub(crate) fn act(&mut self, step: &Step, prefix: &str) {
        let text = step.text.replace('~', prefix);
        let (verb, rest) = text.split_once(' ').unwrap_or((&text, ""));
        if verb == "connect" {
            let version = step.version().expect("a script says the version of a connection");
            let mut client = Client::open(self.broker.address, version);
            client.write(&compose(&text, version, ""));
            let slot = &mut self.slots[step.slot];
            let connection = Connection {
                client,
                aliases: BTreeMap::new(),
                leaving: false,
                accepted: false,
                broken: false,
            };
            slot.replaced.extend(slot.connection.replace(connection));
            return;
        }
        let slot = &mut self.slots[step.slot];
        let Some(connection) = &mut slot.connection else { return };
        let version = connection.client.version;
        match verb {
            "drop" => {
                let _ = connection.client.stream.shutdown(Shutdown::Write);
                connection.leaving = true;
            }
            "ack" => {
                if let Some(text) = acknowledge(&mut slot.pending, rest) {
                    connection.client.write(&compose(&text, version, ""));
                }
            }
            "again" => {
                connection.client.write(&compose(&format!("connect {rest}"), version, ""));
            }
            _ => {
                connection.leaving = verb == "disconnect";
                let packets = text.split(" & ").map(|text| compose(text, version, ""));
                connection.client.write(&packets.collect::<Vec<_>>().concat());
            }
        }
    }

    /// Collects what all clients got, up to the point where nothing of this step is under way.
    pub(crate) fn settle(&mut self, actor: usize) -> Output {
        self.collect(actor);
        // Three letters between shards are the longest way that a step takes.
        for _ in 0..3 {
            self.barrier();
        }
        for slot in 0..self.slots.len() {
            self.collect(slot);
        }
        std::mem::take(&mut self.output)
    }

    /// Each shard has done what reached it before, and what the other shards sent it before.
    fn barrier(&mut self) {
        let bytes = compose(&format!("publish {BARRIER}"), Version::V311, "");
        for controller in &mut self.controllers {
            controller.write(&bytes);
        }
        let count = self.controllers.len();
        for controller in &mut self.controllers {
            for _ in 0..count {
                controller.packet();
            }
        }
    }

    /// Reads what one client has been sent so far.
    fn collect(&mut self, index: usize) {
        let lines = self.output.entry(index).or_default();
        let slot = &mut self.slots[index];
        for mut connection in slot.replaced.drain(..) {
            // What it got last is the new connection's to get again.
            let mut nobody = Vec::new();
            while let Some(line) = connection.next(&mut nobody) {
                if !line.is_empty() {
                    lines.push(format!("replaced: {line}"));
                }
            }
        }
        let Some(connection) = &mut slot.connection else { return };
        if !connection.accepted {
            let Some(line) = connection.next(&mut slot.pending) else {
                lines.push("closed".into());
                slot.connection = None;
                return;
            };
            connection.accepted = true;
            lines.push(line);
        }
        if !connection.leaving {
            connection.client.write(&[0xc0, 0]);
        }
        loop {
            match connection.next(&mut slot.pending) {
                Some(line) if line == "pingresp " => return,
                Some(line) if line.is_empty() => {}
                Some(line) => lines.push(line),
                None => {
                    lines.push("closed".into());
                    slot.connection = None;
                    return;
                }
            }
        }
    }
}

impl Connection {
    /// The next packet as a line that another broker's can be compared with; empty for none of the
    /// script's; `None` at the end.
    fn next(&mut self, pending: &mut Vec<Pending>) -> Option<String> {
        if self.broken {
            return None;
        }
        match self.client.read() {
            Event::Packet(packet) if packet.name == "publish" => {
                Some(self.publish(&packet, pending))
            }
            Event::Packet(packet) => Some(other(&packet, pending)),
            Event::Closed => None,
            Event::Trouble(text) => {
                self.broken = true;
                Some(format!("trouble: {text}"))
            }
        }
    }

    fn publish(&mut self, packet: &Packet, pending: &mut Vec<Pending>) -> String {
        let mut topic = packet.topic.clone();
        if let Some(alias) = packet.value("alias") {
            if topic.is_empty() {
                topic = self.aliases.get(alias).cloned().unwrap_or_else(|| "unknown-alias".into());
            } else {
                self.aliases.insert(alias.into(), topic.clone());
            }
        }
        if topic == BARRIER {
            return String::new();
        }
        let mut words = packet.words[1..].to_vec();
        words.retain(|word| !word.starts_with("alias=") && !word.starts_with("id="));
        for word in &mut words {
            if let Some(text) = word.strip_prefix("mexp=") {
                let seconds: u64 = text.parse().unwrap();
                *word = format!("mexp={}", seconds.div_ceil(1000) * 1000);
            }
        }
        // User properties keep their order; the others have none.
        words.sort_by_key(
            |word| {
                if word.starts_with("up=") { "up=".to_owned() } else { word.clone() }
            },
        );
        let line = format!("publish {topic} {}", words.join(" "));
        if packet.qos > 0 {
            words.retain(|word| word != "dup" && !word.starts_with("mexp="));
            let key = format!("{topic} {}", words.join(" "));
            let reused = pending.iter().position(|p| p.id == packet.id);
            if let Some(at) = reused {
                let old = pending.remove(at);
                if old.key != key && old.stage != Stage::Published {
                    return format!("{line} reuses the id of {}", old.key);
                }
            }
            let stage = Stage::Published;
            pending.push(Pending { key, id: packet.id, qos: packet.qos, stage });
        }
        line
    }
}

fn other(packet: &Packet, pending: &mut Vec<Pending>) -> String {
    let own = ["rmax=", "amax=", "max=", "assigned=", "rs="];
    let mut words: Vec<String> = packet
        .words
        .iter()
        .filter(|word| !own.iter().any(|key| word.starts_with(key)))
        .cloned()
        .collect();
    match packet.name {
        "pubrel" => {
            let known = pending.iter_mut().find(|p| p.id == packet.id && p.qos == 2);
            words[0] = known.map_or_else(
                || "of-nothing".into(),
                |pending| {
                    pending.stage = Stage::Released;
                    format!("of {}", pending.key)
                },
            );
        }
        "connack" if !words.iter().any(|word| word == "present") && packet.codes == [0] => {
            pending.clear();
        }
        _ => {}
    }
    format!("{} {}", packet.name, words.join(" "))
}

/// What the client says next about the `n`th pending message; `n` is the first word, a reason code
/// the second.
fn acknowledge(pending: &mut Vec<Pending>, words: &str) -> Option<String> {
    let (n, code) = words.split_once(' ').unwrap_or((words, ""));
    pending.sort_by(|a, b| (&a.key, a.id).cmp(&(&b.key, b.id)));
    let at = n.parse::<usize>().unwrap().checked_rem(pending.len())?;
    let Pending { id, qos, stage, .. } = pending[at];
    let refused = !code.is_empty();
    let text = match (qos, stage) {
        (1, _) => "puback",
        (_, Stage::Published) => "pubrec",
        (_, Stage::Released) => "pubcomp",
        (_, Stage::Received) => return None,
    };
    if text == "pubrec" && !refused {
        pending[at].stage = Stage::Received;
    } else {
        pending.remove(at);
    }
    Some(format!("{text} {id} {}", if text == "pubcomp" { "" } else { code }))
}
