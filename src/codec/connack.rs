//! CONNACK (MQTT 5.0 §3.2).

use super::error::DecodeError;
use super::packet::Connack;
use super::property_table::Place;
use super::reader::Reader;
use super::reason::Reason;
use super::types::Version;
use super::writer::put_properties;

const SESSION_PRESENT: u8 = 0x01;

/// Return code 3, server unavailable: what a 3.x client is told if no code fits.
const UNAVAILABLE: u8 = 3;

/// `flags u8, reason u8, [properties]`
pub(super) fn decode(body: &[u8], version: Version) -> Result<Connack<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    let code = reader.u8()?;
    let reason = if version == Version::V5 {
        Reason::parse(code, Place::Connack)? // [MQTT-3.2.2-8]
    } else {
        Reason::from_connack_code(code).ok_or(DecodeError::BadReason(code))?
    };
    // MQTT 3.1 knows no session present flag, the whole byte is unused there.
    let flags = if version == Version::V31 { 0 } else { flags };
    let session_present = flags == SESSION_PRESENT;
    // [MQTT-3.2.2-1] [MQTT-3.2.2-6]
    if flags > SESSION_PRESENT || (session_present && reason != Reason::Success) {
        return Err(DecodeError::BadConnackFlags(flags));
    }
    let properties = reader.properties(version, Place::Connack)?;
    reader.finish()?;
    Ok(Connack { session_present, reason, properties })
}

pub(super) fn encode(connack: &Connack<'_>, version: Version, out: &mut Vec<u8>) {
    // [MQTT-3.2.2-6]
    let session_present = connack.session_present && connack.reason == Reason::Success;
    out.push(u8::from(session_present && version != Version::V31));
    out.push(match version {
        Version::V5 => connack.reason.code_in(Place::Connack),
        Version::V31 | Version::V311 => connack.reason.connack_code().unwrap_or(UNAVAILABLE),
    });
    put_properties(out, connack.properties, version);
}
