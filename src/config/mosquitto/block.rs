//! One `listener` of a file of Mosquitto, and the options below it.

use super::line::Line;
use crate::codec::Version;
use crate::config::listener::ID_PREFIX_BYTES_MAX;
use crate::config::{
    Address, Cidr, ClientAuth, ConfigError, Listener, MqttVersion, Protocol, ProxyProtocol, Tls,
    TlsVersion, WebSocket,
};
use crate::topic::Mount;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

const PORT_MAX: i64 = 65_535;

/// What is known of one listener.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one option of the file")]
pub(super) struct Block {
    /// Where it begins; `None` for what stands before all of them.
    pub(super) line: Option<Line>,
    /// An option was given that makes no sense without a listener.
    pub(super) used: bool,
    pub(super) port: u16,
    host: Option<String>,
    unix: Option<PathBuf>,
    domain: Domain,
    pub(super) allow_anonymous: Option<bool>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) acl_file: Option<PathBuf>,
    max_connections: u32,
    protocol: Protocol,
    proxy: ProxyProtocol,
    proxy_by_tls: bool,
    device: Option<String>,
    origins: Vec<String>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    ca_dir: Option<PathBuf>,
    crl: Option<PathBuf>,
    require_certificate: bool,
    identity: bool,
    subject: bool,
    only_tls13: bool,
    pub(super) alias_max: Option<u16>,
    username_as_client_id: bool,
    max_qos: u8,
    mount: Option<String>,
    pub(super) id_prefix: Option<String>,
    versions: Vec<MqttVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Both,
    V4,
    V6,
}

impl Block {
    /// What stands before the first `listener`.
    pub(super) fn default_listener() -> Self {
        Self {
            line: None,
            used: false,
            port: crate::config::PORT,
            host: None,
            unix: None,
            domain: Domain::Both,
            allow_anonymous: None,
            password_file: None,
            acl_file: None,
            max_connections: 0,
            protocol: Protocol::Mqtt,
            proxy: ProxyProtocol::Off,
            proxy_by_tls: false,
            device: None,
            origins: Vec::new(),
            cert: None,
            key: None,
            ca: None,
            ca_dir: None,
            crl: None,
            require_certificate: false,
            identity: false,
            subject: false,
            only_tls13: false,
            alias_max: None,
            username_as_client_id: false,
            max_qos: 2,
            mount: None,
            id_prefix: None,
            versions: Vec::new(),
        }
    }

    /// `listener PORT [HOST or PATH]`
    pub(super) fn new(line: &Line) -> Result<Self, ConfigError> {
        let text = line.text()?;
        let (port, place) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        let place = place.trim();
        let port: u16 = port.parse().map_err(|_| line.fault("must begin with a port"))?;
        let mut block = Self { line: Some(line.clone()), port, ..Self::default_listener() };
        match (port, place) {
            (0, "") => return Err(line.fault("port 0 needs the path of a Unix socket")),
            (0, path) => {
                let path = std::path::absolute(path).map_err(|error| line.fault(error))?;
                block.unix = Some(path);
            }
            (_, "") => {}
            (_, host) => block.host = Some(host.to_owned()),
        }
        Ok(block)
    }

    /// Takes an option of listeners; `false` if it is none.
    pub(super) fn take(&mut self, line: &Line) -> Result<bool, ConfigError> {
        let mine = self.place(line)? || self.transport(line)? || self.tls(line)?;
        self.used |= mine && !makes_no_listener(line);
        Ok(mine)
    }

