//! Rows P01 to P06 and P09 to P12: bytes that are no packets, and packets that should not be there.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use crate::client::Client;
use crate::compose::{compose, frame, varint};
use crate::packet::Version;
use crate::siege::{Siege, VERSIONS, times};

/// Valid packets of a client, as text.
const PACKETS: [&str; 10] = [
    "publish p02/t p=0123456789",
    "publish p02/t q1 id=7 p=0123456789 retain",
    "publish p02/t q2 id=8 p=0123456789 up=a:b mexp=5 ct=text resp=p02/r corr=x",
    "subscribe 3 p02/a q1 p02/+/b q2 rh=1 sid=9",
    "unsubscribe 4 p02/a p02/b",
    "puback 7",
    "pubrec 8",
    "pubrel 8",
    "pubcomp 8",
    "disconnect 4 expiry=0",
];

const CONNECT: &str = "connect id=p02-victim keep=30 clean=1 will=p02/w wp=gone wq=1 user=u pass=p \
                       expiry=9 rmax=5 wdelay=1 up=a:b";

/// A packet whose body ends after `bytes`, with a Remaining Length that says so.
fn shortened(packet: &[u8], bytes: usize) -> Vec<u8> {
    let body = body_of(packet);
    let mut short = vec![packet[0]];
    short.extend(varint(bytes));
    short.extend(&body[..bytes]);
    short
}

fn body_of(packet: &[u8]) -> &[u8] {
    let header = 2 + packet[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    &packet[header..]
}

/// Sends bytes on a connection of their own, behind a CONNECT if asked, ends our side, and reads
/// until the broker has ended too.
fn shot(siege: &Siege, version: Version, connect: bool, bytes: &[u8]) {
    let mut socket = siege.socket();
    let mut all =
        if connect { compose("connect clean=1", version, "p02-shot") } else { Vec::new() };
    all.extend(bytes);
    // Who was closed already can't be written to.
    let _ = socket.write_all(&all);
    let _ = socket.shutdown(Shutdown::Write);
    // Which version the answer is of depends on the change.
    match socket.read_to_end(&mut Vec::new()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            panic!("{version:?}, {bytes:02x?}: not closed")
        }
        Ok(_) | Err(_) => {}
    }
}

/// Watches what the shots do: nothing but what valid packets of this test could.
fn watcher(siege: &Siege) -> Client {
    let mut client = siege.connected(Version::V5, "id=p-watch");
    client.ask("subscribe 1 p02/# q1 # q0", "suback");
    client
}

