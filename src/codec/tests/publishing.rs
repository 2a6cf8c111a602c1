//! PUBLISH, from and to the wire.

use super::{ALL, V3, V5, accepts, decoded, encoded, id, refuses, same, wire};
use crate::codec::{
    DecodeError, PACKET_BYTES_MAX, Packet, Properties, Property, PropertyList, Publish, PublishOut,
    Qos, Reason, Version, decode,
};
use std::num::NonZeroU16;

fn plain<'a>(topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish {
        dup: false,
        qos: Qos::AtMostOnce,
        retain: false,
        topic,
        packet_id: None,
        properties: Properties::default(),
        topic_alias: None,
        message_expiry_s: None,
        payload,
    }
}

fn out<'a>(topic: &'a str, payload: &'a [u8]) -> PublishOut<'a> {
    PublishOut {
        topic,
        payload,
        qos: Qos::AtMostOnce,
        dup: false,
        retain: false,
        packet_id: None,
        message_expiry_s: None,
        topic_alias: None,
        subscription_ids: &[],
        forwarded: &[],
    }
}

#[test]
fn plain_message() {
    same(V3, "30 * <a/b> 'hello'", &Packet::Publish(plain("a/b", b"hello")));
    same(V5, "30 * <a/b> 00 'hello'", &Packet::Publish(plain("a/b", b"hello")));
    same(V3, "30 * <t>", &Packet::Publish(plain("t", b"")));
}

#[test]
fn flags_and_packet_id() {
    for (first, dup, qos, retain) in [
        ("32", false, Qos::AtLeastOnce, false),
        ("33", false, Qos::AtLeastOnce, true),
        ("3a", true, Qos::AtLeastOnce, false),
        ("34", false, Qos::ExactlyOnce, false),
        ("3d", true, Qos::ExactlyOnce, true),
    ] {
        let packet_id = Some(id(0x1234));
        let publish = Publish { dup, qos, retain, packet_id, ..plain("t", b"p") };
        same(V3, &format!("{first} * <t> 1234 'p'"), &Packet::Publish(publish.clone()));
        same(V5, &format!("{first} * <t> 1234 00 'p'"), &Packet::Publish(publish));
    }
    let retained = Publish { retain: true, ..plain("t", b"") };
    same(V3, "31 * <t>", &Packet::Publish(retained));
}

// [MQTT-3.3.1-4]
#[test]
fn qos_3_is_malformed() {
    for first in ["36", "37", "3e", "3f"] {
        refuses(ALL, &format!("{first} * <t> 0001 00"), DecodeError::BadQos);
    }
}

// [MQTT-3.3.1-2]
#[test]
fn dup_at_qos_0_is_malformed() {
    refuses(ALL, "38 * <t> 00", DecodeError::DupWithoutQos);
    refuses(ALL, "39 * <t> 00", DecodeError::DupWithoutQos);
}

// [MQTT-2.2.1-3] [MQTT-2.3.1-1 of 3.1.1]
#[test]
fn packet_id_0_is_refused() {
    refuses(ALL, "32 * <t> 0000 00", DecodeError::PacketIdZero);
    assert_eq!(DecodeError::PacketIdZero.reason(), Reason::ProtocolError);
}

// [MQTT-2.2.1-2]
#[test]
fn qos_0_has_no_packet_id() {
    same(V3, "30 * <t> 0007", &Packet::Publish(plain("t", &[0, 7])));
}

#[test]
fn field_behind_the_end_is_malformed() {
    for text in ["30 00", "30 01 00", "30 02 0001", "32 03 0001 't'", "32 04 0001 't' 00"] {
        refuses(ALL, text, DecodeError::Truncated);
    }
    for text in ["30 03 0001 't'", "30 05 0001 't' 02 01", "30 * <t> 80", "30 * <t> ffff7f"] {
        refuses(V5, text, DecodeError::Truncated);
    }
}

// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.3.2-1]
#[test]
fn topic_is_utf_8_without_null() {
    for topic in ["ff", "c080", "eda080", "edbfbf", "f4908080", "c3", "00", "6100", "610062"] {
        let text = format!("30 * 00{:02x} {topic} 00", topic.len() / 2);
        refuses(ALL, &text, DecodeError::BadString);
    }
    assert_eq!(DecodeError::BadString.reason(), Reason::MalformedPacket);
}

// [MQTT-1.5.4-3]
#[test]
fn byte_order_mark_is_a_character() {
    same(V3, "30 * 0004 efbbbf 61", &Packet::Publish(plain("\u{feff}a", b"")));
}

// [MQTT-4.7.3-3]
#[test]
fn longest_topic() {
    let topic = "x".repeat(65_535);
    let packet = Packet::Publish(plain(&topic, b"p"));
    for version in ALL {
        assert_eq!(decoded(version, &encoded(version, &packet)), Ok(packet.clone()));
    }
}

