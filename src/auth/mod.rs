//! Who is it? Credentials and the ways to prove them, without threads, files, network or clock.
//!
//! Promise: pure, and closed by default: what is not proven is refused, and who asks learns no
//! more. Secrets have no `Debug` and are wiped when they go.
//! Not here: who may do what (`access`), when a login is asked for (`shard`), the threads that
//! check it (`gate`).
//!
//! ```text
//!  shard ─ Credentials ─▶ gate ─▶ password │ jwt │ scram │ hook ─▶ Outcome ─▶ shard
//! ```

pub mod bucket;
mod file;
pub mod hook;
pub mod jwt;
mod keys;
pub mod limiter;
pub mod password;
pub mod scram;

pub use file::{FileError, records};
pub use keys::{Key, Keys};
pub use limiter::Suspect;

use crate::access::{AclFault, Identity, Rules};
use crate::codec::Reason;
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use zeroize::Zeroizing;

/// Reads JSON that is text throughout: what nobody asks for is skipped unread, so it is looked at
/// here. RFC 8259, section 8.1.
fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Bytes that must not be shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a copy.
    pub fn new(bytes: &[u8]) -> Secret {
        Secret(Zeroizing::new(bytes.to_vec()))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

/// Who wants in, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// Client identifier; empty if the client has none.
    pub client_id: String,
    /// User name, not proven.
    pub user: Option<String>,
    /// Where it comes from; a local socket has no address.
    pub address: Option<SocketAddr>,
    /// Index of the listener in the settings.
    pub listener: u16,
    /// The client gave no identifier, and was given that of its user.
    pub assigned: bool,
}

/// How it wants to prove that.
#[derive(Debug)]
pub enum Proof {
    /// The password of CONNECT, perhaps a token.
    Password(Option<Secret>),
    /// The beginning of an exchange by this method.
    Begin {
        /// Name of the method.
        method: String,
        /// The client's first message.
        data: Secret,
    },
    /// The next message of an exchange.
    Continue {
        /// Where the exchange stands.
        exchange: Box<scram::Exchange>,
        /// The client's message.
        data: Secret,
    },
}

/// What the shard has checked.
#[derive(Debug)]
pub struct Credentials {
    /// Who wants in.
    pub login: Login,
    /// How it proves that.
    pub proof: Proof,
    /// What a failure counts against.
    pub suspect: Suspect,
    /// Lives as long as somebody waits for the answer.
    pub wanted: Weak<()>,
}

impl Credentials {
    /// Somebody waits for the answer. Of a client that has hung up nothing need be hashed.
    pub fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

/// What a login may do, as topic filters, if its token or the hook says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Claims {
    /// Filters of topics to publish to.
    pub publish: Vec<String>,
    /// Filters to subscribe to.
    pub subscribe: Vec<String>,
    /// Filters of topics that are denied whatever the others say.
    pub deny: Vec<String>,
}

impl Claims {
    /// Most filters of one list.
    const FILTERS_MAX: usize = 1000;

    /// Are the lists short enough.
    pub(crate) fn is_bounded(&self) -> bool {
        let lists = [&self.publish, &self.subscribe, &self.deny];
        lists.into_iter().all(|list| list.len() <= Claims::FILTERS_MAX)
    }

    /// Makes rules of the lists.
    ///
    /// # Errors
    /// One of them holds what is no topic filter.
    pub fn compile(&self) -> Result<Arc<Rules>, AclFault> {
        let [publish, subscribe, deny] = [&self.publish, &self.subscribe, &self.deny]
            .map(|list| list.iter().map(String::as_str));
        Rules::new(publish, subscribe, deny).map(Arc::new)
    }
}

/// A login that was proven.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Who it is, and the rules that came with the proof.
    pub identity: Identity,
    /// It ends after so many milliseconds.
    pub valid_ms: Option<u64>,
    /// Last message of the exchange to the client.
    pub data: Option<Vec<u8>>,
}

impl Proven {
    /// A user by name.
    pub fn named(user: impl Into<Arc<str>>) -> Proven {
        let identity = Identity { user: Some(user.into()), ..Identity::default() };
        Proven { identity, valid_ms: None, data: None }
    }

    /// The same with rules of its own.
    ///
    /// # Errors
    /// [`Refusal::BadCredentials`]: they cannot be rules, and without them it might do more than
    /// was meant.
    pub fn with_claims(mut self, claims: Option<&Claims>) -> Result<Proven, Refusal> {
        let compiled = claims.map(Claims::compile).transpose();
        self.identity.claims = compiled.map_err(|_| Refusal::BadCredentials)?;
        Ok(self)
    }
}

/// What became of a login.
#[derive(Debug)]
pub enum Outcome {
    /// It is proven.
    Proven(Box<Proven>),
    /// The client has to answer this first.
    Challenge {
        /// Where the exchange stands.
        exchange: Box<scram::Exchange>,
        /// The message to the client.
        data: Vec<u8>,
    },
    /// It is not.
    Refused(Refusal),
}

/// Why a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Wrong password, unknown user, bad token: the same for all.
    BadCredentials,
    /// Who is not known may not come in, or not as this session's owner.
    NotAuthorized,
    /// There is no such method.
    BadMethod,
    /// Too many failures; nothing was checked.
    TooManyFailures,
    /// Too many logins wait to be checked.
    Busy,
    /// The service that knows does not answer.
    Unavailable,
}

/// Number of [`Refusal`] causes.
pub const REFUSALS: usize = crate::session::LOGIN_REFUSALS;

impl Refusal {
    /// Names in `$SYS`, in the order of the causes.
    pub const NAMES: [&str; REFUSALS] = [
        "bad_credentials",
        "not_authorized",
        "bad_method",
        "too_many_failures",
        "busy",
        "unavailable",
    ];

    /// What CONNACK says.
    pub fn reason(self) -> Reason {
        match self {
            Refusal::BadCredentials => Reason::BadUserNameOrPassword,
            Refusal::NotAuthorized => Reason::NotAuthorized,
            Refusal::BadMethod => Reason::BadAuthenticationMethod,
            Refusal::TooManyFailures => Reason::ConnectionRateExceeded,
            Refusal::Busy => Reason::ServerBusy,
            Refusal::Unavailable => Reason::ServerUnavailable,
        }
    }

    /// Its name in `$SYS` and in the log.
    pub fn name(self) -> &'static str {
        Refusal::NAMES.get(self as usize).copied().unwrap_or_default()
    }

    /// Somebody has guessed, and wrong.
    pub fn is_guess(self) -> bool {
        self == Refusal::BadCredentials
    }
}
