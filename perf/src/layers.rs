//! TLS and WebSocket below MQTT, on the side of the client.
//!
//! ```text
//! socket ─▶ TLS records ─▶ WebSocket frames ─▶ MQTT        receive
//! socket ◀─ TLS records ◀─ WebSocket frame ◀── MQTT        seal
//! ```
//! Plain TCP has no layers at all. MQTT bytes that come before the handshakes are done wait.

mod websocket;

use anyhow::{Context, Result};
use clap::ValueEnum;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use websocket::Websocket;

/// What lies between a socket and MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Nothing.
    Tcp,
    /// TLS 1.3 or 1.2; every connection makes a full handshake.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Is there TLS.
    pub(crate) fn is_secure(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// What all connections of a run have in common below MQTT.
#[derive(Clone, Debug)]
pub(crate) struct Below {
    tls: Option<Arc<ClientConfig>>,
    websocket: bool,
    host: SocketAddr,
}

impl Below {
    /// Prepares for `transport` to `host`.
    ///
    /// # Errors
    /// If `ca_file` cannot be read or holds no certificate.
    pub(crate) fn new(transport: Transport, ca: Option<&Path>, host: SocketAddr) -> Result<Self> {
        let tls = transport.is_secure().then(|| client_config(ca)).transpose()?;
        Ok(Self { tls: tls.map(Arc::new), websocket: transport.is_websocket(), host })
    }

    /// Layers of one connection; `None` for plain TCP. `seed` makes the masks of its frames.
    pub(crate) fn layers(&self, seed: u64) -> Result<Option<Box<Layers>>> {
        if self.tls.is_none() && !self.websocket {
            return Ok(None);
        }
        let tls = self.tls.clone().map(|config| {
            ClientConnection::new(config, ServerName::from(self.host.ip())).context("opening TLS")
        });
        let mut tls = tls.transpose()?;
        if let Some(tls) = &mut tls {
            // What a turn sends is bounded by the window of its publishers.
            tls.set_buffer_limit(None);
        }
        let websocket = self.websocket.then(|| Websocket::new(&self.host.to_string(), seed));
        Ok(Some(Box::new(Layers { tls, websocket, inner: Vec::new() })))
    }
}

fn client_config(ca: Option<&Path>) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?;
    let mut config = if let Some(path) = ca {
        let mut roots = RootCertStore::empty();
        let name = path.display();
        for certificate in CertificateDer::pem_file_iter(path).context(format!("reading {name}"))? {
            roots.add(certificate.with_context(|| format!("reading {name}"))?)?;
        }
        anyhow::ensure!(!roots.is_empty(), "{name} holds no certificate");
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let anybody = Arc::new(Anybody { provider });
        builder.dangerous().with_custom_certificate_verifier(anybody).with_no_client_auth()
    };
    // Connections that continue an earlier one would cost the broker less than those of new
    // clients.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Takes any certificate: a load generator talks to brokers of its own user. Signatures are
/// checked.
struct Anybody {
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Anybody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Anybody")
    }
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Layers of one connection.
#[derive(Debug)]
pub(crate) struct Layers {
    tls: Option<ClientConnection>,
    websocket: Option<Websocket>,
    /// Between the two, empty between calls.
    inner: Vec<u8>,
}

impl Layers {
    /// Takes what the socket brought; appends bytes of MQTT to `mqtt`.
    ///
    /// # Errors
    /// If the peer breaks the rules of a layer or ends it.
    pub(crate) fn receive(&mut self, mut wire: &[u8], mqtt: &mut Vec<u8>) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            let Some(websocket) = &mut self.websocket else { return Ok(()) };
            return websocket.receive(wire, mqtt);
        };
        while !wire.is_empty() {
            tls.read_tls(&mut wire).context("reading TLS")?;
            tls.process_new_packets().context("the broker's TLS")?;
            let into = if self.websocket.is_some() { &mut self.inner } else { &mut *mqtt };
            match tls.reader().read_to_end(into) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("the broker ended TLS"),
            }
        }
        if let Some(websocket) = &mut self.websocket {
            websocket.receive(&self.inner, mqtt)?;
            self.inner.clear();
        }
        Ok(())
    }

    /// Is there something to send besides MQTT.
    pub(crate) fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
            || self.websocket.as_ref().is_some_and(Websocket::wants_write)
    }

    /// Takes `mqtt`, as far as the handshakes allow; appends bytes for the socket to `wire`.
    pub(crate) fn seal(&mut self, mqtt: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            if let Some(websocket) = &mut self.websocket {
                websocket.seal(mqtt, wire);
            }
            return Ok(());
        };
        let plain = if let Some(websocket) = &mut self.websocket {
            websocket.seal(mqtt, &mut self.inner);
            &mut self.inner
        } else {
            mqtt
        };
        tls.writer().write_all(plain).context("sealing")?;
        plain.clear();
        while tls.wants_write() {
            tls.write_tls(wire).context("sealing")?;
        }
        Ok(())
    }
}
