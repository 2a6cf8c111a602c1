//! What holds over TCP holds over TLS, WebSocket, Unix sockets and behind a proxy.

use std::sync::Arc;

use crate::harness::{ALL, Authority, Carrier, Test, WebsocketClient, each_over};

/// One run of most of what a client does: every QoS, a message of many records and frames, a
/// retained one, a session that is resumed, a will.
const SCRIPT: &str = "
    sub connects clean=0 expiry=60
    sub subscribes ~/t q2
    pub connects
    pub publishes ~/t p=zero
    sub gets ~/t p=zero
    pub publishes ~/t q1 p=*300
    sub gets ~/t q1 p=*300
    pub publishes ~/t q2 p=*100000
    sub gets ~/t q2 p=*100000
    pub publishes ~/r q1 retain p=kept
    late connects
    late subscribes ~/r
    late gets ~/r retain p=kept
    sub leaves
    pub publishes ~/t q1 p=waits
    31: sub connects clean=0
    311: sub connects clean=0 -> present
    5: sub connects clean=0 expiry=60 -> present
    sub gets ~/t q1 p=waits
    dying connects will=~/t wq=1 wp=gone
    dying drops
    sub gets ~/t q1 p=gone
    pub < nothing
";

fn run(test: &mut Test<'_>) {
    test.run(SCRIPT);
}

/// The shared configuration with two listeners: plain, and the one under test.
fn config(listener: &str) -> String {
    format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n[[listener]]\naddress = '127.0.0.1:0'\n{listener}"
    )
}

fn tls_lines(authority: &Authority) -> String {
    format!("[listener.tls]\n{}", authority.server("localhost").lines())
}

#[test]
fn tls_carries_everything() {
    let authority = Authority::new("ca");
    let config = config(&tls_lines(&authority));
    let carrier = Carrier { tls: Some(Arc::new(authority.trusting(None))), ..Carrier::default() };
    each_over(&carrier, (&config, 1), ALL, run);
}

#[test]
fn websocket_carries_everything() {
    // [MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT-6.0.0-4]: frames hold parts of packets, or many
    // 3.1.1: [MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT-6.0.0-4]
    let config = config("protocol = 'websocket'\n");
    for (frame_bytes_max, frames_max) in [(1, 1), (7, 3), (70_000, 1)] {
        let websocket = Some(WebsocketClient { frame_bytes_max, frames_max });
        let carrier = Carrier { websocket, ..Carrier::default() };
        each_over(&carrier, (&config, 1), ALL, run);
    }
}

#[test]
fn websocket_in_tls_carries_everything() {
    // [MQTT-6.0.0-2]
    let authority = Authority::new("ca");
    let config = config(&format!("protocol = 'websocket'\n{}", tls_lines(&authority)));
    let carrier = Carrier {
        tls: Some(Arc::new(authority.trusting(None))),
        websocket: Some(WebsocketClient { frame_bytes_max: 1000, frames_max: 2 }),
        ..Carrier::default()
    };
    each_over(&carrier, (&config, 1), ALL, run);
}

#[test]
fn a_proxy_in_front_changes_nothing() {
    let config = config("proxy_protocol = 'v1'\ntrusted_proxies = ['127.0.0.1']\n");
    let header = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n".to_vec();
    each_over(&Carrier { header, ..Carrier::default() }, (&config, 1), ALL, run);
}

#[test]
fn a_proxy_in_front_of_tls_changes_nothing() {
    let authority = Authority::new("ca");
    let listener = "proxy_protocol = 'any'\ntrusted_proxies = ['127.0.0.1']\n";
    let config = config(&format!("{listener}{}", tls_lines(&authority)));
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0x07, 0x5b]);
    let tls = Some(Arc::new(authority.trusting(None)));
    each_over(&Carrier { header, tls, websocket: None }, (&config, 1), ALL, run);
}
