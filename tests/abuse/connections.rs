//! Rows R01 to R05: what can be done to a broker before a CONNECT was accepted.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::packet::Version;
use crate::siege::{Siege, pause, times};

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