// [MQTT-4.7.3-1]
#[test]
fn topic_is_empty_only_with_an_alias() {
    refuses(V3, "30 * 0000", DecodeError::NoTopic);
    refuses(V5, "30 * 0000 00", DecodeError::NoTopic);
    accepts(V5, "30 * 0000 [ 23 0001 ]");
    // [MQTT-3.3.2-8]
    refuses(V5, "30 * <t> [ 23 0000 ]", DecodeError::TopicAliasZero);
    assert_eq!(DecodeError::TopicAliasZero.reason(), Reason::TopicAliasInvalid);
}

#[test]
fn alias_and_expiry_are_found() {
    let mut list = PropertyList::new();
    list.push(Property::PayloadFormatIndicator(1))
        .push(Property::MessageExpiryInterval(10))
        .push(Property::TopicAlias(0x0203));
    let publish = Publish {
        properties: list.as_properties(),
        topic_alias: NonZeroU16::new(0x0203),
        message_expiry_s: Some(10),
        ..plain("t", b"p")
    };
    same(V5, "30 * <t> [ 0101 020000000a 230203 ] 'p'", &Packet::Publish(publish));
}

#[test]
fn alias_and_expiry_of_the_fields_are_written_once() {
    let publish =
        Publish { topic_alias: NonZeroU16::new(5), message_expiry_s: Some(6), ..plain("t", b"p") };
    let packet = Packet::Publish(publish);
    assert_eq!(encoded(Version::V5, &packet), wire("30 * <t> [ 0200000006 230005 ] 'p'"));
    assert_eq!(encoded(Version::V311, &packet), wire("30 * <t> 'p'"));
}

#[test]
fn payload_and_topic_are_not_copied() {
    let bytes = wire("30 * <topic> 'payload'");
    let Ok(Packet::Publish(publish)) = decoded(Version::V311, &bytes) else { panic!("PUBLISH") };
    let range = bytes.as_ptr_range();
    assert!(range.contains(&publish.payload.as_ptr()));
    assert!(range.contains(&publish.topic.as_ptr()));
}

#[test]
fn outgoing_fields_in_order() {
    let packet = PublishOut {
        qos: Qos::AtLeastOnce,
        dup: true,
        retain: true,
        packet_id: Some(id(0x0a0b)),
        message_expiry_s: Some(9),
        topic_alias: NonZeroU16::new(3),
        subscription_ids: &[1, 128],
        forwarded: &wire("26 <k> <v>"),
        ..out("a/b", b"pay")
    };
    let mut bytes = Vec::new();
    packet.encode(Version::V5, &mut bytes);
    let text = "3b * <a/b> 0a0b [ 0200000009 230003 0b01 0b8001 26 <k> <v> ] 'pay'";
    assert_eq!(bytes, wire(text));
    assert_eq!(packet.total_bytes(Version::V5), bytes.len());
    assert_eq!(packet.packet_id_offset(Version::V5), Some(7));
    for version in V3 {
        let mut bytes = Vec::new();
        packet.encode(version, &mut bytes);
        assert_eq!(bytes, wire("3b * <a/b> 0a0b 'pay'"));
        assert_eq!(packet.total_bytes(version), bytes.len());
    }
}

#[test]
fn head_is_everything_but_the_payload() {
    let payload = vec![7; 200];
    let packet = PublishOut { qos: Qos::ExactlyOnce, packet_id: Some(id(1)), ..out("t", &payload) };
    for version in ALL {
        let (mut head, mut whole) = (Vec::new(), Vec::new());
        packet.encode_head(version, &mut head);
        packet.encode(version, &mut whole);
        assert_eq!(head, whole[..whole.len() - 200]);
        // The length takes two bytes here.
        assert_eq!(packet.packet_id_offset(version), Some(6));
        assert_eq!(whole[6..8], [0, 1]);
    }
    assert_eq!(out("t", b"").packet_id_offset(Version::V5), None);
}

#[test]
fn total_bytes_at_every_step_of_the_length() {
    for (body_bytes, header_bytes) in
        [(127, 2), (128, 3), (16_383, 3), (16_384, 4), (2_097_151, 4), (2_097_152, 5)]
    {
        let payload = vec![0; body_bytes - 3];
        let packet = out("t", &payload);
        let mut bytes = Vec::new();
        packet.encode(Version::V311, &mut bytes);
        assert_eq!(bytes.len(), header_bytes + body_bytes);
        assert_eq!(packet.total_bytes(Version::V311), bytes.len());
        let result = decode(&bytes, Version::V311, PACKET_BYTES_MAX);
        assert!(matches!(result, Ok(Some((Packet::Publish(_), n))) if n == bytes.len()));
    }
}

#[test]
#[should_panic(expected = "packet id and QoS")]
fn outgoing_qos_0_with_packet_id_is_a_bug() {
    PublishOut { packet_id: Some(id(1)), ..out("t", b"") }.encode(Version::V311, &mut Vec::new());
}

#[test]
#[should_panic(expected = "packet id and QoS")]
fn outgoing_qos_1_without_packet_id_is_a_bug() {
    PublishOut { qos: Qos::AtLeastOnce, ..out("t", b"") }.encode(Version::V311, &mut Vec::new());
}
