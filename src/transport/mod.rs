//! Between the bytes of a socket and those of MQTT: PROXY header, TLS, WebSocket.
//!
//! Promise: pure. Bytes of the peer go in, bytes of MQTT and bytes for the peer come out; nothing
//! is read, written or waited for here. The state of a connection is [`Send`]: it moves with the
//! socket to the shard of its client.
//!
//! ```text
//!  wire ─▶ PROXY header ─▶ TLS ─▶ WebSocket ─▶ MQTT         receive
//!  wire ◀───────────────── TLS ◀─ WebSocket ◀─ MQTT         seal
//! ```
//!
//! A plain TCP connection has no [`Stack`] at all.

pub mod proxy;
pub mod tls;
pub mod websocket;

use crate::access::Network;
use crate::shard::Certificate;
use proxy::ProxyError;
use shards::Outgoing;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tls::{Acceptor, ConnectionError, Tls};
use websocket::{Websocket, WebsocketError};

/// What a listener speaks below MQTT.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Every connection begins with a PROXY header.
    pub proxy: Option<Arc<proxy::Settings>>,
    /// TLS and its certificates.
    pub tls: Option<Arc<Acceptor>>,
    /// WebSocket.
    pub websocket: Option<Arc<websocket::Settings>>,
}

/// Why a connection ends below MQTT.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The sender may not speak for others.
    #[error("a PROXY header is due, and this address may not send one")]
    Untrusted,
    /// No PROXY header where one has to be.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] ConnectionError),
    /// The WebSocket was refused or broke the rules.
    #[error(transparent)]
    Websocket(#[from] WebsocketError),
}

/// What receiving has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// More may come.
    Open,
    /// The peer has ended in good order.
    Ended,
}

/// The layers of one connection.
#[derive(Debug)]
pub struct Stack {
    /// Beginning of a PROXY header; `None` when none is due (any more).
    proxy: Option<(Vec<u8>, proxy::Versions)>,
    /// Boxed, because other connections have none.
    tls: Option<(Box<Tls>, Arc<Acceptor>)>,
    websocket: Option<(Websocket, Arc<websocket::Settings>)>,
    /// What the layers have to say; it leaves before the next output.
    wire: Vec<u8>,
    /// The client's address, as far as it is known.
    address: Option<SocketAddr>,
    /// The layers have ended from this side.
    finished: bool,
}

impl Stack {
    /// The layers of a new connection. `None`: there are none, bytes of the peer are MQTT.
    ///
    /// # Errors
    /// [`Fault`] if this peer is not served at all.
    pub fn new(settings: &Settings, peer: Option<SocketAddr>) -> Result<Option<Box<Self>>, Fault> {
        // A Unix socket has rights of its own: who may open it is trusted.
        if let Some(proxy) = &settings.proxy
            && let Some(peer) = peer
            && !trusts(&proxy.trusted, peer.ip())
        {
            return Err(Fault::Untrusted);
        }
        let proxy = settings.proxy.as_ref().map(|proxy| (Vec::new(), proxy.versions));
        let tls = match &settings.tls {
            None => None,
            Some(acceptor) => Some((Box::new(Tls::new(acceptor)?), Arc::clone(acceptor))),
        };
        let websocket = settings.websocket.as_ref().map(|own| (Websocket::new(), Arc::clone(own)));
        if proxy.is_none() && tls.is_none() && websocket.is_none() {
            return Ok(None);
        }
        Ok(Some(Box::new(Stack {
            proxy,
            tls,
            websocket,
            wire: Vec::new(),
            address: peer,
            finished: false,
        })))
    }

