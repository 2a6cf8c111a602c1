//! A correct client: its half of the session is in memory and outlives every crash of the broker.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::compose::compose;
use crate::ledger::{Kind, Ledger, Message, Session, Step, Subscription, What, Wrong};
use crate::packet::{Packet, Version};

/// A filter that a client wants at times.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) filter: String,
    pub(crate) qos: u8,
    /// Subscribed and unsubscribed again and again, not once.
    pub(crate) churn: bool,
    pub(crate) phase: Phase,
}

/// Where a want stands. The numbers are the packet identifier and the place in the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Off,
    Subscribing(u16, usize),
    On(usize),
    Unsubscribing(u16, usize),
}

/// What kind of client this is.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Session Expiry Interval in seconds; before 5.0, 0 or not.
    pub(crate) expiry_s: u32,
    /// Topics it publishes to.
    pub(crate) topics: Vec<usize>,
    /// Most messages without acknowledgement.
    pub(crate) window: usize,
    /// Longest time until it acknowledges.
    pub(crate) lazy_ms: u64,
    /// How often it leaves, in 10,000 ticks.
    pub(crate) restless: usize,
    /// Longest time it stays away.
    pub(crate) rest_ms: usize,
    /// Topic and `QoS` of its will.
    pub(crate) will: Option<(usize, u8)>,
    pub(crate) wants: Vec<Want>,
}

/// A message that the broker has not acknowledged in full.
#[derive(Clone, Copy, Debug)]
struct Pending {
    id: u16,
    message: usize,
    /// PUBREC came, PUBREL is sent.
    released: bool,
}

/// One connection.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    /// CONNACK came.
    pub(crate) live: bool,
    clean: bool,
    session_was: SessionWas,
    pub(crate) will: Option<Will>,
}

/// The session when CONNECT was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionWas {
    Alive,
    /// There was none, or its time may have run out: this CONNECT may have begun one. Without an
    /// answer nobody knows, so the next CONNECT wants a new one.
    Unsure,
    /// Its time had run out.
    Over,
}

/// The will of one connection.
#[derive(Clone, Copy)]
pub(crate) struct Will {
    pub(crate) message: usize,
    /// A later acknowledgement on this connection says that it is in the log.
    pub(crate) stored: bool,
}

/// One client.
pub(crate) struct Client {
    pub(crate) index: usize,
    pub(crate) plan: Plan,
    pub(crate) link: Option<Link>,
    /// Connections that were left in order or taken over; what comes on them is not read.
    pub(crate) left: Vec<(Link, u64)>,
    pub(crate) session: Option<usize>,
    pub(crate) wants: Vec<Want>,
    pending: VecDeque<Pending>,
    received: HashMap<u16, Option<usize>>,
    acks: VecDeque<(u64, &'static str, u16)>,
    outbox: Vec<Vec<u8>>,
    /// Most messages without acknowledgement, as the broker allows.
    window: usize,
    next_id: u16,
    sequence: u32,
    /// Not before this time does it connect.
    pub(crate) rest_until: u64,
    /// When the last connection ended, and the number of faults then.
    gone: (u64, u32),
    /// The next CONNECT begins a new session.
    pub(crate) fresh: bool,
    pub(crate) hurry: bool,
    /// Retained messages by topic, as the last SUBSCRIBE brought them.
    pub(crate) retained: HashMap<String, usize>,
}

impl Client {
    pub(crate) fn new(index: usize, plan: Plan) -> Self {
        Self {
            index,
            wants: plan.wants.clone(),
            plan,
            link: None,
            left: Vec::new(),
            session: None,
            pending: VecDeque::new(),
            received: HashMap::new(),
            acks: VecDeque::new(),
            outbox: Vec::new(),
            window: 0,
            next_id: 0,
            sequence: 0,
            rest_until: 0,
            gone: (0, 0),
            fresh: false,
            hurry: false,
            retained: HashMap::new(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.live)
    }

    /// Connected, and nothing of its own is unanswered.
    pub(crate) fn is_quiet(&self) -> bool {
        let settled = |want: &Want| match want.phase {
            Phase::On(_) => true,
            Phase::Off => want.churn,
            Phase::Subscribing(..) | Phase::Unsubscribing(..) => false,
        };
        let idle = self.pending.is_empty() && self.acks.is_empty() && self.outbox.is_empty();
        self.is_live() && idle && self.wants.iter().all(settled)
    }

    /// The oldest message that is not acknowledged in full.
    pub(crate) fn waits_for(&self) -> Option<usize> {
        self.pending.front().map(|pending| pending.message)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < self.window
    }

    fn send(&mut self, text: &str) {
        self.outbox.push(compose(text, self.plan.version, &self.plan.name));
    }

    /// What has to be written, packet by packet.
    pub(crate) fn take_outbox(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.outbox)
    }

