//! What the clients did and saw: messages, sessions, subscriptions, and every event in order.
//!
//! All of it is known outside the broker. A step is a place in the order of events; there is one
//! thread, so the order is total.

use std::collections::{BTreeMap, HashMap};

/// Place in the order of events.
pub(crate) type Step = u64;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Publish,
    /// Its payload is empty: it deletes the retained message. It cannot be told from others.
    Deletion,
    Will,
}

/// One message that a client sent, or left as its will.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what befell it, in any combination")]
pub(crate) struct Message {
    pub(crate) publisher: usize,
    pub(crate) sequence: u32,
    pub(crate) topic: usize,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) kind: Kind,
    pub(crate) padding: usize,
    /// It was sent again: a QoS 1 message is then perhaps another one to the broker.
    pub(crate) repeated: bool,
    /// Faults before it was sent.
    pub(crate) faults: u32,
    /// First sent, or the CONNECT with this will sent.
    pub(crate) invoked: Step,
    /// PUBACK or PUBREC with success.
    pub(crate) acked: Option<Step>,
    /// The broker said that it did not take it.
    pub(crate) refused: bool,
    /// The connection was left in order, so this will may not be published.
    pub(crate) forbidden: bool,
}

impl Message {
    /// Names its publisher, number and `QoS`, with a checksum, and is as long as was drawn.
    pub(crate) fn payload(&self) -> String {
        if self.kind == Kind::Deletion {
            return String::new();
        }
        let text = format!("m-{}-{}-{}", self.publisher, self.sequence, self.qos);
        let sum = text.bytes().fold(u32::try_from(self.topic).unwrap(), |sum, byte| {
            (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        format!("{text}-{sum:08x}-{}", "x".repeat(self.padding))
    }
}

/// One subscription of one session.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    /// How often SUBSCRIBE was sent: each time retained messages may come.
    pub(crate) asks: u32,
    pub(crate) acked: Option<Step>,
    /// UNSUBSCRIBE sent.
    pub(crate) unasked: Option<Step>,
    /// UNSUBACK.
    pub(crate) unacked: Option<Step>,
}

impl Subscription {
    /// In force without doubt from `begin` to `end`?
    pub(crate) fn certain(&self, begin: Step, end: Step) -> bool {
        self.acked.is_some_and(|acked| acked < begin) && self.unasked.is_none_or(|at| at > end)
    }

    /// In force perhaps at some time from `begin` on?
    pub(crate) fn possible(&self, begin: Step) -> bool {
        self.unacked.is_none_or(|at| at >= begin)
    }

    /// Topic filter without `$share/NAME/`.
    pub(crate) fn topic_filter(&self) -> &str {
        shared(&self.filter).map_or(&self.filter, |(_, filter)| filter)
    }
}

/// Group and topic filter of a shared subscription.
pub(crate) fn shared(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

/// Does `filter` match `topic`?
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    for level in filter.split('/') {
        match (level, topic.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    topic.next().is_none()
}

/// How often a session was given a message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copies {
    /// As it was published.
    pub(crate) live: u32,
    /// Those of them at `QoS` 2.
    pub(crate) exact: u32,
    /// As a retained message, at SUBSCRIBE.
    pub(crate) retained: u32,
}

/// One session, from the CONNACK without session present.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: usize,
    /// It outlives its connection.
    pub(crate) durable: bool,
    /// Something of it was acknowledged as stored: it must be there after a crash.
    pub(crate) stored: bool,
    /// From here on it may have ended, as its client wished or the time ran out.
    pub(crate) ended: Option<Step>,
    /// The broker no longer had it, though it should have.
    pub(crate) vanished: Option<Step>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) copies: HashMap<usize, Copies>,
    /// Highest sequence number of first deliveries by publisher, topic, `QoS` sent and `QoS` given.
    pub(crate) highest: BTreeMap<(usize, usize, u8, u8), u32>,
}

/// What an event was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Connect,
    ConnackPresent,
    ConnackNew,
    Closed,
    Disconnect,
    Publish,
    Repeat,
    Puback,
    Pubrec,
    Pubrel,
    Pubcomp,
    Refused,
    Received,
    ReceivedRetained,
    ReceivedAgain,
    Acknowledge,
    Subscribe,
    Suback,
    Unsubscribe,
    Unsuback,
    Fault,
    Started,
}

