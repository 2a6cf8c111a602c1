//! Password hashes in Mosquitto's three formats, and the file of them.
//!
//! ```text
//! $6$SALT$HASH                        SHA-512 of password and salt, one round; base64 with padding
//! $7$ITERATIONS$SALT$HASH             PBKDF2 with HMAC-SHA-512; base64 with padding
//! $argon2id$v=19$m=KIB,t=N,p=N$SALT$HASH   Argon2id, PHC string; base64 without padding
//! ```
//!
//! Promise: what does not read as one of these is an error with its line, never a user without
//! password; comparing takes the same time wherever two hashes differ; a user who does not exist
//! costs as much as one who does.
//! Not here: files, threads. A check takes up to seconds of CPU, so it must not run on a shard.

use super::file::{FileError, records};
use ahash::{AHashMap, RandomState};
use argon2::{Algorithm, Argon2, Params};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{digest, pbkdf2};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Random bytes for the salt of a new hash.
pub const SALT_BYTES: usize = 64;
/// Of these, those that Mosquitto up to 2.0 takes with `$6$` and `$7$`: 12, no more and no less.
const OLD_SALT_BYTES: usize = 12;
const HASH_BYTES: usize = 64;
const SALT_BYTES_MIN: usize = 8;
const ITERATIONS_MAX: u32 = 10_000_000;
/// Memory, passes and lanes above which one login would be an attack on the server.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 32;
const ARGON2_LANES_MAX: u32 = 16;
const ARGON2_HASH_BYTES_MIN: usize = 16;

/// How a new password is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One round of SHA-512: for old tools only.
    Sha512,
    /// PBKDF2 with HMAC-SHA-512 and so many iterations.
    Pbkdf2(NonZeroU32),
    /// Argon2id with 46 MiB, one pass and one lane.
    Argon2id,
}

impl Method {
    /// Iterations of PBKDF2 if nobody says otherwise; what Mosquitto 2.1 takes.
    pub const PBKDF2_ITERATIONS: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");
    /// KiB of memory of Argon2id, as Mosquitto 2.1 has it.
    const ARGON2_KIB: u32 = 47_104;
}

/// One hashed password.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash {
    kind: Kind,
    salt: Vec<u8>,
    output: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sha512,
    Pbkdf2 { iterations: NonZeroU32 },
    Argon2id { kib: u32, passes: u32, lanes: u32 },
}

impl Hash {
    /// Hashes a new password. `salt` is random and never used twice; the method says how much of it
    /// is taken.
    ///
    /// # Panics
    /// Never: the parameters are legal.
    pub fn new(method: Method, password: &[u8], salt: [u8; SALT_BYTES]) -> Hash {
        let kind = match method {
            Method::Sha512 => Kind::Sha512,
            Method::Pbkdf2(iterations) => Kind::Pbkdf2 { iterations },
            Method::Argon2id => Kind::Argon2id { kib: Method::ARGON2_KIB, passes: 1, lanes: 1 },
        };
        let salt = match method {
            Method::Sha512 | Method::Pbkdf2(_) => salt.get(..OLD_SALT_BYTES).unwrap_or(&salt),
            Method::Argon2id => &salt,
        };
        let mut hash = Hash { kind, salt: salt.to_vec(), output: vec![0; HASH_BYTES] };
        hash.output = hash.compute(password).expect("the parameters are legal");
        hash
    }

