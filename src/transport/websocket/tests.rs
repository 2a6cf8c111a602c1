//! Frames of clients, byte by byte and all at once, and those of the server.

use super::frame::CloseCode;
use super::*;
use proptest::prelude::*;

const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A client's frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_head(first, payload.len());
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn frame_head(first: u8, payload_bytes: usize) -> Vec<u8> {
    match payload_bytes {
        0..=125 => vec![first, 0x80 | u8::try_from(payload_bytes).expect("small")],
        126..=0xffff => {
            let [high, low] = u16::try_from(payload_bytes).expect("16 bits").to_be_bytes();
            vec![first, 0xfe, high, low]
        }
        _ => [&[first, 0xff][..], &(payload_bytes as u64).to_be_bytes()].concat(),
    }
}

fn open() -> Websocket {
    Websocket { state: State::Open(Reader::default()), ping: None, closed: false }
}

#[derive(Debug, Default, PartialEq)]
struct Heard {
    data: Vec<u8>,
    wire: Vec<u8>,
    ended: bool,
    error: Option<WebsocketError>,
}

fn hear(websocket: &mut Websocket, pieces: &[&[u8]]) -> Heard {
    let mut heard = Heard::default();
    for piece in pieces {
        let Heard { data, wire, .. } = &mut heard;
        match websocket.receive(piece, &Settings::default(), None, data, wire) {
            Ok(arrived) => heard.ended |= arrived.ended,
            Err(error) => heard.error = Some(error),
        }
        websocket.answer(&mut heard.wire);
    }
    heard
}

#[track_caller]
fn fails(bytes: &[u8], code: CloseCode) {
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    for pieces in [&[bytes][..], &single] {
        let heard = hear(&mut open(), pieces);
        let [high, low] = (code as u16).to_be_bytes();
        assert_eq!(heard.error, Some(WebsocketError::Frame(code)), "{bytes:x?}");
        assert_eq!(heard.wire, [0x88, 2, high, low]);
    }
}

#[test]
fn frames_that_break_the_rules_close_with_1002() {
    fails(&[0x82, 0x01, b'x'], CloseCode::Protocol); // no mask
    fails(&frame(0xc2, b"x"), CloseCode::Protocol); // reserved bits
    fails(&frame(0xa2, b"x"), CloseCode::Protocol);
    fails(&frame(0x92, b"x"), CloseCode::Protocol);
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        fails(&frame(0x80 | opcode, b"x"), CloseCode::Protocol);
    }
    fails(&frame(0x80, b"x"), CloseCode::Protocol); // nothing to continue
    fails(&[frame(0x02, b"x"), frame(0x82, b"x")].concat(), CloseCode::Protocol);
    fails(&[frame(0x02, b"x"), frame(0x81, b"x")].concat(), CloseCode::Protocol);
    for control in [0x08, 0x09, 0x0a] {
        fails(&frame(control, b"x"), CloseCode::Protocol); // fragmented
        fails(&frame(0x80 | control, &[0; 126]), CloseCode::Protocol);
    }
    fails(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0], CloseCode::Protocol); // not the shortest form
    fails(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], CloseCode::Protocol);
    fails(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], CloseCode::Protocol); // 2^63
    fails(&frame(0x88, b"x"), CloseCode::Protocol); // half a code
    fails(&frame(0x88, &999u16.to_be_bytes()), CloseCode::Protocol);
    fails(&frame(0x88, &1005u16.to_be_bytes()), CloseCode::Protocol);
    fails(&frame(0x88, &[0x03, 0xe8, 0xff]), CloseCode::Protocol); // no UTF-8
}

// [MQTT-6.0.0-1]
#[test]
fn text_closes_with_1003() {
    fails(&frame(0x81, b"\x10\x0c"), CloseCode::Unsupported);
    fails(&frame(0x01, b""), CloseCode::Unsupported);
}

