//! Messages of one turn for the sessions of another shard, packed into one letter; one that had
//! something recorded after it is the last in its letter.
//!
//! Promise: they come out in the order in which they went in, with all that they carry. Packing
//! copies each message once and allocates for the letter, not for each message in it; counts of
//! references are touched by two cores once for each run of messages of one publisher. Not here:
//! which messages go together ([`Effects::forward`](super::effects::Effects)).
//!
//! ```text
//!   heads  [lengths, QoS, …][lengths, …] …      one for each message
//!   topics "a/b" "c"                            one for each run of messages with the same topic
//!   bytes  [properties][payload][properties][payload] …
//! ```

use super::mail::Ticket;
use crate::codec::Qos;
use crate::session::{Author, ClientId, Publication};
use crate::topic::TopicName;
use shards::Millis;
use std::cell::OnceCell;

/// A larger message goes alone: sharing it costs less than copying it.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 10;
/// A letter that has so many bytes takes no further message, so that its memory comes and goes in
/// blocks of moderate size.
pub(super) const BUNDLE_BYTES_MAX: usize = 64 << 10;
/// Nor one with so many messages: whoever takes a letter handles all of it at once.
pub(super) const BUNDLE_MESSAGES_MAX: usize = 256;

/// See the module.
#[derive(Debug, Default)]
pub struct Bundle {
    heads: Vec<Head>,
    topics: String,
    bytes: Vec<u8>,
    publishers: Vec<(ClientId, Author)>,
    tickets: Vec<Ticket>,
    expiries: Vec<Millis>,
    /// Where the topic of the last message begins.
    last_topic: usize,
}

/// What one message has besides its bytes. Small, as all of it goes from one core's cache to
/// another's.
#[derive(Clone, Copy, Debug)]
struct Head {
    payload_bytes: u32,
    forwarded_bytes: u32,
    /// 0: the topic of the message before it. No topic is empty [MQTT-4.7.3-1].
    topic_bytes: u16,
    qos: Qos,
    retain: bool,
    /// Its publisher is the next one, not that of the message before it.
    other_publisher: bool,
    has_ticket: bool,
    /// Times of expiry that are its own: 0 or 1.
    expiries: u8,
}

const _: () = assert!(size_of::<Head>() == 16);

impl Bundle {
    /// A bundle of one message, whatever its size below 4 GiB.
    ///
    /// # Panics
    /// If it is larger; no packet is.
    pub fn of(message: &Publication<'_>, ticket: Option<Ticket>) -> Bundle {
        let mut bundle = Bundle::default();
        bundle.push(message, ticket);
        bundle
    }

    /// Small enough to be packed.
    pub(super) fn suits(message: &Publication<'_>) -> bool {
        message.weight_bytes() <= MESSAGE_BYTES_MAX
    }

