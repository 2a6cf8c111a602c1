//! The broker, put together: settings to shards.
//!
//! The one place that knows all layers. `cli::serve` calls it; so can a test in the same process.

mod data;
mod listeners;
mod login;
mod rehoming;
mod reload;
mod rules;
mod slots;

pub use reload::{Reloaded, Reloader};

pub use rules::RulesError;

use crate::config::{self, Config};
use crate::edge::{
    self, Admission, AdmissionLimits, Driver, Durable, FileError, ListenerLimit, Rates,
};
use crate::gate::{self, Backends, Gate, LoadError};
use crate::session::{Limits, Overflow};
use crate::shard;
use crate::store::{DecodeFault, Wall};
use shards::clock::unix_ms;
use shards::disk::DirectoryError;
use shards::log::Mode;
use shards::{Placement, Remote, Running, ShardContext, StartError};
use slots::Slot;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::park_timeout;
use std::time::Duration;
use thiserror::Error;

/// Connections that the engine takes beyond the limit, to be told why they are refused.
const REFUSED_ROOM: usize = 2048;
/// Settings and orders of administrators that may wait for one shard, besides answers to logins.
const ORDERS_MAX: usize = 16;

/// How often, and with what pause, a port that is taken is tried again: two seconds in all.
const BIND_TRIES: u32 = 40;
const BIND_PAUSE: Duration = Duration::from_millis(50);

