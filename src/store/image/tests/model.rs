//! A writer of a log: its state is kept as it is needed to write, not as it is read.

use super::*;

/// A value and the LSN of the newest record that says it.
type At<T> = (u64, T);
/// A message and who has not taken it.
type Open = (Arc<Message>, Vec<Part>);

#[derive(Clone, Debug)]
struct Delivery {
    entry: Entry,
    message: Arc<Message>,
    state: State,
}

#[derive(Clone, Debug)]
struct Session {
    head: At<SessionHead>,
    will: Option<At<StoredWill>>,
    filters: BTreeMap<Filter, At<(SubscribeOptions, u32)>>,
    received: BTreeMap<PacketId, u64>,
    queue: BTreeMap<u64, At<Delivery>>,
}

/// See the module.
pub(in crate::store) struct Model {
    /// LSN 1 is the first; those before `start` were dropped.
    pub(in crate::store) log: Vec<Record>,
    start: u64,
    segment_records: usize,
    sessions: BTreeMap<SessionNumber, Session>,
    retained: BTreeMap<String, At<Arc<Message>>>,
    applied: BTreeMap<u16, At<u64>>,
    exchanges: BTreeMap<u64, At<Open>>,
    next_session: u64,
    next_exchange: u64,
    clock: At<u64>,
}

pub(in crate::store) fn message(
    topic: &str,
    body: &str,
    expires_at: Option<Millis>,
) -> Arc<Message> {
    Arc::new(Message::from_parts(
        (topic, Bytes::copy_from_slice(body.as_bytes()), &[]),
        (Qos::ExactlyOnce, false, expires_at),
        ClientId::new("p"),
    ))
}

fn pick<K: Copy, V>(map: &BTreeMap<K, V>, prng: &mut Prng) -> Option<K> {
    (!map.is_empty()).then(|| *map.keys().nth(prng.index(map.len())).expect("below the count"))
}

impl Model {
    pub(in crate::store) fn new(segment_records: usize) -> Self {
        Model {
            log: Vec::new(),
            start: 1,
            segment_records,
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            applied: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            next_session: 0,
            next_exchange: 1,
            clock: (0, 0),
        }
    }

    /// Segments were cleaned.
    pub(in crate::store) fn has_dropped(&self) -> bool {
        self.start > 1
    }

    fn lsn(&self) -> u64 {
        u64::try_from(self.log.len()).expect("short") + 1
    }

    fn emit(&mut self, record: Record) {
        self.log.push(record);
    }

    /// One change, or one segment cleaned.
    pub(in crate::store) fn step(&mut self, prng: &mut Prng) {
        let lsn = self.lsn();
        let Some(number) = pick(&self.sessions, prng).filter(|_| !prng.chance(60)) else {
            return self.begin_session(prng);
        };
        match prng.below(24) {
            0 => self.clean(prng),
            1 => {
                self.sessions.remove(&number);
                self.emit(Record::SessionEnd { session: number });
            }
            2 => {
                self.clock = (lsn, self.clock.1 + prng.below(1000));
                self.emit(Record::Clock { wall_ms: self.clock.1 });
            }
            3 => {
                let topic = format!("t{}", prng.below(4));
                self.retained.remove(&topic);
                self.emit(Record::RetainDeleted { topic: Arc::from(topic.as_str()) });
            }
            4..=6 => self.settle(prng),
            7..=13 => self.accept(number, prng),
            _ => self.of_session(number, prng),
        }
    }

    fn begin_session(&mut self, prng: &mut Prng) {
        let number = SessionNumber(self.next_session);
        self.next_session += 1 + prng.below(2);
        let head = SessionHead {
            session: number,
            client: ClientId::new(&format!("c{}", number.0)),
            user: prng.chance(500).then(|| Arc::from("u")),
            users: None,
            expiry_s: 60,
            offline_since_ms: None,
            next_sequence: 0,
        };
        let session = Session {
            head: (self.lsn(), head.clone()),
            will: None,
            filters: BTreeMap::new(),
            received: BTreeMap::new(),
            queue: BTreeMap::new(),
        };
        self.sessions.insert(number, session);
        self.emit(Record::Session(head));
    }

