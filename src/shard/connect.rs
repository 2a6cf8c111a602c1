//! CONNECT: admission, take-over, clean start, CONNACK (MQTT 5.0 §3.1.4, §3.2).

use super::clients::{Session, Will, author_of};
use super::login::Admission;
use super::publish::has_plain_response;
use super::slots::Key;
use super::trail::CONNECTIONS;
use super::{Shard, Timer};
use crate::access::{Action, Identity, Verdict, authorise};
use crate::auth::Login;
use crate::codec::{
    self, Connack, Connect, Packet, Properties, Property, PropertyList, Qos, Reason, Version,
};
use crate::session::{AliasesOut, ClientId, Message, Offer, Outbound, Publication};
use crate::store::{Record, StoredWill};
use crate::topic::TopicName;
use shards::{ConnId, Millis};
use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;
use tracing::debug;

/// Session expiry interval that means "never".
pub(super) const EXPIRY_NEVER: u32 = u32::MAX;

impl Shard {
    /// CONNECT of a client whose identity is known.
    pub(super) fn accept(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        admission: &Admission<'_>,
        now: Millis,
    ) {
        let Some(connection) = self.clients.connection(conn) else { return };
        let identity = connection.identity.clone();
        let login = admission.login;
        let (client_id, will) = match self.admit(connect, &identity, login.listener) {
            Ok(admitted) => admitted,
            Err(reason) => return self.refuse_client(conn, login, reason, now),
        };
        let serial = admission.serial;
        if self.is_overtaken(&client_id, serial) {
            return self.refuse_client(conn, login, Reason::ServerBusy, now);
        }
        let offer = self.offer(login.listener);
        let granted = self.granted(connect, &client_id, admission, &offer);
        if !granted.fits(connect) {
            return self.refuse_client(conn, login, Reason::PacketTooLarge, now);
        }
        if let Some(key) = self.connected_key(&client_id) {
            if !self.takeovers.take(client_id.as_str(), self.settings.takeovers_per_min_max, now) {
                return self.refuse_client(conn, login, Reason::ConnectionRateExceeded, now);
            }
            self.audit_take_over(key, login, now);
        }
        let (key, session_present) = self.open_session(connect, &client_id, &granted, now);
        self.take_identity(key, identity);
        self.clients.counters.logins += 1;
        if let Some(session) = self.clients.sessions.get_mut(key) {
            session.serial = serial;
        }
        self.record_head(key, None);
        self.set_will(key, will);
        self.tune_link(conn, connect, (&granted, offer), now);
        self.clients.attach(key, conn);
        self.members_online(key, true);
        let user = self.clients.sessions.get(key).and_then(|session| session.identity.user.clone());
        debug!(
            target: CONNECTIONS,
            client = client_id.as_str(),
            conn = conn.index(),
            session_present,
            address = ?login.address,
            user = user.as_deref(),
            "connected"
        );
        self.audit_login(key, login, session_present);
        // [MQTT-3.1.4-5] [MQTT-3.2.0-1] CONNACK is the first packet of the connection.
        let connack = Connack {
            session_present,
            reason: Reason::Success,
            properties: granted.properties.as_properties(),
        };
        self.clients.packet(conn, &Packet::Connack(connack));
        self.hold_connack(conn, session_present);
        self.progress(key, now);
    }

    /// A client that was told of a reset must not find the old session after a crash; one that
    /// resumes must not be told of what a crash would undo.
    fn hold_connack(&mut self, conn: ConnId, session_present: bool) {
        if session_present || self.journal.last_end > self.clients.durable {
            self.hold_output(conn);
        }
    }

    /// Everything that can refuse a CONNECT, before anything has changed.
    fn admit(
        &mut self,
        connect: &Connect<'_>,
        identity: &Identity,
        listener: u16,
    ) -> Result<(ClientId, Option<Will>), Reason> {
        if self.stopping {
            return Err(Reason::ServerUnavailable);
        }
        if !self.may_take(connect, identity, listener) {
            return Err(Reason::NotAuthorized);
        }
        let prefixes = &self.settings.client_id_prefixes;
        let begins = |prefix: &String| connect.client_id.starts_with(prefix.as_str());
        if !prefixes.is_empty() && !prefixes.iter().any(begins) {
            return Err(Reason::NotAuthorized);
        }
        let will = connect.will.as_ref();
        if !self.within_user_properties(connect.properties)
            || will.is_some_and(|will| !self.within_user_properties(will.properties))
        {
            return Err(Reason::QuotaExceeded);
        }
        let client_id = self.client_id(connect, listener)?;
        let known = self.clients.by_id.contains_key(&client_id);
        if !known && !self.has_session_room(identity, wanted_expiry_s(connect) > 0) {
            return Err(Reason::QuotaExceeded);
        }
        let offer = self.offer(listener);
        let will = will.map(|will| self.will(will, &client_id, identity, &offer)).transpose()?;
        Ok((client_id, will))
    }

