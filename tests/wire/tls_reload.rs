//! Certificates that are renewed while the broker serves.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, StreamOwned};

use crate::harness::{Authority, Broker, Client, DEADLINE, Version, compose};

/// Shakes hands. `None` if that fails.
fn shake(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let mut tcp = TcpStream::connect(address).expect("the broker accepts");
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut tcp).ok()?;
    }
    let kind = tls.handshake_kind();
    let mut stream = StreamOwned::new(tls, tcp);
    // The ticket comes before the answer: a packet that is no CONNECT ends the connection.
    stream.write_all(&[0xc0, 0]).ok()?;
    let _end = std::io::Read::read_to_end(&mut stream, &mut Vec::new());
    kind
}

fn reload(broker: &Broker, line: &str) {
    let pid = broker.pid.expect("an own broker").to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    broker.line(line);
}

#[test]
fn new_handshakes_get_what_is_in_the_files_now() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let own = old.server("localhost");
    let config = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n{}",
        own.lines()
    );
    for shards in 1..=2 {
        let broker = Broker::start(shards, &config);
        let address = broker.listener(1);
        let (of_old, of_new) = (Arc::new(old.trusting(None)), Arc::new(new.trusting(None)));
        assert_eq!(shake(address, &of_old), Some(HandshakeKind::Full));
        assert_eq!(shake(address, &of_old), Some(HandshakeKind::Resumed));
        assert_eq!(shake(address, &of_new), None);

        let kept = [&own.certificate, &own.key].map(|path| std::fs::read(path).unwrap());
        std::fs::write(&own.certificate, "nothing").unwrap();
        reload(&broker, "settings not taken");
        assert_eq!(shake(address, &Arc::new(old.trusting(None))), Some(HandshakeKind::Full));

        let renewed = new.server("localhost");
        std::fs::copy(&renewed.certificate, &own.certificate).unwrap();
        std::fs::copy(&renewed.key, &own.key).unwrap();
        reload(&broker, "settings read again");
        // The shards take them one after the other, each at its next turn.
        for _ in 0..8 {
            assert!(shake(address, &of_new).is_some());
        }
        assert_eq!(shake(address, &Arc::new(old.trusting(None))), None);
        // Who has a ticket goes on: nothing but the certificate has changed.
        assert_eq!(shake(address, &of_old), Some(HandshakeKind::Resumed));

        std::fs::write(&own.certificate, &kept[0]).unwrap();
        std::fs::write(&own.key, &kept[1]).unwrap();
    }
}

#[test]
fn a_certificate_that_is_revoked_does_not_resume() {
    let authority = Authority::new("ca");
    let alice = authority.client("alice");
    let list = authority.revoke(&[]);
    let config = format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n{}ca_file = '{}'\n\
         crl_file = '{}'\nclient_auth = 'required'\n",
        authority.server("localhost").lines(),
        authority.file.display(),
        list.display(),
    );
    let broker = Broker::start(1, &config);
    let client = Arc::new(authority.trusting(Some(&alice)));
    assert_eq!(shake(broker.listener(1), &client), Some(HandshakeKind::Full));
    assert_eq!(shake(broker.listener(1), &client), Some(HandshakeKind::Resumed));
    authority.revoke(&[&alice]);
    reload(&broker, "settings read again");
    assert_ne!(shake(broker.listener(1), &client), Some(HandshakeKind::Resumed));
}

#[test]
fn the_end_of_a_certificate_is_told_before_it_comes() {
    const DAY_S: u64 = 86_400;
    let authority = Authority::new("ca");
    let now_s = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let in_days = |days: u64| {
        let ends_s = now_s + days * DAY_S + DAY_S / 2;
        let own = authority.issue("localhost", |params| {
            params.not_after =
                rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(ends_s);
        });
        (own, ends_s)
    };
    let (own, ends_s) = in_days(10);
    let config = format!(
        "sys_interval_s = 1\n[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\naddress = '127.0.0.1:0'\n[listener.tls]\n{}",
        own.lines()
    );
    let broker = Broker::start(2, &config);
    let line = broker.line("a certificate expires soon");
    assert!(line.contains("days=10") && line.contains("listener=\"127.0.0.1:0\""), "{line}");
    let mut client = Client::open(broker.address, Version::V5);
    client.write(&compose("connect id=a", Version::V5, ""));
    assert_eq!(client.packet().codes, [0]);
    let filter = "subscribe 1 $SYS/broker/listeners/certificates/expiry q0";
    client.write(&compose(filter, Version::V5, ""));
    assert_eq!(client.packet().codes, [0]);
    assert_eq!(client.packet().payload, ends_s.to_string().into_bytes());
    // Another one is in its place.
    let (new, ends_s) = in_days(300);
    std::fs::copy(&new.certificate, &own.certificate).unwrap();
    std::fs::copy(&new.key, &own.key).unwrap();
    reload(&broker, "settings read again");
    assert_eq!(client.packet().payload, ends_s.to_string().into_bytes());
}
