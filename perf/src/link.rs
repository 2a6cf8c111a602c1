//! One TCP connection: reads into a buffer that all connections share, writes from its own.
//!
//! A part of a packet that ends a read is carried over and put in front of the next one, so that a
//! packet is always in one piece and an idle connection holds no buffer.

use anyhow::{Context, Result};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// This many bytes are in the buffer; `more` tells that the socket may hold more.
    Bytes { total: usize, more: bool },
    /// Nothing to read now.
    Nothing,
    /// The peer closed or reset the connection.
    Closed,
}

/// A connection with its pending output.
#[derive(Debug)]
pub(crate) struct Link {
    /// Registered with the poll by the fleet.
    pub(crate) stream: TcpStream,
    /// Bytes that wait for the next flush; append only.
    pub(crate) out: Vec<u8>,
    written: usize,
    carry: Vec<u8>,
}

impl Link {
    /// Starts to connect; done when the socket is writable and has no error.
    ///
    /// `source` spreads many clients over loopback addresses, as one address has 28,000 ports.
    pub(crate) fn connect(target: SocketAddr, source: Option<SocketAddr>) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))
            .context("opening a socket")?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(source) = source {
            socket.bind(&source.into()).context("binding the source address")?;
        }
        if let Err(error) = socket.connect(&target.into()) {
            // EINPROGRESS has no portable kind.
            let in_progress = error.raw_os_error() == Some(115);
            if !in_progress && error.kind() != ErrorKind::WouldBlock {
                return Err(error).context("connecting");
            }
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(Self { stream, out: Vec::new(), written: 0, carry: Vec::new() })
    }

    /// Reads once behind what was carried over.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Arrived> {
        let carried = self.carry.len();
        let Some((front, room)) = buffer.split_at_mut_checked(carried) else {
            anyhow::bail!("a packet is larger than the read buffer");
        };
        anyhow::ensure!(!room.is_empty(), "a packet is larger than the read buffer");
        front.copy_from_slice(&self.carry);
        match self.stream.read(room) {
            Ok(0) => Ok(Arrived::Closed),
            Ok(bytes) => {
                self.carry.clear();
                // A short read has emptied the socket; epoll reports what comes later. epoll(7)
                Ok(Arrived::Bytes { total: carried + bytes, more: bytes == room.len() })
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Arrived::Nothing),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                Ok(Arrived::Bytes { total: carried, more: true })
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(Arrived::Closed),
            Err(error) => Err(error).context("reading"),
        }
    }

    /// Keeps the start of a packet until its rest comes.
    pub(crate) fn carry_over(&mut self, part: &[u8]) {
        self.carry.clear();
        self.carry.extend_from_slice(part);
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self) -> Result<()> {
        while let Some(pending) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(pending) {
                Ok(bytes) => self.written += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing"),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Gives memory back that only the handshake needed.
    pub(crate) fn shrink(&mut self) {
        self.out.shrink_to_fit();
        self.carry.shrink_to_fit();
    }
}
