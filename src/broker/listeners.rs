//! What the configuration says of listeners, for the engine and for the edge.

use super::BrokerError;
use super::slots::Slot;
use crate::config::{
    Address, ClientAuth, Config, Listener, Protocol, ProxyProtocol, SecretModes, Tls, TlsVersion,
};
use crate::edge::{OpenKeys, TlsFiles};
use crate::shard::Certified;
use crate::transport::tls::{self, Acceptor, UserName, Versions};
use crate::transport::{self, proxy, websocket};
use rustix::process::geteuid;
use shards::ListenerSettings;
use shards::account::Account;
use std::sync::Arc;

/// What every listener speaks below MQTT, with its certificates read from their files.
///
/// `before` are the settings that these replace; empty at the start. Who is closed speaks nothing.
///
/// # Errors
/// [`BrokerError::Tls`], the first file that cannot be used; nothing has changed then.
pub(super) fn transports(
    config: &Config,
    slots: &[Slot],
    before: &[transport::Settings],
) -> Result<Arc<[transport::Settings]>, BrokerError> {
    let settings = slots.iter().enumerate().map(|(number, slot)| {
        if !slot.is_open {
            return Ok(transport::Settings::default());
        }
        let former = before.get(slot.replaces.unwrap_or(number));
        let acceptor = former.and_then(|before| before.tls.as_deref());
        let listener = &slot.listener;
        Ok(transport::Settings {
            proxy: proxy_settings(listener).map(Arc::new),
            tls: acceptor_of(config, listener, acceptor)?.map(Arc::new),
            websocket: websocket_settings(listener).map(Arc::new),
        })
    });
    settings.collect()
}

/// When certificates of listeners end.
pub(super) fn certificates(slots: &[Slot], transports: &[transport::Settings]) -> Vec<Certified> {
    let certified = |(slot, settings): (&Slot, &transport::Settings)| {
        let not_after_s = u64::try_from(settings.tls.as_deref()?.not_after_s()).unwrap_or(0);
        Some(Certified { listener: slot.listener.address.to_string(), not_after_s })
    };
    slots.iter().zip(transports).filter_map(certified).collect()
}

/// The sockets of a listener.
pub(super) fn engine(listener: &Listener) -> ListenerSettings {
    let address = match &listener.address {
        Address::Tcp(address) => shards::Address::Tcp(*address),
        Address::Unix(path) => shards::Address::Unix(path.clone()),
    };
    ListenerSettings {
        address,
        backlog: listener.backlog,
        unix_mode: listener.unix_mode,
        interface: listener.bind_interface.clone(),
        nodelay: listener.tcp_nodelay,
        keepalive_s: listener.tcp_keepalive_s,
        user_timeout_ms: listener.tcp_user_timeout_ms,
    }
}

fn proxy_settings(listener: &Listener) -> Option<proxy::Settings> {
    let versions = match listener.proxy_protocol {
        ProxyProtocol::Off => return None,
        ProxyProtocol::V1 => proxy::Versions::V1,
        ProxyProtocol::V2 => proxy::Versions::V2,
        ProxyProtocol::V2Tls => proxy::Versions::V2Tls,
        ProxyProtocol::Any => proxy::Versions::Any,
    };
    let trusted = listener.trusted_proxies.iter().map(|cidr| cidr.0).collect();
    Some(proxy::Settings { trusted, versions })
}

fn websocket_settings(listener: &Listener) -> Option<websocket::Settings> {
    if listener.protocol != Protocol::WebSocket {
        return None;
    }
    let settings = listener.websocket.clone().unwrap_or_default();
    Some(websocket::Settings {
        path: Some(settings.path).filter(|path| !path.is_empty()),
        origins: settings.origins,
        trusted_proxies: settings.trusted_proxies.iter().map(|cidr| cidr.0).collect(),
    })
}

fn acceptor_of(
    config: &Config,
    listener: &Listener,
    before: Option<&Acceptor>,
) -> Result<Option<Acceptor>, BrokerError> {
    let Some(tls) = &listener.tls else { return Ok(None) };
    let fail = |source| BrokerError::Tls { address: listener.address.to_string(), source };
    files(config, tls).load(before).map(Some).map_err(fail)
}

/// The user that root's process becomes.
fn heir(config: &Config) -> Option<u32> {
    let user = config.process.user.as_deref().filter(|_| geteuid().is_root())?;
    Account::find(user, None).ok().map(|account| account.uid())
}

fn files(config: &Config, tls: &Tls) -> TlsFiles {
    let versions = match (tls.versions.contains(&TlsVersion::V12), tls.versions.as_slice()) {
        (false, _) => Versions::Tls13,
        (true, versions) if versions.contains(&TlsVersion::V13) => Versions::Any,
        (true, _) => Versions::Tls12,
    };
    let user_name = match (tls.use_identity_as_username, tls.use_subject_as_username) {
        (true, _) => UserName::Identity,
        (false, true) => UserName::Subject,
        (false, false) => UserName::None,
    };
    let names =
        tls.sni.iter().map(|sni| (sni.host.clone(), sni.cert_file.clone(), sni.key_file.clone()));
    TlsFiles {
        certificate: tls.cert_file.clone(),
        key: tls.key_file.clone(),
        names: names.collect(),
        authorities: tls.ca_file.clone(),
        authorities_dir: tls.ca_dir.clone(),
        revocations: tls.crl_file.clone(),
        client_auth: match tls.client_auth {
            ClientAuth::None => tls::ClientAuth::None,
            ClientAuth::Optional => tls::ClientAuth::Optional,
            ClientAuth::Required => tls::ClientAuth::Required,
        },
        user_name,
        versions,
        alpn: tls.alpn.clone(),
        heir: heir(config),
        open_keys: match config.process.secret_modes {
            SecretModes::Refuse => OpenKeys::Refuse,
            SecretModes::Warn => OpenKeys::Warn,
        },
    }
}
