//! What clients have to show: the rules of logins, listener by listener.

use super::Shard;
#[cfg(doc)]
use crate::access::Identity;
use crate::access::Network;
use crate::auth::limiter::Limits;
use crate::codec::{Qos, Version};
use std::sync::Arc;

/// What clients have to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginRules {
    /// Somebody can check credentials. Else nobody is asked, and user names mean nothing.
    pub asked: bool,
    /// One for each listener.
    pub listeners: Vec<ListenerRules>,
    /// Failed logins.
    pub failures: Limits,
    /// Networks whose failures are not counted.
    pub failures_exempt: Arc<[Network]>,
}

/// What clients of one listener have to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one key of the settings")]
pub struct ListenerRules {
    /// It listens no more, and what was asked for here is not known any more: whoever has come and
    /// has not sent CONNECT is refused.
    pub closed: bool,
    /// Clients without user name and password are let in.
    pub allow_anonymous: bool,
    /// Nobody can check credentials here, although elsewhere somebody can; user names mean nothing.
    pub unasked: bool,
    /// Whose users those are whose certificate names them; see [`Identity::users`]. Of others, who
    /// proves them says it.
    pub users: Option<Arc<str>>,
    /// The user name takes the place of the client identifier.
    pub use_username_as_clientid: bool,
    /// A session goes to whoever has its client identifier, whatever his name.
    pub allow_session_rebind: bool,
    /// Versions that are spoken; empty = all.
    pub versions: Vec<Version>,
    /// Highest `QoS`; `None` = all.
    pub qos_max: Option<Qos>,
    /// Topic Alias Maximum; `None` = that of the settings.
    pub topic_alias_maximum: Option<u16>,
    /// Beginning of all topics of these clients, which they do not see.
    pub mount: Option<Arc<str>>,
    /// Beginning of identifiers that are made for these clients; `None` = `auto-`.
    pub id_prefix: Option<Arc<str>>,
}

/// Rules of a listener of which nothing was said.
static NO_RULES: ListenerRules = ListenerRules {
    closed: false,
    allow_anonymous: false,
    unasked: false,
    users: None,
    use_username_as_clientid: false,
    allow_session_rebind: false,
    versions: Vec::new(),
    qos_max: None,
    topic_alias_maximum: None,
    mount: None,
    id_prefix: None,
};

impl Shard {
    /// Other rules from now on. Who is connected stays.
    pub fn set_login_rules(&mut self, rules: LoginRules) {
        self.limiter.set_limits(rules.failures, Arc::clone(&rules.failures_exempt));
        self.login_rules = rules;
        self.make_offers();
    }

    pub(super) fn listener_rules(&self, listener: u16) -> &ListenerRules {
        self.login_rules.listeners.get(usize::from(listener)).unwrap_or(&NO_RULES)
    }
}