    /// Takes bytes of the peer; those of MQTT are appended to `mqtt`.
    ///
    /// # Errors
    /// [`Fault`]; what the peer is to be told comes with [`Self::seal`]. Nothing is received after
    /// it.
    pub fn receive(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<Arrival, Fault> {
        let result = match self.proxy.take() {
            None => self.receive_tls(bytes, mqtt),
            Some((held, versions)) => self.receive_proxy(held, versions, bytes, mqtt),
        };
        if result.is_err()
            && let Some((tls, _)) = &mut self.tls
        {
            tls.finish(&mut self.wire);
        }
        result
    }

    fn receive_proxy(
        &mut self,
        mut held: Vec<u8>,
        versions: proxy::Versions,
        bytes: &[u8],
        mqtt: &mut Vec<u8>,
    ) -> Result<Arrival, Fault> {
        held.extend_from_slice(bytes);
        let Some(header) = proxy::parse(&held, versions)? else {
            self.proxy = Some((held, versions));
            return Ok(Arrival::Open);
        };
        if let Some(source) = header.source {
            self.address = Some(source);
        }
        let rest = held.get(header.header_bytes..).unwrap_or_default();
        self.receive_tls(rest, mqtt)
    }

    fn receive_tls(&mut self, bytes: &[u8], mqtt: &mut Vec<u8>) -> Result<Arrival, Fault> {
        let Some((tls, _)) = &mut self.tls else {
            return receive_websocket(
                &mut self.websocket,
                &mut self.address,
                bytes,
                mqtt,
                &mut self.wire,
            );
        };
        if self.websocket.is_none() {
            tls.receive(bytes, mqtt, &mut self.wire)?;
            return Ok(if tls.is_ended() { Arrival::Ended } else { Arrival::Open });
        }
        let (mut frames, mut answers) = (Vec::new(), Vec::new());
        tls.receive(bytes, &mut frames, &mut self.wire)?;
        let received =
            receive_websocket(&mut self.websocket, &mut self.address, &frames, mqtt, &mut answers);
        // What the WebSocket answers travels inside TLS.
        let answers = Outgoing { bytes: answers, shared: Vec::new() };
        tls.seal(&answers, &mut self.wire)?;
        let ended = tls.is_ended();
        received.map(|arrival| if ended { Arrival::Ended } else { arrival })
    }

    /// Puts `output` into the layers, behind what they have to say themselves. With `last` the
    /// layers end too. `None`: there is nothing to send.
    ///
    /// Gives the buffer back that is not needed any more.
    ///
    /// # Errors
    /// [`Fault`] if nothing can be sent.
    pub fn seal(&mut self, output: Option<Outgoing>, last: Last) -> Result<Sealed, Fault> {
        let mut output = output.unwrap_or_default();
        self.finished |= last == Last::Yes;
        if let Some((websocket, _)) = &mut self.websocket {
            let mut before = Vec::new();
            websocket.answer(&mut before);
            if !output.is_empty() {
                websocket.seal(&mut output);
            }
            if !before.is_empty() {
                output.shared.insert(0, (0, before.into()));
            }
            if last == Last::Yes {
                websocket.finish(&mut output.bytes);
            }
        }
        let mut wire = std::mem::take(&mut self.wire);
        let Some((tls, _)) = &mut self.tls else {
            if !wire.is_empty() {
                output.shared.insert(0, (0, wire.into()));
            }
            let outgoing = (!output.is_empty()).then_some(output);
            return Ok(Sealed { outgoing, spare: None });
        };
        if !output.is_empty() {
            tls.seal(&output, &mut wire)?;
        }
        if last == Last::Yes {
            tls.finish(&mut wire);
        }
        let outgoing = Outgoing { bytes: wire, shared: Vec::new() };
        let outgoing = (!outgoing.is_empty()).then_some(outgoing);
        Ok(Sealed { outgoing, spare: Some(output.bytes) })
    }

    /// Whether [`Self::seal`] would give something without any output.
    pub fn has_output(&self) -> bool {
        !self.wire.is_empty()
            || self.websocket.as_ref().is_some_and(|(websocket, _)| websocket.has_output())
    }

    /// Whether the layers have said goodbye: nothing follows any more.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether TLS is still being agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|(tls, _)| tls.is_handshaking())
    }

    /// Whether all that it did is done: bytes of the peer are MQTT from now on.
    pub fn is_spent(&self) -> bool {
        self.proxy.is_none() && self.tls.is_none() && self.websocket.is_none()
    }

    /// The client's address: the peer's, or what a trusted proxy said.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Who the client has proved to be.
    pub fn certificate(&self) -> Option<Arc<Certificate>> {
        let (tls, acceptor) = self.tls.as_ref()?;
        tls.certificate(acceptor)
    }

    /// Version and cipher suite of TLS, for the log.
    pub fn describe(&self) -> Option<String> {
        self.tls.as_ref().map(|(tls, _)| tls.describe())
    }
}

/// Is an output the last of its connection?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// The layers say goodbye behind it.
    Yes,
    /// More may follow.
    No,
}

/// What [`Stack::seal`] made.
#[derive(Debug)]
pub struct Sealed {
    /// What is to be sent.
    pub outgoing: Option<Outgoing>,
    /// A buffer that is free again.
    pub spare: Option<Vec<u8>>,
}

/// Is the address in one of the networks?
fn trusts(networks: &[Network], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(address))
}

fn receive_websocket(
    websocket: &mut Option<(Websocket, Arc<websocket::Settings>)>,
    address: &mut Option<SocketAddr>,
    bytes: &[u8],
    mqtt: &mut Vec<u8>,
    wire: &mut Vec<u8>,
) -> Result<Arrival, Fault> {
    let Some((websocket, settings)) = websocket else {
        mqtt.extend_from_slice(bytes);
        return Ok(Arrival::Open);
    };
    let peer: Option<IpAddr> = address.map(|address| address.ip());
    let arrived = websocket.receive(bytes, settings, peer, mqtt, wire)?;
    if let Some(client) = arrived.forwarded_for {
        // The header names no port.
        *address = Some(SocketAddr::new(client, 0));
    }
    Ok(if arrived.ended { Arrival::Ended } else { Arrival::Open })
}
