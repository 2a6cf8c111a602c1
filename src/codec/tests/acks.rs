//! PUBACK, PUBREC, PUBREL, PUBCOMP.

use super::{ALL, V3, V5, accepts, encoded, id, refuses, same, wire};
use crate::codec::{
    Ack, AckKind, DecodeError, Packet, Properties, Property, PropertyList, Reason, Version,
    encode_ack,
};

const KINDS: [(AckKind, &str); 4] = [
    (AckKind::Puback, "40"),
    (AckKind::Pubrec, "50"),
    (AckKind::Pubrel, "62"),
    (AckKind::Pubcomp, "70"),
];

fn packet(kind: AckKind, ack: Ack<'_>) -> Packet<'_> {
    match kind {
        AckKind::Puback => Packet::Puback(ack),
        AckKind::Pubrec => Packet::Pubrec(ack),
        AckKind::Pubrel => Packet::Pubrel(ack),
        AckKind::Pubcomp => Packet::Pubcomp(ack),
    }
}

fn ack(number: u16, reason: Reason, properties: Properties<'_>) -> Ack<'_> {
    Ack { packet_id: id(number), reason, properties }
}

#[test]
fn success_is_four_bytes() {
    for (kind, first) in KINDS {
        let success = packet(kind, ack(0x0102, Reason::Success, Properties::default()));
        same(ALL, &format!("{first} 02 0102"), &success);
    }
}

#[test]
fn success_may_be_written_out() {
    for (_, first) in KINDS {
        accepts(V5, &format!("{first} 03 0001 00"));
        accepts(V5, &format!("{first} 04 0001 00 00"));
    }
}

#[test]
fn failure_has_its_code_in_5_0() {
    let not_found = Reason::PacketIdentifierNotFound;
    for (kind, first) in [KINDS[2], KINDS[3]] {
        let failure = packet(kind, ack(7, not_found, Properties::default()));
        same(V5, &format!("{first} 03 0007 92"), &failure);
        for version in V3 {
            assert_eq!(encoded(version, &failure), wire(&format!("{first} 02 0007")));
        }
    }
    for (kind, first) in [KINDS[0], KINDS[1]] {
        let failure = packet(kind, ack(7, Reason::QuotaExceeded, Properties::default()));
        same(V5, &format!("{first} 03 0007 97"), &failure);
    }
}

#[test]
fn properties_follow_the_code() {
    let mut list = PropertyList::new();
    list.push(Property::ReasonString("no")).push(Property::UserProperty("a", "b"));
    for (kind, first) in KINDS {
        let explained = packet(kind, ack(7, Reason::Success, list.as_properties()));
        same(V5, &format!("{first} * 0007 00 [ 1f <no> 26 <a> <b> ]"), &explained);
    }
}

// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[test]
fn only_listed_codes_are_accepted() {
    let of_publish: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    let of_release: &[u8] = &[0x00, 0x92];
    for (first, listed) in
        [("40", of_publish), ("50", of_publish), ("62", of_release), ("70", of_release)]
    {
        for code in 0..=0xff {
            let text = format!("{first} 03 0001 {code:02x}");
            if listed.contains(&code) {
                accepts(V5, &text);
            } else {
                refuses(V5, &text, DecodeError::BadReason(code));
            }
        }
    }
}

// [MQTT-3.4.2-1] and its siblings, as sender.
#[test]
fn unlisted_code_is_written_as_the_most_general_one() {
    for (kind, code) in [
        (AckKind::Puback, 0x80),
        (AckKind::Pubrec, 0x80),
        (AckKind::Pubrel, 0x92),
        (AckKind::Pubcomp, 0x92),
    ] {
        let mut out = Vec::new();
        encode_ack(kind, id(1), Reason::ServerBusy, Version::V5, &mut out);
        assert_eq!(out, [kind as u8, 3, 0, 1, code]);
    }
}

#[test]
fn malformed_acks() {
    for (_, first) in KINDS {
        refuses(ALL, &format!("{first} 00"), DecodeError::Truncated);
        refuses(ALL, &format!("{first} 01 00"), DecodeError::Truncated);
        // [MQTT-2.2.1-3]
        refuses(ALL, &format!("{first} 02 0000"), DecodeError::PacketIdZero);
        refuses(V3, &format!("{first} 03 0001 00"), DecodeError::TrailingBytes);
        refuses(V5, &format!("{first} 05 0001 00 00 00"), DecodeError::TrailingBytes);
        refuses(V5, &format!("{first} 04 0001 00 01"), DecodeError::Truncated);
    }
}

#[test]
fn packet_id_reaches_its_maximum() {
    same(ALL, "40 02 ffff", &Packet::Puback(ack(0xffff, Reason::Success, Properties::default())));
    same(ALL, "40 02 0001", &Packet::Puback(ack(1, Reason::Success, Properties::default())));
}