#[test]
fn a_claimed_length_costs_nothing() {
    let mut websocket = open();
    let heard =
        hear(&mut websocket, &[&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]);
    assert_eq!(heard, Heard::default());
    assert_eq!(heard.data.capacity(), 0);
}

#[test]
fn only_the_last_ping_is_answered() {
    let pings: Vec<u8> = (0..100u8).flat_map(|number| frame(0x89, &[number])).collect();
    let heard = hear(&mut open(), &[&pings]);
    assert_eq!(heard, Heard { wire: vec![0x8a, 1, 99], ..Heard::default() });
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [frame(0x02, b"ab"), frame(0x89, b"p"), frame(0x8a, b"q"), frame(0x80, b"c")];
    let heard = hear(&mut open(), &[&bytes.concat()]);
    let expected = Heard { data: b"abc".to_vec(), wire: vec![0x8a, 1, b'p'], ..Heard::default() };
    assert_eq!(heard, expected);
}

#[test]
fn a_close_is_answered_once_and_ends_everything() {
    let mut websocket = open();
    let bytes = [frame(0x88, &[0x03, 0xe9]), frame(0x82, b"late")].concat();
    let heard = hear(&mut websocket, &[&bytes]);
    let expected = Heard { wire: vec![0x88, 2, 0x03, 0xe9], ended: true, ..Heard::default() };
    assert_eq!(heard, expected);
    let mut wire = Vec::new();
    websocket.finish(&mut wire);
    assert!(wire.is_empty());
    assert_eq!(hear(&mut websocket, &[b"more"]).data, b"");
}

#[test]
fn the_server_ends_with_1000() {
    let mut websocket = open();
    let mut wire = Vec::new();
    websocket.finish(&mut wire);
    websocket.finish(&mut wire);
    assert_eq!(wire, [0x88, 2, 0x03, 0xe8]);
}

// [MQTT-6.0.0-1] The server sends binary frames.
#[test]
fn output_is_framed_where_it_is() {
    for (payload_bytes, header) in [
        (1, &[0x82, 1][..]),
        (125, &[0x82, 125]),
        (126, &[0x82, 126, 0, 126]),
        (65535, &[0x82, 126, 0xff, 0xff]),
        (65536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let piece = Bytes::from(vec![7; payload_bytes - 1]);
        let mut output = Outgoing { bytes: vec![1], shared: vec![(1, piece.clone())] };
        open().seal(&mut output);
        let slices: Vec<&[u8]> = output.slices(0).collect();
        assert_eq!(slices[0], header);
        assert_eq!(slices[1], [1]);
        if let Some(last) = slices.get(2) {
            assert_eq!(last.as_ptr(), piece.as_ptr(), "copied");
        }
    }
}

proptest! {
    // [MQTT-6.0.0-2]
    #[test]
    fn any_frames_in_any_pieces_are_one_stream(
        payloads in proptest::collection::vec((any::<bool>(), 0usize..70_000, any::<u8>()), 1..4),
        cuts in proptest::collection::vec(1usize..5000, 1..40),
    ) {
        let (mut bytes, mut expected, mut fragmented) = (Vec::new(), Vec::new(), false);
        for (last, payload_bytes, seed) in payloads {
            let payload: Vec<u8> =
                (0..payload_bytes).map(|i| seed ^ u8::try_from(i % 251).unwrap_or(0)).collect();
            let opcode = if fragmented { 0 } else { 2 };
            bytes.extend(frame(opcode | u8::from(last) << 7, &payload));
            expected.extend(payload);
            fragmented = !last;
        }
        let mut websocket = open();
        let (mut rest, mut data, mut cuts) = (bytes.as_slice(), Vec::new(), cuts.iter().cycle());
        while !rest.is_empty() {
            let cut = (*cuts.next().expect("a cycle")).min(rest.len());
            let (piece, after) = rest.split_at(cut);
            let heard = hear(&mut websocket, &[piece]);
            prop_assert_eq!(heard.error, None);
            data.extend(heard.data);
            rest = after;
        }
        prop_assert_eq!(data, expected);
    }
}
