//! Scripts: what clients send and what they must get, one step per line.
//!
//! ```text
//! 5: sub < disconnect 0x8e      only for MQTT 5.0 (3: both 3.x, 31:, 311:)
//! sub > PACKET                  sends; a CONNECT without connection opens one
//! sub < PACKET                  the next packet is this one
//! sub <* PACKET                 this packet comes; those before it stay for later lines
//! sub < closed                  the broker closes, nothing before it
//! sub ended 0x8e                DISCONNECT with this code (5.0 only), then closed
//! sub refused 0x81|0x82         closed; before that in 5.0 at most CONNACK or DISCONNECT with it
//! sub silent 1500               no packet for so many milliseconds; only where MQTT counts seconds
//! sub < nothing                 nothing but the answer to a PINGREQ
//! sub connects [OPTIONS] [-> WORDS]    CONNECT and CONNACK 0, which has these words
//! sub subscribes FILTER q1 …    SUBSCRIBE and SUBACK with the QoS asked for
//! pub publishes TOPIC q1 p=x    PUBLISH and its whole acknowledgement
//! sub gets TOPIC q1 p=x         the next packet is this PUBLISH, and it is acknowledged
//! sub leaves                    DISCONNECT, the broker closes
//! sub drops                     end of stream without DISCONNECT, the broker closes
//! sub resets                    RST
//! ```
//! `~` stands for a prefix that no other test has; a client's id is `~` and its name.
//! Expected words: `id=$m` remembers a value, later `$m` is that value; `a|b` either; `!rs` no such
//! property; `*` anything besides. A PUBLISH must have exactly the words given (the id apart),
//! other packets at least these and exactly the reason code, which is success if not given.
//! Before MQTT 5.0 expected properties do not count, reason codes are those of the version, and
//! DISCONNECT from the broker is not expected at all.

use std::collections::BTreeMap;

use super::client::{Client, DEADLINE, Event};
use super::compose::{compose, number};
use super::packet::{PROPERTIES, Packet, Version};
use super::{Broker, Test};

