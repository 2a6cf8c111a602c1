//! Connections whose end is decided: what is left for them leaves first.

use super::conns::{Conn, Stage};
use super::driver::{Driver, Wire};
use shards::ConnId;
use tracing::debug;

/// Time for the last output to leave once the end is decided; a peer that does not read it is cut.
const CLOSE_PATIENCE_MS: u64 = 5_000;

impl Driver {
    /// Closes a connection whose end is decided, once all its output has been given to the engine,
    /// which then sees to it that it ends. False if some is left.
    pub(super) fn close_when_sent(&mut self, io: &mut Wire, conn: ConnId) -> bool {
        if !io.is_sending(conn) {
            self.send(io, conn);
        }
        let given = !self.has_output(conn);
        if given {
            io.close_after_flush(conn);
        }
        given
    }

    /// Something is still to be given to the engine before the end.
    fn has_output(&mut self, conn: ConnId) -> bool {
        let unfinished = |entry: &mut Conn| entry.stack.as_ref().is_some_and(|s| !s.is_finished());
        self.shard.has_output(conn) || self.conn(conn).is_some_and(unfinished)
    }

    /// The end is decided: what is left leaves, within [`CLOSE_PATIENCE_MS`].
    pub(super) fn end(&mut self, io: &mut Wire, conn: ConnId) {
        if let Some(entry) = self.conn(conn) {
            entry.stage = Stage::Closing;
            if !self.close_when_sent(io, conn) {
                self.closing.push_back((io.now().after(CLOSE_PATIENCE_MS), conn));
            }
        }
    }

    /// Cuts those that had time enough to take what was left for them.
    pub(super) fn cut(&mut self, io: &mut Wire) {
        while let Some((due, conn)) = self.closing.front().copied()
            && due <= io.now()
        {
            self.closing.pop_front();
            if self.has_output(conn) {
                debug!(conn = conn.index(), "does not take its last output");
                io.close(conn);
            }
        }
    }
}
