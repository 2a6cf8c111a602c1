//! Bytes at an address that is a multiple of 4 KiB, as direct I/O wants them.

use std::fmt;

use super::BLOCK_BYTES;

/// A byte buffer of fixed capacity that never moves. No `unsafe`: it skips to the first aligned
/// byte of a larger allocation.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.len())
    }
}

impl AlignedBuffer {
    /// Empty, with room for `capacity` bytes.
    pub(super) fn new(capacity: usize) -> AlignedBuffer {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + BLOCK_BYTES);
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "a byte pointer can be aligned within one block");
        bytes.resize(start, 0);
        AlignedBuffer { bytes, start }
    }

    /// A buffer that holds `bytes`.
    pub fn holding(bytes: &[u8]) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::new(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Holds nothing?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything held.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// `bytes` zeros.
    pub fn zeroed(bytes: usize) -> AlignedBuffer {
        let mut buffer = AlignedBuffer::new(bytes);
        buffer.pad(bytes);
        buffer
    }

    /// Everything held, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    /// Appends; the caller keeps to the capacity, else the buffer would move.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.bytes.capacity() - self.bytes.len(), "aligned buffer is full");
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends zeros up to `bytes` in all.
    pub(super) fn pad(&mut self, bytes: usize) {
        let end = self.start + bytes;
        assert!(end >= self.bytes.len(), "padding never cuts");
        assert!(end <= self.bytes.capacity(), "aligned buffer is full");
        self.bytes.resize(end, 0);
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_aligned_and_stays() {
        let mut buffer = AlignedBuffer::new(3 * BLOCK_BYTES);
        let address = buffer.as_slice().as_ptr();
        buffer.extend(&[1; 5000]);
        buffer.pad(3 * BLOCK_BYTES);
        assert_eq!(buffer.as_slice().as_ptr(), address);
        assert_eq!(address.align_offset(BLOCK_BYTES), 0);
        assert_eq!(buffer.len(), 3 * BLOCK_BYTES);
    }

    #[test]
    #[should_panic(expected = "full")]
    fn capacity_is_kept() {
        let mut buffer = AlignedBuffer::new(10);
        buffer.extend(&[0; BLOCK_BYTES + 11]);
    }
}
