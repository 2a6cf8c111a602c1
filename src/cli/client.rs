//! A small blocking MQTT client over one TCP connection, for `pub` and `sub`.
//!
//! Promise: output is collected until the next wait or flush; keep-alive pings leave on time while
//! waiting; whatever ends the connection becomes a [`Failure`] with its exit status.
//! Not here: windows and acknowledgements (publish, subscribe).
//!
//!   wait ─▶ flush, poll ─▶ read ─▶ drain: packet ─▶ caller ─▶ send ─▶ (next wait)

use super::clock::now_ms;
use super::connection::Target;
use super::failure::{Failure, status};
use crate::codec::{
    Connect, Disconnect, PACKET_BYTES_MAX, Packet, PacketId, Properties, PropertyList, Qos, Reason,
    Version, Will, decode, encode,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Time for the TCP connection and again for CONNACK.
const CONNECT_TIMEOUT_MS: u64 = 30_000;
/// A server that takes no byte for this long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_mins(1);
/// Time for the server to close after DISCONNECT.
const CLOSE_TIMEOUT_MS: u64 = 1000;
const READ_BYTES: usize = 64 << 10;
/// Collected output above which it is sent before the next wait.
pub(super) const FLUSH_BYTES: usize = 64 << 10;

/// A connection whose CONNECT was accepted.
pub(super) struct Client {
    link: Link,
    inbox: Inbox,
}

/// The sending half and what the server said in CONNACK.
pub(super) struct Link {
    socket: TcpStream,
    outbox: Vec<u8>,
    version: Version,
    keep_alive_ms: Option<u64>,
    last_sent_ms: u64,
    /// Since when a PINGREQ is not answered.
    pinged_ms: Option<u64>,
    debug: bool,
    client_id: String,
    last_packet_id: u16,
    pub(super) server: Server,
}

/// Limits of the server; those of CONNACK, or what their absence means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) receive_maximum: u16,
    pub(super) packet_bytes_max: u32,
    pub(super) maximum_qos: Qos,
    pub(super) retain_available: bool,
    pub(super) topic_alias_maximum: u16,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Bytes came; see [`Client::drain`].
    Socket,
    /// This one of the other descriptors is ready or closed.
    Other(usize),
    /// The given time has come.
    Time,
}

impl Client {
    /// Connects and waits for CONNACK, until `deadline_ms` at the latest.
    pub(super) fn connect(target: &Target, deadline_ms: Option<u64>) -> Result<Self, Failure> {
        let socket = dial(target, deadline_ms)?;
        let keep_alive_ms =
            (target.keep_alive_s > 0).then(|| u64::from(target.keep_alive_s) * 1000);
        let link = Link {
            socket,
            outbox: Vec::new(),
            version: target.version,
            keep_alive_ms,
            last_sent_ms: now_ms(),
            pinged_ms: None,
            debug: target.debug,
            client_id: target.client_id.clone(),
            last_packet_id: 0,
            server: Server::of(Properties::default()),
        };
        let mut client = Self { link, inbox: Inbox::default() };
        client.link.send(&Packet::Connect(connect_packet(target)));
        let patience_ms = now_ms() + CONNECT_TIMEOUT_MS;
        let deadline_ms = deadline_ms.map_or(patience_ms, |deadline| deadline.min(patience_ms));
        loop {
            if client.wait(Some(deadline_ms), &[])? == Woken::Time {
                return Err(timed_out());
            }
            if client.drain(Link::on_connack)?.is_break() {
                return Ok(client);
            }
        }
    }

