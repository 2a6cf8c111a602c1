//! TLS: certificates of both sides, resumption, names, and who is left outside.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::harness::{Authority, Broker, Client, DEADLINE, Event, Issued, V5, compose, each_with};

/// The next 2 bytes of CONNACK are those of 5.0 and 3.1.1 alike.
const CONNACK: u8 = 0x20;

type Secured = StreamOwned<ClientConnection, TcpStream>;

/// Connects and sends CONNECT. The error is that of the handshake, or the end of the connection.
fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    host: &str,
    id: &str,
) -> std::io::Result<Secured> {
    let tcp = TcpStream::connect(address).expect("the broker accepts");
    tcp.set_nodelay(true).unwrap();
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(tls, tcp);
    stream.write_all(&compose("connect", V5[0], id))?;
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    assert_eq!(head[0], CONNACK);
    stream.read_exact(&mut vec![0; head[1].into()])?;
    Ok(stream)
}

fn config(listeners: &[String]) -> String {
    let mut text = "[[listener]]\naddress = '127.0.0.1:0'\n".to_owned();
    for listener in listeners {
        text.push_str("[[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n");
        text.push_str(listener);
    }
    text.push_str("[limits]\nconnect_timeout_s = 1\n[log]\nlevel = 'debug'\n");
    text
}

#[test]
fn sessions_resume_at_any_shard() {
    let authority = Authority::new("ca");
    let server = authority.server("localhost");
    let config = config(&[
        format!("{}versions = ['1.2']\n", server.lines()),
        format!("{}versions = ['1.3']\n", server.lines()),
    ]);
    each_with(&config, V5, |test| {
        for listener in [1, 2] {
            let client = Arc::new(authority.trusting(None));
            // Which shard accepts and which is home differs from one to the next.
            for number in 0..20 {
                let address = test.broker.listener(listener);
                let stream = connect(address, &client, "localhost", &format!("c{number}"));
                let kind = stream.expect("it is served").conn.handshake_kind();
                let expected =
                    if number == 0 { HandshakeKind::Full } else { HandshakeKind::Resumed };
                assert_eq!(kind, Some(expected), "client {number} of listener {listener}");
            }
        }
    });
}

#[test]
fn authorities_may_stand_in_a_directory() {
    let all = ["one", "two", "three"].map(Authority::new);
    let server = all[0].server("localhost");
    let folder = tempfile::tempdir().unwrap();
    for (authority, name) in all.iter().zip(["0a1b2c3d.0", "0a1b2c3d.1", "three.pem"]) {
        std::fs::copy(&authority.file, folder.path().join(name)).unwrap();
    }
    let place = folder.path().display();
    let lines = format!("{}ca_dir = '{place}'\nclient_auth = 'required'\n", server.lines());
    each_with(&config(&[lines]), V5, |test| {
        let comes_in = |authority: &Authority| {
            let client = Arc::new(all[0].trusting(Some(&authority.client("alice"))));
            connect(test.broker.listener(1), &client, "localhost", "x").is_ok()
        };
        assert_eq!(all.each_ref().map(comes_in), [true, true, false]);
    });
}

