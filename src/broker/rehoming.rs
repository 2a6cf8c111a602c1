//! A data directory that was written with another number of shards: its state moves to new logs.

use super::BrokerError;
use crate::access::{Access, Action, Verdict, Who, authorise, users};
use crate::shard::Home;
use crate::store::rehome::{Layout, Plan, rehome};
use crate::store::{self, Image, Place, SessionHead, Wall};
use shards::disk::{Durability, Relayout, Settings};
use shards::log::{self, Lsn, Record};
use std::path::Path;
use tracing::info;

/// Moves the state if the directory was written with another number of shards; otherwise nothing is
/// done. Blocks. A crash on the way leaves the directory as it was.
///
/// # Errors
/// The directory cannot be used, or its logs are damaged: that is to be dealt with first, with the
/// number of shards that it was written with.
pub(super) fn change(
    (path, shards): (&Path, u16),
    settings: &Settings,
    access: &Access,
    wall: Wall,
) -> Result<(), BrokerError> {
    let Some(mut relayout) = Relayout::begin(path, shards)? else { return Ok(()) };
    let before = relayout.old_shards();
    info!(before, after = shards, "another number of shards: sessions and messages move");
    let images = read(&mut relayout, wall)?;
    let home = Home::new(relayout.old().broker().hash_key, shards.into());
    let layout = Layout {
        shards: shards.into(),
        home: &|name| home.of(name),
        may_receive: &|head, topic| may_receive(access, head, topic),
    };
    let plan = rehome(images, &layout);
    for shard in 0..shards {
        write(&mut relayout, (&plan, shard), settings, wall)?;
    }
    relayout.switch()?;
    let moves = plan.moves();
    info!(sessions = moves.sessions, queued = moves.waiting, retained = moves.retained, "moved");
    Ok(())
}

fn may_receive(access: &Access, head: &SessionHead, topic: &str) -> bool {
    let (client_id, user) = (head.client.as_str(), head.user.as_deref());
    let users = users(user, head.users.as_deref());
    let who = Who { client_id, user, users, ..Who::default() };
    authorise(access, who, Action::Receive, topic) == Verdict::Allow
}

fn read(relayout: &mut Relayout, wall: Wall) -> Result<Vec<Image>, BrokerError> {
    let mut images = Vec::new();
    images.resize_with(relayout.old_shards().into(), Image::default);
    let mut fault = None;
    relayout.recover(&mut |shard, record: Record<'_>| {
        if fault.is_some() {
            return;
        }
        let place = Place { lsn: record.lsn.0, offset: record.place().at, bytes: 0 };
        match store::decode(record.kind, record.body, wall) {
            Ok(Some(decoded)) => {
                let image = images.get_mut(usize::from(shard));
                image.expect("one for each shard").apply(place, decoded);
            }
            Ok(None) => {}
            Err(why) => fault = Some(BrokerError::Record { shard, lsn: record.lsn.0, why }),
        }
    })?;
    fault.map_or(Ok(images), Err)
}

