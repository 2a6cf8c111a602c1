//! Certificates, keys and rules of a listener, checked and put together before anybody connects.
//!
//! Promise: what [`Acceptor::new`] accepts can serve: keys fit, nothing has expired; everything is
//! checked before anything is replaced.

use rustls::crypto::ring::{Ticketer, default_provider, sign};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use std::collections::HashMap;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Certificates of one chain.
const CHAIN_MAX: usize = 16;

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// Who shows one must be right.
    Optional,
    /// Nobody comes in without.
    Required,
}

/// What becomes of the client's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UserName {
    /// The user name is that of CONNECT.
    #[default]
    None,
    /// The common name is the user name; without one, the first DNS name, mail address or URI
    /// among the alternative names.
    Identity,
    /// The whole subject is.
    Subject,
}

/// Versions that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    #[default]
    Any,
    /// 1.2 only.
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// A certificate chain and its key, as their PEM files have them.
#[derive(Clone)]
pub struct KeyPair {
    /// Name of the file of the chain, for messages.
    pub certificate_name: String,
    /// The chain, its owner first.
    pub certificate: Vec<u8>,
    /// Name of the file of the key.
    pub key_name: String,
    /// The key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair({}, {})", self.certificate_name, self.key_name)
    }
}

/// Everything an acceptor is made of.
#[derive(Clone, Debug)]
pub struct Material {
    /// For clients that name no server, or none of `names`.
    pub pair: KeyPair,
    /// For clients that name this server (`host` or `*.domain`).
    pub names: Vec<(String, KeyPair)>,
    /// Are clients asked for a certificate?
    pub client_auth: ClientAuth,
    /// Name and PEM text of the authorities of client certificates.
    pub authorities: Vec<(String, Vec<u8>)>,
    /// Name and PEM text of their revocation lists.
    pub revocations: Vec<(String, Vec<u8>)>,
    /// What becomes of the client's certificate.
    pub user_name: UserName,
    /// Versions that are spoken.
    pub versions: Versions,
    /// Protocols for ALPN; a client that offers some, but none of these, is refused.
    pub alpn: Vec<Vec<u8>>,
}

/// Why TLS cannot be offered. One line each.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file holds no PEM of the right kind.
    #[error("{name}: holds no {kind} in PEM form")]
    NoPem {
        /// The file.
        name: String,
        /// What was looked for.
        kind: &'static str,
    },
    /// A PEM block cannot be read.
    #[error("{name}: {reason}")]
    Malformed {
        /// The file.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificate is for another key.
    #[error("{key}: is not the key of the certificate in {certificate}")]
    KeyMismatch {
        /// File of the key.
        key: String,
        /// File of the certificate.
        certificate: String,
    },
    /// Not valid any more.
    #[error("{name}: the certificate has expired on {on}")]
    Expired {
        /// The file.
        name: String,
        /// When.
        on: String,
    },
    /// Not valid yet.
    #[error("{name}: the certificate is not valid before {from}")]
    NotYetValid {
        /// The file.
        name: String,
        /// When.
        from: String,
    },
    /// Certificates are asked for, but nobody could have issued one.
    #[error("client certificates need ca_file")]
    NoAuthorities,
    /// A name for SNI that no client can send.
    #[error("server name \"{0}\" must be HOST or *.DOMAIN, in lower case")]
    ServerName(String),
    /// What the library says.
    #[error("TLS cannot be set up: {0}")]
    Rustls(#[from] rustls::Error),
}

/// Keys of session tickets. All shards of a listener share them, so a client can resume at any.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// Fresh keys; they change every 6 hours, tickets live for 12.
    ///
    /// # Errors
    /// [`TlsError::Rustls`] if the system has no randomness.
    pub fn new() -> Result<Self, TlsError> {
        Ok(Tickets(Ticketer::new()?))
    }
}

/// A listener's TLS, ready to serve. Shared by all shards.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    user_name: UserName,
    not_after_s: i64,
    tickets: Tickets,
}

impl Acceptor {
    /// Puts everything together. `now_s` is Unix time.
    ///
    /// `before` is what this one replaces: its ticket keys go on, so that clients resume, unless
    /// clients show certificates: who was let in under the old rules has to show it again.
    ///
    /// # Errors
    /// [`TlsError`], the first thing that is wrong.
    pub fn new(
        material: &Material,
        now_s: i64,
        before: Option<&Acceptor>,
    ) -> Result<Self, TlsError> {
        let mut not_after_s = i64::MAX;
        let mut certified = |pair: &KeyPair| {
            let (key, until_s) = certified_key(pair, now_s)?;
            not_after_s = not_after_s.min(until_s);
            Ok::<_, TlsError>(Arc::new(key))
        };
        let pair = certified(&material.pair)?;
        let mut names = HashMap::new();
        for (name, pair) in &material.names {
            names.insert(server_name(name)?, certified(pair)?);
        }
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions(material.versions))?;
        let builder = if material.client_auth == ClientAuth::None {
            builder.with_no_client_auth()
        } else {
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(authorities(&material.authorities)?),
                provider,
            )
            .with_crls(revocations(&material.revocations)?);
            let verifier = if material.client_auth == ClientAuth::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier.build().map_err(|error| TlsError::Malformed {
                name: first_name(&material.revocations),
                reason: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        };
        let mut config = builder.with_cert_resolver(Arc::new(Resolver { pair, names }));
        let tickets = match before {
            Some(before) if material.client_auth == ClientAuth::None => before.tickets.clone(),
            Some(_) | None => Tickets::new()?,
        };
        config.ticketer = Arc::clone(&tickets.0);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // One connection resumes one session.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        config.alpn_protocols.clone_from(&material.alpn);
        let user_name = material.user_name;
        Ok(Acceptor { config: Arc::new(config), user_name, not_after_s, tickets })
    }

