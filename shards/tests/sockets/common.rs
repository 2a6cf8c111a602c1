//! An engine under test: echo with commands, and clients that never sleep.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shards::placement::choose;
use shards::{
    Accepted, Cause, ConnId, Handler, Io, ListenerSettings, Millis, NetStats, Outgoing, Running,
    Settings,
};

/// Longest a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the test sees from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(usize),
    Adopted(usize, String),
    Bytes(usize),
    Sent,
    Closed(Cause),
    Mail(usize, u64),
    Tick(usize),
    Stopped,
    Stats(Box<NetStats>),
}

/// Mail between test handlers.
#[derive(Debug)]
pub(crate) enum Mail {
    Number(u64),
    Flood(u64),
}

/// How the echo behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// `Some(n)`: the first byte of a connection, `0..n`, names its home; it is not echoed.
    pub(crate) homes: Option<usize>,
    /// Echo everything else.
    pub(crate) echo: bool,
}

/// Echoes bytes; see [`Behaviour`]. A connection's output queues until the send before is done.
pub(crate) struct Echo {
    pub(crate) behaviour: Behaviour,
    pub(crate) seen: Sender<Seen>,
    pub(crate) conns: Vec<Conn>,
    pub(crate) dirty: Vec<ConnId>,
    pub(crate) deadline: Option<Millis>,
    pub(crate) spare: Vec<Outgoing>,
}

#[derive(Default)]
pub(crate) struct Conn {
    pub(crate) out: Outgoing,
    pub(crate) home: bool,
}

pub(crate) type TestIo = Io<Mail, String>;

impl Echo {
    pub(crate) fn new(behaviour: Behaviour, seen: Sender<Seen>) -> Echo {
        Echo {
            behaviour,
            seen,
            conns: Vec::new(),
            dirty: Vec::new(),
            deadline: None,
            spare: Vec::new(),
        }
    }

    pub(crate) fn see(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }

    pub(crate) fn open(&mut self, conn: ConnId) {
        while self.conns.len() <= conn.index() {
            self.conns.push(Conn::default());
        }
        self.conns[conn.index()] = Conn::default();
    }

    pub(crate) fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        let out = &mut self.conns[conn.index()].out;
        if out.bytes.is_empty() {
            self.dirty.push(conn);
        }
        out.bytes.extend_from_slice(bytes);
    }
}

impl Handler for Echo {
    type Mail = Mail;
    type Luggage = String;

    fn on_start(&mut self, _: &mut TestIo) {}

    fn on_accept(&mut self, io: &mut TestIo, conn: ConnId, _: Accepted) {
        self.see(Seen::Accepted(io.shard()));
        self.open(conn);
        if self.behaviour.homes.is_none() {
            self.conns[conn.index()].home = true;
            io.start_stream(conn);
        }
    }

    fn on_adopt(&mut self, io: &mut TestIo, conn: ConnId, _: Accepted, luggage: String) {
        self.open(conn);
        self.conns[conn.index()].home = true;
        io.start_stream(conn);
        self.write(conn, luggage.as_bytes());
        self.see(Seen::Adopted(io.shard(), luggage));
    }

    fn on_bytes(&mut self, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        let mut bytes = bytes;
        if !self.conns[conn.index()].home {
            let home = usize::from(bytes[0]) % self.behaviour.homes.expect("not home");
            bytes = &bytes[1..];
            if home != io.shard() {
                let luggage = String::from_utf8(bytes.to_vec()).expect("tests send text");
                io.hand_over(conn, home, luggage);
                return;
            }
            self.conns[conn.index()].home = true;
            io.start_stream(conn);
        }
        self.see(Seen::Bytes(bytes.len()));
        if self.behaviour.echo && !bytes.is_empty() {
            self.write(conn, bytes);
        }
    }

    fn on_sent(&mut self, io: &mut TestIo, conn: ConnId, mut outgoing: Outgoing) {
        self.see(Seen::Sent);
        outgoing.clear();
        self.spare.push(outgoing);
        if !self.conns[conn.index()].out.is_empty() && !io.is_sending(conn) {
            self.dirty.push(conn);
        }
    }

    fn on_closed(&mut self, io: &mut TestIo, conn: ConnId, cause: Cause) {
        self.conns[conn.index()] = Conn::default();
        self.see(Seen::Closed(cause));
        self.see(Seen::Stats(Box::new(*io.stats())));
    }

    fn on_mail(&mut self, _: &mut TestIo, from: usize, mail: Mail) {
        if let Mail::Number(number) = mail {
            self.see(Seen::Mail(from, number));
        }
    }

    fn finish_turn(&mut self, io: &mut TestIo) {
        for conn in std::mem::take(&mut self.dirty) {
            if io.is_sending(conn) || self.conns[conn.index()].out.is_empty() {
                continue;
            }
            let spare = self.spare.pop().unwrap_or_default();
            let out = std::mem::replace(&mut self.conns[conn.index()].out, spare);
            io.send(conn, out);
        }
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.deadline
    }

    fn on_tick(&mut self, io: &mut TestIo) {
        self.see(Seen::Tick(io.shard()));
        self.deadline = None;
    }

    fn on_stop(&mut self, _: &mut TestIo) {
        self.see(Seen::Stopped);
    }
}

/// A running engine on a port the kernel chose.
pub(crate) struct Rig {
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) seen: Receiver<Seen>,
    pub(crate) put_back: VecDeque<Seen>,
}

pub(crate) fn settings(shards: usize) -> Settings {
    let mut settings = Settings::new(choose(Some(shards), None).expect("CPUs"));
    let any = "127.0.0.1:0".parse().expect("an address");
    settings.listeners.push(ListenerSettings::new(any));
    settings.stop_grace_ms = 200;
    settings
}

pub(crate) fn echo(shards: usize) -> Rig {
    with(settings(shards), Behaviour { homes: None, echo: true })
}

pub(crate) fn with(settings: Settings, behaviour: Behaviour) -> Rig {
    start(settings, move |_, seen| Echo::new(behaviour.clone(), seen))
}

pub(crate) fn start<H: Handler>(
    settings: Settings,
    make: impl Fn(shards::ShardContext, Sender<Seen>) -> H + Send + Sync + 'static,
) -> Rig {
    let (tx, seen) = channel();
    let tx = std::sync::Mutex::new(tx);
    let running = shards::start(settings, move |context| {
        make(context, tx.lock().expect("no panic holds it").clone())
    })
    .expect("the engine starts");
    let address = running.addresses()[0];
    Rig { running: Some(running), address, seen, put_back: VecDeque::new() }
}

impl Rig {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the engine listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }

    /// Waits until something that matches has been seen; other things are passed over.
    pub(crate) fn wait<T>(&mut self, mut matches: impl FnMut(&Seen) -> Option<T>) -> T {
        loop {
            let seen = self.seen.recv_timeout(PATIENCE).expect("the engine reports in time");
            if let Some(found) = matches(&seen) {
                return found;
            }
        }
    }

    pub(crate) fn wait_closed(&mut self) -> Cause {
        self.wait(|seen| match seen {
            Seen::Closed(cause) => Some(*cause),
            _ => None,
        })
    }

    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
            running.join().expect("a clean stop");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(crate) fn write(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the engine reads");
}

pub(crate) fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("the engine answers");
    bytes
}

/// Bytes that tell their own position.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256")).collect()
}
