//! Who is it: the time between CONNECT and CONNACK in which somebody else checks, enhanced
//! authentication, and logins that end (MQTT 5.0 §4.12).
//!
//! Promise: a client gets nothing before it is proven; a session belongs to the identity that made
//! it; of two clients with one identifier the one that asked later wins, in whatever order they are
//! checked.
//!
//! ```text
//!  CONNECT ─▶ limits ─▶ Effect::Authenticate ─▶ … ─▶ Input::Authenticated ─┬─▶ accept ─▶ CONNACK
//!                 ▲                                                        ├─▶ refuse ─▶ CONNACK
//!                 └──────────────── AUTH 0x18 of the client ◀── AUTH 0x18 ─┘
//! ```

use super::clients::{Phase, Session};
use super::effects::Effect;
use super::login_rules::ListenerRules;
use super::{Peer, Shard, Timer};
use crate::access::Identity;
use crate::auth::limiter::Permit;
use crate::auth::scram::Exchange;
use crate::auth::{Credentials, Login, Outcome, Proof, Proven, Refusal, Secret, Suspect};
use crate::codec::{self, Auth, Connect, Packet, Property, PropertyList, Reason, Version};
use shards::{ConnId, Millis};
use std::sync::Arc;
use tracing::{debug, info};

/// Refused logins written to the log in one second; further ones are counted in `$SYS` alone.
const LINES_PER_S: u32 = 10;
/// Longest part of a client's text in a line of the log.
const LOGGED_BYTES_MAX: usize = 256;

/// A login on its way.
#[derive(Debug)]
pub(super) struct Pending {
    step: Step,
    login: Login,
    suspect: Suspect,
    /// CONNECT without its password, as 5.0 or older; empty if the client is connected already.
    connect: Vec<u8>,
    /// Order of this CONNECT among all of the shard.
    serial: u64,
    /// Who checks looks whether this is still there.
    wanted: Arc<()>,
}

#[derive(Debug)]
enum Step {
    /// It waits a little because others failed with this user name.
    Delayed(Box<Credentials>),
    /// Somebody checks.
    Checked,
    /// The client has to send AUTH.
    Client(Box<Exchange>),
}

/// A connection with enhanced authentication; kept for the next one.
#[derive(Debug)]
pub(super) struct Method {
    name: Box<str>,
    login: Login,
    suspect: Suspect,
}

/// What CONNACK has to say of a login, and where it comes from.
#[derive(Debug)]
pub(super) struct Admission<'a> {
    pub(super) serial: u64,
    pub(super) login: &'a Login,
    /// Method and last data of enhanced authentication.
    pub(super) method: Option<&'a str>,
    pub(super) data: Option<&'a [u8]>,
}

/// Bounds the lines in the log.
#[derive(Debug, Default)]
pub(super) struct Lines {
    second: u64,
    count: u32,
}

impl Shard {
    /// The client identifier that a CONNECT counts under, by the rules of its listener.
    pub fn client_id_of<'a>(&self, connect: &Connect<'a>, peer: &'a Peer) -> &'a str {
        if !self.listener_rules(peer.listener).use_username_as_clientid {
            return connect.client_id;
        }
        let certified = peer.certificate.as_deref().and_then(|one| one.user.as_deref());
        certified.or(connect.username).unwrap_or(connect.client_id)
    }

    /// Its CONNECT was accepted.
    pub fn is_admitted(&self, conn: ConnId) -> bool {
        let phase = self.clients.connection(conn).map(|connection| connection.phase);
        matches!(phase, Some(Phase::Connected(_)))
    }

    /// The connection sent CONNECT and waits: what it sends meanwhile has to be kept.
    pub fn awaits_login(&self, conn: ConnId) -> bool {
        let Some(connection) = self.clients.connection(conn) else { return false };
        let waits = connection.pending.as_ref().is_some_and(|pending| pending.step.is_ours());
        // With a method it may only send AUTH and DISCONNECT, which do not wait.
        connection.phase == Phase::Authenticating && connection.method.is_none() && waits
    }

