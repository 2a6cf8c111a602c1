//! Whatever is encoded is decoded to the same, alone, in pieces, and cut off anywhere.

use super::{ALL, encoded};
use crate::codec::property_table::{Place, rule};
use crate::codec::{
    Ack, Auth, Connack, Connect, Disconnect, PACKET_BYTES_MAX, Packet, PacketId, Properties,
    Property, PropertyList, Publish, PublishOut, Qos, Reason, RetainHandling, Suback, Subscribe,
    SubscribeFilter, SubscribeOptions, Unsuback, Unsubscribe, Version, Will, decode, frame,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::num::NonZeroU16;

/// Packets borrow; memory of a test process may leak.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn text() -> impl Strategy<Value = &'static str> {
    "[a-z/+#$é€𝄞\u{feff}]{0,8}".prop_map(|text| leak(text).as_str())
}

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..200).prop_map(|bytes| leak(bytes).as_slice())
}

fn qos() -> impl Strategy<Value = Qos> {
    (0_u8..3).prop_map(|number| Qos::from_u8(number).expect("below 3"))
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1_u16..).prop_map(|number| PacketId::new(number).expect("from 1 on"))
}

fn property() -> impl Strategy<Value = Property<'static>> {
    prop_oneof![
        (0_u8..2).prop_map(Property::PayloadFormatIndicator),
        any::<u32>().prop_map(Property::MessageExpiryInterval),
        text().prop_map(Property::ContentType),
        text().prop_map(Property::ResponseTopic),
        bytes().prop_map(Property::CorrelationData),
        (1_u32..=0x0fff_ffff).prop_map(Property::SubscriptionIdentifier),
        any::<u32>().prop_map(Property::SessionExpiryInterval),
        text().prop_map(Property::AssignedClientIdentifier),
        any::<u16>().prop_map(Property::ServerKeepAlive),
        text().prop_map(Property::AuthenticationMethod),
        bytes().prop_map(Property::AuthenticationData),
        any::<bool>().prop_map(Property::RequestProblemInformation),
        any::<u32>().prop_map(Property::WillDelayInterval),
        any::<bool>().prop_map(Property::RequestResponseInformation),
        text().prop_map(Property::ResponseInformation),
        text().prop_map(Property::ServerReference),
        text().prop_map(Property::ReasonString),
        (1_u16..).prop_map(Property::ReceiveMaximum),
        any::<u16>().prop_map(Property::TopicAliasMaximum),
        (1_u16..).prop_map(Property::TopicAlias),
        (0_u8..2).prop_map(Property::MaximumQos),
        any::<bool>().prop_map(Property::RetainAvailable),
        (text(), text()).prop_map(|(name, value)| Property::UserProperty(name, value)),
        (1_u32..).prop_map(Property::MaximumPacketSize),
        any::<bool>().prop_map(Property::WildcardSubscriptionAvailable),
        any::<bool>().prop_map(Property::SubscriptionIdentifierAvailable),
        any::<bool>().prop_map(Property::SharedSubscriptionAvailable),
    ]
}

/// A legal block at `place`: what may not stand there, or not again, is left out.
fn properties(version: Version, place: Place) -> impl Strategy<Value = Properties<'static>> {
    let count = if version == Version::V5 { 0..40 } else { 0..1 };
    vec(property(), count).prop_map(move |properties| {
        let list: &mut PropertyList = Box::leak(Box::new(PropertyList::new()));
        if place == Place::Auth || place == Place::Connect {
            list.push(Property::AuthenticationMethod("SCRAM"));
        }
        for property in properties {
            let mut single = PropertyList::new();
            single.push(property);
            let single = single.as_properties();
            let id = single.raw[0];
            let rule = rule(id).expect("known property");
            let is_new = !list.as_properties().has(id) || rule.repeats.contains(place);
            if rule.places.contains(place) && is_new {
                list.push(property);
            }
        }
        if version == Version::V5 { list.as_properties() } else { Properties::default() }
    })
}

