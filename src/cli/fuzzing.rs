//! What the fuzz targets need of this module; compiled for them only.

use super::format::{Format, Message};
use crate::codec::{Property, PropertyList, Qos};
use std::time::Duration;

/// Parses a format of `sub -F` and writes one message with this payload; `None` if either is
/// refused.
pub fn format(text: &str, payload: &[u8]) -> Option<Vec<u8>> {
    let format = Format::parse(text).ok()?;
    let content = std::str::from_utf8(payload).unwrap_or("none");
    let mut properties = PropertyList::new();
    properties
        .push(Property::ContentType(content.get(..10).unwrap_or("")))
        .push(Property::CorrelationData(payload.get(..20).unwrap_or_default()))
        .push(Property::UserProperty("k", "v \""))
        .push(Property::SubscriptionIdentifier(7));
    let first = payload.first().copied().unwrap_or(0);
    let message = Message {
        topic: "a/b",
        payload,
        qos: Qos::from_u8(first % 3).unwrap_or(Qos::AtMostOnce),
        retain: first > 127,
        packet_id: 7,
        properties: properties.as_properties(),
        arrival: Duration::new(u64::from(first) << 32, 217_541_664),
    };
    let mut out = Vec::new();
    format.write(&message, &mut out).ok()?;
    Some(out)
}
