//! Secrets: the file says where they are, never what they are.

use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// In a file; one newline at its end does not count.
    File(PathBuf),
    /// In a variable of the environment.
    Env(String),
    /// In a credential of the service manager (`LoadCredential=`), a file below
    /// `$CREDENTIALS_DIRECTORY`.
    Cred(String),
}

impl SecretRef {
    /// `None` if the text is none of the three forms.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            _ if rest.is_empty() => None,
            "file" => Some(Self::File(PathBuf::from(rest))),
            "env" => Some(Self::Env(rest.to_owned())),
            "cred" if !rest.contains('/') && rest != ".." => Some(Self::Cred(rest.to_owned())),
            _ => None,
        }
    }

    pub(super) fn resolve(&mut self, directory: &Path) {
        if let Self::File(path) = self {
            *path = directory.join(&*path);
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(out, "file:{}", path.display()),
            Self::Env(name) => write!(out, "env:{name}"),
            Self::Cred(name) => write!(out, "cred:{name}"),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // The text is not repeated: it may be the secret itself.
        Self::parse(&text)
            .ok_or_else(|| D::Error::custom("must be file:PATH, env:NAME or cred:NAME"))
    }
}
