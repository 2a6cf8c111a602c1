//! Tests of the whole codec, by rules of the specification.
//!
//! Bytes are written by hand in a small notation, see [`wire`].

mod acks;
mod connecting;
mod disconnecting;
mod framing;
mod properties;
mod publishing;
mod round_trip;
mod subscribing;

use super::{DecodeError, PACKET_BYTES_MAX, Packet, PacketId, Version, decode, encode};

/// Every version, for tests where it is a parameter.
const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Both versions without properties.
const V3: [Version; 2] = [Version::V31, Version::V311];

/// 5.0 alone.
const V5: [Version; 1] = [Version::V5];

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("a test's packet id is not 0")
}

/// Bytes from text: `3c01` bytes in hex, `'ab'` the letters, `<ab>` the letters behind their two
/// bytes of length, `[ … ]` a property block behind its one byte of length, and `*` the remaining
/// length of all that follows.
fn wire(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut tokens = text.split_whitespace();
    while let Some(token) = tokens.next() {
        if token == "*" {
            let rest = wire(&tokens.collect::<Vec<_>>().join(" "));
            let mut length = rest.len();
            while length >= 0x80 {
                out.push(u8::try_from(length % 0x80).expect("below 0x80") | 0x80);
                length /= 0x80;
            }
            out.push(u8::try_from(length).expect("below 0x80"));
            out.extend(rest);
            return out;
        } else if token == "[" {
            let block: Vec<_> = tokens.by_ref().take_while(|token| *token != "]").collect();
            let block = wire(&block.join(" "));
            out.push(u8::try_from(block.len()).expect("a short block"));
            out.extend(block);
        } else if let Some(text) = token.strip_prefix('\'') {
            out.extend(text.strip_suffix('\'').expect("closing quote").bytes());
        } else if let Some(text) = token.strip_prefix('<') {
            let text = text.strip_suffix('>').expect("closing bracket");
            out.extend(u16::try_from(text.len()).expect("a short string").to_be_bytes());
            out.extend(text.bytes());
        } else {
            assert!(token.len() % 2 == 0, "half a byte in {token}");
            out.extend((0..token.len()).step_by(2).map(|start| {
                u8::from_str_radix(&token[start..start + 2], 16).expect("hex digits")
            }));
        }
    }
    out
}

/// The one packet that `bytes` are.
fn decoded(version: Version, bytes: &[u8]) -> Result<Packet<'_>, DecodeError> {
    let (packet, consumed) =
        decode(bytes, version, PACKET_BYTES_MAX)?.expect("a test's packet is complete");
    assert_eq!(consumed, bytes.len());
    Ok(packet)
}

fn encoded(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(packet, version, &mut out);
    out
}

/// `text` and `packet` are the same, in both directions, and no beginning of it is a packet.
fn same<const N: usize>(versions: [Version; N], text: &str, packet: &Packet<'_>) {
    let bytes = wire(text);
    for version in versions {
        assert_eq!(decoded(version, &bytes).as_ref(), Ok(packet), "{version:?} {text}");
        assert_eq!(encoded(version, packet), bytes, "{version:?} {text}");
        for end in 0..bytes.len() {
            let result = decode(&bytes[..end], version, PACKET_BYTES_MAX);
            assert_eq!(result, Ok(None), "{version:?} {text}, {end} bytes");
        }
    }
}

fn accepts<const N: usize>(versions: [Version; N], text: &str) {
    for version in versions {
        if let Err(error) = decoded(version, &wire(text)) {
            panic!("{version:?} {text}: {error}");
        }
    }
}

fn refuses<const N: usize>(versions: [Version; N], text: &str, error: DecodeError) {
    for version in versions {
        assert_eq!(decoded(version, &wire(text)), Err(error), "{version:?} {text}");
    }
}
