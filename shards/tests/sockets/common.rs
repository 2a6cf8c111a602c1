//! An engine under test: an echo whose behaviour a test changes, and clients that never sleep.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shards::placement::choose;
use shards::{
    Accepted, Address, Cause, ConnId, Handler, Io, ListenerSettings, Millis, NetStats, Outgoing,
    Remote, Running, Settings,
};

/// Longest a test waits for something that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Controls that may wait for a shard.
pub(crate) const CONTROLS_MAX: usize = 64;
/// Set in a process that runs one test alone.
const ALONE: &str = "SHARDS_TEST_ALONE";

/// What the test sees from inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Accepted(usize),
    Adopted(usize),
    Bytes(usize),
    Closed(Cause, Box<NetStats>),
    Mail { from: usize, mail: u64 },
    Control { shard: usize, control: u64 },
    Tick(Millis),
    Note(u64),
}

pub(crate) type TestIo = Io<u64, Vec<u8>>;

/// What a test changes of the echo.
pub(crate) trait Act: 'static {
    fn start(&mut self, _: &mut Base, _: &mut TestIo) {}
    fn accept(&mut self, _: &mut Base, io: &mut TestIo, conn: ConnId) {
        io.start_stream(conn);
    }
    fn adopt(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, luggage: Vec<u8>) {
        io.start_stream(conn);
        base.write(conn, &luggage);
    }
    fn bytes(&mut self, base: &mut Base, _: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        base.write(conn, bytes);
    }
    fn sent(&mut self, _: &mut Base, _: &mut TestIo, _: ConnId) {}
    fn mail(&mut self, _: &mut Base, _: &mut TestIo, _: usize, _: u64) {}
    fn tick(&mut self, _: &mut Base, _: &mut TestIo) {}
    fn turn(&mut self, _: &mut Base, _: &mut TestIo) {}
    fn stop(&mut self, _: &mut Base, _: &mut TestIo) {}
}

/// Echoes everything.
pub(crate) struct Plain;

impl Act for Plain {}

/// Outputs and reports of the echo.
pub(crate) struct Base {
    pub(crate) seen: Sender<Seen>,
    pub(crate) deadline: Option<Millis>,
    pub(crate) open: Vec<ConnId>,
    out: Vec<Outgoing>,
    grown: Vec<ConnId>,
}

impl Base {
    pub(crate) fn see(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }

    pub(crate) fn write(&mut self, conn: ConnId, bytes: &[u8]) {
        self.out(conn).bytes.extend_from_slice(bytes);
    }

    /// The output of a connection, to be sent at the end of the turn.
    pub(crate) fn out(&mut self, conn: ConnId) -> &mut Outgoing {
        self.grown.push(conn);
        &mut self.out[conn.index()]
    }

    /// Sends what has grown and is not on its way; the rest follows after `on_sent`.
    pub(crate) fn flush(&mut self, io: &mut TestIo) {
        for conn in std::mem::take(&mut self.grown) {
            if !io.is_sending(conn) && !self.out[conn.index()].is_empty() {
                io.send(conn, std::mem::take(&mut self.out[conn.index()]));
            }
        }
    }

    /// Nothing is on its way or waits for it.
    pub(crate) fn is_idle(&self, io: &TestIo, conn: ConnId) -> bool {
        !io.is_sending(conn) && self.out[conn.index()].is_empty()
    }

    fn opened(&mut self, conn: ConnId) {
        while self.out.len() <= conn.index() {
            self.out.push(Outgoing::default());
        }
        assert!(self.out[conn.index()].is_empty(), "an index is free before it is used again");
        assert!(!self.open.iter().any(|open| open.index() == conn.index()));
        self.open.push(conn);
    }
}

struct Acting<A> {
    act: A,
    base: Base,
}

impl<A: Act> Handler for Acting<A> {
    type Mail = u64;
    type Luggage = Vec<u8>;
    type Control = u64;

    fn on_start(&mut self, io: &mut TestIo) {
        self.act.start(&mut self.base, io);
    }

    fn on_accept(&mut self, io: &mut TestIo, conn: ConnId, _: Accepted) {
        self.base.opened(conn);
        self.base.see(Seen::Accepted(io.shard()));
        self.act.accept(&mut self.base, io, conn);
    }

    fn on_adopt(&mut self, io: &mut TestIo, conn: ConnId, _: Accepted, luggage: Vec<u8>) {
        self.base.opened(conn);
        self.base.see(Seen::Adopted(io.shard()));
        self.act.adopt(&mut self.base, io, conn, luggage);
    }

    fn on_bytes(&mut self, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        assert!(self.base.open.contains(&conn));
        self.base.see(Seen::Bytes(bytes.len()));
        self.act.bytes(&mut self.base, io, conn, bytes);
    }

