//! Packets that arrive in pieces.

use crate::codec::{self, DecodeError};

/// The beginning of a packet whose rest has not arrived. Empty for most connections at most times,
/// and then without memory of its own.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    partial: Vec<u8>,
}

impl Reassembly {
    /// Nothing held.
    pub(super) const NEW: Reassembly = Reassembly { partial: Vec::new() };

    /// Bytes held.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.partial
    }

    /// Keeps the beginning of a packet.
    ///
    /// Memory follows what has arrived, not what the header claims.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
    }

    /// Puts back what `take` gave.
    pub(super) fn put_back(&mut self, bytes: Vec<u8>) {
        self.partial = bytes;
    }

    /// Gives up what is held.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.partial)
    }

    /// Moves from the front of `bytes` what the held packet still lacks. Gives the packet if it is
    /// complete now, and the rest of `bytes`.
    ///
    /// # Errors
    /// The header is malformed or claims more than `packet_bytes_max`.
    pub(super) fn complete<'b>(
        &mut self,
        mut bytes: &'b [u8],
        packet_bytes_max: u32,
    ) -> Result<(Option<Vec<u8>>, &'b [u8]), DecodeError> {
        loop {
            let lacking = match codec::frame(&self.partial, packet_bytes_max)? {
                Some(frame) => frame.total_bytes - self.partial.len(),
                // At most five bytes are looked at one by one until the length is known.
                None => 1,
            };
            if lacking == 0 {
                return Ok((Some(self.take()), bytes));
            }
            let Some((piece, rest)) = bytes.split_at_checked(lacking.min(bytes.len())) else {
                return Ok((None, bytes));
            };
            if piece.is_empty() {
                return Ok((None, rest));
            }
            self.partial.extend_from_slice(piece);
            bytes = rest;
        }
    }
}
