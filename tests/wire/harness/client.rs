//! One connection to the broker.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::packet::{self, Packet, Version};

/// How long anything that must happen may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// What came from the broker.
#[derive(Debug)]
pub(crate) enum Event {
    Packet(Packet),
    Closed,
    /// Nothing within the time, or bytes that are no packet.
    Trouble(String),
}

/// A socket and what was read from it.
pub(crate) struct Client {
    pub(crate) version: Version,
    pub(crate) stream: TcpStream,
    input: Vec<u8>,
    pub(crate) waiting: VecDeque<Packet>,
}

impl Client {
    pub(crate) fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the broker accepts");
        Self::adopt(stream, version)
    }

    pub(crate) fn adopt(stream: TcpStream, version: Version) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { version, stream, input: Vec::new(), waiting: VecDeque::new() }
    }

    /// Writes all of it. That the broker has closed is seen by the next read.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("broker does not read"),
            _ => {}
        }
    }

    /// Next packet in order.
    pub(crate) fn next(&mut self) -> Event {
        self.waiting.pop_front().map_or_else(|| self.read(), Event::Packet)
    }

    /// Next packet, or a failed test.
    pub(crate) fn packet(&mut self) -> Packet {
        match self.next() {
            Event::Packet(packet) => packet,
            other @ (Event::Closed | Event::Trouble(_)) => {
                panic!("a packet was due, but: {other:?}")
            }
        }
    }

    /// Next packet from the socket, past those that wait.
    pub(crate) fn read(&mut self) -> Event {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match packet::take(&mut self.input, self.version) {
                Ok(Some(packet)) => return Event::Packet(packet),
                Ok(None) => {}
                Err(error) => return Event::Trouble(error),
            }
            match self.stream.read(&mut buffer) {
                Ok(0) if self.input.is_empty() => return Event::Closed,
                Ok(0) => return Event::Trouble("closed in the middle of a packet".into()),
                Ok(count) => self.input.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Event::Closed,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Event::Trouble("nothing came in time".into());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Event::Trouble(error.to_string()),
            }
        }
    }

    /// Ends the connection without DISCONNECT and waits until the broker has ended it too.
    pub(crate) fn lose(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        loop {
            match self.read() {
                Event::Packet(_) => {}
                Event::Closed => return,
                Event::Trouble(text) => panic!("after the end of the stream: {text}"),
            }
        }
    }

    /// Ends the connection with RST.
    pub(crate) fn reset(self) {
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&self.stream).set_linger(linger).unwrap();
    }
}
