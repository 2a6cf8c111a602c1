//! PROXY protocol, versions 1 and 2: who a trusted load balancer speaks for.
//!
//! Promise: nothing behind the header is looked at, nothing of its TLVs is believed, and no more
//! than [`HEADER_BYTES_MAX`] bytes are held for it.
//!
//! ```text
//!  v1  "PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n"           at most 107 bytes
//!  v2  0..12 signature   12 version and command   13 family   14..16 length u16 be
//!      16..  addresses, then TLVs                                   at most 4096 bytes
//! ```
//!
//! Source: The PROXY protocol, versions 1 & 2 (of `HAProxy`), sections 2.1 and 2.2.

use crate::access::Network;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest header that is taken.
pub const HEADER_BYTES_MAX: usize = 4096;
/// Longest line of version 1, with its end.
const LINE_BYTES_MAX: usize = 107;
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED_BYTES: usize = 16;

/// TLV that describes TLS (`PP2_TYPE_SSL`), and its flag that there was any (`PP2_CLIENT_SSL`).
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Whose headers are read, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From where; connections from elsewhere are closed at once.
    pub trusted: Vec<Network>,
    /// Which versions.
    pub versions: Versions,
}

/// Which headers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// Text.
    V1,
    /// Binary.
    V2,
    /// Binary, of clients that have come to the proxy by TLS.
    V2Tls,
    /// Either.
    Any,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes it took from the front.
    pub header_bytes: usize,
    /// The client, if the proxy speaks for one: not for LOCAL and UNKNOWN.
    pub source: Option<SocketAddr>,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// They begin like neither version.
    #[error("no PROXY header")]
    NoHeader,
    /// A line of version 1 that does not keep to the grammar.
    #[error("malformed PROXY line")]
    Line,
    /// Another version or command than those of version 2.
    #[error("unknown PROXY version or command")]
    Version,
    /// The addresses do not fit into the length.
    #[error("PROXY addresses are cut off")]
    Addresses,
    /// TLVs that do not fill the rest exactly.
    #[error("malformed PROXY TLV")]
    Tlv,
    /// More than [`HEADER_BYTES_MAX`].
    #[error("PROXY header is too long")]
    TooLong,
    /// Not of a client that has come by TLS, where only such may.
    #[error("the proxy's client has not come by TLS")]
    Plain,
}

/// Reads a header from the front of what has arrived. `None`: it is not complete yet.
///
/// # Errors
/// [`ProxyError`] as soon as no continuation could make it a header.
pub fn parse(bytes: &[u8], versions: Versions) -> Result<Option<Header>, ProxyError> {
    let begins = |start: &[u8]| bytes.iter().zip(start).all(|(byte, own)| byte == own);
    if begins(SIGNATURE) && versions != Versions::V1 {
        parse_v2(bytes, versions == Versions::V2Tls)
    } else if begins(b"PROXY ") && matches!(versions, Versions::V1 | Versions::Any) {
        parse_v1(bytes)
    } else {
        Err(ProxyError::NoHeader)
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let window = bytes.get(..bytes.len().min(LINE_BYTES_MAX)).unwrap_or_default();
    let Some(line_bytes) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return if window.len() < LINE_BYTES_MAX { Ok(None) } else { Err(ProxyError::Line) };
    };
    let line = window.get(..line_bytes).unwrap_or_default();
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let header_bytes = line_bytes + 2;
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        // What follows it is to be ignored.
        return Ok(Some(Header { header_bytes, source: None }));
    }
    let words: Vec<&str> = words.collect();
    let &[source, target, source_port, target_port] = words.as_slice() else {
        return Err(ProxyError::Line);
    };
    let address = |text: &str| match family {
        Some("TCP4") => text.parse().map(IpAddr::V4).map_err(|_| ProxyError::Line),
        Some("TCP6") => text.parse().map(IpAddr::V6).map_err(|_| ProxyError::Line),
        Some(_) | None => Err(ProxyError::Line),
    };
    let (source, _) = (address(source)?, address(target)?);
    let (port, _) = (port(source_port)?, port(target_port)?);
    Ok(Some(Header { header_bytes, source: Some(SocketAddr::new(source, port)) }))
}

/// A decimal number without sign and leading zeros.
fn port(text: &str) -> Result<u16, ProxyError> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    if !plain || padded {
        return Err(ProxyError::Line);
    }
    text.parse().map_err(|_| ProxyError::Line)
}

