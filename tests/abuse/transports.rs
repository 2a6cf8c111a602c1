//! Rows R02, W and X for what lies below MQTT: TLS, WebSocket, PROXY headers.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::certificates::Authority;
use crate::client::DEADLINE;
use crate::packet::Version;
use crate::siege::{Siege, crowd, pause, times};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n";

/// Places of the listeners in [`layered`].
const TLS: usize = 1;
const WEB: usize = 2;
const PROXY: usize = 3;
const STRANGER: usize = 4;

/// A broker with a listener of each kind, the canary's own plain one first. The last trusts no
/// proxy of this host.
fn layered(name: &'static str, limits: &str) -> (Siege, Authority) {
    let authority = Authority::new("ca");
    let config = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n{}\
         [[listener]]\naddress = '127.0.0.1:0'\nprotocol = 'websocket'\n\
         [[listener]]\naddress = '127.0.0.1:0'\nproxy_protocol = 'any'\n\
         trusted_proxies = ['127.0.0.1']\n\
         [[listener]]\naddress = '127.0.0.1:0'\nproxy_protocol = 'any'\n\
         trusted_proxies = ['192.0.2.0/24']\n[limits]\n{limits}",
        authority.server("localhost").lines()
    );
    (Siege::lay(name, &config), authority)
}

fn open(siege: &Siege, listener: usize, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(siege.broker.listener(listener)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    // That the broker has closed is seen by the next read.
    let _ = stream.write_all(bytes);
    stream
}

/// All that comes until the broker closes.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => {
            panic!("not closed: {error}")
        }
        Ok(_) | Err(_) => bytes,
    }
}

/// A frame of a client with the mask 0.
fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[first][..], length, &[0; 4], payload].concat()
}

