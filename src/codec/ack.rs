//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0 §3.4 to §3.7).

use super::error::DecodeError;
use super::packet::Ack;
use super::properties::Properties;
use super::property_table::Place;
use super::reader::Reader;
use super::reason::Reason;
use super::types::{PacketId, Version};
use super::writer::{framed, put_properties, put_u16};

/// Which of the four acknowledgements; the number is the first byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AckKind {
    /// QoS 1 acknowledgement.
    Puback = 0x40,
    /// QoS 2, first acknowledgement.
    Pubrec = 0x50,
    /// QoS 2, release. [MQTT-3.6.1-1]
    Pubrel = 0x62,
    /// QoS 2, completion.
    Pubcomp = 0x70,
}

impl AckKind {
    const fn place(self) -> Place {
        match self {
            Self::Puback => Place::Puback,
            Self::Pubrec => Place::Pubrec,
            Self::Pubrel => Place::Pubrel,
            Self::Pubcomp => Place::Pubcomp,
        }
    }
}

/// `packet id u16, [reason u8, [properties]]`; what is left out is success without properties.
pub(super) fn decode(body: &[u8], version: Version, place: Place) -> Result<Ack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let mut ack = Ack { packet_id, reason: Reason::Success, properties: Properties::default() };
    if reader.is_empty() {
        return Ok(ack);
    }
    if version != Version::V5 {
        return Err(DecodeError::TrailingBytes);
    }
    ack.reason = Reason::parse(reader.u8()?, place)?;
    if !reader.is_empty() {
        ack.properties = reader.properties(version, place)?;
        reader.finish()?;
    }
    Ok(ack)
}

pub(super) fn encode(kind: AckKind, ack: &Ack<'_>, version: Version, out: &mut Vec<u8>) {
    if version != Version::V5 || ack.properties.is_empty() {
        return encode_ack(kind, ack.packet_id, ack.reason, version, out);
    }
    framed(out, kind as u8, |out| {
        put_u16(out, ack.packet_id.get());
        out.push(ack.reason.code_in(kind.place()));
        put_properties(out, ack.properties, version);
    });
}

/// Appends an acknowledgement without properties: four bytes, five in 5.0 if not success.
///
/// Before 5.0 the reason is not written. A code that the packet does not list is written as the
/// most general one that it lists.
///
/// Source: MQTT 5.0 §3.4.2 to §3.7.2, [MQTT-2.2.1-5].
pub fn encode_ack(
    kind: AckKind,
    id: PacketId,
    reason: Reason,
    version: Version,
    out: &mut Vec<u8>,
) {
    let [high, low] = id.get().to_be_bytes();
    if reason == Reason::Success || version != Version::V5 {
        out.extend_from_slice(&[kind as u8, 2, high, low]);
    } else {
        out.extend_from_slice(&[kind as u8, 3, high, low, reason.code_in(kind.place())]);
    }
}
