//! Property blocks: typed finders against a walk over all properties, and what is forwarded.

use culex::codec::{self, Packet, Properties, Property, PropertyList, Version};

/// The first byte chooses the packet that carries the block.
pub fn check(bytes: &[u8]) {
    let Some((kind, block)) = bytes.split_first() else { return };
    let block = &block[..block.len().min(2000)];
    let frame = carrier(*kind, block);
    let Ok(Some((packet, consumed))) = codec::decode(&frame, Version::V5, 1 << 20) else { return };
    assert_eq!(consumed, frame.len());
    for properties in blocks(&packet) {
        check_block(properties);
    }
}

/// A packet with the block as its properties.
fn carrier(kind: u8, block: &[u8]) -> Vec<u8> {
    let length = variable(block.len());
    let (first, before, after): (u8, &[u8], &[u8]) = match kind % 14 {
        0 => (0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\x01c"),
        1 => (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\x01c", b"\0\x01t\0\x01p"),
        2 => (0x20, b"\0\0", b""),
        3 => (0x30, b"\0\x01t", b"payload"),
        4 => (0x32, b"\0\x01t\0\x01", b"payload"),
        5 => (0x40, b"\0\x01\0", b""),
        6 => (0x50, b"\0\x01\0", b""),
        7 => (0x62, b"\0\x01\0", b""),
        8 => (0x70, b"\0\x01\0", b""),
        9 => (0x82, b"\0\x01", b"\0\x01t\0"),
        10 => (0x90, b"\0\x01", b"\0"),
        11 => (0xa2, b"\0\x01", b"\0\x01t"),
        12 => (0xe0, b"\0", b""),
        _ => (0xf0, b"\x18", b""),
    };
    let mut frame = vec![first];
    frame.extend(variable(before.len() + length.len() + block.len() + after.len()));
    for part in [before, &length, block, after] {
        frame.extend_from_slice(part);
    }
    frame
}

fn variable(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number % 128).expect("below 128");
        number /= 128;
        bytes.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return bytes;
        }
    }
}

fn blocks<'a>(packet: &Packet<'a>) -> Vec<Properties<'a>> {
    match packet {
        Packet::Connect(connect) => {
            let will = connect.will.as_ref().map(|will| will.properties);
            [connect.properties].into_iter().chain(will).collect()
        }
        Packet::Connack(packet) => vec![packet.properties],
        Packet::Publish(packet) => vec![packet.properties],
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            vec![ack.properties]
        }
        Packet::Subscribe(packet) => vec![packet.properties],
        Packet::Suback(packet) => vec![packet.properties],
        Packet::Unsubscribe(packet) => vec![packet.properties],
        Packet::Unsuback(packet) => vec![packet.properties],
        Packet::Disconnect(packet) => vec![packet.properties],
        Packet::Auth(packet) => vec![packet.properties],
        Packet::Pingreq | Packet::Pingresp => Vec::new(),
    }
}

fn check_block(properties: Properties<'_>) {
    let mut list = PropertyList::new();
    let mut forwarded_list = PropertyList::new();
    for property in properties.iter() {
        list.push(property);
        match property {
            Property::TopicAlias(_)
            | Property::MessageExpiryInterval(_)
            | Property::SubscriptionIdentifier(_)
            | Property::WillDelayInterval(_) => {}
            kept => {
                forwarded_list.push(kept);
            }
        }
    }
    assert_eq!(list.as_properties(), properties, "walking loses nothing");
    let mut scratch = b"old".to_vec();
    let forwarded = properties.forwarded(&mut scratch);
    assert_eq!(forwarded, forwarded_list.as_properties().raw());
    check_finders(properties);
    let users = properties.iter().filter(|p| matches!(p, Property::UserProperty(..))).count();
    assert_eq!(users, properties.user_properties().count());
    assert!(users <= codec::USER_PROPERTIES_MAX);
}

/// Each finder gives what the walk finds first.
fn check_finders(properties: Properties<'_>) {
    macro_rules! finds {
        ($($variant:ident $finder:ident;)*) => {$(
            let walked = properties.iter().find_map(|property| match property {
                Property::$variant(value) => Some(value),
                _ => None,
            });
            assert_eq!(properties.$finder(), walked, stringify!($finder));
        )*};
    }
    finds! {
        PayloadFormatIndicator payload_format_indicator;
        MessageExpiryInterval message_expiry_interval;
        ContentType content_type;
        ResponseTopic response_topic;
        CorrelationData correlation_data;
        SubscriptionIdentifier subscription_identifier;
        SessionExpiryInterval session_expiry_interval;
        AssignedClientIdentifier assigned_client_identifier;
        ServerKeepAlive server_keep_alive;
        AuthenticationMethod authentication_method;
        AuthenticationData authentication_data;
        RequestProblemInformation request_problem_information;
        WillDelayInterval will_delay_interval;
        RequestResponseInformation request_response_information;
        ResponseInformation response_information;
        ServerReference server_reference;
        ReasonString reason_string;
        ReceiveMaximum receive_maximum;
        TopicAliasMaximum topic_alias_maximum;
        TopicAlias topic_alias;
        RetainAvailable retain_available;
        MaximumPacketSize maximum_packet_size;
    }
    assert!(properties.receive_maximum() != Some(0));
    assert!(properties.maximum_packet_size() != Some(0));
    assert!(properties.subscription_identifiers().all(|id| id > 0));
}
