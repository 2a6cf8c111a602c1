//! Reassembly: packets in pieces of any size.

use super::reassembly::Reassembly;
use crate::codec::DecodeError;

const PACKET: [u8; 7] = [0x30, 0x05, 0x00, 0x01, b'a', b'h', b'i'];

#[test]
fn a_packet_in_single_bytes_is_whole_in_the_end() {
    let mut reassembly = Reassembly::default();
    reassembly.keep(&PACKET[..1]);
    for byte in &PACKET[1..6] {
        let (packet, rest) = reassembly.complete(std::slice::from_ref(byte), 1000).expect("legal");
        assert_eq!((packet, rest), (None, &[][..]));
    }
    let (packet, rest) = reassembly.complete(&PACKET[6..], 1000).expect("legal");
    assert_eq!(packet.as_deref(), Some(&PACKET[..]));
    assert!(rest.is_empty() && reassembly.bytes().is_empty());
}

#[test]
fn what_follows_the_packet_is_left() {
    for cut in 1..PACKET.len() {
        let mut reassembly = Reassembly::default();
        reassembly.keep(&PACKET[..cut]);
        let mut bytes = PACKET[cut..].to_vec();
        bytes.extend([0xc0, 0x00, 0xc0]);
        let (packet, rest) = reassembly.complete(&bytes, 1000).expect("legal");
        assert_eq!(packet.as_deref(), Some(&PACKET[..]), "cut at {cut}");
        assert_eq!(rest, [0xc0, 0x00, 0xc0]);
    }
}

#[test]
fn a_claim_above_the_maximum_is_refused_when_it_is_complete() {
    let mut reassembly = Reassembly::default();
    reassembly.keep(&[0x30]);
    assert!(matches!(reassembly.complete(&[0x80], 7), Ok((None, _))));
    assert!(matches!(
        reassembly.complete(&[0x01], 7),
        Err(DecodeError::TooLarge { bytes: 131, max: 7 })
    ));
}
