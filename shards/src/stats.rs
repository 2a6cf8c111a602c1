//! Counters of one shard's network, all since its start.

/// What the network of one shard has done. Plain numbers: only the shard itself reads them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Connections taken from listeners.
    pub accepts: u64,
    /// Connections that came from another shard.
    pub adopts: u64,
    /// Connections given to another shard.
    pub hand_overs: u64,
    /// Failed accepts, among them those for want of a descriptor.
    pub accept_errors: u64,
    /// Connections closed at once because `connections_max` was reached or descriptors ran out.
    pub refused: u64,
    /// Connections now in the slab, those still closing included.
    pub connections: u64,
    /// Connections that have ended here.
    pub closes: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes the kernel took.
    pub bytes_out: u64,
    /// Receive completions with bytes.
    pub receives: u64,
    /// Send operations, the rest of a short send counted again.
    pub sends: u64,
    /// Sends that took only a part.
    pub short_sends: u64,
    /// Receives that found no free buffer.
    pub buffers_exhausted: u64,
    /// Connections cut because lingering took longer than `linger_ms`.
    pub lingers_cut: u64,
    /// Times the ring was entered.
    pub enters: u64,
    /// Turns that slept.
    pub sleeps: u64,
    /// Batches that found a mailbox full.
    pub mailboxes_full: u64,
    /// Doorbells rung at other shards.
    pub rings: u64,
}