    /// Takes no further message.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() + self.topics.len() >= BUNDLE_BYTES_MAX
            || self.heads.len() >= BUNDLE_MESSAGES_MAX
    }

    /// Messages in it.
    pub(super) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Appends a message. O(bytes).
    pub(super) fn push(&mut self, message: &Publication<'_>, ticket: Option<Ticket>) {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a packet is smaller");
        let topic = message.topic.as_str();
        let known = !self.heads.is_empty() && self.topics.get(self.last_topic..) == Some(topic);
        if !known {
            self.last_topic = self.topics.len();
            self.topics.push_str(topic);
        }
        let topic_bytes = if known { 0 } else { topic.len() };
        let topic_bytes =
            u16::try_from(topic_bytes).expect("a topic name has at most 65,535 bytes");
        let publisher = self.publishers.last();
        let other_publisher = publisher.is_none_or(|(client_id, author)| {
            client_id != message.publisher || author != message.author
        });
        if other_publisher {
            self.publishers.push((message.publisher.clone(), message.author.clone()));
        }
        self.tickets.extend(ticket);
        self.expiries.extend(message.expires_at);
        self.bytes.extend_from_slice(message.forwarded);
        self.bytes.extend_from_slice(message.payload);
        self.heads.push(Head {
            payload_bytes: length(message.payload),
            forwarded_bytes: length(message.forwarded),
            topic_bytes,
            qos: message.qos,
            retain: message.retain,
            other_publisher,
            has_ticket: ticket.is_some(),
            expiries: u8::from(message.expires_at.is_some()),
        });
    }

    /// The messages in order, each with whom to tell when it is taken.
    ///
    /// # Panics
    /// If the parts do not belong together, which would be a message lost.
    pub fn unpack(&self) -> impl Iterator<Item = (Publication<'_>, Option<Ticket>)> {
        const PACKED: &str = "all parts of a message were packed";
        let (mut topics, mut bytes) = (self.topics.as_str(), self.bytes.as_slice());
        let mut publishers = self.publishers.iter();
        let (mut tickets, mut expiries) = (self.tickets.iter(), self.expiries.iter());
        let (mut topic, mut publisher) = ("", None);
        self.heads.iter().map(move |head| {
            if head.topic_bytes > 0 {
                (topic, topics) =
                    topics.split_at_checked(usize::from(head.topic_bytes)).expect(PACKED);
            }
            if head.other_publisher {
                publisher = publishers.next();
            }
            let (client_id, author) = publisher.expect(PACKED);
            let ticket = head.has_ticket.then(|| *tickets.next().expect(PACKED));
            let expires_at = (head.expiries > 0).then(|| *expiries.next().expect(PACKED));
            let (forwarded, after) =
                bytes.split_at_checked(head.forwarded_bytes as usize).expect(PACKED);
            let (payload, after) =
                after.split_at_checked(head.payload_bytes as usize).expect(PACKED);
            bytes = after;
            let message = Publication {
                topic: TopicName::trusted(topic),
                payload,
                forwarded,
                qos: head.qos,
                retain: head.retain,
                expires_at,
                publisher: client_id,
                author,
                owned: OnceCell::new(),
            };
            (message, ticket)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::mail::Waiter;
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Topic, payload, properties, `QoS`, RETAIN, expiry, publisher, user, number of the ticket.
    type Drawn = (String, Vec<u8>, Vec<u8>, u8, bool, Option<u64>, u8, u8, Option<u64>);

    fn drawn() -> impl Strategy<Value = Drawn> {
        (
            prop_oneof!["[ab]", "é/\u{10348}[ab]", "[a-z/é]{1,300}"],
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(any::<u8>(), 0..20),
            0..3_u8,
            any::<bool>(),
            prop::option::of(any::<u64>()),
            0..2_u8,
            0..3_u8,
            prop::option::of(any::<u64>()),
        )
    }

    fn ticket(number: u64) -> Ticket {
        Ticket { origin: 3, waiter: Waiter::Suback { number }, patient: number.is_multiple_of(2) }
    }

    fn author(user: u8) -> Author {
        match user {
            0 => Author::Vouched,
            1 => Author::Anonymous,
            _ => Author::User(Arc::from("user")),
        }
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(all in prop::collection::vec(drawn(), 0..30)) {
            let mut bundle = Bundle::default();
            let mut expected = Vec::new();
            for (topic, payload, forwarded, qos, retain, expires, publisher, user, number) in &all {
                let client_id = ClientId::new(&format!("client {publisher}"));
                let author = author(*user);
                let message = Publication {
                    topic: TopicName::trusted(topic),
                    payload,
                    forwarded,
                    qos: [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(*qos)],
                    retain: *retain,
                    expires_at: expires.map(Millis),
                    publisher: &client_id,
                    author: &author,
                    owned: OnceCell::new(),
                };
                bundle.push(&message, number.map(ticket));
                expected.push((Arc::clone(message.owned()), number.map(ticket)));
            }
            let seen: Vec<_> = bundle
                .unpack()
                .map(|(message, ticket)| (Arc::clone(message.owned()), ticket))
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
