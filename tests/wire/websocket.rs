//! WebSocket: the request, the frames, and who is left outside.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{DEADLINE, V5, client_frame, compose, each_with, take_server_frame};

const CONFIG: &str = "
[[listener]]
address = '127.0.0.1:0'
[[listener]]
address = '127.0.0.1:0'
protocol = 'websocket'
[listener.websocket]
path = '/mqtt'
origins = ['https://app.example']
trusted_proxies = ['127.0.0.1']
[limits]
connect_timeout_s = 1
[log]
level = 'debug'
";

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin: https://app.example\r\n\r\n";

struct Web {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Web {
    fn open(address: SocketAddr, request: &str) -> Web {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut web = Web { stream, input: Vec::new() };
        web.write(request.as_bytes());
        web
    }

    fn write(&mut self, bytes: &[u8]) {
        // That the broker has closed is seen by the next read.
        let _ = self.stream.write_all(bytes);
    }

    fn read(&mut self) -> usize {
        let mut buffer = [0; 4096];
        let count = self.stream.read(&mut buffer).unwrap_or_else(|error| {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            0
        });
        self.input.extend(&buffer[..count]);
        count
    }

    /// The response up to its empty line.
    fn response(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|four| four == b"\r\n\r\n") {
                return String::from_utf8(self.input.drain(..end + 4).collect()).unwrap();
            }
            assert!(self.read() > 0, "closed without a response");
        }
    }

    fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = take_server_frame(&mut self.input) {
                return Some(frame);
            }
            if self.read() == 0 {
                return None;
            }
        }
    }
}