fn parse_v2(bytes: &[u8], tls_only: bool) -> Result<Option<Header>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else { return Ok(None) };
    let [.., version_command, family, high, low] = *fixed;
    let body_bytes = usize::from(u16::from_be_bytes([high, low]));
    let header_bytes = V2_FIXED_BYTES + body_bytes;
    let local = match version_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Version),
    };
    if header_bytes > HEADER_BYTES_MAX {
        return Err(ProxyError::TooLong);
    }
    let Some(body) = rest.get(..body_bytes) else { return Ok(None) };
    if tls_only && (local || family == 0x00) {
        return Err(ProxyError::Plain);
    }
    if local {
        // The proxy speaks for itself, of its health for instance; addresses are to be ignored.
        return Ok(Some(Header { header_bytes, source: None }));
    }
    let (source, address_bytes) = match family {
        0x11 => (Some(v4_source(body)?), 12),
        0x21 => (Some(v6_source(body)?), 36),
        // Unspecified: nothing to be said of the addresses.
        0x00 => return Ok(Some(Header { header_bytes, source: None })),
        // Datagrams and Unix sockets do not come here.
        _ => return Err(ProxyError::Addresses),
    };
    let by_tls = check_tlvs(body.get(address_bytes..).unwrap_or_default())?;
    if tls_only && !by_tls {
        return Err(ProxyError::Plain);
    }
    Ok(Some(Header { header_bytes, source }))
}

/// `0..4 source, 4..8 target, 8..10 source port, 10..12 target port`.
fn v4_source(body: &[u8]) -> Result<SocketAddr, ProxyError> {
    let addresses: &[u8; 12] = body.first_chunk().ok_or(ProxyError::Addresses)?;
    let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
    let port = u16::from_be_bytes([high, low]);
    Ok(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port))
}

/// `0..16 source, 16..32 target, 32..34 source port, 34..36 target port`.
fn v6_source(body: &[u8]) -> Result<SocketAddr, ProxyError> {
    let addresses: &[u8; 36] = body.first_chunk().ok_or(ProxyError::Addresses)?;
    let (source, rest) = addresses.split_first_chunk::<16>().ok_or(ProxyError::Addresses)?;
    let port = rest.get(16..18).and_then(|port| port.first_chunk()).ok_or(ProxyError::Addresses)?;
    Ok(SocketAddr::new(Ipv6Addr::from(*source).into(), u16::from_be_bytes(*port)))
}

