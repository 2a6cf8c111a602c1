//! All that one shard says to another.

use super::bundle::Bundle;
use super::slots::Key;
use super::sys::Report;
use crate::session::{AckKey, Message, Settlement};
use crate::store::Part;
use crate::topic::Filter;
use std::sync::Arc;

/// Data between shards, never closures. Per pair of shards letters arrive in the order sent.
#[derive(Debug)]
pub enum Mail {
    /// Messages for all sessions of the receiving shard that match, of one turn.
    Bundle(Box<Bundle>),
    /// The same for one message that is large, or that had to wait for the sender's log.
    Forward {
        /// The message.
        message: Arc<Message>,
        /// Whom to tell when it is taken; none at `QoS` 0.
        ticket: Option<Ticket>,
    },
    /// A message for one member of a shared subscription.
    ForwardShared {
        /// Full text of the shared filter.
        filter: Filter,
        /// The message.
        message: Arc<Message>,
        /// Whom to tell when it is taken.
        ticket: Option<Ticket>,
        /// The sender had no member with an open window; take it in any case.
        last_hop: bool,
        /// Shards whose members could not queue it, one bit each.
        tried: u128,
    },
    /// A message that the sender's log has committed.
    Exchange {
        /// Number at the sender; rises.
        exchange: u64,
        /// What the receiver has to do.
        part: Part,
        /// Shards whose members of a shared subscription could not queue it, one bit each.
        tried: u128,
        /// The message.
        message: Arc<Message>,
        /// The publisher can still be told that a queue is full.
        refusable: bool,
    },
    /// Answer to `Exchange`: done, and durable.
    Applied {
        /// Its number.
        exchange: u64,
        /// A queue is full, and the message was not taken.
        refused: bool,
    },
    /// What a ticket asked for has happened.
    Settled {
        /// The ticket, back at its origin.
        ticket: Ticket,
        /// How.
        settlement: Settlement,
    },
    /// The message of a ticket waits for room in a queue; its publisher is to be held back until
    /// `Settled` follows.
    HeldBack {
        /// The ticket.
        ticket: Ticket,
    },
    /// The sender has its first, or no longer any, subscription with this filter.
    Interest {
        /// A filter that is not shared.
        filter: Filter,
        /// First or none.
        change: Interest,
    },
    /// Members that the sender has in a shared subscription now.
    Members {
        /// Full text of the shared filter.
        filter: Filter,
        /// Members with a connection.
        online: u32,
        /// All members.
        total: u32,
        /// Whom to tell when the count is known.
        ticket: Option<Ticket>,
    },
    /// A retained message for its owner shard.
    Retain {
        /// The message; without payload it deletes.
        message: Arc<Message>,
        /// Whom to tell when it is stored.
        ticket: Option<Ticket>,
    },
    /// Answer to every `Retain`, in order.
    RetainStored {
        /// Ticket of the `Retain`.
        ticket: Option<Ticket>,
    },
    /// Asks an owner shard for its next retained messages.
    RetainedQuery {
        /// Number of the query at the asking shard.
        query: u64,
        /// What is asked for.
        filter: Filter,
        /// Go on after this topic.
        after: Option<Box<str>>,
    },
    /// Answer to `RetainedQuery`.
    RetainedBatch {
        /// Number of the query.
        query: u64,
        /// Matching messages in topic order.
        messages: Vec<Arc<Message>>,
        /// Where to go on; `None` = that was all.
        next: Option<Box<str>>,
    },
    /// The sender has come back after a restart; its interest came before.
    Restored {
        /// It has heard this of all other shards: it knows all interest.
        knows_all: bool,
    },
    /// Sessions of a user that the sender has now; told where they have a limit.
    UserSessions {
        /// The user.
        user: Arc<str>,
        /// Number of its sessions there.
        sessions: usize,
    },
    /// What the sender said of users is void.
    UsersForgotten,
    /// Counts for the `$SYS` tree, sent to shard 0.
    Report(Box<Report>),
}

impl Mail {
    /// How many ordinary letters it is as much work as, for who takes it.
    pub fn weight(&self) -> usize {
        if let Mail::Bundle(bundle) = self { bundle.len() } else { 1 }
    }
}

/// What happened to the interest of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Publishes must reach it from now on; the ticket is answered when that holds.
    Added(Option<Ticket>),
    /// Publishes need not reach it any more.
    Removed,
}

/// Names what waits for an answer at its origin. A ticket carries its meaning; there is no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Shard that waits.
    pub origin: u16,
    /// What waits there.
    pub waiter: Waiter,
    /// An acknowledgement that cannot refuse (3.x): where a queue is full, the message waits for
    /// room.
    pub patient: bool,
}

/// What waits for a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// An acknowledgement to a publisher.
    Ack {
        /// Session of the publisher.
        session: Key,
        /// Place in its acknowledgement queue.
        key: AckKey,
    },
    /// A SUBACK.
    Suback {
        /// Number of the pending SUBSCRIBE.
        number: u64,
    },
}
