//! What is asked of an HTTP service about a login, how its answer reads, what of it is remembered,
//! and when it is not asked any more because it does not answer.
//!
//! ```text
//!  POST {"client_id","user","password","address","listener"}
//!  200  {"result": "allow"|"deny", "expires_s": N,
//!       "acl": {"publish": [FILTER…], "subscribe": [FILTER…], "deny": [FILTER…]}}
//! ```
//!
//! The rights come with the login and hold until it ends: no message ever waits for the service.
//! Whatever is not a well-formed "allow" is a refusal.
//! Not here: HTTP itself, threads, the clock.

use super::{Claims, Login, Refusal};
use ahash::AHashMap;
use ring::hmac;
use serde::{Deserialize, Serialize};
use shards::Millis;
use std::collections::VecDeque;

/// Longest answer that is read.
pub const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// The service is not asked for a while after so many failures in a row.
const FAILURES_MAX: u32 = 5;
/// How long; then one login tries it.
const REST_MS: u64 = 5_000;

/// The question, as the body of the request.
#[derive(Serialize)]
struct Question<'a> {
    client_id: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    address: Option<String>,
    listener: u16,
}

/// The body of the request; a password that is no UTF-8 cannot be asked about.
///
/// # Errors
/// [`Refusal::BadCredentials`] for such a password.
///
/// # Panics
/// Never: texts and numbers become JSON.
pub fn question(login: &Login, password: Option<&[u8]>) -> Result<Vec<u8>, Refusal> {
    let password = password.map(std::str::from_utf8).transpose();
    let question = Question {
        client_id: &login.client_id,
        user: login.user.as_deref(),
        password: password.map_err(|_| Refusal::BadCredentials)?,
        address: login.address.map(|address| address.ip().to_string()),
        listener: login.listener,
    };
    Ok(serde_json::to_vec(&question).expect("texts and numbers become JSON"))
}

/// What the service said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The client may connect.
    Allow {
        /// The login ends after so many seconds.
        expires_s: Option<u64>,
        /// What it may do; `None` = what the server's own rules say.
        claims: Option<Claims>,
    },
    /// It may not.
    Deny,
}

#[derive(Deserialize)]
struct Said {
    result: Word,
    expires_s: Option<u64>,
    acl: Option<Claims>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
}

/// Reads the body of an answer with status 200.
///
/// # Errors
/// It is no such answer; the client is refused then.
pub fn answer(body: &[u8]) -> Result<Answer, String> {
    let said: Said = super::json(body)?;
    if said.acl.as_ref().is_some_and(|claims| !claims.is_bounded()) {
        return Err("too many filters".into());
    }
    if let Word::Deny = said.result {
        return Ok(Answer::Deny);
    }
    Ok(Answer::Allow { expires_s: said.expires_s, claims: said.acl })
}

/// Answers that are still good, so that a crowd that reconnects does not become a crowd of
/// requests. Keys are keyed hashes of the whole question, so no password is kept.
#[derive(Debug)]
pub struct Cache {
    key: hmac::Key,
    answers: AHashMap<[u8; 32], (Millis, Answer)>,
    /// Keys in the order they were put in.
    order: VecDeque<[u8; 32]>,
    entries_max: usize,
    keep_ms: u64,
}

/// A question without its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Cache {
    /// Keeps at most `entries_max` answers, each for `keep_ms`; 0 of either = none. `secret` is
    /// random.
    pub fn new(entries_max: usize, keep_ms: u64, secret: [u8; 32]) -> Cache {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let entries_max = if keep_ms == 0 { 0 } else { entries_max };
        Cache { key, answers: AHashMap::new(), order: VecDeque::new(), entries_max, keep_ms }
    }

    /// Names a question.
    ///
    /// # Panics
    /// Never: the code has 32 bytes.
    pub fn digest(&self, question: &[u8]) -> Digest {
        let tag = hmac::sign(&self.key, question);
        Digest(tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes"))
    }

    /// The answer to this question, if it is known and still good.
    pub fn get(&self, question: Digest, now: Millis) -> Option<Answer> {
        let (put_at, answer) = self.answers.get(&question.0)?;
        (now.0.saturating_sub(put_at.0) < self.keep_ms).then(|| answer.clone())
    }

    /// Remembers an answer; the oldest gives way.
    ///
    /// # Panics
    /// Never: map and order have the same keys.
    pub fn put(&mut self, question: Digest, answer: Answer, now: Millis) {
        if self.entries_max == 0 {
            return;
        }
        if self.answers.insert(question.0, (now, answer)).is_none() {
            self.order.push_back(question.0);
        }
        if self.order.len() > self.entries_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        assert!(self.order.len() == self.answers.len());
    }
}

