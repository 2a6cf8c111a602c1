//! Bytes of one connection, decoded at once and in pieces.
//!
//! Promise checked: what is decoded is encoded and decoded again to the same packet; a packet never
//! takes more than its frame; pieces of any length give the same packets and the same error.

use culex::codec::{self, DecodeError, Packet, Version};

/// Packets above it are refused; small, so that the fuzzer reaches the limit.
const PACKET_BYTES_MAX: u32 = 4096;

/// The first bytes choose the lengths of the pieces, the others are the stream.
pub fn check(bytes: &[u8], version: Version) {
    let (pieces, stream) = bytes.split_at(bytes.len().min(2));
    let (shown, end) = whole(stream, version);
    let (shown_in_pieces, end_in_pieces) = in_pieces(stream, version, pieces);
    assert_eq!(shown, shown_in_pieces);
    assert_eq!(end, end_in_pieces);
}

/// How a stream of packets ends: its error, or the bytes that no packet has taken.
type End = Result<usize, DecodeError>;

fn whole(stream: &[u8], version: Version) -> (Vec<String>, End) {
    let mut rest = stream;
    let mut shown = Vec::new();
    loop {
        let frame = codec::frame(rest, PACKET_BYTES_MAX);
        match codec::decode(rest, version, PACKET_BYTES_MAX) {
            Ok(None) => {
                if let Ok(Some(frame)) = frame {
                    assert!(frame.total_bytes > rest.len(), "a complete packet was not decoded");
                }
                return (shown, Ok(rest.len()));
            }
            Err(error) => {
                // The reason is part of the promise: it is what the peer is told.
                assert!(error.reason().is_error());
                return (shown, Err(error));
            }
            Ok(Some((packet, consumed))) => {
                let frame = frame.expect("decoded").expect("complete");
                assert!(consumed <= rest.len());
                assert_eq!(consumed, frame.total_bytes);
                encode_again(&packet, version, consumed);
                shown.push(format!("{packet:?}"));
                rest = &rest[consumed..];
            }
        }
    }
}

fn encode_again(packet: &Packet<'_>, version: Version, consumed: usize) {
    // A CONNECT says itself how it is encoded.
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    };
    let mut again = Vec::new();
    codec::encode(packet, version, &mut again);
    assert!(again.len() <= consumed + 8, "{consumed} bytes grew to {}", again.len());
    let (decoded, consumed) = codec::decode(&again, version, PACKET_BYTES_MAX * 2)
        .expect("what was legal is legal")
        .expect("complete");
    assert_eq!(consumed, again.len());
    assert_eq!(&decoded, packet);
    let mut third = Vec::new();
    codec::encode(&decoded, version, &mut third);
    assert_eq!(again, third);
}

fn in_pieces(stream: &[u8], version: Version, pieces: &[u8]) -> (Vec<String>, End) {
    let mut held = Vec::new();
    let mut shown = Vec::new();
    let mut lengths = pieces.iter().cycle().map(|length| usize::from(*length % 64) + 1);
    let mut rest = stream;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(lengths.next().unwrap_or(1).min(rest.len()));
        rest = after;
        held.extend_from_slice(piece);
        loop {
            match codec::decode(&held, version, PACKET_BYTES_MAX) {
                Ok(None) => break,
                Ok(Some((packet, consumed))) => {
                    shown.push(format!("{packet:?}"));
                    held.drain(..consumed);
                }
                Err(error) => return (shown, Err(error)),
            }
        }
    }
    (shown, Ok(held.len()))
}
