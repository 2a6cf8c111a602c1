//! `[[listener]]`: where clients connect, and how.

use super::error::Fault;
use super::range::within;
use crate::access::Network;
use crate::codec::{Qos, Version};
use crate::topic::Mount;
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Larger backlogs are cut by the kernel (`net.core.somaxconn`).
const BACKLOG_MAX: u64 = 65_535;
const U32: u64 = u32::MAX as u64;
/// Longest beginning of identifiers that the broker makes, as in Mosquitto.
pub(super) const ID_PREFIX_BYTES_MAX: usize = 50;
/// A day.
const KEEPALIVE_S_MAX: u64 = 86_400;
/// Permission bits of a socket.
const MODE_MAX: u64 = 0o777;

/// One address clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port, or the path of a Unix socket.
    pub address: Address,
    /// What clients speak below MQTT.
    #[serde(default)]
    pub protocol: Protocol,
    /// Clients without a user name are let in. Unset: on the loopback address and on Unix sockets
    /// of a broker without `[auth]` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_anonymous: Option<bool>,
    /// As in `[auth]`, instead of the one there, for clients of this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Rules in Mosquitto's format, instead of all of `[acl]`, for clients of this listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl_file: Option<PathBuf>,
    /// The user name takes the place of the client identifier.
    #[serde(default)]
    pub use_username_as_clientid: bool,
    /// A session goes to whoever brings its client identifier; unset: as in `[auth]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_session_rebind: Option<bool>,
    /// Versions of MQTT that are spoken; empty = all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mqtt_versions: Vec<MqttVersion>,
    /// Highest `QoS` of clients.
    #[serde(default = "max_qos", deserialize_with = "within::<_, _, 0, 2>")]
    pub max_qos: u8,
    /// Beginning of all topics of clients, which they do not see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_point: Option<String>,
    /// Beginning of the identifiers that clients without one are given; unset: `auto-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_id_prefix: Option<String>,
    /// Topic aliases a client may use; unset: as in `[limits]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_alias_maximum: Option<u16>,
    /// Most connections of this listener, of all shards together; 0 = no limit of its own.
    #[serde(default, deserialize_with = "within::<_, _, 0, U32>")]
    pub max_connections: u32,
    /// Every connection begins with a PROXY protocol header.
    #[serde(default)]
    pub proxy_protocol: ProxyProtocol,
    /// Who may send one; connections from elsewhere are closed. Needed with TCP.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted_proxies: Vec<Cidr>,
    /// Network device, as `eth0`; packets that come in elsewhere do not reach the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_interface: Option<String>,
    /// Connections the kernel keeps waiting for accept, per shard.
    #[serde(default = "backlog", deserialize_with = "within::<_, _, 1, BACKLOG_MAX>")]
    pub backlog: u32,
    /// `TCP_NODELAY`: small packets leave at once.
    #[serde(default = "yes")]
    pub tcp_nodelay: bool,
    /// Silence after which the kernel probes whether the peer is still there; 0 = never.
    #[serde(default, deserialize_with = "within::<_, _, 0, KEEPALIVE_S_MAX>")]
    pub tcp_keepalive_s: u32,
    /// Time that sent bytes may stay unacknowledged until the kernel ends the connection; 0 = as
    /// the system does it.
    #[serde(default, deserialize_with = "within::<_, _, 0, U32>")]
    pub tcp_user_timeout_ms: u32,
    /// Permissions of a Unix socket's file.
    #[serde(default = "unix_mode", deserialize_with = "within::<_, _, 0, MODE_MAX>")]
    pub unix_mode: u32,
    /// TLS; without it, plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// For `protocol = "websocket"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub websocket: Option<WebSocket>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Address and port; port 0 = any free port.
    Tcp(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// What clients speak below MQTT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Packets one after the other (MQTT 5.0 §4.2).
    #[default]
    Mqtt,
    /// Binary frames of a WebSocket (MQTT 5.0 §6).
    WebSocket,
}

