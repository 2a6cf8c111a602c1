//! SUBACK and UNSUBACK (MQTT 5.0 §3.9, §3.11).

use super::error::DecodeError;
use super::packet::{Suback, Unsuback};
use super::property_table::Place;
use super::reader::Reader;
use super::reason::Reason;
use super::types::Version;
use super::writer::{put_properties, put_u16};

/// The one failure code of 3.x.
const FAILURE: u8 = 0x80;

/// `packet id u16, [properties], reason u8 +`
pub(super) fn decode(body: &[u8], version: Version) -> Result<Suback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(version, Place::Suback)?;
    let reasons = reasons(reader.rest(), |code| match version {
        // [MQTT-3.9.3-2]
        Version::V5 => Reason::parse(code, Place::Suback),
        Version::V31 | Version::V311 => match code {
            0..=2 | FAILURE => Reason::parse(code, Place::Suback),
            _ => Err(DecodeError::BadReason(code)),
        },
    })?;
    Ok(Suback { packet_id, properties, reasons })
}

/// `packet id u16`, in 5.0 followed by `properties, reason u8 +`
pub(super) fn decode_unsuback(body: &[u8], version: Version) -> Result<Unsuback<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(version, Place::Unsuback)?;
    let reasons = if version == Version::V5 {
        // [MQTT-3.11.3-2]
        reasons(reader.rest(), |code| Reason::parse(code, Place::Unsuback))?
    } else {
        reader.finish()?;
        Vec::new()
    };
    Ok(Unsuback { packet_id, properties, reasons })
}

/// At least one, because there was at least one filter. [MQTT-3.8.4-6] [MQTT-3.11.3-2]
fn reasons(
    codes: &[u8],
    reason: impl Fn(u8) -> Result<Reason, DecodeError>,
) -> Result<Vec<Reason>, DecodeError> {
    if codes.is_empty() {
        return Err(DecodeError::NoEntries);
    }
    codes.iter().map(|&code| reason(code)).collect()
}

pub(super) fn encode(suback: &Suback<'_>, version: Version, out: &mut Vec<u8>) {
    put_u16(out, suback.packet_id.get());
    put_properties(out, suback.properties, version);
    // [MQTT-3.9.3-1]
    out.extend(suback.reasons.iter().map(|reason| match reason.code_in(Place::Suback) {
        // [MQTT-3.9.3-2 of 3.1.1]
        FAILURE.. if version != Version::V5 => FAILURE,
        code => code,
    }));
}

pub(super) fn encode_unsuback(unsuback: &Unsuback<'_>, version: Version, out: &mut Vec<u8>) {
    put_u16(out, unsuback.packet_id.get());
    put_properties(out, unsuback.properties, version);
    if version == Version::V5 {
        // [MQTT-3.11.3-1]
        out.extend(unsuback.reasons.iter().map(|reason| reason.code_in(Place::Unsuback)));
    }
}
