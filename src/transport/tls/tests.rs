//! TLS against the client's half of the same library: pieces, resumption, and what is refused.

use super::*;
use bytes::Bytes;
use proptest::prelude::*;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{Read, Write};

const NOW_S: i64 = 1_800_000_000;

struct Ca {
    issuer: Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Ca {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self, change: impl Fn(&mut CertificateParams)) -> KeyPair {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        change(&mut params);
        KeyPair {
            certificate_name: "server.crt".to_owned(),
            certificate: params.signed_by(&key, &self.issuer).expect("signed").pem().into(),
            key_name: "server.key".to_owned(),
            key: key.serialize_pem().into(),
        }
    }
}

fn material(pair: KeyPair) -> Material {
    Material {
        pair,
        names: Vec::new(),
        client_auth: ClientAuth::None,
        authorities: Vec::new(),
        revocations: Vec::new(),
        user_name: UserName::None,
        versions: Versions::Any,
        alpn: Vec::new(),
    }
}

fn client(ca: &Ca, own: Option<&KeyPair>) -> ClientConfig {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_slice(ca.pem.as_bytes());
    roots.add(root.expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let Some(own) = own else { return builder.with_no_client_auth() };
    let chain = rustls::pki_types::CertificateDer::from_pem_slice(&own.certificate).expect("PEM");
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(&own.key).expect("PEM");
    builder.with_client_auth_cert(vec![chain], key).expect("a pair")
}

/// A client and a server with nothing between them.
struct Pair {
    client: ClientConnection,
    server: Tls,
    /// What the server's owner got.
    plain: Vec<u8>,
    piece_bytes: usize,
}

impl Pair {
    fn new(acceptor: &Acceptor, config: &Arc<ClientConfig>, piece_bytes: usize) -> Pair {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::clone(config), name).expect("a client");
        let server = Tls::new(acceptor).expect("a server");
        Pair { client, server, plain: Vec::new(), piece_bytes }
    }

    /// Lets bytes go to and fro until nobody has any.
    fn settle(&mut self) -> Result<(), ConnectionError> {
        let mut back = Vec::new();
        loop {
            let mut wire = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut wire).expect("memory");
            }
            let mut result = Ok(());
            for piece in wire.chunks(self.piece_bytes) {
                result = self.server.receive(piece, &mut self.plain, &mut back);
                if result.is_err() {
                    break;
                }
            }
            if wire.is_empty() && back.is_empty() {
                return Ok(());
            }
            result?;
            self.hear(&back);
            back.clear();
        }
    }

    fn hear(&mut self, wire: &[u8]) -> Vec<u8> {
        let (mut rest, mut heard) = (wire, Vec::new());
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).expect("memory");
            let state = self.client.process_new_packets().expect("the server speaks TLS");
            let mut piece = vec![0; state.plaintext_bytes_to_read()];
            self.client.reader().read_exact(&mut piece).expect("said to be there");
            heard.extend(piece);
        }
        heard
    }
}

#[test]
fn a_handshake_in_pieces_of_any_length() {
    let ca = Ca::new();
    let acceptor = Acceptor::new(&material(ca.issue(|_| {})), NOW_S, None).expect("fits");
    let config = Arc::new(client(&ca, None));
    for piece_bytes in [1, 2, 7, 100, 5000] {
        let mut pair = Pair::new(&acceptor, &config, piece_bytes);
        assert!(pair.server.is_handshaking());
        pair.client.writer().write_all(b"first").expect("memory");
        pair.settle().expect("a handshake");
        assert!(!pair.server.is_handshaking());
        assert_eq!(pair.plain, b"first", "{piece_bytes}");
        assert_eq!(pair.server.held.capacity(), 0, "an idle connection holds no buffer");
    }
}

