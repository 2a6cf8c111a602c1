//! Records to bytes.

use super::{entry, head, kind, message, options, part, publish};
use crate::codec::{Qos, SubscribeOptions};
use crate::session::{Author, Message};
use crate::store::record::{Entry, Onward, Publish, Record, SessionHead, Source, StoredWill};
use crate::store::wall::Wall;

/// Appends the body of `record` to `out` and tells its type. Allocates only if `out` must grow.
///
/// The body of a `Publish` may be longer than a log takes, if a message of the greatest size goes
/// to tens of thousands of sessions; the log refuses it then.
pub fn encode(record: &Record, wall: Wall, out: &mut Vec<u8>) -> u8 {
    match record {
        Record::Session(head) => {
            put_head(head, out);
            kind::SESSION
        }
        Record::SessionEnd { session } => {
            put_number(session.0, out);
            kind::SESSION_END
        }
        Record::Will { session, will } => {
            put_number(session.0, out);
            put_will(will.as_ref(), wall, out);
            kind::WILL
        }
        Record::Subscribe { session, filter, options, identifier } => {
            put_number(session.0, out);
            put_bytes(filter.as_str().as_bytes(), out);
            out.push(options_byte(*options));
            put_number(u64::from(*identifier), out);
            kind::SUBSCRIBE
        }
        Record::Unsubscribe { session, filter } => {
            put_number(session.0, out);
            put_bytes(filter.as_str().as_bytes(), out);
            kind::UNSUBSCRIBE
        }
        Record::Publish(publish) => {
            put_publish(publish, wall, out);
            kind::PUBLISH
        }
        Record::Received { session, id } => {
            put_pair(session.0, u64::from(id.get()), out);
            kind::RECEIVED
        }
        Record::Released { session, id } => {
            put_pair(session.0, u64::from(id.get()), out);
            kind::RELEASED
        }
        Record::Owned { session, sequence } => {
            put_pair(session.0, *sequence, out);
            kind::OWNED
        }
        Record::Done { session, sequence, more } => {
            put_pair(session.0, *sequence, out);
            if *more == 0 {
                return kind::DONE;
            }
            put_number(u64::from(*more), out);
            kind::DONE_RUN
        }
        Record::RetainDeleted { topic } => {
            put_bytes(topic.as_bytes(), out);
            kind::RETAIN_DELETED
        }
        Record::Applied { origin, exchange } => {
            put_pair(u64::from(*origin), *exchange, out);
            kind::APPLIED
        }
        Record::Settled { exchange, shard } => {
            put_pair(*exchange, u64::from(*shard), out);
            kind::SETTLED
        }
        Record::Clock { wall_ms } => {
            put_number(*wall_ms, out);
            kind::CLOCK
        }
    }
}

fn put_head(session: &SessionHead, out: &mut Vec<u8>) {
    let SessionHead { session, client, user, users, expiry_s, offline_since_ms, next_sequence } =
        session;
    let bit = |is_there, bit| if is_there { bit } else { 0 };
    out.push(
        bit(user.is_some(), head::USER)
            | bit(offline_since_ms.is_some(), head::OFFLINE)
            | bit(users.is_some(), head::USERS),
    );
    put_number(session.0, out);
    put_bytes(client.as_str().as_bytes(), out);
    if let Some(user) = user {
        put_bytes(user.as_bytes(), out);
    }
    if let Some(users) = users {
        put_bytes(users.as_bytes(), out);
    }
    put_number(u64::from(*expiry_s), out);
    if let Some(since_ms) = offline_since_ms {
        put_number(*since_ms, out);
    }
    put_number(*next_sequence, out);
}

fn put_will(terms: Option<&StoredWill>, wall: Wall, out: &mut Vec<u8>) {
    let Some(StoredWill { message, expiry_s, delay_s }) = terms else {
        out.push(0);
        return;
    };
    out.push(if expiry_s.is_some() { head::WILL | head::WILL_EXPIRY } else { head::WILL });
    put_number(u64::from(*delay_s), out);
    if let Some(expiry_s) = expiry_s {
        put_number(u64::from(*expiry_s), out);
    }
    put_message(message, wall, out);
}