    /// Opens a connection and sends CONNECT. False if nobody listens.
    pub(crate) fn connect(&mut self, address: SocketAddr, ledger: &mut Ledger) -> bool {
        let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
            return false;
        };
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        let session_was = self.note_expiry(ledger);
        // Once said, it is said until CONNACK: only then is it known that the broker heard it.
        let clean = self.plan.expiry_s == 0 || self.fresh;
        let step = ledger.note(Some(self.index), What::Connect, None, u16::from(clean));
        if let Some(session) = self.session.filter(|_| clean) {
            ledger.sessions[session].ended.get_or_insert(step);
        }
        let mut text = format!("connect clean={}", u8::from(clean));
        if self.plan.version == Version::V5 {
            let _ = write!(text, " expiry={}", self.plan.expiry_s);
        }
        let will = self.plan.will.map(|(topic, qos)| {
            let at = self.compose_message(topic, qos, Kind::Will, ledger);
            let payload = ledger.messages[at].payload();
            let _ = write!(text, " will={} wp={payload} wq={qos}", ledger.topics[topic]);
            Will { message: at, stored: false }
        });
        self.outbox.clear();
        let output = compose(&text, self.plan.version, &self.plan.name);
        self.link =
            Some(Link { stream, input: Vec::new(), output, live: false, clean, will, session_was });
        true
    }

    /// A session that was alone too long may have ended.
    fn note_expiry(&mut self, ledger: &mut Ledger) -> SessionWas {
        let Some(session) = self.session else { return SessionWas::Unsure };
        let (since, faults) = self.gone;
        let alone_ms = ledger.ms.saturating_sub(since);
        let expiry_ms = u64::from(self.plan.expiry_s) * 1000;
        let may_end = self.plan.version == Version::V5 && alone_ms + 1000 > expiry_ms;
        if !may_end && ledger.sessions[session].durable {
            return SessionWas::Alive;
        }
        let step = ledger.step();
        ledger.sessions[session].ended.get_or_insert(step);
        // How long it was alone counts anew where the broker was away meanwhile.
        if may_end && alone_ms > expiry_ms + 2000 && faults == ledger.faults {
            return SessionWas::Over;
        }
        SessionWas::Unsure
    }

    fn compose_message(&mut self, topic: usize, qos: u8, kind: Kind, ledger: &mut Ledger) -> usize {
        self.sequence += 1;
        ledger.add(Message {
            publisher: self.index,
            sequence: self.sequence,
            topic,
            qos,
            retain: kind == Kind::Deletion,
            kind,
            padding: 0,
            repeated: false,
            faults: ledger.faults,
            invoked: ledger.step(),
            acked: None,
            refused: false,
            forbidden: false,
        })
    }

