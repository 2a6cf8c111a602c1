//! Random scripts: who sends what, as lines of the language of `compose`.
//!
//! Besides the packets there: `connect` opens a connection (over an open one: takes it over),
//! `again` is a second CONNECT, `drop` the end of the stream without DISCONNECT, `ack N [CODE]`
//! the next acknowledgement for the `N`th pending message. `~` is a prefix that every play has for
//! itself.

use std::fmt;

use crate::packet::Version;

/// Clients of a script.
pub(crate) const SLOTS: usize = 4;
const STEPS: usize = 45;

/// One packet of one client.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) slot: usize,
    pub(crate) text: String,
}

impl Step {
    /// The version that a CONNECT names.
    pub(crate) fn version(&self) -> Option<Version> {
        let text = self.text.strip_prefix("connect ")?;
        text.split_whitespace().find_map(|word| match word {
            "v=31" => Some(Version::V31),
            "v=311" => Some(Version::V311),
            "v=5" => Some(Version::V5),
            _ => None,
        })
    }
}

impl Step {
    /// Breaks a rule whoever receives it.
    pub(crate) fn is_illegal(&self) -> bool {
        let odd = ODD_CONNECTS.iter().any(|odd| self.text.ends_with(odd));
        odd || self.text.starts_with("raw ") || ILLEGAL.contains(&self.text.as_str())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{} {}", self.slot, self.text)
    }
}

/// splitmix64.
struct Prng(u64);

impl Prng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

const TOPICS: &[&str] = &["~/a", "~/a/b", "~/a/c", "~/b", "~/b/c/d", "~", "~/", "/~", "~//b"];
const DOLLAR_TOPICS: &[&str] = &["$~/a", "$~"];
const FILTERS: &[&str] = &[
    "~/a",
    "~/a/b",
    "~/a/c",
    "~/b",
    "~/b/c/d",
    "~",
    "~/",
    "/~",
    "~//b",
    "~/#",
    "~/+",
    "~/a/#",
    "~/a/+",
    "~/+/b",
    "~/+/+",
    "~/b/#",
    "~/+/c/#",
    "+/~",
    "/#",
    "/+",
    "+/a",
    "+/+/b",
    "#",
    "+",
    "$~/#",
    "$~/+",
    "~/+/#",
    "~/b/c/d/#",
];
/// What most subscribe to when a script is narrow.
const NARROW: &[&str] = &["~/a", "~/b", "~/+"];
pub(crate) const BAD_FILTERS: &[&str] =
    &["~/a#", "~/#/b", "~/a+", "~/+b", "x:", "x:610062", "x:ff", "$share/g+/~/a"];
pub(crate) const BAD_SHARES: &[&str] = &["$share//~/a", "$share/g", "$share/g/"];
const BAD_TOPICS: &[&str] = &["~/+", "~/#", "x:610062", "x:c328", "''"];

/// Packets that break a rule of framing or layout.
const MALFORMED: &[&str] = &[
    "raw 0000",
    "raw f000",
    "raw 36050001610001",
    "raw 38030001 61",
    "raw 310200",
    "raw c100",
    "raw c00100",
    "raw e100",
    "raw 8006000100016100",
    "raw 82020001",
    "raw 8200",
    "raw a2020001",
    "raw 820600010001 6103",
    "raw 4000",
    "raw 40020000",
    "raw 50020000",
    "raw 60020001",
    "raw 62020000",
    "raw 9003000100",
    "raw d000",
    "raw 20020000",
    "raw b0020001",
    "raw 32050001610000",
    "raw 30ffffffff7f",
    "raw 30ffffff7f",
    "raw 300400056162",
];

