//! The HTTP service that knows who may come in.

use super::backends::{Readers, random, read_secret, unreadable};
use super::{Http, LoadError};
use crate::auth::hook::{self, Answer, Breaker, Cache};
use crate::auth::{Login, Proven, Refusal, Secret};
use shards::clock::Clock;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{debug, info, warn};
use ureq::Agent;
use ureq::http::{StatusCode, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// One service.
#[derive(Debug)]
pub(super) struct Hook {
    agent: Agent,
    uri: Uri,
    bearer: Option<Secret>,
    clock: Clock,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    cache: Cache,
    breaker: Breaker,
}

impl Hook {
    pub(super) fn new(settings: &Http) -> Result<Hook, LoadError> {
        let invalid = |message: &str| LoadError::Invalid {
            what: settings.url.clone(),
            message: message.into(),
        };
        let uri: Uri = settings.url.parse().map_err(|_| invalid("it is not a URL"))?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("the URL names no host"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback(host) => {}
            Some("http") => {
                warn!(url = %settings.url, "passwords go to this service unencrypted: use https");
            }
            Some(_) | None => return Err(invalid("the URL must begin with http:// or https://")),
        }
        let roots = settings.ca_file.as_deref().map(roots).transpose()?;
        let tls = TlsConfig::builder().root_certs(roots.unwrap_or(RootCerts::WebPki)).build();
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(settings.timeout_ms)))
            // Elsewhere is not where the administrator wants passwords to go.
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .tls_config(tls)
            .build();
        let secret = random().map_err(|source| unreadable(Path::new("/dev/urandom"), source))?;
        let cache = Cache::new(settings.cache_entries_max, settings.cache_ms, secret);
        let memory = Memory { cache, breaker: Breaker::default() };
        let clock = Clock::start();
        let bearer = settings.bearer.clone();
        Ok(Hook { agent: config.into(), uri, bearer, clock, memory: Mutex::new(memory) })
    }

    /// Asks, or remembers. Blocks for at most the timeout.
    pub(super) fn ask(&self, login: &Login, password: Option<&[u8]>) -> Result<Proven, Refusal> {
        // Who is let in needs a name.
        let user = login.user.as_deref().ok_or(Refusal::BadCredentials)?;
        let question = hook::question(login, password)?;
        let answer = match self.remembered(&question)? {
            Known::Answer(answer) => answer,
            Known::Ask(digest) => {
                let asked = self.post(&question);
                let now = self.clock.now();
                let mut memory = self.memory();
                match asked {
                    Ok(answer) => {
                        memory.breaker.answered();
                        // A no may become a yes as soon as somebody corrects it.
                        if matches!(answer, Answer::Allow { .. }) {
                            memory.cache.put(digest, answer.clone(), now);
                        }
                        answer
                    }
                    Err(error) => {
                        let rests = memory.breaker.failed(now);
                        drop(memory);
                        if rests {
                            warn!(url = %self.uri, error, "the login service fails, it rests");
                        } else {
                            debug!(url = %self.uri, error, "the login service failed");
                        }
                        return Err(Refusal::Unavailable);
                    }
                }
            }
        };
        match answer {
            Answer::Deny => Err(Refusal::BadCredentials),
            Answer::Allow { expires_s, claims } => {
                let valid_ms = expires_s.map(|seconds| seconds.saturating_mul(1000));
                let proven = Proven { valid_ms, ..Proven::named(user) };
                proven.with_claims(claims.as_ref())
            }
        }
    }

    fn remembered(&self, question: &[u8]) -> Result<Known, Refusal> {
        let now = self.clock.now();
        let mut memory = self.memory();
        let digest = memory.cache.digest(question);
        match memory.cache.get(digest, now) {
            Some(answer) => Ok(Known::Answer(answer)),
            None if memory.breaker.may_ask(now) => Ok(Known::Ask(digest)),
            None => Err(Refusal::Unavailable),
        }
    }

    /// One question to the service.
    fn post(&self, question: &[u8]) -> Result<Answer, String> {
        let mut request = self.agent.post(&self.uri).content_type("application/json");
        if let Some(bearer) = &self.bearer {
            let bearer = std::str::from_utf8(bearer.expose()).unwrap_or_default();
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let mut response = request.send(question).map_err(|error| error.to_string())?;
        match response.status() {
            StatusCode::OK => {
                let limit = hook::ANSWER_BYTES_MAX as u64;
                let body = response.body_mut().with_config().limit(limit).read_to_vec();
                hook::answer(&body.map_err(|error| error.to_string())?)
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(Answer::Deny),
            other => Err(format!("status {other}")),
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Known {
    Answer(Answer),
    Ask(hook::Digest),
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn roots(path: &Path) -> Result<RootCerts, LoadError> {
    let invalid =
        |message: String| LoadError::Invalid { what: path.display().to_string(), message };
    let bytes = read_secret(path, Readers::Any)?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(one) = item.map_err(|error| invalid(error.to_string()))? {
            certificates.push(one);
        }
    }
    if certificates.is_empty() {
        return Err(invalid("there is no certificate in it".into()));
    }
    info!(file = %path.display(), count = certificates.len(), "certificates read");
    Ok(RootCerts::new_with_certs(&certificates))
}