    fn on_sent(&mut self, io: &mut TestIo, conn: ConnId, outgoing: Outgoing) {
        assert!(self.base.open.contains(&conn));
        assert!(!outgoing.is_empty());
        self.act.sent(&mut self.base, io, conn);
        self.base.grown.push(conn);
    }

    fn on_closed(&mut self, io: &mut TestIo, conn: ConnId, cause: Cause) {
        let at = self.base.open.iter().position(|&open| open == conn);
        self.base.open.swap_remove(at.expect("open until told, told once"));
        self.base.out[conn.index()] = Outgoing::default();
        self.base.see(Seen::Closed(cause, Box::new(*io.stats())));
    }

    fn on_mail(&mut self, io: &mut TestIo, from: usize, mail: u64) {
        self.base.see(Seen::Mail { from, mail });
        self.act.mail(&mut self.base, io, from, mail);
    }

    fn on_control(&mut self, io: &mut TestIo, control: u64) {
        self.base.see(Seen::Control { shard: io.shard(), control });
    }

    fn finish_turn(&mut self, io: &mut TestIo) {
        self.act.turn(&mut self.base, io);
        self.base.flush(io);
    }

    fn next_deadline(&self) -> Option<Millis> {
        self.base.deadline
    }

    fn on_tick(&mut self, io: &mut TestIo) {
        self.base.deadline = None;
        self.base.see(Seen::Tick(io.now()));
        self.act.tick(&mut self.base, io);
    }

    fn on_stop(&mut self, io: &mut TestIo) {
        self.act.stop(&mut self.base, io);
    }
}

/// A running engine on a port the kernel chose.
pub(crate) struct Rig {
    pub(crate) running: Option<Running>,
    pub(crate) address: SocketAddr,
    pub(crate) remote: Remote<u64>,
    pub(crate) seen: Receiver<Seen>,
}

pub(crate) fn settings(shards: usize) -> Settings {
    let mut settings = Settings::new(choose(Some(shards), None).expect("CPUs"));
    let any = "127.0.0.1:0".parse().expect("an address");
    settings.listeners.push(ListenerSettings::new(Address::Tcp(any)));
    settings.stop_grace_ms = 50;
    settings
}

/// Starts an engine whose shards act as `make(shard)` says.
pub(crate) fn start<A: Act>(
    settings: Settings,
    make: impl Fn(usize) -> A + Send + Sync + 'static,
) -> Rig {
    let (tx, seen) = channel();
    let tx = Mutex::new(tx);
    let remote = Remote::new(settings.placement.cpus().len(), CONTROLS_MAX);
    let running = shards::start_with(settings, &remote, move |context| {
        let seen = tx.lock().expect("no panic holds it").clone();
        let (out, grown, open) = (Vec::new(), Vec::new(), Vec::new());
        let base = Base { seen, deadline: None, open, out, grown };
        Acting { act: make(context.shard), base }
    })
    .expect("the engine starts");
    let address = running.addresses()[0].tcp().expect("a TCP listener");
    Rig { running: Some(running), address, seen, remote }
}

/// A plain echo.
pub(crate) fn echo(shards: usize) -> Rig {
    start(settings(shards), |_| Plain)
}

impl Rig {
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the engine listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }

    /// Waits until something that matches has been seen; other things are passed over.
    pub(crate) fn wait<T>(&self, mut matches: impl FnMut(&Seen) -> Option<T>) -> T {
        loop {
            let seen = self.seen.recv_timeout(PATIENCE).expect("the engine reports in time");
            if let Some(found) = matches(&seen) {
                return found;
            }
        }
    }

    pub(crate) fn wait_closed(&self) -> (Cause, NetStats) {
        self.wait(|seen| {
            if let Seen::Closed(cause, stats) = seen { Some((*cause, **stats)) } else { None }
        })
    }

    /// Stops and returns everything that has not been waited for.
    pub(crate) fn stop(&mut self) -> Vec<Seen> {
        let running = self.running.take().expect("stopped once");
        running.stop();
        running.join().expect("a clean stop");
        self.seen.try_iter().collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.running.is_some() && !std::thread::panicking() {
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

/// Reads to the end, which must come in good order.
pub(crate) fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the connection ends without a reset");
    bytes
}

/// Waits until the connection is over, in whatever way.
pub(crate) fn wait_over(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                let kind = error.kind();
                assert!(!matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "no end");
                return;
            }
        }
    }
}

/// Bytes that tell their own position.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256")).collect()
}

/// Whether this process was started by [`alone`].
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs one test of this binary in a process of its own, after a shell command.
pub(crate) fn alone(test: &str, before: &str) -> Output {
    let this = std::env::current_exe().expect("a path");
    Command::new("sh")
        .args(["-c", &format!("{before} exec \"$0\" --exact --nocapture \"$1\"")])
        .arg(this)
        .arg(test)
        .env(ALONE, "1")
        .output()
        .expect("a shell")
}

/// Fails with the output of the other process if that failed.
pub(crate) fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