impl Test<'_> {
    pub(crate) fn new(
        broker: &Broker,
        version: Version,
        shards: usize,
        prefix: String,
    ) -> Test<'_> {
        let (clients, names, step) = (BTreeMap::new(), BTreeMap::new(), String::new());
        Test { broker, version, shards, prefix, clients, names, step, packet_id: 1000 }
    }

    /// Runs the lines of a script; clients stay for the next one.
    pub(crate) fn run(&mut self, script: &str) {
        for (index, line) in script.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with("//") {
                continue;
            }
            self.step = format!("line {}: {line}", index + 1);
            let (versions, line) = match line.split_once(": ") {
                Some((versions, rest)) if !versions.contains(' ') => (versions, rest),
                _ => ("", line),
            };
            let due = match versions {
                "" => true,
                "3" => self.version < Version::V5,
                "31" => self.version == Version::V31,
                "311" => self.version == Version::V311,
                "5" => self.version == Version::V5,
                other => panic!("unknown version {other}"),
            };
            if due {
                let line = line.replace('~', &self.prefix);
                self.step(&line);
            }
        }
    }

    /// The connection of this name.
    pub(crate) fn client(&mut self, name: &str) -> &mut Client {
        let step = &self.step;
        self.clients.get_mut(name).unwrap_or_else(|| panic!("{name} is not connected; {step}"))
    }

    /// Takes the connection out of the script.
    pub(crate) fn take(&mut self, name: &str) -> Client {
        self.clients.remove(name).expect("a connected client")
    }

    fn step(&mut self, line: &str) {
        let (name, rest) = line.split_once(' ').expect("a client and what it does");
        let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            ">" => self.send(name, rest),
            "<" if rest == "closed" => self.closed(name),
            "<" if rest == "nothing" => {
                self.send(name, "pingreq");
                self.expect(name, "pingresp", false);
            }
            "<" => drop(self.expect(name, rest, false)),
            "<*" => drop(self.expect(name, rest, true)),
            "ended" => {
                self.expect(name, &format!("disconnect {rest}"), false);
                self.closed(name);
            }
            "refused" => self.refused(name, rest),
            "silent" => self.silent(name, rest.parse().unwrap()),
            "connects" => {
                let (options, words) = rest.split_once("->").unwrap_or((rest, ""));
                self.send(name, &format!("connect {options}"));
                self.expect(name, &format!("connack {words}"), false);
            }
            "subscribes" => self.subscribes(name, rest),
            "publishes" => self.publishes(name, rest),
            "gets" => self.gets(name, rest),
            "leaves" => {
                self.send(name, "disconnect");
                self.closed(name);
            }
            "drops" => self.take(name).lose(),
            "resets" => self.take(name).reset(),
            other => panic!("unknown verb {other}"),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.packet_id = if self.packet_id < 60_000 { self.packet_id + 1 } else { 1000 };
        self.packet_id
    }

    /// Sends one packet; CONNECT opens the connection if there is none.
    pub(crate) fn send(&mut self, name: &str, text: &str) {
        let text = self.substitute(text);
        let opens = text.starts_with("connect") || text.starts_with("raw");
        if opens && !self.clients.contains_key(name) {
            let wanted = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
            let version = match wanted {
                None => self.version,
                Some("31") => Version::V31,
                Some("311") => Version::V311,
                Some("5") => Version::V5,
                Some(other) => panic!("unknown version {other}"),
            };
            self.clients.insert(name.to_owned(), Client::open(self.broker.address, version));
        }
        let id = format!("{}{name}", self.prefix);
        let client = self.client(name);
        let bytes = compose(&text, client.version, &id);
        client.write(&bytes);
    }

    fn substitute(&self, text: &str) -> String {
        let known = |word: &str| {
            let (head, name) = word.split_once('$')?;
            Some(format!("{head}{}", self.names.get(name)?))
        };
        let words = text.split_whitespace().map(|word| known(word).unwrap_or_else(|| word.into()));
        words.collect::<Vec<_>>().join(" ")
    }

    /// Expects this packet, as the next one or `anywhere` among the next.
    pub(crate) fn expect(&mut self, name: &str, text: &str, anywhere: bool) -> Packet {
        let version = self.client(name).version;
        let wanted = self.substitute(text);
        if version < Version::V5 && wanted.starts_with("disconnect") {
            return Packet::default();
        }
        let mut position = 0;
        loop {
            let step = self.step.clone();
            let client = self.client(name);
            let packet = match client.waiting.remove(position) {
                Some(packet) => packet,
                None => match client.read() {
                    Event::Packet(packet) => packet,
                    other @ (Event::Closed | Event::Trouble(_)) => {
                        panic!("{step}\n  wanted {wanted}\n  but    {other:?}")
                    }
                },
            };
            let bindings = matches(&wanted, &packet, version);
            match bindings {
                Ok(bindings) => {
                    self.names.extend(bindings);
                    return packet;
                }
                Err(_) if anywhere => client.waiting.insert(position, packet),
                Err(why) => {
                    panic!("{step}\n  wanted {wanted}\n  got    {}\n  {why}", packet.text())
                }
            }
            position += 1;
        }
    }

    fn closed(&mut self, name: &str) {
        match self.client(name).next() {
            Event::Closed => drop(self.clients.remove(name)),
            Event::Packet(packet) => {
                panic!("{}\n  wanted closed\n  got    {}", self.step, packet.text())
            }
            Event::Trouble(text) => panic!("{}\n  wanted closed\n  but    {text}", self.step),
        }
    }

    fn refused(&mut self, name: &str, codes: &str) {
        let mut client = self.take(name);
        loop {
            match client.next() {
                Event::Closed => return,
                Event::Packet(packet) if client.version == Version::V5 => {
                    let answer = matches!(packet.name, "connack" | "disconnect");
                    let known = codes
                        .split('|')
                        .any(|code| packet.codes.iter().all(|c| u32::from(*c) == number(code)));
                    assert!(answer && known, "{}\n  got {}", self.step, packet.text());
                }
                other @ (Event::Packet(_) | Event::Trouble(_)) => {
                    panic!("{}\n  got {other:?}", self.step)
                }
            }
        }
    }

    fn silent(&mut self, name: &str, milliseconds: u64) {
        let time = std::time::Duration::from_millis(milliseconds);
        let client = self.client(name);
        client.stream.set_read_timeout(Some(time)).unwrap();
        let event = client.next();
        client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        assert!(matches!(event, Event::Trouble(_)), "{}\n  got {event:?}", self.step);
    }

    fn subscribes(&mut self, name: &str, filters: &str) {
        let id = self.next_id();
        self.send(name, &format!("subscribe {id} {filters}"));
        let mut codes: Vec<&str> = Vec::new();
        for word in filters.split_whitespace() {
            match word {
                "q1" => *codes.last_mut().unwrap() = "1",
                "q2" => *codes.last_mut().unwrap() = "2",
                "q0" | "nl" | "rap" => {}
                word if ["rh=", "sid=", "up="].iter().any(|key| word.starts_with(key)) => {}
                _ => codes.push("0"),
            }
        }
        self.expect(name, &format!("suback {id} {}", codes.join(" ")), true);
    }

    fn publishes(&mut self, name: &str, text: &str) {
        let words: Vec<&str> = text.split_whitespace().collect();
        if !words.contains(&"q1") && !words.contains(&"q2") {
            return self.send(name, &format!("publish {text}"));
        }
        let id = self.next_id();
        self.send(name, &format!("publish {text} id={id}"));
        // 0x10: accepted, nobody has subscribed.
        if words.contains(&"q1") {
            self.expect(name, &format!("puback {id} 0|0x10"), true);
        } else {
            self.expect(name, &format!("pubrec {id} 0|0x10"), true);
            self.send(name, &format!("pubrel {id}"));
            self.expect(name, &format!("pubcomp {id}"), true);
        }
    }

    fn gets(&mut self, name: &str, text: &str) {
        let packet = self.expect(name, &format!("publish {text}"), false);
        self.acknowledge(name, &packet);
    }

    /// Acknowledges a PUBLISH completely.
    pub(crate) fn acknowledge(&mut self, name: &str, packet: &Packet) {
        let id = packet.id;
        if packet.qos == 1 {
            self.send(name, &format!("puback {id}"));
        } else if packet.qos == 2 {
            self.send(name, &format!("pubrec {id}"));
            self.expect(name, &format!("pubrel {id}"), true);
            self.send(name, &format!("pubcomp {id}"));
        }
    }
}

