//! Frames as they come in: the few packet types of the measured path, read by hand.
//!
//! Promise: no allocation and no copy. Everything that is not PUBLISH or an acknowledgement
//! (CONNACK, SUBACK) goes through `culex::codec` in `handshake`.
//! Not here: whether the contents are right (`traffic`).

use culex::codec::Version;

/// Packet type numbers as in the first four bits of a packet (MQTT 5.0 §2.1.2).
pub(crate) mod kind {
    pub(crate) const CONNACK: u8 = 0x2;
    pub(crate) const PUBLISH: u8 = 0x3;
    pub(crate) const PUBACK: u8 = 0x4;
    pub(crate) const PUBREC: u8 = 0x5;
    pub(crate) const PUBREL: u8 = 0x6;
    pub(crate) const PUBCOMP: u8 = 0x7;
    pub(crate) const SUBACK: u8 = 0x9;
    pub(crate) const DISCONNECT: u8 = 0xe;
}

/// The peer sent something that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One whole packet and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// First byte: packet type and flags.
    pub(crate) first: u8,
    /// Everything after the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes after this packet.
    pub(crate) rest: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Splits the packet at the start of `bytes` off; `None` if it is not complete yet.
    #[inline]
    pub(crate) fn split(bytes: &'a [u8]) -> Result<Option<Self>, Malformed> {
        let Some((&first, tail)) = bytes.split_first() else { return Ok(None) };
        let Some((body_bytes, tail)) = variable_integer(tail)? else { return Ok(None) };
        Ok(tail.split_at_checked(body_bytes).map(|(body, rest)| Self { first, body, rest }))
    }

    /// Packet type.
    #[inline]
    pub(crate) fn kind(&self) -> u8 {
        self.first >> 4
    }
}

/// Reads a variable byte integer; `None` if it is not complete yet.
#[inline]
fn variable_integer(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, Malformed> {
    let mut value = 0;
    let mut rest = bytes;
    for shift in [0, 7, 14, 21] {
        let Some((&byte, tail)) = rest.split_first() else { return Ok(None) };
        value |= usize::from(byte & 0x7f) << shift;
        rest = tail;
        if byte < 0x80 {
            return Ok(Some((value, rest)));
        }
    }
    Err(Malformed)
}

/// The parts of an incoming PUBLISH that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery<'a> {
    /// QoS bits, 0 to 2.
    pub(crate) qos: u8,
    /// Packet identifier, 0 at QoS 0.
    pub(crate) packet_id: u16,
    /// Application payload.
    pub(crate) payload: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// Reads the body of a PUBLISH.
    #[inline]
    pub(crate) fn parse(first: u8, body: &'a [u8], version: Version) -> Result<Self, Malformed> {
        let (topic_bytes, rest) = body.split_first_chunk::<2>().ok_or(Malformed)?;
        let topic_bytes = usize::from(u16::from_be_bytes(*topic_bytes));
        let mut rest = rest.get(topic_bytes..).ok_or(Malformed)?;
        let qos = (first >> 1) & 0x3;
        let mut packet_id = 0;
        if qos > 0 {
            let (id, tail) = rest.split_first_chunk::<2>().ok_or(Malformed)?;
            packet_id = u16::from_be_bytes(*id);
            rest = tail;
        }
        if version == Version::V5 {
            let (property_bytes, tail) = variable_integer(rest)?.ok_or(Malformed)?;
            rest = tail.get(property_bytes..).ok_or(Malformed)?;
        }
        Ok(Self { qos, packet_id, payload: rest })
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// Packet identifier.
    pub(crate) packet_id: u16,
    /// Does its reason code say that the message was taken.
    pub(crate) accepted: bool,
}

impl Acknowledgement {
    /// Reads the body of an acknowledgement.
    #[inline]
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let (id, rest) = body.split_first_chunk::<2>().ok_or(Malformed)?;
        let accepted = rest.first().is_none_or(|&reason| reason < 0x80);
        Ok(Self { packet_id: u16::from_be_bytes(*id), accepted })
    }
}

/// Appends an acknowledgement with reason Success, which is the same in all versions.
#[inline]
pub(crate) fn append_ack(kind: u8, packet_id: u16, out: &mut Vec<u8>) {
    // PUBREL alone has a reserved flag that must be set. [MQTT-3.6.1-1]
    let flags = if kind == kind::PUBREL { 0x2 } else { 0x0 };
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[kind << 4 | flags, 2, high, low]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_frames_wait() {
        let bytes = [0x30, 5, 0, 1, b'a', b'x', b'y', 0x40];
        for end in 0..7 {
            assert_eq!(Frame::split(&bytes[..end]), Ok(None), "{end} bytes");
        }
        let frame = Frame::split(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind(), frame.body.len(), frame.rest), (kind::PUBLISH, 5, &[0x40][..]));
    }

    #[test]
    fn long_lengths_are_read() {
        let mut bytes = vec![0x30, 0x80, 0x01];
        bytes.extend_from_slice(&[0; 128]);
        assert_eq!(Frame::split(&bytes).unwrap().unwrap().body.len(), 128);
        assert_eq!(Frame::split(&[0x30, 0xff, 0xff, 0xff, 0xff, 1]), Err(Malformed));
    }

    #[test]
    fn publish_of_both_versions() {
        let old = [0, 1, b'a', 0, 9, b'x'];
        let new = [0, 1, b'a', 0, 9, 2, 1, 1, b'x'];
        let expected = Ok(Delivery { qos: 1, packet_id: 9, payload: b"x" });
        assert_eq!(Delivery::parse(0x32, &old, Version::V311), expected);
        assert_eq!(Delivery::parse(0x32, &new, Version::V5), expected);
        assert_eq!(Delivery::parse(0x32, &[0, 9, b'a'], Version::V311), Err(Malformed));
    }

    #[test]
    fn acknowledgements() {
        let mut out = Vec::new();
        append_ack(kind::PUBREL, 0x0102, &mut out);
        assert_eq!(out, [0x62, 2, 1, 2]);
        assert!(Acknowledgement::parse(&[0, 1]).unwrap().accepted);
        assert!(!Acknowledgement::parse(&[0, 1, 0x97]).unwrap().accepted);
    }
}