    fn id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % u16::MAX + 1;
            let id = self.next_id;
            let asked = |want: &Want| {
                matches!(want.phase, Phase::Subscribing(own, _) | Phase::Unsubscribing(own, _)
                    if own == id)
            };
            if !self.pending.iter().any(|pending| pending.id == id) && !self.wants.iter().any(asked)
            {
                return id;
            }
        }
    }

    /// Sends a new message.
    pub(crate) fn publish(
        &mut self,
        topic: usize,
        qos: u8,
        (kind, retain, padding): (Kind, bool, usize),
        ledger: &mut Ledger,
    ) {
        let at = self.compose_message(topic, qos, kind, ledger);
        ledger.messages[at].retain = retain;
        ledger.messages[at].padding = padding;
        let id = if qos > 0 { self.id() } else { 0 };
        if qos > 0 {
            self.pending.push_back(Pending { id, message: at, released: false });
        }
        ledger.note(Some(self.index), What::Publish, Some(at), id);
        self.send_publish(at, id, "", ledger);
    }

    fn send_publish(&mut self, at: usize, id: u16, dup: &str, ledger: &Ledger) {
        let message = &ledger.messages[at];
        let topic = &ledger.topics[message.topic];
        let retain = if message.retain { "retain" } else { "" };
        let quality =
            if message.qos > 0 { format!("q{} id={id}", message.qos) } else { String::new() };
        let payload = message.payload();
        let payload = if payload.is_empty() { payload } else { format!("p={payload}") };
        self.send(&format!("publish {topic} {quality} {dup} {retain} {payload}"));
    }

    /// Subscribes or unsubscribes `wants[at]`, whichever is next.
    pub(crate) fn toggle(&mut self, at: usize, ledger: &mut Ledger) {
        let Some(index) = self.session else { return };
        let id = self.id();
        let want = &mut self.wants[at];
        let session = &mut ledger.sessions[index];
        let asked = ledger.events.len() as Step;
        let (filter, qos) = (want.filter.clone(), want.qos);
        match want.phase {
            Phase::Off => {
                let place = session.subscriptions.len();
                session.subscriptions.push(Subscription {
                    filter,
                    qos,
                    asks: 0,
                    acked: None,
                    unasked: None,
                    unacked: None,
                });
                want.phase = Phase::Subscribing(id, place);
            }
            Phase::On(place) => {
                session.subscriptions[place].unasked = Some(asked);
                want.phase = Phase::Unsubscribing(id, place);
            }
            Phase::Subscribing(..) | Phase::Unsubscribing(..) => return,
        }
        self.ask(at, ledger);
    }

    fn ask(&mut self, at: usize, ledger: &mut Ledger) {
        let want = &self.wants[at];
        let (what, text, place) = match want.phase {
            Phase::Subscribing(id, place) => {
                (What::Subscribe, format!("subscribe {id} {} q{}", want.filter, want.qos), place)
            }
            Phase::Unsubscribing(id, place) => {
                (What::Unsubscribe, format!("unsubscribe {id} {}", want.filter), place)
            }
            Phase::Off | Phase::On(_) => return,
        };
        if let Some(session) = self.session {
            ledger.sessions[session].subscriptions[place].asks +=
                u32::from(what == What::Subscribe);
        }
        ledger.note(Some(self.index), what, None, u16::try_from(place).unwrap());
        self.send(&text);
    }

    /// Says DISCONNECT; the connection is kept aside until the broker closes it.
    pub(crate) fn disconnect(&mut self, ledger: &mut Ledger) {
        let Some(mut link) = self.link.take() else { return };
        ledger.note(Some(self.index), What::Disconnect, None, 0);
        self.note_unanswered(&link, ledger);
        self.outbox.clear();
        link.output.extend(compose("disconnect", self.plan.version, ""));
        let _ = link.stream.write_all(&link.output);
        self.left.push((link, ledger.ms));
        self.forget_connection();
    }

    /// Leaves the connection as it is; the next CONNECT takes the session over.
    pub(crate) fn abandon(&mut self, ledger: &mut Ledger) {
        let Some(mut link) = self.link.take() else { return };
        ledger.note(Some(self.index), What::Closed, None, 0);
        self.note_unanswered(&link, ledger);
        link.will = None;
        self.left.push((link, ledger.ms));
        self.forget_connection();
    }

    /// The connection is gone.
    pub(crate) fn closed(&mut self, ledger: &mut Ledger) {
        if let Some(link) = self.link.take() {
            ledger.note(Some(self.index), What::Closed, None, 0);
            self.note_unanswered(&link, ledger);
            self.forget_connection();
        }
    }

    /// Its sessions do not outlive a run.
    fn is_short(&self) -> bool {
        self.plan.version == Version::V5 && self.plan.expiry_s < crate::load::LONG_S
    }

    fn note_unanswered(&mut self, link: &Link, ledger: &Ledger) {
        let may_be_over = link.session_was != SessionWas::Alive || self.is_short();
        self.fresh |= !link.live && may_be_over;
        if link.live {
            self.gone = (ledger.ms, ledger.faults);
        }
    }

    fn forget_connection(&mut self) {
        self.acks.clear();
        self.outbox.clear();
    }

    /// Acknowledges what is due.
    pub(crate) fn acknowledge(&mut self, ledger: &mut Ledger) {
        while let Some(&(due, name, id)) = self.acks.front() {
            if due > ledger.ms && !self.hurry {
                return;
            }
            self.acks.pop_front();
            self.send(&format!("{name} {id}"));
            ledger.note(Some(self.index), What::Acknowledge, None, id);
        }
    }

    /// One packet from the broker.
    pub(crate) fn take(&mut self, packet: &Packet, lazy_ms: u64, ledger: &mut Ledger) {
        if !self.is_live() && packet.name != "connack" {
            let text = format!("before CONNACK came {}", packet.name);
            return ledger.found(Wrong::Protocol, self.index, None, text);
        }
        let due = self.acks.back().map_or(0, |ack| ack.0).max(ledger.ms + lazy_ms);
        match packet.name {
            "connack" => self.connack(packet, ledger),
            "publish" => self.receive(packet, due, ledger),
            "pubrel" => {
                self.received.remove(&packet.id);
                self.acks.push_back((due, "pubcomp", packet.id));
            }
            "puback" | "pubrec" | "pubcomp" => self.answered(packet, ledger),
            "suback" | "unsuback" => self.asked(packet, ledger),
            // The broker says why it closes, as at a take-over.
            "disconnect" => {}
            name => ledger.found(Wrong::Protocol, self.index, None, format!("{name} came")),
        }
    }

    fn connack(&mut self, packet: &Packet, ledger: &mut Ledger) {
        let present = packet.words.iter().any(|word| word == "present");
        let what = if present { What::ConnackPresent } else { What::ConnackNew };
        let step = ledger.note(Some(self.index), what, None, 0);
        if ledger.may_refuse && matches!(packet.codes[..], [0x97 | 0x03]) {
            return;
        }
        if packet.codes != [0] {
            let text = format!("CONNECT refused: {}", packet.text());
            return ledger.found(Wrong::Protocol, self.index, None, text);
        }
        let link = self.link.as_mut().expect("it came on it");
        link.live = true;
        let (clean, session_was) = (link.clean, link.session_was);
        self.fresh = false;
        let receive_maximum = packet.value("rmax").and_then(|value| value.parse().ok());
        self.window = self.plan.window.min(receive_maximum.unwrap_or(usize::MAX));
        let former = self.session.map(|at| &ledger.sessions[at]);
        let must = former.is_some_and(|session| session.stored && session.ended.is_none());
        // The broker may have taken the CONNECT long after it was sent.
        let alone_ms = ledger.ms.saturating_sub(self.gone.0);
        let ran_out = self.is_short() && alone_ms + 1000 > u64::from(self.plan.expiry_s) * 1000;
        let must = must && !ran_out;
        let may = former.is_some_and(|session| session.durable) && !clean;
        let may = may && session_was != SessionWas::Over;
        if (present && !may) || (!present && must) {
            let text = format!("session present is {present}");
            ledger.found(Wrong::SessionPresent, self.index, None, text);
        }
        if let (true, Some(session)) = (present, self.session) {
            // The broker still had it: the time had not run out.
            if !clean {
                ledger.sessions[session].ended = None;
            }
            return self.resume(ledger);
        }
        if let Some(session) = self.session {
            let session = &mut ledger.sessions[session];
            if must {
                session.vanished = Some(step);
            }
            session.ended.get_or_insert(step);
        }
        self.begin(clean, ledger);
    }

    /// A new session: nothing of the former one counts any more.
    fn begin(&mut self, clean: bool, ledger: &mut Ledger) {
        self.session = Some(ledger.sessions.len());
        let outlives = self.plan.expiry_s > 0 && (self.plan.version == Version::V5 || !clean);
        ledger.sessions.push(Session {
            client: self.index,
            durable: outlives,
            stored: false,
            ended: None,
            vanished: None,
            subscriptions: Vec::new(),
            copies: HashMap::new(),
            highest: std::collections::BTreeMap::new(),
        });
        self.pending.clear();
        self.received.clear();
        for at in 0..self.wants.len() {
            self.wants[at].phase = Phase::Off;
            if !self.wants[at].churn {
                self.toggle(at, ledger);
            }
        }
    }

    /// Everything unacknowledged is sent again, in the order of its first time.
    fn resume(&mut self, ledger: &mut Ledger) {
        for pending in self.pending.clone() {
            if pending.released {
                self.send(&format!("pubrel {}", pending.id));
            } else {
                ledger.messages[pending.message].repeated = true;
                self.send_publish(pending.message, pending.id, "dup", ledger);
            }
            ledger.note(Some(self.index), What::Repeat, Some(pending.message), pending.id);
        }
        for at in 0..self.wants.len() {
            if self.wants[at].phase == Phase::Off && !self.wants[at].churn {
                self.toggle(at, ledger);
            } else {
                self.ask(at, ledger);
            }
        }
    }

    fn answered(&mut self, packet: &Packet, ledger: &mut Ledger) {
        let id = packet.id;
        let Some(at) = self.pending.iter().position(|pending| pending.id == id) else {
            if packet.name == "pubrec" {
                self.send(&format!("pubrel {id}"));
            }
            return;
        };
        let message = self.pending[at].message;
        let (what, step) = match packet.name {
            "puback" => (What::Puback, ledger.step()),
            "pubrec" => (What::Pubrec, ledger.step()),
            _ => (What::Pubcomp, ledger.step()),
        };
        let refused = packet.codes.first().is_some_and(|code| *code >= 0x80);
        let qos = ledger.messages[message].qos;
        let fits = if packet.name == "puback" { qos == 1 } else { qos == 2 };
        if !fits {
            let text = format!("{} for a message of QoS {qos}", packet.name);
            return ledger.found(Wrong::Protocol, self.index, Some(message), text);
        }
        let what = if refused && packet.name != "pubcomp" { What::Refused } else { what };
        ledger.note(Some(self.index), what, Some(message), id);
        if packet.name == "pubcomp" {
            self.pending.remove(at);
            return;
        }
        if refused {
            ledger.messages[message].refused = true;
            self.pending.remove(at);
            return;
        }
        ledger.messages[message].acked.get_or_insert(step);
        if packet.name == "puback" {
            self.pending.remove(at);
            return;
        }
        self.stored(ledger);
        self.pending[at].released = true;
        self.send(&format!("pubrel {id}"));
        ledger.note(Some(self.index), What::Pubrel, Some(message), id);
    }

    /// What was acknowledged now is in the log behind the session and its will.
    fn stored(&mut self, ledger: &mut Ledger) {
        let Some(session) = self.session.map(|at| &mut ledger.sessions[at]) else { return };
        // What ends with its connection is not in the log, and neither is its will.
        session.stored = session.durable;
        if let Some(link) = &mut self.link {
            let stored = session.durable;
            link.will = link.will.map(|will| Will { stored, ..will });
        }
    }

    fn asked(&mut self, packet: &Packet, ledger: &mut Ledger) {
        let subscribed = packet.name == "suback";
        let found = self.wants.iter().position(|want| match want.phase {
            Phase::Subscribing(id, _) => subscribed && id == packet.id,
            Phase::Unsubscribing(id, _) => !subscribed && id == packet.id,
            Phase::Off | Phase::On(_) => false,
        });
        let Some(at) = found else {
            let text = format!("nobody waits for {}", packet.text());
            return ledger.found(Wrong::Protocol, self.index, None, text);
        };
        let (Phase::Subscribing(_, place) | Phase::Unsubscribing(_, place)) = self.wants[at].phase
        else {
            return;
        };
        let what = if subscribed { What::Suback } else { What::Unsuback };
        let step = ledger.note(Some(self.index), what, None, u16::try_from(place).unwrap());
        let session = self.session.expect("a live connection has one");
        let subscription = &mut ledger.sessions[session].subscriptions[place];
        if subscribed && ledger.may_refuse && matches!(packet.codes[..], [0x97 | 0x80]) {
            self.wants[at].phase = Phase::Off;
            return;
        }
        if subscribed && packet.codes != [subscription.qos] {
            let text = format!("SUBSCRIBE answered by {}", packet.text());
            return ledger.found(Wrong::Subscription, self.index, None, text);
        }
        if subscribed {
            subscription.acked.get_or_insert(step);
            self.wants[at].phase = Phase::On(place);
            self.stored(ledger);
        } else {
            // 0x11: there was no such subscription. It may have gone with an UNSUBSCRIBE before.
            subscription.unacked.get_or_insert(step);
            self.wants[at].phase = Phase::Off;
        }
    }

    fn receive(&mut self, packet: &Packet, due: u64, ledger: &mut Ledger) {
        let session = self.session.expect("a live connection has one");
        let message = match ledger.identify(&packet.payload, &packet.topic) {
            Ok(message) => message,
            Err(text) => return ledger.found(Wrong::Phantom, self.index, None, text),
        };
        let retained = packet.words.iter().any(|word| word == "retain");
        if packet.qos > 0 {
            let name = if packet.qos == 1 { "puback" } else { "pubrec" };
            self.acks.push_back((due, name, packet.id));
        }
        if packet.qos == 2
            && let Some(known) = self.received.insert(packet.id, message)
        {
            // Until PUBREL the same identifier is the same message.
            if known != message {
                let text = format!("identifier {} before its PUBREL", packet.id);
                ledger.found(Wrong::Identifier, self.index, message, text);
            }
            ledger.note(Some(self.index), What::ReceivedAgain, message, packet.id);
            return;
        }
        if let Some(message) = message {
            if retained {
                self.retained.insert(packet.topic.clone(), message);
            }
            ledger.delivered(session, message, packet.qos, retained);
        }
    }

    /// Reads what there is. False if the connection is gone.
    pub(crate) fn read(&mut self) -> bool {
        let Some(link) = &mut self.link else { return true };
        let mut bytes = [0; 16384];
        match link.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                link.input.extend(&bytes[..count]);
                true
            }
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    /// Writes what the socket takes. False if the connection is gone.
    pub(crate) fn write(&mut self) -> bool {
        let Some(link) = &mut self.link else { return true };
        while !link.output.is_empty() {
            match link.stream.write(&link.output) {
                Ok(count) => drop(link.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        true
    }
}
