//! SCRAM-SHA-256 as the server sees it (RFC 5802, RFC 7677), without channel binding.
//!
//! ```text
//!  client-first  n,,n=USER,r=CNONCE        ──▶
//!                                          ◀── server-first  r=CNONCE+SNONCE,s=SALT,i=ITERATIONS
//!  client-final  c=biws,r=NONCE,p=PROOF    ──▶
//!                                          ◀── server-final  v=SIGNATURE
//! ```
//!
//! Promise: the server keeps no password and nothing a client could log in with; a user who does
//! not exist gets a challenge that looks like any other, the same one each time, and fails at the
//! end. Two messages of a client make one [`Exchange`]; each is used once.
//! Not here: randomness (the server's nonce is an argument), AUTH packets (`shard`).

use super::file::{FileError, records};
use ahash::AHashMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Name of the method in CONNECT and AUTH.
pub const METHOD: &str = "SCRAM-SHA-256";
/// Iterations of new credentials if nobody says otherwise; the least of RFC 7677.
pub const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
/// Bytes of salt of new credentials.
pub const SALT_BYTES: usize = 16;
/// Random bytes of the server's part of the nonce.
pub const NONCE_BYTES: usize = 18;

const KEY_BYTES: usize = 32;
const ITERATIONS_MAX: u32 = 10_000_000;
const SALT_BYTES_MAX: usize = 64;
/// Longest message of a client; what is legal is far below.
const MESSAGE_BYTES_MAX: usize = 4096;
/// Longest nonce of a client.
const CLIENT_NONCE_BYTES_MAX: usize = 256;

/// What the server knows of one password.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    iterations: NonZeroU32,
    salt: Vec<u8>,
    client_digest: [u8; KEY_BYTES],
    server_key: [u8; KEY_BYTES],
}

impl Stored {
    /// Of a new password; `salt` is random. The password is taken as it is (ASCII needs no SASL
    /// preparation).
    pub fn new(password: &[u8], iterations: NonZeroU32, salt: &[u8]) -> Stored {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let client_key = mac(&salted, b"Client Key");
        Stored {
            iterations,
            salt: salt.to_vec(),
            client_digest: sha256(&client_key),
            server_key: mac(&salted, b"Server Key"),
        }
    }

    /// Reads `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, all base64 (the text form of
    /// RFC 5803 that other servers use too).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Stored, &'static str> {
        const FORM: &str = "must be SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY";
        let rest = text.strip_prefix(METHOD).and_then(|rest| rest.strip_prefix('$'));
        let (head, keys) = rest.and_then(|rest| rest.split_once('$')).ok_or(FORM)?;
        let (iterations, salt) = head.split_once(':').ok_or(FORM)?;
        let (stored_key, server_key) = keys.split_once(':').ok_or(FORM)?;
        let plain = iterations.bytes().all(|byte| byte.is_ascii_digit());
        let iterations = iterations.parse::<u32>().ok().filter(|n| plain && *n <= ITERATIONS_MAX);
        let iterations = iterations
            .and_then(NonZeroU32::new)
            .filter(|iterations| *iterations >= ITERATIONS)
            .ok_or("iterations must be from 4096 to 10000000")?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| "must be base64 with padding");
        let salt = decode(salt)?;
        if !(1..=SALT_BYTES_MAX).contains(&salt.len()) {
            return Err("the salt must have 1 to 64 bytes");
        }
        let key =
            |text: &str| decode(text)?.try_into().map_err(|_| "the keys must have 32 bytes each");
        let (client_digest, server_key) = (key(stored_key)?, key(server_key)?);
        Ok(Stored { iterations, salt, client_digest, server_key })
    }
}

/// The line's right half.
impl fmt::Display for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] = [&self.salt[..], &self.client_digest, &self.server_key]
            .map(|bytes| STANDARD.encode(bytes));
        write!(out, "{METHOD}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Stored({} iterations)", self.iterations)
    }
}

/// A file of SCRAM users.
#[derive(Debug)]
pub struct ScramFile {
    users: AHashMap<Arc<str>, Stored>,
    /// Makes up salts for users who do not exist.
    secret: [u8; KEY_BYTES],
}

