//! MQTT over WebSocket: the server's half of RFC 6455, for binary frames only.
//!
//! Promise: what comes out is the stream of bytes that went in, whatever the frames around it
//! ([MQTT-6.0.0-2]); no extension is ever agreed on.

pub mod frame;
pub mod upgrade;

use crate::access::Network;
use bytes::Bytes;
use frame::{CloseCode, Control, Reader};
use shards::Outgoing;
use std::net::IpAddr;
use upgrade::Refusal;

/// What a listener asks of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The only path that is served; `None` = any.
    pub path: Option<String>,
    /// The only pages whose scripts may connect, as browsers write them
    /// (`https://host[:port]`); empty = any, and clients that are no browsers.
    pub origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
}

impl Settings {
    fn allows_origin(&self, origin: Option<&str>) -> bool {
        let listed = |origin: &str| self.origins.iter().any(|own| own.eq_ignore_ascii_case(origin));
        self.origins.is_empty() || origin.is_some_and(listed)
    }
}

/// Why a WebSocket ends from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebsocketError {
    /// The request was answered with an error.
    #[error("WebSocket request refused: {0}")]
    Refused(Refusal),
    /// A frame broke the rules.
    #[error("WebSocket frames closed with {}", *.0 as u16)]
    Frame(CloseCode),
}

/// Where a WebSocket stands.
#[derive(Debug)]
enum State {
    /// Bytes of the request so far.
    Opening(Vec<u8>),
    /// Frames come.
    Open(Reader),
    /// A close frame came.
    Ended,
}

/// One connection's WebSocket.
#[derive(Debug)]
pub struct Websocket {
    state: State,
    /// Payload of the last ping: it is the only one that has to be answered. RFC 6455 §5.5.3.
    ping: Option<Vec<u8>>,
    /// A close frame was sent.
    closed: bool,
}

/// What arrived besides data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// A trusted proxy says that the client has this address.
    pub forwarded_for: Option<IpAddr>,
    /// The peer ended the WebSocket in good order.
    pub ended: bool,
}

impl Websocket {
    /// Waits for the request.
    pub fn new() -> Self {
        Websocket { state: State::Opening(Vec::new()), ping: None, closed: false }
    }

    /// Takes bytes of the peer: data is appended to `data`, what is to be answered to `wire`.
    ///
    /// # Errors
    /// [`WebsocketError`]; what the peer is told of it is in `wire`.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        settings: &Settings,
        peer: Option<IpAddr>,
        data: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<Arrived, WebsocketError> {
        let State::Opening(held) = &mut self.state else {
            let ended = self.frames(bytes, data, wire)?;
            return Ok(Arrived { ended, forwarded_for: None });
        };
        held.extend_from_slice(bytes);
        match upgrade::parse(held, settings, peer) {
            Ok(None) => Ok(Arrived::default()),
            Ok(Some(upgrade)) => {
                let held = std::mem::take(held);
                wire.extend(upgrade.response);
                self.state = State::Open(Reader::default());
                let rest = held.get(upgrade.request_bytes..).unwrap_or_default();
                let ended = self.frames(rest, data, wire)?;
                Ok(Arrived { ended, forwarded_for: upgrade.forwarded_for })
            }
            Err(refusal) => {
                wire.extend(refusal.response());
                self.state = State::Ended;
                self.closed = true;
                Err(WebsocketError::Refused(refusal))
            }
        }
    }

    /// `true`: a close frame came, and is answered.
    fn frames(
        &mut self,
        mut bytes: &[u8],
        data: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<bool, WebsocketError> {
        while let State::Open(reader) = &mut self.state {
            let (taken, control) = match reader.read(bytes, data) {
                Ok(read) => read,
                Err(code) => {
                    self.state = State::Ended;
                    self.close(code as u16, wire);
                    return Err(WebsocketError::Frame(code));
                }
            };
            bytes = bytes.get(taken..).unwrap_or_default();
            match control {
                None => return Ok(false),
                Some(Control::Ping(payload)) => self.ping = Some(payload),
                Some(Control::Close(code)) => {
                    self.state = State::Ended;
                    self.close(code.unwrap_or(CloseCode::Normal as u16), wire);
                }
            }
        }
        // What follows a close frame is not looked at. RFC 6455 §5.5.1.
        Ok(true)
    }

    fn close(&mut self, code: u16, wire: &mut Vec<u8>) {
        if !self.closed {
            self.closed = true;
            frame::close(code, wire);
        }
    }

    /// Whether a pong waits for the next send.
    pub fn has_output(&self) -> bool {
        self.ping.is_some()
    }

    /// Appends a pong if one is due, before `output` leaves.
    pub fn answer(&mut self, wire: &mut Vec<u8>) {
        if let Some(payload) = self.ping.take()
            && !self.closed
        {
            frame::pong(&payload, wire);
        }
    }

    /// Puts `output` into one binary frame. The bytes stay where they are.
    pub fn seal(&self, output: &mut Outgoing) {
        if self.closed {
            return output.clear();
        }
        let header = Bytes::from(frame::binary_header(output.total_bytes()));
        output.shared.insert(0, (0, header));
    }

    /// Ends the WebSocket from this side.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        match self.state {
            State::Opening(_) => {}
            State::Open(_) | State::Ended => self.close(CloseCode::Normal as u16, wire),
        }
    }
}

impl Default for Websocket {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
