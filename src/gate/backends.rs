//! The ways to prove who one is, read and ready.

use super::http::Hook;
use super::{Jwt, OwnUsers, Route, Settings};
use crate::auth::password::PasswordFile;
use crate::auth::scram::{self, ScramFile};
use crate::auth::{Credentials, Keys, Login, Outcome, Proof, Proven, Refusal, Secret, jwt};
use ring::rand::{SecureRandom, SystemRandom};
use shards::clock::unix_ms;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tracing::{info, warn};
use zeroize::Zeroizing;

/// Largest file of users or keys; a million users fit.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Permission to write for group or others.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Permission to read for others.
const READABLE_BY_OTHERS: u32 = 0o004;

/// Why settings of logins cannot be used. One line each.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line of a file is wrong.
    #[error("{}:{line}: {message}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: &'static str,
    },
    /// A file, or the address of the service, is wrong as a whole.
    #[error("{what}: {message}")]
    Invalid {
        /// The file or address.
        what: String,
        /// What is wrong.
        message: String,
    },
}

/// All that is configured. Immutable; a reload makes a new one.
#[derive(Debug)]
pub struct Backends {
    passwords: Option<PasswordFile>,
    /// Those of listeners that have their own, by the number of the listener.
    own_passwords: Vec<Option<OwnPasswords>>,
    scram: Option<ScramFile>,
    tokens: Option<Tokens>,
    hook: Option<Hook>,
}

/// Users of listeners that name the same file.
#[derive(Clone, Debug)]
struct OwnPasswords {
    /// What is said of whoever is one of them.
    users: Arc<str>,
    file: Arc<PasswordFile>,
}

#[derive(Debug)]
struct Tokens {
    keys: Keys,
    settings: Jwt,
}

impl Backends {
    /// Reads and checks all files. Nothing in force changes; see [`super::Gate::replace`].
    ///
    /// # Errors
    /// [`LoadError`] with the first thing that is wrong.
    pub fn load(settings: &Settings) -> Result<Arc<Backends>, LoadError> {
        let passwords = settings.password_file.as_deref();
        let readers = settings.secret_readers;
        let passwords = passwords.map(|path| read_passwords(path, readers)).transpose()?;
        let own_passwords = own_passwords(&settings.own_users, readers)?;
        let scram = settings.scram_file.as_deref();
        let scram = scram.map(|path| scram_users(path, readers)).transpose()?;
        let tokens =
            settings.jwt.as_ref().map(|jwt| Ok(Tokens { keys: keys(jwt)?, settings: jwt.clone() }));
        let hook = settings.http.as_ref().map(Hook::new).transpose()?;
        Ok(Arc::new(Backends {
            passwords,
            own_passwords,
            scram,
            tokens: tokens.transpose()?,
            hook,
        }))
    }

    /// Which threads a login is for. Looks at nothing slow.
    pub(super) fn route(&self, credentials: &Credentials) -> Route {
        let Proof::Password(password) = &credentials.proof else { return Route::Tokens };
        if self.own(&credentials.login).is_some() {
            return Route::Passwords;
        }
        let user = credentials.login.user.as_deref();
        if self.token_rules(&credentials.login, password.as_ref()).is_some() {
            return Route::Tokens;
        }
        let known = self.passwords.as_ref().map(|file| user.is_some_and(|user| file.knows(user)));
        match (known, &self.hook) {
            (Some(false) | None, Some(_)) => Route::Hook,
            (Some(true), _) | (Some(false), None) => Route::Passwords,
            (None, None) => Route::Tokens,
        }
    }

