//! `[auth]` and `acl`: who a client is, and what it may do.

use super::error::Fault;
use super::listener::Cidr;
use super::range::within;
use super::secret::SecretRef;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// More threads than that only wait for each other's memory.
const HASHING_THREADS_MAX: u64 = 64;
const U32: u64 = u32::MAX as u64;
/// A day.
const DAY_S: u64 = 86_400;

/// `[auth]`: at least one of the ways makes the broker ask who its clients are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// `user:hash` lines as `mosquitto_passwd` and `culex passwd` write them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// SCRAM verifiers for enhanced authentication (MQTT 5.0 §4.12).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scram_file: Option<PathBuf>,
    /// Tokens in the password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Another server is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Threads that check passwords, so that no shard does; 0 = half of the cores.
    #[serde(deserialize_with = "within::<_, _, 0, HASHING_THREADS_MAX>")]
    pub hashing_threads: u32,
    /// Most logins that wait for each kind of check; a further one is refused (0x89).
    #[serde(deserialize_with = "within::<_, _, 1, U32>")]
    pub hashing_queue_max: u32,
    /// Failed logins of one user at one address until further ones are refused; ten times as many
    /// of one address; 0 = no limit.
    #[serde(deserialize_with = "within::<_, _, 0, U32>")]
    pub failures_max: u32,
    /// Seconds after which one failure is forgotten.
    #[serde(deserialize_with = "within::<_, _, 1, DAY_S>")]
    pub failure_forget_s: u32,
    /// Networks whose failed logins are not counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures_exempt: Vec<Cidr>,
    /// A session goes to whoever brings its client identifier, whatever the user's name.
    pub allow_session_rebind: bool,
}

/// Algorithms of tokens that can be checked.
pub const JWT_ALGORITHMS: [&str; 4] = ["HS256", "RS256", "ES256", "EdDSA"];

/// `[auth.jwt]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Algorithms that are accepted: some of [`JWT_ALGORITHMS`].
    pub algorithms: Vec<String>,
    /// Shared key of `HS256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SecretRef>,
    /// Public key (PEM) of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key_file: Option<PathBuf>,
    /// Public keys by their `kid` (JWK set).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Required `iss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Required `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Difference of clocks that is forgiven.
    #[serde(default, deserialize_with = "within::<_, _, 0, 3600>")]
    pub leeway_s: u32,
    /// Claim with the user's name.
    #[serde(default = "subject")]
    pub user_claim: String,
    /// Claim that must equal the client identifier, if a token has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id_claim: Option<String>,
    /// Only a password that comes with this user name is a token; absent = any that reads like
    /// one, without a user name or with the token's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
    /// The connection ends with its token.
    #[serde(default = "yes")]
    pub end_at_expiry: bool,
    /// Claim with access rules; absent = the token brings none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl_claim: Option<String>,
}

/// `[auth.http]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// `http://HOST[:PORT]/PATH`; the login is posted there as JSON.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// Until the answer is there; later means no.
    #[serde(default = "http_timeout_ms", deserialize_with = "within::<_, _, 10, 60_000>")]
    pub timeout_ms: u32,
    /// Certificates that may sign the server's (PEM); absent = those of the web.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Questions at the same time.
    #[serde(default = "http_threads", deserialize_with = "within::<_, _, 1, 64>")]
    pub threads: u32,
    /// Most answers that are remembered; then the oldest is forgotten.
    #[serde(default = "http_entries", deserialize_with = "within::<_, _, 1, U32>")]
    pub cache_entries_max: u32,
    /// A yes is remembered for so long; 0 = not.
    #[serde(default, deserialize_with = "within::<_, _, 0, DAY_S>")]
    pub cache_s: u32,
}

/// `acl`: what clients may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Acl {
    /// Not stated. Everything is allowed, but with `[auth]` the broker does not start.
    #[default]
    Unset,
    /// `acl = "allow-all"`
    AllowAll,
    /// `[acl]`
    Rules(AclRules),
}