/// Properties where they do not belong or with values that they may not have; for 5.0.
const ILLEGAL: &[&str] = &[
    "publish ~/a p=x ct=a ct=b",
    "publish ~/a p=x sid=1",
    "publish ~/a p=x rmax=5",
    "publish ~/a p=x pf=2",
    "publish ~/a p=x resp=a/+",
    "publish ~/a p=x alias=0",
    "publish ~/a p=x alias=11",
    "publish '' p=x alias=3",
    "publish ~/a p=x mexp=1 mexp=2",
    "subscribe 6000 ~/a sid=0",
    "subscribe 6000 ~/a rh=3",
    "subscribe 6000 $share/~/~/a nl",
    "subscribe 6000 ~/a ct=a",
    "unsubscribe 6000 ~/a sid=1",
    "subscribe 0 ~/a",
    "unsubscribe 0 ~/a",
    "disconnect 0 expiry=1 expiry=1",
    "puback 6000 0x80 rs=x",
    "puback 6000 0x01",
    "pubrel 6000 0x80",
    "disconnect 0x00 rmax=1",
    "disconnect 0x01",
    "auth 0x18",
    "auth 0x01 method=x",
];
const ODD_CONNECTS: &[&str] = &[
    "id= clean=1",
    "id= clean=0",
    "id=~c0 level=9",
    "id=~c0 name=MQTX",
    "id=~c0 flags=0x03",
    "id=~c0 flags=0x40 pass=p",
    "id=~c0 flags=0x1a",
    "id=~c0 will=~/w flags=0x1e",
    "id=~c0 flags=0x22",
    "id=~c0 will=~/+ wp=w",
    "id=x:610062",
    "id=~c0 rmax=0",
    "id=~c0 max=0",
    "id=~c0 rpi=2",
    "id=~c0 rri=2",
    "id=~c0 method=x",
    "id=~c0 data=x",
    "id=~c0 expiry=1 expiry=1",
    "id=~c0 ct=a",
    "id=~c0 will=~/w wpf=2",
    "id=~c0 will=~/w wexpiry=1",
    "id=~c0 user=x:ff",
    "id=~c0 will=x:ff wp=w",
    "id=~c0123456789012345678901234567890",
];

/// What a script may contain; a seed switches most things off, so that the rest meets more often.
struct Features {
    overlap: bool,
    shared: bool,
    retained: bool,
    wills: bool,
    properties: bool,
    options: bool,
    identifiers: bool,
    aliases: bool,
    dollar: bool,
    odd: bool,
    malformed: bool,
    small: bool,
    reuse: bool,
    /// PUBREL comes in a step of its own.
    late: bool,
    burst: bool,
    /// All publish to few topics, and groups have several members.
    narrow: bool,
}

struct Writer {
    prng: Prng,
    features: Features,
    clients: Vec<Client>,
    count: usize,
    steps: Vec<Step>,
}

struct Client {
    version: &'static str,
    open: bool,
    filters: Vec<&'static str>,
    /// QoS 2 identifiers that this client has published and not released.
    open_ids: Vec<usize>,
}

/// The script of a seed.
pub(crate) fn script(seed: u64) -> Vec<Step> {
    let mut prng = Prng(seed);
    let mut on = |chance| prng.percent(chance);
    let features = Features {
        overlap: on(20),
        shared: on(25),
        retained: on(60),
        wills: on(40),
        properties: on(50),
        options: on(50),
        identifiers: on(40),
        aliases: on(30),
        dollar: on(15),
        odd: on(25),
        malformed: on(30),
        small: on(30),
        reuse: on(10),
        late: on(25),
        burst: on(35),
        narrow: on(30),
    };
    let clients = (0..SLOTS).map(|_| Client {
        version: prng.pick(&["v=31", "v=311", "v=5", "v=5", "v=5"]),
        open: false,
        filters: Vec::new(),
        open_ids: Vec::new(),
    });
    let clients = clients.collect();
    let mut writer = Writer { prng, features, clients, count: 0, steps: Vec::new() };
    while writer.steps.len() < STEPS {
        writer.step();
    }
    writer.steps
}