impl ScramFile {
    /// Reads a whole file; see [`records`]. `secret` is random.
    ///
    /// # Errors
    /// The first wrong line.
    pub fn parse(bytes: &[u8], secret: [u8; KEY_BYTES]) -> Result<ScramFile, FileError> {
        let mut users = AHashMap::new();
        for record in records(bytes) {
            let (line, user, text) = record?;
            let stored = Stored::parse(text).map_err(|message| FileError { line, message })?;
            if users.insert(Arc::from(user), stored).is_some() {
                return Err(FileError { line, message: "this user is there twice" });
            }
        }
        Ok(ScramFile { users, secret })
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    fn find(&self, user: &str) -> (Stored, bool) {
        if let Some(stored) = self.users.get(user) {
            return (stored.clone(), true);
        }
        let [salt, client_digest, server_key] = ["salt", "stored", "server"].map(|purpose| {
            mac(&self.secret, &[purpose.as_bytes(), b"\0", user.as_bytes()].concat())
        });
        let salt = salt.get(..SALT_BYTES).unwrap_or_default().to_vec();
        (Stored { iterations: ITERATIONS, salt, client_digest, server_key }, false)
    }

    /// Answers the client's first message: the exchange and the server's first message.
    ///
    /// # Errors
    /// [`Failed`]: the message is not well formed or wants what is not offered.
    pub fn begin(
        &self,
        client_first: &[u8],
        nonce: [u8; NONCE_BYTES],
    ) -> Result<(Exchange, Vec<u8>), Failed> {
        let message = text(client_first)?;
        // `p=…` asks for channel binding, which is not offered.
        // An authorisation identity (`n,a=…`) would make somebody act for somebody else.
        let Some((gs2 @ ("n,," | "y,,"), bare)) = message.split_at_checked(3) else {
            return Err(Failed);
        };
        let mut fields = bare.split(',');
        let user = fields.next().and_then(|field| field.strip_prefix("n=")).ok_or(Failed)?;
        let client_nonce =
            fields.next().and_then(|field| field.strip_prefix("r=")).ok_or(Failed)?;
        let printable = client_nonce.bytes().all(|byte| byte.is_ascii_graphic());
        if client_nonce.is_empty() || client_nonce.len() > CLIENT_NONCE_BYTES_MAX || !printable {
            return Err(Failed);
        }
        let user = unescape(user)?;
        let (stored, known) = self.find(&user);
        let nonce = format!("{client_nonce}{}", STANDARD.encode(nonce));
        let salt = STANDARD.encode(&stored.salt);
        let server_first = format!("r={nonce},s={salt},i={}", stored.iterations);
        let exchange = Exchange {
            user: user.into(),
            signed: format!("{bare},{server_first},"),
            binding: STANDARD.encode(gs2),
            nonce,
            stored,
            known,
        };
        Ok((exchange, server_first.into_bytes()))
    }
}

/// The message is malformed, or the proof is wrong; who asks is not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// An exchange that waits for the client's proof. Nothing in it comes from the client unchecked.
pub struct Exchange {
    user: Arc<str>,
    /// `client-first-bare,server-first,`, the beginning of what is signed.
    signed: String,
    binding: String,
    nonce: String,
    stored: Stored,
    known: bool,
}

impl Exchange {
    /// Who wants to log in; not proven yet.
    pub fn user(&self) -> &Arc<str> {
        &self.user
    }

    /// Checks the client's final message. Gives the user, proven, and the server's final message.
    ///
    /// # Errors
    /// [`Failed`]; the exchange is over.
    pub fn finish(self, client_final: &[u8]) -> Result<(Arc<str>, Vec<u8>), Failed> {
        let message = text(client_final)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(Failed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        if binding != Some(&self.binding) || nonce != Some(&self.nonce) {
            return Err(Failed);
        }
        let proof: [u8; KEY_BYTES] = decoded(proof)?;
        let signed = format!("{}{without_proof}", self.signed);
        let signature = mac(&self.stored.client_digest, signed.as_bytes());
        let mut client_key = proof;
        client_key.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        let matches: bool = sha256(&client_key).ct_eq(&self.stored.client_digest).into();
        if !(matches && self.known) {
            return Err(Failed);
        }
        let verifier = STANDARD.encode(mac(&self.stored.server_key, signed.as_bytes()));
        Ok((self.user, format!("v={verifier}").into_bytes()))
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Exchange").field("user", &self.user).finish_non_exhaustive()
    }
}

fn text(bytes: &[u8]) -> Result<&str, Failed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Failed)?;
    let legal = text.len() <= MESSAGE_BYTES_MAX && !text.contains('\0');
    if legal { Ok(text) } else { Err(Failed) }
}

fn decoded(text: &str) -> Result<[u8; KEY_BYTES], Failed> {
    STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Failed)
}

/// `=2C` is a comma, `=3D` an equals sign, any other `=` an error (RFC 5802 §5.1).
fn unescape(name: &str) -> Result<String, Failed> {
    let mut pieces = name.split('=');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (sign, rest) = match piece.split_at_checked(2) {
            Some(("2C", rest)) => (',', rest),
            Some(("3D", rest)) => ('=', rest),
            Some(_) | None => return Err(Failed),
        };
        out.push(sign);
        out.push_str(rest);
    }
    if out.is_empty() { Err(Failed) } else { Ok(out) }
}

