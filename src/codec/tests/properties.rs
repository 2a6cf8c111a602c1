//! The property table, its values, and what is forwarded.

use super::{V5, accepts, decoded, refuses, wire};
use crate::codec::{
    DecodeError, Packet, Properties, Property, PropertyList, Qos, Reason, USER_PROPERTIES_MAX,
    Version,
};

/// A legal value of every property, and the packets of MQTT 5.0 table 2-4 that may carry it.
const TABLE: [(&str, &str); 27] = [
    ("01 01", "publish will"),
    ("02 00000001", "publish will"),
    ("03 <a>", "publish will"),
    ("08 <a>", "publish will"),
    ("09 0001 00", "publish will"),
    ("0b 01", "publish subscribe"),
    ("11 00000001", "connect connack disconnect"),
    ("12 <a>", "connack"),
    ("13 0001", "connack"),
    ("15 <a>", "connect connack auth"),
    ("16 0001 00", "connect connack auth"),
    ("17 01", "connect"),
    ("18 00000001", "will"),
    ("19 01", "connect"),
    ("1a <a>", "connack"),
    ("1c <a>", "connack disconnect"),
    ("1f <a>", "connack puback pubrec pubrel pubcomp suback unsuback disconnect auth"),
    ("21 0001", "connect connack"),
    ("22 0000", "connect connack"),
    ("23 0001", "publish"),
    ("24 01", "connack"),
    ("25 00", "connack"),
    (
        "26 <a> <b>",
        "connect connack publish will puback pubrec pubrel pubcomp subscribe suback unsubscribe \
         unsuback disconnect auth",
    ),
    ("27 00000001", "connect connack"),
    ("28 00", "connack"),
    ("29 00", "connack"),
    ("2a 00", "connack"),
];

/// Packets with room for a block, whose content stands at `@`.
const PLACES: [(&str, &str); 14] = [
    ("connect", "10 * <MQTT> 05 02 003c [ @ ] <id>"),
    ("will", "10 * <MQTT> 05 06 003c 00 <id> [ @ ] <t> <p>"),
    ("connack", "20 * 00 00 [ @ ]"),
    ("publish", "30 * <t> [ @ ] 'p'"),
    ("puback", "40 * 0001 00 [ @ ]"),
    ("pubrec", "50 * 0001 00 [ @ ]"),
    ("pubrel", "62 * 0001 00 [ @ ]"),
    ("pubcomp", "70 * 0001 00 [ @ ]"),
    ("subscribe", "82 * 0001 [ @ ] <f> 00"),
    ("suback", "90 * 0001 [ @ ] 00"),
    ("unsubscribe", "a2 * 0001 [ @ ] <f>"),
    ("unsuback", "b0 * 0001 [ @ ] 00"),
    ("disconnect", "e0 * 00 [ @ ]"),
    ("auth", "f0 * 18 [ @ ]"),
];

/// Puts `block` into the packet, with the method that AUTH and authentication data ask for.
fn packet(name: &str, packet: &str, block: &str) -> String {
    let needs_method = (name == "auth" || block.starts_with("16")) && !block.starts_with("15");
    let method = if needs_method && ["auth", "connect"].contains(&name) { " 15 <m>" } else { "" };
    packet.replace('@', &format!("{block}{method}"))
}

/// MQTT 5.0 §2.2.2.2.
#[test]
fn every_property_in_every_packet() {
    for (property, places) in TABLE {
        let id = wire(property)[0];
        for (name, text) in PLACES {
            let once = packet(name, text, property);
            let twice = packet(name, text, &format!("{property} {property}"));
            if !places.split(' ').any(|place| place == name) {
                refuses(V5, &once, DecodeError::UnexpectedProperty(id));
                continue;
            }
            accepts(V5, &once);
            if id == 0x26 || (id == 0x0b && name == "publish") {
                accepts(V5, &twice);
            } else {
                refuses(V5, &twice, DecodeError::RepeatedProperty(id));
            }
        }
    }
    assert_eq!(DecodeError::UnexpectedProperty(1).reason(), Reason::MalformedPacket);
    assert_eq!(DecodeError::RepeatedProperty(1).reason(), Reason::ProtocolError);
}

#[test]
fn unknown_identifiers_are_malformed() {
    let known: Vec<u8> = TABLE.iter().map(|(property, _)| wire(property)[0]).collect();
    for id in (0..=0xff).filter(|id| !known.contains(id)) {
        for (name, text) in PLACES {
            let text = packet(name, text, &format!("{id:02x} 00000000"));
            refuses(V5, &text, DecodeError::UnexpectedProperty(id));
        }
    }
}