    fn of_session(&mut self, number: SessionNumber, prng: &mut Prng) {
        let lsn = self.lsn();
        let session = self.sessions.get_mut(&number).expect("it was picked");
        let filter = Filter::parse(&format!("f{}/#", prng.below(3)), 8).expect("a filter");
        let sequence = pick(&session.queue, prng);
        let record = match prng.below(9) {
            0 => {
                session.head.0 = lsn;
                session.head.1.offline_since_ms = Some(prng.below(99));
                Record::Session(session.head.1.clone())
            }
            1 => {
                let message = message("w", "gone", None);
                let will = StoredWill { message, expiry_s: Some(3), delay_s: 4 };
                let will = prng.chance(700).then_some(will);
                session.will = will.clone().map(|will| (lsn, will));
                Record::Will { session: number, will }
            }
            2 | 3 => {
                let options = SubscribeOptions::with_qos(Qos::AtLeastOnce);
                let identifier = u32::try_from(prng.below(9)).expect("below 9");
                session.filters.insert(filter.clone(), (lsn, (options, identifier)));
                Record::Subscribe { session: number, filter, options, identifier }
            }
            4 => {
                session.filters.remove(&filter);
                Record::Unsubscribe { session: number, filter }
            }
            5 => match pick(&session.received, prng) {
                Some(id) => {
                    session.received.remove(&id);
                    Record::Released { session: number, id }
                }
                None => return,
            },
            6 => match sequence.and_then(|sequence| session.queue.get_mut(&sequence)) {
                Some((at, delivery)) => {
                    (*at, delivery.state) = (lsn, State::Released);
                    Record::Owned { session: number, sequence: delivery.entry.sequence }
                }
                None => return,
            },
            _ => match sequence {
                Some(sequence) => {
                    session.queue.remove(&sequence);
                    let mut more = 0;
                    let next = |more| sequence + 1 + u64::from(more);
                    while prng.chance(500) && session.queue.remove(&next(more)).is_some() {
                        more += 1;
                    }
                    Record::Done { session: number, sequence, more }
                }
                None => return,
            },
        };
        self.emit(record);
    }

    fn settle(&mut self, prng: &mut Prng) {
        let Some(exchange) = pick(&self.exchanges, prng) else { return };
        let (_, (_, parts)) = self.exchanges.get_mut(&exchange).expect("it was picked");
        let shard = parts.remove(prng.index(parts.len())).shard;
        if parts.is_empty() {
            self.exchanges.remove(&exchange);
        }
        self.emit(Record::Settled { exchange, shard });
    }

    /// A message is published: by whom, to whom and whether it is retained is left to chance.
    fn accept(&mut self, publisher: SessionNumber, prng: &mut Prng) {
        let lsn = self.lsn();
        let topic = format!("t{}", prng.below(4));
        let expires_at = prng.chance(200).then(|| Millis(prng.below(1000)));
        let message = message(&topic, &format!("body {lsn}"), expires_at);
        let mut entries = Vec::new();
        for (number, session) in &mut self.sessions {
            if prng.chance(400) {
                entries.push(session.take(*number, &message, lsn, prng));
            }
        }
        let session = self.sessions.get_mut(&publisher).expect("it was picked");
        let id = PacketId::new(1 + u16::try_from(prng.below(4)).expect("below 4")).expect("not 0");
        let from = match prng.below(4) {
            0 if !session.received.contains_key(&id) => {
                session.received.insert(id, lsn);
                Source::Received(publisher, id)
            }
            1 => {
                session.will = None;
                Source::Will(publisher)
            }
            2 => {
                let origin = u16::try_from(1 + prng.below(2)).expect("small");
                let (at, exchange) = self.applied.entry(origin).or_default();
                (*at, *exchange) = (lsn, *exchange + 1 + prng.below(3));
                Source::Exchange { origin, exchange: *exchange }
            }
            _ => Source::Plain,
        };
        let retained = prng.chance(300);
        if retained {
            self.retained.insert(topic, (lsn, Arc::clone(&message)));
        }
        let onward = prng.chance(300).then(|| self.exchange(&message, lsn, prng));
        self.emit(Record::Publish(Publish { message, from, retained, entries, onward }));
    }

    fn exchange(&mut self, message: &Arc<Message>, lsn: u64, prng: &mut Prng) -> Onward {
        let part = |shard| Part { shard, direct: true, retain: shard == 2, shares: vec![] };
        let parts: Vec<Part> =
            (1..=1 + u16::try_from(prng.below(3)).expect("small")).map(part).collect();
        let exchange = self.next_exchange;
        self.next_exchange += 1 + prng.below(2);
        self.exchanges.insert(exchange, (lsn, (Arc::clone(message), parts.clone())));
        Onward { exchange, parts }
    }

