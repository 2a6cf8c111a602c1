//! What a shard's edge is told: at its start, by other threads, and by another shard with a socket.

use super::admission::{Admission, Pass};
use super::rate::Rates;
use crate::access::Access;
use crate::gate::{Answer, Gate};
use crate::shard::LoginRules;
use crate::store::{Image, Wall};
use crate::transport::{self, Stack};
use shards::{ListenerSettings, Listening, Millis};
use std::net::SocketAddr;
use std::sync::Arc;

/// What the edge is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings of the shards.
    pub shard: crate::shard::Settings,
    /// Time from accept to a complete CONNECT.
    pub connect_timeout_ms: u64,
    /// Largest packet of a connection whose CONNECT was not accepted.
    pub connect_packet_bytes_max: u32,
    /// Largest CONNECT without will and password.
    pub connect_plain_bytes_max: u32,
    /// Who may do what.
    pub access: Arc<Access>,
    /// How many connections there may be.
    pub admission: Arc<Admission>,
    /// Connections that one shard accepts in a second; 0 = no limit.
    pub accepts_per_s: u64,
    /// How fast one client is read.
    pub rates: Rates,
    /// Resident memory of the process above which nothing new is taken in; 0 = no limit.
    pub memory_bytes_max: u64,
    /// TLS handshakes under way in one shard; for a further one the oldest is cut.
    pub handshakes_max: usize,
    /// What each listener speaks below MQTT, by its number.
    pub transports: Arc<[transport::Settings]>,
    /// Who has to show what.
    pub login: LoginRules,
    /// Who checks it; `None` if nobody has to show anything.
    pub gate: Option<Arc<Gate>>,
}

impl Settings {
    /// Largest packet before CONNACK.
    pub(super) fn connect_bytes_max(&self) -> u32 {
        self.connect_packet_bytes_max.min(self.shard.packet_bytes_max)
    }
}

/// What a shard with a log starts with.
#[derive(Debug)]
pub struct Durable {
    /// What its log held.
    pub image: Image,
    /// The time of day at the start of the engine's clock.
    pub wall: Wall,
}

/// What travels with a socket to its home shard.
#[derive(Debug)]
pub struct Luggage {
    /// All bytes of MQTT received so far; begins with CONNECT.
    pub(super) bytes: Vec<u8>,
    /// End of patience, counted from accept.
    pub(super) deadline: Millis,
    /// The client's address, as far as it has one.
    pub(super) address: Option<SocketAddr>,
    /// Its layers below MQTT.
    pub(super) stack: Option<Box<Stack>>,
    /// Its place in the counts of connections.
    pub(super) pass: Option<Box<Pass>>,
}

/// What other threads tell a shard's edge.
#[derive(Debug)]
pub enum Control {
    /// A login was checked.
    Answer(Box<Answer>),
    /// The settings have changed.
    Settings(Arc<Settings>),
    /// Listeners have, with settings that were told before.
    Listeners(Vec<Change>),
    /// Settings were read again, and taken or not; to be counted.
    Reloaded(bool),
}

/// What becomes of a listener, by its number.
#[derive(Debug)]
pub enum Change {
    /// It is new.
    Open(usize, Listening),
    /// It stays and has other options.
    Tune(usize, ListenerSettings),
    /// It goes; its connections stay.
    Close(usize),
}

impl From<Answer> for Control {
    fn from(answer: Answer) -> Control {
        Control::Answer(Box::new(answer))
    }
}
