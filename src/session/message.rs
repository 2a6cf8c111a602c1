//! An application message: borrowed while it passes through, owned when it has to wait.

use crate::codec::Qos;
use crate::topic::TopicName;
use bytes::Bytes;
use shards::Millis;
use std::cell::OnceCell;
use std::sync::Arc;

/// Client identifier. Cloning counts a reference; it may cross shards.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Takes a client identifier as it stands; its rules are checked at CONNECT.
    pub fn new(text: &str) -> Self {
        ClientId(Arc::from(text))
    }

    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ClientId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Whose right to publish a message is asked again before it is handed out as retained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Author {
    /// Nobody's: the server itself, or a client whose rights came with a token that is gone since.
    #[default]
    Vouched,
    /// A client without user name.
    Anonymous,
    /// This user.
    User(Arc<str>),
}

/// An application message that waits somewhere: queue, window, retained store, mailbox.
///
/// Shared by all who wait for it; never changed after it was made.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    topic: Arc<str>,
    payload: Bytes,
    forwarded: Box<[u8]>,
    qos: Qos,
    retain: bool,
    expires_at: Option<Millis>,
    publisher: ClientId,
    author: Author,
}

impl Message {
    /// A message that was kept as bytes: topic, payload, property bytes that are passed on; `QoS`,
    /// RETAIN flag as published, end of the expiry interval; client id of the publisher. The author
    /// is [`Author::Vouched`].
    pub fn from_parts(
        (topic, payload, forwarded): (&str, Bytes, &[u8]),
        (qos, retain, expires_at): (Qos, bool, Option<Millis>),
        publisher: ClientId,
    ) -> Message {
        debug_assert!(TopicName::parse(topic).is_ok(), "{topic:?} was never a topic name");
        let (topic, forwarded) = (Arc::from(topic), Box::from(forwarded));
        let author = Author::Vouched;
        Message { topic, payload, forwarded, qos, retain, expires_at, publisher, author }
    }

    /// The same message, with the one whose right to publish it was asked for.
    #[must_use]
    pub fn written_by(mut self, author: Author) -> Message {
        self.author = author;
        self
    }

    /// Topic name; it was valid when the message was made.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Topic name, to be kept beside the message without a copy.
    pub fn shared_topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Takes the text of a client identifier that is the publisher's from whom it is shared with:
    /// messages that a start has read would have one each.
    pub fn share_publisher(&mut self, publisher: &ClientId) {
        debug_assert!(self.publisher == *publisher, "the same client");
        self.publisher = publisher.clone();
    }

    /// Application payload.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Property bytes that are passed on unchanged.
    pub fn forwarded(&self) -> &[u8] {
        &self.forwarded
    }

    /// RETAIN flag as published.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// `QoS` as published.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// End of the message expiry interval.
    pub fn expires_at(&self) -> Option<Millis> {
        self.expires_at
    }

    /// Client id of the publisher.
    pub fn publisher(&self) -> &ClientId {
        &self.publisher
    }

    /// Whose right to publish it was asked for.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// Topic and payload, the measure of all byte limits of queues and stores.
    pub fn weight_bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.forwarded.len()
    }

    /// May no longer be delivered. [MQTT-3.3.2-5]
    pub fn is_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|at| now > at)
    }

    /// A view for delivery.
    pub fn publication(self: &Arc<Self>) -> Publication<'_> {
        let owned = OnceCell::from(Arc::clone(self));
        Publication {
            topic: TopicName::trusted(&self.topic),
            payload: &self.payload,
            forwarded: &self.forwarded,
            qos: self.qos,
            retain: self.retain,
            expires_at: self.expires_at,
            publisher: &self.publisher,
            author: &self.author,
            owned,
        }
    }
}

/// A message on its way to its receivers, borrowed from the receive buffer.
///
/// A `QoS` 0 message that nobody has to keep is never copied as a whole: [`Publication::owned`]
/// makes the one shared copy when the first receiver needs it.
#[derive(Debug)]
pub struct Publication<'a> {
    /// Topic name, aliases resolved.
    pub topic: TopicName<'a>,
    /// Application payload.
    pub payload: &'a [u8],
    /// Property bytes that are passed on unchanged.
    pub forwarded: &'a [u8],
    /// `QoS` as published.
    pub qos: Qos,
    /// RETAIN flag as published.
    pub retain: bool,
    /// End of the message expiry interval.
    pub expires_at: Option<Millis>,
    /// Client id of the publisher, for No Local.
    pub publisher: &'a ClientId,
    /// Whose right to publish it was asked for.
    pub author: &'a Author,
    /// The shared copy, once made.
    pub owned: OnceCell<Arc<Message>>,
}

impl Publication<'_> {
    /// The shared copy; made at the first call: one copy of topic, payload and properties.
    pub fn owned(&self) -> &Arc<Message> {
        self.owned.get_or_init(|| {
            Arc::new(Message {
                topic: Arc::from(self.topic.as_str()),
                payload: Bytes::copy_from_slice(self.payload),
                forwarded: Box::from(self.forwarded),
                qos: self.qos,
                retain: self.retain,
                expires_at: self.expires_at,
                publisher: self.publisher.clone(),
                author: self.author.clone(),
            })
        })
    }

    /// Topic and payload, as [`Message::weight_bytes`].
    pub fn weight_bytes(&self) -> usize {
        self.topic.as_str().len() + self.payload.len() + self.forwarded.len()
    }

    /// Seconds of the expiry interval that are left, for the outgoing PUBLISH. [MQTT-3.3.2-6]
    pub fn expiry_left_s(&self, now: Millis) -> Option<u32> {
        // The waiting time counts in whole seconds, so what is left is rounded up.
        self.expires_at
            .map(|at| u32::try_from(at.0.saturating_sub(now.0).div_ceil(1000)).unwrap_or(u32::MAX))
    }
}