fn reason(version: Version, place: Place) -> impl Strategy<Value = Reason> {
    let codes: Vec<Reason> = (0..=0xff)
        .filter_map(Reason::from_u8)
        .filter(|reason| match version {
            Version::V5 => Reason::parse(*reason as u8, place).is_ok(),
            Version::V31 | Version::V311 if place == Place::Connack => reason
                .connack_code()
                .is_some_and(|code| Reason::from_connack_code(code) == Some(*reason)),
            Version::V31 | Version::V311 if place == Place::Suback => {
                [0, 1, 2, 0x80].contains(&(*reason as u8))
            }
            Version::V31 | Version::V311 => *reason == Reason::Success,
        })
        .collect();
    prop::sample::select(codes)
}

fn connect(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let will = (qos(), any::<bool>(), properties(version, Place::Will), text(), bytes()).prop_map(
        |(qos, retain, properties, topic, payload)| Will {
            qos,
            retain,
            properties,
            topic,
            payload,
        },
    );
    let credentials = (option::of(text()), option::of(bytes()));
    let flags = (any::<bool>(), any::<bool>(), any::<u16>());
    let properties = properties(version, Place::Connect);
    (flags, properties, text(), option::of(will), credentials).prop_map(
        move |(flags, properties, client_id, will, (username, password))| {
            let (bridge, clean_start, keep_alive_s) = flags;
            let v5 = version == Version::V5;
            Packet::Connect(Connect {
                version,
                bridge: bridge && !v5,
                clean_start,
                keep_alive_s,
                properties,
                client_id,
                will,
                username,
                password: password.filter(|_| v5 || username.is_some()),
            })
        },
    )
}

fn publish(version: Version) -> impl Strategy<Value = Packet<'static>> {
    let properties = properties(version, Place::Publish);
    let flags = (any::<bool>(), any::<bool>(), qos(), packet_id());
    (flags, text(), properties, bytes()).prop_map(|(flags, topic, properties, payload)| {
        let (dup, retain, qos, packet_id) = flags;
        let topic_alias = properties.topic_alias().and_then(NonZeroU16::new);
        Packet::Publish(Publish {
            dup: dup && qos != Qos::AtMostOnce,
            qos,
            retain,
            topic: if topic.is_empty() && topic_alias.is_none() { "t" } else { topic },
            packet_id: (qos != Qos::AtMostOnce).then_some(packet_id),
            properties,
            topic_alias,
            message_expiry_s: properties.message_expiry_interval(),
            payload,
        })
    })
}

fn ack(version: Version, place: Place) -> impl Strategy<Value = Ack<'static>> {
    (packet_id(), reason(version, place), properties(version, place))
        .prop_map(|(packet_id, reason, properties)| Ack { packet_id, reason, properties })
}

fn subscribe_options(version: Version) -> impl Strategy<Value = SubscribeOptions> {
    let handling = prop::sample::select(vec![
        RetainHandling::Always,
        RetainHandling::IfNew,
        RetainHandling::Never,
    ]);
    (qos(), any::<bool>(), any::<bool>(), handling).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| match version {
            Version::V31 | Version::V311 => SubscribeOptions::with_qos(qos),
            Version::V5 => SubscribeOptions { qos, no_local, retain_as_published, retain_handling },
        },
    )
}

