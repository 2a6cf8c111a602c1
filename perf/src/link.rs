//! One connection: reads into a buffer that all connections share, writes from its own.
//!
//! A part of a packet that ends a read is carried over and put in front of the next one, so that a
//! packet is always in one piece and an idle connection holds no buffer.

use crate::layers::{Below, Layers};
use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// Room that a read leaves in the buffer of a connection with layers: they may hold back this much
/// of earlier reads (one TLS record, RFC 8446 §5.1).
const HELD_BACK_BYTES_MAX: usize = 17 * 1024;

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
    /// Bytes of MQTT that wait for the next flush; append only.
    pub(crate) out: Vec<u8>,
    layers: Option<Box<Layers>>,
    /// With layers: what they made of `out`.
    sealed: Vec<u8>,
    written: usize,
    carry: Vec<u8>,
}

impl Link {
    /// Starts to connect; done when the socket is writable and has no error.
    ///
    /// `source` spreads many clients over loopback addresses, as one address has 28,000 ports.
    pub(crate) fn connect(
        target: SocketAddr,
        source: Option<SocketAddr>,
        below: &Below,
        seed: u64,
    ) -> Result<Self> {
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
        Ok(Self {
            stream: TcpStream::from_std(socket.into()),
            out: Vec::new(),
            layers: below.layers(seed)?,
            sealed: Vec::new(),
            written: 0,
            carry: Vec::new(),
        })
    }

    /// Reads once behind what was carried over.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Arrived> {
        let carried = self.carry.len();
        let Some((front, room)) = buffer.split_at_mut_checked(carried) else {
            anyhow::bail!("a packet is larger than the read buffer");
        };
        ensure!(!room.is_empty(), "a packet is larger than the read buffer");
        front.copy_from_slice(&self.carry);
        let mut arrived = read_once(&mut self.stream, room, self.layers.as_deref_mut())?;
        if let Arrived::Bytes { total, .. } = &mut arrived {
            self.carry.clear();
            *total += carried;
        }
        Ok(arrived)
    }

    /// Keeps the start of a packet until its rest comes.
    pub(crate) fn carry_over(&mut self, part: &[u8]) {
        self.carry.clear();
        self.carry.extend_from_slice(part);
    }

    /// Is there anything to flush.
    pub(crate) fn wants_write(&self) -> bool {
        !self.out.is_empty()
            || !self.sealed.is_empty()
            || self.layers.as_ref().is_some_and(|layers| layers.wants_write())
    }

    /// Writes as much as the socket takes.
    pub(crate) fn flush(&mut self) -> Result<()> {
        if let Some(layers) = &mut self.layers {
            layers.seal(&mut self.out, &mut self.sealed)?;
            return write_all(&mut self.stream, &mut self.sealed, &mut self.written);
        }
        write_all(&mut self.stream, &mut self.out, &mut self.written)
    }

    /// Gives memory back that only the handshake needed.
    pub(crate) fn shrink(&mut self) {
        self.out.shrink_to_fit();
        self.sealed.shrink_to_fit();
        self.carry.shrink_to_fit();
    }
}

fn read_once(
    stream: &mut TcpStream,
    room: &mut [u8],
    layers: Option<&mut Layers>,
) -> Result<Arrived> {
    let spare = if layers.is_some() { HELD_BACK_BYTES_MAX } else { 0 };
    let usable = room.len().saturating_sub(spare);
    let wire = room.get_mut(..usable).unwrap_or_default();
    let bytes = match stream.read(wire) {
        Ok(0) => return Ok(Arrived::Closed),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Arrived::Nothing),
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            return Ok(Arrived::Bytes { total: 0, more: true });
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Arrived::Closed),
        Err(error) => return Err(error).context("reading"),
    };
    // A short read has emptied the socket; epoll reports what comes later. epoll(7)
    let more = bytes == usable;
    let Some(layers) = layers else { return Ok(Arrived::Bytes { total: bytes, more }) };
    let mut mqtt = Vec::with_capacity(bytes);
    layers.receive(wire.get(..bytes).unwrap_or_default(), &mut mqtt)?;
    let place = room.get_mut(..mqtt.len()).context("layers held back more than a record")?;
    place.copy_from_slice(&mqtt);
    Ok(Arrived::Bytes { total: mqtt.len(), more })
}

fn write_all(stream: &mut TcpStream, out: &mut Vec<u8>, written: &mut usize) -> Result<()> {
    while let Some(pending) = out.get(*written..).filter(|rest| !rest.is_empty()) {
        match stream.write(pending) {
            Ok(bytes) => *written += bytes,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("writing"),
        }
    }
    out.clear();
    *written = 0;
    Ok(())
}
