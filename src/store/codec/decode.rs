//! Bytes to records.

use super::input::{DecodeFault, Fault, Input};
use super::{entry, head, kind, message, options, part, publish};
use crate::codec::{PacketId, Qos, RetainHandling, SubscribeOptions};
use crate::session::{Author, ClientId, Message};
use crate::store::record::{
    Entry, Onward, Part, Publish, Record, SessionHead, SessionNumber, Source, StoredWill,
};
use crate::store::wall::Wall;
use bytes::Bytes;
use shards::log::MUST_UNDERSTAND;
use std::sync::Arc;

/// Greatest subscription identifier. Source: MQTT 5.0 §3.8.2.1.2.
const IDENTIFIER_MAX: u32 = 268_435_455;

/// The record of that type with that body; `None`: a type of a later version that may be left out.
///
/// Reserves no more memory than the body has, times the size of what is read.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn decode(kind: u8, body: &[u8], wall: Wall) -> Result<Option<Record>, DecodeFault> {
    let mut input = Input::new(body);
    let record = match kind {
        kind::SESSION => Record::Session(session_head(&mut input)?),
        kind::SESSION_END => Record::SessionEnd { session: session(&mut input)? },
        kind::WILL => Record::Will { session: session(&mut input)?, will: will(&mut input, wall)? },
        kind::SUBSCRIBE => Record::Subscribe {
            session: session(&mut input)?,
            filter: input.filter()?,
            options: subscribe_options(&mut input)?,
            identifier: identifier(&mut input, 0)?,
        },
        kind::UNSUBSCRIBE => {
            Record::Unsubscribe { session: session(&mut input)?, filter: input.filter()? }
        }
        kind::PUBLISH => Record::Publish(publish(&mut input, wall)?),
        kind::RECEIVED => {
            Record::Received { session: session(&mut input)?, id: packet_id(&mut input)? }
        }
        kind::RELEASED => {
            Record::Released { session: session(&mut input)?, id: packet_id(&mut input)? }
        }
        kind::OWNED => Record::Owned { session: session(&mut input)?, sequence: input.u64()? },
        kind::DONE => {
            Record::Done { session: session(&mut input)?, sequence: input.u64()?, more: 0 }
        }
        kind::DONE_RUN => Record::Done {
            session: session(&mut input)?,
            sequence: input.u64()?,
            more: more(&mut input)?,
        },
        kind::RETAIN_DELETED => Record::RetainDeleted { topic: Arc::from(input.topic()?) },
        kind::APPLIED => Record::Applied { origin: input.u16()?, exchange: input.u64()? },
        kind::SETTLED => Record::Settled { exchange: input.u64()?, shard: input.u16()? },
        kind::CLOCK => Record::Clock { wall_ms: input.u64()? },
        kind if kind & MUST_UNDERSTAND == 0 => return Ok(None),
        kind => return Input::fault_at(0, Fault::Type(kind)),
    };
    input.end()?;
    Ok(Some(record))
}

/// How many more deliveries are over, in a record that is written for more than one.
fn more(input: &mut Input<'_>) -> Result<u16, DecodeFault> {
    let offset = input.offset();
    let more = input.u16()?;
    if more > 0 { Ok(more) } else { Input::fault_at(offset, Fault::Number) }
}

/// The message of a `Publish` record alone, for a delivery that was left on disk. What follows the
/// message is not looked at.
///
/// # Errors
/// What is wrong, and at which byte; a record of another type has no message to give.
pub fn decode_message(kind: u8, body: &[u8], wall: Wall) -> Result<Arc<Message>, DecodeFault> {
    if kind != kind::PUBLISH {
        return Input::fault_at(0, Fault::Type(kind));
    }
    message(&mut Input::new(body), wall)
}

fn session(input: &mut Input<'_>) -> Result<SessionNumber, DecodeFault> {
    input.u64().map(SessionNumber)
}

/// A packet identifier is not 0. [MQTT-2.2.1-3]
fn packet_id(input: &mut Input<'_>) -> Result<PacketId, DecodeFault> {
    let offset = input.offset();
    let id = PacketId::new(input.u16()?);
    id.map_or_else(|| Input::fault_at(offset, Fault::Number), Ok)
}

fn identifier(input: &mut Input<'_>, min: u32) -> Result<u32, DecodeFault> {
    let offset = input.offset();
    let identifier = input.u32()?;
    let possible = (min..=IDENTIFIER_MAX).contains(&identifier);
    if possible { Ok(identifier) } else { Input::fault_at(offset, Fault::Number) }
}

fn session_head(input: &mut Input<'_>) -> Result<SessionHead, DecodeFault> {
    let bits = input.bits(head::USER | head::OFFLINE | head::USERS)?;
    let session = session(input)?;
    let client = ClientId::new(input.text()?);
    let user = if bits & head::USER == 0 { None } else { Some(Arc::from(input.text()?)) };
    let users = if bits & head::USERS == 0 { None } else { Some(Arc::from(input.text()?)) };
    let expiry_s = input.u32()?;
    let offline_since_ms = if bits & head::OFFLINE == 0 { None } else { Some(input.u64()?) };
    let next_sequence = input.u64()?;
    Ok(SessionHead { session, client, user, users, expiry_s, offline_since_ms, next_sequence })
}