    /// Reads one of the three formats.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Hash, &'static str> {
        let rest =
            text.strip_prefix('$').ok_or("the password is not hashed (see culex passwd -U)")?;
        let fields: Vec<&str> = rest.split('$').collect();
        let (kind, salt, hash) = match fields[..] {
            ["6", salt, hash] => (Kind::Sha512, padded(salt)?, padded(hash)?),
            ["7", iterations, salt, hash] => {
                let iterations = number(iterations, ITERATIONS_MAX)
                    .and_then(NonZeroU32::new)
                    .ok_or("iterations must be from 1 to 10000000")?;
                (Kind::Pbkdf2 { iterations }, padded(salt)?, padded(hash)?)
            }
            ["argon2id", "v=19", parameters, salt, hash] => {
                (argon2_kind(parameters)?, unpadded(salt)?, unpadded(hash)?)
            }
            ["argon2id", ..] => return Err("Argon2id must be of version 19"),
            _ => return Err("the hash is not of a known kind ($6$, $7$, $argon2id$)"),
        };
        let hash_bytes_min = match kind {
            Kind::Sha512 | Kind::Pbkdf2 { .. } => HASH_BYTES,
            Kind::Argon2id { .. } => ARGON2_HASH_BYTES_MIN,
        };
        if !(SALT_BYTES_MIN..=SALT_BYTES).contains(&salt.len()) {
            return Err("the salt must have 8 to 64 bytes");
        }
        if !(hash_bytes_min..=HASH_BYTES).contains(&hash.len()) {
            return Err("the hash has the wrong length");
        }
        Ok(Hash { kind, salt, output: hash })
    }

    /// Is it the password. Takes as long as the parameters say, up to seconds.
    pub fn verify(&self, password: &[u8]) -> bool {
        self.compute(password).is_some_and(|hash| hash.ct_eq(&self.output).into())
    }

    /// So weak that a stolen file is as good as the passwords.
    pub fn is_weak(&self) -> bool {
        self.kind == Kind::Sha512
    }

    fn compute(&self, password: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; self.output.len()];
        match self.kind {
            Kind::Sha512 => {
                let mut context = digest::Context::new(&digest::SHA512);
                context.update(password);
                context.update(&self.salt);
                out.copy_from_slice(context.finish().as_ref());
            }
            Kind::Pbkdf2 { iterations } => {
                let algorithm = pbkdf2::PBKDF2_HMAC_SHA512;
                pbkdf2::derive(algorithm, iterations, &self.salt, password, &mut out);
            }
            Kind::Argon2id { kib, passes, lanes } => {
                let params = Params::new(kib, passes, lanes, Some(out.len())).ok()?;
                let argon2 = Argon2::new(Algorithm::Argon2id, argon2::Version::V0x13, params);
                argon2.hash_password_into(password, &self.salt, &mut out).ok()?;
            }
        }
        Some(out)
    }
}

/// The line's right half, as `mosquitto_passwd` writes it.
impl fmt::Display for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (salt, hash) = (&self.salt, &self.output);
        match self.kind {
            Kind::Sha512 => write!(out, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash)),
            Kind::Pbkdf2 { iterations } => {
                let (salt, hash) = (STANDARD.encode(salt), STANDARD.encode(hash));
                write!(out, "$7${iterations}${salt}${hash}")
            }
            Kind::Argon2id { kib, passes, lanes } => {
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                write!(out, "$argon2id$v=19$m={kib},t={passes},p={lanes}${salt}${hash}")
            }
        }
    }
}

/// Hashes are secrets too.
impl fmt::Debug for Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Hash({:?})", self.kind)
    }
}

fn argon2_kind(parameters: &str) -> Result<Kind, &'static str> {
    const WRONG: &str = "Argon2id parameters must be m=KIB,t=N,p=N within their limits";
    let mut values = ["m=", "t=", "p="]
        .into_iter()
        .zip(parameters.splitn(3, ','))
        .zip([ARGON2_KIB_MAX, ARGON2_PASSES_MAX, ARGON2_LANES_MAX])
        .map(|((name, field), max)| number(field.strip_prefix(name)?, max));
    let mut next = || values.next().flatten().ok_or(WRONG);
    let (kib, passes, lanes) = (next()?, next()?, next()?);
    Params::new(kib, passes, lanes, None).map_err(|_| WRONG)?;
    Ok(Kind::Argon2id { kib, passes, lanes })
}

/// Plain digits, 1 to `max`.
fn number(text: &str, max: u32) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|number| plain && (1..=max).contains(number))
}

fn padded(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD.decode(text).map_err(|_| "salt and hash must be base64")
}