fn lists(version: Version) -> BoxedStrategy<Packet<'static>> {
    let filter = (text(), subscribe_options(version))
        .prop_map(|(filter, options)| SubscribeFilter { filter, options });
    let unsuback_count = if version == Version::V5 { 1..4 } else { 0..1 };
    prop_oneof![
        (packet_id(), properties(version, Place::Subscribe), vec(filter, 1..4)).prop_map(
            |(packet_id, properties, filters)| {
                Packet::Subscribe(Subscribe { packet_id, properties, filters })
            }
        ),
        (
            packet_id(),
            properties(version, Place::Suback),
            vec(reason(version, Place::Suback), 1..4)
        )
            .prop_map(|(packet_id, properties, reasons)| {
                Packet::Suback(Suback { packet_id, properties, reasons })
            }),
        (packet_id(), properties(version, Place::Unsubscribe), vec(text(), 1..4)).prop_map(
            |(packet_id, properties, filters)| {
                Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters })
            }
        ),
        (
            packet_id(),
            properties(version, Place::Unsuback),
            vec(reason(version, Place::Unsuback), unsuback_count)
        )
            .prop_map(|(packet_id, properties, reasons)| {
                Packet::Unsuback(Unsuback { packet_id, properties, reasons })
            }),
    ]
    .boxed()
}

fn packet_of(version: Version) -> BoxedStrategy<Packet<'static>> {
    let connack =
        (any::<bool>(), reason(version, Place::Connack), properties(version, Place::Connack))
            .prop_map(move |(session_present, reason, properties)| {
                let may_be_present = reason == Reason::Success && version != Version::V31;
                let session_present = session_present && may_be_present;
                Packet::Connack(Connack { session_present, reason, properties })
            });
    let disconnect = (reason(version, Place::Disconnect), properties(version, Place::Disconnect))
        .prop_map(|(reason, properties)| Packet::Disconnect(Disconnect { reason, properties }));
    let auth = (reason(Version::V5, Place::Auth), properties(Version::V5, Place::Auth)).prop_map(
        move |(reason, properties)| match version {
            Version::V5 => Packet::Auth(Auth { reason, properties }),
            Version::V31 | Version::V311 => Packet::Pingresp,
        },
    );
    prop_oneof![
        connect(version),
        connack,
        publish(version),
        ack(version, Place::Puback).prop_map(Packet::Puback),
        ack(version, Place::Pubrec).prop_map(Packet::Pubrec),
        ack(version, Place::Pubrel).prop_map(Packet::Pubrel),
        ack(version, Place::Pubcomp).prop_map(Packet::Pubcomp),
        lists(version),
        Just(Packet::Pingreq),
        disconnect,
        auth,
    ]
    .boxed()
}

fn packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    prop::sample::select(ALL.to_vec()).prop_flat_map(|version| (Just(version), packet_of(version)))
}

