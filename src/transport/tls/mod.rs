//! TLS 1.2 and 1.3, bytes in and bytes out: rustls without buffers of its own.
//!
//! Promise: no I/O and no waiting; a connection that is idle holds no buffer; no early data, no
//! renegotiation, no compression.
//!
//! ```text
//!  receive(wire) ─▶ rustls ─▶ records of plaintext ─▶ the next layer
//!  wire ◀── records ◀── rustls ◀── seal(output)
//! ```

mod acceptor;
mod certificate;

pub use acceptor::{
    Acceptor, ClientAuth, KeyPair, Material, Tickets, TlsError, UserName, Versions,
};

use crate::shard::Certificate;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use shards::Outgoing;
use std::sync::Arc;

/// Plaintext of one record.
const RECORD_BYTES_MAX: usize = 16 << 10;
/// What a record adds to its plaintext, at most.
const RECORD_EXTRA_BYTES: usize = 64;
/// Pieces of output from this size on are encrypted from where they are; smaller ones are copied
/// together first, so that they share a record.
const PIECE_BYTES_MIN: usize = 4 << 10;
/// Handshake messages and records that are not complete. More is an attack.
const HELD_BYTES_MAX: usize = 96 << 10;

/// Why a TLS connection ends from this side.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConnectionError {
    /// The peer broke the rules, or is not whom it has to be.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
    /// A message longer than any legal one.
    #[error("TLS: a message is too long")]
    TooLong,
}

/// One connection's TLS.
pub struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of what is not complete. Without memory while idle.
    held: Vec<u8>,
    ended: bool,
    /// Nothing is sent any more.
    closed: bool,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys stay out of every text.
        let Tls { connection: _, held, ended, closed } = self;
        let held_bytes = held.len();
        write!(out, "Tls {{ held_bytes: {held_bytes}, ended: {ended}, closed: {closed} }}")
    }
}

impl Tls {
    /// Waits for a `ClientHello`.
    ///
    /// # Errors
    /// [`ConnectionError`] if the configuration cannot serve anybody.
    pub fn new(acceptor: &Acceptor) -> Result<Self, ConnectionError> {
        let connection = UnbufferedServerConnection::new(acceptor.config())?;
        Ok(Tls { connection, held: Vec::new(), ended: false, closed: false })
    }