fn unpadded(text: &str) -> Result<Vec<u8>, &'static str> {
    STANDARD_NO_PAD.decode(text).map_err(|_| "salt and hash must be base64 without padding")
}

/// A password file: one `user:hash` a line, see [`records`] for what else may be there.
#[derive(Debug, Default)]
pub struct PasswordFile {
    users: AHashMap<Arc<str>, usize>,
    hashes: Vec<Hash>,
    /// Chooses what an unknown user is compared with; always the same for the same name.
    choice: RandomState,
    dummy: Option<Hash>,
}

impl PasswordFile {
    /// Reads a whole file.
    ///
    /// # Errors
    /// The first wrong line.
    pub fn parse(bytes: &[u8]) -> Result<PasswordFile, FileError> {
        let mut file = PasswordFile::default();
        for record in records(bytes) {
            let (line, user, text) = record?;
            let hash = Hash::parse(text).map_err(|message| FileError { line, message })?;
            if file.users.insert(user.into(), file.hashes.len()).is_some() {
                return Err(FileError { line, message: "this user is there twice" });
            }
            file.hashes.push(hash);
        }
        if file.hashes.is_empty() {
            file.dummy = Some(Hash::new(Method::Argon2id, b"", [0; SALT_BYTES]));
        }
        Ok(file)
    }

    /// Does the file know the user.
    pub fn knows(&self, user: &str) -> bool {
        self.users.contains_key(user)
    }

    /// Number of users.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Is nobody in it.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Users whose password is hashed in one round.
    pub fn weak(&self) -> usize {
        self.hashes.iter().filter(|hash| hash.is_weak()).count()
    }