    fn client_id(&mut self, connect: &Connect<'_>, listener: u16) -> Result<ClientId, Reason> {
        let id = connect.client_id;
        if id.len() > self.settings.client_id_bytes_max {
            return Err(Reason::ClientIdentifierNotValid);
        }
        if !id.is_empty() {
            return Ok(ClientId::new(id));
        }
        // 3.1 knows no empty identifier; 3.1.1 wants a clean session with it [MQTT-3.1.3-8 of
        // 3.1.1].
        let may_be_empty = match connect.version {
            Version::V31 => false,
            Version::V311 => connect.clean_start,
            Version::V5 => true,
        };
        if !(may_be_empty && self.settings.allow_empty_client_id) {
            return Err(Reason::ClientIdentifierNotValid);
        }
        // [MQTT-3.1.3-6] [MQTT-3.2.2-16] unique among all sessions
        let prefix = self.listener_rules(listener).id_prefix.clone();
        let prefix = prefix.as_deref().unwrap_or("auto-");
        loop {
            let id = self.client_ids.next(prefix, &self.home, self.place.shard);
            if !self.clients.by_id.contains_key(id.as_str()) {
                return Ok(ClientId::new(&id));
            }
        }
    }

    fn will(
        &self,
        will: &codec::Will<'_>,
        client_id: &ClientId,
        identity: &Identity,
        offer: &Offer,
    ) -> Result<Will, Reason> {
        let whole = offer.mount.as_ref().map(|mount| mount.topic(will.topic));
        let text = whole.as_deref().unwrap_or(will.topic);
        let topic = TopicName::parse(text).map_err(|_| Reason::TopicNameInvalid)?;
        if !self.topic_within_limits(topic) {
            return Err(Reason::TopicNameInvalid);
        }
        if !has_plain_response(will.properties) {
            return Err(Reason::ProtocolError);
        }
        let who = identity.who(client_id.as_str());
        if authorise(&self.access, who, Action::Publish, topic.as_str()) == Verdict::Deny {
            return Err(Reason::NotAuthorized);
        }
        if will.retain && !self.settings.retain_available {
            // [MQTT-3.2.2-13]
            return Err(Reason::RetainNotSupported);
        }
        if will.qos > offer.qos_max {
            // [MQTT-3.2.2-12]
            return Err(Reason::QosNotSupported);
        }
        if will.payload.len() > self.settings.payload_bytes_max {
            return Err(Reason::QuotaExceeded);
        }
        let claims_utf8 = will.properties.payload_format_indicator() == Some(1);
        if self.settings.payload_format_check
            && claims_utf8
            && std::str::from_utf8(will.payload).is_err()
        {
            return Err(Reason::PayloadFormatInvalid);
        }
        let mut scratch = Vec::new();
        let publication = Publication {
            topic,
            payload: will.payload,
            forwarded: will.properties.forwarded(&mut scratch),
            qos: will.qos,
            retain: will.retain,
            expires_at: None,
            publisher: client_id,
            author: &author_of(identity),
            owned: OnceCell::new(),
        };
        let message: Arc<Message> = Arc::clone(publication.owned());
        let expiry_s = will.properties.message_expiry_interval();
        let delay_s = will.properties.will_delay_interval().unwrap_or(0);
        let delay_s = delay_s.min(self.settings.will_delay_s_max);
        Ok(Will { message, expiry_s, delay_s })
    }