/// A script that somebody wrote: lines as they are printed.
pub(crate) fn written(text: &str) -> Vec<Step> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, text) = line.split_once(' ').expect("a client and what it does");
            Step { slot: name[1..].parse().expect("c0 to c3"), text: text.into() }
        })
        .collect()
}

/// Ends all sessions and retained messages of a script.
pub(crate) fn clean_up() -> Vec<Step> {
    let mut steps = Vec::new();
    for slot in 0..SLOTS {
        steps.push(Step { slot, text: format!("connect v=311 id=~c{slot}") });
    }
    for topic in TOPICS.iter().chain(DOLLAR_TOPICS).chain(&["~/w"]) {
        steps.push(Step { slot: 0, text: format!("publish {topic} retain") });
    }
    for slot in 0..SLOTS {
        steps.push(Step { slot, text: "disconnect".into() });
    }
    steps
}

impl Writer {
    fn push(&mut self, slot: usize, text: String) {
        self.steps.push(Step { slot, text });
    }

    fn step(&mut self) {
        self.count += 1;
        let slot = self.prng.below(SLOTS);
        if !self.clients[slot].open {
            if self.features.malformed && self.prng.percent(10) {
                return self.odd_connect(slot);
            }
            return self.connect(slot);
        }
        match self.prng.below(100) {
            0..18 => self.subscribe(slot),
            18..23 => self.unsubscribe(slot),
            23..55 if self.features.burst && self.prng.percent(30) => self.burst(slot),
            23..55 => self.publish(slot),
            55..78 => self.acknowledge(slot),
            78..87 => self.release(slot),
            87..90 => self.leave(slot),
            90..93 => self.end(slot, "drop".into()),
            93..95 => self.connect(slot),
            95..98 if self.features.odd => self.odd(slot),
            98.. if self.features.malformed => {
                let text = self.prng.pick(MALFORMED).replace(' ', "").replace("raw", "raw ");
                self.end(slot, text);
            }
            _ => self.publish(slot),
        }
    }

    fn end(&mut self, slot: usize, text: String) {
        self.push(slot, text);
        self.clients[slot].open = false;
    }

    fn connect(&mut self, slot: usize) {
        let Self { prng, features, clients, .. } = self;
        let client = &mut clients[slot];
        if prng.percent(5) {
            client.version = prng.pick(&["v=31", "v=311", "v=5"]);
        }
        let clean = prng.percent(40);
        let mut text = format!("connect {} id=~c{slot} clean={}", client.version, u8::from(clean));
        let v5 = client.version == "v=5";
        if v5 && prng.percent(70) {
            text += prng.pick(&[" expiry=1000", " expiry=4294967295", " expiry=0"]);
        }
        if v5 && features.small {
            if prng.percent(50) {
                text += prng.pick(&[" rmax=1", " rmax=2", " rmax=100"]);
            }
            if prng.percent(40) {
                text += prng.pick(&[" max=30", " max=45", " max=100"]);
            }
        }
        if v5 && features.aliases && prng.percent(60) {
            text += prng.pick(&[" amax=1", " amax=5"]);
        }
        if prng.percent(20) {
            text += prng.pick(&[" keep=60", " keep=65535", " user=u", " user=u pass=p"]);
        }
        if v5 && features.properties && prng.percent(20) {
            text += prng.pick(&[" rpi=0", " rpi=1", " rri=0", " rri=1", " up=a:b up=a:b"]);
        }
        if features.wills && prng.percent(60) {
            text += &format!(" will={} wp=w{}", prng.pick(&["~/w", "~/a", "~/b"]), self.count);
            text += prng.pick(&["", " wq=1", " wq=2"]);
            if features.retained {
                text += prng.pick(&["", " wretain"]);
            }
            if v5 && features.properties {
                text += prng.pick(&["", " wdelay=0", " wdelay=5000", " wct=t wup=a:b", " wpf=1"]);
            }
        }
        client.open = true;
        if clean {
            client.filters.clear();
        }
        client.open_ids.clear();
        self.push(slot, text);
    }

