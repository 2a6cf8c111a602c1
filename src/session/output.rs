//! Bytes that wait to leave on one connection.

use bytes::Bytes;

/// Payloads of this many bytes and more are sent from where they are instead of being copied.
pub const SHARED_PAYLOAD_BYTES_MIN: usize = 16 * 1024;

/// Output of one connection since its last send: own bytes, and shared payloads between them.
#[derive(Debug, Default)]
pub struct Output {
    /// Own bytes.
    pub bytes: Vec<u8>,
    /// Payloads; each goes before `bytes[offset..]`; offsets ascend.
    pub shared: Vec<(usize, Bytes)>,
    shared_bytes: usize,
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

    /// Appends a payload without copying it.
    pub fn push_shared(&mut self, payload: Bytes) {
        self.shared_bytes += payload.len();
        self.shared.push((self.bytes.len(), payload));
    }

    /// Takes all that waits, leaving `spare` (emptied) as the next buffer.
    pub fn take(&mut self, mut spare: Vec<u8>) -> (Vec<u8>, Vec<(usize, Bytes)>) {
        spare.clear();
        self.shared_bytes = 0;
        (std::mem::replace(&mut self.bytes, spare), std::mem::take(&mut self.shared))
    }
}