#[test]
fn output_arrives_whatever_it_is_made_of() {
    let ca = Ca::new();
    let acceptor = Acceptor::new(&material(ca.issue(|_| {})), NOW_S, None).expect("fits");
    let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, None)), 5000);
    pair.settle().expect("a handshake");
    for (own, pieces) in [(0, &[][..]), (10, &[]), (100_000, &[]), (30, &[(10, 20_000), (30, 5)])] {
        let mut output = Outgoing { bytes: vec![7; own], shared: Vec::new() };
        for &(at, bytes) in pieces {
            output.shared.push((at, Bytes::from(vec![9; bytes])));
        }
        let expected: Vec<u8> = output.slices(0).flatten().copied().collect();
        let mut wire = Vec::new();
        pair.server.seal(&output, &mut wire).expect("open");
        assert_eq!(pair.hear(&wire), expected);
    }
    let mut wire = Vec::new();
    pair.server.finish(&mut wire);
    pair.server.finish(&mut wire);
    pair.hear(&wire);
    let read = pair.client.reader().read(&mut [0]);
    assert_eq!(read.expect("close_notify, not a cut"), 0);
}

#[test]
fn the_end_of_the_peer_is_seen() {
    let ca = Ca::new();
    let acceptor = Acceptor::new(&material(ca.issue(|_| {})), NOW_S, None).expect("fits");
    let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, None)), 5000);
    pair.client.writer().write_all(b"last").expect("memory");
    pair.settle().expect("a handshake");
    assert!(!pair.server.is_ended());
    pair.client.send_close_notify();
    pair.settle().expect("a good end");
    assert!(pair.server.is_ended());
    assert_eq!(pair.plain, b"last");
}

#[test]
fn tickets_of_one_acceptor_resume_at_the_next() {
    let ca = Ca::new();
    let pair = ca.issue(|_| {});
    for versions in [Versions::Tls12, Versions::Tls13] {
        let only = |mut material: Material, before: Option<&Acceptor>| {
            material.versions = versions;
            Acceptor::new(&material, NOW_S, before).expect("fits")
        };
        let first = only(material(pair.clone()), None);
        let second = only(material(pair.clone()), Some(&first));
        let stranger = only(material(pair.clone()), None);
        let config = Arc::new(client(&ca, None));
        for (acceptor, resumes) in [(&first, false), (&second, true), (&stranger, false)] {
            let mut pair = Pair::new(acceptor, &config, 5000);
            pair.settle().expect("a handshake");
            let resumed = pair.client.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            assert_eq!(resumed, resumes, "{versions:?}");
        }
    }
}

#[test]
fn garbage_is_answered_with_an_alert() {
    let ca = Ca::new();
    let acceptor = Acceptor::new(&material(ca.issue(|_| {})), NOW_S, None).expect("fits");
    for bytes in [&b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"[..], &[0x16, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let (mut plain, mut wire) = (Vec::new(), Vec::new());
        let mut tls = Tls::new(&acceptor).expect("a server");
        assert!(tls.receive(bytes, &mut plain, &mut wire).is_err());
        assert_eq!(wire.first(), Some(&0x15), "an alert");
        assert!(plain.is_empty());
    }
}

#[test]
fn a_broken_message_in_parts_is_answered_with_an_alert() {
    let ca = Ca::new();
    let acceptor = Acceptor::new(&material(ca.issue(|_| {})), NOW_S, None).expect("fits");
    // A part of a ClientHello, then what cannot be its next.
    let part = [0x16, 3, 1, 0, 8, 1, 0, 4, 0, 3, 3, 7, 7];
    let rest: [&[u8]; 4] = [
        &[0x17, 3, 3, 0, 2, 0, 0],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0x16, 3, 1, 0xff, 0xff],
        &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
    ];
    for rest in rest {
        for together in [true, false] {
            let (mut plain, mut wire) = (Vec::new(), Vec::new());
            let mut tls = Tls::new(&acceptor).expect("a server");
            let bytes = [&part[..], rest].concat();
            let pieces: Vec<&[u8]> = bytes.chunks(if together { 100 } else { 3 }).collect();
            for piece in pieces {
                if tls.receive(piece, &mut plain, &mut wire).is_err() {
                    break;
                }
            }
            tls.finish(&mut wire);
            let output = Outgoing { bytes: b"late".to_vec(), shared: Vec::new() };
            let _ = tls.seal(&output, &mut wire);
            assert!(wire.is_empty() || wire[0] == 0x15, "an alert at most: {wire:x?}");
        }
    }
}

