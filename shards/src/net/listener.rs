//! Listening sockets: how they are opened, and how a shard accepts on its own.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::ring::Ring;
use crate::settings::ListenerSettings;
use crate::time::Millis;

/// Pause after an accept failed for want of a descriptor or memory.
const PAUSE_MS: u64 = 50;
/// A failure that lasts is logged this often.
const COMPLAINT_MS: u64 = 10_000;
/// Waiting connections turned away per pause while descriptors are short.
const TURN_AWAY_MAX: usize = 16;

/// Opens one socket per shard for an address.
///
/// With `SO_REUSEPORT` the kernel lets any number of processes of one user share a port, so a
/// socket without it is tried first: a second broker is told instead of taking half the clients.
pub(crate) fn open(
    settings: ListenerSettings,
    all: &[ListenerSettings],
    shards: usize,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    if settings.address.port() != 0 {
        let alone = socket(settings.address, all)?;
        alone.bind(&settings.address.into())?;
        alone.listen(1)?;
    }
    let mut address = settings.address;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = socket(address, all)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        if address.port() == 0 {
            let bound = socket.local_addr()?.as_socket();
            address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        }
        let backlog = i32::try_from(settings.backlog).unwrap_or(i32::MAX);
        socket.listen(backlog)?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

fn socket(address: SocketAddr, all: &[ListenerSettings]) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it: output is coalesced here, not in the kernel.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        // `[::]:1883` alone serves both families; beside `0.0.0.0:1883` only its own.
        let beside_v4 = all
            .iter()
            .any(|other| other.address.is_ipv4() && other.address.port() == address.port());
        socket.set_only_v6(beside_v4)?;
    }
    Ok(socket)
}

/// The listeners of one shard.
#[derive(Debug)]
pub(crate) struct Listeners {
    sockets: Vec<Listener>,
    /// Closed for a moment when there are no descriptors, to tell waiting peers so.
    spare: Option<File>,
    stopped: bool,
    /// Not before this time is a failure logged again.
    quiet_until: Option<Millis>,
}

#[derive(Debug)]
struct Listener {
    socket: Option<Socket>,
    armed: bool,
    /// Not before this time.
    paused_until: Option<Millis>,
}

impl Listeners {
    pub(crate) fn new(sockets: Vec<Socket>) -> Listeners {
        let sockets = sockets
            .into_iter()
            .map(|socket| Listener { socket: Some(socket), armed: false, paused_until: None })
            .collect();
        Listeners { sockets, spare: spare(), stopped: false, quiet_until: None }
    }

    /// Arms every listener that neither is armed nor pauses.
    pub(crate) fn arm(&mut self, ring: &mut Ring, now: Millis) {
        for (index, listener) in (0u32..).zip(&mut self.sockets) {
            if listener.armed || listener.paused_until.is_some_and(|until| now < until) {
                continue;
            }
            if let Some(socket) = &listener.socket {
                listener.paused_until = None;
                listener.armed = true;
                ring.accept(socket.as_raw_fd(), index);
            }
        }
    }

    /// When a pause is over.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.sockets.iter().filter_map(|listener| listener.paused_until).min()
    }

    /// An accept ended for good; [`Self::arm`] starts it again.
    pub(crate) fn ended(&mut self, index: u32, error: Option<&io::Error>, now: Millis) -> usize {
        let Some(listener) = self.sockets.get_mut(index as usize) else { return 0 };
        listener.armed = false;
        if self.stopped {
            listener.socket = None;
            return 0;
        }
        let short = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        let Some(code) = error.and_then(io::Error::raw_os_error) else { return 0 };
        // A connection that died in the queue is no reason to pause.
        if code == libc::ECONNABORTED || code == libc::EINTR {
            return 0;
        }
        listener.paused_until = Some(now.after(PAUSE_MS));
        if short.contains(&code) { self.turn_away(index) } else { 0 }
    }

    /// Whether a failure to accept is due to be logged: the retries come 20 times a second.
    pub(crate) fn may_complain(&mut self, now: Millis) -> bool {
        let due = self.quiet_until.is_none_or(|until| now >= until);
        if due {
            self.quiet_until = Some(now.after(COMPLAINT_MS));
        }
        due
    }

    /// Closes some waiting connections with the spare descriptor, so that they need not wait for
    /// an answer nobody can give.
    fn turn_away(&mut self, index: u32) -> usize {
        self.spare = None;
        let mut count = 0;
        if let Some(Listener { socket: Some(socket), .. }) = self.sockets.get(index as usize)
            && socket.set_nonblocking(true).is_ok()
        {
            while count < TURN_AWAY_MAX && socket.accept().is_ok() {
                count += 1;
            }
            // A non-blocking listener would end the accept operation at once.
            let _ = socket.set_nonblocking(false);
        }
        self.spare = spare();
        count
    }

    /// Ends accepting. Sockets close when their operation has ended.
    pub(crate) fn stop(&mut self, ring: &mut Ring) {
        self.stopped = true;
        for listener in &mut self.sockets {
            listener.paused_until = None;
            if !listener.armed {
                listener.socket = None;
            } else if let Some(socket) = &listener.socket {
                ring.cancel_all(socket.as_raw_fd());
            }
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