fn sha256(bytes: &[u8]) -> [u8; KEY_BYTES] {
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn mac(key: &[u8], message: &[u8]) -> [u8; KEY_BYTES] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: [u8; KEY_BYTES] = [7; KEY_BYTES];

    /// The example of RFC 7677 §3, whose server nonce is no base64 of 18 bytes: put in by hand.
    #[test]
    fn the_example_of_the_rfc_is_accepted() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let stored = Stored::new(b"pencil", ITERATIONS, &salt);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let server_first = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let exchange = Exchange {
            user: "user".into(),
            signed: format!("n=user,r=rOprNGfwEbeRWgbNEkqO,{server_first},"),
            binding: "biws".into(),
            nonce: nonce.into(),
            stored,
            known: true,
        };
        let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let (user, last) =
            exchange.finish(format!("c=biws,r={nonce},p={proof}").as_bytes()).expect("the proof");
        assert_eq!(&*user, "user");
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }

    fn file() -> ScramFile {
        let stored = Stored::new(b"pencil", ITERATIONS, &[1; 16]);
        let text = format!("# users\nada:{stored}\n");
        ScramFile::parse(text.as_bytes(), SECRET).expect("valid")
    }

    /// The client's final message.
    fn answer(first_bare: &str, server_first: &[u8], password: &[u8]) -> String {
        let server_first = std::str::from_utf8(server_first).expect("text");
        let mut fields = server_first.split(',').map(|field| &field[2..]);
        let nonce = fields.next().expect("nonce");
        let salt = STANDARD.decode(fields.next().expect("salt")).expect("base64");
        let iterations = fields.next().and_then(|i| i.parse().ok()).expect("iterations");
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
        let mut proof = mac(&salted, b"Client Key");
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{first_bare},{server_first},{without_proof}");
        let signature = mac(&sha256(&proof), signed.as_bytes());
        proof.iter_mut().zip(signature).for_each(|(byte, mask)| *byte ^= mask);
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    #[test]
    fn the_right_password_is_proven() {
        let (exchange, first) = file().begin(b"n,,n=ada,r=abc", [3; 18]).expect("well formed");
        let last = answer("n=ada,r=abc", &first, b"pencil");
        assert_eq!(exchange.finish(last.as_bytes()).expect("proven").0.as_ref(), "ada");
    }

    #[test]
    fn wrong_password_and_unknown_user_fail_at_the_end() {
        for (user, password) in [("ada", "pen"), ("eve", "pencil"), ("eve", "")] {
            let bare = format!("n={user},r=abc");
            let first = format!("n,,{bare}");
            let (exchange, challenge) = file().begin(first.as_bytes(), [3; 18]).expect("formed");
            let again = file().begin(first.as_bytes(), [3; 18]).expect("formed").1;
            assert_eq!(challenge, again, "the made-up salt does not change");
            let last = answer(&bare, &challenge, password.as_bytes());
            assert!(exchange.finish(last.as_bytes()).is_err(), "{user}");
        }
    }

    #[test]
    fn a_proof_is_good_for_one_nonce() {
        let (_, first) = file().begin(b"n,,n=ada,r=abc", [3; 18]).expect("well formed");
        let last = answer("n=ada,r=abc", &first, b"pencil");
        let (later, _) = file().begin(b"n,,n=ada,r=abc", [4; 18]).expect("well formed");
        assert!(later.finish(last.as_bytes()).is_err());
    }

    #[test]
    fn malformed_first_messages_fail() {
        for message in [
            "",
            "n,",
            "n,,",
            "n,,n=,r=a",
            "n,,n=a",
            "n,,n=a,r=",
            "n,,r=a,n=a",
            "p=tls-unique,,n=a,r=b",
            "n,a=eve,n=ada,r=b",
            "n,,n=a=b,r=c",
            "n,,n=a=2,r=c",
            "n,,n=a,r=b c",
            "n,,m=x,n=a,r=b",
        ] {
            assert!(file().begin(message.as_bytes(), [0; 18]).is_err(), "{message}");
        }
        assert!(file().begin(&[0xff], [0; 18]).is_err());
        let long = format!("n,,n={},r=a", "x".repeat(MESSAGE_BYTES_MAX));
        assert!(file().begin(long.as_bytes(), [0; 18]).is_err());
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(unescape("a=2Cb=3Dc").as_deref(), Ok("a,b=c"));
        for wrong in ["=", "=2", "a=2c", "=41"] {
            assert_eq!(unescape(wrong), Err(Failed), "{wrong}");
        }
    }

    #[test]
    fn stored_keys_survive_their_text() {
        let stored = Stored::new(b"pencil", ITERATIONS, &[1; 16]);
        assert_eq!(Stored::parse(&stored.to_string()), Ok(stored.clone()));
        for wrong in [
            "",
            "SCRAM-SHA-256",
            "SCRAM-SHA-1$4096:AQ==$AA==:AA==",
            "SCRAM-SHA-256$4096:AQ==$AA==:AA==",
            "SCRAM-SHA-256$4095:AQ==$AA==:AA==",
            "SCRAM-SHA-256$+4096:AQ==$AA==:AA==",
        ] {
            assert!(Stored::parse(wrong).is_err(), "{wrong}");
        }
    }
}