#[test]
fn a_handshake_in_fragments() {
    let ca = Ca::new();
    let own = ca.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let mut material = material(ca.issue(|_| {}));
    material.client_auth = ClientAuth::Optional;
    material.authorities = vec![("ca.crt".to_owned(), ca.pem.clone().into())];
    let acceptor = Acceptor::new(&material, NOW_S, None).expect("fits");
    let mut config = client(&ca, Some(&own));
    config.max_fragment_size = Some(32);
    let config = Arc::new(config);
    for piece_bytes in [1, 33, 5000] {
        let mut pair = Pair::new(&acceptor, &config, piece_bytes);
        pair.client.writer().write_all(&[7; 1000]).expect("memory");
        pair.settle().expect("a handshake");
        assert_eq!(pair.plain, [7; 1000]);
        // What is cut short on the way is answered too, at whatever byte.
        let mut wire = Vec::new();
        pair.server.receive(&[0x17, 3, 3], &mut pair.plain, &mut wire).expect("a beginning");
        let output = Outgoing { bytes: b"answer".to_vec(), shared: Vec::new() };
        pair.server.seal(&output, &mut wire).expect("open");
        assert_eq!(pair.hear(&wire), b"answer");
    }
}

#[test]
fn who_must_show_a_certificate_is_known_by_it() {
    let ca = Ca::new();
    let own = ca.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        params.distinguished_name.push(DnType::CommonName, "alice");
    });
    for (user_name, user) in [
        (UserName::None, None),
        (UserName::Identity, Some("alice")),
        (UserName::Subject, Some("CN=alice,O=Acme\\, Inc.")),
    ] {
        let mut material = material(ca.issue(|_| {}));
        material.client_auth = ClientAuth::Required;
        material.authorities = vec![("ca.crt".to_owned(), ca.pem.clone().into())];
        material.user_name = user_name;
        let acceptor = Acceptor::new(&material, NOW_S, None).expect("fits");
        let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, Some(&own))), 5000);
        pair.settle().expect("a handshake");
        let certificate = pair.server.certificate(&acceptor).expect("shown");
        assert_eq!(certificate.common_name.as_deref(), Some("alice"));
        assert_eq!(certificate.subject, "CN=alice,O=Acme\\, Inc.");
        assert_eq!(certificate.user.as_deref(), user);
        let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, None)), 5000);
        assert!(pair.settle().is_err(), "nobody comes in without");
    }
}

#[test]
fn a_certificate_without_common_name_is_known_by_its_other_names() {
    let ca = Ca::new();
    let own = ca.issue(|params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let mut material = material(ca.issue(|_| {}));
    material.client_auth = ClientAuth::Optional;
    material.authorities = vec![("ca.crt".to_owned(), ca.pem.clone().into())];
    material.user_name = UserName::Identity;
    let acceptor = Acceptor::new(&material, NOW_S, None).expect("fits");
    let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, Some(&own))), 5000);
    pair.settle().expect("a handshake");
    let certificate = pair.server.certificate(&acceptor).expect("shown");
    assert_eq!(
        (certificate.common_name.as_deref(), certificate.user.as_deref()),
        (None, Some("localhost"))
    );
    let mut pair = Pair::new(&acceptor, &Arc::new(client(&ca, None)), 5000);
    pair.settle().expect("a certificate is optional");
    assert_eq!(pair.server.certificate(&acceptor), None);
}

#[track_caller]
fn refused(material: &Material, line: &str) {
    let error = Acceptor::new(material, NOW_S, None).expect_err("must be refused");
    let text = error.to_string();
    assert!(text.starts_with(line) && !text.contains('\n'), "{text}");
}

