//! The format language of `sub -F`: parsing and writing never panic, fields are bounded.

use culex::cli::fuzzing::format;

/// First line: the format; then a byte of flags and the payload.
pub fn check(bytes: &[u8]) {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at(at);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let payload = rest.get(1..).unwrap_or_default();
    let Some(out) = format(text, payload) else { return };
    // A part is as long as the message (six times in JSON) or its width, at most 10,000 columns and
    // as many digits behind the point.
    let bytes_max = (text.len() + 1) * (payload.len() * 6 + 11_000 * 4);
    assert!(out.len() <= bytes_max, "{} bytes of {text:?}", out.len());
}