/// `[acl]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AclRules {
    /// Rules in Mosquitto's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Rules by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, Role>,
}

/// `[acl.roles.NAME]`: what some users may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Role {
    /// Who has it; `*` = every user with a name, `anonymous` = clients without.
    pub users: Vec<String>,
    /// Filters of topics that may be published to; `%u` is the user, `%c` the client identifier.
    pub publish: Vec<String>,
    /// Filters of topics that may be subscribed and received.
    pub subscribe: Vec<String>,
    /// Filters of topics that are denied whatever else allows them.
    pub deny: Vec<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            password_file: None,
            scram_file: None,
            jwt: None,
            http: None,
            hashing_threads: 0,
            hashing_queue_max: 1024,
            failures_max: 10,
            failure_forget_s: 6,
            failures_exempt: Vec::new(),
            allow_session_rebind: false,
        }
    }
}

impl Auth {
    /// Is there a way to tell who a client is?
    pub fn is_on(&self) -> bool {
        self.password_file.is_some()
            || self.scram_file.is_some()
            || self.jwt.is_some()
            || self.http.is_some()
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        for path in self.password_file.iter_mut().chain(&mut self.scram_file) {
            *path = directory.join(&*path);
        }
        if let Some(jwt) = &mut self.jwt {
            for path in jwt.public_key_file.iter_mut().chain(&mut jwt.jwks_file) {
                *path = directory.join(&*path);
            }
            if let Some(key) = &mut jwt.key {
                key.resolve(directory);
            }
        }
        if let Some(http) = &mut self.http {
            if let Some(token) = &mut http.token {
                token.resolve(directory);
            }
            if let Some(ca_file) = &mut http.ca_file {
                *ca_file = directory.join(&*ca_file);
            }
        }
    }

    /// What cannot be.
    pub(super) fn fault(&self) -> Option<Fault> {
        let fault = |key, text: &str| Some(Fault::new(key, text));
        if let Some(jwt) = &self.jwt {
            if jwt.algorithms.is_empty() {
                return fault("algorithms", "must not be empty");
            }
            if jwt.algorithms.iter().any(|name| !JWT_ALGORITHMS.contains(&name.as_str())) {
                return fault("algorithms", "must be of HS256, RS256, ES256, EdDSA");
            }
            if jwt.key.is_none() && jwt.public_key_file.is_none() && jwt.jwks_file.is_none() {
                return fault("auth.jwt", "needs key, public_key_file or jwks_file");
            }
        }
        if let Some(http) = &self.http {
            if !http.url.starts_with("http://") && !http.url.starts_with("https://") {
                return fault("url", "must begin with http:// or https://");
            }
            if http.url.split('/').nth(2).is_some_and(|host| host.contains('@')) {
                return fault("url", "must not hold a password; use token = \"file:PATH\"");
            }
        }
        None
    }
}

impl Acl {
    pub(super) fn is_unset(&self) -> bool {
        *self == Self::Unset
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        if let Self::Rules(AclRules { file: Some(file), .. }) = self {
            *file = directory.join(&*file);
        }
    }
}

impl Serialize for Acl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            // Left out by `Config`.
            Self::Unset => serializer.serialize_str(""),
            Self::AllowAll => serializer.serialize_str("allow-all"),
            Self::Rules(rules) => rules.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Acl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AclVisitor)
    }
}

struct AclVisitor;

impl<'de> Visitor<'de> for AclVisitor {
    type Value = Acl;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("\"allow-all\" or a table [acl]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Acl, E> {
        match text {
            "allow-all" => Ok(Acl::AllowAll),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Acl, M::Error> {
        AclRules::deserialize(MapAccessDeserializer::new(map)).map(Acl::Rules)
    }
}

fn subject() -> String {
    "sub".to_owned()
}

fn yes() -> bool {
    true
}

fn http_threads() -> u32 {
    4
}

fn http_entries() -> u32 {
    10_000
}

fn http_timeout_ms() -> u32 {
    5000
}