    /// The sending half.
    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Sends what is collected, then sleeps until bytes come, one of `others` is ready, or
    /// `until_ms`. Sends pings meanwhile.
    pub(super) fn wait(
        &mut self,
        until_ms: Option<u64>,
        others: &[(BorrowedFd<'_>, PollFlags)],
    ) -> Result<Woken, Failure> {
        loop {
            let ping_ms = self.link.keep_alive()?;
            self.link.flush()?;
            let wake_ms = [until_ms, ping_ms].into_iter().flatten().min();
            let mut fds = vec![PollFd::new(&self.link.socket, PollFlags::IN)];
            fds.extend(others.iter().map(|(fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            match poll(&mut fds, wake_ms.map(timespec_until).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(Failure::system("poll", &errno.into())),
            }
            match fds.iter().position(|fd| !fd.revents().is_empty()) {
                Some(0) => {
                    self.inbox.fill(&self.link.socket)?;
                    return Ok(Woken::Socket);
                }
                Some(other) => return Ok(Woken::Other(other - 1)),
                None => {}
            }
            if until_ms.is_some_and(|until_ms| now_ms() >= until_ms) {
                return Ok(Woken::Time);
            }
        }
    }

    /// Hands every complete packet to `on_packet` until it breaks. Pings and the server's
    /// DISCONNECT are dealt with here.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is the caller's")]
    pub(super) fn drain(
        &mut self,
        mut on_packet: impl FnMut(&mut Link, Packet<'_>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<ControlFlow<()>, Failure> {
        let Self { link, inbox } = self;
        loop {
            let decoded = decode(inbox.unread(), link.version, PACKET_BYTES_MAX);
            let Some((packet, bytes)) = decoded.map_err(|error| protocol(&error.to_string()))?
            else {
                return Ok(ControlFlow::Continue(()));
            };
            link.log("received", &packet);
            let flow = match packet {
                Packet::Pingresp => {
                    link.pinged_ms = None;
                    ControlFlow::Continue(())
                }
                Packet::Disconnect(Disconnect { reason, properties }) => {
                    return Err(Failure::lost(with_reason(reason, properties)));
                }
                packet => on_packet(link, packet)?,
            };
            inbox.consume(bytes);
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }

    /// Says goodbye and waits a moment until the server has closed: bytes that are still on their
    /// way to us would otherwise reset the connection and could take our last messages with them.
    pub(super) fn disconnect(mut self, properties: &PropertyList) -> Result<(), Failure> {
        let reason = Reason::NORMAL_DISCONNECTION;
        let properties = properties.as_properties();
        self.link.send(&Packet::Disconnect(Disconnect { reason, properties }));
        self.link.flush()?;
        if self.link.socket.shutdown(Shutdown::Write).is_err() {
            return Ok(());
        }
        self.link.keep_alive_ms = None;
        let until_ms = now_ms() + CLOSE_TIMEOUT_MS;
        while matches!(self.wait(Some(until_ms), &[]), Ok(Woken::Socket)) {
            self.inbox.clear();
        }
        Ok(())
    }
}

impl Link {
    /// Appends a packet to the output.
    pub(super) fn send(&mut self, packet: &Packet<'_>) {
        self.log("sending", packet);
        encode(packet, self.version, &mut self.outbox);
    }

    /// Sends the output if there is much of it.
    pub(super) fn flush_if_full(&mut self) -> Result<(), Failure> {
        if self.outbox.len() >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Throws away what was not sent yet.
    pub(super) fn discard(&mut self) {
        self.outbox.clear();
    }

    /// Protocol version of the connection.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// The next packet identifier that is not `used`; at least one of the 65,535 must be free.
    pub(super) fn next_packet_id(&mut self, used: impl Fn(PacketId) -> bool) -> PacketId {
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            match PacketId::new(self.last_packet_id) {
                Some(id) if !used(id) => return id,
                Some(_) | None => {}
            }
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        self.socket.write_all(&self.outbox).map_err(|error| lost(&error))?;
        self.outbox.clear();
        // One large message should not keep its memory for the rest of the run.
        self.outbox.shrink_to(4 * FLUSH_BYTES);
        self.last_sent_ms = now_ms();
        Ok(())
    }

    /// Sends a ping if it is time; says when to look again.
    fn keep_alive(&mut self) -> Result<Option<u64>, Failure> {
        let Some(interval_ms) = self.keep_alive_ms else { return Ok(None) };
        let now_ms = now_ms();
        if let Some(pinged_ms) = self.pinged_ms {
            if now_ms >= pinged_ms + interval_ms {
                return Err(Failure::lost("the server does not answer pings"));
            }
            return Ok(Some(pinged_ms + interval_ms));
        }
        if now_ms >= self.last_sent_ms + interval_ms {
            self.send(&Packet::Pingreq);
            self.pinged_ms = Some(now_ms);
            return Ok(Some(now_ms + interval_ms));
        }
        Ok(Some(self.last_sent_ms + interval_ms))
    }

    fn on_connack(&mut self, packet: Packet<'_>) -> Result<ControlFlow<()>, Failure> {
        let Packet::Connack(connack) = packet else {
            return Err(protocol("the server's first packet is no CONNACK"));
        };
        if connack.reason != Reason::Success {
            let why = with_reason(connack.reason, connack.properties);
            let status = refusal_status(connack.reason, self.version);
            return Err(Failure::new(status, format!("connection refused: {why}")));
        }
        self.server = Server::of(connack.properties);
        if let Some(seconds) = connack.properties.server_keep_alive() {
            self.keep_alive_ms = (seconds > 0).then(|| u64::from(seconds) * 1000);
        }
        if let Some(id) = connack.properties.assigned_client_identifier() {
            id.clone_into(&mut self.client_id);
        }
        Ok(ControlFlow::Break(()))
    }

    /// One line per packet with `-d`; payloads are not shown.
    fn log(&self, verb: &str, packet: &Packet<'_>) {
        if !self.debug {
            return;
        }
        let what = match packet {
            Packet::Connect(_) => "CONNECT".to_owned(),
            Packet::Connack(connack) => format!("CONNACK ({:?})", connack.reason),
            Packet::Publish(publish) => format!(
                "PUBLISH (d{}, q{}, r{}, m{}, '{}', ... ({} bytes))",
                u8::from(publish.dup),
                publish.qos as u8,
                u8::from(publish.retain),
                publish.packet_id.map_or(0, PacketId::get),
                publish.topic,
                publish.payload.len()
            ),
            Packet::Puback(ack) => acknowledgement("PUBACK", ack),
            Packet::Pubrec(ack) => acknowledgement("PUBREC", ack),
            Packet::Pubrel(ack) => acknowledgement("PUBREL", ack),
            Packet::Pubcomp(ack) => acknowledgement("PUBCOMP", ack),
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.filters.iter();
                let filters: Vec<_> = filters.map(|one| (one.filter, one.options.qos)).collect();
                format!("SUBSCRIBE (Mid: {}, {filters:?})", subscribe.packet_id.get())
            }
            Packet::Suback(suback) => {
                format!("SUBACK (Mid: {}, {:?})", suback.packet_id.get(), suback.reasons)
            }
            Packet::Unsubscribe(unsubscribe) => {
                let id = unsubscribe.packet_id.get();
                format!("UNSUBSCRIBE (Mid: {id}, {:?})", unsubscribe.filters)
            }
            Packet::Unsuback(unsuback) => {
                format!("UNSUBACK (Mid: {}, {:?})", unsuback.packet_id.get(), unsuback.reasons)
            }
            Packet::Pingreq => "PINGREQ".to_owned(),
            Packet::Pingresp => "PINGRESP".to_owned(),
            Packet::Disconnect(disconnect) => format!("DISCONNECT ({:?})", disconnect.reason),
            Packet::Auth(auth) => format!("AUTH ({:?})", auth.reason),
        };
        super::say(&format!("Client {} {verb} {what}", self.client_id));
    }
}

fn acknowledgement(name: &str, ack: &crate::codec::Ack<'_>) -> String {
    format!("{name} (Mid: {}, {:?})", ack.packet_id.get(), ack.reason)
}

impl Server {
    fn of(properties: Properties<'_>) -> Self {
        Self {
            receive_maximum: properties.receive_maximum().unwrap_or(u16::MAX),
            packet_bytes_max: properties.maximum_packet_size().unwrap_or(PACKET_BYTES_MAX),
            maximum_qos: properties.maximum_qos().unwrap_or(Qos::ExactlyOnce),
            retain_available: properties.retain_available().unwrap_or(true),
            topic_alias_maximum: properties.topic_alias_maximum().unwrap_or(0),
        }
    }
}

/// Received bytes that are not decoded yet.
#[derive(Default)]
struct Inbox {
    bytes: Vec<u8>,
    /// Where the first undecoded byte stands.
    start: usize,
}

impl Inbox {
    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn consume(&mut self, bytes: usize) {
        self.start += bytes;
    }

    fn clear(&mut self) {
        self.start = self.bytes.len();
    }

    /// One read of what is there.
    fn fill(&mut self, mut socket: &TcpStream) -> Result<(), Failure> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let filled = self.bytes.len();
        // A large packet is read in larger and larger pieces.
        self.bytes.resize(filled + READ_BYTES.max(filled), 0);
        let room = self.bytes.get_mut(filled..).unwrap_or_default();
        let result = socket.read(room);
        self.bytes.truncate(filled + result.as_ref().map_or(0, |bytes| *bytes));
        match result {
            Ok(0) => Err(Failure::lost("closed by the server")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(lost(&error)),
        }
    }
}

fn dial(target: &Target, deadline_ms: Option<u64>) -> Result<TcpStream, Failure> {
    let Target { host, port, .. } = target;
    let addresses = (host.as_str(), *port)
        .to_socket_addrs()
        .map_err(|_| Failure::new(status::LOOKUP, format!("{host}: no such host")))?;
    let mut failure = Failure::new(status::LOOKUP, format!("{host}: no address"));
    for address in addresses {
        let left_ms = deadline_ms.map_or(u64::MAX, |deadline| deadline.saturating_sub(now_ms()));
        let timeout = Duration::from_millis(left_ms.clamp(1, CONNECT_TIMEOUT_MS));
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => {
                let options = socket
                    .set_nodelay(true)
                    .and_then(|()| socket.set_write_timeout(Some(WRITE_TIMEOUT)));
                options.map_err(|error| Failure::system("socket", &error))?;
                return Ok(socket);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => failure = timed_out(),
            Err(error) => failure = Failure::system(format_args!("{host}:{port}"), &error),
        }
    }
    Err(failure)
}

fn connect_packet(target: &Target) -> Connect<'_> {
    Connect {
        version: target.version,
        bridge: false,
        clean_start: target.clean_start,
        keep_alive_s: target.keep_alive_s,
        properties: target.properties.connect.as_properties(),
        client_id: &target.client_id,
        will: target.will.as_ref().map(|will| Will {
            qos: will.qos,
            retain: will.retain,
            properties: target.properties.will.as_properties(),
            topic: &will.topic,
            payload: will.payload.as_bytes(),
        }),
        username: target.username.as_deref(),
        password: target.password.as_deref().map(str::as_bytes),
    }
}

/// The CONNACK code: 1 to 5 before 5.0, else the reason code.
fn refusal_status(reason: Reason, version: Version) -> u8 {
    match (version, reason) {
        (Version::V5, reason) => reason as u8,
        (_, Reason::UnsupportedProtocolVersion) => 1,
        (_, Reason::ClientIdentifierNotValid) => 2,
        (_, Reason::ServerUnavailable) => 3,
        (_, Reason::BadUserNameOrPassword) => 4,
        (_, _) => 5,
    }
}

/// `NotAuthorized` as `not authorized`, with the server's own words if it gave any.
pub(super) fn with_reason(reason: Reason, properties: Properties<'_>) -> String {
    let mut words = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    match properties.reason_string() {
        Some(text) => format!("{words} ({})", text.escape_debug()),
        None => words,
    }
}

/// The server said something that the protocol does not allow.
pub(super) fn protocol(why: &str) -> Failure {
    Failure::new(status::PROTOCOL, format!("protocol error: {why}"))
}

/// `-W` is over, or the server does not answer.
pub(super) fn timed_out() -> Failure {
    Failure::new(status::TIMEOUT, "timed out")
}

fn lost(error: &std::io::Error) -> Failure {
    // The write timeout; the system calls it "try again".
    if error.kind() == ErrorKind::WouldBlock {
        return Failure::lost("the server takes no more bytes");
    }
    Failure::lost(Failure::system("socket", error))
}

fn timespec_until(deadline_ms: u64) -> Timespec {
    let left = Duration::from_millis(deadline_ms.saturating_sub(now_ms()));
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_end_with_the_connack_code() {
        assert_eq!(refusal_status(Reason::NotAuthorized, Version::V311), 5);
        assert_eq!(refusal_status(Reason::ClientIdentifierNotValid, Version::V31), 2);
        assert_eq!(refusal_status(Reason::NotAuthorized, Version::V5), 0x87);
    }

    #[test]
    fn reasons_read_as_words() {
        let mut list = PropertyList::new();
        assert_eq!(with_reason(Reason::NotAuthorized, list.as_properties()), "not authorized");
        list.push(crate::codec::Property::ReasonString("a\nb"));
        let text = with_reason(Reason::QuotaExceeded, list.as_properties());
        assert_eq!(text, "quota exceeded (a\\nb)");
    }
}