/// Why the broker does not start. One line each.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// More shards than one bit each in the interest table.
    #[error("{wanted} shards are too many, the maximum is {}", shard::SHARDS_MAX)]
    TooManyShards {
        /// What the settings ask for.
        wanted: usize,
    },
    /// The access rules cannot be used.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// A listener's certificates cannot be used.
    #[error("listener {address}: {source}")]
    Tls {
        /// The listener.
        address: String,
        /// What is wrong with which file.
        source: FileError,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A record of a whole log has no meaning: a newer version, or a fault of this one.
    #[error("shard {shard}: record {lsn} of the log is not understood: {why}")]
    Record {
        /// The shard.
        shard: u16,
        /// Log position of the record.
        lsn: u64,
        /// What is wrong with it.
        why: DecodeFault,
    },
    /// A shard has not taken the settings before these.
    #[error("shard {shard} is busy and has not taken the last settings yet: try again later")]
    Busy {
        /// The shard.
        shard: usize,
    },
    /// Listeners have come and gone too often.
    #[error("listener: too many have come and gone: this takes a new start")]
    TooManyListeners,
    /// What logins are checked with cannot be used.
    #[error(transparent)]
    Login(#[from] LoadError),
    /// The threads that check logins cannot be started.
    #[error("cannot start threads for logins: {0}")]
    Threads(io::Error),
    /// The network engine could not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A broker whose listeners are bound and whose files are read, before it has any thread.
#[derive(Debug)]
pub struct Bound {
    engine: shards::Bound,
    edge: edge::Settings,
    login: Login,
    config: Config,
    slots: Vec<Slot>,
}

/// Reads what the settings name and binds the listeners. What root alone may do is done then.
///
/// # Errors
/// [`BrokerError`]; nothing is bound then.
pub fn bind(config: &Config, placement: Placement) -> Result<Bound, BrokerError> {
    let wanted = placement.cpus().len();
    if wanted > shard::SHARDS_MAX {
        return Err(BrokerError::TooManyShards { wanted });
    }
    let slots = slots::first(config);
    let login = login_settings(config, &slots)?;
    let edge = edge_settings(config, &slots, wanted, None)?;
    let mut engine = shards::Settings::new(placement);
    engine.listeners = config.listeners.iter().map(listeners::engine).collect();
    // The engine's own limit has no words for those whom it closes, so it is higher than that of
    // the edge; nor does it know how connections spread over its shards.
    let own_max = usize_of(config.limits.connections_max.into()) + REFUSED_ROOM;
    engine.connections_max = engine.connections_max.max(own_max);
    Ok(Bound { engine: bind_patiently(&engine)?, edge, login, config: config.clone(), slots })
}

/// Reads all files that the settings name, as [`bind`] does, and does nothing with them.
///
/// # Errors
/// [`BrokerError`], the first thing that would keep the broker from starting.
pub fn check(config: &Config) -> Result<(), BrokerError> {
    let slots = slots::first(config);
    login_settings(config, &slots)?;
    rules::access(config, &slots, None)?;
    listeners::transports(config, &slots, &[])?;
    Ok(())
}

/// Binds the listeners. The kernel takes the rings of a killed broker apart after the process is
/// gone, and its sockets with them: a port that is taken is tried again for a while.
fn bind_patiently(engine: &shards::Settings) -> Result<shards::Bound, StartError> {
    let mut tries = 0;
    loop {
        match shards::bind(engine.clone()) {
            Err(StartError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && tries < BIND_TRIES =>
            {
                tries += 1;
                park_timeout(BIND_PAUSE);
            }
            bound => return bound,
        }
    }
}

/// What the shards are told, at their start and at a reload. `before` is what they were told last.
fn edge_settings(
    config: &Config,
    slots: &[Slot],
    shards: usize,
    before: Option<&edge::Settings>,
) -> Result<edge::Settings, BrokerError> {
    let transports = before.map(|before| &*before.transports).unwrap_or_default();
    let transports = listeners::transports(config, slots, transports)?;
    let certificates = listeners::certificates(slots, &transports);
    Ok(edge::Settings {
        shard: shard::Settings { certificates, ..shard_settings(config, shards) },
        access: Arc::new(rules::access(config, slots, before.map(|before| &*before.access))?),
        admission: Admission::new(admission_limits(config, slots)),
        accepts_per_s: config.limits.accepts_per_s_max.into(),
        rates: Rates {
            packets_per_s: config.limits.packets_per_s_max.into(),
            bytes_per_s: config.limits.bytes_per_s_max,
        },
        memory_bytes_max: config.limits.memory_bytes_max,
        connect_timeout_ms: u64::from(config.limits.connect_timeout_s) * 1000,
        login: login::rules(config, slots),
        gate: before.and_then(|before| before.gate.clone()),
        connect_packet_bytes_max: config.limits.connect_packet_bytes_max,
        connect_plain_bytes_max: config.limits.connect_plain_bytes_max,
        handshakes_max: usize_of(config.limits.tls_handshakes_max.into()),
        transports,
    })
}

/// How logins are checked, and with what; `None` if nobody has to show anything.
type Login = Option<(gate::Settings, Arc<Backends>)>;

fn login_settings(config: &Config, slots: &[Slot]) -> Result<Login, BrokerError> {
    if !config.asks() {
        return Ok(None);
    }
    let settings = login::gate(config, slots)?;
    let backends = Backends::load(&settings)?;
    Ok(Some((settings, backends)))
}

impl Bound {
    /// Starts all shards, and the threads that check logins; the broker serves when this returns.
    /// Without a data directory all is kept in memory. `mode` says what to do about damage to
    /// acknowledged data.
    ///
    /// # Errors
    /// [`BrokerError`]; nothing keeps running then.
    pub fn start(
        self,
        data_dir: Option<&Path>,
        mode: Mode,
    ) -> Result<(Running, Reloader), BrokerError> {
        let Self { engine, mut edge, login, config, mut slots } = self;
        let wall = Wall { start_ms: unix_ms().saturating_sub(engine.clock().now().0) };
        edge.shard.wall_offset_ms = wall.start_ms;
        let (mut logs, mut durables) = (Vec::new(), Vec::new());
        if let Some(path) = data_dir {
            let shards = u16::try_from(engine.shards()).unwrap_or(u16::MAX);
            rehoming::change((path, shards), &data::settings(&config), &edge.access, wall)?;
            let data = data::open(&config, path, shards, mode, wall)?;
            edge.shard.hash_key = data.hash_key;
            edge.shard.recording = true;
            // The time of day may have been set back, but not for sessions.
            let clock_ms = data.images.iter().map(|image| image.clock_ms).max().unwrap_or(0);
            edge.shard.wall_offset_ms = wall.start_ms.max(clock_ms);
            logs = data.logs;
            durables = data.images.into_iter().map(|image| Some(Durable { image, wall })).collect();
        }
        let remote = Remote::new(engine.shards(), edge::LOGINS_MAX + ORDERS_MAX);
        if let Some((settings, backends)) = login {
            let gate = Gate::start(&settings, backends, &remote).map_err(BrokerError::Threads)?;
            edge.gate = Some(Arc::new(gate));
        }
        // The factory runs once on each shard's thread; each takes its own state.
        let durables = Mutex::new(durables);
        let told = edge.clone();
        let factory = move |context: ShardContext| {
            let mut durables = durables.lock().unwrap_or_else(PoisonError::into_inner);
            let durable = durables.get_mut(context.shard).and_then(Option::take);
            Driver::new(&told, durable, context)
        };
        let running = engine.start(&remote, logs, factory)?;
        slots::bound(&mut slots, running.addresses());
        Ok((running, Reloader::new(remote, edge, config, slots)))
    }
}

fn admission_limits(config: &Config, slots: &[Slot]) -> AdmissionLimits {
    let limits = &config.limits;
    let listener = |slot: &Slot| ListenerLimit {
        connections_max: usize_of(slot.listener.max_connections.into()),
        count: slot.count.clone(),
    };
    AdmissionLimits {
        connections_max: usize_of(limits.connections_max.into()),
        listeners: slots.iter().map(listener).collect(),
        per_address_max: usize_of(limits.connections_per_address_max.into()),
        connecting_max: usize_of(limits.connecting_max.into()),
        connecting_per_address_max: usize_of(limits.connecting_per_address_max.into()),
    }
}

/// The settings of every shard: limits for the whole broker are shared out evenly.
fn shard_settings(config: &Config, shards: usize) -> shard::Settings {
    let limits = &config.limits;
    let share = |all: u64| usize_of(all).div_ceil(shards);
    shard::Settings {
        hash_key: (random(), random()),
        id_seed: random(),
        packet_bytes_max: limits.packet_bytes_max,
        payload_bytes_max: match limits.payload_bytes_max {
            0 => usize::MAX,
            bytes => usize_of(bytes.into()),
        },
        client_id_bytes_max: limits.client_id_bytes_max.into(),
        allow_empty_client_id: config.mqtt.allow_empty_client_id,
        topic_levels_max: limits.topic_levels_max.into(),
        topic_bytes_max: limits.topic_bytes_max.into(),
        subscriptions_per_session_max: usize_of(limits.subscriptions_per_session_max.into()),
        sessions_max: share(limits.sessions_max.into()),
        sessions_per_user_max: usize_of(limits.sessions_per_user_max.into()),
        user_properties_max: limits.user_properties_max.into(),
        user_property_bytes_max: usize_of(limits.user_property_bytes_max.into()),
        will_delay_s_max: limits.will_delay_s_max,
        queue: Limits {
            queue_messages_max: usize_of(limits.queue_messages_max.into()),
            queue_bytes_max: usize_of(limits.queue_bytes_max),
            queue_qos0: config.mqtt.queue_qos0,
            overflow: overflow(config.queue.overflow),
        },
        takeovers_per_min_max: limits.takeovers_per_min_max,
        client_id_prefixes: config.mqtt.client_id_prefixes.clone(),
        certificates: Vec::new(),
        open_listeners: config.open_listeners().count(),
        inflight_max: limits.inflight_max,
        inflight_bytes_max: match limits.inflight_bytes_max {
            0 => usize::MAX,
            bytes => usize_of(bytes),
        },
        receive_maximum: limits.receive_maximum,
        topic_alias_maximum: limits.topic_alias_maximum,
        topic_alias_out_maximum: limits.topic_alias_out_maximum,
        session_expiry_s_max: limits.session_expiry_s_max,
        keep_alive_s_max: limits.keep_alive_s_max,
        retained_messages_max: share(limits.retained_messages_max.into()),
        retained_bytes_max: share(limits.retained_bytes_max),
        output_bytes_max: usize_of(limits.output_bytes_max.into()),
        payload_format_check: config.mqtt.payload_format_check,
        acknowledge_denied: config.mqtt.denied_publish == config::DeniedPublish::Acknowledge,
        retain_available: config.mqtt.retain_available,
        sys_interval_s: config.sys_interval_s,
        sys_version_mosquitto: config.mqtt.sys_version_mosquitto,
        recording: false,
        wall_offset_ms: 0,
    }
}

fn overflow(overflow: config::Overflow) -> Overflow {
    match overflow {
        config::Overflow::DropOldest => Overflow::DropOldest,
        config::Overflow::DropNewest => Overflow::DropNewest,
        config::Overflow::Reject => Overflow::Reject,
    }
}

/// A number that nobody can guess: the standard library seeds its hasher from the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
