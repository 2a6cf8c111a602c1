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
    use super::super::bundle::{BUNDLE_BYTES_MAX, BUNDLE_MESSAGES_MAX, MESSAGE_BYTES_MAX};
    use super::*;
    use crate::codec::Qos;
    use crate::session::{Author, ClientId};
    use crate::topic::TopicName;
    use std::cell::OnceCell;

    /// Posts a message to the topic `t` with a payload of so many bytes; gives its weight.
    fn forward(effects: &mut Effects, to: usize, payload_bytes: usize) -> usize {
        let message = Publication {
            topic: TopicName::trusted("t"),
            payload: &vec![0; payload_bytes],
            forwarded: &[],
            qos: Qos::AtMostOnce,
            retain: false,
            expires_at: None,
            publisher: &ClientId::new("p"),
            author: &Author::Anonymous,
            owned: OnceCell::new(),
        };
        effects.forward(to, &message, None);
        message.weight_bytes()
    }

    /// To whom each letter goes, whether it is a bundle, and what it weighs.
    fn letters(effects: &mut Effects) -> Vec<(usize, bool, usize)> {
        let mut list = Vec::new();
        effects.take(&mut list);
        let letter = |effect: Effect| {
            let Effect::Mail(to, mail) = effect else { panic!("no letter: {effect:?}") };
            (to, matches!(mail, Mail::Bundle(_)), mail.weight())
        };
        list.into_iter().map(letter).collect()
    }

    #[test]
    fn a_letter_takes_so_many_messages_and_no_more() {
        let mut effects = Effects::default();
        for _ in 0..=BUNDLE_MESSAGES_MAX {
            forward(&mut effects, 1, 0);
        }
        assert_eq!(letters(&mut effects), [(1, true, BUNDLE_MESSAGES_MAX), (1, true, 1)]);
        // One that was taken is not added to.
        forward(&mut effects, 1, 0);
        assert_eq!(letters(&mut effects), [(1, true, 1)]);
    }

    #[test]
    fn a_letter_that_has_its_bytes_takes_no_more() {
        let each = 4_000;
        let whole = BUNDLE_BYTES_MAX / each;
        let rest = BUNDLE_BYTES_MAX - whole * each - "t".len();
        for (last, expected) in [(rest - 1, vec![whole + 2]), (rest, vec![whole + 1, 1])] {
            let mut effects = Effects::default();
            for _ in 0..whole {
                forward(&mut effects, 1, each);
            }
            forward(&mut effects, 1, last);
            forward(&mut effects, 1, 0);
            let weights: Vec<usize> =
                letters(&mut effects).into_iter().map(|(.., weight)| weight).collect();
            assert_eq!(weights, expected, "{last}");
        }
    }

    #[test]
    fn a_large_message_goes_alone() {
        let mut effects = Effects::default();
        let empty = forward(&mut effects, 1, 0);
        assert_eq!(forward(&mut effects, 1, MESSAGE_BYTES_MAX - empty), MESSAGE_BYTES_MAX);
        forward(&mut effects, 1, MESSAGE_BYTES_MAX - empty + 1);
        forward(&mut effects, 1, 0);
        assert_eq!(letters(&mut effects), [(1, true, 2), (1, false, 1), (1, true, 1)]);
    }

    #[test]
    fn no_message_overtakes_other_mail_for_its_shard() {
        let mut effects = Effects::default();
        forward(&mut effects, 1, 0);
        forward(&mut effects, 2, 0);
        effects.mail(1, Mail::UsersForgotten);
        forward(&mut effects, 1, 0);
        forward(&mut effects, 2, 0);
        let expected = [(1, true, 1), (2, true, 2), (1, false, 1), (1, true, 1)];
        assert_eq!(letters(&mut effects), expected);
    }

    #[test]
    fn a_record_takes_so_many_ends_and_no_more() {
        let mut effects = Effects::default();
        let session = SessionNumber(1);
        let last = u64::from(u16::MAX) + 1;
        (0..=last).for_each(|sequence| effects.done(session, sequence));
        let ends: Vec<(u64, u16)> = std::mem::take(&mut effects.list)
            .into_iter()
            .map(|effect| {
                let Effect::Record(Record::Done { sequence, more, .. }) = effect else {
                    panic!("no end: {effect:?}")
                };
                (sequence, more)
            })
            .collect();
        assert_eq!(ends, [(0, u16::MAX), (last, 0)]);
        assert_eq!(effects.lsn, 2);
    }

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
