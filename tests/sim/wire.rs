//! One connection between a client and a shard: bytes under way in both directions.

use culex::codec::Version;
use shards::ConnId;
use std::collections::VecDeque;

/// Where the broker's side of a connection stands; as in `culex::edge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// CONNECT is not complete.
    Connecting,
    Live,
    /// The end is decided; output still leaves.
    Closing,
    /// The shard knows that it is gone.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub id: ConnId,
    pub shard: usize,
    pub client: usize,
    pub stage: Stage,
    pub version: Version,
    /// Bytes of the client under way.
    pub up: VecDeque<u8>,
    /// Bytes of the client that have arrived.
    pub arrived_bytes: usize,
    /// The beginning of a packet, at the broker.
    pub partial: Vec<u8>,
    /// Bytes of the broker under way.
    pub down: VecDeque<u8>,
    /// The beginning of a packet, at the client.
    pub client_partial: Vec<u8>,
    /// Output was taken and `Drained` has not been said.
    pub sending: bool,
    /// The client is there.
    pub client_open: bool,
    /// The shard does not want to read.
    pub paused: bool,
}

impl Conn {
    pub(crate) fn new(id: ConnId, shard: usize, client: usize, version: Version) -> Conn {
        Conn {
            id,
            shard,
            client,
            stage: Stage::Connecting,
            version,
            up: VecDeque::new(),
            arrived_bytes: 0,
            partial: Vec::new(),
            down: VecDeque::new(),
            client_partial: Vec::new(),
            sending: false,
            client_open: true,
            paused: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Connecting | Stage::Live)
    }
}