#[test]
fn halves_of_every_layer_end_with_the_deadline() {
    // R02: half a handshake, half a request, half a header, and a byte now and then.
    let (siege, _authority) = layered("R02 layers", "connect_timeout_s = 2\n");
    let halves: [(usize, &[u8]); 3] = [
        (TLS, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (WEB, b"GET / HTTP/1.1\r\nHost: a\r\n"),
        (PROXY, b"PROXY TCP4 192.0.2.1"),
    ];
    let begin = Instant::now();
    let mut sockets: Vec<TcpStream> = (0..crowd(60, 9_000))
        .map(|number| {
            let (listener, bytes) = halves[number % halves.len()];
            open(&siege, listener, bytes)
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for round in 0..times(4, 10) {
        let asked = Instant::now();
        siege.connected(Version::V5, &format!("id=good-{round}")).alive();
        slowest = slowest.max(asked.elapsed());
        for socket in &mut sockets {
            let _ = socket.write_all(b"a");
        }
        pause(Duration::from_millis(300));
    }
    println!("R02 layers: a good client waited {slowest:?} at most");
    for socket in sockets {
        rest(socket);
    }
    assert!(begin.elapsed() >= Duration::from_millis(1_900), "closed early");
    siege.bounded(if crate::siege::soak() { 250_000 } else { 12_000 });
    siege.lifted();
}

#[test]
fn requests_that_are_no_websocket_are_told_so() {
    // W02, W06
    let (siege, _authority) = layered("W02", "");
    let answer = |text: String| {
        let bytes = rest(open(&siege, WEB, text.as_bytes()));
        String::from_utf8_lossy(&bytes).lines().next().unwrap_or_default().to_owned()
    };
    for _ in 0..times(10, 1_000) {
        let large = format!("{REQUEST}X: {}\r\n\r\n", "x".repeat(1 << 20));
        assert!(answer(large).starts_with("HTTP/1.1 431"));
        let many = format!("{REQUEST}{}\r\n", "X: y\r\n".repeat(100));
        assert!(answer(many).starts_with("HTTP/1.1 431"));
        for (from, to, status) in [
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "400"),
            ("Version: 13", "Version: 12", "426"),
            ("Protocol: mqtt", "Protocol: chat", "400"),
            ("GET", "POST", "405"),
        ] {
            let line = answer(format!("{}\r\n", REQUEST.replace(from, to)));
            assert!(line.starts_with(&format!("HTTP/1.1 {status}")), "{to:?}: {line}");
        }
    }
    let mut stream = open(
        &siege,
        WEB,
        format!("{REQUEST}Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n").as_bytes(),
    );
    let mut bytes = [0; 1024];
    let count = stream.read(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes[..count]).to_lowercase();
    assert!(text.starts_with("http/1.1 101") && !text.contains("deflate"), "{text}");
    siege.bounded(4_000);
    siege.lifted();
}

#[test]
fn frames_that_break_the_rules_cost_nothing() {
    // W01, W03: what is no frame of a client, and lengths that nobody sends.
    let (siege, _authority) = layered("W01", "");
    let upgrade = format!("{REQUEST}\r\n");
    let long = [0xff; 9];
    let frames: Vec<Vec<u8>> = vec![
        // Without a mask, with reserved bits, of no kind.
        vec![0x82, 0x01, 0x10],
        frame(0xf2, &[0x81], b"x"),
        frame(0x83, &[0x81], b"x"),
        frame(0x8b, &[0x80], b""),
        // Control frames in parts and too long.
        frame(0x09, &[0x81], b"x"),
        frame(0x89, &[0xfe, 0x00, 0x7e], &[0; 126]),
        // Continuation of nothing, a message within a message, text.
        frame(0x80, &[0x81], b"x"),
        [frame(0x02, &[0x81], b"\x10"), frame(0x82, &[0x81], b"\x10")].concat(),
        frame(0x81, &[0x81], b"x"),
        // 2^63 bytes, and more than there may be: the packet reader knows its own limit.
        frame(0x82, &long, b"\x10"),
        frame(0x82, &[0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], b"\x30\xff\xff"),
        // Lengths longer than need be.
        frame(0x82, &[0xfe, 0x00, 0x01], b"x"),
    ];
    for _ in 0..times(20, 2_000) {
        for bytes in &frames {
            rest(open(&siege, WEB, &[upgrade.as_bytes(), bytes].concat()));
        }
    }
    // Pings as fast as they are taken, by who never reads.
    let ping = frame(0x89, &[0xfd], &[b'p'; 125]).repeat(400);
    let mut floods: Vec<TcpStream> =
        (0..4).map(|_| open(&siege, WEB, upgrade.as_bytes())).collect();
    for flood in &mut floods {
        crate::siege::pour(flood, &ping, Duration::from_millis(500), times(2, 200) << 20);
    }
    siege.bounded(8_000);
    siege.lifted();
}

#[test]
fn headers_of_a_proxy_are_due_and_trusted_only_where_they_are_asked_for() {
    // X01, X02
    let (siege, _authority) = layered("X01", "");
    let good = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    let binary = |rest: &[u8]| [&signature[..], rest].concat();
    let bad: Vec<Vec<u8>> = vec![
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 99999\r\n".to_vec(),
        b"PROXY TCP9 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        [&b"PROXY "[..], &[b'x'; 65_000]].concat(),
        b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00".to_vec(),
        // Version 1 of the binary form, an address that is cut, 65,535 bytes of TLVs.
        binary(b"\x11\x11\x00\x0c"),
        binary(b"\x21\x11\x00\x04abcd"),
        binary(&[&b"\x21\x11\xff\xff"[..], &[0; 65_535]].concat()),
    ];
    for _ in 0..times(20, 2_000) {
        for bytes in &bad {
            assert_eq!(rest(open(&siege, PROXY, bytes)), b"");
        }
        // From elsewhere, and where nobody asked for one.
        assert_eq!(rest(open(&siege, STRANGER, good)), b"");
        assert_eq!(rest(open(&siege, 0, good)), b"");
    }
    siege.bounded(4_000);
    siege.lifted();
}
