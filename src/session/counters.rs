//! What a shard counts; merged over shards for `$SYS` without sharing anything.

/// Why a message was not delivered to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCause {
    /// `QoS` 1/2: the session's queue was full by count or bytes.
    QueueFull,
    /// `QoS` 0: the connection had more unsent output than it may.
    OutputFull,
    /// The message expired while it waited. [MQTT-3.3.2-5]
    Expired,
    /// Larger than the client's Maximum Packet Size. [MQTT-3.1.2-25]
    TooLarge,
    /// Queued for a session that ended.
    SessionEnded,
    /// The publisher had no right to publish it, or the right to receive it was withdrawn while it
    /// waited.
    Denied,
    /// The retained store was full.
    RetainedFull,
    /// No member of the shared group could take it.
    NoMember,
    /// The broker's memory was above its limit.
    MemoryFull,
    /// The disk was full, and the message would have needed it.
    DiskFull,
    /// A session's queue was full, and the publisher was told so or cut off: counted once for a
    /// PUBLISH.
    Refused,
}

/// Number of [`DropCause`] causes.
pub(super) const DROP_CAUSES: usize = 11;

/// Causes for which a login is refused.
pub const LOGIN_REFUSALS: usize = 6;

/// Monotonic counts of one shard since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// MQTT packets received.
    pub packets_received: u64,
    /// MQTT packets sent.
    pub packets_sent: u64,
    /// PUBLISH packets received.
    pub publish_received: u64,
    /// PUBLISH packets sent.
    pub publish_sent: u64,
    /// Payload bytes in PUBLISH packets received.
    pub publish_received_bytes: u64,
    /// Payload bytes in PUBLISH packets sent.
    pub publish_sent_bytes: u64,
    /// CONNECT packets received.
    pub connects: u64,
    /// CONNECT packets accepted.
    pub logins: u64,
    /// Logins refused, by cause.
    pub logins_refused: [u64; LOGIN_REFUSALS],
    /// CONNECT packets refused.
    pub connects_refused: u64,
    /// Sessions ended by their expiry interval.
    pub sessions_expired: u64,
    /// Connections closed because the peer broke a rule.
    pub protocol_errors: u64,
    /// Deliveries that did not happen, by [`DropCause`].
    pub dropped: [u64; DROP_CAUSES],
}

impl Counters {
    /// Counts a delivery that did not happen.
    pub fn drop(&mut self, cause: DropCause) {
        self.drop_many(cause, 1);
    }

    /// Counts several.
    pub fn drop_many(&mut self, cause: DropCause, count: u64) {
        if let Some(entry) = self.dropped.get_mut(cause as usize) {
            *entry += count;
        }
    }

    /// All deliveries that did not happen.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Adds another shard's counts.
    pub fn merge(&mut self, other: &Counters) {
        self.packets_received += other.packets_received;
        self.packets_sent += other.packets_sent;
        self.publish_received += other.publish_received;
        self.publish_sent += other.publish_sent;
        self.publish_received_bytes += other.publish_received_bytes;
        self.publish_sent_bytes += other.publish_sent_bytes;
        self.connects += other.connects;
        self.logins += other.logins;
        for (mine, theirs) in self.logins_refused.iter_mut().zip(other.logins_refused) {
            *mine += theirs;
        }
        self.connects_refused += other.connects_refused;
        self.sessions_expired += other.sessions_expired;
        self.protocol_errors += other.protocol_errors;
        for (mine, theirs) in self.dropped.iter_mut().zip(other.dropped) {
            *mine += theirs;
        }
    }
}