    /// Writes what the oldest segment says and is still true again, and drops the segment. A change
    /// may come in between.
    fn clean(&mut self, prng: &mut Prng) {
        let from = usize::try_from(self.start - 1).expect("short");
        let to = from + self.segment_records;
        if to >= self.log.len() {
            return;
        }
        for (index, record) in self.log.clone().into_iter().enumerate().take(to).skip(from) {
            self.revive(u64::try_from(index).expect("short") + 1, record, prng);
            if prng.chance(50)
                && let Some(number) = pick(&self.sessions, prng)
            {
                self.of_session(number, prng);
            }
        }
        if prng.chance(800) {
            self.start = u64::try_from(to).expect("short") + 1;
        }
    }

    fn revive(&mut self, old: u64, record: Record, prng: &mut Prng) {
        let new = self.lsn();
        let session = match &record {
            Record::Session(head) => self.sessions.get_mut(&head.session),
            Record::Will { session, .. }
            | Record::Subscribe { session, .. }
            | Record::Received { session, .. }
            | Record::Owned { session, .. } => self.sessions.get_mut(session),
            Record::SessionEnd { .. }
            | Record::Unsubscribe { .. }
            | Record::Publish(_)
            | Record::Released { .. }
            | Record::Done { .. }
            | Record::RetainDeleted { .. }
            | Record::Applied { .. }
            | Record::Settled { .. }
            | Record::Clock { .. } => None,
        };
        match (record, session) {
            (Record::Session(_), Some(one)) if one.head.0 == old => {
                one.head.0 = new;
                let head = one.head.1.clone();
                self.emit(Record::Session(head));
            }
            (Record::Will { session, .. }, Some(one)) => {
                let Some((at, will)) = one.will.as_mut().filter(|will| will.0 == old) else {
                    return;
                };
                *at = new;
                let will = Some(will.clone());
                self.emit(Record::Will { session, will });
            }
            (Record::Subscribe { session, filter, .. }, Some(one)) => {
                let found = one.filters.get_mut(&filter).filter(|found| found.0 == old);
                let Some((at, (options, identifier))) = found else { return };
                *at = new;
                let (options, identifier) = (*options, *identifier);
                self.emit(Record::Subscribe { session, filter, options, identifier });
            }
            (Record::Received { session, id }, Some(one)) => {
                let Some(at) = one.received.get_mut(&id).filter(|at| **at == old) else { return };
                *at = new;
                self.emit(Record::Received { session, id });
            }
            (Record::Owned { session, sequence }, Some(one)) => {
                let found = one.queue.get_mut(&sequence).filter(|found| found.0 == old);
                let Some((at, _)) = found else { return };
                *at = new;
                self.emit(Record::Owned { session, sequence });
            }
            (Record::Applied { origin, .. }, None) => self.revive_applied(old, origin),
            (Record::Clock { .. }, None) if self.clock.0 == old => {
                self.clock.0 = new;
                self.emit(Record::Clock { wall_ms: self.clock.1 });
            }
            (Record::Publish(publish), None) => self.revive_publish(old, publish, prng),
            _ => {}
        }
    }

    fn revive_applied(&mut self, old: u64, origin: u16) {
        let new = self.lsn();
        if let Some((at, exchange)) = self.applied.get_mut(&origin).filter(|one| one.0 == old) {
            *at = new;
            let exchange = *exchange;
            self.emit(Record::Applied { origin, exchange });
        }
    }

    fn revive_publish(&mut self, old: u64, publish: Publish, prng: &mut Prng) {
        if let Source::Exchange { origin, .. } = publish.from {
            self.revive_applied(old, origin);
        }
        if let Source::Received(session, id) = publish.from
            && prng.chance(500)
        {
            self.revive(old, Record::Received { session, id }, prng);
        }
        let new = self.lsn();
        let mut from = Source::Plain;
        if let Source::Received(number, id) = publish.from
            && let Some(session) = self.sessions.get_mut(&number)
            && let Some(at) = session.received.get_mut(&id).filter(|at| **at == old)
        {
            *at = new;
            from = publish.from;
        }
        let mut entries = Vec::new();
        for entry in publish.entries {
            let Some(session) = self.sessions.get_mut(&entry.session) else { continue };
            let found = session.queue.get_mut(&entry.sequence).filter(|found| found.0 == old);
            let Some((at, delivery)) = found else { continue };
            *at = new;
            if prng.chance(300) {
                delivery.entry.sent = true;
                delivery.state = State::Sent;
            }
            entries.push(delivery.entry.clone());
        }
        let topic = publish.message.topic();
        let retained = self.retained.get_mut(topic).filter(|retained| retained.0 == old);
        let retained = retained.map(|retained| retained.0 = new).is_some();
        let onward = publish.onward.and_then(|onward| {
            let exchange = onward.exchange;
            let open = self.exchanges.get_mut(&exchange).filter(|open| open.0 == old)?;
            open.0 = new;
            Some(Onward { exchange, parts: open.1.1.clone() })
        });
        if from != Source::Plain || !entries.is_empty() || retained || onward.is_some() {
            let message = publish.message;
            self.emit(Record::Publish(Publish { message, from, retained, entries, onward }));
        }
    }

