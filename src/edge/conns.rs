//! What the edge knows of each connection, and why one is not read.

use super::admission::Pass;
use super::driver::{Driver, Wire};
use super::rate::Allowance;
use super::reassembly::Reassembly;
use crate::codec::Version;
use crate::transport::Stack;
use shards::{ConnId, Millis};
use std::net::SocketAddr;

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection has this place.
    Vacant,
    /// CONNECT is not complete.
    Connecting,
    /// Packets go to the shard.
    Live,
    /// The end is decided.
    Closing,
}

/// Why a connection is not read; bits.
pub(super) const PAUSED_BY_SHARD: u16 = 1;
pub(super) const PAUSED_BY_MESH: u16 = 2;
pub(super) const PAUSED_BY_OUTPUT: u16 = 4;
/// Reasons that are not the client's: its silence is not counted meanwhile. (The shard knows itself
/// when it asked for a pause; who does not read its answers is not forgiven.)
const PAUSED_WITHOUT_FAULT: u16 = PAUSED_BY_MESH | PAUSED_BY_LOG | PAUSED_BY_RATE | PAUSED_BY_DISK;
pub(super) const PAUSED_BY_MOVE: u16 = 16;
pub(super) const PAUSED_BY_LOG: u16 = 32;
pub(super) const PAUSED_BY_START: u16 = 64;
pub(super) const PAUSED_BY_RATE: u16 = 128;
pub(super) const PAUSED_BY_LOGIN: u16 = 256;
pub(super) const PAUSED_BY_TURN: u16 = 8;
pub(super) const PAUSED_BY_DISK: u16 = 512;

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: ConnId,
    pub(super) stage: Stage,
    pub(super) version: Version,
    /// Its CONNECT was accepted, so packets may be as large as they may be at all.
    pub(super) admitted: bool,
    /// Its login is being checked; what it sends meanwhile is kept.
    pub(super) awaits_login: bool,
    pub(super) paused: u16,
    pub(super) reassembly: Reassembly,
    /// Layers below MQTT; none for plain TCP.
    pub(super) stack: Option<Box<Stack>>,
    /// Until CONNECT is complete.
    pub(super) arrival: Option<Box<Arrival>>,
    /// Its place in the counts of connections.
    pub(super) pass: Option<Box<Pass>>,
    /// What it may still send at once, where rates are limited.
    pub(super) allowance: Option<Box<Allowance>>,
}

/// What is known of a connection before its CONNECT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) deadline: Millis,
    pub(super) listener: usize,
    pub(super) address: Option<SocketAddr>,
    pub(super) adopted: bool,
    pub(super) handshake: Handshake,
}

/// A connection's part in the limit of TLS handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// None, or it is over.
    Over,
    /// Its first bytes have not come.
    Due,
    /// Counted.
    UnderWay,
}

pub(super) const VACANT: Conn = Conn {
    id: ConnId::new(u32::MAX, 0),
    stage: Stage::Vacant,
    version: Version::V311,
    admitted: false,
    awaits_login: false,
    paused: 0,
    reassembly: Reassembly::NEW,
    stack: None,
    arrival: None,
    pass: None,
    allowance: None,
};

impl Driver {
    pub(super) fn enter(&mut self, conn: ConnId, stage: Stage, arrival: Arrival) {
        while self.conns.len() <= conn.index() {
            self.conns.push(VACANT);
        }
        if let Some(entry) = self.conns.get_mut(conn.index()) {
            *entry = Conn { id: conn, stage, arrival: Some(Box::new(arrival)), ..VACANT };
        }
    }

    pub(super) fn conn(&mut self, conn: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(conn.index()).filter(|entry| entry.id == conn)
    }

    pub(super) fn pause(&mut self, io: &mut Wire, conn: ConnId, why: u16) {
        if let Some(entry) = self.conn(conn) {
            if entry.paused == 0 {
                io.pause(conn);
            }
            entry.paused |= why;
            if why & PAUSED_WITHOUT_FAULT != 0 {
                self.shard.set_read(conn, false, io.now());
            }
        }
    }

    /// Nobody is served before all shards have come back from their logs.
    pub(super) fn wait_for_start(&mut self, io: &mut Wire, conn: ConnId) {
        self.pause(io, conn, PAUSED_BY_START);
        self.early.push(conn);
    }

    pub(super) fn resume(&mut self, io: &mut Wire, conn: ConnId, why: u16) {
        if let Some(entry) = self.conn(conn) {
            let before = entry.paused;
            entry.paused &= !why;
            let forgiven = before & PAUSED_WITHOUT_FAULT;
            let forgives_still = entry.paused & PAUSED_WITHOUT_FAULT;
            if forgiven != 0 && forgives_still == 0 {
                self.shard.set_read(conn, true, io.now());
            }
            let Some(entry) = self.conn(conn) else { return };
            if before != 0 && entry.paused == 0 {
                io.resume(conn);
            }
        }
    }
}
