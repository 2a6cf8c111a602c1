//! What a shard wants done outside; the driver drains it after every call or once per turn.

use super::bodies::Purpose;
use super::mail::Mail;
use crate::auth::Credentials;
use crate::store::Record;
use shards::ConnId;

/// Reading of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Too many acknowledgements wait: read no more for now.
    Pause,
    /// Go on.
    Resume,
}

/// One thing to be done outside. Output of connections is not here: it grows in place and is taken
/// by [`Shard::take_output`](super::Shard::take_output).
#[derive(Debug)]
pub enum Effect {
    /// Close when the output has left; nothing more is read.
    Close(ConnId),
    /// Stop or go on reading.
    Flow(ConnId, Flow),
    /// A letter for another shard.
    Mail(usize, Mail),
    /// Have these credentials checked and answer with
    /// [`Input::Authenticated`](super::Input::Authenticated).
    Authenticate(ConnId, Box<Credentials>),
    /// A change of durable state; the n-th record has log position n, from 1.
    Record(Record),
    /// Read the message of a record: [`Shard::on_fetched`](super::Shard::on_fetched) or
    /// [`Shard::on_unreadable`](super::Shard::on_unreadable) follows.
    Fetch {
        /// Log position of the record.
        lsn: u64,
        /// Its place in its batch, as it was noted.
        at: u32,
        /// Goes back with the message.
        purpose: Purpose,
    },
}

/// Effects in the order they arose.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) list: Vec<Effect>,
    /// Log position of the last record.
    pub(super) lsn: u64,
}

impl Effects {
    pub(super) fn mail(&mut self, to: usize, mail: Mail) {
        self.list.push(Effect::Mail(to, mail));
    }

    pub(super) fn record(&mut self, record: Record) -> u64 {
        self.lsn += 1;
        self.list.push(Effect::Record(record));
        self.lsn
    }
}