    /// Is it the password of this user.
    ///
    /// For an unknown user a hash of the file is computed all the same, so that the time of the
    /// answer does not tell who exists.
    pub fn verify(&self, user: &str, password: &[u8]) -> bool {
        let known = self.users.get(user).copied();
        let index = known.unwrap_or_else(|| {
            let choice = self.choice.hash_one(user) % self.hashes.len().max(1) as u64;
            usize::try_from(choice).unwrap_or(0)
        });
        let hash = self.hashes.get(index).or(self.dummy.as_ref());
        let matches = hash.is_some_and(|hash| hash.verify(password));
        matches && known.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `mosquitto_passwd` 2.0.11 for the password `secret`.
    const PBKDF2: &str = "$7$101$1kuNfGDo56u7+O/R$w1zIWsfWe4koxb4xXlDv/U2KEOEd9UqClfTttiZTIq\
        JQDau+gF\
        vnKcVRbA5JizVqRt2V6bATZ6Kt9SpDpSmo7g==";
    /// The same with `-H sha512` for the password `oldpw`.
    const SHA512: &str = "$6$hzEkgrHUDXh36EfB$9MnRaPl/0yO21juflUZ/W9IgNb2cFAYfz6INEO4Eir4VPOjK9AMmF\
        szQIVD4xp5gI4r05kl1jZj8hwtT0Pw36Q==";
    /// The reference implementation's test: `argon2id`, 64 MiB, 2 passes, `somesalt`, `password`.
    const ARGON2: &str = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$\
        CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    #[test]
    fn hashes_of_others_are_understood() {
        for (text, password) in [(PBKDF2, "secret"), (SHA512, "oldpw"), (ARGON2, "password")] {
            let hash = Hash::parse(text).expect("legal");
            assert!(hash.verify(password.as_bytes()), "{text}");
            assert!(!hash.verify(b"Secret") && !hash.verify(b""), "{text}");
            assert_eq!(hash.to_string(), text);
        }
    }

    #[test]
    fn own_hashes_survive_their_text() {
        let iterations = NonZeroU32::new(7).expect("not zero");
        for method in [Method::Sha512, Method::Pbkdf2(iterations), Method::Argon2id] {
            let hash = Hash::new(method, b"x", [9; SALT_BYTES]);
            assert_eq!(Hash::parse(&hash.to_string()).as_ref(), Ok(&hash));
            assert!(hash.verify(b"x") && !hash.verify(b"y"), "{method:?}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let hash = "A".repeat(86) + "==";
        let short = "AAAAAAAAAAAA";
        for wrong in [
            String::new(),
            "plain".into(),
            "$".into(),
            format!("$5${short}${hash}"),
            format!("$6${short}"),
            format!("$6${short}${hash}$"),
            format!("$6${short}${short}"),
            format!("$6$AAAA${hash}"),
            format!("$6${short}$*{hash}"),
            format!("$6${short}${}", &hash[..86]),
            format!("$7$0${short}${hash}"),
            format!("$7$-1${short}${hash}"),
            format!("$7$+1${short}${hash}"),
            format!("$7$01${short}${hash}"),
            format!("$7$10000001${short}${hash}"),
            format!("$7$99999999999999999999${short}${hash}"),
            ARGON2.replace("v=19", "v=16"),
            ARGON2.replace("argon2id", "argon2i"),
            ARGON2.replace("m=65536", "m=7"),
            ARGON2.replace("m=65536", "m=262145"),
            ARGON2.replace("t=2", "t=0"),
            ARGON2.replace("t=2", "t=33"),
            ARGON2.replace("p=1", "p=0"),
            ARGON2.replace("p=1", "p=1,x=1"),
            ARGON2.replace("m=65536,t=2", "t=2,m=65536"),
            ARGON2.replace("$c29tZXNhbHQ", "$c29tZQ"),
            format!("{ARGON2}="),
        ] {
            assert!(Hash::parse(&wrong).is_err(), "{wrong}");
        }
    }

    fn error_of(text: &str) -> (usize, &'static str) {
        let error = PasswordFile::parse(text.as_bytes()).expect_err(text);
        (error.line, error.message)
    }

    #[test]
    fn wrong_lines_are_named() {
        let good = format!("ada:{SHA512}");
        assert_eq!(error_of(&format!("# x\n{good}\nbob")), (3, "the line has no ':'"));
        assert_eq!(error_of(&format!("{good}\n{good}")), (2, "this user is there twice"));
        assert_eq!(error_of(&format!("{good}\r\n :{SHA512}")), (2, "the user name is empty"));
        assert_eq!(error_of("a\0b:x"), (1, "the line holds U+0000"));
        assert_eq!(error_of(&"x".repeat(9000)), (1, "the line is too long"));
        assert_eq!(error_of("ada:plain").0, 1);
        assert_eq!(PasswordFile::parse(b"\n\xff:").map(drop).map_err(|e| e.line), Err(2));
    }

    #[test]
    fn blanks_line_ends_and_comments_do_not_matter() {
        let text = format!("# users\r\n\n ada : {SHA512} \r\n#bob:x\n");
        let file = PasswordFile::parse(text.as_bytes()).expect("legal");
        assert_eq!((file.len(), file.weak()), (1, 1));
        assert!(file.verify("ada", b"oldpw") && file.knows("ada"));
        for (user, password) in [("ada", "x"), ("Ada", "oldpw"), ("", "oldpw"), ("bob", "oldpw")] {
            assert!(!file.verify(user, password.as_bytes()), "{user}");
        }
    }

    #[test]
    fn an_empty_file_lets_nobody_in() {
        let file = PasswordFile::parse(b"").expect("legal");
        assert!(file.is_empty() && !file.verify("", b"") && !file.verify("ada", b""));
    }

    /// An unknown user is compared with a hash of the file, the same one each time.
    #[test]
    fn an_unknown_user_costs_as_much_as_a_known_one() {
        let text = format!("ada:{SHA512}\nbob:{PBKDF2}\n");
        let file = PasswordFile::parse(text.as_bytes()).expect("legal");
        // Even the right password of the hash that was chosen proves nothing.
        for user in 0..20 {
            let user = user.to_string();
            assert!(!file.verify(&user, b"oldpw") && !file.verify(&user, b"secret"));
        }
    }
}