proptest! {
    #[test]
    fn decoding_returns_what_was_encoded((version, packet) in packet()) {
        let bytes = encoded(version, &packet);
        prop_assert_eq!(
            decode(&bytes, version, PACKET_BYTES_MAX),
            Ok(Some((packet, bytes.len())))
        );
    }

    /// A stream of packets, given byte by byte, is the same as the stream given at once.
    #[test]
    fn incremental_decoding_equals_whole(
        (version, packets) in prop::sample::select(ALL.to_vec())
            .prop_flat_map(|version| (Just(version), vec(packet_of(version), 1..4)))
    ) {
        let bytes: Vec<u8> =
            packets.iter().flat_map(|packet| encoded(version, packet)).collect();
        let mut start = 0;
        let mut found = Vec::new();
        for end in 1..=bytes.len() {
            let result = decode(&bytes[start..end], version, PACKET_BYTES_MAX)
                .expect("a prefix of legal packets breaks no rule");
            if let Some((packet, consumed)) = result {
                prop_assert_eq!(consumed, end - start);
                start = end;
                found.push(packet);
            }
        }
        prop_assert_eq!(start, bytes.len());
        prop_assert_eq!(found, packets);
    }

    /// A packet whose body is cut, with a remaining length that says so, is never a panic and never
    /// reads behind its end.
    #[test]
    fn shortened_body_never_panics((version, packet) in packet()) {
        let bytes = encoded(version, &packet);
        let header_bytes = frame(&bytes, PACKET_BYTES_MAX)
            .expect("legal header")
            .expect("complete header")
            .header_bytes;
        let body = &bytes[header_bytes..];
        for end in 0..body.len().min(127) {
            let mut cut = vec![bytes[0], u8::try_from(end).expect("below 127")];
            cut.extend_from_slice(&body[..end]);
            match decode(&cut, version, PACKET_BYTES_MAX) {
                Ok(Some((_, consumed))) => prop_assert_eq!(consumed, cut.len()),
                Ok(None) => prop_assert!(false, "the packet is complete"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in prop::sample::select(ALL.to_vec()),
        first in any::<u8>(),
        body in vec(any::<u8>(), 0..120),
    ) {
        let mut bytes = vec![first, u8::try_from(body.len()).expect("below 120")];
        bytes.extend_from_slice(&body);
        if let Ok(Some((packet, consumed))) = decode(&bytes, version, PACKET_BYTES_MAX) {
            prop_assert_eq!(consumed, bytes.len());
            // Whatever was accepted is legal, so it survives being sent on.
            let version =
                if let Packet::Connect(connect) = &packet { connect.version } else { version };
            let again = encoded(version, &packet);
            prop_assert_eq!(
                decode(&again, version, PACKET_BYTES_MAX),
                Ok(Some((packet, again.len())))
            );
        }
    }

    /// Damage one byte: no panic, and what is still accepted survives being sent on.
    #[test]
    fn damaged_packet_never_panics(
        (version, packet) in packet(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = encoded(version, &packet);
        let index = place.index(bytes.len());
        bytes[index] = byte;
        let _ = decode(&bytes, version, PACKET_BYTES_MAX);
    }

    /// The hot path writes what the slow path reads, and tells its lengths beforehand.
    #[test]
    fn publish_out_is_read_back(
        version in prop::sample::select(ALL.to_vec()),
        (dup, retain, qos, packet_id) in (any::<bool>(), any::<bool>(), qos(), packet_id()),
        (topic, payload) in (text(), bytes()),
        (message_expiry_s, alias) in (option::of(any::<u32>()), option::of(1_u16..)),
        subscription_ids in vec(1_u32..=0x0fff_ffff, 0..4),
        properties in properties(Version::V5, Place::Publish),
    ) {
        let mut scratch = Vec::new();
        let forwarded = properties.forwarded(&mut scratch);
        let packet_id = (qos != Qos::AtMostOnce).then_some(packet_id);
        let topic = if topic.is_empty() { "t" } else { topic };
        let out = PublishOut {
            topic, payload, qos, dup: dup && qos != Qos::AtMostOnce, retain, packet_id,
            message_expiry_s, topic_alias: alias.and_then(NonZeroU16::new),
            subscription_ids: &subscription_ids, forwarded,
        };
        let mut bytes = vec![0xaa];
        out.encode(version, &mut bytes);
        let bytes = &bytes[1..];
        prop_assert_eq!(bytes.len(), out.total_bytes(version));
        if let Some(id) = packet_id {
            let offset = out.packet_id_offset(version).expect("it has a packet id");
            prop_assert_eq!(&bytes[offset..offset + 2], id.get().to_be_bytes());
        } else {
            prop_assert_eq!(out.packet_id_offset(version), None);
        }
        let Ok(Some((Packet::Publish(read), _))) = decode(bytes, version, PACKET_BYTES_MAX) else {
            panic!("not read back: {bytes:02x?}");
        };
        prop_assert_eq!((read.topic, read.payload), (topic, payload));
        prop_assert_eq!((read.dup, read.retain, read.qos), (out.dup, retain, qos));
        prop_assert_eq!(read.packet_id, packet_id);
        if version == Version::V5 {
            prop_assert_eq!(read.message_expiry_s, message_expiry_s);
            prop_assert_eq!(read.topic_alias, out.topic_alias);
            let ids: Vec<u32> = read.properties.subscription_identifiers().collect();
            prop_assert_eq!(ids, subscription_ids);
            let mut scratch = Vec::new();
            prop_assert_eq!(read.properties.forwarded(&mut scratch), forwarded);
        } else {
            prop_assert!(read.properties.is_empty());
        }
    }
}
