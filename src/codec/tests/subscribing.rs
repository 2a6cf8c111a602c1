//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use super::{ALL, V3, V5, accepts, decoded, encoded, id, refuses, same, wire};
use crate::codec::{
    DecodeError, FILTERS_MAX, Packet, Properties, Property, PropertyList, Qos, Reason,
    RetainHandling, Suback, Subscribe, SubscribeFilter, SubscribeOptions, Unsuback, Unsubscribe,
    Version,
};

fn filter(filter: &str, qos: Qos) -> SubscribeFilter<'_> {
    SubscribeFilter { filter, options: SubscribeOptions::with_qos(qos) }
}

#[test]
fn several_filters_keep_their_order() {
    let packet = Packet::Subscribe(Subscribe {
        packet_id: id(0x0102),
        properties: Properties::default(),
        filters: vec![
            filter("a/+", Qos::AtMostOnce),
            filter("b/#", Qos::AtLeastOnce),
            filter("c", Qos::ExactlyOnce),
        ],
    });
    same(V3, "82 * 0102 <a/+> 00 <b/#> 01 <c> 02", &packet);
    same(V5, "82 * 0102 00 <a/+> 00 <b/#> 01 <c> 02", &packet);
}

#[test]
fn options_of_5_0() {
    let mut list = PropertyList::new();
    list.push(Property::SubscriptionIdentifier(0x0fff_ffff));
    for (byte, retain_handling) in [
        ("0e", RetainHandling::Always),
        ("1e", RetainHandling::IfNew),
        ("2e", RetainHandling::Never),
    ] {
        let options = SubscribeOptions {
            qos: Qos::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling,
        };
        let packet = Packet::Subscribe(Subscribe {
            packet_id: id(1),
            properties: list.as_properties(),
            filters: vec![SubscribeFilter { filter: "f", options }],
        });
        same(V5, &format!("82 * 0001 [ 0bffffff7f ] <f> {byte}"), &packet);
        for version in V3 {
            assert_eq!(encoded(version, &packet), wire("82 * 0001 <f> 02"));
        }
    }
}

// [MQTT-3.8.3-5] [MQTT-3.8.3-4 of 3.1.1]
#[test]
fn reserved_options_are_malformed() {
    for byte in 0..=0xff {
        let v3 = format!("82 * 0001 <f> {byte:02x}");
        let v5 = format!("82 * 0001 00 <f> {byte:02x}");
        match byte {
            0..=2 => accepts(V3, &v3),
            3 => refuses(V3, &v3, DecodeError::BadOptions(3)),
            _ => refuses(V3, &v3, DecodeError::ReservedOptions(byte)),
        }
        if byte & 0xc0 != 0 {
            refuses(V5, &v5, DecodeError::ReservedOptions(byte));
        } else if byte & 3 == 3 || byte & 0x30 == 0x30 {
            refuses(V5, &v5, DecodeError::BadOptions(byte));
        } else {
            accepts(V5, &v5);
        }
    }
    assert_eq!(DecodeError::ReservedOptions(0x40).reason(), Reason::MalformedPacket);
    assert_eq!(DecodeError::BadOptions(3).reason(), Reason::ProtocolError);
}

// [MQTT-3.8.3-2] [MQTT-3.10.3-2]
#[test]
fn at_least_one_filter() {
    refuses(V3, "82 02 0001", DecodeError::NoEntries);
    refuses(V5, "82 03 0001 00", DecodeError::NoEntries);
    refuses(V3, "a2 02 0001", DecodeError::NoEntries);
    refuses(V5, "a2 03 0001 00", DecodeError::NoEntries);
    assert_eq!(DecodeError::NoEntries.reason(), Reason::ProtocolError);
}

// [MQTT-3.8.3-1] [MQTT-3.10.3-1]
#[test]
fn filters_are_utf_8() {
    refuses(V3, "82 * 0001 0001 ff 00", DecodeError::BadString);
    refuses(V3, "a2 * 0001 0001 ff", DecodeError::BadString);
    refuses(V5, "82 * 0001 00 0001 00 00", DecodeError::BadString);
    refuses(V5, "a2 * 0001 00 0001 00", DecodeError::BadString);
}

// [MQTT-2.2.1-3]
#[test]
fn packet_id_0_is_refused() {
    for text in ["82 * 0000 <f> 00", "90 * 0000 00", "a2 * 0000 <f>", "b0 * 0000"] {
        refuses(ALL, text, DecodeError::PacketIdZero);
    }
}

#[test]
fn cut_entries_are_malformed() {
    refuses(V3, "82 * 0001 <f>", DecodeError::Truncated);
    refuses(V3, "82 * 0001 <f> 00 00", DecodeError::Truncated);
    refuses(V3, "82 * 0001 0003 'f' 00", DecodeError::Truncated);
    refuses(V5, "82 * 0001 [ 0b ] <f> 00", DecodeError::Truncated);
    refuses(V3, "a2 * 0001 <f> 00", DecodeError::Truncated);
    refuses(V3, "a2 * 0001 0002 'f'", DecodeError::Truncated);
}

