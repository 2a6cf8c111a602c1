//! What the user of the engine implements.

use std::net::SocketAddr;

use crate::conn::ConnId;
use crate::io::Io;
use crate::log::{Chunk, Failure, Lsn, ReadFault, StoredRecord};
use crate::outgoing::Outgoing;
use crate::time::Millis;

/// Where a connection came from. Travels with it to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Index in [`crate::Settings::listeners`].
    pub listener: usize,
    /// The other end; `None` for Unix sockets.
    pub peer: Option<SocketAddr>,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The peer ended its direction in good order.
    PeerClosed,
    /// The peer reset the connection.
    Reset,
    /// Another error number of the operating system.
    Io(i32),
    /// This side closed it.
    Local,
}

/// Place of a handler among its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardContext {
    /// This shard, from 0.
    pub shard: usize,
    /// Number of shards.
    pub shards: usize,
    /// Time at the start.
    pub now: Millis,
}

/// One shard's share of the program. All calls come from the shard's own thread, one at a time.
///
/// A panic in any of them is logged and ends the process.
pub trait Handler: Sized {
    /// What shards send each other.
    type Mail: Send + 'static;
    /// What accompanies a connection to another shard.
    type Luggage: Send + 'static;
    /// What other threads tell a shard by [`crate::Remote`].
    type Control: Send + 'static;

    /// Before the first connection.
    fn on_start(&mut self, io: &mut Io<Self::Mail, Self::Luggage>);

    /// A new connection. It is read as soon as this returns.
    fn on_accept(
        &mut self,
        io: &mut Io<Self::Mail, Self::Luggage>,
        conn: ConnId,
        accepted: Accepted,
    );

    /// A connection another shard handed over. Bytes that were read there and not delivered follow
    /// as [`Self::on_bytes`].
    fn on_adopt(
        &mut self,
        io: &mut Io<Self::Mail, Self::Luggage>,
        conn: ConnId,
        accepted: Accepted,
        luggage: Self::Luggage,
    );

    /// Bytes in the order the peer sent them, never empty. All of them are consumed by this call.
    fn on_bytes(&mut self, io: &mut Io<Self::Mail, Self::Luggage>, conn: ConnId, bytes: &[u8]);

    /// The whole of an [`Outgoing`] has been taken by the kernel; the buffers come back, still
    /// filled, for reuse.
    fn on_sent(&mut self, io: &mut Io<Self::Mail, Self::Luggage>, conn: ConnId, outgoing: Outgoing);

    /// The connection has ended. Comes exactly once for every connection that was accepted or
    /// adopted and not handed over; the name is dead afterwards and its index is used again.
    fn on_closed(&mut self, io: &mut Io<Self::Mail, Self::Luggage>, conn: ConnId, cause: Cause);

    /// Most connections have gone: what was kept for them may be given back. Soon after, the
    /// allocator is asked to give memory back to the system.
    fn on_few(&mut self) {}

    /// Mail of a shard, in the order it was posted there.
    fn on_mail(&mut self, io: &mut Io<Self::Mail, Self::Luggage>, from: usize, mail: Self::Mail);

    /// What another thread posted by [`crate::Remote`], at the start of a turn.
    fn on_control(&mut self, io: &mut Io<Self::Mail, Self::Luggage>, control: Self::Control);

    /// End of a turn, before the ring is entered: give outputs to [`Io::send`], mail to
    /// [`Io::post`].
    fn finish_turn(&mut self, io: &mut Io<Self::Mail, Self::Luggage>);

    /// When [`Self::on_tick`] is wanted. Asked before every sleep, so it must be cheap.
    fn next_deadline(&self) -> Option<Millis>;

    /// `io.now()` has reached [`Self::next_deadline`].
    fn on_tick(&mut self, io: &mut Io<Self::Mail, Self::Luggage>);

    /// Every record up to `lsn` is on stable storage (with an interval: written), and what waits
    /// for that may leave. At most once per turn, before [`Self::finish_turn`] of the next one.
    fn on_durable(&mut self, _io: &mut Io<Self::Mail, Self::Luggage>, _lsn: Lsn) {}

    /// What [`crate::ShardLog::read`] has read.
    fn on_record(
        &mut self,
        _io: &mut Io<Self::Mail, Self::Luggage>,
        _token: u64,
        _result: Result<StoredRecord, ReadFault>,
    ) {
    }

    /// What [`crate::ShardLog::walk`] has read.
    fn on_chunk(
        &mut self,
        _io: &mut Io<Self::Mail, Self::Luggage>,
        _token: u64,
        _result: Result<Chunk, ReadFault>,
    ) {
    }

    /// The log of this shard has failed. This is the last call of the shard; nothing leaves any
    /// more, and all other shards end too.
    fn on_log_failed(&mut self, _io: &mut Io<Self::Mail, Self::Luggage>, _failure: Failure) {}

    /// The engine is asked to stop; nothing is accepted any more. It waits until all connections
    /// are closed, at most `stop_grace_ms`, then cuts the rest.
    fn on_stop(&mut self, io: &mut Io<Self::Mail, Self::Luggage>);
}