    /// The first packet: who is it.
    pub(super) fn connect(
        &mut self,
        conn: ConnId,
        peer: &Peer,
        connect: &Connect<'_>,
        now: Millis,
    ) {
        self.clients.counters.packets_received += 1;
        self.clients.counters.connects += 1;
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        if connection.phase != Phase::Opened {
            // [MQTT-3.1.0-2]
            return self.end_connection(conn, Reason::ProtocolError, now);
        }
        connection.last_packet = now;
        connection.identity.listener = Some(peer.listener);
        connection.link.version = connect.version;
        if let Some(reason) = self.refused_at_once(connect.version, peer.listener) {
            return self.refuse(conn, reason);
        }
        self.serial += 1;
        let assigned = connect.client_id.is_empty();
        let connect = &Connect { client_id: self.client_id_of(connect, peer), ..connect.clone() };
        let login = login_of(connect, peer, assigned);
        let proof = match self.proof_of(connect, peer) {
            Ok(Some(proof)) => proof,
            Ok(None) => {
                // Its key has proven who it is already.
                if let Some(user) = certified(peer) {
                    let users = self.listener_rules(peer.listener).users.clone();
                    let user = Some(user);
                    self.identify(conn, Identity { user, users, ..Identity::default() });
                }
                return self.accept_now(conn, connect, &login, now);
            }
            Err(refusal) => return self.refuse_login(conn, refusal, &login, now),
        };
        let suspect =
            self.limiter.suspect(login.address.map(|address| address.ip()), login.user.as_deref());
        if let Some(method) = connect.properties.authentication_method()
            && let Some(connection) = self.clients.connection_mut(conn)
        {
            let (name, login) = (method.into(), login.clone());
            connection.method = Some(Box::new(Method { name, login, suspect }));
        }
        let mut bytes = Vec::new();
        // The password is not kept any longer than it takes to check it.
        let kept = Connect { password: None, ..connect.clone() };
        codec::encode(&Packet::Connect(kept), connect.version, &mut bytes);
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.phase = Phase::Authenticating;
        }
        let (serial, connect, wanted) = (self.serial, bytes, Arc::default());
        let pending = Pending { step: Step::Checked, login, suspect, connect, serial, wanted };
        self.ask(conn, pending, proof, now);
    }

    /// What has to be checked; `None` = nobody has to be asked.
    fn proof_of(&self, connect: &Connect<'_>, peer: &Peer) -> Result<Option<Proof>, Refusal> {
        let rules = self.listener_rules(peer.listener);
        let asked = self.login_rules.asked && !rules.unasked;
        let is_anonymous = connect.username.is_none() && connect.password.is_none();
        match connect.properties.authentication_method() {
            // [MQTT-4.12.0-1]
            Some(_) if !asked => Err(Refusal::BadMethod),
            Some(method) => Ok(Some(Proof::Begin {
                method: method.to_owned(),
                data: Secret::new(connect.properties.authentication_data().unwrap_or_default()),
            })),
            None if certified(peer).is_some() => Ok(None),
            None if !asked || is_anonymous => {
                let is_open = rules.allow_anonymous || !(asked || rules.unasked);
                if is_open { Ok(None) } else { Err(Refusal::NotAuthorized) }
            }
            None => Ok(Some(Proof::Password(connect.password.map(Secret::new)))),
        }
    }

    /// Whoever it is does not come in.
    fn refused_at_once(&self, version: Version, listener: u16) -> Option<Reason> {
        let ListenerRules { closed, versions, .. } = self.listener_rules(listener);
        let listeners = self.login_rules.listeners.len();
        // A reload has opened its listener, and this shard has not heard of it: nothing is known of
        // what the client may not do. It comes again.
        let is_new = (1..=usize::from(listener)).contains(&listeners);
        // Or it has closed it: then what was asked for there is not known any more.
        if self.stopping || is_new || *closed {
            Some(Reason::ServerUnavailable)
        } else if !versions.is_empty() && !versions.contains(&version) {
            // [MQTT-3.1.2-2]
            Some(Reason::UnsupportedProtocolVersion)
        } else {
            None
        }
    }

    /// Nobody has to be asked.
    fn accept_now(&mut self, conn: ConnId, connect: &Connect<'_>, login: &Login, now: Millis) {
        let admission = Admission { serial: self.serial, login, method: None, data: None };
        self.accept(conn, connect, &admission, now);
    }

    /// Lets somebody check, if the failures of the past allow it.
    fn ask(&mut self, conn: ConnId, mut pending: Pending, proof: Proof, now: Millis) {
        let (login, suspect) = (pending.login.clone(), pending.suspect);
        let wanted = Arc::downgrade(&pending.wanted);
        let credentials = Box::new(Credentials { login, proof, suspect, wanted });
        match self.limiter.permit(suspect, now) {
            Permit::Never => return self.failed(conn, Refusal::TooManyFailures, &pending, now),
            Permit::Now => {
                pending.step = Step::Checked;
                self.effects.list.push(Effect::Authenticate(conn, credentials));
            }
            Permit::After(ms) => {
                pending.step = Step::Delayed(credentials);
                self.wait(now.after(ms), Timer::Login(conn), now);
            }
        }
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.pending = Some(Box::new(pending));
        }
    }

    /// A login has waited long enough.
    pub(super) fn login_due(&mut self, conn: ConnId) {
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        let Some(pending) = connection.pending.as_deref_mut() else { return };
        match std::mem::replace(&mut pending.step, Step::Checked) {
            Step::Delayed(credentials) => {
                self.effects.list.push(Effect::Authenticate(conn, credentials));
            }
            other @ (Step::Checked | Step::Client(_)) => pending.step = other,
        }
    }

    /// Somebody has checked.
    pub(super) fn authenticated(
        &mut self,
        conn: ConnId,
        suspect: Suspect,
        outcome: Outcome,
        now: Millis,
    ) {
        // Who guesses and hangs up has guessed all the same.
        if let Outcome::Refused(refusal) = &outcome
            && refusal.is_guess()
        {
            self.limiter.failed(suspect, now);
        }
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        let Some(mut pending) = connection.pending.take() else { return };
        assert!(matches!(pending.step, Step::Checked), "only what is checked is answered");
        match outcome {
            Outcome::Refused(refusal) => self.failed(conn, refusal, &pending, now),
            Outcome::Challenge { exchange, data } => {
                pending.step = Step::Client(exchange);
                connection.pending = Some(pending);
                // [MQTT-4.12.0-2]
                self.send_auth(conn, Reason::ContinueAuthentication, &data);
            }
            Outcome::Proven(proven) => self.proven(conn, &pending, *proven, now),
        }
    }

    fn proven(&mut self, conn: ConnId, pending: &Pending, proven: Proven, now: Millis) {
        let Proven { identity, valid_ms, data } = proven;
        let identity = Identity { listener: Some(pending.login.listener), ..identity };
        let named = pending.login.user.as_deref().filter(|user| !user.is_empty());
        let method = self.clients.connection(conn).and_then(|one| one.method.as_ref());
        let name = method.map(|method| method.name.clone());
        // Who gives a user name in CONNECT and proves to be another is not who he says.
        if name.is_some() && named.is_some_and(|named| Some(named) != identity.user.as_deref()) {
            return self.failed(conn, Refusal::BadCredentials, pending, now);
        }
        if let Some(connection) = self.clients.connection_mut(conn) {
            connection.login_ends = valid_ms.map(|ms| now.after(ms));
        }
        if let Some(ms) = valid_ms {
            self.wait(now.after(ms), Timer::LoginEnd(conn), now);
        }
        let Some(Phase::Authenticating) = self.clients.connection(conn).map(|one| one.phase) else {
            return self.proven_again(conn, pending, identity, data.as_deref(), now);
        };
        let version = self.version_of(conn);
        let max = u32::MAX;
        let decoded = codec::decode(&pending.connect, version, max);
        let Ok(Some((Packet::Connect(connect), _))) = decoded else {
            unreachable!("what was encoded can be decoded");
        };
        self.identify(conn, identity);
        let (method, data) = (name.as_deref(), data.as_deref());
        let admission = Admission { serial: pending.serial, login: &pending.login, method, data };
        self.accept(conn, &connect, &admission, now);
    }

    /// A client that is connected has proven itself again.
    fn proven_again(
        &mut self,
        conn: ConnId,
        pending: &Pending,
        identity: Identity,
        data: Option<&[u8]>,
        now: Millis,
    ) {
        let Some(key) = self.clients.session_of(conn) else { return };
        let session = self.clients.sessions.get(key);
        // The identity of a connection never changes.
        if session.is_none_or(|session| !session.identity.is_same_user(&identity)) {
            return self.failed(conn, Refusal::NotAuthorized, pending, now);
        }
        self.take_identity(key, identity);
        self.send_auth(conn, Reason::Success, data.unwrap_or_default());
    }

    /// AUTH of a client.
    pub(super) fn auth(&mut self, conn: ConnId, auth: &Auth<'_>, now: Millis) {
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        let name = auth.properties.authentication_method();
        let Some(method) = connection.method.as_deref().filter(|_| name.is_some()) else {
            // [MQTT-4.12.0-6] [MQTT-4.12.0-7]
            return self.end_or_refuse(conn, Reason::ProtocolError, now);
        };
        if name != Some(&method.name) {
            // [MQTT-4.12.0-5] [MQTT-4.12.1-1]
            return self.end_or_refuse(conn, Reason::BadAuthenticationMethod, now);
        }
        let data = Secret::new(auth.properties.authentication_data().unwrap_or_default());
        let connected = matches!(connection.phase, Phase::Connected(_));
        let (pending, proof) = match (connection.pending.take(), auth.reason) {
            (None, Reason::ReAuthenticate) if connected => {
                let (login, suspect) = (method.login.clone(), method.suspect);
                let proof = Proof::Begin { method: method.name.to_string(), data };
                let (step, connect) = (Step::Checked, Vec::new());
                (
                    Pending { step, login, suspect, connect, serial: 0, wanted: Arc::default() },
                    proof,
                )
            }
            (Some(mut pending), Reason::ContinueAuthentication) => {
                match std::mem::replace(&mut pending.step, Step::Checked) {
                    Step::Client(exchange) => (*pending, Proof::Continue { exchange, data }),
                    Step::Checked | Step::Delayed(_) => {
                        return self.end_or_refuse(conn, Reason::ProtocolError, now);
                    }
                }
            }
            _ => return self.end_or_refuse(conn, Reason::ProtocolError, now),
        };
        self.ask(conn, pending, proof, now);
    }

    /// A packet other than CONNECT before CONNACK.
    pub(super) fn early(&mut self, conn: ConnId, packet: &Packet<'_>, now: Millis) {
        match packet {
            Packet::Auth(auth) => self.auth(conn, auth, now),
            Packet::Disconnect(_) => self.close(conn),
            // [MQTT-3.1.2-30] Nothing else may come from a client that named a method; what others
            // send early is kept by the edge.
            Packet::Connect(_)
            | Packet::Connack(_)
            | Packet::Publish(_)
            | Packet::Puback(_)
            | Packet::Pubrec(_)
            | Packet::Pubrel(_)
            | Packet::Pubcomp(_)
            | Packet::Subscribe(_)
            | Packet::Suback(_)
            | Packet::Unsubscribe(_)
            | Packet::Unsuback(_)
            | Packet::Pingreq
            | Packet::Pingresp => self.refuse(conn, Reason::ProtocolError),
        }
    }

    /// The login of this connection has ended, unless it was proven again.
    pub(super) fn login_over(&mut self, conn: ConnId, now: Millis) {
        let Some(ends) = self.clients.connection(conn).and_then(|one| one.login_ends) else {
            return;
        };
        if now < ends {
            return self.wait(ends, Timer::LoginEnd(conn), now);
        }
        self.end_connection(conn, Reason::MaximumConnectTime, now);
    }

    fn send_auth(&mut self, conn: ConnId, reason: Reason, data: &[u8]) {
        let Some(connection) = self.clients.connection(conn) else { return };
        let Some(method) = connection.method.as_deref() else { return };
        let mut properties = PropertyList::default();
        properties.push(Property::AuthenticationMethod(&method.name));
        properties.push(Property::AuthenticationData(data));
        let properties = properties.as_properties();
        self.clients.packet(conn, &Packet::Auth(Auth { reason, properties }));
    }

    /// A rule was broken, before CONNACK or after it.
    fn end_or_refuse(&mut self, conn: ConnId, reason: Reason, now: Millis) {
        match self.clients.connection(conn).map(|connection| connection.phase) {
            Some(Phase::Connected(_)) => self.end_connection(conn, reason, now),
            Some(Phase::Opened | Phase::Authenticating) => self.refuse(conn, reason),
            Some(Phase::Closing) | None => {}
        }
    }

    /// [MQTT-4.12.0-4] [MQTT-4.12.1-2]
    fn failed(&mut self, conn: ConnId, refusal: Refusal, pending: &Pending, now: Millis) {
        let phase = self.clients.connection(conn).map(|connection| connection.phase);
        if let Some(Phase::Connected(_)) = phase {
            self.note_refusal(refusal, &pending.login, now);
            let reason = match refusal {
                Refusal::Busy | Refusal::Unavailable => Reason::ServerBusy,
                Refusal::BadCredentials
                | Refusal::NotAuthorized
                | Refusal::BadMethod
                | Refusal::TooManyFailures => Reason::NotAuthorized,
            };
            return self.end_connection(conn, reason, now);
        }
        self.refuse_login(conn, refusal, &pending.login, now);
    }

    pub(super) fn refuse_login(
        &mut self,
        conn: ConnId,
        refusal: Refusal,
        login: &Login,
        now: Millis,
    ) {
        self.note_refusal(refusal, login, now);
        self.refuse(conn, refusal.reason());
    }

    fn note_refusal(&mut self, refusal: Refusal, login: &Login, now: Millis) {
        if let Some(count) = self.clients.counters.logins_refused.get_mut(refusal as usize) {
            *count += 1;
        }
        self.audit_refusal(login, format_args!("{}", refusal.name()), now);
        if self.login_lines.may_write(now) {
            let (client, user) = (shorten(&login.client_id), login.user.as_deref().map(shorten));
            let (cause, address) = (refusal.name(), login.address);
            info!(cause, ?client, ?user, ?address, listener = login.listener, "login refused");
        }
    }

    /// No CONNECT in time, or no end of what followed it.
    pub(super) fn connect_deadline(&mut self, conn: ConnId, now: Millis) {
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        match (connection.phase, connection.pending.take()) {
            (Phase::Opened, _) => {
                debug!(conn = conn.index(), "no CONNECT in time");
                self.close(conn);
            }
            (Phase::Authenticating, Some(pending)) if pending.step.is_ours() => {
                debug!(conn = conn.index(), "nobody has checked the login in time");
                self.refuse(conn, Refusal::Busy.reason());
            }
            (Phase::Authenticating, _) => {
                debug!(conn = conn.index(), "no AUTH in time");
                self.refuse(conn, Reason::NotAuthorized);
            }
            (Phase::Connected(_), pending) => {
                connection.pending = pending;
                if connection.connect_deadline.take().is_some() && connection.silence_ms_max > 0 {
                    self.keep_alive(conn, now);
                }
            }
            (Phase::Closing, pending) => connection.pending = pending,
        }
    }

    /// The identity of this connection may have the session of its client identifier.
    pub(super) fn may_take(
        &self,
        connect: &Connect<'_>,
        identity: &Identity,
        listener: u16,
    ) -> bool {
        let key = self.clients.by_id.get(connect.client_id).copied();
        let session = key.and_then(|key| self.clients.sessions.get(key));
        let rules = self.listener_rules(listener);
        let is_owner = |session: &Session| session.identity.is_same_user(identity);
        rules.allow_session_rebind || session.is_none_or(is_owner)
    }
}

/// Who wants in; `assigned` = it gave no identifier of its own.
fn login_of(connect: &Connect<'_>, peer: &Peer, assigned: bool) -> Login {
    Login {
        client_id: connect.client_id.to_owned(),
        user: connect.username.map(str::to_owned),
        address: peer.address,
        listener: peer.listener,
        assigned,
    }
}

/// The user that a client certificate names, where the listener takes it from there.
fn certified(peer: &Peer) -> Option<Arc<str>> {
    peer.certificate.as_deref().and_then(|one| one.user.clone())
}

impl Step {
    /// The client has done its part.
    fn is_ours(&self) -> bool {
        match self {
            Step::Delayed(_) | Step::Checked => true,
            Step::Client(_) => false,
        }
    }
}

impl Lines {
    fn may_write(&mut self, now: Millis) -> bool {
        let second = now.0 / 1000;
        if second != self.second {
            *self = Lines { second, count: 0 };
        }
        self.count = self.count.saturating_add(1);
        self.count <= LINES_PER_S
    }
}

/// The beginning of a text, cut between characters.
pub(super) fn shorten(text: &str) -> &str {
    let mut end = text.len().min(LOGGED_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