/// One event; `number` is a packet identifier or, of a subscription, its place in the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) ms: u64,
    pub(crate) client: Option<usize>,
    pub(crate) what: What,
    pub(crate) message: Option<usize>,
    pub(crate) number: u16,
}

/// What was found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wrong {
    /// An acknowledged message did not arrive (I1).
    Lost,
    /// A QoS 2 message arrived twice (I2).
    Duplicate,
    /// A QoS 0 delivery of a message that was sent once happened twice.
    DuplicateQos0,
    /// A later message of the same publisher, topic and `QoS` came first (I5).
    Order,
    /// Nobody sent it, or not like this (I4).
    Phantom,
    /// A subscription that was acknowledged is missing, or one is back (I6).
    Subscription,
    /// An older retained message, or none (I7).
    Retained,
    /// Session present (I8).
    SessionPresent,
    /// A will is missing, or one was published that may not be.
    Will,
    /// A packet identifier was given to another message too early.
    Identifier,
    /// A packet that may not come here.
    Protocol,
    /// The broker ended by itself, or served nobody.
    Ended,
}

/// One finding.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) wrong: Wrong,
    pub(crate) text: String,
    pub(crate) message: Option<usize>,
    pub(crate) client: Option<usize>,
}

/// Everything that was seen.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) ms: u64,
    pub(crate) topics: Vec<String>,
    pub(crate) messages: Vec<Message>,
    pub(crate) numbers: HashMap<(usize, u32), usize>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) events: Vec<Event>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) faults: u32,
    /// The disk fails or is full: a SUBSCRIBE or a new session may be refused.
    pub(crate) may_refuse: bool,
    pub(crate) delivered: u64,
    pub(crate) repeated_at_qos1: u64,
    /// Out of order by a subscription that came after the message was sent, over a fault.
    pub(crate) late: u64,
    /// Owed deliveries that the drain waits for: session or group, message.
    pub(crate) outstanding: std::collections::BTreeSet<(Recipient, usize)>,
}

/// Who has to get a message: one session, or any member of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Recipient {
    Session(usize),
    Group(String),
}

impl Ledger {
    /// The next step.
    pub(crate) fn step(&self) -> Step {
        self.events.len() as Step
    }

    /// Writes one event down; it gets the step that [`Ledger::step`] was.
    pub(crate) fn note(
        &mut self,
        client: Option<usize>,
        what: What,
        message: Option<usize>,
        number: u16,
    ) -> Step {
        let step = self.step();
        self.events.push(Event { ms: self.ms, client, what, message, number });
        step
    }

    pub(crate) fn found(&mut self, wrong: Wrong, client: usize, at: Option<usize>, text: String) {
        self.findings.push(Finding { wrong, text, message: at, client: Some(client) });
    }

    pub(crate) fn add(&mut self, message: Message) -> usize {
        let at = self.messages.len();
        self.numbers.insert((message.publisher, message.sequence), at);
        self.messages.push(message);
        at
    }

    /// The message that has this payload, byte by byte.
    pub(crate) fn identify(&self, payload: &[u8], topic: &str) -> Result<Option<usize>, String> {
        if payload.is_empty() {
            return Ok(None);
        }
        let text = std::str::from_utf8(payload).map_err(|error| error.to_string())?;
        let head: String = text.chars().take(60).collect();
        let mut words = text.split('-').skip(1);
        let mut number = || words.next().and_then(|word| word.parse().ok());
        let key = number().zip(number());
        let key = key.map(|(client, number)| (client, u32::try_from(number).unwrap_or_default()));
        let Some(at) = key.and_then(|key| self.numbers.get(&key).copied()) else {
            return Err(format!("nobody sent {head}"));
        };
        let message = &self.messages[at];
        if message.payload() != text || self.topics[message.topic] != topic {
            return Err(format!("{head} was sent otherwise, or not to {topic}"));
        }
        Ok(Some(at))
    }

