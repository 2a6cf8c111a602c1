//! What strangers and files say about who they are: never a panic, never a way in.

use culex::auth::password::{Hash, PasswordFile};
use culex::auth::scram::{ITERATIONS, NONCE_BYTES, ScramFile, Stored};
use culex::auth::{Keys, hook, jwt};

const SECRET: &[u8] = b"a secret of thirty-two bytes....";
/// Some time.
const NOW_S: u64 = 1_800_000_000;

/// The bytes are a password file. What is read reads the same when it is written again.
pub fn password_file(bytes: &[u8]) {
    let read = PasswordFile::parse(bytes);
    assert_eq!(read.is_ok(), PasswordFile::parse(bytes).is_ok());
    let Ok(text) = std::str::from_utf8(bytes) else { return assert!(read.is_err()) };
    if let Ok(hash) = Hash::parse(text.trim()) {
        assert_eq!(Hash::parse(&hash.to_string()), Ok(hash));
    }
    if let Ok(stored) = Stored::parse(text.trim()) {
        assert_eq!(Stored::parse(&stored.to_string()), Ok(stored));
    }
}

/// The bytes are a token, and a JWKS. Nobody here has the key, so none may be good.
pub fn token(bytes: &[u8]) {
    let keys = Keys::secret(SECRET).expect("long enough");
    let _looks = jwt::looks_like_token(bytes);
    assert!(jwt::verify(bytes, "c", &keys, &jwt::Rules::default(), NOW_S).is_err());
    if let Err(problem) = Keys::jwks(bytes) {
        assert!(!problem.contains('\n'), "{problem:?}");
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _either_way = Keys::pem(text);
    }
}

/// The bytes are the first and the last message of a client, divided by a zero. It does not know
/// the password, so it does not get in.
pub fn scram(bytes: &[u8]) {
    let stored = Stored::new(b"pencil", ITERATIONS, &[1; 16]);
    let text = format!("ada:{stored}\n");
    let file = ScramFile::parse(text.as_bytes(), [0; 32]).expect("legal");
    let (first, last) = match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[][..]),
    };
    if let Ok((exchange, challenge)) = file.begin(first, [7; NONCE_BYTES]) {
        assert!(!exchange.user().is_empty() && challenge.starts_with(b"r="));
        assert!(exchange.finish(last).is_err());
    }
}

/// The bytes are the answer of a service. Only one that says so lets anybody in.
pub fn answer(bytes: &[u8]) {
    if let Ok(hook::Answer::Allow { claims, .. }) = hook::answer(bytes) {
        let text = std::str::from_utf8(bytes).expect("JSON is UTF-8");
        assert!(text.contains("allow") || text.contains('\\'));
        let _either_way = claims.map(|claims| claims.compile());
    }
}
