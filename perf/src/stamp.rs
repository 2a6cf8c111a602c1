//! What a payload carries so that loss, duplicates, order and latency can be checked.
//!
//! ```text
//! 0..4    publisher u32 be
//! 4..12   sequence u64 be, from 0 per publisher
//! 12..20  time u64 be, intended send time in ns of the generator's clock
//! 20..n-1 filler
//! n-1     low byte of the sequence, finds frames that were cut or shifted
//! ```

/// Smallest payload that holds a stamp.
pub(crate) const PAYLOAD_BYTES_MIN: usize = 21;

/// Contents of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Index of the publisher.
    pub(crate) publisher: u32,
    /// Number of the message, counted from 0 by its publisher.
    pub(crate) sequence: u64,
    /// When the message should have left, in ns of the generator's clock.
    pub(crate) time_ns: u64,
}

impl Stamp {
    /// Writes the stamp into `payload`, which holds at least [`PAYLOAD_BYTES_MIN`] bytes.
    pub(crate) fn write(self, payload: &mut [u8]) {
        assert!(payload.len() >= PAYLOAD_BYTES_MIN, "payload has no room for a stamp");
        let [.., tail] = self.sequence.to_be_bytes();
        if let Some(last) = payload.last_mut() {
            *last = tail;
        }
        if let Some((publisher, rest)) = payload.split_first_chunk_mut::<4>() {
            *publisher = self.publisher.to_be_bytes();
            if let Some((sequence, rest)) = rest.split_first_chunk_mut::<8>() {
                *sequence = self.sequence.to_be_bytes();
                if let Some(time) = rest.first_chunk_mut::<8>() {
                    *time = self.time_ns.to_be_bytes();
                }
            }
        }
    }

    /// Reads a stamp; `None` if the payload is too short or its last byte does not fit.
    #[inline]
    pub(crate) fn read(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (time, rest) = rest.split_first_chunk::<8>()?;
        let [.., tail] = *sequence;
        (*rest.last()? == tail).then(|| Self {
            publisher: u32::from_be_bytes(*publisher),
            sequence: u64::from_be_bytes(*sequence),
            time_ns: u64::from_be_bytes(*time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamp_survives_the_payload() {
        let stamp = Stamp { publisher: 7, sequence: 0x0102_0304, time_ns: 99 };
        for bytes in [PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MIN + 1, 64] {
            let mut payload = vec![0xaa; bytes];
            stamp.write(&mut payload);
            assert_eq!(Stamp::read(&payload), Some(stamp));
            payload.pop();
            assert_eq!(Stamp::read(&payload), None, "a cut payload is noticed");
        }
    }
}
