//! The file `broker`: what a data directory keeps for ever. Written once, before anything else.
//!
//! ```text
//! 0x00 4  "MQBR"    0x04 2  format    0x06 2  zero
//! 0x08 10 broker    drawn when the directory was made; in every block of every log
//! 0x18 10 hash key  two u64: gives clients and topics their home
//! 0x28 4  crc32c    of 0x00..0x28
//! ```
//! Lengths in this map are hexadecimal, integers little endian.

/// Length of the file.
pub const BROKER_FILE_BYTES: usize = 0x2c;

const MAGIC: [u8; 4] = *b"MQBR";
const FORMAT: u16 = 1;
const CHECKED_BYTES: usize = 0x28;

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Whose data it is.
    pub id: [u8; 16],
    /// Key of the hash that gives clients and topics their home.
    pub hash_key: (u64, u64),
}

/// Why it cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BrokerFault {
    /// Too short, or no such file at all.
    Damaged,
    /// The checksum holds, the version is unknown.
    Format(u16),
}

impl Broker {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BROKER_FILE_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.hash_key.0.to_le_bytes());
        bytes.extend_from_slice(&self.hash_key.1.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        assert!(bytes.len() == BROKER_FILE_BYTES, "the map above");
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Broker, BrokerFault> {
        if bytes.len() != BROKER_FILE_BYTES {
            return Err(BrokerFault::Damaged);
        }
        let (checked, crc) = bytes.split_at(CHECKED_BYTES);
        if crc != crc32c::crc32c(checked).to_le_bytes() || !checked.starts_with(&MAGIC) {
            return Err(BrokerFault::Damaged);
        }
        let format = u16::from_le_bytes(take(checked, 4));
        if format != FORMAT {
            return Err(BrokerFault::Format(format));
        }
        if take::<2>(checked, 6) != [0; 2] {
            return Err(BrokerFault::Damaged);
        }
        let key = |at| u64::from_le_bytes(take(checked, at));
        Ok(Broker { id: take(checked, 0x08), hash_key: (key(0x18), key(0x20)) })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let (_, rest) = bytes.split_at(at);
    *rest.first_chunk().expect("the length was checked")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: Broker = Broker {
        id: *b"0123456789abcdef",
        hash_key: (0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00),
    };

    /// The bytes on disk must not change.
    const GOLDEN: &str = "4d514252 0100 0000 30313233343536373839616263646566 \
                          8877665544332211 00ffeeddccbbaa99";

    #[test]
    fn bytes_are_those_of_format_1() {
        let bytes = BROKER.encode();
        let (checked, crc) = bytes.split_at(CHECKED_BYTES);
        let hex: String = checked.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN.replace([' ', '\n'], ""));
        assert_eq!(crc, crc32c::crc32c(checked).to_le_bytes());
        assert_eq!(Broker::decode(&bytes), Ok(BROKER));
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let bytes = BROKER.encode();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Broker::decode(&changed), Err(BrokerFault::Damaged), "bit {bit}");
        }
        assert_eq!(Broker::decode(&bytes[..10]), Err(BrokerFault::Damaged));
    }

    #[test]
    fn newer_format_is_named() {
        let mut bytes = BROKER.encode();
        bytes[4] = 2;
        let crc = crc32c::crc32c(&bytes[..CHECKED_BYTES]).to_le_bytes();
        bytes[CHECKED_BYTES..].copy_from_slice(&crc);
        assert_eq!(Broker::decode(&bytes), Err(BrokerFault::Format(2)));
    }
}