/// Which PROXY protocol headers are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyProtocol {
    /// None; a header is no CONNECT and ends the connection.
    #[default]
    Off,
    /// Text.
    V1,
    /// Binary.
    V2,
    /// Binary, of clients that have come to the proxy by TLS.
    #[serde(rename = "v2-tls")]
    V2Tls,
    /// Either.
    Any,
}

/// `[listener.tls]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate, then those between it and the root (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
    /// Authorities that sign certificates of clients (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// A directory with more of them, with names as `openssl rehash` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_dir: Option<PathBuf>,
    /// Certificates those have revoked (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_file: Option<PathBuf>,
    /// Whether clients show certificates.
    #[serde(default)]
    pub client_auth: ClientAuth,
    /// The name in the client's certificate is its user name.
    #[serde(default)]
    pub use_identity_as_username: bool,
    /// The whole subject of the client's certificate is its user name.
    #[serde(default)]
    pub use_subject_as_username: bool,
    /// Versions that are spoken; not empty.
    #[serde(default = "tls_versions")]
    pub versions: Vec<TlsVersion>,
    /// Application protocols that are agreed to; empty = the extension is ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alpn: Vec<String>,
    /// Certificates for other host names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni: Vec<Sni>,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They may; a bad one is refused.
    Optional,
    /// They must.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// A certificate for clients that ask for this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sni {
    /// The name, as clients send it.
    pub host: String,
    /// As in [`Tls`].
    pub cert_file: PathBuf,
    /// As in [`Tls`].
    pub key_file: PathBuf,
}

/// `[listener.websocket]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// Path of the request; empty = any.
    pub path: String,
    /// Values of `Origin` that are let in; empty = any.
    pub origins: Vec<String>,
    /// Whose `X-Forwarded-For` is believed; empty = nobody's.
    pub trusted_proxies: Vec<Cidr>,
}

/// A version of MQTT, as `"3.1.1"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MqttVersion(pub Version);

/// A network of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(pub Network);

impl TlsVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V12, Self::V13];
}

