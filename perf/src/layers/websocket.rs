//! The client's end of a WebSocket (RFC 6455) that carries MQTT (MQTT 5.0 §6).

use anyhow::{Result, ensure};
use std::mem;

/// Longest answer to the request.
const RESPONSE_BYTES_MAX: usize = 16 * 1024;
/// Longest payload of a control frame (§5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// In place of a length: two or eight bytes of it follow.
const LENGTH_16: u8 = 0x7e;
const LENGTH_64: u8 = 0x7f;

const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

/// A WebSocket from its request on.
#[derive(Debug)]
pub(crate) struct Websocket {
    open: bool,
    /// Request, then pongs.
    pending: Vec<u8>,
    /// Start of the response or of a frame's header.
    head: Vec<u8>,
    opcode: u8,
    left: u64,
    control: Vec<u8>,
    mask: u64,
}

impl Websocket {
    /// Asks `host` for a WebSocket; `seed` makes the masks.
    pub(crate) fn new(host: &str, seed: u64) -> Self {
        // Any 16 bytes in base64 do as a key (§4.1); the answer's hash of it is not looked at.
        let request = format!(
            "GET /mqtt HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: Y3VsZXggcGVyZiBsb2FkIQ==\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        Self {
            open: false,
            pending: request.into_bytes(),
            head: Vec::new(),
            opcode: BINARY,
            left: 0,
            control: Vec::new(),
            // Xorshift stands still at zero.
            mask: seed | 1,
        }
    }

    /// Is there something to send besides MQTT.
    pub(crate) fn wants_write(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Appends one frame around all of `mqtt`, which is empty then, unless the request is
    /// unanswered.
    pub(crate) fn seal(&mut self, mqtt: &mut Vec<u8>, wire: &mut Vec<u8>) {
        wire.append(&mut self.pending);
        if self.open && !mqtt.is_empty() {
            self.append_frame(BINARY, mqtt, wire);
            mqtt.clear();
        }
    }

    fn append_frame(&mut self, opcode: u8, payload: &[u8], wire: &mut Vec<u8>) {
        const MASKED: u8 = 0x80;
        wire.push(FIN | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(bytes), _) if bytes < LENGTH_16 => wire.push(MASKED | bytes),
            (_, Ok(bytes)) => {
                wire.push(MASKED | LENGTH_16);
                wire.extend_from_slice(&bytes.to_be_bytes());
            }
            _ => {
                wire.push(MASKED | LENGTH_64);
                let bytes = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                wire.extend_from_slice(&bytes.to_be_bytes());
            }
        }
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 7;
        self.mask ^= self.mask << 17;
        let [a, b, c, d, ..] = self.mask.to_be_bytes();
        let mask = [a, b, c, d];
        wire.extend_from_slice(&mask);
        let start = wire.len();
        wire.extend_from_slice(payload);
        let body = wire.get_mut(start..).unwrap_or_default();
        for chunk in body.chunks_mut(mask.len()) {
            for (byte, key) in chunk.iter_mut().zip(mask) {
                *byte ^= key;
            }
        }
    }

    /// Takes bytes of the server; appends bytes of MQTT to `mqtt`.
    ///
    /// # Errors
    /// If the server refuses, breaks the rules or closes.
    pub(crate) fn receive(&mut self, mut wire: &[u8], mqtt: &mut Vec<u8>) -> Result<()> {
        if !self.open {
            let Some(rest) = self.response(wire)? else { return Ok(()) };
            wire = rest;
        }
        while !wire.is_empty() {
            if self.left == 0 && !self.header(&mut wire)? {
                return Ok(());
            }
            let bytes = usize::try_from(self.left).unwrap_or(usize::MAX).min(wire.len());
            let (part, rest) = wire.split_at(bytes);
            wire = rest;
            self.left -= u64::try_from(bytes).unwrap_or(u64::MAX);
            if self.opcode < CLOSE {
                mqtt.extend_from_slice(part);
            } else {
                self.control.extend_from_slice(part);
                if self.left == 0 {
                    self.answer()?;
                }
            }
        }
        Ok(())
    }

