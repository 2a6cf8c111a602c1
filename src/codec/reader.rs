//! Cursor over the bytes of one packet.
//!
//! Promise: never reads past the packet; a field that would is [`DecodeError::Truncated`].

use super::error::DecodeError;
use super::properties::Properties;
use super::property_table::Place;
use super::types::{PacketId, Version};

/// Decodes a variable byte integer at the start of `bytes`: value and encoded bytes.
/// `None`: not complete yet.
///
/// The shortest form is demanded in all versions: 5.0 says so, and before 5.0 nobody sends another,
/// so an overlong length is a sign of an attack on a filter in between.
pub(super) fn variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0_u32;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            // [MQTT-1.5.5-1] A last byte of 0 could have been left out.
            let is_shortest = byte != 0 || index == 0;
            return if is_shortest {
                Ok(Some((value, index + 1)))
            } else {
                Err(DecodeError::BadLength)
            };
        }
    }
    if bytes.len() < 4 { Ok(None) } else { Err(DecodeError::BadLength) }
}

/// Is it UTF-8 without U+0000. Surrogates are refused by `from_utf8`, a BOM is kept.
/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.4-3]
pub(super) fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => Ok(text),
        _ => Err(DecodeError::BadString),
    }
}

/// What has not been read yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Nothing may follow the last field.
    pub(super) const fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes) }
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.chunk()?;
        Ok(byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.chunk()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    pub(super) fn variable(&mut self) -> Result<u32, DecodeError> {
        let (value, bytes) = variable(self.rest)?.ok_or(DecodeError::Truncated)?;
        self.take(bytes)?;
        Ok(value)
    }

    /// Two bytes of length, then that many bytes.
    pub(super) fn binary(&mut self) -> Result<&'a [u8], DecodeError> {
        let bytes = usize::from(self.u16()?);
        self.take(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        text(self.binary()?)
    }

    /// [MQTT-2.2.1-3] 0 is no packet identifier.
    pub(super) fn packet_id(&mut self) -> Result<PacketId, DecodeError> {
        PacketId::new(self.u16()?).ok_or(DecodeError::PacketIdZero)
    }

    /// A property block with its length prefix; nothing before 5.0.
    pub(super) fn properties(
        &mut self,
        version: Version,
        place: Place,
    ) -> Result<Properties<'a>, DecodeError> {
        if version != Version::V5 {
            return Ok(Properties::default());
        }
        let bytes = self.variable()?;
        let bytes = usize::try_from(bytes).map_err(|_| DecodeError::Truncated)?;
        Properties::parse(self.take(bytes)?, place)
    }
}
