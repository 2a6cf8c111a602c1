//! Listening sockets: how they are opened, and how a shard accepts on its own.
//!
//! Promise: a listener keeps its number; a number is not used again. Listeners may come and go
//! while the shard runs, see [`crate::Io::listen`]; connections do not notice.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::ring::Ring;
use super::unix::{self, Leftover};
use crate::settings::{Address, ListenerSettings};
use crate::time::Millis;

/// Pause after an accept failed for want of a descriptor or memory.
const PAUSE_MS: u64 = 50;
/// A failure that lasts is logged this often.
const COMPLAINT_MS: u64 = 10_000;
/// A silent peer is asked this many times within the time of its silence, then given up by the
/// kernel's count.
const KEEPALIVE_PROBES: u64 = 9;
/// Waiting connections turned away per pause while descriptors are short.
const TURN_AWAY_MAX: usize = 16;

/// One shard's socket of a listener. Its file, if it has one, goes with the last of them.
#[derive(Debug)]
pub struct Listening {
    socket: Socket,
    leftover: Option<Arc<Leftover>>,
}

/// What else listens, or will.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    /// All listeners of the settings.
    pub(crate) all: &'a [ListenerSettings],
    /// Addresses on which this engine listens already.
    pub(crate) open: &'a [Address],
}

/// Opens one socket per shard for an address.
pub(crate) fn open(
    settings: &ListenerSettings,
    beside: Beside<'_>,
    shards: usize,
) -> io::Result<(Address, Vec<Listening>)> {
    match &settings.address {
        Address::Tcp(address) => {
            let (address, sockets) = open_tcp(*address, settings, beside, shards)?;
            let sockets = sockets.into_iter().map(|socket| Listening { socket, leftover: None });
            Ok((Address::Tcp(address), sockets.collect()))
        }
        Address::Unix(path) => {
            let (socket, leftover) = unix::open(path, settings)?;
            let leftover = Some(Arc::new(leftover));
            let mut sockets = Vec::with_capacity(shards);
            for _ in 1..shards {
                let (socket, leftover) = (socket.try_clone()?, leftover.clone());
                sockets.push(Listening { socket, leftover });
            }
            sockets.push(Listening { socket, leftover });
            Ok((settings.address.clone(), sockets))
        }
    }
}

/// With `SO_REUSEPORT` the kernel lets any number of processes of one user share a port, so a
/// socket without it is tried first: a second broker is told instead of taking half the clients.
/// Not so if the port is this engine's own already, at another address or device.
fn open_tcp(
    mut address: SocketAddr,
    settings: &ListenerSettings,
    beside: Beside<'_>,
    shards: usize,
) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let port = address.port();
    let is_own = beside.open.iter().filter_map(Address::tcp).any(|open| open.port() == port);
    if port != 0 && !is_own {
        let alone = tcp_socket(address, settings, beside.all)?;
        alone.bind(&address.into())?;
        alone.listen(1)?;
    }
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = tcp_socket(address, settings, beside.all)?;
        socket.set_reuse_port(true)?;
        socket.bind(&address.into())?;
        if address.port() == 0 {
            let bound = socket.local_addr()?.as_socket();
            address = bound.ok_or(io::ErrorKind::AddrNotAvailable)?;
        }
        socket.listen(backlog(settings))?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}

fn backlog(settings: &ListenerSettings) -> i32 {
    i32::try_from(settings.backlog).unwrap_or(i32::MAX)
}

/// Accepted sockets inherit all options set here.
fn tcp_socket(
    address: SocketAddr,
    settings: &ListenerSettings,
    all: &[ListenerSettings],
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    tune(&socket, settings)?;
    if let Some(interface) = &settings.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(is_only_v6(address, all))?;
    }
    Ok(socket)
}

/// `[::]:1883` alone serves both families; beside `0.0.0.0:1883` only its own.
fn is_only_v6(address: SocketAddr, all: &[ListenerSettings]) -> bool {
    let mut others = all.iter().filter_map(|other| other.address.tcp());
    address.is_ipv6() && others.any(|other| other.is_ipv4() && other.port() == address.port())
}

/// Whether a socket opened for `old` among `old_all` can become that of `new` among `new_all`
/// without being opened anew.
pub fn is_same_socket(
    (old, old_all): (&ListenerSettings, &[ListenerSettings]),
    (new, new_all): (&ListenerSettings, &[ListenerSettings]),
) -> bool {
    let only_v6 = |one: &ListenerSettings, all| {
        one.address.tcp().is_some_and(|address| is_only_v6(address, all))
    };
    old.address == new.address
        && old.interface == new.interface
        && only_v6(old, old_all) == only_v6(new, new_all)
}

