//! `[limits]`: every named maximum of the broker.

use super::range::within;
use serde::{Deserialize, Serialize};

const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;
/// TOML integers end here.
const I64: u64 = i64::MAX as u64;
const PACKET_BYTES_MAX: u64 = crate::codec::PACKET_BYTES_MAX as u64;
const USER_PROPERTIES_MAX: u64 = crate::codec::USER_PROPERTIES_MAX as u64;
const GIB: u64 = 1 << 30;

/// What one client, one session, or the whole broker may use up.
///
/// Each field is one key of `[limits]`; `conf/culex.toml` says what happens when it is passed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Largest packet that is read, fixed header included; announced to 5.0 clients as Maximum
    /// Packet Size.
    #[serde(deserialize_with = "within::<_, _, 256, PACKET_BYTES_MAX>")]
    pub packet_bytes_max: u32,
    /// Largest payload of a PUBLISH or will; 0 = as large as a packet.
    #[serde(deserialize_with = "within::<_, _, 0, PACKET_BYTES_MAX>")]
    pub payload_bytes_max: u32,
    /// Largest packet of a connection that has not been let in yet.
    #[serde(deserialize_with = "within::<_, _, 256, PACKET_BYTES_MAX>")]
    pub connect_packet_bytes_max: u32,
    /// The same for a CONNECT that has neither a will nor a password.
    #[serde(deserialize_with = "within::<_, _, 256, PACKET_BYTES_MAX>")]
    pub connect_plain_bytes_max: u32,
    /// Time from accept to a complete CONNECT.
    #[serde(deserialize_with = "within::<_, _, 1, 3600>")]
    pub connect_timeout_s: u32,
    /// Longest client identifier.
    #[serde(deserialize_with = "within::<_, _, 23, U16>")]
    pub client_id_bytes_max: u16,
    /// Most levels of a topic name or filter.
    #[serde(deserialize_with = "within::<_, _, 1, U16>")]
    pub topic_levels_max: u16,
    /// Longest topic name or filter.
    #[serde(deserialize_with = "within::<_, _, 1, U16>")]
    pub topic_bytes_max: u16,
    /// Most subscriptions of one session.
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub subscriptions_per_session_max: u32,
    /// Most sessions, connected or not, of all shards together.
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub sessions_max: u32,
    /// Most connections of all shards together; 0 = as many as `nofile` allows.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub connections_max: u32,
    /// Most connections of one address (of one /64 in IPv6); 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub connections_per_address_max: u32,
    /// Most connections of all shards together that have not been let in yet; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub connecting_max: u32,
    /// Most connections of one address (of one /64 in IPv6) that have sent no CONNECT yet; 0 = no
    /// limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub connecting_per_address_max: u32,
    /// Most connections that one shard accepts in a second; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub accepts_per_s_max: u32,
    /// Most TLS handshakes under way on one shard; for a further one the oldest is cut.
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub tls_handshakes_max: u32,
    /// Most sessions of one user; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub sessions_per_user_max: u32,
    /// Take-overs of one client identifier in a minute; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub takeovers_per_min_max: u32,
    /// Most packets that one connection may send in a second; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub packets_per_s_max: u32,
    /// Most bytes that one connection may send in a second; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, I64>")]
    pub bytes_per_s_max: u64,
    /// Most user properties of one packet.
    #[serde(deserialize_with = "within::<_, _, 0, USER_PROPERTIES_MAX>")]
    pub user_properties_max: u16,
    /// Most bytes of the user properties of one packet.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub user_property_bytes_max: u32,
    /// Most messages waiting for one session.
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub queue_messages_max: u32,
    /// Most bytes (topic + payload) waiting for one session.
    #[serde(deserialize_with = "within::<_, _, 1024, I64>")]
    pub queue_bytes_max: u64,
    /// Send window of a client that names no Receive Maximum.
    #[serde(deserialize_with = "within::<_, _, 1, U16>")]
    pub inflight_max: u16,
    /// Bytes sent to a client and not acknowledged from which on no further message leaves; 0 = no
    /// limit.
    #[serde(deserialize_with = "within::<_, _, 0, I64>")]
    pub inflight_bytes_max: u64,
    /// Receive Maximum announced to 5.0 clients.
    #[serde(deserialize_with = "within::<_, _, 1, U16>")]
    pub receive_maximum: u16,
    /// Topic Alias Maximum announced to 5.0 clients: aliases a client may use; 0 = none.
    #[serde(deserialize_with = "within::<_, _, 0, U16>")]
    pub topic_alias_maximum: u16,
    /// Most aliases the broker uses towards one client; 0 = none.
    #[serde(deserialize_with = "within::<_, _, 0, U16>")]
    pub topic_alias_out_maximum: u16,
    /// Longest Session Expiry Interval; 4294967295 = no cap.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub session_expiry_s_max: u32,
    /// Longest Will Delay Interval; 4294967295 = no cap.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub will_delay_s_max: u32,
    /// Longest keep-alive in seconds; a longer one or none is cut to this. 5.0 clients are told
    /// with Server Keep Alive; older ones are held to it all the same.
    #[serde(deserialize_with = "within::<_, _, 1, U16>")]
    pub keep_alive_s_max: u16,
    /// Most retained messages of all shards together.
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub retained_messages_max: u32,
    /// Most bytes (topic + payload + properties) of retained messages of all shards together.
    #[serde(deserialize_with = "within::<_, _, 1024, I64>")]
    pub retained_bytes_max: u64,
    /// Heap of the whole broker above which PUBLISH and new sessions are refused; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, I64>")]
    pub memory_bytes_max: u64,
    /// Unsent output of one connection above which QoS 0 is dropped and QoS 1 and 2 wait in the
    /// queue.
    #[serde(deserialize_with = "within::<_, _, 4096, GIB>")]
    pub output_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 2_000_000,
            payload_bytes_max: 0,
            connect_packet_bytes_max: 65_536,
            connect_plain_bytes_max: 8192,
            connect_timeout_s: 10,
            client_id_bytes_max: 256,
            topic_levels_max: 128,
            topic_bytes_max: 4096,
            subscriptions_per_session_max: 1000,
            sessions_max: 1_000_000,
            connections_max: 0,
            connections_per_address_max: 0,
            connecting_max: 0,
            connecting_per_address_max: 0,
            accepts_per_s_max: 0,
            tls_handshakes_max: 4096,
            sessions_per_user_max: 0,
            takeovers_per_min_max: 60,
            packets_per_s_max: 0,
            bytes_per_s_max: 0,
            user_properties_max: 64,
            user_property_bytes_max: 8192,
            queue_messages_max: 1000,
            queue_bytes_max: 10_000_000,
            inflight_max: 100,
            inflight_bytes_max: 10_000_000,
            receive_maximum: 100,
            topic_alias_maximum: 32,
            topic_alias_out_maximum: 32,
            session_expiry_s_max: 604_800,
            will_delay_s_max: u32::MAX,
            keep_alive_s_max: 3600,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            memory_bytes_max: 0,
            output_bytes_max: 4 << 20,
        }
    }
}