    /// Reads the response; what follows it, once it is complete.
    fn response<'a>(&mut self, wire: &'a [u8]) -> Result<Option<&'a [u8]>> {
        const END: &[u8] = b"\r\n\r\n";
        let known = self.head.len();
        self.head.extend_from_slice(wire);
        let Some(at) = self.head.windows(END.len()).position(|window| window == END) else {
            ensure!(self.head.len() <= RESPONSE_BYTES_MAX, "the answer to the upgrade is too long");
            return Ok(None);
        };
        let line = self.head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let accepted = line.starts_with(b"HTTP/1.1 101");
        ensure!(accepted, "WebSocket refused: {}", String::from_utf8_lossy(line));
        self.open = true;
        self.head = Vec::new();
        Ok(Some(wire.get(at + END.len() - known..).unwrap_or_default()))
    }

    /// Reads the header of a frame, at most ten bytes (§5.2); false if it is not complete.
    fn header(&mut self, wire: &mut &[u8]) -> Result<bool> {
        loop {
            if let Some((opcode, bytes)) = parse_header(&self.head)? {
                self.head.clear();
                self.opcode = opcode;
                self.left = bytes;
                return Ok(true);
            }
            let Some((&byte, rest)) = wire.split_first() else { return Ok(false) };
            self.head.push(byte);
            *wire = rest;
        }
    }

    /// A control frame is complete.
    fn answer(&mut self) -> Result<()> {
        let payload = mem::take(&mut self.control);
        ensure!(self.opcode != CLOSE, "the broker closed the WebSocket");
        if self.opcode == PING {
            let mut wire = mem::take(&mut self.pending);
            self.append_frame(PONG, &payload, &mut wire);
            self.pending = wire;
        }
        Ok(())
    }
}

/// Opcode and payload bytes; `None` while `head` is too short.
fn parse_header(head: &[u8]) -> Result<Option<(u8, u64)>> {
    let [first, second, length @ ..] = head else { return Ok(None) };
    let opcode = first & 0x0f;
    ensure!(second & 0x80 == 0, "the broker masked a WebSocket frame");
    let bytes = match (second & 0x7f, length) {
        (LENGTH_16, [high, low, ..]) => u64::from(u16::from_be_bytes([*high, *low])),
        (LENGTH_64, length) => match length.first_chunk::<8>() {
            Some(bytes) => u64::from_be_bytes(*bytes),
            None => return Ok(None),
        },
        (LENGTH_16, _) => return Ok(None),
        (bytes, _) => u64::from(bytes),
    };
    let known = [CONTINUATION, BINARY, CLOSE, PING, PONG].contains(&opcode);
    ensure!(known, "a WebSocket frame of type {opcode}");
    ensure!(opcode < CLOSE || bytes <= CONTROL_BYTES_MAX, "a long control frame");
    Ok(Some((opcode, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";

    fn opened() -> Websocket {
        let mut websocket = Websocket::new("localhost", 1);
        websocket.seal(&mut Vec::new(), &mut Vec::new());
        websocket.receive(RESPONSE, &mut Vec::new()).unwrap();
        websocket
    }

    #[test]
    fn pieces_are_the_whole() {
        let long = vec![7; 300];
        let mut stream = RESPONSE.to_vec();
        stream.extend_from_slice(&[0x82, 3, 1, 2, 3, 0x89, 0]);
        stream.extend_from_slice(&[0x02, 126, 1, 44]);
        stream.extend_from_slice(&long);
        stream.extend_from_slice(&[0x80, 127, 0, 0, 0, 0, 0, 0, 0, 2, 8, 9]);
        let expected = [&[1, 2, 3][..], &long, &[8, 9]].concat();
        for piece in [1, 2, 7, stream.len()] {
            let mut websocket = Websocket::new("localhost", 1);
            let mut mqtt = Vec::new();
            for bytes in stream.chunks(piece) {
                websocket.receive(bytes, &mut mqtt).unwrap();
            }
            assert_eq!(mqtt, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn mqtt_waits_for_the_answer() {
        let mut websocket = Websocket::new("localhost", 1);
        let (mut mqtt, mut wire) = (vec![0x10], Vec::new());
        websocket.seal(&mut mqtt, &mut wire);
        assert!(wire.starts_with(b"GET ") && wire.ends_with(b"\r\n\r\n") && mqtt == [0x10]);
        wire.clear();
        websocket.receive(RESPONSE, &mut Vec::new()).unwrap();
        websocket.seal(&mut mqtt, &mut wire);
        assert!(mqtt.is_empty());
        assert_eq!((wire.len(), wire[0], wire[1]), (7, 0x82, 0x81));
        assert_eq!(wire[6] ^ wire[2], 0x10, "masked with its own key");
    }

    #[test]
    fn ping_is_answered_and_close_ends() {
        let mut websocket = opened();
        websocket.receive(&[0x89, 1, b'x'], &mut Vec::new()).unwrap();
        assert!(websocket.wants_write());
        let mut wire = Vec::new();
        websocket.seal(&mut Vec::new(), &mut wire);
        assert_eq!((wire[0], wire.len()), (0x8a, 7));
        assert!(websocket.receive(&[0x88, 0], &mut Vec::new()).is_err());
    }

    #[test]
    fn refusals_and_nonsense_are_errors() {
        let mut refused = Websocket::new("localhost", 1);
        assert!(refused.receive(b"HTTP/1.1 404 Not Found\r\n\r\n", &mut Vec::new()).is_err());
        assert!(opened().receive(&[0x81, 1, b'x'], &mut Vec::new()).is_err(), "text");
        assert!(opened().receive(&[0x82, 0x81, 0, 0, 0, 0, 0], &mut Vec::new()).is_err(), "masked");
    }
}
