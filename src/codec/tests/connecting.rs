//! CONNECT and CONNACK.

use super::{ALL, V3, V5, accepts, decoded, encoded, refuses, same, wire};
use crate::codec::{
    Connack, Connect, DecodeError, Packet, Properties, Property, PropertyList, Qos, Reason,
    Version, Will,
};

fn connect(version: Version, client_id: &str) -> Connect<'_> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        properties: Properties::default(),
        client_id,
        will: None,
        username: None,
        password: None,
    }
}

#[test]
fn version_is_the_packets_own() {
    // The version that decode is called with plays no role.
    for (text, version) in [
        ("10 * <MQIsdp> 03 02 003c <id>", Version::V31),
        ("10 * <MQTT> 04 02 003c <id>", Version::V311),
        ("10 * <MQTT> 05 02 003c 00 <id>", Version::V5),
    ] {
        same(ALL, text, &Packet::Connect(connect(version, "id")));
    }
}

#[test]
fn bridges_mark_themselves_before_5_0() {
    for (text, version) in [
        ("10 * <MQIsdp> 83 02 003c <id>", Version::V31),
        ("10 * <MQTT> 84 02 003c <id>", Version::V311),
    ] {
        let packet = Packet::Connect(Connect { bridge: true, ..connect(version, "id") });
        same(ALL, text, &packet);
    }
    let error = DecodeError::UnsupportedVersion { level: 0x85 };
    refuses(ALL, "10 * <MQTT> 85 02 003c 00 <id>", error);
}

// [MQTT-3.1.2-2]
#[test]
fn unknown_level_is_unsupported() {
    for level in (0..=0xff).filter(|level| ![4, 5, 0x84].contains(level)) {
        let text = format!("10 * <MQTT> {level:02x} 'whatever-follows'");
        refuses(ALL, &text, DecodeError::UnsupportedVersion { level });
    }
    for level in (0..=0xff).filter(|level| ![3, 0x83].contains(level)) {
        let text = format!("10 * <MQIsdp> {level:02x} 'whatever-follows'");
        refuses(ALL, &text, DecodeError::UnsupportedVersion { level });
    }
    let error = DecodeError::UnsupportedVersion { level: 6 };
    assert_eq!(error.reason(), Reason::UnsupportedProtocolVersion);
}

// [MQTT-3.1.2-1]
#[test]
fn unknown_name_is_unsupported() {
    for name in ["<mqtt>", "<MQTt>", "<MQTTX>", "<MQT>", "0000", "0002ffff", "<AMQP>"] {
        refuses(ALL, &format!("10 * {name} 04 02 003c <id>"), DecodeError::UnknownProtocol);
    }
    assert_eq!(DecodeError::UnknownProtocol.reason(), Reason::UnsupportedProtocolVersion);
}

#[test]
fn everything_before_5_0() {
    let will = Will {
        qos: Qos::ExactlyOnce,
        retain: true,
        properties: Properties::default(),
        topic: "w/t",
        payload: &[0xff, 0],
    };
    let packet = Packet::Connect(Connect {
        clean_start: false,
        keep_alive_s: 0xffff,
        will: Some(will),
        username: Some("u"),
        password: Some(&[0, 0xfe]),
        ..connect(Version::V311, "id")
    });
    // [MQTT-3.1.3-1]
    same(ALL, "10 * <MQTT> 04 f4 ffff <id> <w/t> 0002ff00 <u> 000200fe", &packet);
}

#[test]
fn everything_in_5_0() {
    let mut list = PropertyList::new();
    list.push(Property::SessionExpiryInterval(0xffff_ffff))
        .push(Property::ReceiveMaximum(10))
        .push(Property::MaximumPacketSize(0x0001_0000))
        .push(Property::TopicAliasMaximum(5))
        .push(Property::RequestResponseInformation(true))
        .push(Property::RequestProblemInformation(false))
        .push(Property::UserProperty("k", "v"))
        .push(Property::AuthenticationMethod("m"))
        .push(Property::AuthenticationData(&[9]));
    let mut will_list = PropertyList::new();
    will_list.push(Property::WillDelayInterval(5)).push(Property::ContentType("text"));
    let will = Will {
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: will_list.as_properties(),
        topic: "w",
        payload: b"gone",
    };
    let packet = Packet::Connect(Connect {
        properties: list.as_properties(),
        will: Some(will),
        username: Some("u"),
        password: Some(b"p"),
        ..connect(Version::V5, "id")
    });
    let text = "10 * <MQTT> 05 ce 003c \
        [ 11ffffffff 21000a 2700010000 220005 1901 1700 26 <k> <v> 15 <m> 16 0001 09 ] \
        <id> [ 1800000005 03 <text> ] <w> <gone> <u> <p>";
    same(ALL, text, &packet);
    let Packet::Connect(connect) = packet else { unreachable!() };
    assert_eq!(connect.properties.session_expiry_interval(), Some(u32::MAX));
    assert_eq!(connect.properties.receive_maximum(), Some(10));
    assert_eq!(connect.properties.maximum_packet_size(), Some(0x0001_0000));
    assert_eq!(connect.properties.topic_alias_maximum(), Some(5));
    assert_eq!(connect.properties.request_response_information(), Some(true));
    assert_eq!(connect.properties.request_problem_information(), Some(false));
    assert_eq!(connect.properties.authentication_method(), Some("m"));
    assert_eq!(connect.properties.authentication_data(), Some([9].as_slice()));
    let will = connect.will.expect("will");
    assert_eq!(will.properties.will_delay_interval(), Some(5));
    assert_eq!(will.properties.content_type(), Some("text"));
    assert_eq!(will.properties.message_expiry_interval(), None);
}