    /// Checks one login. May take as long as a hash or a question to the service.
    pub(super) fn check(&self, credentials: Credentials) -> Outcome {
        let login = &credentials.login;
        if let Some(own) = self.own(login) {
            return own.check(login, &credentials.proof);
        }
        let checked = match credentials.proof {
            Proof::Password(password) => self.password(login, password.as_ref()),
            Proof::Begin { method, data } => return self.begin(&method, &data),
            Proof::Continue { exchange, data } => exchange
                .finish(data.expose())
                .map(|(user, data)| Proven { data: Some(data), ..Proven::named(user) })
                .map_err(|_| Refusal::BadCredentials),
        };
        match checked {
            Ok(proven) => Outcome::Proven(Box::new(proven)),
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    fn password(&self, login: &Login, password: Option<&Secret>) -> Result<Proven, Refusal> {
        if let Some((tokens, password)) = self.token_rules(login, password) {
            return tokens.check(login, password);
        }
        let user = login.user.as_deref();
        let here = match (&self.passwords, user) {
            (Some(file), Some(user)) if file.knows(user) || self.hook.is_none() => {
                Some((file, user))
            }
            (Some(_) | None, Some(_) | None) => None,
        };
        match (here, &self.hook) {
            (Some((file, user)), _) => {
                let password = password.ok_or(Refusal::BadCredentials)?;
                if !file.verify(user, password.expose()) {
                    return Err(Refusal::BadCredentials);
                }
                Ok(Proven::named(user))
            }
            (None, Some(hook)) => hook.ask(login, password.map(Secret::expose)),
            (None, None) => Err(Refusal::BadCredentials),
        }
    }

    /// The users of its listener, if they are its own.
    fn own(&self, login: &Login) -> Option<&OwnPasswords> {
        self.own_passwords.get(usize::from(login.listener))?.as_ref()
    }

    /// The password is meant as a token.
    fn token_rules<'a>(
        &'a self,
        login: &Login,
        password: Option<&'a Secret>,
    ) -> Option<(&'a Tokens, &'a Secret)> {
        let (tokens, password) = (self.tokens.as_ref()?, password?);
        let user_name = tokens.settings.user_name.as_deref();
        let fits = user_name.is_none_or(|name| login.user.as_deref() == Some(name));
        (fits && jwt::looks_like_token(password.expose())).then_some((tokens, password))
    }

    fn begin(&self, method: &str, data: &Secret) -> Outcome {
        let Some(file) = self.scram.as_ref().filter(|_| method == scram::METHOD) else {
            return Outcome::Refused(Refusal::BadMethod);
        };
        let Ok(nonce) = random() else { return Outcome::Refused(Refusal::Unavailable) };
        match file.begin(data.expose(), nonce) {
            Ok((exchange, data)) => Outcome::Challenge { exchange: Box::new(exchange), data },
            Err(scram::Failed) => Outcome::Refused(Refusal::BadCredentials),
        }
    }
}

impl OwnPasswords {
    /// Here its file alone decides: whom SCRAM, tokens and the service know are other users.
    fn check(&self, login: &Login, proof: &Proof) -> Outcome {
        let password = match proof {
            Proof::Begin { .. } => return Outcome::Refused(Refusal::BadMethod),
            // It was begun when the listener had the users of the broker.
            Proof::Continue { .. } => return Outcome::Refused(Refusal::BadCredentials),
            Proof::Password(password) => password,
        };
        let both = login.user.as_deref().zip(password.as_ref());
        match both.filter(|(user, password)| self.file.verify(user, password.expose())) {
            Some((user, _)) => {
                let mut proven = Proven::named(user);
                proven.identity.users = Some(Arc::clone(&self.users));
                Outcome::Proven(Box::new(proven))
            }
            None => Outcome::Refused(Refusal::BadCredentials),
        }
    }
}

impl Tokens {
    fn check(&self, login: &Login, token: &Secret) -> Result<Proven, Refusal> {
        let now_s = unix_ms() / 1000;
        let Jwt { rules, user_name, end_at_expiry, .. } = &self.settings;
        let bearer = jwt::verify(token.expose(), &login.client_id, &self.keys, rules, now_s)?;
        // Who names a user names the token's, unless all tokens come under one name.
        let named = login.user.as_deref().filter(|user| !user.is_empty());
        if user_name.is_none() && named.is_some_and(|named| named != &*bearer.user) {
            return Err(Refusal::BadCredentials);
        }
        let left_s = bearer.expires_s.saturating_add(rules.leeway_s).saturating_sub(now_s);
        let valid_ms = end_at_expiry.then(|| left_s.saturating_mul(1000));
        let proven = Proven { valid_ms, ..Proven::named(bearer.user) };
        proven.with_claims(bearer.claims.as_ref())
    }
}

fn read_passwords(path: &Path, readers: Readers) -> Result<PasswordFile, LoadError> {
    let bytes = read_secret(path, readers)?;
    let file = PasswordFile::parse(&bytes).map_err(|error| at_line(path, error))?;
    let (path, weak) = (path.display(), file.weak());
    info!(file = %path, users = file.len(), "passwords read");
    if weak > 0 {
        warn!(file = %path, users = weak, "passwords hashed in one round ($6$) are easy to guess");
    }
    Ok(file)
}

/// What users of this file are told apart by from others of the same name.
pub fn users_of(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

/// Each file is read once.
fn own_passwords(
    users: &[OwnUsers],
    readers: Readers,
) -> Result<Vec<Option<OwnPasswords>>, LoadError> {
    let mut found: Vec<(&Path, OwnPasswords)> = Vec::new();
    let mut all = Vec::new();
    for own in users {
        let path = match own {
            OwnUsers::Common => {
                all.push(None);
                continue;
            }
            OwnUsers::Nobody => {
                all.push(Some(OwnPasswords { users: Arc::from(""), file: Arc::default() }));
                continue;
            }
            OwnUsers::File(path) => path.as_path(),
        };
        let known = found.iter().find(|(one, _)| *one == path).map(|(_, own)| own.clone());
        let own = if let Some(own) = known {
            own
        } else {
            let file = Arc::new(read_passwords(path, readers)?);
            let own = OwnPasswords { users: users_of(path), file };
            found.push((path, own.clone()));
            own
        };
        all.push(Some(own));
    }
    Ok(all)
}

fn scram_users(path: &Path, readers: Readers) -> Result<ScramFile, LoadError> {
    let secret = random().map_err(|source| unreadable(path, source))?;
    let bytes = read_secret(path, readers)?;
    let file = ScramFile::parse(&bytes, secret).map_err(|error| at_line(path, error))?;
    info!(file = %path.display(), users = file.len(), "SCRAM users read");
    Ok(file)
}

fn keys(jwt: &Jwt) -> Result<Keys, LoadError> {
    let mut keys = Keys::default();
    let invalid = |what: String| move |message| LoadError::Invalid { what, message };
    if let Some(secret) = &jwt.secret {
        keys.add(Keys::secret(secret.expose()).map_err(invalid("auth.jwt.key".into()))?);
    }
    if let Some(path) = &jwt.public_key_file {
        let bytes = read_secret(path, Readers::Any)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "it is not UTF-8".to_owned());
        keys.add(text.and_then(Keys::pem).map_err(invalid(path.display().to_string()))?);
    }
    if let Some(path) = &jwt.jwks_file {
        let bytes = read_secret(path, Readers::Any)?;
        keys.add(Keys::jwks(&bytes).map_err(invalid(path.display().to_string()))?);
    }
    keys.restrict(&jwt.algorithms);
    if keys.is_empty() {
        let message = "there is no key for its algorithms".to_owned();
        return Err(LoadError::Invalid { what: "auth.jwt".into(), message });
    }
    Ok(keys)
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody: it holds no secret.
    Any,
    /// Not everybody; if everybody can, this is said.
    WarnOfOthers,
    /// Not everybody, or it is not used.
    RefuseOthers,
}

/// Reads a file that logins are checked with: an ordinary file that nobody else can change.
///
/// # Errors
/// It is no such file, or cannot be read.
pub fn read_secret(path: &Path, readers: Readers) -> Result<Zeroizing<Vec<u8>>, LoadError> {
    let fail = |source| unreadable(path, source);
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let wrong = |message: &str| {
        Err(LoadError::Invalid { what: path.display().to_string(), message: message.into() })
    };
    if !metadata.is_file() {
        return wrong("it is no file");
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return wrong("others can change it: chmod go-w");
    }
    let is_open = metadata.mode() & READABLE_BY_OTHERS != 0;
    match readers {
        Readers::RefuseOthers if is_open => {
            return wrong(
                "everybody can read this file of secrets: chmod o-r, or process.secret_modes = \
                 \"warn\"",
            );
        }
        Readers::WarnOfOthers if is_open => {
            warn!(file = %path.display(), "everybody can read this file of secrets: chmod o-r");
        }
        Readers::RefuseOthers | Readers::WarnOfOthers | Readers::Any => {}
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return wrong("it is too large");
    }
    Ok(bytes)
}

pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(bytes)
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> LoadError {
    LoadError::Unreadable { path: path.to_owned(), source }
}

fn at_line(path: &Path, error: crate::auth::FileError) -> LoadError {
    LoadError::Line { path: path.to_owned(), line: error.line, message: error.message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::limiter::{Limiter, Limits};
    use std::sync::Weak;

    /// Written by `mosquitto_passwd -H sha512` for the password `oldpw`.
    const ADA: &str = "ada:$6$hzEkgrHUDXh36EfB$9MnRaPl/0yO21juflUZ/W9IgNb2cFAYfz6INEO4Eir4VPOjK9AM\
        mFszQIVD4xp5gI4r05kl1jZj8hwtT0Pw36Q==";

    fn asks(backends: &Backends, listener: u16, proof: Proof) -> Outcome {
        let limiter = Limiter::new(Limits { failures_max: 3, forget_ms: 1000 }, (1, 2));
        let (client_id, user, address) = ("c".into(), Some("ada".into()), None);
        let login = Login { client_id, user, address, listener, assigned: false };
        let (suspect, wanted) = (limiter.suspect(None, Some("ada")), Weak::new());
        backends.check(Credentials { login, proof, suspect, wanted })
    }

    #[test]
    fn a_listener_with_users_of_its_own_has_no_others() {
        let ada = || PasswordFile::parse(ADA.as_bytes()).expect("a valid file");
        let own =
            |users: &str, file| Some(OwnPasswords { users: users.into(), file: Arc::new(file) });
        let backends = Backends {
            passwords: Some(ada()),
            // The third is closed.
            own_passwords: vec![None, own("/own", ada()), own("", PasswordFile::default())],
            scram: Some(ScramFile::parse(b"", [7; 32]).expect("nobody")),
            tokens: None,
            hook: None,
        };
        let users = |listener| {
            let password = Proof::Password(Some(Secret::new(b"oldpw")));
            match asks(&backends, listener, password) {
                Outcome::Proven(proven) => Some(proven.identity.users.map(|it| it.to_string())),
                Outcome::Refused(_) | Outcome::Challenge { .. } => None,
            }
        };
        assert_eq!(
            [0, 1, 2, 3].map(users),
            [Some(None), Some(Some("/own".to_owned())), None, Some(None)]
        );
        for listener in 0..4 {
            let begin = || Proof::Begin {
                method: scram::METHOD.to_owned(),
                data: Secret::new(b"n,,n=ada,r=abc"),
            };
            let outcome = asks(&backends, listener, begin());
            let holds = matches!(outcome, Outcome::Challenge { .. });
            assert_eq!(holds, matches!(listener, 0 | 3), "{listener}: {outcome:?}");
            // One that was begun before the listener had users of its own does not end well.
            if let Outcome::Challenge { exchange, .. } = asks(&backends, 0, begin()) {
                let data = Secret::new(b"");
                let outcome = asks(&backends, listener, Proof::Continue { exchange, data });
                assert!(matches!(outcome, Outcome::Refused(Refusal::BadCredentials)));
            }
        }
    }
}
