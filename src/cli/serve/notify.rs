//! What systemd is told (`sd_notify(3)`): ready, reloading, stopping, alive.
//!
//! Promise: "alive" is said only while every shard goes on.

use shards::Progress;
use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use tracing::error;

/// Where to tell it.
#[derive(Debug)]
pub(super) struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

/// The watchdog's thread lives as long as this.
#[derive(Debug)]
pub(super) struct Watchdog {
    _end: Sender<()>,
}

impl Notify {
    /// Tells nobody if nobody asks (`$NOTIFY_SOCKET`), or if it is not wanted.
    pub(super) fn new(wanted: bool) -> Self {
        let name = env::var("NOTIFY_SOCKET").ok().filter(|_| wanted);
        Self { socket: name.and_then(|name| open(&name)) }
    }

    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            // A supervisor that does not listen any more has no use for it.
            let _lost = socket.send_to_addr(state.as_bytes(), address);
        }
    }

    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let us = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={us}"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says "alive" twice per period, if systemd asks for that.
    pub(super) fn watchdog(&self, mut progress: Progress) -> Option<Watchdog> {
        let own = env::var("WATCHDOG_PID").ok();
        if own.is_some_and(|pid| pid != std::process::id().to_string()) {
            return None;
        }
        let us: u64 = env::var("WATCHDOG_USEC").ok()?.parse().ok().filter(|us| *us > 0)?;
        let (socket, address) = self.socket.as_ref()?;
        let (socket, address) = (socket.try_clone().ok()?, address.clone());
        let (end, ended) = channel();
        let look = move || {
            let period = Duration::from_micros(us / 2);
            let mut was_well = true;
            while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
                let is_well = progress.all_went_on();
                if is_well {
                    let _lost = socket.send_to_addr(b"WATCHDOG=1", &address);
                } else if was_well {
                    error!("a shard stands still: systemd is not told that the broker is alive");
                }
                was_well = is_well;
            }
        };
        thread::Builder::new().name("alive".to_owned()).spawn(look).ok()?;
        Some(Watchdog { _end: end })
    }
}

fn open(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok()?,
        None => SocketAddr::from_pathname(name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}
