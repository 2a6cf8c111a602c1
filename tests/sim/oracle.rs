//! What the shadow's facts allow and demand: checked at each packet that leaves for a client, and
//! once more when everything has come to rest.

use crate::shadow::{Flight, MsgId, Session, Shadow, Terms, Write, is_shared, matches, message_id};
use culex::codec::{Packet, PacketId, Publish, Reason};
use shards::Millis;
use std::collections::BTreeSet;

/// Bytes that a PUBLISH may have beyond topic and payload.
const OVERHEAD_BYTES: usize = 60;

impl Shadow {
    /// A packet leaves for a client.
    pub(crate) fn emitted(&mut self, link: usize, packet: &Packet<'_>, bytes: usize) {
        if self.links[link].packet_bytes_max.is_some_and(|max| bytes > max as usize) {
            return self.fail(format!("[MQTT-3.1.2-24] {bytes} bytes are sent: {packet:?}"));
        }
        match packet {
            Packet::Connack(connack) => {
                let due = self.links[link].connack_due.take();
                match (due, connack.reason) {
                    (Some(present), Reason::Success) => {
                        let silent = self.links[link].speechless;
                        if present != connack.session_present && !silent {
                            self.fail(format!(
                                "[MQTT-3.2.2-2] session present should be {present}"
                            ));
                        }
                        self.announced(link, present);
                    }
                    (None, Reason::Success) => self.fail("a second CONNACK".into()),
                    _ => {}
                }
            }
            Packet::Publish(publish) => self.emitted_publish(link, publish),
            Packet::Puback(ack) => self.emitted_ack(link, ack.packet_id, false, ack.reason),
            Packet::Pubrec(ack) => self.emitted_ack(link, ack.packet_id, true, ack.reason),
            Packet::Pubrel(ack) => {
                if let Some(index) = self.links[link].session
                    && let Some(flight) = self.sessions[index].flights.get_mut(&ack.packet_id.get())
                {
                    flight.pubrel_sent = true;
                }
            }
            Packet::Pubcomp(ack) => {
                if let Some(index) = self.links[link].session {
                    self.sessions[index].released.remove(&ack.packet_id.get());
                }
            }
            Packet::Suback(suback) => {
                let codes: Vec<u8> = suback.reasons.iter().map(|reason| *reason as u8).collect();
                self.emitted_answer(link, suback.packet_id, true, &codes);
            }
            Packet::Unsuback(unsuback) => {
                let codes: Vec<u8> = unsuback.reasons.iter().map(|reason| *reason as u8).collect();
                self.emitted_answer(link, unsuback.packet_id, false, &codes);
            }
            _ => {}
        }
        if self.links[link].connack_due.is_some() && self.links[link].live {
            self.fail(format!("[MQTT-3.2.0-1] before CONNACK came {packet:?}"));
        }
    }

    /// CONNACK leaves.
    fn announced(&mut self, link: usize, present: bool) {
        let Some(index) = self.links[link].session else { return };
        if present {
            self.sessions[index].pledged |= self.sessions[index].link == Some(link);
            return;
        }
        let client = self.sessions[index].client.clone();
        let older = self.sessions[..index].iter_mut().filter(|session| session.client == client);
        older.for_each(|session| session.replaced = true);
    }

    fn check_durable(&mut self, link: usize, lsn: u64, what: &str) {
        let Some(index) = self.links[link].session else { return };
        if lsn > self.durable[self.sessions[index].home] {
            self.fail(format!("{what} leaves before its record {lsn} is durable"));
        }
    }

