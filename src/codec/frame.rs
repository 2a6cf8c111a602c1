//! Fixed header, and the way from a packet type to its family.

use super::error::DecodeError;
use super::packet::Packet;
use super::property_table::Place;
use super::reader::{Reader, variable};
use super::types::Version;
use super::writer::framed;
use super::{ack, connack, connect, disconnect, publish, suback, subscribe};

/// Extent of one packet, known from its fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the fixed header, 2 to 5.
    pub header_bytes: usize,
    /// Bytes of the whole packet.
    pub total_bytes: usize,
}

/// Looks at the fixed header at the start of `bytes`; `None`: it is not complete yet.
///
/// ```text
/// 0     packet type (high half) and flags
/// 1..5  remaining length: variable byte integer, 1 to 4 bytes
/// ```
///
/// # Errors
/// [`DecodeError::UnknownType`] for type 0, [`DecodeError::BadLength`] for a length that is no
/// variable byte integer, [`DecodeError::TooLarge`] if the packet would pass `packet_bytes_max`.
///
/// Source: MQTT 5.0 §2.1.
pub fn frame(bytes: &[u8], packet_bytes_max: u32) -> Result<Option<Frame>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    if first < 0x10 {
        return Err(DecodeError::UnknownType(0));
    }
    let Some((body_bytes, length_bytes)) = variable(rest)? else { return Ok(None) };
    let header_bytes = 1 + length_bytes;
    // At most 5 + 0x0fff_ffff, so neither step can fail where usize has 32 bits or more.
    let total_bytes = u32::try_from(header_bytes).unwrap_or(5) + body_bytes;
    if total_bytes > packet_bytes_max {
        return Err(DecodeError::TooLarge { bytes: total_bytes, max: packet_bytes_max });
    }
    let total_bytes = usize::try_from(total_bytes).unwrap_or(usize::MAX);
    Ok(Some(Frame { header_bytes, total_bytes }))
}

/// Whether the CONNECT that `bytes` begins with carries a will or a password. `None` until its
/// flags are there; what is no CONNECT carries none.
///
/// Source: MQTT 5.0 §3.1.2, MQTT 3.1.1 §3.1.2.
pub fn connect_carries(bytes: &[u8]) -> Option<bool> {
    const WILL: u8 = 0x04;
    const PASSWORD: u8 = 0x40;
    let (_, rest) = bytes.split_first()?;
    let Ok(length) = variable(rest) else { return Some(false) };
    let body = rest.get(length?.1..)?;
    let [high, low] = *body.first_chunk()?;
    let name_bytes = usize::from(u16::from_be_bytes([high, low]));
    if name_bytes > "MQIsdp".len() {
        return Some(false);
    }
    // Length of the name, the name, the level.
    let flags = body.get(2 + name_bytes + 1)?;
    Some(flags & (WILL | PASSWORD) != 0)
}

/// Decodes the packet at the start of `bytes`: the packet and the bytes it took.
///
/// `Ok(None)`: the packet is not complete yet. `version` is that of the connection; CONNECT ignores
/// it, its own is in it. Both directions are decoded; who may send what is the session's question.
/// Allocates only for the lists of SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.
///
/// # Errors
/// The first rule that the packet breaks. After it the stream cannot be trusted any more.
///
/// Source: MQTT 5.0 §2 and §3, MQTT 3.1.1 §2 and §3.
pub fn decode(
    bytes: &[u8],
    version: Version,
    packet_bytes_max: u32,
) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some(frame) = frame(bytes, packet_bytes_max)? else { return Ok(None) };
    let Some((packet, _)) = bytes.split_at_checked(frame.total_bytes) else { return Ok(None) };
    let Some((&[first, ..], body)) = packet.split_at_checked(frame.header_bytes) else {
        return Ok(None);
    };
    // PUBLISH is the only packet whose flags mean something, and the most frequent one.
    let packet = if first >> 4 == Place::Publish as u8 {
        Packet::Publish(publish::decode(first, body, version)?)
    } else {
        check_flags(first, version)?;
        decode_body(first >> 4, body, version)?
    };
    Ok(Some((packet, frame.total_bytes)))
}

/// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
///
/// MQTT 3.1 calls these bits "not used", except for the QoS 1 of packets that await an answer.
fn check_flags(first: u8, version: Version) -> Result<(), DecodeError> {
    let (flags, qos_bits) = match first >> 4 {
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE.
        6 | 8 | 10 => (0x02, 0x06),
        // CONNECT comes before its version is known and is therefore held to the later rule.
        1 => (0x00, 0x0f),
        _ => (0x00, 0x00),
    };
    let mask = if version == Version::V31 { qos_bits } else { 0x0f };
    if first & mask == flags { Ok(()) } else { Err(DecodeError::BadFlags(first)) }
}

fn decode_body(kind: u8, body: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    Ok(match kind {
        1 => Packet::Connect(connect::decode(body)?),
        2 => Packet::Connack(connack::decode(body, version)?),
        4 => Packet::Puback(ack::decode(body, version, Place::Puback)?),
        5 => Packet::Pubrec(ack::decode(body, version, Place::Pubrec)?),
        6 => Packet::Pubrel(ack::decode(body, version, Place::Pubrel)?),
        7 => Packet::Pubcomp(ack::decode(body, version, Place::Pubcomp)?),
        8 => Packet::Subscribe(subscribe::decode(body, version)?),
        9 => Packet::Suback(suback::decode(body, version)?),
        10 => Packet::Unsubscribe(subscribe::decode_unsubscribe(body, version)?),
        11 => Packet::Unsuback(suback::decode_unsuback(body, version)?),
        12 => Reader::new(body).finish().map(|()| Packet::Pingreq)?,
        13 => Reader::new(body).finish().map(|()| Packet::Pingresp)?,
        14 => Packet::Disconnect(disconnect::decode(body, version)?),
        15 if version == Version::V5 => Packet::Auth(disconnect::decode_auth(body)?),
        _ => return Err(DecodeError::UnknownType(kind)),
    })
}

/// Appends any packet to `out`. The slow path of the broker, and all a client needs.
///
/// Fields that `version` lacks are skipped: properties, reasons, a password without user name; a
/// 3.x CONNACK gets its return code, a 3.x SUBACK 0x80 for every failure, and AUTH is not written
/// at all before 5.0. CONNECT is written in its own version. A reason code that is not in the
/// packet's list is written as the packet's most general one.
///
/// # Panics
/// If a string or binary field is longer than 65,535 bytes, or the packet longer than
/// [`PACKET_BYTES_MAX`](super::PACKET_BYTES_MAX); or if a PUBLISH has a packet identifier at QoS 0
/// or none above.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    match packet {
        Packet::Connect(connect) => framed(out, 0x10, |out| connect::encode(connect, out)),
        Packet::Connack(connack) => framed(out, 0x20, |out| {
            connack::encode(connack, version, out);
        }),
        Packet::Publish(publish) => publish::encode(publish, version, out),
        Packet::Puback(ack) => ack::encode(ack::AckKind::Puback, ack, version, out),
        Packet::Pubrec(ack) => ack::encode(ack::AckKind::Pubrec, ack, version, out),
        Packet::Pubrel(ack) => ack::encode(ack::AckKind::Pubrel, ack, version, out),
        Packet::Pubcomp(ack) => ack::encode(ack::AckKind::Pubcomp, ack, version, out),
        Packet::Subscribe(subscribe) => framed(out, 0x82, |out| {
            subscribe::encode(subscribe, version, out);
        }),
        Packet::Suback(suback) => framed(out, 0x90, |out| suback::encode(suback, version, out)),
        Packet::Unsubscribe(unsubscribe) => framed(out, 0xa2, |out| {
            subscribe::encode_unsubscribe(unsubscribe, version, out);
        }),
        Packet::Unsuback(unsuback) => framed(out, 0xb0, |out| {
            suback::encode_unsuback(unsuback, version, out);
        }),
        Packet::Pingreq => out.extend_from_slice(&[0xc0, 0]),
        Packet::Pingresp => out.extend_from_slice(&[0xd0, 0]),
        Packet::Disconnect(disconnect) => framed(out, 0xe0, |out| {
            disconnect::encode(disconnect, version, out);
        }),
        Packet::Auth(auth) if version == Version::V5 => {
            framed(out, 0xf0, |out| disconnect::encode_auth(auth, out));
        }
        Packet::Auth(_) => {}
    }
}