#[test]
fn only_good_certificates_come_in() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let server = authority.server("localhost");
    let usage = |kind: ExtendedKeyUsagePurpose| {
        move |params: &mut rcgen::CertificateParams| {
            params.extended_key_usages = vec![kind.clone()];
        }
    };
    let alice = authority.client("alice");
    let revoked = authority.client("revoked");
    let expired = authority.issue("expired", |params| {
        usage(ExtendedKeyUsagePurpose::ClientAuth)(params);
        params.not_after = date_time_ymd(2025, 1, 1);
    });
    let for_servers = authority.issue("server", usage(ExtendedKeyUsagePurpose::ServerAuth));
    let stranger = other.client("alice");
    let list = authority.revoke(&[&revoked]);
    let asks = |how: &str| {
        format!(
            "{}ca_file = '{}'\ncrl_file = '{}'\nclient_auth = '{how}'\n\
             use_identity_as_username = true\n",
            server.lines(),
            authority.file.display(),
            list.display()
        )
    };
    let config = config(&[asks("required"), asks("optional")]);
    each_with(&config, V5, |test| {
        let comes_in = |listener: usize, own: Option<&Issued>, id: &str| {
            let client = Arc::new(authority.trusting(own));
            connect(test.broker.listener(listener), &client, "localhost", id).is_ok()
        };
        assert!(comes_in(1, Some(&alice), "a1"));
        assert!(comes_in(2, Some(&alice), "a2"));
        assert!(comes_in(2, None, "nobody"));
        for bad in [&revoked, &expired, &for_servers, &stranger] {
            assert!(!comes_in(1, Some(bad), "x"), "{}", bad.certificate.display());
            assert!(!comes_in(2, Some(bad), "x"), "{}", bad.certificate.display());
        }
        assert!(!comes_in(1, None, "x"));
        let line = |id: &str| test.broker.line(&format!("connected client=\"{id}\""));
        assert!(line("a1").contains("user=\"alice\""));
        assert!(line("a2").contains("user=\"alice\""));
        assert!(!line("nobody").contains("user="));
        assert!(!test.broker.log().contains("connected client=\"x\""));
    });
}

#[test]
fn the_name_chooses_the_certificate() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let listener = format!(
        "{}[[listener.tls.sni]]\nhost = 'b.example'\n{}\
         [[listener.tls.sni]]\nhost = '*.c.example'\n{}",
        own.server("localhost").lines(),
        other.server("b.example").lines(),
        other.server("x.c.example").lines(),
    );
    each_with(&config(&[listener]), V5, |test| {
        let serves = |authority: &Authority, host: &str| {
            let client = Arc::new(authority.trusting(None));
            connect(test.broker.listener(1), &client, host, host).is_ok()
        };
        assert!(serves(&own, "localhost"));
        assert!(serves(&own, "127.0.0.1"), "an address is no name");
        assert!(serves(&other, "b.example"));
        assert!(serves(&other, "x.c.example"));
        assert!(!serves(&own, "b.example"));
        assert!(!serves(&other, "localhost"));
    });
}

#[test]
fn protocols_are_agreed_on_if_there_is_a_list() {
    let authority = Authority::new("ca");
    let server = authority.server("localhost");
    let config = config(&[format!("{}alpn = ['mqtt']\n", server.lines()), server.lines()]);
    each_with(&config, V5, |test| {
        let agreed = |listener: usize, offered: &[&str]| {
            let mut client = authority.trusting(None);
            client.alpn_protocols = offered.iter().map(|&name| name.into()).collect();
            let stream =
                connect(test.broker.listener(listener), &Arc::new(client), "localhost", "a")
                    .ok()?;
            Some(stream.conn.alpn_protocol().map(|name| String::from_utf8(name.into()).unwrap()))
        };
        assert_eq!(agreed(1, &["h2", "mqtt"]), Some(Some("mqtt".to_owned())));
        assert_eq!(agreed(1, &[]), Some(None), "who offers nothing is served");
        assert_eq!(agreed(1, &["h2"]), None);
        assert_eq!(agreed(2, &["h2"]), Some(None));
    });
}

#[test]
fn who_does_not_finish_its_handshake_is_closed() {
    let authority = Authority::new("ca");
    let config = config(&[authority.server("localhost").lines()]);
    each_with(&config, V5, |test| {
        // Nothing; plain MQTT; half a record; a record that claims to be one of handshake.
        for bytes in [
            Vec::new(),
            compose("connect", test.version, "x"),
            vec![0x16, 3, 1],
            vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc],
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            let mut stream = TcpStream::connect(test.broker.listener(1)).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("closed in time");
            // An alert at most.
            assert!(answer.is_empty() || answer[0] == 0x15, "{answer:x?}");
        }
        assert!(!test.broker.log().contains("connected client=\"x\""));
    });
}