#[test]
fn filters_at_maximum_and_one_more() {
    for (count, expected) in
        [(FILTERS_MAX, Ok(())), (FILTERS_MAX + 1, Err(DecodeError::TooManyFilters))]
    {
        let filters = vec![filter("f", Qos::AtMostOnce); count];
        let packet_id = id(1);
        let properties = Properties::default();
        let packet = Packet::Subscribe(Subscribe { packet_id, properties, filters });
        let bytes = encoded(Version::V311, &packet);
        let result = decoded(Version::V311, &bytes);
        assert_eq!(result, expected.map(|()| packet));
        let packet =
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: vec!["f"; count] });
        let bytes = encoded(Version::V311, &packet);
        let result = decoded(Version::V311, &bytes);
        assert_eq!(result, expected.map(|()| packet));
    }
    assert_eq!(DecodeError::TooManyFilters.reason(), Reason::QuotaExceeded);
}

#[test]
fn subscribe_properties() {
    // 0 is no identifier, and one is enough.
    refuses(V5, "82 * 0001 [ 0b00 ] <f> 00", DecodeError::BadPropertyValue(0x0b));
    refuses(V5, "82 * 0001 [ 0b01 0b02 ] <f> 00", DecodeError::RepeatedProperty(0x0b));
    refuses(V5, "a2 * 0001 [ 0b01 ] <f>", DecodeError::UnexpectedProperty(0x0b));
    accepts(V5, "a2 * 0001 [ 26 <a> <b> ] <f>");
}

// [MQTT-3.9.3-1]
#[test]
fn suback_codes_keep_their_order() {
    let reasons = vec![
        Reason::GRANTED_QOS0,
        Reason::GrantedQos1,
        Reason::GrantedQos2,
        Reason::UnspecifiedError,
    ];
    let properties = Properties::default();
    let packet = Packet::Suback(Suback { packet_id: id(1), properties, reasons });
    same(V3, "90 * 0001 00 01 02 80", &packet);
    same(V5, "90 * 0001 00 00 01 02 80", &packet);
}

// [MQTT-3.9.3-2] [MQTT-3.9.3-2 of 3.1.1]
#[test]
fn suback_codes_are_listed_ones() {
    let listed = [0, 1, 2, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
    for code in 0..=0xff {
        let v3 = format!("90 03 0001 {code:02x}");
        let v5 = format!("90 04 0001 00 {code:02x}");
        if [0, 1, 2, 0x80].contains(&code) {
            accepts(V3, &v3);
        } else {
            refuses(V3, &v3, DecodeError::BadReason(code));
        }
        if listed.contains(&code) {
            accepts(V5, &v5);
        } else {
            refuses(V5, &v5, DecodeError::BadReason(code));
        }
    }
}

// [MQTT-3.9.3-2 of 3.1.1]
#[test]
fn suback_failure_before_5_0_is_0x80() {
    let reasons = vec![Reason::NotAuthorized, Reason::GrantedQos1, Reason::TopicFilterInvalid];
    let properties = Properties::default();
    let packet = Packet::Suback(Suback { packet_id: id(1), properties, reasons });
    for version in V3 {
        assert_eq!(encoded(version, &packet), wire("90 * 0001 80 01 80"));
    }
    assert_eq!(encoded(Version::V5, &packet), wire("90 * 0001 00 87 01 8f"));
}

#[test]
fn unsubscribe_has_filters_only() {
    let packet = Packet::Unsubscribe(Unsubscribe {
        packet_id: id(0x0a0b),
        properties: Properties::default(),
        filters: vec!["a/#", "b"],
    });
    same(V3, "a2 * 0a0b <a/#> <b>", &packet);
    same(V5, "a2 * 0a0b 00 <a/#> <b>", &packet);
}

// [MQTT-3.11.3-1] [MQTT-3.11.3-2]
#[test]
fn unsuback_has_codes_in_5_0() {
    let properties = Properties::default();
    let reasons = vec![Reason::Success, Reason::NoSubscriptionExisted];
    let packet = Packet::Unsuback(Unsuback { packet_id: id(1), properties, reasons });
    same(V5, "b0 * 0001 00 00 11", &packet);
    let bare = Packet::Unsuback(Unsuback { packet_id: id(1), properties, reasons: Vec::new() });
    same(V3, "b0 * 0001", &bare);
    for version in V3 {
        assert_eq!(encoded(version, &packet), wire("b0 * 0001"));
    }
    refuses(V3, "b0 03 0001 00", DecodeError::TrailingBytes);
    refuses(V5, "b0 03 0001 00", DecodeError::NoEntries);
    for code in 0..=0xff {
        let text = format!("b0 04 0001 00 {code:02x}");
        if [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91].contains(&code) {
            accepts(V5, &text);
        } else {
            refuses(V5, &text, DecodeError::BadReason(code));
        }
    }
}
