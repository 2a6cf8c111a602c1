//! Certificates and keys in files.
//!
//! Promise: a key that others could have read or changed is refused; nothing is used before
//! everything was read and checked.

use crate::transport::tls::{
    Acceptor, ClientAuth, KeyPair, Material, TlsError, UserName, Versions,
};
use rustix::process::geteuid;
use shards::clock::unix_ms;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tracing::warn;

/// No certificate, chain or list of them is longer.
const FILE_BYTES_MAX: u64 = 16 << 20;
const READABLE_BY_ALL: u32 = 0o004;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where a listener's certificates are, and how they are used.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, its owner first (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// Other server names, their chains and keys.
    pub names: Vec<(String, PathBuf, PathBuf)>,
    /// Authorities of client certificates (PEM).
    pub authorities: Option<PathBuf>,
    /// More of them, in files with names as `openssl rehash` gives.
    pub authorities_dir: Option<PathBuf>,
    /// Their revocation lists (PEM).
    pub revocations: Option<PathBuf>,
    /// Are clients asked for a certificate?
    pub client_auth: ClientAuth,
    /// What becomes of it.
    pub user_name: UserName,
    /// Versions that are spoken.
    pub versions: Versions,
    /// Protocols for ALPN; empty = the extension is ignored.
    pub alpn: Vec<String>,
    /// Keys that everybody can read.
    pub open_keys: OpenKeys,
    /// The user that the process becomes, if it becomes another; keys may be his.
    pub heir: Option<u32>,
}

/// What to do about a key that everybody can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenKeys {
    /// It is not used.
    Refuse,
    /// It is used, with a warning.
    Warn,
}

/// Why a listener's TLS cannot be set up. One line.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that cannot be a certificate.
    #[error("{}: longer than {FILE_BYTES_MAX} bytes", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A secret that is none.
    #[error("{}: {who} can {what} this key (mode {mode:03o})", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Who.
        who: &'static str,
        /// Read or change.
        what: &'static str,
        /// Its permissions.
        mode: u32,
    },
    /// A key of a stranger.
    #[error("{}: belongs neither to root nor to the user the broker runs as", .path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
    },
    /// What is in the files does not fit.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl TlsFiles {
    /// Reads everything and puts it together. `before` is what it replaces, see [`Acceptor::new`].
    ///
    /// # Errors
    /// [`FileError`], the first thing that is wrong.
    pub fn load(&self, before: Option<&Acceptor>) -> Result<Acceptor, FileError> {
        let list = |path: &Option<PathBuf>| match path {
            Some(path) => Ok::<_, FileError>(vec![(path.display().to_string(), read(path)?)]),
            None => Ok(Vec::new()),
        };
        let mut authorities = list(&self.authorities)?;
        for path in hashed(self.authorities_dir.as_deref())? {
            authorities.push((path.display().to_string(), read(&path)?));
        }
        let mut names = Vec::new();
        for (name, certificate, key) in &self.names {
            names.push((name.clone(), self.pair(certificate, key)?));
        }
        let material = Material {
            pair: self.pair(&self.certificate, &self.key)?,
            names,
            client_auth: self.client_auth,
            authorities,
            revocations: list(&self.revocations)?,
            user_name: self.user_name,
            versions: self.versions,
            alpn: self.alpn.iter().map(|name| name.clone().into_bytes()).collect(),
        };
        // Certificates know no other time.
        let now_s = i64::try_from(unix_ms() / 1000).unwrap_or(i64::MAX);
        Ok(Acceptor::new(&material, now_s, before)?)
    }

    fn pair(&self, certificate: &Path, key: &Path) -> Result<KeyPair, FileError> {
        Ok(KeyPair {
            certificate_name: certificate.display().to_string(),
            certificate: read(certificate)?,
            key_name: key.display().to_string(),
            key: read_key(key, self.open_keys, self.heir)?,
        })
    }
}

/// The certificates of a directory: `HHHHHHHH.N`, in order of their names.
fn hashed(directory: Option<&Path>) -> Result<Vec<PathBuf>, FileError> {
    let Some(path) = directory else { return Ok(Vec::new()) };
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let is_hash = |name: &str| {
        name.split_once('.').is_some_and(|(hash, number)| {
            hash.len() == 8
                && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
                && number.parse::<u32>().is_ok()
        })
    };
    let mut found = Vec::new();
    for entry in path.read_dir().map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        if name.to_str().is_some_and(is_hash) {
            found.push(path.join(name));
        }
    }
    if found.is_empty() {
        let why = "has no certificates: names are given by `openssl rehash`";
        return Err(unreadable(io::Error::other(why)));
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    read_all(path, File::open(path).map_err(unreadable)?)
}

fn read_all(path: &Path, file: File) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}

fn read_key(path: &Path, open_keys: OpenKeys, heir: Option<u32>) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    // The same file is looked at and read, whatever happens to its name.
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?;
    let mode = found.mode() & 0o777;
    let exposed = |who, what| FileError::Exposed { path: path.to_owned(), who, what, mode };
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(exposed("others", "change"));
    }
    let owners = [Some(0), Some(geteuid().as_raw()), heir];
    if !owners.contains(&Some(found.uid())) {
        return Err(FileError::Stranger { path: path.to_owned() });
    }
    if mode & READABLE_BY_ALL != 0 {
        let error = exposed("everybody", "read");
        match open_keys {
            OpenKeys::Refuse => return Err(error),
            OpenKeys::Warn => warn!("{error}"),
        }
    }
    read_all(path, file)
}
