//! The HTTP request that opens a WebSocket, and its answer: RFC 6455 §4.2.
//!
//! Promise: at most [`REQUEST_BYTES_MAX`] bytes and [`HEADERS_MAX`] headers are held and looked
//! at; what is not understood to the letter is refused.

use super::Settings;
use crate::transport::trusts;
use std::net::IpAddr;

/// Longest request, with the empty line that ends it.
pub const REQUEST_BYTES_MAX: usize = 8192;
/// Most headers of a request.
pub const HEADERS_MAX: usize = 64;

/// What RFC 6455 §1.3 appends to the key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Characters of a key: 16 bytes in base64.
const KEY_CHARS: usize = 24;

/// A request that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// Bytes it took from the front.
    pub request_bytes: usize,
    /// What the client gets.
    pub response: Vec<u8>,
    /// The client, if a trusted proxy names one.
    pub forwarded_for: Option<IpAddr>,
}

/// Why a request was refused. RFC 9110 §15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not HTTP, or no upgrade to WebSocket.
    #[error("400 Bad Request")]
    BadRequest,
    /// Its Origin is not allowed.
    #[error("403 Forbidden")]
    Forbidden,
    /// There is nothing at this path.
    #[error("404 Not Found")]
    NotFound,
    /// Only GET opens a WebSocket.
    #[error("405 Method Not Allowed")]
    MethodNotAllowed,
    /// Another version of WebSocket than 13.
    #[error("426 Upgrade Required")]
    UpgradeRequired,
    /// More bytes or headers than are looked at.
    #[error("431 Request Header Fields Too Large")]
    TooLarge,
}

impl Refusal {
    /// The answer, after which the connection is closed.
    pub fn response(self) -> Vec<u8> {
        let extra = match self {
            Refusal::MethodNotAllowed => "Allow: GET\r\n",
            Refusal::UpgradeRequired => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            Refusal::BadRequest | Refusal::Forbidden | Refusal::NotFound | Refusal::TooLarge => "",
        };
        format!("HTTP/1.1 {self}\r\n{extra}Connection: close\r\nContent-Length: 0\r\n\r\n").into()
    }
}

/// The headers that matter.
#[derive(Debug, Default)]
struct Headers<'a> {
    hosts: usize,
    upgrade: bool,
    connection: bool,
    key: Option<&'a str>,
    version: Option<&'a str>,
    protocols: Vec<&'a str>,
    origin: Option<&'a str>,
    forwarded_for: Vec<&'a str>,
}

/// Reads a request from the front of what has arrived. `peer` is who sent it, if it has an address.
/// `None`: it is not complete yet.
///
/// # Errors
/// [`Refusal`], which says what to answer.
pub fn parse(
    bytes: &[u8],
    settings: &Settings,
    peer: Option<IpAddr>,
) -> Result<Option<Upgrade>, Refusal> {
    let window = bytes.get(..bytes.len().min(REQUEST_BYTES_MAX)).unwrap_or_default();
    let Some(head_bytes) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        // A stranger's first bytes are enough to know that he does not speak HTTP.
        let method = window.split(|byte| *byte == b' ').next().unwrap_or_default();
        return match window.len() {
            _ if !method.iter().all(u8::is_ascii_uppercase) => Err(Refusal::BadRequest),
            REQUEST_BYTES_MAX => Err(Refusal::TooLarge),
            _ => Ok(None),
        };
    };
    let head = window.get(..head_bytes).unwrap_or_default();
    let head = std::str::from_utf8(head).map_err(|_| Refusal::BadRequest)?;
    let mut lines = head.split("\r\n");
    let path = request_line(lines.next().unwrap_or_default())?;
    let headers = headers(lines)?;
    let key = headers.check()?;
    if settings.path.as_deref().is_some_and(|own| own != path) {
        return Err(Refusal::NotFound);
    }
    if !settings.allows_origin(headers.origin) {
        return Err(Refusal::Forbidden);
    }
    // [MQTT-6.0.0-3] [MQTT-6.0.0-4] The client offers the name of the protocol, it is answered.
    let protocol = ["mqtt", "mqttv3.1"].into_iter().find(|own| headers.protocols.contains(own));
    let protocol = protocol.ok_or(Refusal::BadRequest)?;
    // No extension is answered, so none is in use: what was compressed cannot explode.
    let accept = accept(key);
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    Ok(Some(Upgrade {
        request_bytes: head_bytes + 4,
        response: response.into(),
        forwarded_for: forwarded_for(&headers.forwarded_for, settings, peer)?,
    }))
}

