//! The last bytes reach the peer, whatever it is still sending.

use shards::{Cause, ConnId};

use crate::common::{Act, Base, TestIo, pattern, read_to_end, settings, start, write};

/// Answers the first bytes and closes behind the answer.
struct Refuse {
    answer: Vec<u8>,
}

impl Act for Refuse {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, _: &[u8]) {
        let answer = self.answer.clone();
        base.write(conn, &answer);
        base.flush(io);
        io.close_after_flush(conn);
    }
}

#[test]
fn a_refusal_is_read_by_a_peer_that_keeps_talking() {
    let rig = start(settings(1), |_| Refuse { answer: b"refused".to_vec() });
    for _ in 0..20 {
        let mut client = rig.connect();
        // More than one buffer, most of it unread when the answer leaves.
        write(&mut client, &pattern(200_000));
        assert_eq!(read_to_end(&mut client), b"refused");
        drop(client);
        assert_eq!(rig.wait_closed().0, Cause::Local);
    }
}

#[test]
fn a_long_answer_leaves_whole_before_the_end() {
    let rig = start(settings(1), |_| Refuse { answer: pattern(3 << 20) });
    let mut client = rig.connect();
    write(&mut client, b"?");
    assert!(read_to_end(&mut client) == pattern(3 << 20));
}

#[test]
fn a_peer_that_never_ends_is_cut() {
    let mut settings = settings(1);
    settings.linger_ms = 20;
    let rig = start(settings, |_| Refuse { answer: b"bye".to_vec() });
    let mut client = rig.connect();
    write(&mut client, b"?");
    assert_eq!(read_to_end(&mut client), b"bye");
    // The client's own direction stays open.
    let (cause, stats) = rig.wait_closed();
    assert_eq!((cause, stats.lingers_cut), (Cause::Local, 1));
}

#[test]
fn a_peer_that_never_reads_is_cut() {
    let mut settings = settings(1);
    settings.linger_ms = 20;
    let rig = start(settings, |_| Refuse { answer: pattern(32 << 20) });
    let mut client = rig.connect();
    write(&mut client, b"?");
    assert_eq!(rig.wait_closed().0, Cause::Local);
}

#[test]
fn a_peer_that_never_stops_talking_is_cut() {
    let mut settings = settings(1);
    settings.linger_ms = 600_000;
    let rig = start(settings, |_| Refuse { answer: b"enough".to_vec() });
    let mut client = rig.connect();
    let flood = pattern(1 << 16);
    // Ends with an error once the other side has gone.
    while std::io::Write::write_all(&mut client, &flood).is_ok() {}
    assert_eq!(rig.wait_closed().0, Cause::Local);
}

/// Closes at once, in the middle of a large send.
struct Cut;

impl Act for Cut {
    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, _: &[u8]) {
        base.write(conn, &pattern(32 << 20));
        base.flush(io);
        base.deadline = Some(io.now().after(5));
    }

    fn tick(&mut self, base: &mut Base, io: &mut TestIo) {
        for &conn in &base.open {
            io.close(conn);
            io.close(conn);
            io.close_after_flush(conn);
        }
    }
}

#[test]
fn close_ends_a_send_in_flight() {
    let rig = start(settings(1), |_| Cut);
    let mut client = rig.connect();
    write(&mut client, b"?");
    assert_eq!(rig.wait_closed().0, Cause::Local);
    crate::common::wait_over(&mut client);
}
