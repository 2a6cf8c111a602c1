//! Keys that sign tokens: a secret, a public key in PEM, or a JWKS file (RFC 7517).
//!
//! Each key is of one kind and takes one algorithm:
//! secret HS256, RSA RS256, P-256 ES256, Ed25519 `EdDSA`.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;
use std::fmt;

/// Shortest secret: as many bits as the hash has (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Most keys of one file.
const KEYS_MAX: usize = 100;
/// Shortest RSA modulus, 2048 bits.
const RSA_BYTES_MIN: usize = 256;
const RSA_BYTES_MAX: usize = 1024;

/// A key and what it is called, if it is.
type Named = (Option<String>, Key);

/// All keys that may sign.
#[derive(Debug, Default)]
pub struct Keys(Vec<Named>);

/// One key.
pub enum Key {
    /// HS256.
    Secret(hmac::Key),
    /// RS256: modulus and exponent.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// ES256: an uncompressed point.
    P256(Vec<u8>),
    /// `EdDSA`.
    Ed25519(Vec<u8>),
}

impl Key {
    /// The one algorithm it is for.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Key::Secret(_) => "HS256",
            Key::Rsa(_) => "RS256",
            Key::P256(_) => "ES256",
            Key::Ed25519(_) => "EdDSA",
        }
    }

    /// Has this key signed the message.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Key::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok(),
            Key::P256(point) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                key.verify(message, signature).is_ok()
            }
            Key::Ed25519(bytes) => {
                UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.algorithm())
    }
}

/// One entry of a JWKS; members that are not named here do not matter.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

impl Keys {
    /// A shared secret.
    ///
    /// # Errors
    /// It is too short.
    pub fn secret(secret: &[u8]) -> Result<Keys, String> {
        Ok(Keys(vec![(None, hmac_key(secret)?)]))
    }

    /// All keys of a JWKS file. A key for encryption is left out.
    ///
    /// # Errors
    /// What is wrong, in one line: no JSON, no key, or a key that cannot be used.
    pub fn jwks(bytes: &[u8]) -> Result<Keys, String> {
        let set: Jwks = super::json(bytes)?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("more than {KEYS_MAX} keys"));
        }
        let mut keys = Vec::new();
        for (index, jwk) in set.keys.into_iter().enumerate() {
            if jwk.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
                continue;
            }
            let key = jwk.key().map_err(|why| format!("key {}: {why}", index + 1))?;
            if jwk.alg.as_deref().is_some_and(|alg| alg != key.algorithm()) {
                return Err(format!("key {}: its alg does not fit its kind", index + 1));
            }
            keys.push((jwk.kid, key));
        }
        if keys.is_empty() { Err("there is no key to sign with".into()) } else { Ok(Keys(keys)) }
    }

    /// The public key of a PEM text (`BEGIN PUBLIC KEY`): RSA, P-256 or Ed25519.
    ///
    /// # Errors
    /// What is wrong, in one line.
    pub fn pem(text: &str) -> Result<Keys, String> {
        let body = text
            .split_once("-----BEGIN PUBLIC KEY-----")
            .and_then(|(_, rest)| rest.split_once("-----END PUBLIC KEY-----"))
            .ok_or("there is no PUBLIC KEY in it")?
            .0;
        let body: String = body.split_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| "the key is not base64")?;
        let key = public_key(&der).ok_or("the key is not RSA, P-256 or Ed25519")?;
        checked(key).map(|key| Keys(vec![(None, key)]))
    }

    /// Takes the keys of another source too.
    pub fn add(&mut self, other: Keys) {
        self.0.extend(other.0);
    }

    /// Drops the keys for other algorithms.
    pub fn restrict(&mut self, algorithms: &[String]) {
        self.0.retain(|(_, key)| algorithms.iter().any(|name| name == key.algorithm()));
    }

    /// Is there none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys for one algorithm, with their names.
    pub(super) fn with_algorithm(&self, name: &str) -> impl Iterator<Item = &Named> {
        self.0.iter().filter(move |(_, key)| key.algorithm() == name)
    }
}

impl Jwk {
    fn key(&self) -> Result<Key, String> {
        let bytes = |member: &Option<String>, name: &str| {
            let text = member.as_deref().ok_or_else(|| format!("{name} is missing"))?;
            URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("{name} is not base64url"))
        };
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => hmac_key(&bytes(&self.k, "k")?),
            ("RSA", _) => {
                let (n, e) = (bytes(&self.n, "n")?, bytes(&self.e, "e")?);
                checked(Key::Rsa(RsaPublicKeyComponents { n, e }))
            }
            ("EC", Some("P-256")) => {
                let point = [vec![4], bytes(&self.x, "x")?, bytes(&self.y, "y")?].concat();
                checked(Key::P256(point))
            }
            ("OKP", Some("Ed25519")) => checked(Key::Ed25519(bytes(&self.x, "x")?)),
            _ => Err("this kind of key is not supported".into()),
        }
    }
}

fn hmac_key(secret: &[u8]) -> Result<Key, String> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("the secret must have {SECRET_BYTES_MIN} bytes or more"));
    }
    Ok(Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)))
}

/// Lengths; the library checks the rest at each use.
fn checked(key: Key) -> Result<Key, String> {
    let legal = match &key {
        Key::Rsa(key) => (RSA_BYTES_MIN..=RSA_BYTES_MAX).contains(&key.n.len()),
        Key::P256(point) => point.len() == 65,
        Key::Ed25519(bytes) => bytes.len() == 32,
        Key::Secret(_) => true,
    };
    if legal {
        Ok(key)
    } else {
        Err("the key has the wrong length (RSA: 2048 bits or more)".into())
    }
}

/// `SubjectPublicKeyInfo` (RFC 5280): SEQUENCE { SEQUENCE { OID … }, BIT STRING }.
fn public_key(der: &[u8]) -> Option<Key> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
    let (info, _) = element(0x30, der)?;
    let (algorithm, rest) = element(0x30, info)?;
    let (oid, parameters) = element(0x06, algorithm)?;
    let (bits, _) = element(0x03, rest)?;
    // The first byte counts unused bits.
    let (0, bits) = bits.split_first().map(|(unused, bits)| (*unused, bits))? else { return None };
    match oid {
        RSA => {
            let (numbers, _) = element(0x30, bits)?;
            let (n, rest) = element(0x02, numbers)?;
            let (e, _) = element(0x02, rest)?;
            let plain = |number: &[u8]| number.iter().copied().skip_while(|b| *b == 0).collect();
            Some(Key::Rsa(RsaPublicKeyComponents { n: plain(n), e: plain(e) }))
        }
        EC if element(0x06, parameters)?.0 == P256 => Some(Key::P256(bits.to_vec())),
        ED25519 => Some(Key::Ed25519(bits.to_vec())),
        _ => None,
    }
}

/// Contents of a DER element with this tag at the front, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match *length {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => (usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])), rest.get(2..)?),
        _ => return None,
    };
    (*first == tag).then(|| rest.split_at_checked(length)).flatten()
}