fn options_byte(options: SubscribeOptions) -> u8 {
    let no_local = if options.no_local { options::NO_LOCAL } else { 0 };
    let as_published = if options.retain_as_published { options::RETAIN_AS_PUBLISHED } else { 0 };
    let handling = (options.retain_handling as u8) << options::RETAIN_HANDLING_SHIFT;
    options.qos as u8 | no_local | as_published | handling
}

fn put_message(message: &Message, wall: Wall, out: &mut Vec<u8>) {
    let retain = if message.retain() { message::RETAIN } else { 0 };
    let expires = if message.expires_at().is_some() { message::EXPIRES } else { 0 };
    let author = match message.author() {
        Author::Vouched => 0,
        Author::Anonymous => message::BY_ANONYMOUS,
        Author::User(_) => message::BY_USER,
    };
    out.push(message.qos() as u8 | retain | expires | author);
    put_bytes(message.topic().as_bytes(), out);
    put_bytes(message.publisher().as_str().as_bytes(), out);
    if let Author::User(user) = message.author() {
        put_bytes(user.as_bytes(), out);
    }
    if let Some(at) = message.expires_at() {
        put_number(wall.of(at), out);
    }
    put_bytes(message.forwarded(), out);
    put_bytes(message.payload(), out);
}

fn put_publish(publish: &Publish, wall: Wall, out: &mut Vec<u8>) {
    put_message(&publish.message, wall, out);
    let retained = if publish.retained { publish::RETAINED } else { 0 };
    let onward = if publish.onward.is_some() { publish::ONWARD } else { 0 };
    let bits = retained | onward;
    match publish.from {
        Source::Plain => out.push(bits | publish::PLAIN),
        Source::Received(session, id) => {
            out.push(bits | publish::RECEIVED);
            put_pair(session.0, u64::from(id.get()), out);
        }
        Source::Will(session) => {
            out.push(bits | publish::WILL);
            put_number(session.0, out);
        }
        Source::Exchange { origin, exchange } => {
            out.push(bits | publish::EXCHANGE);
            put_pair(u64::from(origin), exchange, out);
        }
    }
    put_count(publish.entries.len(), out);
    let (mut session, mut sequence) = (0, 0);
    for entry in &publish.entries {
        put_entry(entry, (session, sequence), out);
        (session, sequence) = (entry.session.0, entry.sequence);
    }
    if let Some(onward) = &publish.onward {
        put_onward(onward, out);
    }
}

fn put_entry(entry: &Entry, before: (u64, u64), out: &mut Vec<u8>) {
    let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
    out.push(
        bit(entry.qos == Qos::ExactlyOnce, entry::EXACTLY_ONCE)
            | bit(entry.retain, entry::RETAIN)
            | bit(entry.sent, entry::SENT)
            | bit(!entry.identifiers.is_empty(), entry::IDENTIFIERS)
            | bit(entry.share.is_some(), entry::SHARE),
    );
    put_near(entry.session.0, before.0, out);
    put_near(entry.sequence, before.1, out);
    if !entry.identifiers.is_empty() {
        put_count(entry.identifiers.len(), out);
        for identifier in &entry.identifiers {
            put_number(u64::from(*identifier), out);
        }
    }
    if let Some(share) = &entry.share {
        put_bytes(share.as_str().as_bytes(), out);
    }
}

fn put_onward(onward: &Onward, out: &mut Vec<u8>) {
    put_number(onward.exchange, out);
    put_count(onward.parts.len(), out);
    for part in &onward.parts {
        put_number(u64::from(part.shard), out);
        let direct = if part.direct { part::DIRECT } else { 0 };
        out.push(direct | if part.retain { part::RETAIN } else { 0 });
        put_count(part.shares.len(), out);
        for share in &part.shares {
            put_bytes(share.as_str().as_bytes(), out);
        }
    }
}

fn put_pair(first: u64, second: u64, out: &mut Vec<u8>) {
    put_number(first, out);
    put_number(second, out);
}

/// `number` as its distance from `base`, signs in the lowest bit: short for neighbours.
fn put_near(number: u64, base: u64, out: &mut Vec<u8>) {
    let distance = number.wrapping_sub(base);
    let sign = 0u64.wrapping_sub(distance >> 63);
    put_number((distance << 1) ^ sign, out);
}

fn put_count(count: usize, out: &mut Vec<u8>) {
    put_number(u64::try_from(count).expect("usize has at most 64 bits"), out);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).expect("seven bits fit") | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).expect("less than 0x80"));
}