    /// What the client gets of what it asked for, and how CONNACK says so.
    fn granted(
        &self,
        connect: &Connect<'_>,
        client_id: &ClientId,
        admission: &Admission<'_>,
        offer: &Offer,
    ) -> Granted {
        let settings = &self.settings;
        let expiry_s = wanted_expiry_s(connect).min(settings.session_expiry_s_max);
        let keep_alive_s = match connect.keep_alive_s {
            // 3.x cannot be told of another value than its own, but is held to it.
            0 if settings.keep_alive_s_max < u16::MAX => settings.keep_alive_s_max,
            wanted => wanted.min(settings.keep_alive_s_max),
        };
        let mut properties = PropertyList::default();
        if connect.version == Version::V5 {
            if expiry_s != wanted_expiry_s(connect) {
                properties.push(Property::SessionExpiryInterval(expiry_s));
            }
            properties.push(Property::ReceiveMaximum(offer.receive_maximum));
            if offer.qos_max < Qos::ExactlyOnce {
                // [MQTT-3.2.2-9]
                properties.push(Property::MaximumQos(offer.qos_max as u8));
            }
            if !settings.retain_available {
                properties.push(Property::RetainAvailable(false));
            }
            properties.push(Property::MaximumPacketSize(offer.packet_bytes_max));
            if admission.login.assigned {
                // [MQTT-3.1.3-7]
                properties.push(Property::AssignedClientIdentifier(client_id.as_str()));
            }
            if offer.topic_alias_maximum > 0 {
                properties.push(Property::TopicAliasMaximum(offer.topic_alias_maximum));
            }
            if keep_alive_s != connect.keep_alive_s {
                // [MQTT-3.2.2-21] The client uses this value instead of its own.
                properties.push(Property::ServerKeepAlive(keep_alive_s));
            }
            // [MQTT-4.12.0-5] [MQTT-4.12.0-6]
            if let Some(method) = admission.method {
                properties.push(Property::AuthenticationMethod(method));
            }
            if let Some(data) = admission.data {
                properties.push(Property::AuthenticationData(data));
            }
        }
        Granted { expiry_s, keep_alive_s, properties }
    }

    /// Take-over and clean start. Gives the session and whether it existed.
    fn open_session(
        &mut self,
        connect: &Connect<'_>,
        client_id: &ClientId,
        granted: &Granted,
        now: Millis,
    ) -> (Key, bool) {
        if let Some(key) = self.clients.by_id.get(client_id).copied() {
            self.take_over(key, connect.clean_start, now);
            if connect.clean_start {
                // [MQTT-3.1.2-4] [MQTT-3.2.2-2]
                self.audit_session_end(key, "clean_start");
                self.end_session(key, now);
            }
        }
        // [MQTT-3.1.2-5] The session of an expiry-0 client has ended with its connection.
        if let Some(key) = self.clients.by_id.get(client_id).copied()
            && let Some(session) = self.clients.sessions.get_mut(key)
        {
            session.expiry_s = granted.expiry_s;
            return (key, true);
        }
        let durable = self.settings.recording && granted.expiry_s > 0;
        let session = Session {
            client_id: client_id.clone(),
            log: durable.then(|| self.journal.number()),
            connection: None,
            expiry_s: granted.expiry_s,
            epoch: 0,
            queries: Vec::new(),
            filters: Vec::new(),
            outbound: Outbound::default(),
            inbound: None,
            will: None,
            identity: Identity::default(),
            access_epoch: self.access_epoch,
            serial: 0,
            ended: false,
        };
        let key = self.clients.sessions.insert(session);
        self.clients.by_id.insert(client_id.clone(), key);
        (key, false)
    }

