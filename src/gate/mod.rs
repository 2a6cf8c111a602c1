//! The threads that check logins, so that no shard ever hashes a password or waits for a service.
//!
//! Promise: every login that was taken is answered, once; what waits is bounded, and what does not
//! fit is refused as busy at once; each kind of work has its own threads, so that slow password
//! hashes and a slow service do not hold up tokens.
//! Not here: whether somebody is asked to log in, and what a refusal does (`shard`).
//!
//! ```text
//!  shard ─ submit ─┬─▶ passwords ──▶ hash, compare           ─┐
//!                  ├─▶ tokens ─────▶ JWT, SCRAM: microseconds ─┼─ Remote::post ─▶ shard
//!                  └─▶ hook ───────▶ HTTP                     ─┘
//! ```

mod backends;
mod http;
mod lane;

pub use backends::{Backends, LoadError, Readers, read_secret, users_of};

use crate::auth::{Credentials, Outcome, Refusal, Secret, Suspect, jwt};
use lane::{Job, Lane};
use shards::{ConnId, Remote};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Threads for tokens and exchanges; a signature takes less than a millisecond.
const TOKEN_THREADS: usize = 1;

/// Ways to prove who one is; none = nobody is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Users and password hashes, as `culex passwd` writes them.
    pub password_file: Option<PathBuf>,
    /// Users of single listeners, by their numbers; further ones have the common ones.
    pub own_users: Vec<OwnUsers>,
    /// Users and SCRAM keys.
    pub scram_file: Option<PathBuf>,
    /// Tokens as passwords.
    pub jwt: Option<Jwt>,
    /// A service that knows.
    pub http: Option<Http>,
    /// Who may read the files with secrets.
    pub secret_readers: Readers,
    /// Threads that hash passwords, at least 1. Each may need the memory of one hash.
    pub hashing_threads: usize,
    /// Logins that may wait for each kind of check; further ones are refused as busy.
    pub queue_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            password_file: None,
            own_users: Vec::new(),
            scram_file: None,
            jwt: None,
            http: None,
            secret_readers: Readers::RefuseOthers,
            hashing_threads: 1,
            queue_max: 1024,
        }
    }
}

impl Settings {
    /// Is there any way to prove who one is.
    pub fn is_any(&self) -> bool {
        self.password_file.is_some()
            || self.own_users.iter().any(|own| matches!(own, OwnUsers::File(_)))
            || self.scram_file.is_some()
            || self.jwt.is_some()
            || self.http.is_some()
    }
}

/// Whose users may log in at a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OwnUsers {
    /// Those of the broker, however they prove it.
    #[default]
    Common,
    /// Those of this file alone, as `culex passwd` writes it.
    File(PathBuf),
    /// Nobody's: the listener had users of its own and is closed.
    Nobody,
}

/// JSON Web Tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// A shared secret: HS256.
    pub secret: Option<Secret>,
    /// A public key in PEM.
    pub public_key_file: Option<PathBuf>,
    /// A JWKS.
    pub jwks_file: Option<PathBuf>,
    /// Keys for other algorithms are not used.
    pub algorithms: Vec<String>,
    /// What a token must say.
    pub rules: jwt::Rules,
    /// A token counts only with this user name in CONNECT. `None`: with none, or the token's own.
    pub user_name: Option<String>,
    /// The connection ends when the token does.
    pub end_at_expiry: bool,
}

/// An HTTP service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Certificates that may sign the service's; `None` = those of the web.
    pub ca_file: Option<PathBuf>,
    /// Sent as `Authorization: Bearer …`.
    pub bearer: Option<Secret>,
    /// Longest time for one question.
    pub timeout_ms: u64,
    /// Threads that ask, at least 1.
    pub threads: usize,
    /// How long an answer is good; 0 = not remembered.
    pub cache_ms: u64,
    /// Answers that are remembered.
    pub cache_entries_max: usize,
}

/// What became of a login that was submitted.
#[derive(Debug)]
pub struct Answer {
    /// The connection, of the shard that gets this.
    pub conn: ConnId,
    /// What a failure counts against.
    pub suspect: Suspect,
    /// The result.
    pub outcome: Outcome,
}

/// The threads, and the ways to prove in force.
#[derive(Debug)]
pub struct Gate {
    backends: Mutex<Arc<Backends>>,
    passwords: Lane,
    tokens: Lane,
    hook: Lane,
}

impl Gate {
    /// Starts the threads. Answers go to the shards through `remote`, whose lines must be long
    /// enough for what each shard submits before it takes answers.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start<C>(
        settings: &Settings,
        backends: Arc<Backends>,
        remote: &Remote<C>,
    ) -> std::io::Result<Gate>
    where
        C: From<Answer> + Send + 'static,
    {
        let hook_threads = settings.http.as_ref().map_or(0, |http| http.threads.max(1));
        let lane = |name, threads| Lane::start(name, threads, settings.queue_max, remote);
        Ok(Gate {
            backends: Mutex::new(backends),
            passwords: lane("passwords", settings.hashing_threads.max(1))?,
            tokens: lane("tokens", TOKEN_THREADS)?,
            hook: lane("hook", hook_threads)?,
        })
    }

    /// Other ways to prove from now on; logins on their way are checked by the former ones.
    /// Numbers of threads and lengths of queues stay.
    pub fn replace(&self, backends: Arc<Backends>) {
        *self.backends.lock().unwrap_or_else(PoisonError::into_inner) = backends;
    }

    /// Takes a login; the answer comes through the remote. Never blocks.
    ///
    /// # Errors
    /// The answer, if too many wait: refused as busy.
    pub fn submit(
        &self,
        shard: usize,
        conn: ConnId,
        credentials: Box<Credentials>,
    ) -> Result<(), Answer> {
        let backends = {
            let current = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&current)
        };
        let suspect = credentials.suspect;
        let lane = match backends.route(&credentials) {
            Route::Passwords => &self.passwords,
            Route::Tokens => &self.tokens,
            Route::Hook => &self.hook,
        };
        lane.submit(Job { shard, conn, credentials, backends }).map_err(|_| Answer {
            conn,
            suspect,
            outcome: Outcome::Refused(Refusal::Busy),
        })
    }
}

/// Which threads a login goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Passwords,
    Tokens,
    Hook,
}