/// Fixed header to keep-alive, for flags that are all there is to test.
fn with_flags(version: Version, flags: u8) -> String {
    match version {
        Version::V31 => format!("10 * <MQIsdp> 03 {flags:02x} 003c <id>"),
        Version::V311 => format!("10 * <MQTT> 04 {flags:02x} 003c <id>"),
        Version::V5 => format!("10 * <MQTT> 05 {flags:02x} 003c 00 <id>"),
    }
}

// [MQTT-3.1.2-3]
#[test]
fn reserved_flag_is_malformed() {
    for version in ALL {
        let text = with_flags(version, 0x03);
        refuses(ALL, &text, DecodeError::BadConnectFlags(0x03));
    }
}

// [MQTT-3.1.2-11] [MQTT-3.1.2-13]
#[test]
fn will_flags_need_a_will() {
    for version in ALL {
        for flags in [0x08, 0x10, 0x18, 0x20, 0x38] {
            let text = with_flags(version, flags);
            refuses(ALL, &text, DecodeError::BadConnectFlags(flags));
        }
    }
}

// [MQTT-3.1.2-12]
#[test]
fn will_qos_3_is_malformed() {
    for version in ALL {
        let will = if version == Version::V5 { "00 <t> <p>" } else { "<t> <p>" };
        refuses(ALL, &format!("{} {will}", with_flags(version, 0x1c)), DecodeError::BadQos);
        accepts(ALL, &format!("{} {will}", with_flags(version, 0x14)));
    }
}

// [MQTT-3.1.2-22 of 3.1.1]
#[test]
fn password_alone_is_legal_in_5_0_only() {
    for version in V3 {
        let text = format!("{} <p>", with_flags(version, 0x42));
        refuses(ALL, &text, DecodeError::PasswordAlone);
    }
    let packet = Packet::Connect(Connect { password: Some(b"p"), ..connect(Version::V5, "id") });
    same(ALL, &format!("{} <p>", with_flags(Version::V5, 0x42)), &packet);
    let packet = Packet::Connect(Connect { password: Some(b"p"), ..connect(Version::V311, "id") });
    assert_eq!(encoded(Version::V311, &packet), wire(&with_flags(Version::V311, 0x02)));
}

// [MQTT-3.1.2-9] [MQTT-3.1.2-17] [MQTT-3.1.2-19]
#[test]
fn announced_field_must_be_there() {
    for flags in [0x04, 0x80, 0xc0] {
        for version in [Version::V311, Version::V5] {
            refuses(ALL, &with_flags(version, flags), DecodeError::Truncated);
        }
    }
    refuses(ALL, &format!("{} <u>", with_flags(Version::V311, 0xc0)), DecodeError::Truncated);
    refuses(ALL, &with_flags(Version::V31, 0x04), DecodeError::Truncated);
}

// [MQTT-3.1.2-16] [MQTT-3.1.2-18]
#[test]
fn unannounced_field_is_malformed() {
    for version in ALL {
        let text = format!("{} <u>", with_flags(version, 0x02));
        refuses(ALL, &text, DecodeError::TrailingBytes);
    }
}

/// MQTT 3.1 §3.1, "the Remaining Length takes precedence over the User Name flag".
#[test]
fn user_name_may_be_missing_in_3_1() {
    for (flags, rest, username) in [(0x82, "", None), (0xc2, "", None), (0xc2, "<u>", Some("u"))] {
        let bytes = wire(&format!("{} {rest}", with_flags(Version::V31, flags)));
        let packet = Packet::Connect(Connect { username, ..connect(Version::V31, "id") });
        assert_eq!(decoded(Version::V31, &bytes), Ok(packet));
    }
}

// [MQTT-3.1.3-3] [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12]
#[test]
fn texts_are_utf_8() {
    refuses(ALL, "10 * <MQTT> 04 02 003c", DecodeError::Truncated);
    refuses(ALL, "10 * <MQTT> 04 02 003c 0001 ff", DecodeError::BadString);
    refuses(ALL, "10 * <MQTT> 04 06 003c <id> 0001 ff <p>", DecodeError::BadString);
    refuses(ALL, "10 * <MQTT> 04 82 003c <id> 0001 ff", DecodeError::BadString);
    refuses(ALL, "10 * <MQTT> 04 82 003c <id> 0001 00", DecodeError::BadString);
    accepts(ALL, "10 * <MQTT> 04 02 003c 0000");
}