/// Everything the watcher got is a PUBLISH of this test, whole or with a shorter payload.
fn nothing_else(mut watcher: Client) {
    watcher.say("pingreq");
    loop {
        let packet = watcher.packet();
        match packet.name {
            "pingresp" => return,
            "publish" if packet.topic == "canary/song" => {}
            "publish" => {
                let known = packet.topic == "p02/t" && b"0123456789".starts_with(&packet.payload);
                let will = packet.topic == "p02/w" && b"gone".starts_with(&packet.payload);
                assert!(known || will, "{}", packet.text());
                if packet.qos == 1 {
                    watcher.say(&format!("puback {}", packet.id));
                }
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_length_that_is_no_length_ends_the_stream() {
    // P01: what follows it is not read as packets, so nothing can be smuggled behind it.
    let siege = Siege::lay("P01", "");
    for version in VERSIONS {
        let smuggled = compose("publish canary/song p=smuggled", version, "");
        for length in [
            &[0x80, 0x80, 0x80, 0x80, 0x00][..],
            &[0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0x80, 0x80, 0x80, 0x80, 0x01],
        ] {
            for first in [0x30, 0x82, 0xc0, 0xe0] {
                let mut client = siege.connected(version, "id=p01");
                let mut bytes = vec![first];
                bytes.extend(length);
                bytes.extend(&smuggled);
                client.write(&bytes);
                let last = client.ended();
                assert_eq!(last.is_some(), version == Version::V5, "{version:?} {length:02x?}");
            }
        }
        // Longer than it need be: forbidden in 5.0 [MQTT-1.5.5-1]; 3.x does not say, and Culex has
        // one rule for all.
        let mut client = siege.connected(version, "id=p01");
        client.write(&[&[0xc0, 0x80, 0x00][..], &smuggled].concat());
        client.ended();
    }
    // The same in the lengths inside: properties, subscription identifier.
    for body in [&b"\x00\x01a\x80\x00"[..], b"\x00\x01a\x80\x80\x80\x80\x00", b"\x00\x01a\xff\x7f"]
    {
        let mut client = siege.connected(Version::V5, "id=p01");
        client.write(&frame(3, 0, body));
        assert_eq!(client.ended().expect("DISCONNECT").codes, [0x81]);
    }
    let mut client = siege.connected(Version::V5, "id=p01");
    client.write(&frame(8, 2, b"\x00\x01\x03\x0b\x81\x00\x00\x01a\x00"));
    assert_eq!(client.ended().expect("DISCONNECT").codes, [0x81]);
    siege.lifted();
}

#[test]
fn every_cut_of_every_packet_does_nothing() {
    // P02: with the claimed length, and with a corrected one; then the end of the stream.
    let siege = Siege::lay("P02", "");
    let watcher = watcher(&siege);
    let stride = times(7, 1);
    let mut cases = 0;
    for version in VERSIONS {
        let connect = compose(CONNECT, version, "");
        let packets = PACKETS.iter().map(|text| (true, compose(text, version, "")));
        for (live, packet) in packets.chain([(false, connect)]) {
            for cut in (1..packet.len()).skip(cases % stride).step_by(stride) {
                shot(&siege, version, live, &packet[..cut]);
                cases += 1;
            }
            for cut in (0..body_of(&packet).len()).skip(cases % stride).step_by(stride) {
                shot(&siege, version, live, &shortened(&packet, cut));
                cases += 1;
            }
        }
    }
    println!("P02: {cases} cases");
    nothing_else(watcher);
    siege.bounded(4_000);
    siege.lifted();
}

#[test]
fn inner_lengths_are_held_against_the_packet() {
    // P03: every pair of bytes in turn is taken for a length.
    let siege = Siege::lay("P03", "");
    let watcher = watcher(&siege);
    let stride = times(5, 1);
    let mut cases = 0;
    for version in VERSIONS {
        for text in PACKETS.iter().take(5).chain(&[CONNECT]) {
            let packet = compose(text, version, "");
            let body = body_of(&packet).to_vec();
            for at in (0..body.len().saturating_sub(1)).skip(cases % stride).step_by(stride) {
                for length in [[0xff, 0xff], [0x00, 0x00], [0x7f, 0xff]] {
                    let mut wrong = body.clone();
                    wrong[at..at + 2].copy_from_slice(&length);
                    let bytes = frame(usize::from(packet[0] >> 4), packet[0] & 0xf, &wrong);
                    shot(&siege, version, *text != CONNECT, &bytes);
                    cases += 1;
                }
            }
        }
    }
    println!("P03: {cases} cases");
    // Changed bytes may make other valid packets, so what came is not looked at.
    drop(watcher);
    siege.lifted();
}

#[test]
fn each_packet_has_its_direction_and_its_place() {
    // P04
    let siege = Siege::lay("P04", "");
    for version in VERSIONS {
        // As the first packet: no answer at all but the end.
        for kind in (0..16).filter(|kind| *kind != 1) {
            for flags in [0, 2] {
                let mut client = siege.client(version);
                client.write(&frame(kind, flags, &[0, 1]));
                assert!(client.ended().is_none(), "{version:?}, type {kind}");
            }
        }
        // Later: what only a server sends, CONNECT again, AUTH without a method.
        for kind in [0, 1, 2, 9, 11, 13, 15] {
            let body: &[u8] = match kind {
                1 => &compose("connect", version, "again")[2..],
                13 => &[],
                15 => &[0x18, 0x00],
                _ => &[0, 1, 0],
            };
            let mut client = siege.connected(version, "id=p04");
            client.write(&frame(kind, 0, body));
            let last = client.ended();
            if version == Version::V5 {
                let codes = last.expect("a DISCONNECT").codes;
                assert!(matches!(codes[0], 0x81 | 0x82), "type {kind}: {codes:02x?}");
            }
        }
        // Acknowledgements of nothing.
        let mut client = siege.connected(version, "id=p04");
        client.say("puback 77");
        client.say("pubcomp 78");
        let answer = client.ask("pubrec 79", "pubrel");
        assert_eq!(answer.id, 79);
        let answer = client.ask("pubrel 80", "pubcomp");
        assert_eq!(answer.id, 80);
        if version == Version::V5 {
            assert_eq!(answer.codes, [0x92]);
        }
        client.alive();
    }
    siege.lifted();
}

#[test]
fn topics_and_filters_have_exact_answers() {
    // P05, P06, R12
    let siege = Siege::lay("P05", "[limits]\ntopic_levels_max = 128\ntopic_bytes_max = 65535\n");
    let watcher = watcher(&siege);
    let deep = "/".repeat(60_000);
    for topic in ["''", "a/+", "#", "a#b", &deep, "$SYS/x\u{0}"] {
        for version in VERSIONS {
            let mut client = siege.connected(version, "id=p05");
            client.say(&format!("publish {topic} p=x"));
            client.ended();
        }
    }
    let many = vec!["f/+"; 10_000].join(" ");
    for version in VERSIONS {
        let mut client = siege.connected(version, "id=p06");
        for (filter, code) in [
            ("a/#/b", 0x8f),
            ("a+", 0x8f),
            ("#a", 0x8f),
            ("$share//t", 0x8f),
            ("$share/g", 0x8f),
            ("$share/g/", 0x8f),
            ("$share/+/t", 0x8f),
            ("$share/g#/t", 0x8f),
            (&*deep, 0x8f),
            ("a/+/#", 0),
            ("/", 0),
        ] {
            let suback = client.ask(&format!("subscribe 9 {filter}"), "suback");
            let code = if version < Version::V5 && code > 2 { 0x80 } else { code };
            assert_eq!(suback.codes, [code], "{version:?} {}", &filter[..filter.len().min(20)]);
        }
        let suback = client.ask(&format!("subscribe 10 {many}"), "suback");
        assert_eq!(suback.codes.len(), 10_000);
        client.say("subscribe 11");
        client.ended();
    }
    nothing_else(watcher);
    siege.lifted();
}

#[test]
fn wrong_flags_end_the_connection() {
    // P09
    let siege = Siege::lay("P09", "");
    for version in VERSIONS {
        for (kind, flags) in
            [(3, 0x06), (3, 0x08), (6, 0), (8, 0), (10, 0), (12, 1), (4, 1), (14, 1)]
        {
            let mut client = siege.connected(version, "id=p09");
            client.write(&frame(kind, flags, &[0, 1, b'a', 0, 1]));
            client.ended();
        }
        for flags in ["flags=0x01", "flags=0x18", "flags=0x1c", "flags=0x40", "flags=0x28"] {
            if flags == "flags=0x40" && version == Version::V5 {
                // 5.0 allows a password without a user name; here there is none in the payload.
                continue;
            }
            let mut client = siege.client(version);
            client.say(&format!("connect id=p09 {flags}"));
            let last = client.ended();
            assert!(last.is_none_or(|packet| packet.codes != [0]), "{version:?} {flags}");
        }
    }
    siege.lifted();
}

#[test]
fn text_that_is_no_text_stays_outside() {
    // P10: the canary and the watcher read every string strictly.
    let siege = Siege::lay("P10", "");
    let watcher = watcher(&siege);
    let bad: [&[u8]; 5] = [b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"a\0b", b"\xf4\x90\x80\x80"];
    let text =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    for bytes in bad {
        for version in VERSIONS {
            let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
            // Topic.
            let publish = frame(3, 0, &[&text(bytes), properties, b"x"].concat());
            // Filter.
            let filter = [&[0, 1][..], properties, &text(bytes), &[0]].concat();
            // Response topic, content type, user property.
            let mut packets = vec![publish, frame(8, 2, &filter)];
            if version == Version::V5 {
                for id in [0x08, 0x03] {
                    let block = [&[id][..], &text(bytes)].concat();
                    let length = [u8::try_from(block.len()).unwrap()];
                    packets.push(frame(3, 0, &[&text(b"p02/t"), &length[..], &block].concat()));
                }
                let block = [&[0x26][..], &text(b"k"), &text(bytes)].concat();
                let length = [u8::try_from(block.len()).unwrap()];
                packets.push(frame(3, 0, &[&text(b"p02/t"), &length[..], &block].concat()));
            }
            for packet in packets {
                let mut client = siege.connected(version, "id=p10");
                client.write(&packet);
                client.ended();
            }
            // Client identifier, will topic, user name.
            let head = match version {
                Version::V31 => b"\x00\x06MQIsdp\x03".to_vec(),
                Version::V311 => b"\x00\x04MQTT\x04".to_vec(),
                Version::V5 => b"\x00\x04MQTT\x05".to_vec(),
            };
            let keep: &[u8] = if version == Version::V5 { &[0, 9, 0] } else { &[0, 9] };
            let plain = text(b"p10");
            for (flags, payload) in [
                (0x02, text(bytes)),
                (0x06, [&plain, properties, &text(bytes), &text(b"w")].concat()),
                (0x82, [&plain[..], &text(bytes)].concat()),
            ] {
                let mut client = siege.client(version);
                client.write(&frame(1, 0, &[&head, &[flags][..], keep, &payload].concat()));
                let last = client.ended();
                assert!(last.is_none_or(|packet| packet.codes != [0]), "{version:?} {bytes:02x?}");
            }
        }
    }
    nothing_else(watcher);
    siege.lifted();
}

/// Numbers without a pattern, the same in every run.
struct Prng(u64);

impl Prng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

#[test]
fn mutated_streams_from_many_sides() {
    // P11: several connections with the same session and topics; packets, HTTP and TLS, mutated.
    let siege = Siege::lay("P11", "[limits]\nconnect_timeout_s = 2\n");
    let mut prng = Prng(11);
    let foreign: [&[u8]; 2] =
        [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03"];
    for round in 0..times(300, 100_000) {
        let version = VERSIONS[prng.below(3)];
        let mut clients = Vec::new();
        for _ in 0..3 {
            let mut bytes = compose("connect id=p11 clean=0 expiry=9", version, "");
            for _ in 0..prng.below(6) {
                bytes.extend(compose(PACKETS[prng.below(PACKETS.len())], version, ""));
            }
            if prng.below(10) == 0 {
                bytes = foreign[prng.below(2)].to_vec();
            }
            for _ in 0..prng.below(4) {
                let at = prng.below(bytes.len());
                match prng.below(3) {
                    0 => bytes[at] = u8::try_from(prng.below(256)).unwrap(),
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, u8::try_from(prng.below(256)).unwrap()),
                }
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            let mut client = siege.client(version);
            client.write(&bytes);
            clients.push(client);
        }
        for client in clients {
            client.reset();
        }
        if round % 100 == 0 {
            siege.connected(Version::V5, "id=p11-alive").alive();
        }
    }
    siege.bounded(6_000);
    siege.lifted();
}

#[test]
fn odd_but_legal_messages_pass_everywhere() {
    // P12: live, retained, queued, resumed, deleted.
    let siege = Siege::lay("P12", "");
    let topics = ["/", "//", "\u{feff}", "ü/€/\u{1f980}", "%s%n%x", "'\"<x>/{{7*7}}", "..", "-"];
    for version in VERSIONS {
        let mut sub = siege.connected(version, "id=p12-sub clean=0 expiry=60");
        for topic in topics {
            assert_eq!(sub.ask(&format!("subscribe 5 {topic} q1"), "suback").codes, [1]);
        }
        drop(sub.ask("pingreq", "pingresp"));
        sub.say("disconnect");
        sub.ended();
        let mut publisher = siege.connected(version, "id=p12-pub");
        for topic in topics {
            publisher.ask(&format!("publish {topic} q1 id=9 retain p=x:00ff0a1b5b33"), "puback");
        }
        let mut sub = siege.connected(version, "id=p12-sub clean=0 expiry=60");
        for topic in topics {
            let packet = sub.packet();
            assert_eq!((packet.name, &*packet.topic), ("publish", topic), "{}", packet.text());
            assert_eq!(packet.payload, b"\x00\xff\x0a\x1b\x5b\x33");
            sub.say(&format!("puback {}", packet.id));
        }
        let mut late = siege.connected(version, "id=p12-late");
        late.say("subscribe 5 #");
        let mut found = 0;
        while found < topics.len() {
            let packet = late.packet();
            found += usize::from(packet.name == "publish" && topics.contains(&&*packet.topic));
        }
        for topic in topics {
            publisher.ask(&format!("publish {topic} q1 id=9 retain p="), "puback");
        }
        sub.say("disconnect");
        sub.ended();
        siege.connected(version, "id=p12-sub clean=1");
    }
    siege.lifted();
}