    fn subscribe(&mut self, slot: usize) {
        let count = if self.prng.percent(20) { 2 } else { 1 };
        let mut text = format!("subscribe {}", 1000 + self.count);
        let mut any = false;
        for _ in 0..count {
            let narrow = self.features.narrow && self.prng.percent(70);
            let mut filter = self.prng.pick(if narrow { NARROW } else { FILTERS });
            if self.features.odd && self.prng.percent(5) {
                let bad = if self.prng.percent(80) { BAD_FILTERS } else { BAD_SHARES };
                filter = self.prng.pick(bad);
            }
            let Self { prng, features, clients, .. } = self;
            let client = &mut clients[slot];
            let known = client.filters.contains(&filter);
            let overlaps = client.filters.iter().any(|other| overlap(filter, other));
            if !known && overlaps && !features.overlap {
                continue;
            }
            if !known {
                client.filters.push(filter);
            }
            any = true;
            let share = if features.shared && prng.percent(50) { "$share/~/" } else { "" };
            text += &format!(" {share}{filter}{}", prng.pick(&["", " q1", " q2"]));
            if client.version == "v=5" && features.options {
                if share.is_empty() {
                    text += prng.pick(&["", "", " nl"]);
                }
                text += prng.pick(&["", " rap"]);
                text += prng.pick(&["", " rh=1", " rh=2"]);
            }
        }
        if self.features.identifiers && self.prng.percent(60) {
            text += self.prng.pick(&[" sid=1", " sid=2", " sid=20000"]);
        }
        if any {
            self.push(slot, text);
        }
    }

    fn unsubscribe(&mut self, slot: usize) {
        let id = 2000 + self.count;
        let Self { prng, clients, .. } = self;
        let filters = &mut clients[slot].filters;
        let filter = if filters.is_empty() || prng.percent(15) {
            prng.pick(FILTERS)
        } else {
            filters.swap_remove(prng.below(filters.len()))
        };
        self.push(slot, format!("unsubscribe {id} {filter}"));
    }

    fn publish(&mut self, slot: usize) {
        let Self { prng, features, clients, count, .. } = self;
        let client = &mut clients[slot];
        let narrow = features.narrow && prng.percent(80);
        let mut topic = prng.pick(if narrow { &["~/a", "~/b"] } else { TOPICS });
        if features.dollar && prng.percent(20) {
            topic = prng.pick(DOLLAR_TOPICS);
        }
        let mut bad = false;
        if features.odd && prng.percent(4) {
            topic = prng.pick(BAD_TOPICS);
            bad = true;
        }
        let mut text = format!("publish {topic}");
        match prng.below(3) {
            0 => {}
            1 => text += &format!(" q1 id={}", 100 + *count),
            _ => {
                let id = 1 + prng.below(30);
                let open = client.open_ids.contains(&id);
                if open && !features.reuse {
                    return;
                }
                // Five are allowed; a sixth is rare.
                if client.open_ids.len() >= 4 && !prng.percent(10) {
                    return;
                }
                if !open {
                    client.open_ids.push(id);
                }
                text += &format!(" q2 id={id}");
            }
        }
        let mut released = String::new();
        if let Some(id) = client.open_ids.last().filter(|_| text.contains(" q2 ") && !features.late)
        {
            released = format!(" & pubrel {id}");
            client.open_ids.pop();
        }
        let mut empty = false;
        if features.retained && prng.percent(35) {
            text += " retain";
            empty = prng.percent(25);
        }
        if !empty {
            text += &if prng.percent(5) { " p=*1000".into() } else { format!(" p=m{count}") };
        }
        if client.version == "v=5" && features.properties {
            for property in ["ct=json", "resp=r", "corr=x:00ff", "pf=1", "up=k:v up=a:b up=k:w"] {
                if prng.percent(15) {
                    text += &format!(" {property}");
                }
            }
            if prng.percent(15) {
                text += prng.pick(&[" mexp=100000", " mexp=4294967295"]);
            }
        }
        if client.version == "v=5" && features.aliases && prng.percent(40) {
            text += prng.pick(&[" alias=1", " alias=2", " alias=10"]);
            if features.odd && prng.percent(10) {
                text += prng.pick(&[" alias=11", " alias=0"]);
            }
        }
        text += &released;
        if bad { self.end(slot, text) } else { self.push(slot, text) }
    }

