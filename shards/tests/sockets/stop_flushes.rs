//! A stop gives every client its last bytes and an end in good order.

use shards::{Cause, Running};

use crate::common::{
    Act, Base, Seen, TestIo, pattern, read_to_end, settings, start, wait_over, write,
};

/// Says goodbye to everybody, at length.
struct Goodbye;

impl Act for Goodbye {
    fn stop(&mut self, base: &mut Base, io: &mut TestIo) {
        for conn in base.open.clone() {
            base.write(conn, &pattern(2 << 20));
        }
        base.flush(io);
        for &conn in &base.open {
            io.close_after_flush(conn);
        }
    }
}

#[test]
fn every_client_gets_the_last_bytes() {
    let mut settings = settings(2);
    settings.stop_grace_ms = 20_000;
    let mut rig = start(settings, |_| Goodbye);
    let clients: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    for _ in 0..40 {
        rig.wait(|seen| matches!(seen, Seen::Accepted(_)).then_some(()));
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| std::thread::spawn(move || read_to_end(&mut client)))
        .collect();
    let seen = rig.stop();
    for reader in readers {
        assert!(reader.join().expect("no reset") == pattern(2 << 20));
    }
    let closed = seen.iter().filter(|seen| matches!(seen, Seen::Closed(Cause::Local, _))).count();
    assert_eq!(closed, 40);
}

/// Does nothing about a stop.
struct Deaf;

impl Act for Deaf {}

#[test]
fn what_does_not_end_is_cut_after_the_grace() {
    let mut rig = start(settings(2), |_| Deaf);
    let mut clients: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for client in &mut clients {
        write(client, b"x");
    }
    for _ in 0..4 {
        rig.wait(|seen| matches!(seen, Seen::Bytes(1)).then_some(()));
    }
    let seen = rig.stop();
    let closed = seen.iter().filter(|seen| matches!(seen, Seen::Closed(Cause::Local, _))).count();
    assert_eq!(closed, 4);
    clients.iter_mut().for_each(wait_over);
}

#[test]
fn another_thread_can_stop_while_one_joins() {
    let mut rig = start(settings(1), |_| Deaf);
    let running: Running = rig.running.take().expect("running");
    let stopper = running.stopper();
    let joining = std::thread::spawn(move || running.join());
    stopper.stop();
    stopper.stop();
    joining.join().expect("no panic").expect("a clean stop");
    std::net::TcpStream::connect(rig.address).expect_err("nobody listens any more");
}
