//! A record of the log in words.

use crate::codec::SubscribeOptions;
use crate::session::Message;
use crate::store::{Entry, Onward, Part, Publish, Record, SessionHead, Source, StoredWill, Wall};
use crate::topic::Filter;
use serde::{Serialize, Serializer};
use std::fmt::{self, Display};

/// Name of the record's type, and its fields. `payloads`: with the payloads of messages.
pub(super) fn describe(record: &Record, wall: Wall, payloads: bool) -> (&'static str, Fields) {
    let mut description = Description { fields: Fields::default(), wall, payloads };
    let name = description.record(record);
    (name, description.fields)
}

/// Names and values, in the order in which they were put.
///
/// Displayed as `name=value`, one after the other; as JSON an object.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

/// Value of a field.
#[derive(Debug)]
pub(super) enum Value {
    Flag(bool),
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Fields(Fields),
}

impl Fields {
    pub(super) fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    /// These, then the others.
    pub(super) fn extend(&mut self, others: Fields) {
        self.0.extend(others.0);
    }
}

impl Display for Fields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(out, "{gap}{name}={value}")?;
        }
        Ok(())
    }
}

impl Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => flag.fmt(out),
            Value::Number(number) => number.fmt(out),
            Value::Text(text) => fmt::Debug::fmt(text, out),
            Value::Fields(fields) => write!(out, "{{{fields}}}"),
            Value::List(values) => {
                out.write_str("[")?;
                for (index, value) in values.iter().enumerate() {
                    let gap = if index == 0 { "" } else { ", " };
                    write!(out, "{gap}{value}")?;
                }
                out.write_str("]")
            }
        }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Flag(flag) => flag.serialize(serializer),
            Value::Number(number) => number.serialize(serializer),
            Value::Text(text) => text.serialize(serializer),
            Value::List(values) => values.serialize(serializer),
            Value::Fields(fields) => fields.serialize(serializer),
        }
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Value {
        Value::Number(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::Number(number as u64)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Value {
        Value::Fields(fields)
    }
}

impl FromIterator<Value> for Value {
    fn from_iter<I: IntoIterator<Item = Value>>(values: I) -> Value {
        Value::List(values.into_iter().collect())
    }
}

struct Description {
    fields: Fields,
    wall: Wall,
    payloads: bool,
}

impl Description {
    fn put(&mut self, name: &'static str, value: impl Into<Value>) {
        self.fields.put(name, value);
    }

    /// Flags are there if they are set.
    fn put_flag(&mut self, name: &'static str, is_set: bool) {
        if is_set {
            self.put(name, true);
        }
    }

    /// What there may be is left out if it is not there.
    fn put_some(&mut self, name: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn record(&mut self, record: &Record) -> &'static str {
        match record {
            Record::Session(head) => {
                self.head(head);
                "session"
            }
            Record::SessionEnd { session } => {
                self.put("session", session.0);
                "session-end"
            }
            Record::Will { session, will } => {
                self.put("session", session.0);
                self.will(will.as_ref());
                if will.is_some() { "will" } else { "no-will" }
            }
            Record::Subscribe { session, filter, options, identifier } => {
                self.put("session", session.0);
                self.put("filter", filter.as_str());
                self.options(*options);
                self.put_some("identifier", (*identifier > 0).then_some(*identifier));
                "subscribe"
            }
            Record::Unsubscribe { session, filter } => {
                self.put("session", session.0);
                self.put("filter", filter.as_str());
                "unsubscribe"
            }
            Record::Publish(publish) => {
                self.publish(publish);
                "publish"
            }
            Record::Received { session, id } => self.pair("received", session.0, ("id", id.get())),
            Record::Released { session, id } => self.pair("released", session.0, ("id", id.get())),
            Record::Owned { session, sequence } => {
                self.pair("owned", session.0, ("sequence", *sequence))
            }
            Record::Done { session, sequence, more } => {
                let name = self.pair("done", session.0, ("sequence", *sequence));
                if *more > 0 {
                    self.put("more", *more);
                }
                name
            }
            Record::RetainDeleted { topic } => {
                self.put("topic", &**topic);
                "retain-deleted"
            }
            Record::Applied { origin, exchange } => {
                self.put("origin", *origin);
                self.put("exchange", *exchange);
                "applied"
            }
            Record::Settled { exchange, shard } => {
                self.put("exchange", *exchange);
                self.put("shard", *shard);
                "settled"
            }
            Record::Clock { wall_ms } => {
                self.put("wall_ms", *wall_ms);
                "clock"
            }
        }
    }

    fn pair(
        &mut self,
        name: &'static str,
        session: u64,
        (field, value): (&'static str, impl Into<Value>),
    ) -> &'static str {
        self.put("session", session);
        self.put(field, value);
        name
    }

    fn head(&mut self, head: &SessionHead) {
        self.put("session", head.session.0);
        self.put("client", head.client.as_str());
        self.put_some("user", head.user.as_deref());
        self.put_some("users", head.users.as_deref());
        match head.expiry_s {
            u32::MAX => self.put("expiry_s", "never"),
            expiry_s => self.put("expiry_s", expiry_s),
        }
        self.put_some("offline_since_ms", head.offline_since_ms);
        self.put("next_sequence", head.next_sequence);
    }

    fn will(&mut self, will: Option<&StoredWill>) {
        let Some(StoredWill { message, expiry_s, delay_s }) = will else { return };
        self.put("delay_s", *delay_s);
        self.put_some("expiry_s", *expiry_s);
        self.message(message);
    }

    fn options(&mut self, options: SubscribeOptions) {
        let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } = options;
        self.put("qos", qos as u16);
        self.put_flag("no_local", no_local);
        self.put_flag("retain_as_published", retain_as_published);
        let handling = retain_handling as u16;
        self.put_some("retain_handling", (handling > 0).then_some(handling));
    }

    fn message(&mut self, message: &Message) {
        self.put("topic", message.topic());
        self.put("publisher", message.publisher().as_str());
        self.put("qos", message.qos() as u16);
        self.put_flag("retain", message.retain());
        self.put_some("expires_at_ms", message.expires_at().map(|at| self.wall.of(at)));
        let properties = message.forwarded().len();
        self.put_some("property_bytes", (properties > 0).then_some(properties));
        self.put("payload_bytes", message.payload().len());
        if self.payloads {
            self.put("payload", &*String::from_utf8_lossy(message.payload()));
        }
    }

    fn publish(&mut self, publish: &Publish) {
        let Publish { message, from, retained, entries, onward } = publish;
        self.message(message);
        let mut source = Fields::default();
        match from {
            Source::Plain => {}
            Source::Received(session, id) => {
                source.put("session", session.0);
                source.put("id", id.get());
            }
            Source::Will(session) => source.put("will_of", session.0),
            Source::Exchange { origin, exchange } => {
                source.put("origin", *origin);
                source.put("exchange", *exchange);
            }
        }
        self.put_some("from", (*from != Source::Plain).then_some(source));
        self.put_flag("retained", *retained);
        let to = (!entries.is_empty()).then(|| entries.iter().map(entry).collect::<Value>());
        self.put_some("to", to);
        if let Some(Onward { exchange, parts }) = onward {
            self.put("exchange", *exchange);
            self.put("onward", parts.iter().map(part).collect::<Value>());
        }
    }
}

fn entry(entry: &Entry) -> Value {
    let mut fields = Fields::default();
    fields.put("session", entry.session.0);
    fields.put("sequence", entry.sequence);
    fields.put("qos", entry.qos as u16);
    if entry.retain {
        fields.put("retain", true);
    }
    if entry.sent {
        fields.put("sent", true);
    }
    if !entry.identifiers.is_empty() {
        let identifiers = entry.identifiers.iter().map(|identifier| Value::from(*identifier));
        fields.put("identifiers", identifiers.collect::<Value>());
    }
    if let Some(share) = &entry.share {
        fields.put("share", share.as_str());
    }
    fields.into()
}

fn part(part: &Part) -> Value {
    let mut fields = Fields::default();
    fields.put("shard", part.shard);
    if part.direct {
        fields.put("direct", true);
    }
    if part.retain {
        fields.put("retain", true);
    }
    if !part.shares.is_empty() {
        let shares = part.shares.iter().map(Filter::as_str).map(Value::from);
        fields.put("shares", shares.collect::<Value>());
    }
    fields.into()
}
