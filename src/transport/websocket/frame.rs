//! Frames of clients, read as they come: RFC 6455 §5.
//!
//! Promise: memory follows what has arrived and never what a header claims: data goes straight to
//! the reader of packets, of control frames at most 125 bytes are held.
//!
//! ```text
//!  0  FIN RSV×3 opcode×4    1  MASK length×7    [2 or 8: length]    4: mask    payload
//! ```

/// Longest header of a client's frame.
const HEADER_BYTES_MAX: usize = 14;
/// Most bytes of a control frame. RFC 6455 §5.5.
const CONTROL_BYTES_MAX: u64 = 125;

/// Status codes of a close frame. RFC 6455 §7.4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    /// All is done.
    Normal = 1000,
    /// The peer broke the rules of the framing.
    Protocol = 1002,
    /// Text frames: MQTT has only binary ones.
    Unsupported = 1003,
}

/// What is being received besides data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// The peer ends the connection and gives this code, if any.
    Close(Option<u16>),
}

/// Position in the stream of frames.
#[derive(Debug, Default)]
pub struct Reader {
    /// Beginning of a header that is not complete.
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    /// The frame whose payload is being read.
    payload: Option<Payload>,
    /// Payload of a control frame.
    control: Vec<u8>,
    /// A message has begun and its last frame has not come.
    fragmented: bool,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    kind: Kind,
    left_bytes: u64,
    /// The mask, turned so that its first byte belongs to the next byte of payload.
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Data,
    Close,
    Ping,
    Pong,
}

impl Reader {
    /// Takes bytes until a control frame ends or there are no more; data is appended to `data`.
    /// Gives the bytes taken and what the control frame says.
    ///
    /// # Errors
    /// The code the connection has to be closed with.
    pub fn read(
        &mut self,
        bytes: &[u8],
        data: &mut Vec<u8>,
    ) -> Result<(usize, Option<Control>), CloseCode> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(payload) = self.payload else {
                let (taken, complete) = self.read_header(rest)?;
                at += taken;
                if !complete {
                    return Ok((at, None));
                }
                continue;
            };
            let taken = usize::try_from(payload.left_bytes).unwrap_or(usize::MAX).min(rest.len());
            let piece = rest.get(..taken).unwrap_or_default();
            let into = if payload.kind == Kind::Data { &mut *data } else { &mut self.control };
            let mask = unmask(piece, payload.mask, into);
            at += taken;
            let left_bytes = payload.left_bytes - taken as u64;
            if left_bytes > 0 {
                self.payload = Some(Payload { left_bytes, mask, ..payload });
                return Ok((at, None));
            }
            self.payload = None;
            if let Some(control) = self.finish(payload.kind)? {
                return Ok((at, Some(control)));
            }
        }
    }

    /// Collects one header. Gives the bytes taken and whether it is complete.
    fn read_header(&mut self, bytes: &[u8]) -> Result<(usize, bool), CloseCode> {
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.header.get_mut(self.header_bytes) {
                *place = *byte;
                self.header_bytes += 1;
            }
            if let Some(payload) = self.parse_header()? {
                self.payload = Some(payload);
                self.header_bytes = 0;
                return Ok((index + 1, true));
            }
        }
        Ok((bytes.len(), false))
    }

    /// `None`: more bytes are needed. What is wrong is found at the byte that makes it wrong.
    fn parse_header(&mut self) -> Result<Option<Payload>, CloseCode> {
        let header = self.header.get(..self.header_bytes).unwrap_or_default();
        let Some((&first, rest)) = header.split_first() else { return Ok(None) };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            // No extension was agreed on that could use these bits.
            return Err(CloseCode::Protocol);
        }
        let kind = match opcode {
            0x0 if self.fragmented => Kind::Data,
            0x2 if !self.fragmented => Kind::Data,
            // [MQTT-6.0.0-1] Anything but binary data closes the connection.
            0x1 if !self.fragmented => return Err(CloseCode::Unsupported),
            0x8 if last => Kind::Close,
            0x9 if last => Kind::Ping,
            0xa if last => Kind::Pong,
            _ => return Err(CloseCode::Protocol),
        };
        let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
        if second & 0x80 == 0 {
            // §5.1: a client masks.
            return Err(CloseCode::Protocol);
        }
        let (payload_bytes, rest) = match second & 0x7f {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
                (u64::from_be_bytes(*length), rest)
            }
            short => (u64::from(short), rest),
        };
        let bytes_min = match second & 0x7f {
            126 => 126,
            127 => 1 << 16,
            _ => 0,
        };
        let too_long = kind != Kind::Data && payload_bytes > CONTROL_BYTES_MAX;
        if payload_bytes < bytes_min || payload_bytes >> 63 != 0 || too_long {
            // §5.2: the shortest form is the only one, and the first bit is 0.
            return Err(CloseCode::Protocol);
        }
        let Some(mask) = rest.first_chunk() else { return Ok(None) };
        if kind == Kind::Data {
            self.fragmented = !last;
        }
        Ok(Some(Payload { kind, left_bytes: payload_bytes, mask: *mask }))
    }

    /// The payload is complete.
    fn finish(&mut self, kind: Kind) -> Result<Option<Control>, CloseCode> {
        if kind == Kind::Data {
            return Ok(None);
        }
        let control = std::mem::take(&mut self.control);
        match kind {
            Kind::Data | Kind::Pong => Ok(None),
            Kind::Ping => Ok(Some(Control::Ping(control))),
            Kind::Close => match control.as_slice() {
                [] => Ok(Some(Control::Close(None))),
                [high, low, reason @ ..] if std::str::from_utf8(reason).is_ok() => {
                    let code = u16::from_be_bytes([*high, *low]);
                    let legal = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                    legal.then_some(Some(Control::Close(Some(code)))).ok_or(CloseCode::Protocol)
                }
                _ => Err(CloseCode::Protocol),
            },
        }
    }
}

/// Appends `piece` without its mask. Gives the mask for what follows. RFC 6455 §5.3.
fn unmask(piece: &[u8], mask: [u8; 4], into: &mut Vec<u8>) -> [u8; 4] {
    let start = into.len();
    into.extend_from_slice(piece);
    let fresh = into.get_mut(start..).unwrap_or_default();
    let wide = u64::from_ne_bytes([
        mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3],
    ]);
    let (words, tail) = fresh.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let mut turned = mask;
    turned.rotate_left(piece.len() % 4);
    turned
}

/// The header of a whole binary message of the server.
pub fn binary_header(payload_bytes: usize) -> Vec<u8> {
    // [MQTT-6.0.0-1] MQTT is in binary frames.
    header(0x82, payload_bytes)
}

/// A pong with the bytes of its ping, at most 125.
pub fn pong(payload: &[u8], into: &mut Vec<u8>) {
    into.extend(header(0x8a, payload.len()));
    into.extend_from_slice(payload);
}

/// A close frame.
pub fn close(code: u16, into: &mut Vec<u8>) {
    into.extend(header(0x88, 2));
    into.extend_from_slice(&code.to_be_bytes());
}

fn header(first: u8, payload_bytes: usize) -> Vec<u8> {
    let mut header = vec![first];
    if let Ok(short @ 0..=125) = u8::try_from(payload_bytes) {
        header.push(short);
    } else if let Ok(medium) = u16::try_from(payload_bytes) {
        header.push(126);
        header.extend(medium.to_be_bytes());
    } else {
        header.push(127);
        header.extend((payload_bytes as u64).to_be_bytes());
    }
    header
}
