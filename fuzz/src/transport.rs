//! What comes before MQTT: PROXY headers, WebSocket, TLS records.

use crate::taker::Taker;
use culex::transport::proxy::{self, Versions};
use culex::transport::tls::{Acceptor, ClientAuth, KeyPair, Material, Tls, UserName};
use culex::transport::websocket::{Settings, Websocket};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use shards::Outgoing;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

/// The header ends where it says, and no beginning of it is one.
pub fn proxy_header(bytes: &[u8]) {
    for versions in [Versions::V1, Versions::V2, Versions::Any] {
        let Ok(Some(header)) = proxy::parse(bytes, versions) else { continue };
        assert!(header.header_bytes <= bytes.len().min(proxy::HEADER_BYTES_MAX));
        let own = &bytes[..header.header_bytes];
        assert_eq!(proxy::parse(own, versions), Ok(Some(header)));
        for cut in 0..own.len() {
            assert_eq!(proxy::parse(&own[..cut], versions), Ok(None), "cut at {cut}");
        }
    }
}

const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Pieces of any length give what the whole gives. The first byte chooses the length of the pieces
/// and whether the request has been sent.
pub fn websocket(bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else { return };
    let stream = if choice & 0x80 == 0 { rest.to_vec() } else { [REQUEST, rest].concat() };
    let settings = Settings {
        path: None,
        origins: Vec::new(),
        trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
    };
    let run = |piece_bytes: usize| {
        let peer: Option<IpAddr> = "10.1.1.1".parse().ok();
        let mut websocket = Websocket::new();
        let (mut data, mut wire) = (Vec::new(), Vec::new());
        let (mut ended, mut error) = (false, None);
        for piece in stream.chunks(piece_bytes) {
            match websocket.receive(piece, &settings, peer, &mut data, &mut wire) {
                Ok(arrived) => ended |= arrived.ended,
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
        assert!(data.len() <= stream.len());
        websocket.answer(&mut wire);
        websocket.finish(&mut wire);
        (data, wire, ended, error)
    };
    let whole = run(stream.len().max(1));
    let pieces = run(usize::from(choice & 0x7f) + 1);
    // A request that is refused early in pieces is refused for its beginning.
    if whole.3.is_none() || choice & 0x80 != 0 {
        assert_eq!(pieces, whole);
    }
}

struct Fixture {
    acceptor: Acceptor,
    client: ClientConfig,
}

fn fixture() -> Fixture {
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec!["localhost".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    let pem: Vec<u8> = certificate.pem().into();
    let material = Material {
        pair: KeyPair {
            certificate_name: String::new(),
            certificate: pem.clone(),
            key_name: String::new(),
            key: key.serialize_pem().into(),
        },
        names: Vec::new(),
        client_auth: ClientAuth::Optional,
        authorities: vec![(String::new(), pem.clone())],
        revocations: Vec::new(),
        user_name: UserName::Subject,
        versions: culex::transport::tls::Versions::Any,
        alpn: Vec::new(),
    };
    let acceptor = Acceptor::new(&material, 1_800_000_000, None).expect("fits");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
    let client =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
    Fixture { acceptor, client }
}

/// A client that keeps to the rules until the bytes say otherwise: they cut, change, repeat and
/// invent what it sends, while the server sends too. Nothing makes the server panic.
pub fn tls(bytes: &[u8]) {
    thread_local!(static FIXTURE: Fixture = fixture());
    FIXTURE.with(|fixture| {
        let mut taker = Taker::new(bytes);
        let mut config = fixture.client.clone();
        config.max_fragment_size = match taker.byte() {
            choice @ 32.. => Some(usize::from(choice)),
            _ => None,
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut server = Tls::new(&fixture.acceptor).expect("a server");
        let (mut plain, mut back, mut wire) = (Vec::new(), Vec::new(), Vec::new());
        while !taker.is_empty() {
            while client.wants_write() {
                client.write_tls(&mut wire).expect("memory");
            }
            let choice = taker.byte();
            let count = usize::from(taker.byte()).min(wire.len());
            match choice % 8 {
                0 => {
                    let piece: Vec<u8> = wire.drain(..count).collect();
                    if server.receive(&piece, &mut plain, &mut back).is_err() {
                        break;
                    }
                }
                1 => {
                    let all = std::mem::take(&mut wire);
                    if server.receive(&all, &mut plain, &mut back).is_err() {
                        break;
                    }
                }
                2 => {
                    if let Some(byte) = wire.get_mut(count) {
                        *byte ^= taker.byte();
                    }
                }
                3 => {
                    let again = wire.get(..count).unwrap_or_default().to_vec();
                    wire.splice(count..count, again);
                }
                4 => {
                    let kind = 0x14 + taker.byte() % 5;
                    let body = taker.byte() % 16;
                    let head = [kind, 3, 3, 0, body];
                    let record = head.into_iter().chain((0..body).map(|_| taker.byte()));
                    wire.splice(count..count, record.collect::<Vec<u8>>());
                }
                5 => {
                    let _ = client.writer().write_all(&[7; 40]);
                    if choice & 0x80 != 0 {
                        let _ = client.refresh_traffic_keys();
                    }
                }
                6 => {
                    let output = Outgoing { bytes: vec![9; count + 1], shared: Vec::new() };
                    let _ = server.seal(&output, &mut back);
                }
                _ => {
                    let mut rest = back.as_slice();
                    while !rest.is_empty() {
                        client.read_tls(&mut rest).expect("memory");
                        if client.process_new_packets().is_err() {
                            break;
                        }
                        let mut heard = Vec::new();
                        let _ = std::io::Read::read_to_end(&mut client.reader(), &mut heard);
                    }
                    back.clear();
                }
            }
        }
        let _ = server.certificate(&fixture.acceptor);
        server.finish(&mut back);
        let output = Outgoing { bytes: vec![9], shared: Vec::new() };
        let _ = server.seal(&output, &mut back);
    });
}
