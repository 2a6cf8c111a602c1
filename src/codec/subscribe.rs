//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 §3.8, §3.10).

use super::error::DecodeError;
use super::packet::{Subscribe, SubscribeFilter, Unsubscribe};
use super::property_table::Place;
use super::reader::Reader;
use super::types::{Qos, RetainHandling, SubscribeOptions, Version};
use super::writer::{put_binary, put_properties, put_u16};

/// Topic filters accepted in one SUBSCRIBE or UNSUBSCRIBE; more are refused with 0x97 Quota
/// exceeded. Bounds the memory that a large packet of tiny filters takes when decoded.
pub const FILTERS_MAX: usize = 0xffff;

const QOS: u8 = 0x03;
const NO_LOCAL: u8 = 0x04;
const RETAIN_AS_PUBLISHED: u8 = 0x08;
const RETAIN_HANDLING: u8 = 0x30;
const RETAIN_HANDLING_SHIFT: u8 = 4;

/// `packet id u16, [properties], (filter, options u8)+`
pub(super) fn decode(body: &[u8], version: Version) -> Result<Subscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(version, Place::Subscribe)?;
    let filters = entries(reader, |reader| {
        // [MQTT-3.8.3-1]
        let filter = reader.text()?;
        Ok(SubscribeFilter { filter, options: options(reader.u8()?, version)? })
    })?;
    Ok(Subscribe { packet_id, properties, filters })
}

/// `packet id u16, [properties], filter+`
pub(super) fn decode_unsubscribe(
    body: &[u8],
    version: Version,
) -> Result<Unsubscribe<'_>, DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(version, Place::Unsubscribe)?;
    // [MQTT-3.10.3-1]
    let filters = entries(reader, Reader::text)?;
    Ok(Unsubscribe { packet_id, properties, filters })
}

/// Reads entries to the end of the packet, at least one. [MQTT-3.8.3-2] [MQTT-3.10.3-2]
fn entries<'a, T>(
    mut reader: Reader<'a>,
    mut entry: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut entries = Vec::new();
    while !reader.is_empty() {
        if entries.len() == FILTERS_MAX {
            return Err(DecodeError::TooManyFilters);
        }
        entries.push(entry(&mut reader)?);
    }
    if entries.is_empty() { Err(DecodeError::NoEntries) } else { Ok(entries) }
}

fn options(byte: u8, version: Version) -> Result<SubscribeOptions, DecodeError> {
    // [MQTT-3.8.3-5], and [MQTT-3.8.3-4] of 3.1.1, where all bits but the QoS are reserved.
    let reserved = if version == Version::V5 { 0xc0 } else { !QOS };
    if byte & reserved != 0 {
        return Err(DecodeError::ReservedOptions(byte));
    }
    let retain_handling = match (byte & RETAIN_HANDLING) >> RETAIN_HANDLING_SHIFT {
        0 => RetainHandling::Always,
        1 => RetainHandling::IfNew,
        2 => RetainHandling::Never,
        _ => return Err(DecodeError::BadOptions(byte)),
    };
    Ok(SubscribeOptions {
        qos: Qos::from_u8(byte & QOS).ok_or(DecodeError::BadOptions(byte))?,
        no_local: byte & NO_LOCAL != 0,
        retain_as_published: byte & RETAIN_AS_PUBLISHED != 0,
        retain_handling,
    })
}

pub(super) fn encode(subscribe: &Subscribe<'_>, version: Version, out: &mut Vec<u8>) {
    put_u16(out, subscribe.packet_id.get());
    put_properties(out, subscribe.properties, version);
    for SubscribeFilter { filter, options } in &subscribe.filters {
        put_binary(out, filter.as_bytes());
        let mut byte = options.qos as u8;
        if version == Version::V5 {
            byte |= if options.no_local { NO_LOCAL } else { 0 };
            byte |= if options.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 };
            byte |= (options.retain_handling as u8) << RETAIN_HANDLING_SHIFT;
        }
        out.push(byte);
    }
}

pub(super) fn encode_unsubscribe(
    unsubscribe: &Unsubscribe<'_>,
    version: Version,
    out: &mut Vec<u8>,
) {
    put_u16(out, unsubscribe.packet_id.get());
    put_properties(out, unsubscribe.properties, version);
    for filter in &unsubscribe.filters {
        put_binary(out, filter.as_bytes());
    }
}
