//! Reading stops and starts again; no byte is lost or out of place.

use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use shards::ConnId;

use crate::common::{
    Act, Base, Seen, TestIo, echo, pattern, read, read_to_end, settings, start, write,
};

/// Pauses after every delivery, resumes a moment later.
struct Stutter {
    paused: Vec<ConnId>,
}

impl Act for Stutter {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        assert!(!self.paused.contains(&conn), "paused connections get no bytes");
        base.write(conn, bytes);
        io.pause(conn);
        io.pause(conn);
        self.paused.push(conn);
        // Sometimes in the same turn, sometimes later: both sides of the race with the cancel.
        if bytes.len().is_multiple_of(2) {
            base.deadline = Some(io.now());
        } else {
            base.deadline = Some(io.now().after(1));
        }
    }

    fn tick(&mut self, _: &mut Base, io: &mut TestIo) {
        for conn in self.paused.drain(..) {
            io.resume(conn);
            io.resume(conn);
        }
    }
}

#[test]
fn stuttering_streams_come_back_whole() {
    let mut settings = settings(1);
    settings.buffer_bytes = 1000;
    settings.buffers = 16;
    let rig = start(settings, |_| Stutter { paused: Vec::new() });
    let bytes = pattern(1 << 20);
    let work: Vec<_> = (0..4)
        .map(|_| {
            let mut client = rig.connect();
            let bytes = bytes.clone();
            std::thread::spawn(move || {
                let mut writer = client.try_clone().expect("a descriptor");
                let sent = bytes.clone();
                let writing = std::thread::spawn(move || {
                    write(&mut writer, &sent);
                    writer.shutdown(Shutdown::Write).expect("connected");
                });
                assert!(read_to_end(&mut client) == bytes);
                writing.join().expect("all was written");
            })
        })
        .collect();
    for client in work {
        client.join().expect("an echo");
    }
}

/// Pauses each connection at its first byte and resumes on mail to itself.
struct Shut;

impl Act for Shut {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        base.write(conn, bytes);
        if bytes == b"stop" {
            io.pause(conn);
            base.see(Seen::Note(0));
        }
        if bytes == b"go" {
            for &other in &base.open {
                io.resume(other);
            }
        }
    }
}

#[test]
fn a_paused_peer_has_to_wait() {
    let rig = start(settings(1), |_| Shut);
    let mut paused = rig.connect();
    write(&mut paused, b"stop");
    assert_eq!(read(&mut paused, 4), b"stop");
    rig.wait(|seen| matches!(seen, Seen::Note(_)).then_some(()));
    // Fills the kernel's buffers and no more: the engine does not read.
    paused.set_nonblocking(true).expect("a socket option");
    let piece = pattern(1 << 16);
    let mut sent = Vec::new();
    let mut full = 0;
    while full < 1000 {
        match std::io::Write::write(&mut paused, &piece) {
            Ok(count) => sent.extend_from_slice(&piece[..count]),
            Err(_) => full += 1,
        }
        assert!(sent.len() < 64 << 20, "the engine reads on");
    }
    paused.set_nonblocking(false).expect("a socket option");
    // Others are served meanwhile, and one of them ends the pause.
    let mut other = rig.connect();
    write(&mut other, b"go");
    assert_eq!(read(&mut other, 2), b"go");
    assert!(read(&mut paused, sent.len()) == sent);
}

#[test]
fn the_end_behind_kept_bytes_comes_after_them() {
    let rig = echo(1);
    let mut client = rig.connect();
    write(&mut client, b"last words");
    client.shutdown(Shutdown::Write).expect("connected");
    assert_eq!(read_to_end(&mut client), b"last words");
}

/// Blocks in a turn on `b`, resumes everybody on `g`; the first bytes of others bring a long
/// answer and a pause.
struct Slow {
    let_go: Receiver<()>,
    answered: bool,
}

const ANSWER_BYTES: usize = 8 << 20;

impl Act for Slow {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        match bytes {
            b"b" => self.let_go.recv().expect("the test lets go"),
            b"g" => base.open.iter().for_each(|&other| io.resume(other)),
            _ if self.answered => base.write(conn, bytes),
            _ => {
                self.answered = true;
                base.write(conn, &vec![b'.'; ANSWER_BYTES]);
                io.pause(conn);
            }
        }
    }
}

#[test]
fn a_send_that_ends_does_not_cut_what_is_kept() {
    let (let_go, receiver) = channel();
    let receiver = Mutex::new(Some(receiver));
    let mut settings = settings(1);
    settings.buffer_bytes = 10;
    let rig = start(settings, move |_| Slow {
        let_go: receiver.lock().expect("no panic holds it").take().expect("one shard"),
        answered: false,
    });
    let mut client = rig.connect();
    let mut control = rig.connect();
    for _ in 0..2 {
        rig.wait(|seen| matches!(seen, Seen::Accepted(_)).then_some(()));
    }
    write(&mut control, b"b");
    rig.wait(|seen| matches!(seen, Seen::Bytes(1)).then_some(()));
    // While the shard is busy: two buffers of bytes and the end, to be seen in one turn.
    write(&mut client, b"0123456789abcdefghij");
    client.shutdown(Shutdown::Write).expect("connected");
    let_go.send(()).expect("the shard waits");
    assert!(read(&mut client, ANSWER_BYTES).iter().all(|&byte| byte == b'.'));
    write(&mut control, b"g");
    assert_eq!(read_to_end(&mut client), b"abcdefghij");
}
