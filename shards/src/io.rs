//! What a handler can do.

use crate::conn::ConnId;
use crate::disk::ShardLog;
use crate::handler::Cause;
use crate::mesh::{Letter, Mesh};
use crate::net::Net;
use crate::net::listener::{Listeners, Listening};
use crate::outgoing::Outgoing;
use crate::settings::ListenerSettings;
use crate::stats::NetStats;
use crate::time::Millis;

/// One shard's connections, mailboxes and time, as its handler sees them.
///
/// Calls with the name of a connection that has ended do nothing: an end may be known here before
/// [`crate::Handler::on_closed`] has told it.
#[derive(Debug)]
pub struct Io<M, L> {
    pub(crate) net: Net<L>,
    pub(crate) mesh: Mesh<M, L>,
    pub(crate) log: Option<Box<ShardLog>>,
    pub(crate) listeners: Listeners,
    pub(crate) now: Millis,
    pub(crate) shard: usize,
}

impl<M, L> Io<M, L> {
    /// Time at the start of this turn.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// This shard, from 0.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// Number of shards.
    pub fn shards(&self) -> usize {
        self.mesh.shards()
    }

    /// Sends; [`crate::Handler::on_sent`] follows when the kernel has taken all of it. Leaves with
    /// the end of the turn.
    ///
    /// On a connection that has ended, or after [`Self::close_after_flush`], it is dropped.
    ///
    /// # Panics
    /// If the connection is sending already, or `outgoing` is empty.
    pub fn send(&mut self, conn: ConnId, outgoing: Outgoing) {
        self.net.send(conn, outgoing);
    }

    /// Whether an [`Outgoing`] of this connection is still on its way.
    pub fn is_sending(&self, conn: ConnId) -> bool {
        self.net.is_sending(conn)
    }

    /// Ends the connection now; what has not left is lost. `on_closed` follows.
    pub fn close(&mut self, conn: ConnId) {
        self.net.close(conn, Cause::Local);
    }

    /// Ends the connection when the send in flight has left, in a way that lets the peer read it:
    /// ends our direction, drops what still comes, and closes when the peer has ended too, at
    /// most `linger_ms` from now. `on_closed` follows then; bytes are not delivered any more.
    pub fn close_after_flush(&mut self, conn: ConnId) {
        self.net.close_after_flush(conn, self.now);
    }

    /// The connection is home: it will not be handed over, and is read with one operation for
    /// many receives.
    pub fn start_stream(&mut self, conn: ConnId) {
        self.net.start_stream(conn);
    }

    /// Delivers no bytes until [`Self::resume`]. What the kernel still brings is kept, at most the
    /// receive buffers of the shard; then the peer has to wait.
    pub fn pause(&mut self, conn: ConnId) {
        self.net.pause(conn);
    }

    /// Delivers bytes again, first those kept, in the next turn.
    pub fn resume(&mut self, conn: ConnId) {
        self.net.resume(conn);
    }

    /// Moves the connection to shard `to`, where [`crate::Handler::on_adopt`] gets it with its
    /// undelivered bytes. The name is dead here at once; there is no `on_closed`. One that has just
    /// ended, of which the handler was not told yet, ends with its luggage.
    ///
    /// # Panics
    /// After [`Self::start_stream`], while sending, or if there is no such shard.
    pub fn hand_over(&mut self, conn: ConnId, to: usize, luggage: L) {
        assert!(to < self.shards(), "there is no shard {to}");
        self.net.leave(conn, to, luggage);
        self.dispatch(conn);
    }

    /// Puts mail for shard `to` (this one is allowed) into its outbox. Never blocks: if the
    /// mailbox there is full the outbox grows, see [`Self::outboxes_clear`].
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn post(&mut self, to: usize, mail: M) {
        self.post_heavy(to, mail, 1);
    }

    /// The same for mail that is as much work for who takes it as `weight` ordinary mails: a
    /// mailbox has room for so many fewer.
    ///
    /// # Panics
    /// If there is no such shard, or the weight is 0.
    pub fn post_heavy(&mut self, to: usize, mail: M, weight: usize) {
        assert!(weight > 0, "all mail is work");
        self.mesh.post(to, Letter::Mail(mail), weight);
    }

    /// Weight of the mails and connections that have not left for shard `to`; most mails and all
    /// connections weigh 1.
    pub fn outbox_weight(&self, to: usize) -> usize {
        self.mesh.outbox_weight(to)
    }

    /// Whether every mailbox had room at the end of the last turn. While not, a handler pauses the
    /// connections that make it post: outboxes are bounded only by what it posts.
    pub fn outboxes_clear(&self) -> bool {
        !self.mesh.is_blocked()
    }

    /// Accepts on a socket of [`crate::listen`] from the next turn on; connections have this number
    /// in [`crate::Accepted::listener`]. After the stop it is closed instead.
    ///
    /// # Panics
    /// If the number has been used before.
    pub fn listen(&mut self, listener: usize, socket: Listening) {
        self.listeners.add(listener, socket);
    }

    /// Closes a listening socket. Connections that came by it stay; those the kernel has not given
    /// to anybody yet are reset.
    pub fn unlisten(&mut self, listener: usize) {
        self.listeners.remove(listener, &mut self.net.ring);
    }

    /// Gives a listener other options, as far as [`crate::is_same_socket`] says that it can have
    /// them. They hold for connections that come from now on.
    pub fn tune(&mut self, listener: usize, settings: &ListenerSettings) {
        if let Err(error) = self.listeners.tune(listener, settings) {
            let address = &settings.address;
            tracing::warn!(shard = self.shard, %address, %error, "cannot change the listener");
        }
    }

    /// The log of this shard; `None` if the engine was started without logs.
    pub fn log(&mut self) -> Option<&mut ShardLog> {
        self.log.as_deref_mut()
    }

    /// Counters of this shard.
    pub fn stats(&self) -> &NetStats {
        &self.net.stats
    }

    /// Gives the disk what the turn has appended.
    pub(crate) fn run_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.run(&mut self.net.ring, self.now);
        }
    }

    /// Posts the parcel of a connection that leaves, if it is ready.
    pub(crate) fn dispatch(&mut self, conn: ConnId) {
        if let Some((to, parcel)) = self.net.take_leaving(conn) {
            self.mesh.post(to, Letter::Socket(Box::new(parcel)), 1);
        }
    }
}