fn will(input: &mut Input<'_>, wall: Wall) -> Result<Option<StoredWill>, DecodeFault> {
    let offset = input.offset();
    let bits = input.bits(head::WILL | head::WILL_EXPIRY)?;
    if bits == 0 {
        return Ok(None);
    }
    if bits & head::WILL == 0 {
        return Input::fault_at(offset, Fault::Bits);
    }
    let delay_s = input.u32()?;
    let expiry_s = if bits & head::WILL_EXPIRY == 0 { None } else { Some(input.u32()?) };
    let message = message(input, wall)?;
    Ok(Some(StoredWill { message, expiry_s, delay_s }))
}

fn subscribe_options(input: &mut Input<'_>) -> Result<SubscribeOptions, DecodeFault> {
    let offset = input.offset();
    let bits = input.bits(0x3f)?;
    let Some(qos) = Qos::from_u8(bits & options::QOS) else {
        return Input::fault_at(offset, Fault::Qos);
    };
    let retain_handling = match bits >> options::RETAIN_HANDLING_SHIFT {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Input::fault_at(offset, Fault::Bits),
    };
    Ok(SubscribeOptions {
        qos,
        no_local: bits & options::NO_LOCAL != 0,
        retain_as_published: bits & options::RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

fn message(input: &mut Input<'_>, wall: Wall) -> Result<Arc<Message>, DecodeFault> {
    let offset = input.offset();
    let author = message::BY_ANONYMOUS | message::BY_USER;
    let bits = input.bits(message::QOS | message::RETAIN | message::EXPIRES | author)?;
    let Some(qos) = Qos::from_u8(bits & message::QOS) else {
        return Input::fault_at(offset, Fault::Qos);
    };
    let topic = input.topic()?;
    let publisher = ClientId::new(input.text()?);
    let author = match bits & author {
        0 => Author::Vouched,
        message::BY_ANONYMOUS => Author::Anonymous,
        message::BY_USER => Author::User(Arc::from(input.text()?)),
        _ => return Input::fault_at(offset, Fault::Bits),
    };
    let expires = bits & message::EXPIRES != 0;
    let expires_at = if expires { Some(wall.at(input.u64()?)) } else { None };
    let forwarded = input.bytes()?;
    let payload = Bytes::copy_from_slice(input.bytes()?);
    let retain = bits & message::RETAIN != 0;
    let parts = (topic, payload, forwarded);
    let message = Message::from_parts(parts, (qos, retain, expires_at), publisher);
    Ok(Arc::new(message.written_by(author)))
}

fn publish(input: &mut Input<'_>, wall: Wall) -> Result<Publish, DecodeFault> {
    let message = message(input, wall)?;
    let bits = input.bits(publish::SOURCE | publish::RETAINED | publish::ONWARD)?;
    let from = match bits & publish::SOURCE {
        publish::RECEIVED => Source::Received(session(input)?, packet_id(input)?),
        publish::WILL => Source::Will(session(input)?),
        publish::EXCHANGE => Source::Exchange { origin: input.u16()?, exchange: input.u64()? },
        _ => Source::Plain,
    };
    // Bits, session and sequence have at least a byte each.
    let count = input.count(3)?;
    let mut entries = Vec::with_capacity(count);
    let (mut session, mut sequence) = (0, 0);
    for _ in 0..count {
        let entry = entry(input, (session, sequence))?;
        (session, sequence) = (entry.session.0, entry.sequence);
        entries.push(entry);
    }
    let onward = if bits & publish::ONWARD == 0 { None } else { Some(onward(input)?) };
    Ok(Publish { message, from, retained: bits & publish::RETAINED != 0, entries, onward })
}

fn entry(input: &mut Input<'_>, before: (u64, u64)) -> Result<Entry, DecodeFault> {
    let known = entry::EXACTLY_ONCE | entry::RETAIN | entry::SENT;
    let bits = input.bits(known | entry::IDENTIFIERS | entry::SHARE)?;
    let session = SessionNumber(input.near(before.0)?);
    let sequence = input.near(before.1)?;
    let identifiers =
        if bits & entry::IDENTIFIERS == 0 { Box::default() } else { identifiers(input)? };
    let share = if bits & entry::SHARE == 0 { None } else { Some(input.filter()?) };
    let exactly_once = bits & entry::EXACTLY_ONCE != 0;
    Ok(Entry {
        session,
        sequence,
        qos: if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce },
        retain: bits & entry::RETAIN != 0,
        sent: bits & entry::SENT != 0,
        identifiers,
        share,
    })
}

fn identifiers(input: &mut Input<'_>) -> Result<Box<[u32]>, DecodeFault> {
    let offset = input.offset();
    let count = input.count(1)?;
    if count == 0 {
        return Input::fault_at(offset, Fault::Bits);
    }
    (0..count).map(|_| identifier(input, 1)).collect()
}

fn onward(input: &mut Input<'_>) -> Result<Onward, DecodeFault> {
    let exchange = input.u64()?;
    let count = input.count(3)?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let shard = input.u16()?;
        let bits = input.bits(part::DIRECT | part::RETAIN)?;
        // A filter has a length and at least one character.
        let shares = input.count(2)?;
        let shares = (0..shares).map(|_| input.filter()).collect::<Result<_, _>>()?;
        let (direct, retain) = (bits & part::DIRECT != 0, bits & part::RETAIN != 0);
        parts.push(Part { shard, direct, retain, shares });
    }
    Ok(Onward { exchange, parts })
}
