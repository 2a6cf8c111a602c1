//! Whom a connection comes from, as its transport knows it.

use std::net::SocketAddr;
use std::sync::Arc;

/// The other end of a connection when its CONNECT arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Index of the listener in the configuration.
    pub listener: u16,
    /// The client's address; a trusted proxy may have named it. `None` for Unix sockets.
    pub address: Option<SocketAddr>,
    /// The certificate the client has proved to own.
    pub certificate: Option<Arc<Certificate>>,
}

/// What a verified client certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of the subject, if it can be a user name.
    pub common_name: Option<String>,
    /// The subject in the notation of RFC 4514, most specific part first.
    pub subject: String,
    /// The user name the listener makes of the certificate; it stands instead of CONNECT's.
    pub user: Option<Arc<str>>,
}