#[test]
fn handshakes_that_stall_give_way_to_others() {
    let authority = Authority::new("ca");
    let config = config(&[authority.server("localhost").lines()])
        .replace("connect_timeout_s = 1", "connect_timeout_s = 60\ntls_handshakes_max = 2");
    each_with(&config, V5, |test| {
        let address = test.broker.listener(1);
        let client = Arc::new(authority.trusting(None));
        // They begin and do not go on, more than there may be on every shard.
        let name = ServerName::try_from("localhost").unwrap();
        let mut hello = Vec::new();
        let mut tls = ClientConnection::new(Arc::clone(&client), name).unwrap();
        tls.write_tls(&mut hello).unwrap();
        let mut stalled: Vec<TcpStream> = (0..16)
            .map(|_| {
                let mut stream = TcpStream::connect(address).expect("accepted");
                stream.write_all(&hello).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream
            })
            .collect();
        // Each was answered or cut when the others come.
        for stream in &mut stalled {
            let answer = stream.read(&mut [0; 64]);
            let kind = answer.err().map(|error| error.kind());
            assert!(matches!(kind, None | Some(ErrorKind::ConnectionReset)), "{kind:?}");
        }
        for number in 0..8 {
            assert!(connect(address, &client, "localhost", &format!("w{number}")).is_ok());
        }
        // The oldest was cut long before its time to CONNECT.
        let mut first = stalled.into_iter().next().unwrap();
        let ended = first.read_to_end(&mut Vec::new());
        let kind = ended.err().map(|error| error.kind());
        assert!(matches!(kind, None | Some(ErrorKind::ConnectionReset)), "{kind:?}");
    });
}

#[test]
fn bytes_in_any_pieces_and_the_end_without_goodbye() {
    let authority = Authority::new("ca");
    let config = config(&[authority.server("localhost").lines()]);
    each_with(&config, V5, |test| {
        let client = Arc::new(authority.trusting(None));
        test.run("sub connects\n sub subscribes ~/w");
        let prefix = test.prefix.clone();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(client, name).unwrap();
        let mut stream = TcpStream::connect(test.broker.listener(1)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let text = format!("connect will={prefix}/w wp=gone");
        tls.writer().write_all(&compose(&text, test.version, "piecemeal")).unwrap();
        loop {
            let mut wire = Vec::new();
            while tls.wants_write() {
                tls.write_tls(&mut wire).unwrap();
            }
            for byte in wire {
                stream.write_all(&[byte]).unwrap();
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer) {
                Ok(0) => panic!("closed"),
                Ok(count) => {
                    tls.read_tls(&mut &buffer[..count]).unwrap();
                    if tls.process_new_packets().unwrap().plaintext_bytes_to_read() > 0 {
                        break;
                    }
                }
                // What is due has not come yet.
                Err(_) => {}
            }
        }
        drop(stream);
        test.run("sub gets ~/w p=gone");
    });
}

#[test]
fn a_goodbye_of_tls_alone_is_the_end() {
    let authority = Authority::new("ca");
    let config = config(&[authority.server("localhost").lines()]);
    each_with(&config, V5, |test| {
        let client = Arc::new(authority.trusting(None));
        let mut stream =
            connect(test.broker.listener(1), &client, "localhost", "a").expect("it is served");
        stream.conn.send_close_notify();
        let mut rest = Vec::new();
        // Answered with the same: the end is a clean one here too.
        stream.read_to_end(&mut rest).expect("a clean end");
        assert!(rest.is_empty());
    });
}

#[test]
fn the_broker_says_goodbye_before_it_closes() {
    let authority = Authority::new("ca");
    let config = config(&[authority.server("localhost").lines()]);
    let broker = Broker::start(1, &config);
    let client = Arc::new(authority.trusting(None));
    let mut stream = connect(broker.listener(1), &client, "localhost", "a").expect("it is served");
    broker.terminate();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("a clean end");
    // DISCONNECT, server shutting down.
    assert_eq!(rest, [0xe0, 1, 0x8b]);
    drop(stream);
    assert!(broker.wait().success());
}

#[test]
fn plain_clients_beside_it_are_served() {
    let authority = Authority::new("ca");
    each_with(&config(&[authority.server("localhost").lines()]), V5, |test| {
        let mut client = Client::open(test.broker.listener(0), test.version);
        client.write(&compose("connect", test.version, "plain"));
        assert!(matches!(client.next(), Event::Packet(_)));
    });
}