    /// A PUBLISH was handed to the client: not a repetition that its half of the session filters.
    pub(crate) fn delivered(&mut self, session: usize, at: usize, qos: u8, retained: bool) {
        self.delivered += 1;
        let client = self.sessions[session].client;
        let what = if retained { What::ReceivedRetained } else { What::Received };
        self.note(Some(client), what, Some(at), u16::from(qos));
        if let Err((wrong, text)) = self.check_delivery(session, at, qos, retained) {
            self.found(wrong, client, Some(at), text);
        }
        self.outstanding.remove(&(Recipient::Session(session), at));
        for subscription in &self.sessions[session].subscriptions {
            if let Some((group, filter)) = shared(&subscription.filter)
                && matches(filter, &self.topics[self.messages[at].topic])
            {
                self.outstanding.remove(&(Recipient::Group(group.to_owned()), at));
            }
        }
    }

    fn check_delivery(
        &mut self,
        index: usize,
        at: usize,
        qos: u8,
        retained: bool,
    ) -> Result<(), (Wrong, String)> {
        let (message, session) = (&self.messages[at], &mut self.sessions[index]);
        let topic = &self.topics[message.topic];
        let copies = session.copies.entry(at).or_default();
        if retained {
            copies.retained += 1;
        } else {
            copies.live += 1;
            copies.exact += u32::from(qos == 2);
        }
        let copies = *copies;
        if message.forbidden {
            return Err((Wrong::Will, "the will of a client that said DISCONNECT".into()));
        }
        let fitting = || session.subscriptions.iter().filter(|s| matches(s.topic_filter(), topic));
        let possible = fitting().filter(|s| retained || s.possible(message.invoked));
        let Some(granted) = possible.map(|s| s.qos).max() else {
            return Err((Wrong::Subscription, format!("no subscription for {topic}")));
        };
        if qos > granted.min(message.qos) {
            return Err((Wrong::Subscription, format!("QoS {qos}, granted {granted}")));
        }
        if retained {
            let handouts = fitting().map(|s| s.asks).sum();
            let repeats = message.qos == 2 && copies.retained > handouts;
            return if repeats && qos == 2 && session.durable {
                Err((Wrong::Duplicate, format!("retained {} times", copies.retained)))
            } else {
                Ok(())
            };
        }
        let is_shared = fitting().any(|s| shared(&s.filter).is_some());
        let certain = fitting().filter(|s| s.certain(message.invoked, Step::MAX));
        let least = certain.map(|s| s.qos.min(message.qos)).max().unwrap_or_default();
        if qos < least && !is_shared {
            return Err((Wrong::Subscription, format!("QoS {qos}, at least {least} was granted")));
        }
        let was_disturbed = message.repeated || self.faults > message.faults;
        // QoS 0 leaves before the message is durable; after a crash it may leave again.
        // So it is with QoS 1, and the subscription may have another QoS by then.
        let is_once = !was_disturbed || (qos == 2 && copies.exact > 1);
        if copies.live > 1 && is_once && qos != 1 && message.qos != 1 {
            let wrong = if qos == 2 { Wrong::Duplicate } else { Wrong::DuplicateQos0 };
            return Err((wrong, format!("{} times", copies.live)));
        }
        if copies.live > 1 {
            self.repeated_at_qos1 += 1;
            return Ok(());
        }
        let (sequence, key) =
            (message.sequence, (message.publisher, message.topic, message.qos, qos));
        let was_subscribed = fitting().any(|s| s.certain(message.invoked, message.invoked));
        let is_new_to_it = was_disturbed && (qos == 0 || !was_subscribed);
        if is_shared || message.kind == Kind::Will {
            return Ok(());
        }
        let highest = session.highest.entry(key).or_default();
        if sequence < *highest && is_new_to_it {
            self.late += 1;
            return Ok(());
        }
        if sequence < *highest {
            return Err((Wrong::Order, format!("number {sequence} after {highest} on {topic}")));
        }
        *highest = sequence;
        Ok(())
    }
}