    /// Several packets in one write.
    fn burst(&mut self, slot: usize) {
        let begin = self.steps.len();
        for _ in 0..2 + self.prng.below(5) {
            self.count += 1;
            self.publish(slot);
        }
        let texts: Vec<String> = self.steps.drain(begin..).map(|step| step.text).collect();
        if !texts.is_empty() {
            self.push(slot, texts.join(" & "));
        }
    }

    fn acknowledge(&mut self, slot: usize) {
        let mut text = format!("ack {}", self.prng.below(1000));
        if self.features.odd && self.prng.percent(10) {
            text += self.prng.pick(&[" 0x80", " 0x10", " 0x97"]);
        }
        self.push(slot, text);
    }

    fn release(&mut self, slot: usize) {
        let Self { prng, features, clients, .. } = self;
        let ids = &mut clients[slot].open_ids;
        let id = if ids.is_empty() {
            if !features.odd {
                return;
            }
            1 + prng.below(30)
        } else {
            ids.swap_remove(prng.below(ids.len()))
        };
        self.push(slot, format!("pubrel {id}"));
    }

    fn leave(&mut self, slot: usize) {
        let v5 = self.clients[slot].version == "v=5";
        let codes = ["", " 0x04", " 0x04", " 0 expiry=0", " 0 expiry=1000", " 0x80"];
        let code = if v5 { self.prng.pick(&codes) } else { "" };
        self.end(slot, format!("disconnect{code}"));
    }

    fn odd(&mut self, slot: usize) {
        let id = 3000 + self.count;
        let count = self.count;
        let text = match self.prng.below(10) {
            0 => format!("puback {id}"),
            1 => format!("pubrec {id}"),
            2 => format!("pubcomp {id}"),
            3 => format!("pubrel {id}"),
            4 => format!("again {} id=~c{slot}", self.clients[slot].version),
            5 => "auth 0x18 method=x".into(),
            6 => format!("publish ~/a p=*{}", 19_000 + 500 * self.prng.below(5)),
            7 => "disconnect 0x8e".into(),
            8 => {
                // One more than the broker takes, or just as many.
                let packets = 20 + self.prng.below(2);
                let texts =
                    (0..packets).map(|n| format!("publish ~/b q2 id={} p=x{count}", 5000 + n));
                texts.collect::<Vec<_>>().join(" & ")
            }
            _ if self.clients[slot].version == "v=5" => self.prng.pick(ILLEGAL).to_owned(),
            _ => format!("unsubscribe {id} ~/a ~/b {}", self.prng.pick(BAD_FILTERS)),
        };
        self.push(slot, text);
    }

    /// A CONNECT that a broker has to refuse, or just not.
    fn odd_connect(&mut self, slot: usize) {
        let version = self.clients[slot].version;
        let text = self.prng.pick(ODD_CONNECTS);
        self.push(slot, format!("connect {version} {text}"));
        // Under another name nobody would take it over.
        self.end(slot, "drop".into());
    }
}

/// Whether a topic of the scripts matches both.
fn overlap(one: &str, other: &str) -> bool {
    let topics = || TOPICS.iter().chain(DOLLAR_TOPICS).chain(&["~/w"]);
    topics().any(|topic| matches(one, topic) && matches(other, topic))
}

/// Whether the filter matches the topic (MQTT 5.0 §4.7).
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match topic.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}
