//! DISCONNECT and AUTH (MQTT 5.0 §3.14, §3.15).

use super::error::DecodeError;
use super::packet::{Auth, Disconnect};
use super::properties::Properties;
use super::property_table::{Place, id};
use super::reader::Reader;
use super::reason::Reason;
use super::types::Version;
use super::writer::put_properties;

/// `[reason u8, [properties]]`; what is left out is a normal disconnection without properties.
pub(super) fn decode(body: &[u8], version: Version) -> Result<Disconnect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut disconnect =
        Disconnect { reason: Reason::NORMAL_DISCONNECTION, properties: Properties::default() };
    if reader.is_empty() {
        return Ok(disconnect);
    }
    if version != Version::V5 {
        return Err(DecodeError::TrailingBytes);
    }
    // [MQTT-3.14.2-1]
    disconnect.reason = Reason::parse(reader.u8()?, Place::Disconnect)?;
    if !reader.is_empty() {
        disconnect.properties = reader.properties(version, Place::Disconnect)?;
        reader.finish()?;
    }
    Ok(disconnect)
}

/// `[reason u8, properties]`; an empty body is success without properties.
pub(super) fn decode_auth(body: &[u8]) -> Result<Auth<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    if reader.is_empty() {
        return Ok(Auth { reason: Reason::Success, properties: Properties::default() });
    }
    // [MQTT-3.15.2-1]
    let reason = Reason::parse(reader.u8()?, Place::Auth)?;
    let properties = reader.properties(Version::V5, Place::Auth)?;
    reader.finish()?;
    if !properties.has(id::AUTHENTICATION_METHOD) {
        return Err(DecodeError::NoAuthenticationMethod);
    }
    Ok(Auth { reason, properties })
}

pub(super) fn encode(disconnect: &Disconnect<'_>, version: Version, out: &mut Vec<u8>) {
    let Disconnect { reason, properties } = *disconnect;
    let is_plain = reason == Reason::NORMAL_DISCONNECTION && properties.is_empty();
    if version != Version::V5 || is_plain {
        return;
    }
    out.push(reason.code_in(Place::Disconnect));
    if !properties.is_empty() {
        put_properties(out, properties, version);
    }
}

pub(super) fn encode_auth(auth: &Auth<'_>, out: &mut Vec<u8>) {
    if auth.reason != Reason::Success || !auth.properties.is_empty() {
        out.push(auth.reason.code_in(Place::Auth));
        put_properties(out, auth.properties, Version::V5);
    }
}
