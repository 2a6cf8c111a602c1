//! JSON Web Tokens (RFC 7519) as passwords: signatures, times and claims.
//!
//! Promise: the *key* decides which algorithm a signature must have; the token's header only
//! chooses among the keys that are there. So an HMAC token signed with a public key, and `none`,
//! have no way in. Every token needs `exp`.
//! Not here: fetching keys, the clock (seconds since 1970 are an argument).

use super::keys::Keys;
use super::{Claims, Refusal};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// Longest token; a CONNECT cannot carry a longer password.
pub const TOKEN_BYTES_MAX: usize = 65_535;

/// What a token must say, and what is taken from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must be this, or hold it.
    pub audience: Option<String>,
    /// Seconds by which clocks may differ.
    pub leeway_s: u64,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that the client identifier must equal, if the token has it.
    pub client_id_claim: Option<String>,
    /// The claim with rights: `{"publish": [FILTER…], "subscribe": […], "deny": […]}`. A token
    /// without it has those of its user.
    pub acl_claim: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            issuer: None,
            audience: None,
            leeway_s: 30,
            user_claim: "sub".into(),
            client_id_claim: None,
            acl_claim: None,
        }
    }
}

/// What a token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Who it is.
    pub user: Arc<str>,
    /// When the token ends, in seconds since 1970.
    pub expires_s: u64,
    /// What the bearer may do, if the token says.
    pub claims: Option<Claims>,
}

/// The part of a header that matters.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<Value>,
}

/// Three parts of the right alphabet: it is meant as a token, good or not.
pub fn looks_like_token(password: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    password.starts_with(b"ey")
        && password.iter().all(legal)
        && password.split(|byte| *byte == b'.').count() == 3
}

/// Checks a token: signature first, then times, then claims.
///
/// # Errors
/// [`Refusal::BadCredentials`] without more: what exactly is wrong goes to nobody outside.
pub fn verify(
    token: &[u8],
    client_id: &str,
    keys: &Keys,
    rules: &Rules,
    now_s: u64,
) -> Result<Bearer, Refusal> {
    let payload = signed_payload(token, keys).ok_or(Refusal::BadCredentials)?;
    let claims: Map<String, Value> =
        serde_json::from_slice(&payload).map_err(|_| Refusal::BadCredentials)?;
    bearer(&claims, client_id, rules, now_s).ok_or(Refusal::BadCredentials)
}

/// The payload, if one of the keys has signed it.
fn signed_payload(token: &[u8], keys: &Keys) -> Option<Vec<u8>> {
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= TOKEN_BYTES_MAX)?;
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = serde_json::from_slice(&decode(header)?).ok()?;
    if header.crit.is_some() {
        return None;
    }
    let signature = decode(signature)?;
    let payload = decode(payload)?;
    let signed = signed.as_bytes();
    let fits = |key_id: &Option<String>| header.kid.is_none() || *key_id == header.kid;
    let mut candidates = keys.with_algorithm(&header.alg).filter(|(id, _)| fits(id));
    candidates.any(|(_, key)| key.verify(signed, &signature)).then_some(payload)
}

fn bearer(
    claims: &Map<String, Value>,
    client_id: &str,
    rules: &Rules,
    now_s: u64,
) -> Option<Bearer> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let expires_s = seconds(claims.get("exp")?)?;
    if expires_s.saturating_add(rules.leeway_s) <= now_s {
        return None;
    }
    for name in ["nbf", "iat"] {
        if let Some(value) = claims.get(name)
            && seconds(value)? > now_s.saturating_add(rules.leeway_s)
        {
            return None;
        }
    }
    if rules.issuer.as_deref().is_some_and(|issuer| text("iss") != Some(issuer)) {
        return None;
    }
    if rules.audience.as_deref().is_some_and(|audience| !is_for(claims.get("aud"), audience)) {
        return None;
    }
    if let Some(claim) = rules.client_id_claim.as_deref().and_then(|name| claims.get(name))
        && claim.as_str() != Some(client_id)
    {
        return None;
    }
    let user = text(&rules.user_claim).filter(|user| !user.is_empty() && !user.contains('\0'))?;
    let rights = rules.acl_claim.as_deref().and_then(|name| claims.get(name));
    let rights: Option<Claims> = match rights {
        Some(rights) => Some(serde_json::from_value(rights.clone()).ok()?),
        None => None,
    };
    if rights.as_ref().is_some_and(|rights| !rights.is_bounded()) {
        return None;
    }
    Some(Bearer { user: user.into(), expires_s, claims: rights })
}

fn is_for(audience: Option<&Value>, wanted: &str) -> bool {
    match audience {
        Some(Value::String(one)) => one == wanted,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(wanted)),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => false,
    }
}

/// A `NumericDate`; fractions are cut off.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let seconds = value.as_f64().filter(|seconds| (0.0..1e15).contains(seconds))?;
        format!("{:.0}", seconds.floor()).parse().ok()
    })
}

fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}
