//! One message as a JSON object, with the keys and their order of `mosquitto_sub`.

use super::calendar::Utc;
use super::format::Message;
use crate::codec::{Property, Qos};
use serde::de::IgnoredAny;
use std::io::Write;

/// How the payload is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload {
    /// As a string; bytes that are not UTF-8 become U+FFFD.
    Text,
    /// As the JSON value it is.
    Nested,
}

/// Appends the object; `Err` if the payload should be JSON and is not, nothing is written then.
pub(super) fn write(message: &Message<'_>, payload: Payload, out: &mut Vec<u8>) -> Result<(), ()> {
    let nested = match payload {
        Payload::Nested => Some(compact(message.payload).ok_or(())?),
        Payload::Text => None,
    };
    let utc = Utc::new(message.arrival);
    let stamp = [utc.piece('F'), utc.piece('T')].map(Option::unwrap_or_default).join("T");
    let micros = utc.nanosecond / 1000;
    put(out, &format_args!("{{\"tst\":\"{stamp}.{micros:06}Z+0000\",\"topic\":"));
    put_text(out, message.topic);
    let (qos, retain) = (message.qos as u8, u8::from(message.retain));
    let bytes = message.payload.len();
    put(out, &format_args!(",\"qos\":{qos},\"retain\":{retain},\"payloadlen\":{bytes}"));
    if message.qos > Qos::AtMostOnce {
        put(out, &format_args!(",\"mid\":{}", message.packet_id));
    }
    if !message.properties.is_empty() {
        put_properties(message, out);
    }
    out.extend_from_slice(b",\"payload\":");
    match nested {
        Some(json) => out.extend_from_slice(&json),
        None => put_text(out, &String::from_utf8_lossy(message.payload)),
    }
    out.push(b'}');
    Ok(())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other property stands in a PUBLISH")]
fn put_properties(message: &Message<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"properties\":{");
    let mut first = true;
    let mut key = |out: &mut Vec<u8>, name: &str| {
        out.extend_from_slice(if first { b"" } else { b"," });
        first = false;
        put(out, &format_args!("\"{name}\":"));
    };
    let mut pairs = Vec::new();
    for property in message.properties.iter() {
        match property {
            Property::PayloadFormatIndicator(format) => {
                key(out, "payload-format-indicator");
                put(out, &format);
            }
            Property::MessageExpiryInterval(seconds) => {
                key(out, "message-expiry-interval");
                put(out, &seconds);
            }
            Property::ContentType(text) => {
                key(out, "content-type");
                put_text(out, text);
            }
            Property::ResponseTopic(text) => {
                key(out, "response-topic");
                put_text(out, text);
            }
            Property::CorrelationData(bytes) => {
                key(out, "correlation-data");
                put_text(out, &String::from_utf8_lossy(bytes));
            }
            Property::SubscriptionIdentifier(id) => {
                key(out, "subscription-identifier");
                put(out, &id);
            }
            Property::TopicAlias(alias) => {
                key(out, "topic-alias");
                put(out, &alias);
            }
            Property::UserProperty(name, value) => pairs.push((name, value)),
            _ => {}
        }
    }
    if !pairs.is_empty() {
        key(out, "user-properties");
        out.push(b'{');
        for (index, (name, value)) in pairs.into_iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b"," });
            put_text(out, name);
            out.push(b':');
            put_text(out, value);
        }
        out.push(b'}');
    }
    out.push(b'}');
}

/// The value without the spaces between its parts, so that it stays on one line.
fn compact(json: &[u8]) -> Option<Vec<u8>> {
    serde_json::from_slice::<IgnoredAny>(json).ok()?;
    // The reader jumps over strings without looking at their encoding.
    std::str::from_utf8(json).ok()?;
    let (mut quoted, mut escaped) = (false, false);
    let mut kept = Vec::with_capacity(json.len());
    for &byte in json {
        if quoted || !byte.is_ascii_whitespace() {
            kept.push(byte);
        }
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && byte == b'\\' && !escaped;
    }
    Some(kept)
}

fn put(out: &mut Vec<u8>, value: &dyn std::fmt::Display) {
    write!(out, "{value}").expect("a Vec takes every write");
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is JSON, and a Vec takes every write");
}