    /// The image of what the log holds now is this state.
    #[track_caller]
    pub(in crate::store) fn check(&self, seed: u64) {
        let mut image = Image::default();
        for (lsn, record) in (1..).zip(&self.log).filter(|(lsn, _)| *lsn >= self.start) {
            image.apply(place(lsn), record.clone());
        }
        let counts = image.finish();
        let at = format!("seed {seed}, {} records from {}", self.log.len(), self.start);
        assert_eq!((counts.headless, counts.replaced), (0, 0), "{at}");
        let found: Vec<_> = image.sessions.keys().collect();
        assert_eq!(found, self.sessions.keys().collect::<Vec<_>>(), "{at}");
        let mut waiting = 0;
        for (number, session) in &self.sessions {
            let found = image.sessions.get(number).expect("compared above");
            session.check(found, &at);
            waiting += session.queue.len();
            assert!(image.next_session > number.0, "{at}");
        }
        assert_eq!(counts.waiting, waiting, "{at}");
        assert_eq!(counts.sessions, self.sessions.len(), "{at}");
        let retained = self.retained.iter().map(|(topic, (lsn, message))| {
            (Arc::from(topic.as_str()), Retained { message: message.clone(), place: place(*lsn) })
        });
        assert_eq!(image.retained, retained.collect(), "{at}");
        let exchanges = self.exchanges.iter().map(|(number, (lsn, (message, parts)))| {
            let (message, parts) = (Arc::clone(message), parts.clone());
            (*number, Exchange { message, place: place(*lsn), parts })
        });
        assert_eq!(image.exchanges, exchanges.collect(), "{at}");
        let applied = self.applied.iter().map(|(origin, (_, exchange))| (*origin, *exchange));
        assert_eq!(image.applied, applied.collect(), "{at}");
        assert_eq!(image.clock_ms, self.clock.1, "{at}");
    }
}

impl Session {
    fn take(
        &mut self,
        number: SessionNumber,
        message: &Arc<Message>,
        lsn: u64,
        prng: &mut Prng,
    ) -> Entry {
        let sequence = self.head.1.next_sequence;
        self.head.1.next_sequence += 1;
        let rich = prng.chance(200);
        let entry = Entry {
            session: number,
            sequence,
            qos: Qos::ExactlyOnce,
            retain: prng.chance(200),
            sent: false,
            identifiers: if rich { Box::from([7, 8]) } else { Box::default() },
            share: None,
        };
        let message = Arc::clone(message);
        let delivery = Delivery { entry: entry.clone(), message, state: State::Queued };
        self.queue.insert(sequence, (lsn, delivery));
        entry
    }

    #[track_caller]
    fn check(&self, found: &SessionImage, at: &str) {
        assert_eq!(found.head.as_ref(), Some(&self.head.1), "{at}");
        assert_eq!(found.will.as_ref(), self.will.as_ref().map(|will| &will.1), "{at}");
        let filters = self.filters.iter().map(|(filter, (_, terms))| (filter.clone(), *terms));
        assert_eq!(found.filters, filters.collect(), "{at}");
        assert_eq!(found.received, self.received.keys().copied().collect(), "{at}");
        let queue = self.queue.iter().map(|(sequence, (lsn, delivery))| {
            let expires_at = delivery.message.expires_at().unwrap_or(Millis::MAX);
            if delivery.state == State::Released {
                return Waiting::released(*sequence);
            }
            let entry = delivery.entry.clone();
            Waiting::new(entry, (weight_bytes(&delivery.message), expires_at), place(*lsn))
        });
        let queue: Vec<Waiting> = queue.collect();
        assert_eq!(found.queue.iter().cloned().collect::<Vec<_>>(), queue, "{at}");
    }
}
