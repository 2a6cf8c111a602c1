//! One attacked broker: the canary beside it, its memory before and after, and whether it lives.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::canary::{Canary, Latency};
use crate::client::{Client, DEADLINE, Event};
use crate::compose::compose;
use crate::packet::{Packet, Version};

/// Every version; an attack that differs by version is made in each.
pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Shards of the attacked broker: with two, mail between them is attacked too.
const SHARDS: usize = 2;

/// Longest answer to a new client, and longest round trip of the canary for 99 of 100 messages, in
/// a soak. In the test command other tests take the cores, so only the deadlines of the clients'
/// sockets hold, which find a hang.
const ANSWER_MAX: Duration = Duration::from_secs(1);
const TRIP_MAX: Duration = Duration::from_millis(100);

/// What a soak's connections leave behind for a while: 10,000 and more of them come and go in a
/// second, and each has a timer of 40 bytes until its CONNECT was due, 10 seconds.
const ARRIVALS_KB: u64 = 8_000;

/// Runs at full length and with strict times.
pub(crate) fn soak() -> bool {
    std::env::var("CULEX_ABUSE").is_ok_and(|text| text == "soak")
}

/// How often something is done: `short` in the test command, `long` in a soak.
pub(crate) fn times(short: usize, long: usize) -> usize {
    if soak() { long } else { short }
}

/// As many clients as `long` in a soak, or as this process may have sockets.
pub(crate) fn crowd(short: usize, long: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let room = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    times(short, long).min(room.saturating_sub(1_000))
}

/// A broker under attack.
pub(crate) struct Siege {
    pub(crate) broker: Broker,
    canary: Option<Canary>,
    name: &'static str,
    credentials: String,
    memory_kb: u64,
}

impl Siege {
    /// Starts a broker with this configuration, and its canary. `name` stands in the figures that
    /// `--nocapture` shows.
    pub(crate) fn lay(name: &'static str, config: &str) -> Self {
        Self::lay_with(name, config, "")
    }

    /// The same for a broker that wants to know who connects.
    pub(crate) fn lay_with(name: &'static str, config: &str, credentials: &str) -> Self {
        let broker = Broker::start(SHARDS, config);
        let canary = Canary::start(broker.address, credentials);
        let (_, memory_kb) = broker.descriptors_and_memory();
        let credentials = credentials.to_owned();
        Self { broker, canary: Some(canary), name, credentials, memory_kb }
    }

    /// The same for an attack whose limits the canary itself would pass, or whose defence is that
    /// everybody waits: there is none.
    pub(crate) fn lay_tolerant(name: &'static str, config: &str) -> Self {
        let broker = Broker::start(SHARDS, config);
        let (_, memory_kb) = broker.descriptors_and_memory();
        Self { broker, canary: None, name, credentials: String::new(), memory_kb }
    }

    /// Takes the present memory as the one that the attack is measured against.
    pub(crate) fn warmed_up(&mut self) {
        (_, self.memory_kb) = self.broker.descriptors_and_memory();
    }

    /// Kilobytes that the broker has grown since.
    pub(crate) fn growth_kb(&self) -> u64 {
        let (_, memory_kb) = self.broker.descriptors_and_memory();
        memory_kb.saturating_sub(self.memory_kb)
    }

    /// Memory has not grown by more than this, and in a soak [`ARRIVALS_KB`].
    #[track_caller]
    pub(crate) fn bounded(&self, budget_kb: u64) {
        let budget_kb = budget_kb + if soak() { ARRIVALS_KB } else { 0 };
        let growth = self.growth_kb();
        println!("{}: grew by {growth} kB of {budget_kb} kB", self.name);
        assert!(growth <= budget_kb, "memory grew by {growth} kB, more than {budget_kb} kB");
    }

