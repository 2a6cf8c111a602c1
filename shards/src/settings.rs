//! Limits and addresses of the engine.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::clock::Clock;
use crate::placement::Placement;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP. Port 0 lets the kernel choose; see [`crate::Running::addresses`].
    Tcp(SocketAddr),
    /// The file of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The address of a TCP socket.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(out, "{address}"),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

/// One address to listen on. For TCP every shard opens its own socket, and the kernel spreads; a
/// Unix socket is one for all shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// The address.
    pub address: Address,
    /// Connections the kernel completes before they are accepted; more are refused by the kernel.
    pub backlog: u32,
    /// Permissions of the file of a Unix socket.
    pub unix_mode: u32,
    /// TCP: only what comes in by this network device.
    pub interface: Option<String>,
    /// TCP: output leaves at once; it is put together here, not in the kernel.
    pub nodelay: bool,
    /// TCP: silence in seconds after which the kernel asks whether the peer is there; 0 = never.
    pub keepalive_s: u32,
    /// TCP: time in milliseconds that sent bytes may stay unacknowledged; 0 = the system's.
    pub user_timeout_ms: u32,
}

impl ListenerSettings {
    /// Backlog that outlasts a reconnect of some thousand clients.
    pub const BACKLOG: u32 = 4096;

    /// A listener with the usual backlog.
    pub const fn new(address: Address) -> ListenerSettings {
        ListenerSettings {
            address,
            backlog: Self::BACKLOG,
            unix_mode: 0o600,
            interface: None,
            nodelay: true,
            keepalive_s: 0,
            user_timeout_ms: 0,
        }
    }
}

/// Settings of all shards. Every queue has its maximum here and its overflow rule beside it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses; [`crate::Accepted::listener`] is the index here.
    pub listeners: Vec<ListenerSettings>,
    /// Which CPUs; one shard each.
    pub placement: Placement,
    /// Counts the time of all shards; made with the settings.
    pub clock: Clock,
    /// Receive buffers of a shard, a power of two up to 32,768. Few are filled at first; the rest
    /// is added when they run out. If all are in use, receiving waits and is counted.
    pub buffers: u16,
    /// Size of one receive buffer: the most one `on_bytes` of a live connection brings.
    pub buffer_bytes: u32,
    /// Connections of one shard; more are closed as soon as they are accepted.
    pub connections_max: usize,
    /// Batches of letters in flight from one shard to another; more stay in the outbox, see
    /// [`crate::Io::outboxes_clear`].
    pub mailbox_batches: usize,
    /// From stop until what is still open is cut.
    pub stop_grace_ms: u64,
    /// From `close_after_flush`, or the peer's end of sending, until the connection is cut.
    pub linger_ms: u64,
}

impl Settings {
    /// Default of [`Self::buffers`].
    pub const BUFFERS: u16 = 256;
    /// Default of [`Self::buffer_bytes`].
    /// No power of two: the beginnings of the buffers, which is all that small packets fill, then
    /// lie in different sets of the caches.
    pub const BUFFER_BYTES: u32 = 64 * 1024 + 320;
    /// Default of [`Self::connections_max`].
    pub const CONNECTIONS_MAX: usize = 1 << 20;
    /// Default of [`Self::mailbox_batches`].
    pub const MAILBOX_BATCHES: usize = 32;
    /// Default of [`Self::stop_grace_ms`].
    pub const STOP_GRACE_MS: u64 = 5_000;
    /// Default of [`Self::linger_ms`].
    pub const LINGER_MS: u64 = 2_000;

    /// Default limits, no listeners.
    pub fn new(placement: Placement) -> Settings {
        Settings {
            listeners: Vec::new(),
            placement,
            clock: Clock::start(),
            buffers: Self::BUFFERS,
            buffer_bytes: Self::BUFFER_BYTES,
            connections_max: Self::CONNECTIONS_MAX,
            mailbox_batches: Self::MAILBOX_BATCHES,
            stop_grace_ms: Self::STOP_GRACE_MS,
            linger_ms: Self::LINGER_MS,
        }
    }

    /// The first setting that cannot work, in words.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        if !self.buffers.is_power_of_two() || self.buffers > 1 << 15 {
            Some("buffers must be a power of two and at most 32768")
        } else if self.buffer_bytes == 0 || self.buffer_bytes > 1 << 24 {
            Some("buffer_bytes must be 1 to 16777216")
        } else if self.connections_max == 0 || u32::try_from(self.connections_max).is_err() {
            Some("connections_max must be 1 to 4294967295")
        } else if self.mailbox_batches == 0 {
            Some("mailbox_batches must be at least 1")
        } else {
            None
        }
    }
}