/// Whether the packet is the wanted one; the values it gives to new names.
fn matches(
    wanted: &str,
    packet: &Packet,
    version: Version,
) -> Result<Vec<(String, String)>, String> {
    let mut words: Vec<String> = wanted.split_whitespace().map(str::to_owned).collect();
    if words.remove(0) != packet.name {
        return Err("another kind of packet".into());
    }
    let is_property = |word: &str| {
        let key = word.trim_start_matches('!').split('=').next().unwrap_or(word);
        PROPERTIES.iter().any(|row| row.1 == key)
    };
    if version < Version::V5 {
        words.retain(|word| !is_property(word));
    }
    let mut left = packet.words.clone();
    if packet.name == "publish" {
        let given = words.iter().any(|word| word.starts_with("id="));
        left.retain(|word| given || !word.starts_with("id="));
    } else {
        reasons(&mut words, packet, version)?;
    }
    let mut bindings = Vec::new();
    let anything = words.iter().any(|word| word == "*");
    let lenient = anything || packet.name != "publish";
    for word in words.iter().filter(|word| *word != "*") {
        if let Some(absent) = word.strip_prefix('!') {
            if packet.value(absent).is_some() {
                return Err(format!("{absent} must not be there"));
            }
            continue;
        }
        let at = left.iter().position(|actual| one_of(word, actual, &mut bindings));
        left.remove(at.ok_or_else(|| format!("without {word}"))?);
    }
    // Order counts where a property may repeat and MQTT keeps the order.
    let pairs = |words: &[String]| -> Vec<String> {
        words.iter().filter(|word| word.starts_with("up=")).cloned().collect()
    };
    if !lenient && pairs(&words) != pairs(&packet.words) {
        return Err("user properties in another order".into());
    }
    let present = left.iter().any(|word| word == "present");
    if anything || (lenient && !present) || left.is_empty() {
        Ok(bindings)
    } else {
        Err(format!("not expected: {}", left.join(" ")))
    }
}

/// Replaces the packet id and reason codes of an expected packet by what must be on the wire.
fn reasons(words: &mut Vec<String>, packet: &Packet, version: Version) -> Result<(), String> {
    let is_code =
        |word: &String| word.starts_with(|c: char| c.is_ascii_digit()) && !word.contains('=');
    let mut codes: Vec<String> = words.extract_if(.., |word| is_code(word)).collect();
    if packet.id != 0 {
        let id = if codes.is_empty() { None } else { Some(codes.remove(0)) };
        if id.is_some_and(|id| id != packet.id.to_string()) {
            return Err("another packet id".into());
        }
    }
    let one = packet.codes.len() == 1 && !matches!(packet.name, "suback" | "unsuback");
    if codes.is_empty() && one {
        codes.push("0".into());
    }
    if version < Version::V5 && !matches!(packet.name, "connack" | "suback") {
        codes.clear();
    }
    if codes.len() != packet.codes.len() {
        return Err(format!("codes {:02x?}", packet.codes));
    }
    for (wanted, actual) in codes.iter().zip(&packet.codes) {
        let fits = |text: &str| translate(number(text), packet.name, version) == u32::from(*actual);
        if !wanted.split('|').any(fits) {
            return Err(format!("code {actual:#04x}"));
        }
    }
    Ok(())
}

/// The code that stands for this MQTT 5.0 reason in another version.
fn translate(code: u32, name: &str, version: Version) -> u32 {
    match (version, name, code) {
        (Version::V5, ..) => code,
        (_, "connack", 0x84) => 1,
        (_, "connack", 0x85) => 2,
        (_, "connack", 0x86) => 4,
        (_, "connack", 0x87) => 5,
        (_, "connack", 0x80..) => 3,
        (_, "suback", 0x80..) => 0x80,
        _ => code,
    }
}

/// Whether the actual word is the wanted one, with `|` and `$name`.
fn one_of(wanted: &str, actual: &str, bindings: &mut Vec<(String, String)>) -> bool {
    if let Some((head, name)) = wanted.split_once('$')
        && head.ends_with('=')
        && !name.contains('/')
    {
        let Some(value) = actual.strip_prefix(head) else { return false };
        bindings.push((name.to_owned(), value.to_owned()));
        return true;
    }
    let Some((key, values)) = wanted.split_once('=') else { return wanted == actual };
    let Some(value) = actual.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) else {
        return false;
    };
    values.split('|').any(|wanted| wanted == value)
}
