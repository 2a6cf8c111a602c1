//! Bytes that wait to leave on one connection.

use bytes::Bytes;

/// Payloads of this many bytes and more are sent from where they are instead of being copied.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 16 * 1024;

/// Buffers kept for later sends.
const SPARES_MAX: usize = 256;
/// Larger buffers are given back to the allocator.
const SPARE_BYTES_MAX: usize = 256 * 1024;
/// Memory of all spare buffers; above it they are given back.
const SPARES_BYTES_MAX: usize = 2 << 20;

/// Room for some small packets, so that the first of them does not grow the buffer in steps.
const FIRST_BYTES: usize = 256;

/// Output of one connection since its last send: own bytes, and shared payloads between them.
#[derive(Debug, Default)]
pub struct Output {
    /// Own bytes.
    pub bytes: Vec<u8>,
    /// Payloads; each goes before `bytes[offset..]`; offsets ascend.
    pub shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
    control_bytes: usize,
}

impl Output {
    /// All bytes that wait.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len() + self.shared_bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.shared.is_empty()
    }

    /// Counts bytes written since `start` as those of packets that answer the client. They can't
    /// wait in a queue as messages do, so it is not read while too many of them wait here.
    pub fn note_control(&mut self, start: usize) {
        self.control_bytes += self.bytes.len() - start;
    }

    /// Bytes of answers that wait.
    pub fn control_bytes(&self) -> usize {
        self.control_bytes
    }

    /// Appends a payload without copying it.
    pub fn push_shared(&mut self, payload: Bytes) {
        self.shared_bytes += payload.len();
        self.shared.push((self.bytes.len(), payload));
    }

    /// Takes all that waits. No memory stays: most connections are idle at most times.
    pub fn take(&mut self) -> (Vec<u8>, Vec<(usize, Bytes)>) {
        self.shared_bytes = 0;
        self.control_bytes = 0;
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.shared))
    }

    /// Before the first byte is written: takes a buffer that another send has left.
    #[inline]
    pub fn prepare(&mut self, spares: &mut Spares) {
        if self.bytes.capacity() == 0 {
            self.bytes = spares.take();
            self.bytes.reserve(FIRST_BYTES);
        }
    }
}

/// Buffers that finished sends have left, for the next ones. The last one in is the first out: it
/// is the one that the cache still holds.
#[derive(Debug, Default)]
pub struct Spares {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spares {
    /// Keeps a buffer, or gives it back to the allocator.
    pub fn keep(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        let fits = bytes <= SPARE_BYTES_MAX && self.bytes + bytes <= SPARES_BYTES_MAX;
        if fits && bytes > 0 && self.buffers.len() < SPARES_MAX {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }

    fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spares_have_an_end() {
        let mut spares = Spares::default();
        spares.keep(Vec::with_capacity(SPARE_BYTES_MAX + 1));
        assert_eq!(spares.bytes, 0);
        for _ in 0..SPARES_MAX {
            spares.keep(Vec::with_capacity(SPARE_BYTES_MAX));
        }
        assert!(spares.bytes <= SPARES_BYTES_MAX && spares.buffers.len() < SPARES_MAX);
        while !spares.buffers.is_empty() {
            assert!(spares.take().is_empty());
        }
        assert_eq!(spares.bytes, 0);
    }
}