    /// Until the peer is known and bytes of the next layer can flow.
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The peer sends nothing any more.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Takes bytes of the peer: records are decrypted to the end of `plain`, what TLS itself has
    /// to say is appended to `wire`.
    ///
    /// # Errors
    /// [`ConnectionError`]; the alert for the peer is in `wire`.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), ConnectionError> {
        self.held.extend_from_slice(bytes);
        let mut used = 0;
        let result = self.process(&mut used, plain, wire);
        if result.is_err() {
            self.take_alert(used, wire);
        }
        self.held.drain(..used.min(self.held.len()));
        if self.held.is_empty() {
            self.held = Vec::new();
        }
        if result.is_ok() && self.held.len() > HELD_BYTES_MAX {
            return Err(ConnectionError::TooLong);
        }
        result
    }

    /// Takes records from the front of what is held and counts their bytes in `used`.
    ///
    /// The library remembers where in this buffer the parts of a message are: it must get the same
    /// bytes again, without those used.
    fn process(
        &mut self,
        used: &mut usize,
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), ConnectionError> {
        loop {
            let rest = self.held.get_mut(*used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    *used += discard;
                    return Err(error.into());
                }
            };
            let more = match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, wire)?;
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    true
                }
                ConnectionState::Closed => {
                    self.ended = true;
                    false
                }
                // The configuration allows no early data, so it never comes here.
                ConnectionState::ReadEarlyData(_)
                | ConnectionState::BlockedHandshake
                | ConnectionState::WriteTraffic(_)
                | _ => false,
            };
            *used += discard;
            if !more {
                return Ok(());
            }
        }
    }

    /// Lets out the alert that an error has left inside. Nothing is sent or received after it.
    ///
    /// One call and no more: the library gives what waits before it looks at the bytes that made
    /// the error, and those would make it a second time.
    fn take_alert(&mut self, used: usize, wire: &mut Vec<u8>) {
        self.closed = true;
        let rest = self.held.get_mut(used..).unwrap_or_default();
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(rest);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = state {
            let _ = encode(&mut data, wire);
        }
    }

    /// Encrypts `output` to the end of `wire`.
    ///
    /// # Errors
    /// [`ConnectionError`] if the connection cannot carry data (any more).
    pub fn seal(&mut self, output: &Outgoing, wire: &mut Vec<u8>) -> Result<(), ConnectionError> {
        if output.shared.is_empty() {
            return self.encrypt(&output.bytes, wire);
        }
        let mut small = Vec::new();
        for slice in output.slices(0) {
            if slice.len() < PIECE_BYTES_MIN {
                small.extend_from_slice(slice);
                continue;
            }
            self.encrypt(&small, wire)?;
            small.clear();
            self.encrypt(slice, wire)?;
        }
        self.encrypt(&small, wire)
    }

    fn encrypt(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), ConnectionError> {
        if plain.is_empty() || self.closed {
            return Ok(());
        }
        let records = plain.len().div_ceil(RECORD_BYTES_MAX);
        let room = plain.len() + records * RECORD_EXTRA_BYTES;
        self.write(wire, room, |traffic, into| match traffic.encrypt(plain, into) {
            Ok(written) => Ok(written),
            Err(EncryptError::InsufficientSize(size)) => Err(Short::Room(size.required_size)),
            Err(EncryptError::EncryptExhausted) => Err(Short::Exhausted),
        })
    }

    /// Ends this direction: the peer knows that nothing was cut off.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        if !self.closed && !self.is_handshaking() {
            let _ = self.write(wire, RECORD_EXTRA_BYTES, |traffic, into| {
                match traffic.queue_close_notify(into) {
                    Ok(written) => Ok(written),
                    Err(EncryptError::InsufficientSize(size)) => {
                        Err(Short::Room(size.required_size))
                    }
                    Err(EncryptError::EncryptExhausted) => Err(Short::Exhausted),
                }
            });
        }
        self.closed = true;
    }

    /// Lets `write` fill `room` bytes at the end of `wire`, with more room if it asks for it.
    fn write(
        &mut self,
        wire: &mut Vec<u8>,
        mut room: usize,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, Short>,
    ) -> Result<(), ConnectionError> {
        loop {
            // With what is held: see `process`. It holds no whole record, so nothing is used up.
            let UnbufferedStatus { state, .. } =
                self.connection.process_tls_records(&mut self.held);
            match state? {
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, wire)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.ended = true,
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = wire.len();
                    wire.resize(start + room, 0);
                    let into = wire.get_mut(start..).unwrap_or_default();
                    let written = write(&mut traffic, into);
                    wire.truncate(start + written.as_ref().copied().unwrap_or(0));
                    match written {
                        Ok(_) => return Ok(()),
                        Err(Short::Room(more)) if more > room => room = more,
                        Err(Short::Room(_) | Short::Exhausted) => {
                            return Err(rustls::Error::EncryptError.into());
                        }
                    }
                }
                ConnectionState::ReadTraffic(_)
                | ConnectionState::Closed
                | ConnectionState::ReadEarlyData(_)
                | ConnectionState::BlockedHandshake
                | _ => return Err(rustls::Error::HandshakeNotComplete.into()),
            }
        }
    }

    /// Who the peer has proved to be, once the handshake is over. `None` without a certificate.
    pub fn certificate(&self, acceptor: &Acceptor) -> Option<Arc<Certificate>> {
        let leaf = self.connection.peer_certificates()?.first()?;
        certificate::read(leaf, acceptor.user_name()).map(Arc::new)
    }

    /// Version and cipher suite, for the log.
    pub fn describe(&self) -> String {
        let version = self.connection.protocol_version();
        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        format!("{version:?} {suite:?} {:?}", self.connection.handshake_kind())
    }
}

/// Why a record was not written.
#[derive(Clone, Copy, Debug)]
enum Short {
    Room(usize),
    /// The keys have encrypted as much as they may.
    Exhausted,
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, wire: &mut Vec<u8>) -> Result<(), ConnectionError> {
    let start = wire.len();
    let mut room = 0;
    loop {
        wire.resize(start + room, 0);
        match data.encode(wire.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                wire.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) if size.required_size > room => {
                room = size.required_size;
            }
            Err(EncodeError::InsufficientSize(_) | EncodeError::AlreadyEncoded) => {
                wire.truncate(start);
                return Err(rustls::Error::General("a message was not encoded".into()).into());
            }
        }
    }
}

#[cfg(test)]
mod tests;