    fn place(&mut self, line: &Line) -> Result<bool, ConfigError> {
        let is_default = self.line.is_none();
        match line.name.as_str() {
            "port" if is_default => {
                let port = u16::try_from(line.number(1, PORT_MAX)?);
                self.port = port.map_err(|_| line.fault("is no port"))?;
            }
            "bind_address" if is_default => self.host = Some(line.text()?.to_owned()),
            "port" | "bind_address" => {
                return Err(line.fault("must stand before the first listener"));
            }
            "bind_interface" => self.device = Some(line.text()?.to_owned()),
            "socket_domain" => {
                self.domain = line.one_of(&[("ipv4", Domain::V4), ("ipv6", Domain::V6)])?;
            }
            "max_connections" => {
                let max = line.number(-1, u32::MAX.into())?;
                if max == 0 {
                    return Err(line.fault("0 would let nobody in; -1 means no limit"));
                }
                self.max_connections = u32::try_from(max).unwrap_or(0);
            }
            "listener_allow_anonymous" => self.allow_anonymous = Some(line.flag()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn transport(&mut self, line: &Line) -> Result<bool, ConfigError> {
        match line.name.as_str() {
            "protocol" => {
                let kinds = [("mqtt", Protocol::Mqtt), ("websockets", Protocol::WebSocket)];
                self.protocol = line.one_of(&kinds)?;
            }
            "websockets_origin" => self.origins.push(line.text()?.to_owned()),
            "enable_proxy_protocol" => {
                let versions = [("1", ProxyProtocol::V1), ("2", ProxyProtocol::V2)];
                self.proxy = line.one_of(&versions)?;
            }
            "proxy_protocol_v2_require_tls" => self.proxy_by_tls = line.flag()?,
            "use_username_as_clientid" => self.username_as_client_id = line.flag()?,
            "max_qos" | "maximum_qos" => {
                self.max_qos = u8::try_from(line.number(0, 2)?).unwrap_or(2);
            }
            "listener_auto_id_prefix" => self.id_prefix = Some(id_prefix(line)?),
            "max_topic_alias" => {
                self.alias_max = u16::try_from(line.number(0, u16::MAX.into())?).ok();
            }
            "accept_protocol_versions" => {
                self.versions = versions(line)?;
            }
            "mount_point" => {
                let prefix = line.text()?;
                if self.line.is_none() {
                    return Err(line.fault("must stand below a listener"));
                }
                if !Mount::is_valid(prefix) {
                    return Err(line.fault("must be the beginning of a topic, without $, + and #"));
                }
                self.mount = Some(prefix.to_owned());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn tls(&mut self, line: &Line) -> Result<bool, ConfigError> {
        match line.name.as_str() {
            "certfile" => self.cert = Some(line.path()?),
            "keyfile" => self.key = Some(line.path()?),
            "cafile" => self.ca = Some(line.path()?),
            "capath" => self.ca_dir = Some(line.path()?),
            "crlfile" => self.crl = Some(line.path()?),
            "require_certificate" => self.require_certificate = line.flag()?,
            "use_identity_as_username" => self.identity = line.flag()?,
            "use_subject_as_username" => self.subject = line.flag()?,
            "tls_version" => {
                self.only_tls13 = line.one_of(&[("tlsv1.2", false), ("tlsv1.3", true)])?;
            }
            "tls_keyform" => line.one_of(&[("pem", ())])?,
            "disable_client_cert_date_checks" => {
                if line.flag()? {
                    return Err(line.fault("not supported"));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The line to name when something is wrong with this listener.
    pub(super) fn fault(&self, path: &Path, message: &str) -> ConfigError {
        match &self.line {
            Some(line) => line.fault(message),
            None => ConfigError::Invalid {
                path: path.to_owned(),
                line: 1,
                key: "the listener without a line".to_owned(),
                message: message.to_owned(),
            },
        }
    }

    /// As settings: one listener for each address that the host name has.
    pub(super) fn listeners(&self, path: &Path) -> Result<Vec<Listener>, ConfigError> {
        let tls = self.tls_settings(path)?;
        let websocket = (!self.origins.is_empty())
            .then(|| WebSocket { origins: self.origins.clone(), ..WebSocket::default() });
        // Mosquitto believes every sender.
        let everybody = ["0.0.0.0/0", "::/0"].into_iter().filter_map(|all| all.parse().ok());
        let by_tls = self.proxy_by_tls && self.proxy == ProxyProtocol::V2;
        let proxy_protocol = if by_tls { ProxyProtocol::V2Tls } else { self.proxy };
        let trusted_proxies: Vec<Cidr> = match proxy_protocol {
            ProxyProtocol::Off => Vec::new(),
            ProxyProtocol::V1 | ProxyProtocol::V2 | ProxyProtocol::V2Tls | ProxyProtocol::Any => {
                everybody.map(Cidr).collect()
            }
        };
        let listener = |address| Listener {
            protocol: self.protocol,
            trusted_proxies: trusted_proxies.clone(),
            allow_anonymous: self.allow_anonymous,
            use_username_as_clientid: self.username_as_client_id,
            max_qos: self.max_qos,
            mount_point: self.mount.clone(),
            auto_id_prefix: self.id_prefix.clone(),
            mqtt_versions: self.versions.clone(),
            topic_alias_maximum: self.alias_max,
            max_connections: self.max_connections,
            proxy_protocol,
            bind_interface: self.device.clone(),
            tls: tls.clone(),
            websocket: websocket.clone(),
            ..Listener::new(address)
        };
        Ok(self.addresses(path)?.into_iter().map(listener).collect())
    }

    fn tls_settings(&self, path: &Path) -> Result<Option<Tls>, ConfigError> {
        let (cert_file, key_file) = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (None, None)
                if self.ca.is_none() && self.ca_dir.is_none() && !self.require_certificate =>
            {
                return Ok(None);
            }
            _ => return Err(self.fault(path, "TLS needs both certfile and keyfile")),
        };
        if self.require_certificate && self.ca.is_none() && self.ca_dir.is_none() {
            return Err(self.fault(path, "require_certificate needs cafile or capath"));
        }
        let (client_auth, [ca_file, ca_dir, crl_file]) = if self.require_certificate {
            let files = [&self.ca, &self.ca_dir, &self.crl].map(Clone::clone);
            (ClientAuth::Required, files)
        } else {
            // Mosquitto does not ask for certificates then, whatever cafile says.
            (ClientAuth::None, [None, None, None])
        };
        let versions = if self.only_tls13 { &[TlsVersion::V13][..] } else { &TlsVersion::ALL };
        Ok(Some(Tls {
            cert_file,
            key_file,
            ca_file,
            ca_dir,
            crl_file,
            client_auth,
            use_identity_as_username: self.identity && self.require_certificate,
            use_subject_as_username: self.subject && self.require_certificate && !self.identity,
            versions: versions.to_vec(),
            alpn: Vec::new(),
            sni: Vec::new(),
        }))
    }

    fn addresses(&self, path: &Path) -> Result<Vec<Address>, ConfigError> {
        if let Some(unix) = &self.unix {
            return Ok(vec![Address::Unix(unix.clone())]);
        }
        let Some(host) = &self.host else {
            // Without IPv6 in the kernel a socket for both families cannot be made.
            let v6 = self.domain != Domain::V4 && Path::new("/proc/net/if_inet6").exists();
            let any: IpAddr =
                if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
            return Ok(vec![Address::Tcp(SocketAddr::from((any, self.port)))]);
        };
        let found = (host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|error| self.fault(path, &format!("{host}: {error}")))?;
        let wanted = |address: &SocketAddr| match self.domain {
            Domain::Both => true,
            Domain::V4 => address.is_ipv4(),
            Domain::V6 => address.is_ipv6(),
        };
        let mut found: Vec<SocketAddr> = found.filter(wanted).collect();
        found.sort();
        found.dedup();
        if found.is_empty() {
            return Err(self.fault(path, &format!("{host} has no such address")));
        }
        Ok(found.into_iter().map(Address::Tcp).collect())
    }
}

/// Mosquitto makes a listener of what stands before all of them only if it is told something of it
/// that is not so anyway; aliases do not count.
fn makes_no_listener(line: &Line) -> bool {
    match line.name.as_str() {
        "max_topic_alias" => true,
        "max_qos" | "maximum_qos" => line.value == "2",
        "max_connections" => line.value == "-1",
        "protocol" => line.value == "mqtt",
        "require_certificate"
        | "use_identity_as_username"
        | "use_subject_as_username"
        | "use_username_as_clientid" => line.value == "false",
        _ => false,
    }
}

/// Beginning of identifiers that the broker makes.
pub(super) fn id_prefix(line: &Line) -> Result<String, ConfigError> {
    let text = line.text()?;
    if text.len() > ID_PREFIX_BYTES_MAX {
        return Err(line.fault(format!("must have at most {ID_PREFIX_BYTES_MAX} bytes")));
    }
    Ok(text.to_owned())
}

/// `3,4,5`: levels of the protocol.
fn versions(line: &Line) -> Result<Vec<MqttVersion>, ConfigError> {
    let level = |text: &str| match text.trim() {
        "3" => Ok(MqttVersion(Version::V31)),
        "4" => Ok(MqttVersion(Version::V311)),
        "5" => Ok(MqttVersion(Version::V5)),
        other => Err(line.fault(format!("there is no version `{other}`: 3, 4 or 5"))),
    };
    line.text()?.split(',').map(level).collect()
}
