//! A peer that has ended its own direction still gets what it asked for.

use std::net::Shutdown;

use shards::Cause;

use crate::common::{Plain, echo, pattern, read_to_end, settings, start, write};

#[test]
fn half_close_still_gets_the_answer() {
    let rig = echo(1);
    let mut client = rig.connect();
    let bytes = pattern(4 << 20);
    let mut writer = client.try_clone().expect("a descriptor");
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || {
        write(&mut writer, &sent);
        writer.shutdown(Shutdown::Write).expect("connected");
    });
    assert!(read_to_end(&mut client) == bytes);
    writing.join().expect("all was written");
    assert_eq!(rig.wait_closed().0, Cause::PeerClosed);
}

#[test]
fn a_close_in_good_order_is_told_as_such() {
    let rig = echo(1);
    drop(rig.connect());
    assert_eq!(rig.wait_closed().0, Cause::PeerClosed);
}

#[test]
fn a_half_closed_peer_that_never_reads_is_cut() {
    let mut settings = settings(1);
    settings.linger_ms = 20;
    let rig = start(settings, |_| Plain);
    let mut client = rig.connect();
    // More than the kernel buffers, so that the echo cannot leave.
    write(&mut client, &pattern(12 << 20));
    client.shutdown(Shutdown::Write).expect("connected");
    let (cause, stats) = rig.wait_closed();
    assert_eq!((cause, stats.lingers_cut), (Cause::PeerClosed, 1));
}
