//! Limits that are not part of one packet's own handling.

use super::Shard;
use crate::access::Identity;
use crate::codec::{Packet, Properties, Publish, Qos, Reason, Version};
use shards::{ConnId, Millis};
use tracing::{info, warn};

/// A user property has at least its identifier and two lengths.
const USER_PROPERTY_BYTES_MIN: usize = 5;

/// What deletes a retained message makes room.
pub(super) fn deletes(publish: &Publish<'_>) -> bool {
    publish.retain && publish.payload.is_empty()
}

impl Shard {
    /// One more session may begin, of this client and on this shard at all. One that is to outlast
    /// its connection needs room on the disk.
    pub(super) fn has_session_room(&self, identity: &Identity, durable: bool) -> bool {
        let per_user_max = self.settings.sessions_per_user_max;
        let of_user = || identity.user.as_deref().map_or(0, |user| self.sessions_of(user));
        let full = self.pressed || (self.disk_full && durable);
        !full
            && self.clients.sessions.len() < self.settings.sessions_max
            && (per_user_max == 0 || of_user() < per_user_max)
    }

    /// The log has no room for new messages, or has it again.
    pub fn set_disk_full(&mut self, disk_full: bool) {
        if disk_full != self.disk_full {
            let words = if disk_full { "the disk is full" } else { "the disk has room again" };
            warn!(shard = self.place.shard, "{words}");
            info!(target: "audit", event = "limit", cause = words, shard = self.place.shard);
        }
        self.disk_full = disk_full;
    }

    /// See [`Self::set_disk_full`].
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// A PUBLISH that may have to be kept on a disk that is full, from a client who cannot be told
    /// so. The edge keeps it until there is room.
    pub fn awaits_room(&self, version: Version, packet: &Packet<'_>) -> bool {
        self.disk_full
            && version != Version::V5
            && matches!(packet, Packet::Publish(publish)
                if publish.qos != Qos::AtMostOnce && !deletes(publish))
    }

    /// Most connections have gone: gives back what was kept for them.
    pub fn shrink(&mut self) {
        self.clients.shrink();
    }

    /// Memory is above its limit, or not any more: nothing new is taken in meanwhile.
    pub fn set_pressed(&mut self, pressed: bool) {
        if pressed != self.pressed {
            let words = if pressed { "memory is above its limit" } else { "memory is back" };
            warn!(shard = self.place.shard, "{words}");
            info!(target: "audit", event = "limit", cause = words, shard = self.place.shard);
        }
        self.pressed = pressed;
    }

    /// Answers a CONNECT that is over a limit of connections, and closes. For the edge, which
    /// counts them.
    pub fn refuse_connect(&mut self, conn: ConnId, version: Version, reason: Reason) {
        self.clients.counters.packets_received += 1;
        self.clients.counters.connects += 1;
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.link.version = version;
            self.refuse(conn, reason);
        }
    }

    /// Number and bytes of the user properties are within the settings. O(1) if the whole block is,
    /// else O(properties).
    pub(super) fn within_user_properties(&self, properties: Properties<'_>) -> bool {
        let count_max = self.settings.user_properties_max;
        let bytes_max = self.settings.user_property_bytes_max;
        let bytes = properties.raw().len();
        if bytes / USER_PROPERTY_BYTES_MIN <= count_max && bytes <= bytes_max {
            return true;
        }
        let weigh = |(count, bytes): (usize, usize), (key, value): (&str, &str)| {
            (count + 1, bytes + USER_PROPERTY_BYTES_MIN + key.len() + value.len())
        };
        let (count, bytes) = properties.user_properties().fold((0, 0), weigh);
        count <= count_max && bytes <= bytes_max
    }

    /// The edge does not read this connection for a reason that is not the client's, or reads it
    /// again. What it sends meanwhile waits in the socket, so its silence does not count.
    pub fn set_read(&mut self, conn: ConnId, read: bool, now: Millis) {
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.unread = !read;
            connection.last_packet = now;
        }
    }
}
