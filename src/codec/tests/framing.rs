//! Fixed header: lengths, types, flags.

use super::{ALL, V3, V5, accepts, refuses, same, wire};
use crate::codec::{DecodeError, Frame, PACKET_BYTES_MAX, Packet, Reason, Version, decode, frame};

fn framed(text: &str) -> Result<Option<Frame>, DecodeError> {
    frame(&wire(text), PACKET_BYTES_MAX)
}

#[test]
fn length_uses_seven_bits_of_each_byte() {
    for (text, header_bytes, body_bytes) in [
        ("30 00", 2, 0),
        ("30 7f", 2, 127),
        ("30 8001", 3, 128),
        ("30 ff7f", 3, 16_383),
        ("30 808001", 4, 16_384),
        ("30 ffff7f", 4, 2_097_151),
        ("30 80808001", 5, 2_097_152),
        ("30 ffffff7f", 5, 268_435_455),
    ] {
        let total_bytes = header_bytes + body_bytes;
        assert_eq!(framed(text), Ok(Some(Frame { header_bytes, total_bytes })), "{text}");
    }
}

#[test]
fn unfinished_header_is_no_error() {
    for text in ["", "30", "30 80", "30 ffff", "30 ffffff"] {
        assert_eq!(framed(text), Ok(None), "{text}");
    }
}

#[test]
fn length_of_five_bytes_is_malformed_as_soon_as_it_shows() {
    for text in ["30 ffffffff", "30 8080808001", "30 80808080"] {
        assert_eq!(framed(text), Err(DecodeError::BadLength), "{text}");
    }
}

// [MQTT-1.5.5-1]
#[test]
fn length_not_in_shortest_form_is_malformed() {
    for text in ["c0 8000", "c0 808000", "c0 80808000", "30 ff00"] {
        assert_eq!(framed(text), Err(DecodeError::BadLength), "{text}");
    }
}

#[test]
fn packet_at_maximum_passes_and_one_more_does_not() {
    let bytes = wire("30 * <t> 'payload'");
    let max = u32::try_from(bytes.len()).expect("a short packet");
    assert!(decode(&bytes, Version::V311, max).is_ok_and(|packet| packet.is_some()));
    let too_large = DecodeError::TooLarge { bytes: max, max: max - 1 };
    assert_eq!(decode(&bytes, Version::V311, max - 1), Err(too_large));
    // It is known from the header alone, before the packet fills a buffer.
    assert_eq!(frame(&bytes[..2], max - 1), Err(too_large));
    assert_eq!(too_large.reason(), Reason::PacketTooLarge);
    assert_eq!(
        frame(&wire("30 ffffff7f"), PACKET_BYTES_MAX - 1).map_err(|e| e.reason()),
        Err(Reason::PacketTooLarge)
    );
}

#[test]
fn type_0_does_not_exist() {
    assert_eq!(framed("00"), Err(DecodeError::UnknownType(0)));
    refuses(ALL, "0f 00", DecodeError::UnknownType(0));
}

#[test]
fn auth_exists_in_5_0_only() {
    refuses(V3, "f0 00", DecodeError::UnknownType(15));
    accepts(V5, "f0 00");
}

#[test]
fn pings_have_no_body() {
    same(ALL, "c0 00", &Packet::Pingreq);
    same(ALL, "d0 00", &Packet::Pingresp);
    refuses(ALL, "c0 01 00", DecodeError::TrailingBytes);
    refuses(ALL, "d0 01 00", DecodeError::TrailingBytes);
}

/// First bytes with their legal flags, and a legal body.
const FLAGGED: [(u8, &str); 10] = [
    (0x40, "* 0001"),
    (0x50, "* 0001"),
    (0x62, "* 0001"),
    (0x70, "* 0001"),
    (0x82, "* 0001 <f> 00"),
    (0x90, "* 0001 00"),
    (0xa2, "* 0001 <f>"),
    (0xb0, "* 0001"),
    (0xc0, "00"),
    (0xe0, "00"),
];

// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
#[test]
fn reserved_flags_are_fixed() {
    for (legal, body) in FLAGGED {
        for first in legal & 0xf0..=legal | 0x0f {
            let text = format!("{first:02x} {body}");
            if first == legal {
                accepts([Version::V311], &text);
            } else {
                refuses([Version::V311, Version::V5], &text, DecodeError::BadFlags(first));
            }
        }
    }
    refuses(V5, "f1 00", DecodeError::BadFlags(0xf1));
    refuses(ALL, "11 * <MQTT> 04 02 0000 <id>", DecodeError::BadFlags(0x11));
}

#[test]
fn version_3_1_looks_at_used_flags_only() {
    for text in ["6a * 0001", "8b * 0001 <f> 00", "aa * 0001 <f>", "4f * 0001", "c1 00"] {
        accepts([Version::V31], text);
    }
    for (first, body) in [(0x60, "* 0001"), (0x84, "* 0001 <f> 00"), (0xa0, "* 0001 <f>")] {
        let text = format!("{first:02x} {body}");
        refuses([Version::V31], &text, DecodeError::BadFlags(first));
    }
}

#[test]
fn packets_in_one_buffer_are_taken_one_by_one() {
    let bytes = wire("c000 d000 e000");
    let first = decode(&bytes, Version::V311, 10);
    assert_eq!(first, Ok(Some((Packet::Pingreq, 2))));
    let second = decode(&bytes[2..], Version::V311, 10);
    assert_eq!(second, Ok(Some((Packet::Pingresp, 2))));
}

#[test]
fn encoding_appends() {
    let mut out = vec![0xaa];
    crate::codec::encode(&Packet::Pingreq, Version::V5, &mut out);
    assert_eq!(out, wire("aa c000"));
}

#[test]
fn what_a_connect_carries_is_known_from_its_flags() {
    use super::super::connect_carries;
    // Length, "MQTT", level 4, flags; the rest has not come.
    let head = |flags: u8| {
        let mut bytes = vec![0x10, 0x80, 0x40, 0x00, 0x04];
        bytes.extend(b"MQTT");
        bytes.extend([4, flags]);
        bytes
    };
    // Nothing, clean start, user name; will; user name and password.
    for (flags, carries) in
        [(0x00, false), (0x02, false), (0x80, false), (0x04, true), (0xc0, true)]
    {
        let bytes = head(flags);
        assert_eq!(connect_carries(&bytes), Some(carries), "{flags:#04x}");
        for end in 0..bytes.len() {
            assert_eq!(connect_carries(&bytes[..end]), None, "{end} bytes");
        }
    }
    // A name longer than any, and a length that is none.
    assert_eq!(connect_carries(&[0x10, 0x20, 0xff, 0xff]), Some(false));
    assert_eq!(connect_carries(&[0x10, 0xff, 0xff, 0xff, 0xff, 0x01]), Some(false));
}