/// Gives the path without its query.
fn request_line(line: &str) -> Result<&str, Refusal> {
    let words: Vec<&str> = line.split(' ').collect();
    let &[method, target, version] = words.as_slice() else { return Err(Refusal::BadRequest) };
    if version != "HTTP/1.1" || !target.starts_with('/') || !is_visible(target) {
        return Err(Refusal::BadRequest);
    }
    if method != "GET" {
        return Err(Refusal::MethodNotAllowed);
    }
    Ok(target.split_once('?').map_or(target, |(path, _)| path))
}

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Headers<'a>, Refusal> {
    let mut headers = Headers::default();
    for (index, line) in lines.enumerate() {
        if index >= HEADERS_MAX {
            return Err(Refusal::TooLarge);
        }
        let (name, value) = line.split_once(':').ok_or(Refusal::BadRequest)?;
        // A line that begins with a blank would be part of the one before: nobody may do that now.
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Refusal::BadRequest);
        }
        let value = value.trim_matches([' ', '\t']);
        if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(Refusal::BadRequest);
        }
        headers.take(name, value)?;
    }
    Ok(headers)
}

impl<'a> Headers<'a> {
    fn take(&mut self, name: &str, value: &'a str) -> Result<(), Refusal> {
        let once = |place: &mut Option<&'a str>| match place.replace(value) {
            Some(_) => Err(Refusal::BadRequest),
            None => Ok(()),
        };
        match name.to_ascii_lowercase().as_str() {
            "host" => self.hosts += 1,
            "upgrade" => self.upgrade |= list(value).any(|v| v.eq_ignore_ascii_case("websocket")),
            "connection" => {
                self.connection |= list(value).any(|v| v.eq_ignore_ascii_case("upgrade"));
            }
            "sec-websocket-key" => once(&mut self.key)?,
            "sec-websocket-version" => once(&mut self.version)?,
            "sec-websocket-protocol" => self.protocols.extend(list(value)),
            "origin" => once(&mut self.origin)?,
            "x-forwarded-for" => self.forwarded_for.extend(list(value)),
            // A body would be taken for frames.
            "content-length" if value != "0" => return Err(Refusal::BadRequest),
            "transfer-encoding" => return Err(Refusal::BadRequest),
            _ => {}
        }
        Ok(())
    }

    /// Is it an upgrade to WebSocket 13? Gives the key.
    fn check(&self) -> Result<&'a str, Refusal> {
        if self.hosts != 1 {
            return Err(Refusal::BadRequest);
        }
        if !(self.upgrade && self.connection) {
            return Err(Refusal::UpgradeRequired);
        }
        if self.version != Some("13") {
            return Err(Refusal::UpgradeRequired);
        }
        self.key.filter(|key| is_key(key)).ok_or(Refusal::BadRequest)
    }
}

/// The client as the trusted proxies in front saw it: the last address none of them has.
fn forwarded_for(
    chain: &[&str],
    settings: &Settings,
    peer: Option<IpAddr>,
) -> Result<Option<IpAddr>, Refusal> {
    let trusted = |address| trusts(&settings.trusted_proxies, address);
    if !peer.is_some_and(trusted) {
        return Ok(None);
    }
    let mut client = None;
    for text in chain.iter().rev() {
        let address: IpAddr = text.parse().map_err(|_| Refusal::BadRequest)?;
        client = Some(address);
        if !trusted(address) {
            break;
        }
    }
    Ok(client)
}

/// Elements of a comma-separated list, without the empty ones.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(|element| element.trim_matches([' ', '\t'])).filter(|e| !e.is_empty())
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// 16 bytes in base64: two characters of padding at the end.
fn is_key(key: &str) -> bool {
    let body = key.strip_suffix("==").unwrap_or_default();
    key.len() == KEY_CHARS && body.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b))
}

