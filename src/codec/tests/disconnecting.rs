//! DISCONNECT and AUTH.

use super::{ALL, V3, V5, accepts, encoded, refuses, same, wire};
use crate::codec::{
    Auth, DecodeError, Disconnect, Packet, Properties, Property, PropertyList, Reason, Version,
};

fn disconnect(reason: Reason) -> Packet<'static> {
    Packet::Disconnect(Disconnect { reason, properties: Properties::default() })
}

#[test]
fn normal_disconnection_is_two_bytes() {
    same(ALL, "e0 00", &disconnect(Reason::NORMAL_DISCONNECTION));
    accepts(V5, "e0 01 00");
    accepts(V5, "e0 02 00 00");
}

#[test]
fn reason_exists_in_5_0_only() {
    same(V5, "e0 01 8e", &disconnect(Reason::SessionTakenOver));
    accepts(V5, "e0 02 8e 00");
    for version in V3 {
        assert_eq!(encoded(version, &disconnect(Reason::SessionTakenOver)), wire("e0 00"));
    }
    refuses(V3, "e0 01 00", DecodeError::TrailingBytes);
}

#[test]
fn disconnect_properties() {
    let mut list = PropertyList::new();
    list.push(Property::SessionExpiryInterval(60))
        .push(Property::ReasonString("bye"))
        .push(Property::ServerReference("other"));
    let properties = list.as_properties();
    let packet = Packet::Disconnect(Disconnect { reason: Reason::Success, properties });
    same(V5, "e0 * 00 [ 110000003c 1f <bye> 1c <other> ]", &packet);
    refuses(V5, "e0 * 00 [ 21 0001 ]", DecodeError::UnexpectedProperty(0x21));
    refuses(V5, "e0 03 00 00 00", DecodeError::TrailingBytes);
}

// [MQTT-3.14.2-1]
#[test]
fn disconnect_codes_are_listed_ones() {
    let listed = [
        0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x93,
        0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
    ];
    for code in 0..=0xff {
        let text = format!("e0 01 {code:02x}");
        if listed.contains(&code) {
            accepts(V5, &text);
        } else {
            refuses(V5, &text, DecodeError::BadReason(code));
        }
    }
    let unlisted = disconnect(Reason::UnsupportedProtocolVersion);
    assert_eq!(encoded(Version::V5, &unlisted), wire("e0 01 80"));
}

#[test]
fn auth_carries_its_method() {
    let mut list = PropertyList::new();
    list.push(Property::AuthenticationMethod("SCRAM")).push(Property::AuthenticationData(&[0, 1]));
    let properties = list.as_properties();
    for (code, reason) in [
        ("00", Reason::Success),
        ("18", Reason::ContinueAuthentication),
        ("19", Reason::ReAuthenticate),
    ] {
        let packet = Packet::Auth(Auth { reason, properties });
        same(V5, &format!("f0 * {code} [ 15 <SCRAM> 16 0002 0001 ]"), &packet);
        for version in V3 {
            assert!(encoded(version, &packet).is_empty());
        }
    }
    let properties = Properties::default();
    same(V5, "f0 00", &Packet::Auth(Auth { reason: Reason::Success, properties }));
    refuses(V5, "f0 02 18 00", DecodeError::NoAuthenticationMethod);
    refuses(V5, "f0 * 18 [ 16 0001 00 ]", DecodeError::NoAuthenticationMethod);
    refuses(V5, "f0 01 18", DecodeError::Truncated);
    refuses(V5, "f0 * 18 [ 15 <m> ] 00", DecodeError::TrailingBytes);
}

// [MQTT-3.15.2-1]
#[test]
fn auth_codes_are_listed_ones() {
    for code in 0..=0xff {
        let text = format!("f0 * {code:02x} [ 15 <m> ]");
        if [0x00, 0x18, 0x19].contains(&code) {
            accepts(V5, &text);
        } else {
            refuses(V5, &text, DecodeError::BadReason(code));
        }
    }
}
