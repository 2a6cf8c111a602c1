//! Tests of the whole codec, by rules of the specification.

mod round_trip;

use super::{DecodeError, PACKET_BYTES_MAX, Packet, PacketId, Version, decode, encode};

/// Every version, for tests where it is a parameter.
const ALL: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Both versions without properties.
const V3: [Version; 2] = [Version::V31, Version::V311];

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("a test's packet id is not 0")
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