impl Listener {
    /// The listener on the IPv4 loopback address.
    pub fn local(port: u16) -> Self {
        Self::new(Address::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
    }

    /// A listener with all defaults.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            protocol: Protocol::default(),
            allow_anonymous: None,
            password_file: None,
            acl_file: None,
            use_username_as_clientid: false,
            allow_session_rebind: None,
            mqtt_versions: Vec::new(),
            max_qos: max_qos(),
            mount_point: None,
            auto_id_prefix: None,
            topic_alias_maximum: None,
            max_connections: 0,
            proxy_protocol: ProxyProtocol::default(),
            trusted_proxies: Vec::new(),
            bind_interface: None,
            backlog: backlog(),
            tcp_nodelay: true,
            tcp_keepalive_s: 0,
            tcp_user_timeout_ms: 0,
            unix_mode: unix_mode(),
            tls: None,
            websocket: None,
        }
    }

    /// Can only programs of this host connect?
    pub fn is_local(&self) -> bool {
        match &self.address {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => true,
        }
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        for path in self.password_file.iter_mut().chain(&mut self.acl_file) {
            *path = directory.join(&*path);
        }
        if let Address::Unix(path) = &mut self.address {
            *path = directory.join(&*path);
        }
        let Some(tls) = &mut self.tls else { return };
        let own = [&mut tls.cert_file, &mut tls.key_file];
        let more = tls.ca_file.iter_mut().chain(&mut tls.ca_dir).chain(&mut tls.crl_file);
        let others = tls.sni.iter_mut().flat_map(|sni| [&mut sni.cert_file, &mut sni.key_file]);
        for path in own.into_iter().chain(more).chain(others) {
            *path = directory.join(&*path);
        }
    }

    /// What cannot be.
    pub(super) fn fault(&self) -> Option<Fault> {
        let fault = |key, text: &str| Some(Fault::new(key, text));
        if self.websocket.is_some() && self.protocol != Protocol::WebSocket {
            return fault("websocket", "needs protocol = \"websocket\"");
        }
        if !self.trusted_proxies.is_empty() && self.proxy_protocol == ProxyProtocol::Off {
            return fault("trusted_proxies", "needs proxy_protocol");
        }
        // Who may name the client may be anybody: that has to be said.
        let asks = self.proxy_protocol != ProxyProtocol::Off;
        if asks && self.trusted_proxies.is_empty() && matches!(self.address, Address::Tcp(_)) {
            return fault("proxy_protocol", "needs trusted_proxies");
        }
        if self.bind_interface.is_some() && matches!(self.address, Address::Unix(_)) {
            return fault("bind_interface", "a Unix socket has no network device");
        }
        if self
            .websocket
            .as_ref()
            .is_some_and(|web| !["", "/"].contains(&&*web.path) && !web.path.starts_with('/'))
        {
            return fault("path", "must begin with `/`");
        }
        if let Some(mount) = &self.mount_point
            && !Mount::is_valid(mount)
        {
            return fault("mount_point", "must be the beginning of a topic, without $, + and #");
        }
        let prefix = self.auto_id_prefix.as_deref().unwrap_or_default();
        if prefix.len() > ID_PREFIX_BYTES_MAX || prefix.contains(char::is_control) {
            return fault("auto_id_prefix", "must be text of at most 50 bytes");
        }
        let tls = self.tls.as_ref()?;
        let named = tls.use_identity_as_username || tls.use_subject_as_username;
        if tls.versions.is_empty() {
            fault("versions", "must not be empty")
        } else if tls.client_auth != ClientAuth::None
            && tls.ca_file.is_none()
            && tls.ca_dir.is_none()
        {
            fault("client_auth", "needs ca_file or ca_dir")
        } else if tls.crl_file.is_some() && tls.client_auth == ClientAuth::None {
            fault("crl_file", "needs client_auth")
        } else if named && tls.client_auth == ClientAuth::None {
            fault("use_identity_as_username", "needs client_auth")
        } else if tls.use_identity_as_username && tls.use_subject_as_username {
            fault("use_subject_as_username", "excludes use_identity_as_username")
        } else {
            None
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(out, "{address}"),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(AddressVisitor)
    }
}

struct AddressVisitor;

impl Visitor<'_> for AddressVisitor {
    type Value = Address;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("IP:PORT, [IPV6]:PORT or unix:PATH")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Address, E> {
        match text.strip_prefix("unix:") {
            Some("") => Err(E::custom("must be IP:PORT, [IPV6]:PORT or unix:PATH")),
            Some(path) => Ok(Address::Unix(PathBuf::from(path))),
            None => text
                .parse()
                .map(Address::Tcp)
                .map_err(|_| E::custom("must be IP:PORT, [IPV6]:PORT or unix:PATH")),
        }
    }
}

impl MqttVersion {
    const NAMES: [(&str, Version); 3] =
        [("3.1", Version::V31), ("3.1.1", Version::V311), ("5.0", Version::V5)];
}

impl Serialize for MqttVersion {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = Self::NAMES.iter().find(|(_, version)| *version == self.0);
        serializer.serialize_str(name.map_or("", |(name, _)| name))
    }
}

impl<'de> Deserialize<'de> for MqttVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let named = Self::NAMES.iter().find(|(name, _)| *name == text);
        let version = named.map(|(_, version)| Self(*version));
        version.ok_or_else(|| D::Error::custom("must be \"3.1\", \"3.1.1\" or \"5.0\""))
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A burst of one reconnecting site fits in.
fn backlog() -> u32 {
    1024
}

fn max_qos() -> u8 {
    Qos::ExactlyOnce as u8
}

fn yes() -> bool {
    true
}

fn unix_mode() -> u32 {
    0o660
}

fn tls_versions() -> Vec<TlsVersion> {
    TlsVersion::ALL.to_vec()
}
