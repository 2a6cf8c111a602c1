//! From settings to who has to show what, and who checks it.

use super::slots::Slot;
use crate::auth::limiter::Limits;
use crate::auth::{Secret, jwt};
use crate::codec::Qos;
use crate::config::{Config, SecretModes, SecretRef};
use crate::gate::{self, LoadError, OwnUsers, Readers, read_secret};
use crate::shard::{ListenerRules, LoginRules};
use std::path::PathBuf;
use std::sync::Arc;

/// What clients have to show at each listener.
pub(super) fn rules(config: &Config, slots: &[Slot]) -> LoginRules {
    let auth = &config.auth;
    let listeners = slots.iter().map(|Slot { listener, is_open, .. }| ListenerRules {
        closed: !is_open,
        allow_anonymous: config.allows_anonymous(listener),
        // That somebody is asked somewhere counts listeners that are open.
        unasked: !(config.asks() && config.asks_at(listener)),
        users: listener.password_file.as_deref().map(gate::users_of),
        use_username_as_clientid: listener.use_username_as_clientid,
        allow_session_rebind: listener.allow_session_rebind.unwrap_or(auth.allow_session_rebind),
        versions: listener.mqtt_versions.iter().map(|version| version.0).collect(),
        qos_max: Qos::from_u8(listener.max_qos),
        topic_alias_maximum: listener.topic_alias_maximum,
        id_prefix: listener.auto_id_prefix.as_deref().map(Arc::from),
        mount: listener.mount_point.as_deref().map(Arc::from),
    });
    LoginRules {
        asked: config.asks(),
        listeners: listeners.collect(),
        failures: Limits {
            failures_max: auth.failures_max,
            forget_ms: u64::from(auth.failure_forget_s) * 1000,
        },
        failures_exempt: auth.failures_exempt.iter().map(|cidr| cidr.0).collect(),
    }
}

/// What checks them; reads the secrets that the settings name.
///
/// # Errors
/// A secret cannot be read.
pub(super) fn gate(config: &Config, slots: &[Slot]) -> Result<gate::Settings, LoadError> {
    let auth = &config.auth;
    let readers = match config.process.secret_modes {
        SecretModes::Refuse => Readers::RefuseOthers,
        SecretModes::Warn => Readers::WarnOfOthers,
    };
    let secret = |place: &SecretRef| secret(place, readers);
    let jwt = auth.jwt.as_ref().map(|jwt| {
        Ok(gate::Jwt {
            secret: jwt.key.as_ref().map(secret).transpose()?,
            public_key_file: jwt.public_key_file.clone(),
            jwks_file: jwt.jwks_file.clone(),
            algorithms: jwt.algorithms.clone(),
            rules: jwt::Rules {
                issuer: jwt.issuer.clone(),
                audience: jwt.audience.clone(),
                leeway_s: jwt.leeway_s.into(),
                user_claim: jwt.user_claim.clone(),
                client_id_claim: jwt.client_id_claim.clone(),
                acl_claim: jwt.acl_claim.clone(),
            },
            user_name: jwt.user_name.clone(),
            end_at_expiry: jwt.end_at_expiry,
        })
    });
    let http = auth.http.as_ref().map(|http| {
        Ok(gate::Http {
            url: http.url.clone(),
            ca_file: http.ca_file.clone(),
            bearer: http.token.as_ref().map(secret).transpose()?,
            timeout_ms: http.timeout_ms.into(),
            threads: usize_of(http.threads),
            cache_ms: u64::from(http.cache_s) * 1000,
            cache_entries_max: usize_of(http.cache_entries_max),
        })
    });
    let hashing_threads = match auth.hashing_threads {
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2)),
        threads => usize_of(threads),
    };
    let own = |slot: &Slot| match &slot.listener.password_file {
        None => OwnUsers::Common,
        Some(path) if slot.is_open => OwnUsers::File(path.clone()),
        // A login that was begun before it closed.
        Some(_) => OwnUsers::Nobody,
    };
    Ok(gate::Settings {
        password_file: auth.password_file.clone(),
        own_users: slots.iter().map(own).collect(),
        scram_file: auth.scram_file.clone(),
        secret_readers: readers,
        jwt: jwt.transpose()?,
        http: http.transpose()?,
        hashing_threads,
        queue_max: usize_of(auth.hashing_queue_max),
    })
}

/// The secret itself.
fn secret(place: &SecretRef, readers: Readers) -> Result<Secret, LoadError> {
    let missing =
        |message: &str| LoadError::Invalid { what: place.to_string(), message: message.to_owned() };
    let bytes = match place {
        SecretRef::File(path) => read_secret(path, readers)?,
        SecretRef::Cred(name) => {
            let directory = std::env::var_os("CREDENTIALS_DIRECTORY")
                .ok_or_else(|| missing("there is no $CREDENTIALS_DIRECTORY"))?;
            read_secret(&PathBuf::from(directory).join(name), readers)?
        }
        SecretRef::Env(name) => {
            let value = std::env::var(name).map_err(|_| missing("the variable is not set"))?;
            return Ok(Secret::new(value.as_bytes()));
        }
    };
    Ok(Secret::new(bytes.strip_suffix(b"\n").unwrap_or(&bytes)))
}

fn usize_of(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
