//! One message towards one client, as the outgoing half of a session keeps it.

use super::message::{Message, Publication};
use super::outbound::{Grant, Keeping};
use crate::codec::Qos;
use crate::topic::Filter;
use std::sync::Arc;

/// Log position of a delivery that is not recorded.
pub const UNLOGGED: u64 = 0;
/// Log position of a delivery whose record is being made.
pub(super) const POSITION_PENDING: u64 = u64::MAX;

/// State of one message towards one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never sent.
    Queued,
    /// PUBLISH sent, on this or an earlier connection.
    Sent,
    /// PUBREC received: PUBREL has to be answered with PUBCOMP.
    Released,
    /// Complete; leaves the window when it is at the front.
    Done,
}

/// One message towards one client. 48 bytes, because offline queues are made of it.
#[expect(clippy::struct_excessive_bools, reason = "one byte each, where two are left")]
#[derive(Debug)]
pub struct Slot {
    /// The message; `None` if it lies in the log alone, or is not needed any more.
    pub message: Option<Arc<Message>>,
    /// What few deliveries have.
    extra: Option<Box<Extra>>,
    /// Place in the order of the session's messages; fixes the packet identifier.
    pub sequence: u64,
    /// Log position of the record that holds the message; [`UNLOGGED`] if there is none.
    pub lsn: u64,
    /// Where the record lies in its batch, known when it is durable.
    pub at: u32,
    /// Topic, payload and properties, for the limits of the queue.
    pub weight_bytes: u32,
    /// `QoS` of this delivery.
    pub qos: Qos,
    /// RETAIN flag to send.
    pub retain: bool,
    /// Where it stands.
    pub state: State,
    /// The message was asked for and is on its way from the log.
    pub(super) asked: bool,
    /// It could not be read, and is not asked for again on this connection.
    pub(super) unreadable: bool,
    /// The record is durable and `at` is known: the message may be left to the log.
    pub(super) settled: bool,
}

#[derive(Debug)]
struct Extra {
    share: Option<Filter>,
    identifiers: Box<[u32]>,
}

const _: () = assert!(size_of::<Slot>() == 48);

impl Slot {
    pub(super) fn new(
        message: &Publication<'_>,
        sequence: u64,
        qos: Qos,
        (grant, keeping): (&Grant<'_>, Keeping),
        state: State,
    ) -> Self {
        let logged = if qos == Qos::AtMostOnce { keeping.once } else { keeping.logged };
        Slot {
            message: Some(Arc::clone(message.owned())),
            extra: Extra::boxed(grant.share.cloned(), grant.identifiers),
            sequence,
            lsn: if logged { POSITION_PENDING } else { UNLOGGED },
            at: 0,
            weight_bytes: weight(message.weight_bytes()),
            qos,
            retain: grant.retain,
            state,
            asked: false,
            unreadable: false,
            settled: false,
        }
    }

    /// A delivery that a restart found in the log; its message stays there until it is sent.
    pub fn stored(sequence: u64, place: (u64, u32), qos: Qos, state: State) -> Self {
        let (lsn, at) = place;
        Slot {
            message: None,
            extra: None,
            sequence,
            lsn,
            at,
            weight_bytes: 0,
            qos,
            retain: false,
            state,
            asked: false,
            unreadable: false,
            settled: true,
        }
    }

    /// Takes the message out, with the terms of its delivery; what stays is done.
    pub(super) fn split_off(&mut self) -> Slot {
        let mut taken = Slot::stored(self.sequence, (self.lsn, self.at), self.qos, self.state);
        taken.weight_bytes = self.weight_bytes;
        taken.retain = self.retain;
        taken.message = self.message.take();
        taken.extra = self.extra.take();
        self.finish();
        taken
    }

    /// Terms of a delivery that was found in the log.
    #[must_use]
    pub fn with_terms(
        mut self,
        weight_bytes: u32,
        retain: bool,
        share: Option<Filter>,
        identifiers: &[u32],
    ) -> Self {
        self.weight_bytes = weight_bytes;
        self.retain = retain;
        self.extra = Extra::boxed(share, identifiers);
        self
    }

    /// The shared subscription that chose this session.
    pub fn share(&self) -> Option<&Filter> {
        self.extra.as_ref()?.share.as_ref()
    }

    /// Subscription identifiers to send.
    pub fn identifiers(&self) -> &[u32] {
        self.extra.as_ref().map_or(&[], |extra| &extra.identifiers)
    }

    /// The delivery has a record of its own.
    pub fn is_logged(&self) -> bool {
        self.lsn != UNLOGGED && self.qos != Qos::AtMostOnce
    }

    /// The client still has to get PUBLISH, and the message lies in the log alone.
    pub fn is_away(&self) -> bool {
        self.message.is_none() && matches!(self.state, State::Queued | State::Sent)
    }

    /// Leaves the message to the log, if it is there.
    pub(super) fn put_away(&mut self) {
        (self.asked, self.unreadable) = (false, false);
        if self.settled && matches!(self.state, State::Queued | State::Sent) {
            self.message = None;
        }
    }

    /// The message is needed no more.
    pub(super) fn release(&mut self) {
        self.state = State::Released;
        self.message = None;
        self.extra = None;
        self.asked = false;
    }

    pub(super) fn finish(&mut self) {
        self.state = State::Done;
        self.message = None;
        self.extra = None;
        self.asked = false;
    }
}

impl Extra {
    fn boxed(share: Option<Filter>, identifiers: &[u32]) -> Option<Box<Extra>> {
        let plain = share.is_none() && identifiers.is_empty();
        (!plain).then(|| Box::new(Extra { share, identifiers: Box::from(identifiers) }))
    }
}

/// A packet has less than 256 MiB, and so has the message in it.
pub(super) fn weight(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
