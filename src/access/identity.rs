//! Who a connection acts for.

use super::{Rules, Users, Who};
use std::sync::Arc;

/// Who a connection acts for, after authentication. Cheap to clone; anonymous by default.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// User name that was proved; `None` = anonymous.
    pub user: Option<Arc<str>>,
    /// Whose user this is, as it was at the login: the file of a listener with users of its own;
    /// `None` = those of the broker. One name is two users of two sets.
    pub users: Option<Arc<str>>,
    /// Rules that came with the proof, as a token's claims; `None` = none came.
    pub claims: Option<Arc<Rules>>,
    /// Number of the listener it came in by; `None` = a session from the log, whose client has not
    /// come back since.
    pub listener: Option<u16>,
}

impl Identity {
    /// Whom decisions about a client of this identity are about.
    pub fn who<'a>(&'a self, client_id: &'a str) -> Who<'a> {
        let (user, claims) = (self.user.as_deref(), self.claims.as_deref());
        let users = users(user, self.users.as_deref());
        Who { client_id, user, claims, address: None, listener: self.listener, users }
    }

    /// Both are the same user, or both are anonymous.
    pub fn is_same_user(&self, other: &Identity) -> bool {
        self.user == other.user && (self.user.is_none() || self.users == other.users)
    }

    /// Both are the same user with the same claims. What rights an identity has can differ only if
    /// this is false, or their listeners have different rules.
    pub fn is_same(&self, other: &Identity) -> bool {
        let claims = match (&self.claims, &other.claims) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        claims && self.is_same_user(other)
    }
}

/// The set of users of somebody; who is anonymous is in none.
pub fn users<'a>(user: Option<&str>, set: Option<&'a str>) -> Users<'a> {
    match (user, set) {
        (None, _) => Users::Unknown,
        (Some(_), None) => Users::Common,
        (Some(_), Some(set)) => Users::Own(set),
    }
}