#[test]
fn cut_values_are_malformed() {
    for (property, places) in TABLE {
        let bytes = wire(property);
        for (name, text) in PLACES {
            if !places.split(' ').any(|place| place == name) {
                continue;
            }
            for end in 1..bytes.len() {
                let cut: Vec<_> = bytes[..end].iter().map(|byte| format!("{byte:02x}")).collect();
                let text = text.replace('@', &cut.concat());
                refuses(V5, &text, DecodeError::Truncated);
            }
        }
    }
}

#[test]
fn forbidden_values() {
    for (name, property) in [
        ("publish", "01 02"),
        ("connect", "17 02"),
        ("connect", "19 ff"),
        ("connack", "24 02"),
        ("connack", "25 02"),
        ("connack", "28 02"),
        ("connack", "29 02"),
        ("connack", "2a 02"),
        ("connect", "21 0000"),
        ("connack", "21 0000"),
        ("connect", "27 00000000"),
        ("publish", "0b 00"),
        ("subscribe", "0b 00"),
    ] {
        let (_, text) = PLACES.iter().find(|(place, _)| *place == name).expect("known place");
        let id = wire(property)[0];
        refuses(V5, &text.replace('@', property), DecodeError::BadPropertyValue(id));
    }
    assert_eq!(DecodeError::BadPropertyValue(1).reason(), Reason::ProtocolError);
}

// [MQTT-1.5.5-1]
#[test]
fn variable_values_are_shortest() {
    accepts(V5, "82 * 0001 [ 0bffffff7f ] <f> 00");
    refuses(V5, "82 * 0001 [ 0b8100 ] <f> 00", DecodeError::BadLength);
    refuses(V5, "82 * 0001 [ 0b8080808001 ] <f> 00", DecodeError::BadLength);
    // The block's own length likewise.
    refuses(V5, "82 * 0001 8000 <f> 00", DecodeError::BadLength);
}

// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19]
#[test]
fn strings_in_properties_are_utf_8() {
    for bad in ["0001 ff", "0001 00", "0003 eda080"] {
        for property in [
            format!("03 {bad}"),
            format!("08 {bad}"),
            format!("26 {bad} <v>"),
            format!("26 <k> {bad}"),
        ] {
            refuses(V5, &format!("30 * <t> [ {property} ]"), DecodeError::BadString);
        }
    }
    // Correlation data are bytes.
    accepts(V5, "30 * <t> [ 09 0002 ff00 ]");
}

#[test]
fn user_properties_at_maximum_and_one_more() {
    // Five bytes each do not fit a one-byte length, so the block's length is written out.
    for (count, refused) in [(USER_PROPERTIES_MAX, false), (USER_PROPERTIES_MAX + 1, true)] {
        let block = "26 0000 0000 ".repeat(count);
        let length = count * 5;
        let text = format!("30 * <t> {:02x}{:02x} {block}", 0x80 | (length & 0x7f), length >> 7);
        if refused {
            refuses(V5, &text, DecodeError::TooManyUserProperties);
        } else {
            accepts(V5, &text);
        }
    }
    assert_eq!(DecodeError::TooManyUserProperties.reason(), Reason::QuotaExceeded);
}

fn block(bytes: &[u8]) -> Properties<'_> {
    match decoded(Version::V5, bytes) {
        Ok(Packet::Publish(publish)) => publish.properties,
        Ok(Packet::Connack(connack)) => connack.properties,
        Ok(Packet::Connect(connect)) => connect.will.expect("a will").properties,
        other => panic!("{other:?}"),
    }
}

#[test]
fn forwarded_is_borrowed_if_nothing_is_left_out() {
    let text = "30 * <t> [ 0101 03 <c> 08 <r> 09 0001 ff 26 <k> <v> 26 <k> <w> ] 'p'";
    let bytes = wire(text);
    let properties = block(&bytes);
    let mut scratch = vec![1, 2, 3];
    assert!(std::ptr::eq(properties.forwarded(&mut scratch), properties.raw()));
    assert_eq!(scratch, [1, 2, 3]);
}

// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn forwarded_leaves_out_what_belongs_to_one_hop() {
    let text = "30 * <t> [ 26 <k> <v> 230001 0101 0200000009 03 <c> 0b01 08 <r> 0bff01 \
        09 0001 ff 26 <k> <w> ]";
    let bytes = wire(text);
    let mut scratch = vec![0xaa];
    let kept = wire("26 <k> <v> 0101 03 <c> 08 <r> 09 0001 ff 26 <k> <w>");
    assert_eq!(block(&bytes).forwarded(&mut scratch), kept);
}

// [MQTT-3.1.3-10]
#[test]
fn forwarded_will_keeps_its_order() {
    let text = "10 * <MQTT> 05 06 003c 00 <id> [ 26 <z> <1> 1800000005 26 <a> <2> ] <t> <p>";
    let bytes = wire(text);
    let mut scratch = Vec::new();
    assert_eq!(block(&bytes).forwarded(&mut scratch), wire("26 <z> <1> 26 <a> <2>"));
}

#[test]
fn only_hop_properties_forward_nothing() {
    let bytes = wire("30 * <t> [ 230001 0200000009 ]");
    assert!(block(&bytes).forwarded(&mut Vec::new()).is_empty());
    assert!(Properties::default().forwarded(&mut Vec::new()).is_empty());
}

#[test]
fn connack_finders() {
    let bytes = wire(
        "20 * 00 00 [ 1100000007 12 <id> 13 0014 15 <m> 16 0001 09 1a <info> 1c <ref> 1f <why> \
         21 0003 22 0004 2401 2500 2700000005 2800 2901 2a00 ]",
    );
    let properties = block(&bytes);
    assert_eq!(properties.session_expiry_interval(), Some(7));
    assert_eq!(properties.assigned_client_identifier(), Some("id"));
    assert_eq!(properties.server_keep_alive(), Some(20));
    assert_eq!(properties.authentication_method(), Some("m"));
    assert_eq!(properties.authentication_data(), Some([9].as_slice()));
    assert_eq!(properties.response_information(), Some("info"));
    assert_eq!(properties.server_reference(), Some("ref"));
    assert_eq!(properties.reason_string(), Some("why"));
    assert_eq!(properties.receive_maximum(), Some(3));
    assert_eq!(properties.topic_alias_maximum(), Some(4));
    assert_eq!(properties.maximum_qos(), Some(Qos::AtLeastOnce));
    assert_eq!(properties.retain_available(), Some(false));
    assert_eq!(properties.maximum_packet_size(), Some(5));
    assert_eq!(properties.topic_alias(), None);
    let last: Vec<_> = properties.iter().skip(13).collect();
    assert_eq!(
        last,
        [
            Property::WildcardSubscriptionAvailable(false),
            Property::SubscriptionIdentifierAvailable(true),
            Property::SharedSubscriptionAvailable(false),
        ]
    );
}

#[test]
fn publish_finders() {
    let bytes = wire("30 * <t> [ 0101 03 <c> 08 <r> 09 0001 ff 26 <k> <v> 0b05 26 <k> <w> 0b06 ]");
    let properties = block(&bytes);
    assert_eq!(properties.payload_format_indicator(), Some(1));
    assert_eq!(properties.content_type(), Some("c"));
    assert_eq!(properties.response_topic(), Some("r"));
    assert_eq!(properties.correlation_data(), Some([0xff].as_slice()));
    assert_eq!(properties.subscription_identifier(), Some(5));
    assert_eq!(properties.will_delay_interval(), None);
    assert_eq!(properties.iter().count(), 8);
    assert_eq!(properties.subscription_identifiers().collect::<Vec<_>>(), [5, 6]);
    let pairs: Vec<_> = properties.user_properties().collect();
    assert_eq!(pairs, [("k", "v"), ("k", "w")]);
    assert!(!properties.is_empty());
}

#[test]
fn built_list_is_the_bytes() {
    let mut list = PropertyList::new();
    assert!(list.as_properties().is_empty());
    list.push(Property::TopicAlias(1)).push(Property::UserProperty("k", "v"));
    assert_eq!(list.as_properties().raw(), wire("230001 26 <k> <v>"));
    assert_eq!(list.as_properties().topic_alias(), Some(1));
}

#[test]
#[should_panic(expected = "too long")]
fn built_value_of_65536_bytes_is_a_bug() {
    let text = "x".repeat(65_536);
    PropertyList::new()
        .push(Property::ReasonString(&text[1..]))
        .push(Property::ReasonString(&text));
}
