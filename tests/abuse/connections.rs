//! Rows R01 to R05: what can be done to a broker before a CONNECT was accepted.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::client::Event;
use crate::compose::compose;
use crate::packet::Version;
use crate::siege::{Siege, VERSIONS, pause, times};

#[test]
fn memory_follows_bytes_not_claims() {
    // R01: a header that claims 256 MB, after nothing and after a valid CONNECT.
    let siege = Siege::lay("R01", "[limits]\nconnect_timeout_s = 60\n");
    let sockets: Vec<_> = (0..times(300, 10_000))
        .map(|_| {
            let mut socket = siege.socket();
            socket.write_all(&[0x10, 0xff, 0xff, 0xff, 0x7f]).unwrap();
            socket
        })
        .collect();
    for mut socket in sockets {
        // Closed at the header, without waiting for the packet.
        assert_eq!(socket.read(&mut [0; 16]).unwrap_or(0), 0);
    }
    let mut clients: Vec<_> =
        (0..50).map(|n| siege.connected(Version::V5, &format!("id=r01-{n}"))).collect();
    for client in &mut clients {
        client.write(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    }
    for client in clients {
        let last = client.ended().expect("a DISCONNECT");
        assert_eq!(last.codes, [0x95], "{}", last.text());
    }
    siege.bounded(16_000);
    siege.lifted();
}

#[test]
fn a_slow_connect_has_one_deadline() {
    // R02: one byte now and then does not move the deadline.
    let siege = Siege::lay("R02", "[limits]\nconnect_timeout_s = 2\n");
    let begin = Instant::now();
    let mut sockets: Vec<_> = (0..times(50, 5_000)).map(|_| siege.socket()).collect();
    let connect = b"\x10\x20\x00\x04MQTT\x04\x02\x00\x3c\x00\x14aaaaaaaaaaaaaaaaaaaa";
    for byte in connect.iter().take(6) {
        for socket in &mut sockets {
            // Who has been closed already can't be written to.
            let _ = socket.write_all(&[*byte]);
        }
        pause(Duration::from_millis(300));
    }
    for mut socket in sockets {
        assert_eq!(socket.read(&mut [0; 16]).unwrap_or(0), 0, "closed without an answer");
    }
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(1_900), "closed early, after {waited:?}");
    siege.bounded(8_000);
    siege.lifted();
}

#[test]
fn a_connect_may_be_as_large_as_it_has_reason_to_be() {
    // R01: 8 kB, and 64 kB with a will or a password; refused at its flags, before the rest.
    let siege = Siege::lay("R01 CONNECT", "");
    let large = "x".repeat(9_000);
    for version in VERSIONS {
        siege.connected(version, "id=small will=t wp=*9000").alive();
        siege.connected(version, &format!("id=secret user=u pass={large}")).alive();
        let mut socket = siege.socket();
        let connect = compose(&format!("connect id=big user={large}"), version, "");
        socket.write_all(&connect[..20]).unwrap();
        assert_eq!(socket.read(&mut [0; 16]).unwrap_or(0), 0, "closed without an answer");
    }
    siege.lifted();
}

#[test]
fn who_says_nothing_has_few_sockets() {
    // R02: those of one address that have sent no CONNECT; who has sent one makes room.
    let siege = Siege::lay("R02 address", "[limits]\nconnecting_per_address_max = 8\n");
    let silent: Vec<_> = (0..8).map(|_| siege.socket()).collect();
    let mut more = siege.socket();
    assert_eq!(more.read(&mut [0; 16]).unwrap_or(0), 0, "closed at once");
    drop(silent);
    let mut clients = Vec::new();
    for number in 0..20 {
        // Each is counted as silent only until its CONNECT is there.
        let mut client = siege.client(Version::V5);
        client.say(&format!("connect id=r02-{number}"));
        clients.push(client);
        pause(Duration::from_millis(20));
    }
    let connected = clients.iter_mut().filter_map(|client| match client.next() {
        Event::Packet(packet) => Some(packet.codes == [0]),
        Event::Closed | Event::Trouble(_) => None,
    });
    assert!(connected.count() >= 12, "those closed before are forgotten");
    siege.lifted();
}