/// The new log of one shard.
fn write(
    relayout: &mut Relayout,
    (plan, shard): (&Plan, u16),
    settings: &Settings,
    wall: Wall,
) -> Result<(), BrokerError> {
    // One segment is made ahead; the shard makes more.
    let settings = Settings { durability: Durability::Fsync, spares: 1, ..settings.clone() };
    let mut new = relayout.log(shard, &settings)?;
    let body = |old_shard: usize, place: Place| {
        let shard = u16::try_from(old_shard).expect("a directory has fewer shards");
        let place = log::Place { lsn: Lsn(place.lsn), at: place.offset };
        let record = relayout.fetch(shard, place)?;
        let message = store::decode_message(record.kind, &record.body, wall);
        message.map_err(|why| BrokerError::Record { shard, lsn: place.lsn.0, why })
    };
    let mut bytes = Vec::new();
    let put = |record: &store::Record| {
        bytes.clear();
        let kind = store::encode(record, wall, &mut bytes);
        new.append(kind, &bytes)?;
        Ok(())
    };
    plan.write(shard.into(), body, put)?;
    Ok(new.close()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Qos, SubscribeOptions};
    use crate::session::{ClientId, Message};
    use crate::store::{Entry, Publish, SessionNumber, Source};
    use crate::topic::Filter;
    use bytes::Bytes;
    use shards::disk::{Directory, OfflineLog};
    use shards::log::Mode;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const WALL: Wall = Wall { start_ms: 1_000 };

    fn publish(topic: &str, payload: &str, retained: bool, entries: Vec<Entry>) -> store::Record {
        let parts = (topic, Bytes::copy_from_slice(payload.as_bytes()), &[][..]);
        let terms = (Qos::ExactlyOnce, false, None);
        let message = Arc::new(Message::from_parts(parts, terms, ClientId::new("p")));
        let from = Source::Plain;
        store::Record::Publish(Publish { message, from, retained, entries, onward: None })
    }

    /// A client with a subscription and two messages.
    fn client(name: &str, number: u64) -> Vec<store::Record> {
        let session = SessionNumber(number);
        let head = SessionHead {
            session,
            client: ClientId::new(name),
            user: None,
            users: None,
            expiry_s: u32::MAX,
            offline_since_ms: Some(7),
            next_sequence: 0,
        };
        let filter = Filter::parse("a/#", 8).expect("a filter");
        let options = SubscribeOptions::with_qos(Qos::ExactlyOnce);
        let entry = |sequence| Entry {
            session,
            sequence,
            qos: Qos::ExactlyOnce,
            retain: false,
            sent: sequence == 0,
            identifiers: Box::default(),
            share: None,
        };
        vec![
            store::Record::Session(head),
            store::Record::Subscribe { session, filter, options, identifier: 3 },
            publish("a/b", &format!("{name} first"), false, vec![entry(0)]),
            publish("a/b", &format!("{name} second"), false, vec![entry(1)]),
        ]
    }

    fn settings() -> Settings {
        Settings { segment_bytes: 1 << 20, batch_bytes_max: 1 << 16, ..Settings::default() }
    }

    fn written(path: &Path, shards: u16, clients: u64) {
        let directory = Directory::open(path, shards).expect("it can be made");
        let home = Home::new(directory.broker().hash_key, shards.into());
        for shard in 0..shards {
            let recovery = directory.recover(shard, Mode::Strict, &mut |_| {}).expect("nothing");
            let mut log = OfflineLog::from(recovery.begin(&settings()).expect("a log"));
            let mine = |name: &str| home.of(name) == usize::from(shard);
            let mut records = Vec::new();
            for number in 0..clients {
                let (name, topic) = (format!("client {number}"), format!("kept/{number}"));
                if mine(&name) {
                    records.extend(client(&name, number));
                }
                if mine(&topic) {
                    records.push(publish(&topic, &topic, true, Vec::new()));
                }
            }
            for record in records {
                let mut bytes = Vec::new();
                let kind = store::encode(&record, WALL, &mut bytes);
                log.append(kind, &bytes).expect("room");
            }
            log.close().expect("an end");
        }
    }

    /// Subscriptions and payloads by client, and retained payloads by topic; all at home.
    fn found(path: &Path, shards: u16) -> BTreeMap<String, String> {
        let directory = Directory::open(path, shards).expect("it can be opened");
        let home = Home::new(directory.broker().hash_key, shards.into());
        let mut found = BTreeMap::new();
        for shard in 0..shards {
            let (mut image, mut payloads) = (Image::default(), BTreeMap::new());
            let mut sink = |record: Record<'_>| {
                let lsn = record.lsn.0;
                let decoded = store::decode(record.kind, record.body, WALL).expect("whole");
                if let Ok(message) = store::decode_message(record.kind, record.body, WALL) {
                    payloads.insert(lsn, message.payload().clone());
                }
                image.apply(Place { lsn, offset: 0, bytes: 0 }, decoded.expect("known"));
            };
            directory.recover(shard, Mode::Strict, &mut sink).expect("whole");
            image.finish();
            for session in image.sessions.into_values() {
                let client = session.head.expect("a head").client;
                assert_eq!(home.of(client.as_str()), usize::from(shard));
                let queue = session.queue.into_sorted().into_iter();
                let queue = queue.map(|one| (one.sequence, one.state, &payloads[&one.place.lsn]));
                let text = format!("{:?} {:?}", session.filters, queue.collect::<Vec<_>>());
                found.insert(client.as_str().to_owned(), text);
            }
            for (topic, retained) in image.retained {
                assert_eq!(home.of(&topic), usize::from(shard));
                found.insert(topic.to_string(), format!("{:?}", retained.message.payload()));
            }
        }
        found
    }

    #[test]
    fn sessions_and_retained_messages_move() {
        let temporary = tempfile::tempdir().expect("a directory");
        let path = temporary.path();
        written(path, 2, 40);
        let before = found(path, 2);
        assert_eq!(before.len(), 80);
        let access = Access::allow_all();
        change((path, 2), &settings(), &access, WALL).expect("nothing to do");
        for shards in [3, 1, 2] {
            change((path, shards), &settings(), &access, WALL).expect("it moves");
            assert_eq!(found(path, shards), before, "{shards} shards");
        }
    }
}