    fn emitted_answer(&mut self, link: usize, id: PacketId, subscribe: bool, codes: &[u8]) {
        let v5 = self.links[link].v5;
        let found = self.links[link]
            .asked
            .iter()
            .position(|asked| asked.id == id.get() && asked.subscribe == subscribe);
        let Some(asked) = found.and_then(|at| self.links[link].asked.remove(at)) else {
            return self.fail(format!("nobody asked for SUBACK or UNSUBACK {}", id.get()));
        };
        let seen = |code: &u8| if *code >= 0x80 && !v5 { 0x80 } else { *code };
        let expected: Vec<u8> = asked.codes.iter().map(seen).collect();
        if (subscribe || v5) && codes != expected {
            self.fail(format!("[MQTT-3.9.3-1] codes {codes:?}, should be {expected:?}"));
        }
        self.check_durable(link, asked.lsn, "SUBACK or UNSUBACK");
        let (step, index) = (self.step, self.links[link].session.unwrap());
        let granted = || asked.filters.iter().zip(&asked.codes).filter(|(_, code)| **code < 0x80);
        if !subscribe {
            for sub in &mut self.sessions[index].subs {
                let meant = sub.ended == Some(asked.step) && asked.filters.contains(&sub.filter);
                sub.end_acked |= meant;
            }
        } else if granted().next().is_some() && self.sessions[index].ended.is_none() {
            self.sessions[index].pledged |= self.sessions[index].expiry_s > 0;
        }
        for (filter, _) in granted().filter(|_| subscribe) {
            let subs = self.sessions[index].subs.iter_mut();
            for sub in subs.filter(|sub| sub.ended.is_none() && sub.filter == *filter) {
                if sub.versions[0].0 <= asked.step {
                    sub.acked.get_or_insert(step);
                }
            }
        }
    }

    fn emitted_ack(&mut self, link: usize, pid: PacketId, qos2: bool, reason: Reason) {
        let due = &mut self.links[link].acks_due;
        let same_kind = |due: &(u16, bool, MsgId)| due.1 == qos2;
        let found = due.iter().position(|due| (due.0, due.1) == (pid.get(), qos2));
        let Some(at) = found else {
            if !self.links[link].hostile {
                self.fail(format!("acknowledgement of {} that nobody waits for", pid.get()));
            }
            return;
        };
        let first = due.iter().position(same_kind);
        let (_, _, id) = due.remove(at).unwrap();
        if first != Some(at) && !self.links[link].hostile {
            self.fail(format!("[MQTT-4.6.0-2] acknowledgement {} out of order", pid.get()));
        }
        if self.links[link].turned_away.remove(&pid.get()) {
            if !reason.is_error() && !self.links[link].hostile {
                self.fail(format!("m{id} acknowledged, which a full disk had refused"));
            }
            return;
        }
        if reason.is_error() {
            return self.refused(link, pid.get(), id, qos2);
        }
        self.check_acknowledged(link, id, reason);
        let index = self.links[link].session.unwrap();
        let session = &mut self.sessions[index];
        if qos2 && session.received.get(&pid.get()) == Some(&id) {
            session.pubrec_sent.insert(pid.get());
            session.pledged |= session.expiry_s > 0 && session.ended.is_none();
        }
        let step = self.step;
        let msg = &mut self.messages[id];
        msg.acked.get_or_insert(step);
        if let Some(writes) = self.writes.get_mut(&msg.topic) {
            for write in writes.iter_mut().filter(|write| write.msg == id) {
                write.done.get_or_insert(step);
            }
        }
    }

    /// A message was not taken, or not for everybody: a full disk, a full queue.
    fn refused(&mut self, link: usize, pid: u16, id: MsgId, qos2: bool) {
        if let Some(index) = self.links[link].session.filter(|_| qos2) {
            // [MQTT-4.3.3-9]
            self.sessions[index].received.remove(&pid);
        }
        if let Some(writes) = self.writes.get_mut(&self.messages[id].topic) {
            writes.iter_mut().filter(|write| write.msg == id).for_each(|w| w.doubtful = true);
        }
    }