/// The proof that the key was read. RFC 6455 §4.2.2.
fn accept(key: &str) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key.as_bytes());
    digest.update(GUID);
    base64(digest.finish().as_ref())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4usize {
            let six = bits >> (18 - 6 * index) & 63;
            let character = ALPHABET.get(six as usize).copied().unwrap_or(b'=');
            text.push(if index <= three.len() { char::from(character) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(change: impl Fn(&str) -> String) -> String {
        let whole = format!(
            "GET /mqtt?x=1 HTTP/1.1\r\nHost: broker\r\nUpgrade: WebSocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\
             Sec-WebSocket-Extensions: permessage-deflate\r\nOrigin: https://a.example\r\n\
             X-Forwarded-For: 192.0.2.9, 203.0.113.7, 10.0.0.2\r\n\r\n"
        );
        change(&whole)
    }

    fn settings() -> Settings {
        Settings {
            path: Some("/mqtt".to_owned()),
            origins: Vec::new(),
            trusted_proxies: vec!["10.0.0.0/8".parse().expect("a network")],
        }
    }

    fn check(change: impl Fn(&str) -> String) -> Result<Option<Upgrade>, Refusal> {
        parse(request(change).as_bytes(), &settings(), None)
    }

    #[test]
    fn the_example_of_the_rfc_is_answered() {
        let upgrade = check(str::to_owned).expect("legal").expect("complete");
        assert_eq!(
            String::from_utf8(upgrade.response).expect("text"),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
             Sec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        assert_eq!(upgrade.request_bytes, request(str::to_owned).len());
    }

    #[test]
    fn every_beginning_waits() {
        let whole = request(str::to_owned);
        for cut in 0..whole.len() {
            let parsed = parse(&whole.as_bytes()[..cut], &settings(), None);
            assert_eq!(parsed, Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_status() {
        let cases: &[(&str, &str, Refusal)] = &[
            ("GET", "POST", Refusal::MethodNotAllowed),
            ("HTTP/1.1", "HTTP/1.0", Refusal::BadRequest),
            ("/mqtt?", "/other?", Refusal::NotFound),
            ("/mqtt?", "http://broker/mqtt?", Refusal::BadRequest),
            ("Host: broker\r\n", "", Refusal::BadRequest),
            ("Host: broker\r\n", "Host: a\r\nHost: b\r\n", Refusal::BadRequest),
            ("WebSocket", "h2c", Refusal::UpgradeRequired),
            (", Upgrade", "", Refusal::UpgradeRequired),
            ("Version: 13", "Version: 8", Refusal::UpgradeRequired),
            ("Sec-WebSocket-Version: 13\r\n", "", Refusal::UpgradeRequired),
            (KEY, "dGhlIHNhbXBsZSBub25jZQ=", Refusal::BadRequest),
            (KEY, "dGhlIHNhbXBsZSBub25jZ!==", Refusal::BadRequest),
            ("mqttv3.1, mqtt", "chat", Refusal::BadRequest),
            ("Host:", "Host :", Refusal::BadRequest),
            ("Upgrade: Web", " Upgrade: Web", Refusal::BadRequest),
            ("broker", "bro\u{1}ker", Refusal::BadRequest),
            ("broker", "broker\r\nContent-Length: 4", Refusal::BadRequest),
            ("broker", "broker\r\nTransfer-Encoding: chunked", Refusal::BadRequest),
            ("broker", "broker\r\nno colon", Refusal::BadRequest),
        ];
        for (from, to, refusal) in cases {
            assert_eq!(check(|text| text.replacen(from, to, 1)), Err(*refusal), "{from} → {to}");
        }
    }

    #[test]
    fn limits_hold_at_their_edges() {
        let fill = |headers: usize, bytes: usize| {
            check(|text| {
                let own = text.matches("\r\n").count() - 2;
                let extra = "a: b\r\n".repeat(headers - own);
                let text = text.replacen("\r\n", &format!("\r\n{extra}"), 1);
                let pad = bytes.saturating_sub(text.len());
                text.replacen("broker", &format!("broker{}", "x".repeat(pad)), 1)
            })
        };
        assert!(fill(HEADERS_MAX, 0).is_ok());
        assert_eq!(fill(HEADERS_MAX + 1, 0), Err(Refusal::TooLarge));
        assert!(fill(20, REQUEST_BYTES_MAX).is_ok_and(|upgrade| upgrade.is_some()));
        assert_eq!(fill(20, REQUEST_BYTES_MAX + 1), Err(Refusal::TooLarge));
    }

    #[test]
    fn who_does_not_speak_http_is_known_at_once() {
        let parse = |bytes: &[u8]| parse(bytes, &settings(), None);
        assert_eq!(parse(b"\x10\x0c\0\x04MQTT"), Err(Refusal::BadRequest));
        assert_eq!(parse(b"\x16\x03\x01"), Err(Refusal::BadRequest));
        assert_eq!(parse(b"GE"), Ok(None));
        assert_eq!(parse(b"POST "), Ok(None));
    }

    #[test]
    fn only_listed_origins_come_in_if_there_is_a_list() {
        let parse = |origins: &[&str], text: &str| {
            let origins = origins.iter().map(|&origin| origin.to_owned()).collect();
            parse(text.as_bytes(), &Settings { origins, ..settings() }, None).map(|_| ())
        };
        let whole = request(str::to_owned);
        let none = request(|text| text.replacen("Origin: https://a.example\r\n", "", 1));
        assert_eq!(parse(&[], &whole), Ok(()));
        assert_eq!(parse(&["https://b.example", "https://a.example"], &whole), Ok(()));
        assert_eq!(parse(&["https://a.example.evil"], &whole), Err(Refusal::Forbidden));
        assert_eq!(parse(&["https://a.example"], &none), Err(Refusal::Forbidden));
    }

    #[test]
    fn forwarded_addresses_are_believed_of_trusted_proxies_only() {
        let from = |peer: &str, chain: &str| {
            let text = request(|text| text.replacen("192.0.2.9, 203.0.113.7, 10.0.0.2", chain, 1));
            let upgrade = parse(text.as_bytes(), &settings(), peer.parse().ok())?;
            Ok::<_, Refusal>(upgrade.and_then(|u| u.forwarded_for).map(|a| a.to_string()))
        };
        let some = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(from("10.9.9.9", "192.0.2.9, 203.0.113.7, 10.0.0.2"), some("203.0.113.7"));
        assert_eq!(from("198.51.100.1", "192.0.2.9"), Ok(None));
        assert_eq!(from("10.9.9.9", "10.1.1.1, 10.0.0.2"), some("10.1.1.1"));
        assert_eq!(from("10.9.9.9", "2001:db8::1"), some("2001:db8::1"));
        assert_eq!(from("10.9.9.9", "unknown"), Err(Refusal::BadRequest));
        assert_eq!(from("10.9.9.9", ""), Ok(None));
    }
}