/// Spares a service that does not answer, and the logins that would wait for it.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: u32,
    rests_until: Option<Millis>,
}

impl Breaker {
    /// May the service be asked now. After a rest one login may; the others wait for its result.
    pub fn may_ask(&mut self, now: Millis) -> bool {
        match self.rests_until {
            Some(until) if now < until => false,
            Some(_) => {
                self.rests_until = Some(now.after(REST_MS));
                true
            }
            None => true,
        }
    }

    /// The service has answered, whatever it said.
    pub fn answered(&mut self) {
        *self = Breaker::default();
    }

    /// It has not. True if that begins a rest.
    pub fn failed(&mut self, now: Millis) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES_MAX {
            return false;
        }
        let begins = self.failures == FAILURES_MAX;
        self.rests_until = Some(now.after(REST_MS));
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_well_formed_allow_allows() {
        let allow = |claims, expires_s| Ok(Answer::Allow { expires_s, claims });
        assert_eq!(answer(br#"{"result":"allow"}"#), allow(None, None));
        assert_eq!(answer(br#"{"result":"deny","acl":{}}"#), Ok(Answer::Deny));
        let claims = Claims { publish: vec!["a/#".into()], ..Claims::default() };
        let text = br#"{"result":"allow","acl":{"publish":["a/#"]},"expires_s":60,"more":1}"#;
        assert_eq!(answer(text), allow(Some(claims), Some(60)));
        for wrong in [
            "",
            "{}",
            "true",
            r#"{"result":true}"#,
            r#"{"result":"Allow"}"#,
            r#"{"result":"ignore"}"#,
            r#"{"result":"allow","acl":{"publish":"a"}}"#,
            r#"{"result":"allow","acl":{"publish":[1]}}"#,
            r#"{"result":"allow","acl":{"publsh":["a"]}}"#,
            r#"{"result":"allow","expires_s":-1}"#,
            r#"{"result":"deny","result":"allow"}"#,
        ] {
            assert!(answer(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(answer(b"{\"result\":\"allow\",\"\x88\":1}").is_err(), "no text");
    }

    #[test]
    fn a_password_that_is_no_text_is_refused() {
        let login = Login::default();
        assert_eq!(question(&login, Some(&[0xff])), Err(Refusal::BadCredentials));
        let text = question(&login, Some(b"\"x")).expect("text");
        assert!(String::from_utf8(text).expect("UTF-8").contains(r#""password":"\"x""#));
    }

    #[test]
    fn answers_are_kept_for_their_time_and_number() {
        let mut cache = Cache::new(2, 1000, [0; 32]);
        let [a, b, c] = [b"a", b"b", b"c"].map(|question| cache.digest(question));
        cache.put(a, Answer::Deny, Millis(0));
        assert_eq!(cache.get(a, Millis(999)), Some(Answer::Deny));
        assert_eq!(cache.get(a, Millis(1000)), None);
        cache.put(b, Answer::Deny, Millis(0));
        cache.put(c, Answer::Deny, Millis(0));
        assert_eq!(cache.get(a, Millis(0)), None, "the oldest gave way");
        assert!(cache.get(b, Millis(0)).is_some() && cache.get(c, Millis(0)).is_some());
        let mut none = Cache::new(10, 0, [0; 32]);
        none.put(a, Answer::Deny, Millis(0));
        assert_eq!(none.get(a, Millis(0)), None);
    }

    #[test]
    fn a_service_that_fails_rests_and_is_tried_by_one() {
        let mut breaker = Breaker::default();
        for failure in 1..=FAILURES_MAX {
            assert!(breaker.may_ask(Millis(0)));
            assert_eq!(breaker.failed(Millis(0)), failure == FAILURES_MAX);
        }
        assert!(!breaker.may_ask(Millis(REST_MS - 1)));
        assert!(breaker.may_ask(Millis(REST_MS)));
        assert!(!breaker.may_ask(Millis(REST_MS)), "one is on its way");
        assert!(!breaker.failed(Millis(REST_MS)), "it rests already");
        assert!(breaker.may_ask(Millis(2 * REST_MS)));
        breaker.answered();
        assert!(breaker.may_ask(Millis(2 * REST_MS)) && breaker.may_ask(Millis(2 * REST_MS)));
    }
}
