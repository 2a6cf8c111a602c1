//! What a shard wants done outside; the driver drains it after every call or once per turn.

use super::bodies::Purpose;
use super::bundle::Bundle;
use super::mail::{Mail, Ticket};
use crate::auth::Credentials;
use crate::session::Publication;
use crate::store::{Record, SessionNumber};
use shards::ConnId;
use std::sync::Arc;

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
    /// By shard: where in `list` its last letter is, if that can take further messages.
    open: Vec<Option<usize>>,
    /// Log position of the last record.
    pub(super) lsn: u64,
}

impl Effects {
    pub(super) fn mail(&mut self, to: usize, mail: Mail) {
        // What follows must not overtake it.
        self.close(to);
        self.list.push(Effect::Mail(to, mail));
    }

    /// A message for all sessions of a shard: into the last letter for it, if that has room.
    pub(super) fn forward(&mut self, to: usize, message: &Publication<'_>, ticket: Option<Ticket>) {
        if !Bundle::suits(message) {
            let message = Arc::clone(message.owned());
            return self.mail(to, Mail::Forward { message, ticket });
        }
        let open = self.open.get(to).copied().flatten();
        if let Some(at) = open
            && let Some(Effect::Mail(_, Mail::Bundle(bundle))) = self.list.get_mut(at)
        {
            bundle.push(message, ticket);
            if bundle.is_full() {
                self.close(to);
            }
            return;
        }
        if self.open.len() <= to {
            self.open.resize(to + 1, None);
        }
        if let Some(open) = self.open.get_mut(to) {
            *open = Some(self.list.len());
        }
        let bundle = Box::new(Bundle::of(message, ticket));
        self.list.push(Effect::Mail(to, Mail::Bundle(bundle)));
    }

    fn close(&mut self, to: usize) {
        if let Some(open) = self.open.get_mut(to) {
            *open = None;
        }
    }

    /// Moves all to `into`, in order.
    pub(super) fn take(&mut self, into: &mut Vec<Effect>) {
        self.open.fill(None);
        if into.is_empty() {
            std::mem::swap(into, &mut self.list);
        } else {
            into.append(&mut self.list);
        }
    }

    pub(super) fn record(&mut self, record: Record) -> u64 {
        self.lsn += 1;
        self.list.push(Effect::Record(record));
        self.lsn
    }

    /// Emits that a delivery is over. Those that end one after the other share a record, until it
    /// is taken: a client acknowledges many messages at once.
    pub(super) fn done(&mut self, session: SessionNumber, sequence: u64) {
        if let Some(Effect::Record(Record::Done { session: of, sequence: first, more })) =
            self.list.last_mut()
            && *of == session
            && sequence.checked_sub(*first) == Some(u64::from(*more) + 1)
            && let Some(one_more) = more.checked_add(1)
        {
            *more = one_more;
            return;
        }
        self.record(Record::Done { session, sequence, more: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_a_row_share_a_record() {
        let (one, other) = (SessionNumber(1), SessionNumber(2));
        let mut effects = Effects::default();
        for sequence in [4, 5, 6, 8] {
            effects.done(one, sequence);
        }
        effects.done(other, 9);
        effects.record(Record::Clock { wall_ms: 1 });
        effects.done(other, 10);
        let records: Vec<Record> = std::mem::take(&mut effects.list)
            .into_iter()
            .filter_map(
                |effect| if let Effect::Record(record) = effect { Some(record) } else { None },
            )
            .collect();
        let done = |session, sequence, more| Record::Done { session, sequence, more };
        let clock = Record::Clock { wall_ms: 1 };
        let expected =
            [done(one, 4, 2), done(one, 8, 0), done(other, 9, 0), clock, done(other, 10, 0)];
        assert_eq!(records, expected);
        // What was taken is written as it is.
        effects.done(other, 11);
        assert_eq!((effects.list.len(), effects.lsn), (1, 6));
    }
}
