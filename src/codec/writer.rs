//! Building blocks of encoding.

use super::properties::Properties;
use super::types::Version;

/// Largest value of a variable byte integer (MQTT 5.0 §1.5.5).
pub(super) const VARIABLE_MAX: u32 = 0x0fff_ffff;

/// Largest packet the protocol can express: five bytes of fixed header and the longest body.
pub const PACKET_BYTES_MAX: u32 = VARIABLE_MAX + 5;

/// Encoded bytes of a variable byte integer, in its shortest form. [MQTT-1.5.5-1]
pub(super) const fn variable_bytes(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// A body or block length as the number that is written.
pub(super) fn wire_length(bytes: usize) -> u32 {
    let length = u32::try_from(bytes).unwrap_or(u32::MAX);
    assert!(length <= VARIABLE_MAX, "{bytes} bytes do not fit into one packet");
    length
}

/// The bytes of a variable byte integer: seven bits each, the lowest first.
fn variable(value: u32) -> impl ExactSizeIterator<Item = u8> {
    let bytes = variable_bytes(value);
    (0..bytes).map(move |index| {
        let [low, ..] = (value >> (7 * index)).to_le_bytes();
        if index + 1 < bytes { low | 0x80 } else { low }
    })
}

pub(super) fn put_variable(out: &mut Vec<u8>, value: u32) {
    out.extend(variable(value));
}

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A string or binary field with its two bytes of length.
pub(super) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    assert!(usize::from(length) == bytes.len(), "a field of {} bytes is too long", bytes.len());
    put_u16(out, length);
    out.extend_from_slice(bytes);
}

/// A property block with its length, one byte of 0 if empty; nothing before 5.0.
/// [MQTT-2.2.2-1]
pub(super) fn put_properties(out: &mut Vec<u8>, properties: Properties<'_>, version: Version) {
    if version == Version::V5 {
        put_variable(out, wire_length(properties.raw().len()));
        out.extend_from_slice(properties.raw());
    }
}

/// Writes a packet whose length is known only after its body.
pub(super) fn framed(out: &mut Vec<u8>, first: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    let start = out.len();
    body(out);
    let length = wire_length(out.len() - start);
    out.splice(start..start, variable(length));
}