/// The options that can change while a socket listens.
fn tune(socket: &Socket, settings: &ListenerSettings) -> io::Result<()> {
    socket.set_tcp_nodelay(settings.nodelay)?;
    socket.set_keepalive(settings.keepalive_s > 0)?;
    if settings.keepalive_s > 0 {
        let silence = Duration::from_secs(settings.keepalive_s.into());
        let probe =
            Duration::from_secs((u64::from(settings.keepalive_s) / KEEPALIVE_PROBES).max(1));
        let keepalive = TcpKeepalive::new().with_time(silence).with_interval(probe);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    let timeout = Duration::from_millis(settings.user_timeout_ms.into());
    socket.set_tcp_user_timeout(Some(timeout).filter(|timeout| !timeout.is_zero()))
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

#[derive(Debug, Default)]
struct Listener {
    /// Closed in the end.
    listening: Option<Listening>,
    armed: bool,
    /// Closes as soon as its operation has ended.
    closing: bool,
    /// Not before this time.
    paused_until: Option<Millis>,
}

impl Listener {
    fn close(&mut self, ring: &mut Ring) {
        self.closing = true;
        self.paused_until = None;
        match &self.listening {
            Some(Listening { socket, .. }) if self.armed => ring.cancel_all(socket.as_raw_fd()),
            Some(_) | None => self.listening = None,
        }
    }
}

impl Listeners {
    pub(crate) fn new(sockets: Vec<Listening>) -> Listeners {
        let one = |listening| Listener { listening: Some(listening), ..Listener::default() };
        let sockets = sockets.into_iter().map(one).collect();
        Listeners { sockets, spare: spare(), stopped: false, quiet_until: None }
    }

    /// One more listener; it is armed with the next turn.
    ///
    /// # Panics
    /// If the number has been used before.
    pub(crate) fn add(&mut self, index: usize, listening: Listening) {
        if self.stopped {
            return;
        }
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, Listener::default);
        }
        let listener = self.sockets.get_mut(index).expect("there are so many by now");
        let is_new = listener.listening.is_none() && !listener.closing;
        assert!(is_new, "listener {index} is not new");
        listener.listening = Some(listening);
    }

    /// Closes one for good.
    pub(crate) fn remove(&mut self, index: usize, ring: &mut Ring) {
        if let Some(listener) = self.sockets.get_mut(index) {
            listener.close(ring);
        }
    }

    /// New options for one that stays.
    pub(crate) fn tune(&mut self, index: usize, settings: &ListenerSettings) -> io::Result<()> {
        let listener = self.sockets.get(index).and_then(|listener| listener.listening.as_ref());
        let Some(Listening { socket, leftover }) = listener else { return Ok(()) };
        match leftover {
            Some(leftover) => leftover.set_mode(settings.unix_mode)?,
            None => tune(socket, settings)?,
        }
        // Again, for the backlog alone.
        socket.listen(backlog(settings))
    }

    /// Connections of this listener are taken.
    pub(crate) fn is_open(&self, index: u32) -> bool {
        let listener = self.sockets.get(index as usize);
        !self.stopped && listener.is_some_and(|listener| !listener.closing)
    }

    /// Arms every listener that neither is armed nor pauses.
    pub(crate) fn arm(&mut self, ring: &mut Ring, now: Millis) {
        for (index, listener) in (0u32..).zip(&mut self.sockets) {
            let pauses = listener.paused_until.is_some_and(|until| now < until);
            if listener.armed || listener.closing || pauses {
                continue;
            }
            if let Some(Listening { socket, .. }) = &listener.listening {
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
        if listener.closing {
            listener.listening = None;
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
        let listener = self.sockets.get(index as usize);
        if let Some(Listening { socket, .. }) = listener.and_then(|one| one.listening.as_ref())
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
        self.sockets.iter_mut().for_each(|listener| listener.close(ring));
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpStream;

    #[test]
    fn accepted_sockets_have_the_options_of_their_listener() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = ListenerSettings {
            nodelay: false,
            keepalive_s: 90,
            user_timeout_ms: 7_000,
            interface: Some("lo".to_owned()),
            ..ListenerSettings::new(Address::Tcp(any))
        };
        let beside = Beside { all: std::slice::from_ref(&settings), open: &[] };
        let (address, sockets) = match open(&settings, beside, 1) {
            Ok((address, sockets)) => (address.tcp().expect("TCP"), sockets),
            // Old kernels let only root bind to a device.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{error}"),
        };
        let _client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = sockets[0].socket.accept().expect("a client is there");
        let accepted = SockRef::from(&accepted);
        assert!(!accepted.tcp_nodelay().expect("an option"));
        assert!(accepted.keepalive().expect("an option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("an option").as_secs(), 90);
        assert_eq!(accepted.tcp_keepalive_interval().expect("an option").as_secs(), 10);
        let timeout = accepted.tcp_user_timeout().expect("an option");
        assert_eq!(timeout.map(|timeout| timeout.as_millis()), Some(7_000));
        assert_eq!(sockets[0].socket.device().expect("an option").as_deref(), Some(&b"lo"[..]));
    }
}