    /// PUBACK and PUBREC say that the message has been taken for everybody who wants it.
    fn check_acknowledged(&mut self, link: usize, id: MsgId, reason: Reason) {
        let index = self.links[link].session.unwrap();
        let is_current = self.sessions[index].link == Some(link);
        let msg = &self.messages[id];
        // Which of its repetitions was taken is not known.
        let Some(begun) = msg.begun().filter(|_| msg.maybe == 0) else { return };
        let mut wrong = None;
        for session in self.current.values().map(|at| &self.sessions[*at]) {
            if self.demands(session, id, self.step).is_none() {
                continue;
            }
            if msg.onward.is_none() && msg.arrived.get(&session.home).is_none_or(|at| *at < begun) {
                wrong = Some(format!("m{id} acknowledged before {} has it", session.client));
            }
            let tight = session.packet_bytes_max.is_some();
            if reason == Reason::NoMatchingSubscribers && !tight {
                wrong = Some(format!("m{id}: no matching subscribers, but {}", session.client));
            }
        }
        // What the publisher's shard has committed comes to the others later.
        let waited = |(at, retained): &&((usize, u64), bool)| {
            *retained || msg.onward.is_none_or(|(shard, _)| shard == at.0)
        };
        let volatile = |(shard, lsn): &(usize, u64)| *lsn > self.durable[*shard];
        let unsafe_at = msg.records.iter().filter(waited).map(|(at, _)| *at).find(volatile);
        let exempt = !is_current || msg.topic.starts_with('s') || msg.instances.len() > 1;
        if let Some((shard, lsn)) = unsafe_at.filter(|_| !exempt) {
            wrong = Some(format!("m{id} acknowledged before record {lsn} of {shard} is durable"));
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Does MQTT demand that this session gets the message, which was taken until `end`? If so, the
    /// lowest `QoS` it may come with.
    fn demands(&self, session: &Session, id: MsgId, end: u64) -> Option<u8> {
        let msg = &self.messages[id];
        let begun = msg.begun()?;
        let own = session.client == msg.publisher;
        session
            .subs
            .iter()
            .filter(|sub| !is_shared(&sub.filter) && matches(&sub.filter, &msg.topic))
            .filter(|sub| sub.certain(begun, end))
            .filter(|sub| !own || sub.versions(begun, end).all(|version| !version.1.no_local))
            .filter_map(|sub| sub.versions(begun, end).map(|version| version.1.qos as u8).min())
            .max()
            .map(|qos| qos.min(msg.qos))
    }

    fn emitted_publish(&mut self, link: usize, publish: &Publish<'_>) {
        let topic = match (publish.topic_alias, publish.topic) {
            (Some(alias), "") => self.links[link].aliases.get(&alias.get()).cloned(),
            (Some(alias), topic) => {
                self.links[link].aliases.insert(alias.get(), topic.into());
                Some(topic.into())
            }
            (None, topic) => Some(topic.into()),
        };
        let Some(index) = self.links[link].session else {
            return self.fail("PUBLISH without session".into());
        };
        let Some(topic) = topic else { return self.fail("unknown topic alias".into()) };
        let pid = publish.packet_id.map(PacketId::get);
        let id = match message_id(publish.payload) {
            Some(id) if id < self.messages.len() => id,
            _ if publish.payload.is_empty() => {
                // Any of the deletions will do: they can't be told apart.
                let deletion = |msg: &crate::shadow::Msg| {
                    msg.payload.is_empty() && msg.topic == topic && !msg.instances.is_empty()
                };
                match self.messages.iter().position(deletion) {
                    Some(id) => id,
                    None => return self.fail(format!("nobody deleted {topic}")),
                }
            }
            _ => return self.fail(format!("nobody sent {publish:?}")),
        };
        let msg = &self.messages[id];
        if msg.topic != topic || msg.payload != publish.payload {
            return self.fail(format!("m{id} was sent to {} otherwise: {publish:?}", msg.topic));
        }
        if let Some(pid) = pid
            && !self.note_flight(link, index, (pid, id), publish)
        {
            return;
        }
        *self.sessions[index].copies.entry(id).or_default() += 1;
        if let Err(wrong) = self.check_delivery(link, index, id, publish) {
            let client = &self.sessions[index].client;
            self.fail(format!("{client} is sent m{id}: {wrong}: {publish:?}"));
        }
    }

    /// Identifiers and window. False if this is a repetition.
    fn note_flight(
        &mut self,
        link: usize,
        index: usize,
        delivery: (u16, MsgId),
        publish: &Publish<'_>,
    ) -> bool {
        let (pid, msg) = delivery;
        let known = self.sessions[index].flights.get(&pid).copied();
        let same =
            known.is_some_and(|flight| flight.msg == msg || self.messages[msg].payload.is_empty());
        let had = publish.qos as u8 == 1 && self.sessions[index].copies.contains_key(&msg);
        if !self.links[link].live && (same || had) {
            // The last words of a connection that was taken over come after those of the new one,
            // where the delivery may be over by now.
            return false;
        }
        if let Some(known) = known {
            let wrong = if !(publish.dup || same && known.crashed) {
                "[MQTT-2.2.1-4] packet identifier in use"
            } else if !same {
                "[MQTT-4.4.0-1] repeated with another message"
            } else if known.link == link {
                "[MQTT-4.4.0-1] repeated without a new connection"
            } else if known.released && !self.links[link].guesses {
                "[MQTT-4.3.3-6] PUBLISH after PUBREL"
            } else {
                ""
            };
            if !wrong.is_empty() {
                self.fail(format!("{wrong}: {pid} of m{} for m{msg}", known.msg));
                return false;
            }
        }
        let flight = Flight {
            msg,
            qos: publish.qos as u8,
            released: false,
            pubrel_sent: false,
            crashed: false,
            link,
        };
        self.sessions[index].flights.insert(pid, flight);
        if !self.links[link].live && publish.qos as u8 == 1 {
            // Written before the connection ended, sent after: a shared one is elsewhere by now.
            self.messages[msg].lost_unacked += 1;
        }
        let entry = &mut self.links[link];
        entry.unacked.insert(pid);
        if entry.unacked.len() > entry.window && !entry.guesses {
            let (count, window) = (entry.unacked.len(), entry.window);
            self.fail(format!("[MQTT-3.3.4-9] {count} unacknowledged, window {window}"));
        }
        known.is_none()
    }

    /// May this session get this message, like this, now?
    fn check_delivery(
        &mut self,
        link: usize,
        index: usize,
        id: MsgId,
        publish: &Publish<'_>,
    ) -> Result<(), String> {
        let (session, msg) = (&self.sessions[index], &self.messages[id]);
        let deletion = msg.payload.is_empty();
        let low = msg.begun().ok_or("it was never published")?;
        let arrived = msg.arrived.get(&session.home).copied();
        let own = session.client == msg.publisher;
        let fits = |filter: &str| matches(filter, &msg.topic);
        // One that waits for room comes later; which of its repetitions was acknowledged is not
        // known.
        let again = msg.instances.len() + msg.maybe > 1;
        let late = match msg.acked.filter(|_| !again) {
            _ if !self.rejects => 0,
            acked => acked.unwrap_or(self.step),
        };
        let high = arrived.unwrap_or(low).max(late);
        let (mut live, mut groups) = (Vec::new(), 0);
        for sub in session.subs.iter().filter(|sub| fits(&sub.filter)) {
            if is_shared(&sub.filter) {
                groups += usize::from(sub.possible(low, u64::MAX));
            } else if sub.possible(low, high) && arrived.is_some() {
                let all = sub.versions(low, high).count();
                let versions = sub.versions(low, high).filter(|v| !(own && v.1.no_local));
                let versions: Vec<_> = versions.copied().collect();
                let certain = sub.certain(low, high) && versions.len() == all;
                live.push((certain, versions));
            }
        }
        live.retain(|(_, versions)| !versions.is_empty());
        let handouts = if msg.retain {
            let wanted = session.handouts.iter().filter(|(filter, _)| {
                let alive = |sub: &&crate::shadow::Sub| {
                    sub.filter == *filter && sub.ended.is_none_or(|ended| ended > low)
                };
                fits(filter) && session.subs.iter().any(|sub| alive(&sub))
            });
            wanted.count()
        } else {
            0
        };
        if deletion {
            let nothing = live.is_empty() && groups == 0;
            // Not the one that was meant, perhaps: only its own time is certain.
            return if nothing && session.subs.iter().all(|sub| !fits(&sub.filter)) {
                Err("no matching subscription".into())
            } else {
                Ok(())
            };
        }
        // [I2] What was lost in a crash has not left at QoS 2.
        let qos2 = publish.qos as u8 == 2;
        let lost = if qos2 { msg.lost } else { 0 };
        let recorded = usize::from(!msg.records.is_empty());
        let instances = (msg.instances.len() + msg.maybe - lost).max(recorded);
        let direct = if live.is_empty() { 0 } else { instances };
        let repeats = session.repeats.get(&id).copied().filter(|_| !qos2).unwrap_or(0);
        let most = direct + groups * (instances + msg.lost_unacked) + handouts + repeats;
        let maybe_handout = handouts > 0 && publish.retain;
        if most == 0 || (direct + groups == 0 && !maybe_handout) {
            let subs: Vec<_> = session.subs.iter().filter(|sub| fits(&sub.filter)).collect();
            let times = format!("taken at {low}, from {arrived:?} to {high}");
            let count = format!("{instances} instances, {handouts} hand-outs");
            return Err(format!("no matching subscription ({times}; {count}; {subs:?})"));
        }
        let copies = session.copies[&id];
        if copies > most {
            return Err(format!("{copies} copies, at most {most}"));
        }
        if groups == 0 && !maybe_handout {
            self.check_terms(link, id, &live, publish)?;
        }
        // What a connection that was taken over still had to say comes late.
        if groups == 0 && self.links[link].live && repeats == 0 {
            self.check_order(index, id, publish, maybe_handout)?;
        }
        Ok(())
    }

    /// `QoS`, RETAIN, identifiers and expiry of a delivery by subscriptions that are not shared.
    fn check_terms(
        &self,
        link: usize,
        id: MsgId,
        live: &[(bool, Vec<Terms>)],
        publish: &Publish<'_>,
    ) -> Result<(), String> {
        let msg = &self.messages[id];
        let all = || live.iter().flat_map(|(_, versions)| versions);
        let sure = || live.iter().filter(|(certain, _)| *certain).map(|(_, versions)| versions);
        let qos = publish.qos as u8;
        let high = all().map(|v| v.1.qos as u8).max().unwrap_or(0).min(msg.qos);
        let lowest = |versions: &Vec<Terms>| versions.iter().map(|v: &Terms| v.1.qos as u8).min();
        let least = sure().filter_map(lowest).max();
        let low = least.or_else(|| all().map(|v| v.1.qos as u8).min()).unwrap_or(0).min(msg.qos);
        if !(low..=high).contains(&qos) {
            return Err(format!("[MQTT-3.3.4-2] QoS should be {low} to {high}"));
        }
        let may = msg.retain && all().any(|v| v.1.retain_as_published);
        let must =
            msg.retain && sure().any(|versions| versions.iter().all(|v| v.1.retain_as_published));
        if (publish.retain && !may) || (!publish.retain && must) {
            return Err("[MQTT-3.3.1-12] [MQTT-3.3.1-13] RETAIN is wrong".into());
        }
        if !self.links[link].v5 {
            return Ok(());
        }
        let given: BTreeSet<u32> = publish.properties.subscription_identifiers().collect();
        let wanted: BTreeSet<u32> = all().filter_map(|v| v.2).collect();
        let fixed: BTreeSet<u32> =
            sure().filter(|versions| versions.len() == 1).filter_map(|v| v[0].2).collect();
        if !given.is_subset(&wanted) || !fixed.is_subset(&given) {
            return Err(format!("[MQTT-3.3.4-3] identifiers {given:?}, wanted {wanted:?}"));
        }
        if publish.message_expiry_s > msg.expiry_s
            || msg.expiry_s.is_some() != publish.message_expiry_s.is_some()
        {
            return Err(format!("[MQTT-3.3.2-6] expiry was {:?}", msg.expiry_s));
        }
        Ok(())
    }

    /// [MQTT-4.6.0-5] Order by publisher, topic and `QoS`; a retained message that is handed out
    /// may come again, but not after a newer one.
    fn check_order(
        &mut self,
        index: usize,
        id: MsgId,
        publish: &Publish<'_>,
        maybe_handout: bool,
    ) -> Result<(), String> {
        let msg = &self.messages[id];
        // What was refused may be repeated later.
        if msg.will || msg.maybe > 0 {
            return Ok(());
        }
        let (qos, delivered) = (msg.qos, publish.qos as u8);
        let key = (msg.publisher.clone(), msg.topic.clone(), qos, delivered);
        let order = &mut self.sessions[index].order;
        let last = order.get(&key).copied().unwrap_or(0);
        if maybe_handout {
            return Ok(());
        }
        match msg.instances.iter().find(|at| **at > last) {
            Some(at) => {
                order.insert(key, *at);
                Ok(())
            }
            None => Err("[MQTT-4.6.0-5] a newer one came before".into()),
        }
    }

    /// The client's application got a message.
    pub(crate) fn received(&mut self, link: usize, id: Option<MsgId>, exactly: bool) {
        let (Some(index), Some(id)) = (self.links[link].session, id) else { return };
        let session = &mut self.sessions[index];
        *session.app.entry(id).or_default() += 1;
        if exactly && !self.links[link].hostile {
            let count = session.app_exactly.entry(id).or_default();
            *count += 1;
            let count = *count;
            if count > session.copies.get(&id).copied().unwrap_or(0) {
                let client = session.client.clone();
                self.fail(format!("[MQTT-4.3.3-10] {client} got m{id} {count} times at QoS 2"));
            }
        }
    }

    /// Everything has arrived, every session that lives has its client.
    pub(crate) fn check_rest(&mut self) {
        let mut wrong = Vec::new();
        for id in 0..self.messages.len() {
            wrong.extend(self.missing(id));
            wrong.extend(self.shared_too_often(id));
            wrong.extend(self.shared_missing(id));
        }
        for (number, link) in self.links.iter().enumerate().filter(|(_, link)| link.live) {
            if link.connack_due.is_some() || !link.asked.is_empty() {
                wrong.push(format!("connection {number} waits for {:?}", link.asked));
            }
            if !link.acks_due.is_empty() && !link.hostile {
                wrong.push(format!("connection {number} waits for {:?}", link.acks_due));
            }
        }
        if let Some(first) = wrong.into_iter().next() {
            self.fail(first);
        }
    }

    /// Every `QoS` ≥ 1 message that was acknowledged, and every will, is at all who want it.
    fn missing(&self, id: MsgId) -> Option<String> {
        let msg = &self.messages[id];
        let last = || msg.arrived.values().copied().chain(msg.begun()).max().unwrap_or(0);
        let end = match msg.acked {
            Some(acked) if msg.onward.is_some() => acked.max(last()),
            Some(acked) => acked,
            // A crash may undo the publication of a will, and its client may be back then.
            None if msg.will && !msg.excused && msg.lost < msg.instances.len() => last(),
            None => return None,
        };
        // Its identifier is kept when a shard has refused it, so that who has it gets it once.
        let given_up = self.rejects && msg.qos == 2 && msg.maybe > 0;
        if msg.qos == 0 || msg.payload.is_empty() || given_up {
            return None;
        }
        let bytes = msg.topic.len() + msg.payload.len() + OVERHEAD_BYTES;
        let expired = msg
            .expiry_s
            .is_some_and(|expiry_s| self.now > Millis(msg.begun_at.0 + u64::from(expiry_s) * 1000));
        let mut missing: Vec<(usize, &str)> = Vec::new();
        for session in self.current.values().map(|at| &self.sessions[*at]) {
            let excused = session.packet_bytes_max.is_some_and(|max| bytes > max as usize)
                || expired
                || session.link.is_none_or(|link| self.links[link].hostile);
            if self.demands(session, id, end).is_some_and(|qos| qos > 0)
                && !excused
                && !session.app.contains_key(&id)
            {
                missing.push((session.home, &session.client));
            }
        }
        for (shard, client) in &missing {
            let count = missing.iter().filter(|(other, _)| other == shard).count() as u64;
            if count > msg.drops.get(shard).copied().unwrap_or(0) {
                return Some(format!("m{id} {} never came to {client}", msg.topic));
            }
        }
        None
    }

    fn groups(&self, id: MsgId) -> BTreeSet<&str> {
        let msg = &self.messages[id];
        let subs = self.sessions.iter().flat_map(|session| &session.subs);
        subs.map(|sub| sub.filter.as_str())
            .filter(|filter| is_shared(filter) && matches(filter, &msg.topic))
            .collect()
    }

    /// One copy for each group; more only where a connection ended before the acknowledgement.
    fn shared_too_often(&self, id: MsgId) -> Option<String> {
        let msg = &self.messages[id];
        let groups = self.groups(id).len();
        if groups == 0 || msg.instances.is_empty() || msg.payload.is_empty() {
            return None;
        }
        let direct = |session: &Session| {
            session
                .subs
                .iter()
                .any(|sub| !is_shared(&sub.filter) && matches(&sub.filter, &msg.topic))
        };
        let alone = self.sessions.iter().filter(|session| !direct(session));
        let copies: usize = alone.filter_map(|session| session.copies.get(&id)).sum();
        let most = groups * (msg.instances.len() + msg.maybe) + msg.lost_unacked;
        (copies > most).then(|| format!("m{id}: {copies} copies for {groups} groups"))
    }

    /// [MQTT-4.8.2-1] At least one member gets it, if one was there all the time.
    fn shared_missing(&self, id: MsgId) -> Option<String> {
        let msg = &self.messages[id];
        let (begun, _) = msg.begun().zip(msg.acked)?;
        let counted = !msg.drops.is_empty() || self.other_drops > 0;
        if counted || msg.qos == 0 || msg.expiry_s.is_some() || msg.payload.is_empty() {
            return None;
        }
        let (mut demanded, mut copies) = (0, 0);
        for group in self.groups(id) {
            let members = || {
                let sessions = self.sessions.iter();
                sessions.filter_map(|session| {
                    let sub = session.subs.iter().filter(|sub| sub.filter == group);
                    sub.max_by_key(|sub| sub.versions[0].0).map(|sub| (session, sub))
                })
            };
            let sure = members()
                .any(|(session, sub)| session.ended.is_none() && sub.certain(begun, u64::MAX));
            let doubtful = members().any(|(session, sub)| {
                let direct = |sub: &crate::shadow::Sub| {
                    !is_shared(&sub.filter) && matches(&sub.filter, &msg.topic)
                };
                session.subs.iter().any(direct)
                    || session.packet_bytes_max.is_some()
                    || session.ended.is_some_and(|ended| ended > begun)
                    || sub.versions.iter().any(|version| version.1.qos as u8 == 0)
                    || session.hostile
            });
            if doubtful {
                return None;
            }
            demanded += usize::from(sure);
        }
        for session in &self.sessions {
            copies += session.app.get(&id).copied().unwrap_or(0);
        }
        (copies < demanded).then(|| format!("m{id} {} never came to its group", msg.topic))
    }

    /// Retained messages that may stand for a topic at rest; `None`: there may be none.
    pub(crate) fn retained_candidates(&self, topic: &str) -> BTreeSet<Option<MsgId>> {
        let Some(writes) = self.writes.get(topic) else { return BTreeSet::from([None]) };
        let mut candidates = BTreeSet::new();
        // What was not acknowledged may have been refused.
        let doubtful = |write: &Write| write.doubtful || self.rejects && write.done.is_none();
        if writes.iter().all(doubtful) {
            candidates.insert(None);
        }
        for write in writes {
            let msg = &self.messages[write.msg];
            let replaced = writes.iter().any(|other| {
                let later = &self.messages[other.msg];
                let same = later.publisher == msg.publisher && other.begun > write.begun;
                let after = write.done.is_some_and(|done| other.begun > done);
                (same || after) && later.drops.is_empty() && !doubtful(other)
            });
            if replaced {
                continue;
            }
            let expired = msg.expiry_s.is_some_and(|expiry_s| {
                self.now >= Millis(msg.begun_at.0 + u64::from(expiry_s) * 1000)
            });
            let deletes = msg.payload.is_empty();
            if expired || deletes || !msg.drops.is_empty() {
                candidates.insert(None);
            }
            if !deletes {
                candidates.insert(Some(write.msg));
            }
        }
        candidates
    }
}
