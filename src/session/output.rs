//! Bytes that wait to leave on one connection.

use bytes::Bytes;

/// Payloads of this many bytes and more are sent from where they are instead of being copied.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 16 * 1024;

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
    pub fn prepare(&mut self, spares: &mut Vec<Vec<u8>>) {
        if self.bytes.capacity() == 0 {
            self.bytes = spares.pop().unwrap_or_default();
            self.bytes.reserve(FIRST_BYTES);
        }
    }
}