/// Their frame has to be right; of their content only whether the client has come by TLS is of
/// interest.
fn check_tlvs(mut rest: &[u8]) -> Result<bool, ProxyError> {
    let mut by_tls = false;
    while !rest.is_empty() {
        let &[kind, high, low, ref after @ ..] = rest else { return Err(ProxyError::Tlv) };
        let value_bytes = usize::from(u16::from_be_bytes([high, low]));
        let (value, next) = after.split_at_checked(value_bytes).ok_or(ProxyError::Tlv)?;
        by_tls |= kind == TLV_SSL && value.first().is_some_and(|flags| flags & CLIENT_SSL != 0);
        rest = next;
    }
    Ok(by_tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
        super::parse(bytes, Versions::Any)
    }

    fn v2(version_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let body_bytes = u16::try_from(body.len()).expect("a short body");
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([version_command, family]);
        bytes.extend(body_bytes.to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x9c, 0x40, 0x07, 0x5b];

    fn source(bytes: &[u8]) -> Option<String> {
        let header = parse(bytes).expect("legal").expect("complete");
        assert_eq!(header.header_bytes, bytes.len());
        header.source.map(|source| source.to_string())
    }

    #[test]
    fn lines_of_version_1() {
        let v4 = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n";
        assert_eq!(source(v4).as_deref(), Some("192.0.2.1:40000"));
        let v6 = b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n";
        assert_eq!(source(v6).as_deref(), Some("[2001:db8::1]:65535"));
        assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(source(b"PROXY UNKNOWN what ever it says\r\n"), None);
    }

    #[test]
    fn headers_of_version_2() {
        assert_eq!(source(&v2(0x21, 0x11, &V4)).as_deref(), Some("192.0.2.1:40000"));
        let mut v6 = [0; 36];
        v6[15] = 1;
        v6[33] = 80;
        assert_eq!(source(&v2(0x21, 0x21, &v6)).as_deref(), Some("[::1]:80"));
        assert_eq!(source(&v2(0x20, 0x00, &[])), None);
        assert_eq!(source(&v2(0x20, 0x11, &V4)), None);
        assert_eq!(source(&v2(0x21, 0x00, &[1, 2, 3])), None);
    }

    #[test]
    fn tlvs_are_skipped_whatever_they_claim() {
        // 0x22 in a TLV of TLS (0x20) is the common name of a certificate.
        let tlvs = [&V4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0, 0x22, 0, 1, b'x']].concat();
        assert_eq!(source(&v2(0x21, 0x11, &tlvs)).as_deref(), Some("192.0.2.1:40000"));
        for broken in [&[0x20][..], &[0x20, 0], &[0x20, 0, 1], &[0x20, 0xff, 0xff, 0]] {
            let bytes = v2(0x21, 0x11, &[&V4[..], broken].concat());
            assert_eq!(parse(&bytes), Err(ProxyError::Tlv), "{broken:?}");
        }
    }

    #[test]
    fn every_beginning_of_a_header_waits() {
        let line = b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n".to_vec();
        for whole in [line, v2(0x21, 0x11, &V4)] {
            for cut in 0..whole.len() {
                assert_eq!(parse(&whole[..cut]), Ok(None), "cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for (bytes, error) in [
            (&b"\x10\x0c\0\x04MQTT"[..], ProxyError::NoHeader),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", ProxyError::Line),
            (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 ::1 1.2.3.4 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP6 1.2.3.4 ::1 1 2\r\n", ProxyError::Line),
            (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::Line),
            (b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n", ProxyError::Line),
            (b"proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", ProxyError::NoHeader),
            (&[b"PROXY UNKNOWN ", &[b'x'; 107][..]].concat(), ProxyError::Line),
            (&v2(0x22, 0x11, &V4), ProxyError::Version),
            (&v2(0x11, 0x11, &V4), ProxyError::Version),
            (&v2(0x21, 0x12, &V4), ProxyError::Addresses),
            (&v2(0x21, 0x11, &V4[..11]), ProxyError::Addresses),
            (&v2(0x21, 0x21, &V4), ProxyError::Addresses),
            (&v2(0x21, 0x11, &[0; 4081]), ProxyError::TooLong),
        ] {
            assert_eq!(parse(bytes), Err(error), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn only_the_versions_asked_for_are_read() {
        let (line, binary) = (b"PROXY UNKNOWN\r\n", v2(0x20, 0x00, &[]));
        assert!(super::parse(line, Versions::V1).is_ok_and(|header| header.is_some()));
        assert_eq!(super::parse(line, Versions::V2), Err(ProxyError::NoHeader));
        assert!(super::parse(&binary, Versions::V2).is_ok_and(|header| header.is_some()));
        assert_eq!(super::parse(&binary, Versions::V1), Err(ProxyError::NoHeader));
    }

    #[test]
    fn who_has_not_come_by_tls_can_be_told() {
        let with = |tlvs: &[u8]| v2(0x21, 0x11, &[&[0; 12], tlvs].concat());
        let read =
            |bytes: &[u8]| super::parse(bytes, Versions::V2Tls).map(|header| header.is_some());
        assert_eq!(read(&with(&[0x20, 0, 5, 1, 0, 0, 0, 0])), Ok(true));
        for plain in [
            with(&[]),
            with(&[0x20, 0, 5, 6, 0, 0, 0, 0]),
            with(&[0x20, 0, 0]),
            with(&[0x21, 0, 1, 1]),
            v2(0x20, 0x00, &[]),
            v2(0x21, 0x00, &[]),
        ] {
            assert_eq!(read(&plain), Err(ProxyError::Plain), "{plain:?}");
        }
        assert_eq!(super::parse(b"PROXY UNKNOWN\r\n", Versions::V2Tls), Err(ProxyError::NoHeader));
    }

    #[test]
    fn what_follows_the_header_is_left() {
        let mut bytes = v2(0x20, 0x00, &[]);
        bytes.extend(b"\x10\x0c");
        assert_eq!(parse(&bytes), Ok(Some(Header { header_bytes: 16, source: None })));
    }
}