#[test]
fn the_request_is_answered_to_the_letter() {
    // [MQTT-6.0.0-4] [MQTT-6.0.0-3]
    each_with(CONFIG, V5, |test| {
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        assert_eq!(
            web.response(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        let old = REQUEST.replace("Protocol: mqtt\r\n", "Protocol: chat, mqttv3.1\r\n");
        let mut web = Web::open(test.broker.listener(1), &old);
        assert!(web.response().contains("Sec-WebSocket-Protocol: mqttv3.1\r\n"));
    });
}

#[test]
fn other_requests_are_refused_and_closed() {
    each_with(CONFIG, V5, |test| {
        let big = format!("Host: broker\r\nX: {}", "x".repeat(9000));
        let many = format!("Host: broker\r\n{}X: y", "X: y\r\n".repeat(70));
        for (from, to, status) in [
            ("Protocol: mqtt", "Protocol: chat", "400"),
            ("/mqtt", "/", "404"),
            ("https://app.example", "https://evil.example", "403"),
            ("Origin: https://app.example\r\n", "", "403"),
            ("GET", "PUT", "405"),
            ("Version: 13", "Version: 12", "426"),
            ("Upgrade: websocket\r\n", "", "426"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "short", "400"),
            ("Host: broker", &big, "431"),
            ("Host: broker", &many, "431"),
            ("GET /mqtt HTTP/1.1\r\n", "\x10\x0c\0\x04MQTT", "400"),
        ] {
            let mut web = Web::open(test.broker.listener(1), &REQUEST.replacen(from, to, 1));
            let response = web.response();
            assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {response}");
            while web.read() > 0 {}
            assert_eq!(web.input, b"");
        }
    });
}

#[test]
fn a_request_that_does_not_end_is_closed_in_time() {
    each_with(CONFIG, V5, |test| {
        for cut in [0, 10, REQUEST.len() - 1] {
            let mut web = Web::open(test.broker.listener(1), &REQUEST[..cut]);
            assert_eq!(web.read(), 0);
        }
        // So is one that ends and is followed by nothing.
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        web.response();
        assert_eq!(web.frame().map(|(first, _)| first), Some(0x88));
    });
}

#[test]
fn frames_that_break_the_rules_are_told_why() {
    // [MQTT-6.0.0-1]: text closes the connection; the rest is RFC 6455
    each_with(CONFIG, V5, |test| {
        let connect = compose("connect", test.version, "x");
        for (bytes, code) in [
            (client_frame(0x81, &connect), 1003u16),
            (client_frame(0x92, &connect), 1002),
            (client_frame(0x80, &connect), 1002),
            (client_frame(0x83, &connect), 1002),
            (client_frame(0x09, b"fragmented ping"), 1002),
            ([&[0x82, 20][..], &connect].concat(), 1002),
            (client_frame(0x89, &[0; 126]), 1002),
        ] {
            let mut web = Web::open(test.broker.listener(1), REQUEST);
            web.response();
            web.write(&bytes);
            assert_eq!(web.frame(), Some((0x88, code.to_be_bytes().to_vec())), "{bytes:x?}");
            assert_eq!(web.frame(), None);
        }
        assert!(!test.broker.log().contains("connected client=\"x\""));
    });
}

#[test]
fn pings_are_answered_between_packets() {
    each_with(CONFIG, V5, |test| {
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        web.response();
        web.write(&client_frame(0x89, b"before"));
        assert_eq!(web.frame(), Some((0x8a, b"before".to_vec())));
        let connect = compose("connect", test.version, "pinging");
        let (front, rest) = connect.split_at(5);
        web.write(&client_frame(0x02, front));
        web.write(&client_frame(0x89, b"amid"));
        assert_eq!(web.frame(), Some((0x8a, b"amid".to_vec())));
        web.write(&client_frame(0x80, rest));
        let (first, connack) = web.frame().expect("CONNACK");
        assert_eq!((first, connack[0]), (0x82, 0x20));
        web.write(&client_frame(0x88, &1001u16.to_be_bytes()));
        assert_eq!(web.frame(), Some((0x88, 1001u16.to_be_bytes().to_vec())));
        assert_eq!(web.frame(), None);
    });
}

#[test]
fn a_flood_of_pings_is_bounded() {
    each_with(CONFIG, V5, |test| {
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        web.response();
        web.write(&client_frame(0x82, &compose("connect", test.version, "flood")));
        assert_eq!(web.frame().map(|(first, _)| first), Some(0x82));
        let (_, before) = test.broker.descriptors_and_memory();
        let pings = client_frame(0x89, &[7; 125]).repeat(500);
        web.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        // The pongs are not read; the broker must not keep them all.
        for _ in 0..200 {
            if web.stream.write_all(&pings).is_err() {
                break;
            }
        }
        let (_, after) = test.broker.descriptors_and_memory();
        assert!(after < before + 10_000, "{before} kB grew to {after} kB");
    });
}

#[test]
fn the_broker_ends_with_a_close_frame() {
    each_with(CONFIG, V5, |test| {
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        web.response();
        web.write(&client_frame(0x82, &compose("connect", test.version, "ends")));
        assert_eq!(web.frame().map(|(first, _)| first), Some(0x82));
        web.write(&client_frame(0x82, &compose("disconnect", test.version, "")));
        assert_eq!(web.frame(), Some((0x88, 1000u16.to_be_bytes().to_vec())));
        assert_eq!(web.frame(), None);
    });
}

#[test]
fn a_lost_websocket_publishes_the_will() {
    each_with(CONFIG, V5, |test| {
        test.run("sub connects\n sub subscribes ~/w");
        let text = format!("connect will={}/w wp=gone", test.prefix);
        let mut web = Web::open(test.broker.listener(1), REQUEST);
        web.response();
        web.write(&client_frame(0x82, &compose(&text, test.version, "lost")));
        assert_eq!(web.frame().map(|(first, _)| first), Some(0x82));
        // A close frame is no DISCONNECT.
        web.write(&client_frame(0x88, b""));
        test.run("sub gets ~/w p=gone");
    });
}

#[test]
fn a_trusted_proxy_names_the_client() {
    each_with(CONFIG, V5, |test| {
        let chain = "X-Forwarded-For: 203.0.113.1, 192.0.2.9\r\n\r\n";
        let request = REQUEST.replace("\r\n\r\n", &format!("\r\n{chain}"));
        let mut web = Web::open(test.broker.listener(1), &request);
        web.response();
        web.write(&client_frame(0x82, &compose("connect", test.version, "forwarded")));
        assert_eq!(web.frame().map(|(first, _)| first), Some(0x82));
        let line = test.broker.line("client=\"forwarded\"");
        assert!(line.contains("address=Some(192.0.2.9:0)"), "{line}");
    });
}