#[test]
fn properties_of_connect_and_will_are_apart() {
    let unexpected = DecodeError::UnexpectedProperty;
    refuses(ALL, "10 * <MQTT> 05 02 003c [ 1800000005 ] <id>", unexpected(0x18));
    refuses(ALL, "10 * <MQTT> 05 06 003c 00 <id> [ 21000a ] <t> <p>", unexpected(0x21));
    refuses(ALL, "10 * <MQTT> 05 06 003c 00 <id> [ 230001 ] <t> <p>", unexpected(0x23));
}

/// MQTT 5.0 §3.1.2.11.10.
#[test]
fn authentication_data_needs_a_method() {
    let error = DecodeError::NoAuthenticationMethod;
    refuses(ALL, "10 * <MQTT> 05 02 003c [ 16 0001 00 ] <id>", error);
    assert_eq!(error.reason(), Reason::ProtocolError);
    accepts(ALL, "10 * <MQTT> 05 02 003c [ 16 0001 00 15 <m> ] <id>");
}

fn connack(session_present: bool, reason: Reason) -> Packet<'static> {
    Packet::Connack(Connack { session_present, reason, properties: Properties::default() })
}

#[test]
fn connack_of_each_version() {
    same(V3, "20 02 00 00", &connack(false, Reason::Success));
    same(V5, "20 03 00 00 00", &connack(false, Reason::Success));
    same([Version::V311], "20 02 01 00", &connack(true, Reason::Success));
    same(V5, "20 03 01 00 00", &connack(true, Reason::Success));
    same(V5, "20 03 00 87 00", &connack(false, Reason::NotAuthorized));
}

#[test]
fn session_present_does_not_exist_in_3_1() {
    let packet = connack(true, Reason::Success);
    assert_eq!(encoded(Version::V31, &packet), wire("20 02 00 00"));
    let bytes = wire("20 02 01 00");
    assert_eq!(decoded(Version::V31, &bytes), Ok(connack(false, Reason::Success)));
}

// [MQTT-3.2.2-1] [MQTT-3.2.2-6]
#[test]
fn connack_flags() {
    refuses([Version::V311], "20 02 02 00", DecodeError::BadConnackFlags(2));
    refuses(V5, "20 03 80 00 00", DecodeError::BadConnackFlags(0x80));
    refuses([Version::V311], "20 02 01 05", DecodeError::BadConnackFlags(1));
    refuses(V5, "20 03 01 87 00", DecodeError::BadConnackFlags(1));
    let refused = connack(true, Reason::NotAuthorized);
    assert_eq!(encoded(Version::V311, &refused), wire("20 02 00 05"));
    assert_eq!(encoded(Version::V5, &refused), wire("20 03 00 87 00"));
}

#[test]
fn return_codes_before_5_0() {
    for (code, reason) in [
        (0, Reason::Success),
        (1, Reason::UnsupportedProtocolVersion),
        (2, Reason::ClientIdentifierNotValid),
        (3, Reason::ServerUnavailable),
        (4, Reason::BadUserNameOrPassword),
        (5, Reason::NotAuthorized),
    ] {
        same(V3, &format!("20 02 00 {code:02x}"), &connack(false, reason));
    }
    for code in 6..=0xff {
        refuses(V3, &format!("20 02 00 {code:02x}"), DecodeError::BadReason(code));
        assert_eq!(Reason::from_connack_code(code), None);
    }
    for (reason, code) in [
        (Reason::Banned, Some(5)),
        (Reason::BadAuthenticationMethod, Some(5)),
        (Reason::ServerBusy, Some(3)),
        (Reason::ServerShuttingDown, Some(3)),
        (Reason::UseAnotherServer, Some(3)),
        (Reason::MalformedPacket, None),
        (Reason::PacketTooLarge, None),
    ] {
        assert_eq!(reason.connack_code(), code, "{reason:?}");
    }
}

// [MQTT-3.2.2-8]
#[test]
fn connack_codes_are_listed_ones() {
    let listed = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95,
        0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
    ];
    for code in 0..=0xff {
        let text = format!("20 03 00 {code:02x} 00");
        if listed.contains(&code) {
            accepts(V5, &text);
        } else {
            refuses(V5, &text, DecodeError::BadReason(code));
        }
    }
    let unlisted = connack(false, Reason::KeepAliveTimeout);
    assert_eq!(encoded(Version::V5, &unlisted), wire("20 03 00 80 00"));
    assert_eq!(encoded(Version::V311, &unlisted), wire("20 02 00 03"));
}

#[test]
fn malformed_connacks() {
    for text in ["20 00", "20 01 00"] {
        refuses(ALL, text, DecodeError::Truncated);
    }
    refuses(V5, "20 02 00 00", DecodeError::Truncated);
    refuses(V3, "20 03 00 00 00", DecodeError::TrailingBytes);
    refuses(V5, "20 04 00 00 00 00", DecodeError::TrailingBytes);
}
