//! The watchdog reports a turn that does not end.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use shards::ConnId;

use crate::common::{Act, Base, TestIo, read, settings, start, write};

/// Blocks in a turn until it is let go.
struct Block {
    let_go: Receiver<()>,
}

impl Act for Block {
    fn bytes(&mut self, base: &mut Base, _: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        self.let_go.recv().expect("the test lets go");
        base.write(conn, bytes);
    }
}

#[test]
fn a_stalled_turn_is_counted_once() {
    let (let_go, receiver) = channel();
    let receiver = Mutex::new(Some(receiver));
    let rig = start(settings(1), move |_| Block {
        let_go: receiver.lock().expect("no panic holds it").take().expect("one shard"),
    });
    let mut client = rig.connect();
    write(&mut client, b"x");
    let running = rig.running.as_ref().expect("running");
    while running.watchdog().stalls == 0 {
        std::thread::yield_now();
    }
    let_go.send(()).expect("the shard waits");
    assert_eq!(read(&mut client, 1), b"x");
    assert_eq!(running.watchdog().stalls, 1);
}