    /// Processor time that the broker has used since its start.
    pub(crate) fn processor(&self) -> Duration {
        let pid = self.broker.pid.expect("an own broker");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // After the name in parentheses, which may hold anything, field 3 is the first.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    /// A socket that has sent nothing yet.
    pub(crate) fn socket(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.broker.address, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// A client that has sent nothing yet.
    pub(crate) fn client(&self, version: Version) -> Client {
        Client::adopt(self.socket(), version)
    }

    /// A client whose CONNECT was accepted; `words` are those of `compose`.
    #[track_caller]
    pub(crate) fn connected(&self, version: Version, words: &str) -> Client {
        let mut client = self.client(version);
        let text = format!("connect {words} {}", self.credentials);
        let connack = client.ask(&text, "connack");
        assert_eq!(connack.codes, [0], "{}", connack.text());
        client
    }

    /// Checks what must hold after every attack, and ends.
    #[track_caller]
    pub(crate) fn lifted(self) {
        self.lifted_by("after-the-siege", true);
    }

    /// The same where the client that comes after it needs this name, or finds no room (`fresh` is
    /// false) but must be answered.
    #[track_caller]
    pub(crate) fn lifted_by(mut self, id: &str, fresh: bool) {
        let latency = self.canary.take().map(Canary::ends).unwrap_or_default();
        let begin = Instant::now();
        let mut client = self.client(Version::V5);
        let words = format!("connect id={id} {}", self.credentials);
        let connack = client.ask(&words, "connack");
        let answer = begin.elapsed();
        assert!(connack.codes == [0] || !fresh, "{}", connack.text());
        drop(client);
        let (p50, p99) = (latency.percentile(50), latency.percentile(99));
        println!(
            "{}: {} messages of the canary, p50 {p50:?}, p99 {p99:?}; CONNECT {answer:?}",
            self.name,
            latency.count()
        );
        self.check_times(&latency, answer);
        let log = self.broker.log();
        assert!(!log.contains("panicked"), "the broker panicked:\n{log}");
        let pid = self.broker.pid.expect("an own broker");
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "another process");
    }

    fn check_times(&self, latency: &Latency, answer: Duration) {
        if !soak() {
            return;
        }
        assert!(answer <= ANSWER_MAX, "{}: CONNECT took {answer:?}", self.name);
        let p99 = latency.percentile(99);
        assert!(p99 <= TRIP_MAX, "{}: the canary waited {p99:?}", self.name);
    }
}

impl Client {
    /// Sends one packet and gives the next of this kind, past those that come before it.
    #[track_caller]
    pub(crate) fn ask(&mut self, text: &str, answer: &str) -> Packet {
        let bytes = compose(text, self.version, "abuser");
        self.write(&bytes);
        loop {
            let packet = self.packet();
            if packet.name == answer {
                return packet;
            }
        }
    }

    /// Sends one packet.
    pub(crate) fn say(&mut self, text: &str) {
        let bytes = compose(text, self.version, "abuser");
        self.write(&bytes);
    }

    /// The broker ends this connection; before that it may say things. Gives the last of them.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Option<Packet> {
        let mut last = None;
        loop {
            match self.next() {
                Event::Packet(packet) => last = Some(packet),
                Event::Closed => return last,
                Event::Trouble(text) => panic!("not closed: {text}"),
            }
        }
    }

    /// The connection is open and everything sent so far was read: PINGREQ is answered.
    #[track_caller]
    pub(crate) fn alive(&mut self) {
        self.ask("pingreq", "pingresp");
    }
}

/// Lets time pass, where an attack or a limit is about time.
pub(crate) fn pause(time: Duration) {
    let (_kept, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(time);
}

/// Writes as much as the broker takes within `patience` without reading; gives how much that was.
pub(crate) fn pour(stream: &mut TcpStream, chunk: &[u8], patience: Duration, most: usize) -> usize {
    stream.set_write_timeout(Some(patience)).unwrap();
    let mut poured = 0;
    while poured < most && stream.write_all(chunk).is_ok() {
        poured += chunk.len();
    }
    poured
}
