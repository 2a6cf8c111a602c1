//! One change of durable state.

use crate::codec::{PacketId, Qos, SubscribeOptions};
use crate::session::{ClientId, Message};
use crate::topic::Filter;
use std::sync::Arc;

/// Names a session in its shard's log: drawn when the session begins, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// A change of durable state, in the order it happened on its shard.
///
/// Replaying them in that order gives the state. Each states a result, not a difference, and the
/// cleaner writes what is still true again at the end of the log before it drops an old segment: so
/// a record may come a second time, and one may come before the record that its session began with.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A session is there: it began, was resumed with another expiry, lost or got its connection.
    Session(SessionHead),
    /// The session is over; nothing of its number counts any more.
    SessionEnd {
        /// Which.
        session: SessionNumber,
    },
    /// The will of the session, or none.
    Will {
        /// Owner.
        session: SessionNumber,
        /// Message without expiry time, and its terms.
        will: Option<StoredWill>,
    },
    /// A subscription was made or replaced.
    Subscribe {
        /// Owner.
        session: SessionNumber,
        /// Full filter text.
        filter: Filter,
        /// Options.
        options: SubscribeOptions,
        /// Subscription identifier; 0 = none.
        identifier: u32,
    },
    /// A subscription was given up.
    Unsubscribe {
        /// Owner.
        session: SessionNumber,
        /// Full filter text.
        filter: Filter,
    },
    /// A message was accepted, and everything that this shard does with it: all or nothing.
    Publish(Publish),
    /// A `QoS` 2 identifier is held (written by the cleaner alone; else it is part of `Publish`).
    Received {
        /// Publisher.
        session: SessionNumber,
        /// Its packet identifier.
        id: PacketId,
    },
    /// PUBREL: the publisher's identifier is free again.
    Released {
        /// Publisher.
        session: SessionNumber,
        /// Its packet identifier.
        id: PacketId,
    },
    /// The subscriber has taken ownership of a `QoS` 2 message (PUBREC).
    Owned {
        /// Subscriber.
        session: SessionNumber,
        /// Sequence number of the delivery.
        sequence: u64,
    },
    /// Deliveries are over: complete, dropped or handed on.
    Done {
        /// Subscriber.
        session: SessionNumber,
        /// Sequence number of the first of them.
        sequence: u64,
        /// So many with the next sequence numbers are over too.
        more: u16,
    },
    /// The retained message of a topic was deleted.
    RetainDeleted {
        /// Topic name.
        topic: Arc<str>,
    },
    /// All exchanges of that shard up to this number were applied here (cleaner).
    Applied {
        /// Shard that sent them.
        origin: u16,
        /// Highest number.
        exchange: u64,
    },
    /// A shard has taken its part of an exchange of this shard.
    Settled {
        /// Number of the exchange.
        exchange: u64,
        /// Shard that took its part.
        shard: u16,
    },
    /// Time of day, so that time does not go back after a restart.
    Clock {
        /// Milliseconds since 1970.
        wall_ms: u64,
    },
}

/// The head of a session.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionHead {
    /// Its number.
    pub session: SessionNumber,
    /// Owner.
    pub client: ClientId,
    /// User name that made it; a session belongs to one identity.
    pub user: Option<Arc<str>>,
    /// Whose user that is: the file of a listener with users of its own; `None` = the broker's.
    pub users: Option<Arc<str>>,
    /// Session expiry interval; `u32::MAX` = never.
    pub expiry_s: u32,
    /// When it lost its connection, in milliseconds since 1970; `None` = it has one.
    pub offline_since_ms: Option<u64>,
    /// No message of this session had this sequence number or a higher one before.
    pub next_sequence: u64,
}

/// A will as the log keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredWill {
    /// Message without expiry time.
    pub message: Arc<Message>,
    /// Its message expiry interval, which begins when it is published.
    pub expiry_s: Option<u32>,
    /// Will Delay Interval.
    pub delay_s: u32,
}

/// A message and what this shard does with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// The message.
    pub message: Arc<Message>,
    /// Where it came from.
    pub from: Source,
    /// It is the retained message of its topic now; this shard owns the topic.
    pub retained: bool,
    /// Deliveries to sessions of this shard.
    pub entries: Vec<Entry>,
    /// What other shards have to do with it, after this record is durable.
    pub onward: Option<Onward>,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nothing to remember: `QoS` 1, or a publisher whose session is not durable.
    Plain,
    /// `QoS` 2 PUBLISH of a durable session: the identifier is held from now on.
    Received(SessionNumber, PacketId),
    /// The will of a durable session, which is gone from now on.
    Will(SessionNumber),
    /// Exchange of another shard: applied from now on.
    Exchange {
        /// Shard that sent it.
        origin: u16,
        /// Its number there.
        exchange: u64,
    },
}

/// One delivery to one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Subscriber.
    pub session: SessionNumber,
    /// Place in the order of the session's messages; fixes the packet identifier.
    pub sequence: u64,
    /// `QoS` of the delivery, 1 or 2.
    pub qos: Qos,
    /// RETAIN flag to send.
    pub retain: bool,
    /// PUBLISH was sent, perhaps: the next one has DUP (cleaner; else false).
    pub sent: bool,
    /// Subscription identifiers to send.
    pub identifiers: Box<[u32]>,
    /// Shared subscription that chose the session.
    pub share: Option<Filter>,
}

/// What other shards have to do with a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Onward {
    /// Number of the exchange: rises with each one of this shard.
    pub exchange: u64,
    /// Each shard's part; empty when all have settled.
    pub parts: Vec<Part>,
}

/// One shard's part of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// The shard.
    pub shard: u16,
    /// Its sessions that match get it.
    pub direct: bool,
    /// It owns the topic and keeps the message as the retained one.
    pub retain: bool,
    /// Shared subscriptions in which it was chosen.
    pub shares: Vec<Filter>,
}
