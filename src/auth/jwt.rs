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
    let claims: Map<String, Value> = super::json(&payload).map_err(|_| Refusal::BadCredentials)?;
    bearer(&claims, client_id, rules, now_s).ok_or(Refusal::BadCredentials)
}

/// The payload, if one of the keys has signed it.
fn signed_payload(token: &[u8], keys: &Keys) -> Option<Vec<u8>> {
    let token = std::str::from_utf8(token).ok().filter(|token| token.len() <= TOKEN_BYTES_MAX)?;
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, payload) = signed.split_once('.')?;
    let header: Header = super::json(&decode(header)?).ok()?;
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
        Some(rights) if !rights.is_object() => return None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use ring::hmac;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};

    const NOW_S: u64 = 1_800_000_000;
    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    /// `{"sub":"ada","exp":4102444800}`, signed by OpenSSL.
    const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJhZGEiLCJleHAiOj\
        QxMDI0NDQ4MDB9.ozBiokd\
        11PsE0xiccZTjK1aI7DWjdsmyoY0eOoU_Scr7bGShuHkfPzFy_ydh4uWhcRQyyHdrwNSV6M7w0Z5NJVLiJ9Qy\
        CwN-yFMLWRI5-WVJAHOdZmurgo6rMd2o-sjLTd8Pu3tttXm4LbRr3z-5kaV-\
        TamY0lvaMy9pX_uZMzpxWRjdXQRd0_rYZNLq2pxQDUs7y6r-ChuH9u98_sEsCuFGg73nJPryKlgng-\
        sEYGBVaH_mrIUTOdoDeYf2DBbKsnaN991gWvlD6sQNm7Tk06tPPv-\
        gMKvDmy0EM3Lh0DGoOPjBsWc6x0g_NfgHl04eJ7nz4zMa8F_wDkgPwKj4ng";
    /// The public key of [`RSA_TOKEN`], made by OpenSSL.
    const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAujuRo27jz80LqgpX7g4b
