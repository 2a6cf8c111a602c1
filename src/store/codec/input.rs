//! Reading the pieces of a record, each checked.

use crate::topic::{Filter, FilterError, TopicError, TopicName};
use thiserror::Error;

/// Longest client identifier or user name, the limit of an MQTT string.
const TEXT_BYTES_MAX: usize = 65_535;

/// Why bytes are no record, and where it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {offset} of the record: {fault}")]
pub struct DecodeFault {
    /// Byte of the body.
    pub offset: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// A type that must be understood, and is not.
    #[error("type {0:#04x} is not known to this version")]
    Type(u8),
    /// A length or count leads beyond the end.
    #[error("it ends too early")]
    End,
    /// Bytes follow the last field.
    #[error("bytes follow its last field")]
    Trailing,
    /// A number with needless bytes, or above what its field may hold.
    #[error("a number is too large or has needless bytes")]
    Number,
    /// A bit is set that has no meaning, or a field is there that its bit does not announce.
    #[error("bits are set that have no meaning")]
    Bits,
    /// A text is not UTF-8, has a null character, or is longer than 65,535 bytes.
    #[error("a text is not one that MQTT allows")]
    Text,
    /// A `QoS` that does not exist or may not stand here.
    #[error("a QoS is not possible here")]
    Qos,
    /// Not a topic name.
    #[error("{0}")]
    Topic(#[source] TopicError),
    /// Not a topic filter.
    #[error("{0}")]
    Filter(#[source] FilterError),
}

/// The part of a body that was not read yet.
#[derive(Debug)]
pub(super) struct Input<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, at: 0 }
    }

    /// A fault of what begins at byte `offset`.
    pub(super) fn fault_at<T>(offset: usize, fault: Fault) -> Result<T, DecodeFault> {
        Err(DecodeFault { offset, fault })
    }

    /// Byte of the body that is read next.
    pub(super) fn offset(&self) -> usize {
        self.at
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), DecodeFault> {
        if self.at == self.body.len() { Ok(()) } else { Self::fault_at(self.at, Fault::Trailing) }
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeFault> {
        let byte = self.body.get(self.at).copied();
        let Some(byte) = byte else { return Self::fault_at(self.at, Fault::End) };
        self.at += 1;
        Ok(byte)
    }

    /// A byte of which no other bits than these are set.
    pub(super) fn bits(&mut self, known: u8) -> Result<u8, DecodeFault> {
        let offset = self.at;
        let bits = self.u8()?;
        if bits & !known == 0 { Ok(bits) } else { Self::fault_at(offset, Fault::Bits) }
    }

    /// 7 bits per byte, low bits first, no needless byte.
    pub(super) fn u64(&mut self) -> Result<u64, DecodeFault> {
        let offset = self.at;
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && byte > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return if minimal { Ok(number) } else { Self::fault_at(offset, Fault::Number) };
            }
        }
        Self::fault_at(offset, Fault::Number)
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeFault> {
        let offset = self.at;
        u32::try_from(self.u64()?).or_else(|_| Self::fault_at(offset, Fault::Number))
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeFault> {
        let offset = self.at;
        u16::try_from(self.u64()?).or_else(|_| Self::fault_at(offset, Fault::Number))
    }

    /// A number that is written as its distance from `base`, signs in the lowest bit.
    pub(super) fn near(&mut self, base: u64) -> Result<u64, DecodeFault> {
        let distance = self.u64()?;
        let sign = 0u64.wrapping_sub(distance & 1);
        Ok(base.wrapping_add((distance >> 1) ^ sign))
    }

    /// How many things follow that have at least `bytes_min` bytes each.
    pub(super) fn count(&mut self, bytes_min: usize) -> Result<usize, DecodeFault> {
        let offset = self.at;
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let left = self.body.len() - self.at;
        if count <= left / bytes_min { Ok(count) } else { Self::fault_at(offset, Fault::End) }
    }

    /// A length and that many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeFault> {
        let count = self.count(1)?;
        let end = self.at + count;
        let Some(bytes) = self.body.get(self.at..end) else {
            return Self::fault_at(self.at, Fault::End);
        };
        self.at = end;
        Ok(bytes)
    }

    /// UTF-8 without U+0000, at most 65,535 bytes. [MQTT-1.5.4-1] [MQTT-1.5.4-2]
    pub(super) fn text(&mut self) -> Result<&'a str, DecodeFault> {
        let offset = self.at;
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) if text.len() <= TEXT_BYTES_MAX && !text.contains('\0') => Ok(text),
            Ok(_) | Err(_) => Self::fault_at(offset, Fault::Text),
        }
    }

    fn utf8(&mut self) -> Result<&'a str, DecodeFault> {
        let offset = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).or_else(|_| Self::fault_at(offset, Fault::Text))
    }

    pub(super) fn topic(&mut self) -> Result<&'a str, DecodeFault> {
        let offset = self.at;
        let topic = TopicName::parse(self.utf8()?);
        let topic = topic.or_else(|fault| Self::fault_at(offset, Fault::Topic(fault)))?;
        Ok(topic.as_str())
    }

    /// A filter with any number of levels: the limit of today is no reason to refuse a log.
    pub(super) fn filter(&mut self) -> Result<Filter, DecodeFault> {
        let offset = self.at;
        let filter = Filter::parse(self.utf8()?, usize::MAX);
        filter.or_else(|fault| Self::fault_at(offset, Fault::Filter(fault)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn number(bytes: &[u8], expected: Result<u64, Fault>) {
        let mut input = Input::new(bytes);
        assert_eq!(input.u64().map_err(|at| at.fault), expected, "{bytes:02x?}");
    }

    #[test]
    fn numbers_have_one_form() {
        number(&[0x00], Ok(0));
        number(&[0x7f], Ok(0x7f));
        number(&[0x80, 0x01], Ok(0x80));
        number(&[0x80, 0x00], Err(Fault::Number));
        number(&[0x81, 0x80, 0x00], Err(Fault::Number));
        number(&[0x80], Err(Fault::End));
        number(&[], Err(Fault::End));
    }

    #[test]
    fn numbers_end_at_64_bits() {
        let max = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        number(&max, Ok(u64::MAX));
        let mut above = max;
        above[9] = 0x02;
        number(&above, Err(Fault::Number));
        above[9] = 0x81;
        number(&above, Err(Fault::Number));
    }

    #[test]
    fn counts_and_lengths_end_with_the_record() {
        assert_eq!(Input::new(&[3, 0, 0, 0, 0, 0, 0]).count(2), Ok(3));
        let fault = Input::new(&[3, 0, 0, 0, 0, 0]).count(2).expect_err("one byte is missing");
        assert_eq!(fault, DecodeFault { offset: 0, fault: Fault::End });
        assert_eq!(Input::new(&[2, 7, 8]).bytes(), Ok(&[7, 8][..]));
        assert!(Input::new(&[3, 7, 8]).bytes().is_err());
    }
}
