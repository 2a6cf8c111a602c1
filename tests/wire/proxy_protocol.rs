//! PROXY headers: whose are taken, and what becomes of the rest.

use crate::harness::{Client, Event, V5, compose, each_with};

const CONFIG: &str = "
[[listener]]
address = '127.0.0.1:0'
[[listener]]
address = '127.0.0.1:0'
proxy_protocol = 'any'
trusted_proxies = ['127.0.0.1', '10.0.0.0/8']
[[listener]]
address = '127.0.0.1:0'
proxy_protocol = 'v2'
trusted_proxies = ['127.0.0.1']
[[listener]]
address = '127.0.0.1:0'
proxy_protocol = 'any'
trusted_proxies = ['192.0.2.0/24']
[limits]
connect_timeout_s = 1
[log]
level = 'debug'
";

const LINE: &[u8] = b"PROXY TCP4 192.0.2.77 198.51.100.2 40000 1883\r\n";

#[test]
fn the_client_is_whom_the_proxy_names() {
    each_with(CONFIG, V5, |test| {
        let mut local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec();
        let mut v6 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x2a".to_vec();
        v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
        v6.extend([0; 16]);
        v6.extend([1, 2, 3, 4]);
        v6.extend([0x20, 0, 3, 0, 0, 0]);
        for (name, header, address) in [
            ("v1", LINE.to_vec(), "192.0.2.77:40000"),
            ("v2", v6, "[2001:db8::5]:258"),
            ("unknown", b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
            ("local", std::mem::take(&mut local), "127.0.0.1:"),
        ] {
            let mut client = Client::open(test.broker.listener(1), test.version);
            let mut bytes = header;
            bytes.extend(compose("connect", test.version, name));
            for byte in bytes {
                client.write(&[byte]);
            }
            assert_eq!(client.packet().name, "connack");
            let connected = format!("connected client=\"{name}\"");
            let line = test.broker.line(&connected);
            assert!(line.contains(&format!("address=Some({address}")), "{line}");
        }
    });
}

#[test]
fn other_beginnings_are_closed() {
    each_with(CONFIG, V5, |test| {
        let connect = compose("connect", test.version, "x");
        let with = |header: &[u8]| [header, &connect].concat();
        for (listener, bytes) in [
            (1, with(b"")),
            (1, with(b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n")),
            (1, with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff")),
            (2, with(LINE)),
            // The one that is allowed does not come from here.
            (3, with(LINE)),
            // Where none is due it is no CONNECT.
            (0, with(LINE)),
            // It never ends; the time to CONNECT does.
            (1, LINE[..20].to_vec()),
            (1, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0".to_vec()),
        ] {
            let mut client = Client::open(test.broker.listener(listener), test.version);
            client.write(&bytes);
            assert!(matches!(client.next(), Event::Closed), "{}", bytes.escape_ascii());
        }
    });
}