#[test]
fn what_does_not_fit_is_told_in_one_line() {
    let ca = Ca::new();
    let good = ca.issue(|_| {});
    let with = |change: &dyn Fn(&mut Material)| {
        let mut material = material(good.clone());
        change(&mut material);
        material
    };
    let other_key = ca.issue(|_| {}).key;
    refused(&with(&|m| m.pair.certificate = b"x".to_vec()), "server.crt: holds no certificate in");
    refused(&with(&|m| m.pair.key = good.certificate.clone()), "server.key: holds no private key");
    refused(
        &with(&|m| m.pair.key = other_key.clone()),
        "server.key: is not the key of the certificate in server.crt",
    );
    refused(
        &with(&|m| {
            m.pair.key = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".to_vec();
        }),
        "server.key: ",
    );
    let old = ca.issue(|params| params.not_after = rcgen::date_time_ymd(2026, 1, 1));
    refused(&material(old), "server.crt: the certificate has expired on Jan  1 ");
    let early = ca.issue(|params| params.not_before = rcgen::date_time_ymd(2090, 1, 1));
    refused(&material(early), "server.crt: the certificate is not valid before Jan  1 ");
    refused(&with(&|m| m.client_auth = ClientAuth::Required), "client certificates need ca_file");
    refused(
        &with(&|m| {
            m.client_auth = ClientAuth::Required;
            m.authorities = vec![("ca.crt".to_owned(), b"none".to_vec())];
        }),
        "ca.crt: holds no certificate in",
    );
    refused(
        &with(&|m| {
            m.client_auth = ClientAuth::Required;
            m.authorities = vec![("ca.crt".to_owned(), ca.pem.clone().into())];
            m.revocations = vec![("old.crl".to_owned(), ca.pem.clone().into())];
        }),
        "old.crl: holds no revocation list in",
    );
    refused(
        &with(&|m| m.names = vec![("a b".to_owned(), good.clone())]),
        "server name \"a b\" must be HOST or *.DOMAIN",
    );
}

#[test]
fn it_serves_until_the_first_certificate_expires() {
    let ca = Ca::new();
    let ends = |year| ca.issue(move |params| params.not_after = rcgen::date_time_ymd(year, 1, 1));
    let mut material = material(ends(2040));
    material.names = vec![("b.example".to_owned(), ends(2035))];
    let acceptor = Acceptor::new(&material, NOW_S, None).expect("fits");
    assert_eq!(acceptor.not_after_s(), 2_051_222_400);
}

proptest! {
    /// A handshake in fragments with some bytes changed: whatever comes of it, it is no panic.
    #[test]
    fn no_change_makes_it_panic(
        changes in proptest::collection::vec((0usize..2000, any::<u8>()), 0..4),
        piece_bytes in 1usize..600,
        fragment_bytes in 32usize..300,
    ) {
        thread_local!(static SET: (Acceptor, ClientConfig) = {
            let ca = Ca::new();
            let material = material(ca.issue(|_| {}));
            (Acceptor::new(&material, NOW_S, None).expect("fits"), client(&ca, None))
        });
        SET.with(|(acceptor, config)| {
            let mut config = config.clone();
            config.max_fragment_size = Some(fragment_bytes);
            let mut pair = Pair::new(acceptor, &Arc::new(config), piece_bytes);
            pair.client.writer().write_all(&[7; 300]).expect("memory");
            let mut at = 0;
            let mut back = Vec::new();
            loop {
                let mut wire = Vec::new();
                while pair.client.wants_write() {
                    pair.client.write_tls(&mut wire).expect("memory");
                }
                for (place, value) in &changes {
                    if let Some(byte) = place.checked_sub(at).and_then(|i| wire.get_mut(i)) {
                        *byte ^= value;
                    }
                }
                at += wire.len();
                let mut failed = wire.is_empty();
                for piece in wire.chunks(piece_bytes) {
                    failed |= pair.server.receive(piece, &mut pair.plain, &mut back).is_err();
                    let output = Outgoing { bytes: b"x".to_vec(), shared: Vec::new() };
                    let sealed = pair.server.seal(&output, &mut back).is_ok();
                    failed |= !sealed && !pair.server.is_handshaking();
                    if failed {
                        break;
                    }
                }
                if failed {
                    pair.server.finish(&mut back);
                    return;
                }
                let mut rest = back.as_slice();
                while !rest.is_empty() {
                    pair.client.read_tls(&mut rest).expect("memory");
                    if pair.client.process_new_packets().is_err() {
                        return;
                    }
                }
                back.clear();
            }
        });
    }
}
