//! CONNECT (MQTT 5.0 §3.1).

use super::error::DecodeError;
use super::packet::{Connect, Will};
use super::property_table::{Place, id};
use super::reader::Reader;
use super::types::{Qos, Version};
use super::writer::{put_binary, put_properties, put_u16};

const RESERVED: u8 = 0x01;
const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS_SHIFT: u8 = 3;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// Bit of the level byte by which bridges of several brokers mark themselves.
const BRIDGE: u8 = 0x80;

/// ```text
/// protocol name (string), level u8, flags u8, keep-alive u16, [properties],
/// client id, [will properties], [will topic], [will payload], [user name], [password]
/// ```
/// [MQTT-3.1.3-1]
pub(super) fn decode(body: &[u8]) -> Result<Connect<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let (version, bridge) = protocol(reader.binary()?, reader.u8()?)?;
    let flags = reader.u8()?;
    check_flags(flags, version)?;
    let keep_alive_s = reader.u16()?;
    let properties = reader.properties(version, Place::Connect)?;
    if properties.has(id::AUTHENTICATION_DATA) && !properties.has(id::AUTHENTICATION_METHOD) {
        return Err(DecodeError::NoAuthenticationMethod);
    }
    // [MQTT-3.1.3-3] [MQTT-3.1.3-4]
    let client_id = reader.text()?;
    let will = if flags & WILL == 0 { None } else { Some(will(&mut reader, flags, version)?) };
    let username = if flags & USERNAME == 0 || is_missing(reader, version) {
        None // [MQTT-3.1.2-16]
    } else {
        Some(reader.text()?) // [MQTT-3.1.2-17] [MQTT-3.1.3-12]
    };
    let password = if flags & PASSWORD == 0 || is_missing(reader, version) {
        None // [MQTT-3.1.2-18]
    } else {
        Some(reader.binary()?) // [MQTT-3.1.2-19]
    };
    reader.finish()?;
    let clean_start = flags & CLEAN_START != 0;
    Ok(Connect {
        version,
        bridge,
        clean_start,
        keep_alive_s,
        properties,
        client_id,
        will,
        username,
        password,
    })
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-2] Nothing behind the level is looked at if it is not known, because
/// the rest of the packet may be laid out differently.
fn protocol(name: &[u8], level: u8) -> Result<(Version, bool), DecodeError> {
    match (name, level) {
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (b"MQTT", 4) => Ok((Version::V311, false)),
        (b"MQIsdp", 3) => Ok((Version::V31, false)),
        (b"MQTT", 0x84) => Ok((Version::V311, true)),
        (b"MQIsdp", 0x83) => Ok((Version::V31, true)),
        (b"MQTT" | b"MQIsdp", level) => Err(DecodeError::UnsupportedVersion { level }),
        _ => Err(DecodeError::UnknownProtocol),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), DecodeError> {
    // [MQTT-3.1.2-3]
    let reserved = flags & RESERVED != 0;
    // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    let orphaned = flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0;
    if reserved || orphaned {
        return Err(DecodeError::BadConnectFlags(flags));
    }
    // [MQTT-3.1.2-22 of 3.1.1]; 5.0 allows a password alone, for tokens.
    if version != Version::V5 && flags & (USERNAME | PASSWORD) == PASSWORD {
        return Err(DecodeError::PasswordAlone);
    }
    Ok(())
}

/// MQTT 3.1 §3.1: the remaining length takes precedence over the user name and password flags.
fn is_missing(reader: Reader<'_>, version: Version) -> bool {
    version == Version::V31 && reader.is_empty()
}

/// [MQTT-3.1.2-9] [MQTT-3.1.3-11]
fn will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>, DecodeError> {
    // [MQTT-3.1.2-12]
    let qos = Qos::from_u8((flags & WILL_QOS) >> WILL_QOS_SHIFT).ok_or(DecodeError::BadQos)?;
    Ok(Will {
        qos,
        retain: flags & WILL_RETAIN != 0,
        properties: reader.properties(version, Place::Will)?,
        topic: reader.text()?,
        payload: reader.binary()?,
    })
}

pub(super) fn encode(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let version = connect.version;
    let name = if version == Version::V31 { "MQIsdp" } else { "MQTT" };
    put_binary(out, name.as_bytes());
    let bridge = connect.bridge && version != Version::V5;
    out.push(version as u8 | if bridge { BRIDGE } else { 0 });
    let password = connect.password.filter(|_| {
        // [MQTT-3.1.2-22 of 3.1.1]
        version == Version::V5 || connect.username.is_some()
    });
    let mut flags = if connect.clean_start { CLEAN_START } else { 0 };
    if let Some(will) = &connect.will {
        flags |= WILL | (will.qos as u8) << WILL_QOS_SHIFT;
        flags |= if will.retain { WILL_RETAIN } else { 0 };
    }
    flags |= if connect.username.is_some() { USERNAME } else { 0 };
    flags |= if password.is_some() { PASSWORD } else { 0 };
    out.push(flags);
    put_u16(out, connect.keep_alive_s);
    put_properties(out, connect.properties, version);
    put_binary(out, connect.client_id.as_bytes());
    if let Some(will) = &connect.will {
        put_properties(out, will.properties, version);
        put_binary(out, will.topic.as_bytes());
        put_binary(out, will.payload);
    }
    if let Some(username) = connect.username {
        put_binary(out, username.as_bytes());
    }
    if let Some(password) = password {
        put_binary(out, password);
    }
}