    /// When the first of its certificates expires, Unix time.
    pub fn not_after_s(&self) -> i64 {
        self.not_after_s
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn user_name(&self) -> UserName {
        self.user_name
    }
}

/// The certificate for the server a client names.
#[derive(Debug)]
struct Resolver {
    pair: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives it in lower case.
        let named = hello.server_name().and_then(|name| {
            let wildcard = || Some(format!("*.{}", name.split_once('.')?.1));
            self.names.get(name).or_else(|| self.names.get(&wildcard()?))
        });
        Some(Arc::clone(named.unwrap_or(&self.pair)))
    }
}

fn versions(versions: Versions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        Versions::Any => vec![&version::TLS13, &version::TLS12],
        Versions::Tls12 => vec![&version::TLS12],
        Versions::Tls13 => vec![&version::TLS13],
    }
}

fn server_name(name: &str) -> Result<String, TlsError> {
    let host = name.strip_prefix("*.").unwrap_or(name);
    let legal = !host.is_empty()
        && host.split('.').all(|label| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            !label.is_empty()
                && label.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'_')
        });
    legal.then(|| name.to_owned()).ok_or_else(|| TlsError::ServerName(name.to_owned()))
}

/// Chain and key, and when the first certificate of the chain expires.
fn certified_key(pair: &KeyPair, now_s: i64) -> Result<(CertifiedKey, i64), TlsError> {
    let chain = certificates(&pair.certificate_name, &pair.certificate)?;
    let mut not_after_s = i64::MAX;
    for der in &chain {
        not_after_s = not_after_s.min(valid_until(&pair.certificate_name, der, now_s)?);
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key).map_err(|error| {
        if matches!(error, rustls::pki_types::pem::Error::NoItemsFound) {
            return TlsError::NoPem { name: pair.key_name.clone(), kind: "private key" };
        }
        malformed(&pair.key_name, &error)
    })?;
    let key = sign::any_supported_type(&key).map_err(|error| malformed(&pair.key_name, &error))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok((certified, not_after_s))
        }
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::KeyMismatch {
            key: pair.key_name.clone(),
            certificate: pair.certificate_name.clone(),
        }),
        Err(error) => Err(malformed(&pair.certificate_name, &error)),
    }
}

fn valid_until(name: &str, der: &[u8], now_s: i64) -> Result<i64, TlsError> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(name, &error))?;
    let validity = certificate.validity();
    if validity.not_after.timestamp() < now_s {
        return Err(TlsError::Expired {
            name: name.to_owned(),
            on: validity.not_after.to_string(),
        });
    }
    if validity.not_before.timestamp() > now_s {
        let from = validity.not_before.to_string();
        return Err(TlsError::NotYetValid { name: name.to_owned(), from });
    }
    Ok(validity.not_after.timestamp())
}

fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .take(CHAIN_MAX)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| malformed(name, &error))?;
    if chain.is_empty() {
        return Err(TlsError::NoPem { name: name.to_owned(), kind: "certificate" });
    }
    Ok(chain)
}

fn authorities(files: &[(String, Vec<u8>)]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (name, pem) in files {
        let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| malformed(name, &error))?;
        if found.is_empty() {
            return Err(TlsError::NoPem { name: name.clone(), kind: "certificate" });
        }
        for authority in found {
            roots.add(authority).map_err(|error| malformed(name, &error))?;
        }
    }
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

fn revocations(
    files: &[(String, Vec<u8>)],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut lists = Vec::new();
    for (name, pem) in files {
        let found =
            CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| malformed(name, &error))?;
        if found.is_empty() {
            return Err(TlsError::NoPem { name: name.clone(), kind: "revocation list" });
        }
        lists.extend(found);
    }
    Ok(lists)
}

fn first_name(files: &[(String, Vec<u8>)]) -> String {
    files.first().map_or_else(|| "ca_file".to_owned(), |(name, _)| name.clone())
}

fn malformed(name: &str, error: &dyn std::fmt::Display) -> TlsError {
    let reason = error.to_string().replace('\n', " ");
    TlsError::Malformed { name: name.to_owned(), reason }
}