cCvsfp9Au7aAsgwBC/bNL/8ayqbJxzdOUq1IFcXCA+jE2lb7cLqeHL3+TXpuKqum
mmmG6+7pmSOZAzIDrp+JdyKj8sc8+ACr9dqBx2muDue7jyER6Yo1DzEKS8+n1BxS
u2OAYY6TlZU2NZD/jUryEwCi2+pSTfotTs5ep+cKeS2mu8BR2YPU4CQJWC9YN+7T
X41RNbUTWSPU6jIQ7q6ksHEahPs5NyuTZ83GGWN1+PxOJbnf/M67A9bwZvrFAbPE
gj3cbXuHDNZEqHGMm84Dh+HJ9VPzhhfBoVsFo78dOc8k09f4hLiFPTEh+W6ja8Tj
twIDAQAB
-----END PUBLIC KEY-----
";
    /// The same key for a JWKS.
    const RSA_MODULUS: &str = "ujuRo27jz80LqgpX7g4bcCvsfp9Au7aAsgwBC_bNL_8ayqbJxzdOUq1IFcXCA-\
        jE2lb7cLqeHL3-TXpuKqummmmG6-7pmSOZAzIDrp-\
        JdyKj8sc8-ACr9dqBx2muDue7jyER6Yo1DzEKS8-n1BxSu2OAYY6TlZU2NZD_jUryEwCi2-pSTfotTs5ep-cK\
        eS2mu8BR2YPU4CQJWC9YN-7TX41RNbUTWSPU6jIQ7q6ksHEahPs5NyuTZ83GGWN1-\
        PxOJbnf_M67A9bwZvrFAbPEgj3cbXuHDNZEqHGMm84Dh-\
        HJ9VPzhhfBoVsFo78dOc8k09f4hLiFPTEh-W6ja8Tjtw";

    fn encode(bytes: impl AsRef<[u8]>) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token with this header and these claims, signed by `sign`.
    fn token(header: &str, claims: &str, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        format!("{signed}.{}", encode(sign(signed.as_bytes())))
    }

    fn hs256(header: &str, claims: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
        token(header, claims, |signed| hmac::sign(&key, signed).as_ref().to_vec())
    }

    fn secret() -> Keys {
        Keys::secret(SECRET).expect("long enough")
    }

    #[track_caller]
    fn user(token: &str, keys: &Keys) -> Option<String> {
        let rules = Rules::default();
        let bearer = verify(token.as_bytes(), "client", keys, &rules, NOW_S);
        bearer.ok().map(|bearer| bearer.user.to_string())
    }

    const HS: &str = r#"{"alg":"HS256"}"#;

    fn claims(more: &str) -> String {
        format!(r#"{{"sub":"ada","exp":{}{more}}}"#, NOW_S + 60)
    }

    #[test]
    fn each_kind_of_key_checks_its_algorithm() {
        let random = SystemRandom::new();
        let ada = Some("ada".to_owned());
        assert_eq!(user(&hs256(HS, &claims("")), &secret()), ada);
        assert_eq!(user(RSA_TOKEN, &Keys::pem(RSA_PEM).expect("a key")), ada);
        let jwks = |key: String| Keys::jwks(format!(r#"{{"keys":[{key}]}}"#).as_bytes());
        let rsa = format!(r#"{{"kty":"RSA","n":"{RSA_MODULUS}","e":"AQAB"}}"#);
        assert_eq!(user(RSA_TOKEN, &jwks(rsa).expect("a key")), ada);

        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("a key");
        let sign = |signed: &[u8]| pair.sign(signed).as_ref().to_vec();
        let signed = token(r#"{"alg":"EdDSA"}"#, &claims(""), sign);
        let x = encode(pair.public_key());
        let key = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#);
        assert_eq!(user(&signed, &jwks(key).expect("a key")), ada);

        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("a key");
        let sign = |signed: &[u8]| pair.sign(&random, signed).expect("signs").as_ref().to_vec();
        let signed = token(r#"{"alg":"ES256"}"#, &claims(""), sign);
        let point = pair.public_key().as_ref();
        let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
        let key = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","alg":"ES256"}}"#);
        assert_eq!(user(&signed, &jwks(key).expect("a key")), ada);
    }

    /// The header cannot choose what a key is used for.
    #[test]
    fn algorithms_cannot_be_confused() {
        let rsa = Keys::pem(RSA_PEM).expect("a key");
        let public = hmac::Key::new(hmac::HMAC_SHA256, RSA_PEM.as_bytes());
        let forged = token(HS, &claims(""), |signed| hmac::sign(&public, signed).as_ref().to_vec());
        assert_eq!(user(&forged, &rsa), None);
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None"}"#,
            r#"{"alg":""}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            "{}",
            r#"{"alg":"HS256","crit":["x"]}"#,
            r#"{"alg":["HS256"]}"#,
        ] {
            assert_eq!(user(&hs256(header, &claims("")), &secret()), None, "{header}");
            assert_eq!(user(&token(header, &claims(""), |_| Vec::new()), &secret()), None);
        }
    }

    #[test]
    fn what_was_changed_is_refused() {
        let good = hs256(HS, &claims(""));
        let (signed, signature) = good.rsplit_once('.').expect("two dots");
        let (header, payload) = signed.split_once('.').expect("two dots");
        for wrong in [
            String::new(),
            "..".into(),
            format!("{header}.{payload}"),
            format!("{header}.{payload}."),
            format!("{header}.{}.{signature}", encode(claims(r#","admin":true"#))),
            format!("{header}.{payload}.{}", &signature[..signature.len() - 1]),
            format!("{header}.{payload}.{signature}="),
            format!("{header}.{payload}.{signature}.{signature}"),
            format!("{good} "),
        ] {
            assert_eq!(user(&wrong, &secret()), None, "{wrong}");
        }
        let other = Keys::secret(b"another secret of thirty-two byte").expect("long enough");
        assert_eq!(user(&good, &other), None);
    }

    #[test]
    fn times_are_kept_with_leeway() {
        let at = |claims: &str| user(&hs256(HS, claims), &secret()).is_some();
        let exp = |s: u64| format!(r#"{{"sub":"a","exp":{s}}}"#);
        assert!(at(&exp(NOW_S - 29)) && !at(&exp(NOW_S - 30)) && !at(&exp(0)));
        assert!(at(&format!(r#"{{"sub":"a","exp":{NOW_S}.5}}"#)));
        let from = |name: &str, s: u64| format!(r#"{{"sub":"a","exp":9e9,"{name}":{s}}}"#);
        for name in ["nbf", "iat"] {
            assert!(at(&from(name, NOW_S + 30)) && !at(&from(name, NOW_S + 31)), "{name}");
        }
        for wrong in [
            r#"{"sub":"a"}"#,
            r#"{"sub":"a","exp":"9999999999"}"#,
            r#"{"sub":"a","exp":-1}"#,
            r#"{"sub":"a","exp":1e300}"#,
            r#"{"sub":"a","exp":9e9,"nbf":"x"}"#,
            r#"{"exp":9e9}"#,
            r#"{"sub":"","exp":9e9}"#,
            r#"{"sub":1,"exp":9e9}"#,
            r#"{"sub":"a\u0000","exp":9e9}"#,
            "[]",
            "",
        ] {
            assert!(!at(wrong), "{wrong}");
        }
    }

    #[test]
    fn issuer_audience_and_client_identifier_must_fit() {
        let rules = Rules {
            issuer: Some("me".into()),
            audience: Some("mqtt".into()),
            client_id_claim: Some("cid".into()),
            ..Rules::default()
        };
        let fits = |more: &str| {
            let token = hs256(HS, &claims(more));
            verify(token.as_bytes(), "client", &secret(), &rules, NOW_S).is_ok()
        };
        assert!(fits(r#","iss":"me","aud":"mqtt""#));
        assert!(fits(r#","iss":"me","aud":["x","mqtt"],"cid":"client""#));
        for wrong in [
            "",
            r#","iss":"me""#,
            r#","iss":"you","aud":"mqtt""#,
            r#","iss":"me","aud":["x"]"#,
            r#","iss":"me","aud":"mqtt","cid":"other""#,
            r#","iss":"me","aud":"mqtt","cid":7"#,
        ] {
            assert!(!fits(wrong), "{wrong}");
        }
    }

    #[test]
    fn rights_come_with_the_token() {
        let rules = Rules { acl_claim: Some("acl".into()), ..Rules::default() };
        let rights = |more: &str| {
            let token = hs256(HS, &claims(more));
            let bearer = verify(token.as_bytes(), "client", &secret(), &rules, NOW_S);
            bearer.map(|bearer| bearer.claims)
        };
        assert_eq!(rights(""), Ok(None));
        let all = Claims { publish: vec!["a/#".into()], ..Claims::default() };
        assert_eq!(rights(r#","acl":{"publish":["a/#"]}"#), Ok(Some(all)));
        assert_eq!(rights(r#","acl":{}"#), Ok(Some(Claims::default())), "no right at all");
        for wrong in [r#","acl":[]"#, r#","acl":"a/#""#, r#","acl":{"read":["a"]}"#] {
            assert_eq!(rights(wrong), Err(Refusal::BadCredentials), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_name() {
        let k = encode(SECRET);
        let set = format!(
            r#"{{"keys":[{{"kty":"oct","kid":"old","k":"{}"}},{{"kty":"oct","kid":"new","k":"{k}"}},
               {{"kty":"RSA","use":"enc"}}]}}"#,
            encode([1; 32])
        );
        let keys = Keys::jwks(set.as_bytes()).expect("legal");
        let named = |kid: &str| hs256(&format!(r#"{{"alg":"HS256","kid":"{kid}"}}"#), &claims(""));
        assert!(
            user(&named("new"), &keys).is_some() && user(&hs256(HS, &claims("")), &keys).is_some()
        );
        assert!(user(&named("old"), &keys).is_none() && user(&named("?"), &keys).is_none());
    }

    #[test]
    fn keys_that_cannot_be_used_are_refused() {
        for wrong in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            r#"{"keys":[{"kty":"oct"}]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]}"#,
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
            r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
            r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}"#,
        ] {
            assert!(Keys::jwks(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let k = encode(SECRET);
        let other = format!(r#"{{"keys":[{{"kty":"oct","k":"{k}","alg":"RS256"}}]}}"#);
        assert!(Keys::jwks(other.as_bytes()).is_err());
        assert!(Keys::secret(&SECRET[1..]).is_err());
        for wrong in ["", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
            assert!(Keys::pem(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_tokens_look_like_tokens() {
        assert!(looks_like_token(RSA_TOKEN.as_bytes()));
        for other in ["", "secret", "ey", "ey.a", "ey.a.b.c", "xx.a.b", "ey.a.b c"] {
            assert!(!looks_like_token(other.as_bytes()), "{other}");
        }
    }
}