    /// The older connection of the session, if any, is told and closed. [MQTT-3.1.4-3]
    fn take_over(&mut self, key: Key, clean_start: bool, now: Millis) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let Some(old) = session.connection else {
            if !clean_start {
                // [MQTT-3.1.3-9] A new connection before the delay has passed stops the will.
                self.clear_will(key);
            }
            return;
        };
        self.say_goodbye(old, Reason::SessionTakenOver);
        self.clients.detach(old);
        self.members_online(key, false);
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        // A delay ends with the session at the latest, so without expiry there is none.
        let delayed =
            session.will.as_ref().is_some_and(|will| will.delay_s.min(session.expiry_s) > 0);
        if delayed && !clean_start {
            self.clear_will(key);
        }
        self.publish_will(key, now);
        let ended = self.clients.sessions.get(key).is_some_and(|session| session.expiry_s == 0);
        if ended && !clean_start {
            // The session had no life beyond its connection, so there is nothing to resume.
            self.end_session(key, now);
        }
    }

    fn set_will(&mut self, key: Key, will: Option<Will>) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        let changed = session.will.is_some() || will.is_some();
        session.will = will.map(Box::new);
        if changed {
            self.record_will(key);
        }
    }

    /// Emits the will of a durable session as it is now.
    pub(super) fn record_will(&mut self, key: Key) {
        let Some(session) = self.clients.sessions.get(key) else { return };
        let stored = |will: &Will| StoredWill {
            message: Arc::clone(&will.message),
            expiry_s: will.expiry_s,
            delay_s: will.delay_s,
        };
        let will = session.will.as_deref().map(stored);
        let will_lsn = self.record(key, |session| Record::Will { session, will });
        self.note_will(key, will_lsn);
    }

    /// The will is void.
    pub(super) fn clear_will(&mut self, key: Key) {
        let Some(session) = self.clients.sessions.get_mut(key) else { return };
        if session.will.take().is_some() {
            self.record(key, |session| Record::Will { session, will: None });
        }
    }

    /// Takes over what the client allows.
    fn tune_link(
        &mut self,
        conn: ConnId,
        connect: &Connect<'_>,
        (granted, offer): (&Granted, Rc<Offer>),
        now: Millis,
    ) {
        let (inflight_max, alias_max) =
            (self.settings.inflight_max, self.settings.topic_alias_out_maximum);
        let Some(connection) = self.clients.connection_mut(conn) else { return };
        let properties: Properties<'_> = connect.properties;
        let link = &mut connection.link;
        link.offer = Some(offer);
        link.window_bytes = self.settings.inflight_bytes_max;
        link.window = properties.receive_maximum().unwrap_or(u16::MAX).min(inflight_max);
        link.packet_bytes_max = properties.maximum_packet_size().unwrap_or(u32::MAX);
        // [MQTT-3.1.2-26] [MQTT-3.1.2-27]
        let aliases = properties.topic_alias_maximum().unwrap_or(0).min(alias_max);
        link.aliases = (aliases > 0).then(|| Box::new(AliasesOut::new(aliases)));
        // [MQTT-3.1.2-22] one and a half times the keep-alive
        connection.silence_ms_max = u32::from(granted.keep_alive_s) * 1500;
        let deadline = now.after(u64::from(connection.silence_ms_max));
        // Else the timer of CONNECT begins to look: who comes and goes at once leaves one timer.
        let is_soon = connection.connect_deadline.is_none_or(|due| deadline < due);
        if connection.silence_ms_max > 0 && is_soon {
            connection.connect_deadline = None;
            self.wait(deadline, Timer::KeepAlive(conn), now);
        }
    }

    /// Answers a CONNECT with an error and closes. [MQTT-3.2.2-7]
    pub(super) fn refuse(&mut self, conn: ConnId, reason: Reason) {
        self.clients.counters.connects_refused += 1;
        debug!(target: CONNECTIONS, conn = conn.index(), ?reason, "connection refused");
        // [MQTT-3.1.4-1] Who does not even send a CONNECT is not answered.
        let silent = matches!(
            reason,
            Reason::MalformedPacket | Reason::ProtocolError | Reason::PacketTooLarge
        );
        // [MQTT-3.2.2-6 of 3.1.1] Nor is he for whom 3.x has no return code.
        let silent =
            silent || (self.version_of(conn) != Version::V5 && reason.connack_code().is_none());
        if !silent {
            let properties = Properties::default();
            let connack = Connack { session_present: false, reason, properties };
            self.clients.packet(conn, &Packet::Connack(connack));
        }
        self.close(conn);
    }

    /// Answers a CONNECT that may have been true, and closes.
    fn refuse_client(&mut self, conn: ConnId, login: &Login, reason: Reason, now: Millis) {
        self.audit_refusal(login, format_args!("{reason:?}"), now);
        self.refuse(conn, reason);
    }

    /// The session of this client identifier, if it is connected.
    fn connected_key(&self, client_id: &ClientId) -> Option<Key> {
        let key = self.clients.by_id.get(client_id).copied()?;
        self.clients.sessions.get(key)?.connection.map(|_| key)
    }

    /// A client that asked later than this CONNECT has the session already.
    fn is_overtaken(&self, client_id: &ClientId, serial: u64) -> bool {
        let key = self.clients.by_id.get(client_id).copied();
        let session = key.and_then(|key| self.clients.sessions.get(key));
        session.is_some_and(|session| session.connection.is_some() && session.serial > serial)
    }
}

/// What a client gets.
struct Granted {
    expiry_s: u32,
    keep_alive_s: u16,
    properties: PropertyList,
}

impl Granted {
    /// The CONNACK that says so is within the client's Maximum Packet Size. It can't be left out,
    /// so who takes less is refused. [MQTT-3.1.2-24]
    fn fits(&self, connect: &Connect<'_>) -> bool {
        let Some(packet_bytes_max) = connect.properties.maximum_packet_size() else { return true };
        let properties = self.properties.as_properties();
        let connack = Connack { session_present: false, reason: Reason::Success, properties };
        let mut bytes = Vec::new();
        codec::encode(&Packet::Connack(connack), connect.version, &mut bytes);
        u32::try_from(bytes.len()).is_ok_and(|bytes| bytes <= packet_bytes_max)
    }
}

/// Seconds that the client wants its session to outlast the connection.
fn wanted_expiry_s(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V5 => connect.properties.session_expiry_interval().unwrap_or(0),
        Version::V31 | Version::V311 if connect.clean_start => 0,
        Version::V31 | Version::V311 => EXPIRY_NEVER,
    }
}
