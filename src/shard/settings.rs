//! What a shard is told at its start, and again when settings change.

use super::Certified;
use crate::session::{Limits, Overflow};

/// Most shards of one broker; interest in a topic is one bit for each.
pub const SHARDS_MAX: usize = 128;

/// Where one shard stands among all.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Index of this shard.
    pub shard: usize,
    /// Number of shards, 1 to [`SHARDS_MAX`].
    pub shards: usize,
}

impl Place {
    /// This shard as the origin of tickets.
    pub(super) fn origin(self) -> u16 {
        u16::try_from(self.shard).unwrap_or(u16::MAX)
    }

    /// All other shards.
    pub(super) fn others(self) -> impl Iterator<Item = usize> {
        (0..self.shards).filter(move |shard| *shard != self.shard)
    }
}

/// Settings that are the same for all shards. Limits are checked by `config`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the settings file")]
pub struct Settings {
    /// Secret key of the hash that gives clients and topics their home.
    pub hash_key: (u64, u64),
    /// Secret seed of assigned client identifiers.
    pub id_seed: u64,
    /// Largest packet that is accepted; announced to 5.0 clients.
    pub packet_bytes_max: u32,
    /// Largest payload; a PUBLISH with a larger one is dropped, and its sender told if it can be.
    pub payload_bytes_max: usize,
    /// Longest client identifier.
    pub client_id_bytes_max: usize,
    /// Clients without identifier are given one.
    pub allow_empty_client_id: bool,
    /// Most levels of a topic or filter.
    pub topic_levels_max: usize,
    /// Longest topic or filter.
    pub topic_bytes_max: usize,
    /// Most subscriptions of one session; further ones are answered with 0x97.
    pub subscriptions_per_session_max: usize,
    /// Most sessions per shard; further clients are refused with 0x97.
    pub sessions_max: usize,
    /// Most sessions of one user on all shards; further ones are refused with 0x97. 0 = no limit.
    pub sessions_per_user_max: usize,
    /// Most user properties of one packet; more end the connection with 0x97.
    pub user_properties_max: usize,
    /// Their bytes in one packet; likewise.
    pub user_property_bytes_max: usize,
    /// Longest will delay granted.
    pub will_delay_s_max: u32,
    /// Queue of one session.
    pub queue: Limits,
    /// Take-overs of one client identifier in a minute; who comes then is refused with 0x9f. 0 = no
    /// limit.
    pub takeovers_per_min_max: u32,
    /// Beginnings that client identifiers must have, one of them; empty = any, or none.
    pub client_id_prefixes: Vec<String>,
    /// Listeners by which everybody in the network may come in; told in `$SYS`.
    pub open_listeners: usize,
    /// Certificates of listeners; told in `$SYS`, and warned of before their end.
    pub certificates: Vec<Certified>,
    /// Most messages in flight towards one client, whatever it allows.
    pub inflight_max: u16,
    /// Bytes of messages in flight towards one client from which on no further one leaves.
    pub inflight_bytes_max: usize,
    /// Receive Maximum announced to clients.
    pub receive_maximum: u16,
    /// Topic Alias Maximum announced to clients.
    pub topic_alias_maximum: u16,
    /// Most aliases used towards one client.
    pub topic_alias_out_maximum: u16,
    /// Longest session expiry interval granted.
    pub session_expiry_s_max: u32,
    /// Longest keep-alive granted, in seconds; holds for 3.x too, which cannot be told. 0 asks for
    /// none and gets this unless it is 65,535, which is no limit.
    pub keep_alive_s_max: u16,
    /// Retained messages per shard.
    pub retained_messages_max: usize,
    /// Their topics and payloads per shard.
    pub retained_bytes_max: usize,
    /// Unsent output of one connection above which `QoS` 0 is dropped.
    pub output_bytes_max: usize,
    /// Check payloads that claim to be UTF-8.
    pub payload_format_check: bool,
    /// A 3.x client gets PUBACK or PUBREC for what it had no right to publish; else it is cut off.
    pub acknowledge_denied: bool,
    /// Retained messages are supported.
    pub retain_available: bool,
    /// Seconds between two `$SYS` publications; 0 = none.
    pub sys_interval_s: u32,
    /// `$SYS/broker/version` begins like Mosquitto's, for tools that parse it.
    pub sys_version_mosquitto: bool,
    /// Emit records and hold acknowledgements until they are durable.
    pub recording: bool,
    /// Milliseconds since 1970 at time 0 of the shards' clock.
    pub wall_offset_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            hash_key: (0, 0),
            id_seed: 0,
            packet_bytes_max: 16 * 1024 * 1024,
            payload_bytes_max: usize::MAX,
            client_id_bytes_max: 256,
            allow_empty_client_id: true,
            topic_levels_max: 128,
            topic_bytes_max: 65_535,
            subscriptions_per_session_max: 1000,
            sessions_max: 1_000_000,
            sessions_per_user_max: 0,
            user_properties_max: 64,
            user_property_bytes_max: 8192,
            will_delay_s_max: u32::MAX,
            queue: Limits {
                queue_messages_max: 1000,
                queue_bytes_max: 16 * 1024 * 1024,
                queue_qos0: false,
                overflow: Overflow::default(),
            },
            takeovers_per_min_max: 0,
            client_id_prefixes: Vec::new(),
            open_listeners: 0,
            certificates: Vec::new(),
            inflight_max: 100,
            inflight_bytes_max: usize::MAX,
            receive_maximum: 100,
            topic_alias_maximum: 32,
            topic_alias_out_maximum: 32,
            session_expiry_s_max: u32::MAX,
            keep_alive_s_max: u16::MAX,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            output_bytes_max: 4 << 20,
            payload_format_check: false,
            acknowledge_denied: true,
            retain_available: true,
            sys_interval_s: 10,
            sys_version_mosquitto: false,
            recording: false,
            wall_offset_ms: 0,
        }
    }
}
