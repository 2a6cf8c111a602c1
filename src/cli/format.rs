//! The format language of `sub -F`.
//!
//! `%[flags][width][.precision]X` prints a part of the message, `@X` a piece of its arrival time in
//! UTC, `\X` a control character; see [`Part`]. Parsed once, written per message.

use super::calendar::Utc;
use super::json;
use crate::codec::{Properties, Property, Qos};
use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;
use std::time::Duration;

/// Wider fields make no sense, and should not take memory.
const WIDTH_MAX: usize = 10_000;

/// One received message, as far as it can be printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a str,
    pub(super) payload: &'a [u8],
    pub(super) qos: Qos,
    pub(super) retain: bool,
    /// 0 at QoS 0.
    pub(super) packet_id: u16,
    pub(super) properties: Properties<'a>,
    /// Since 1970 in UTC.
    pub(super) arrival: Duration,
}

/// A parsed format.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Format {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(String),
    Part(Part, Layout),
    /// `@X`, one letter of strftime.
    Time(char),
    /// `@N`
    Nanoseconds,
}

/// What stands behind `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Topic,
    Payload,
    Qos,
    Retain,
    PayloadBytes,
    PacketId,
    HexLower,
    HexUpper,
    Double,
    Float,
    Json(json::Payload),
    TopicAlias,
    ContentType,
    CorrelationData,
    Expiry,
    PayloadFormat,
    UserProperties,
    ResponseTopic,
    SubscriptionIds,
    Iso8601,
    Unix,
}

/// Flags, width and precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    zeros: bool,
    left: bool,
    width: usize,
    precision: Option<usize>,
}

impl Format {
    /// Understands a format.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let piece = match letter {
                '%' if letters.next_if_eq(&'%').is_some() => Err('%'),
                '%' => Ok(part(&mut letters)?),
                '@' => match letters.next().ok_or("-F ends with @")? {
                    '@' => Err('@'),
                    'N' => Ok(Piece::Nanoseconds),
                    time => Ok(Piece::Time(known_time(time)?)),
                },
                '\\' => Err(escaped(letters.next().ok_or("-F ends with \\")?)?),
                letter => Err(letter),
            };
            match piece {
                Err(letter) => literal.push(letter),
                Ok(piece) => {
                    if !literal.is_empty() {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { pieces })
    }

    /// Appends one message; `Err` if its payload should be JSON (`%J`) and is not.
    pub(super) fn write(&self, message: &Message<'_>, out: &mut Vec<u8>) -> Result<(), ()> {
        let utc = Utc::new(message.arrival);
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Time(letter) => {
                    out.extend_from_slice(utc.piece(*letter).unwrap_or_default().as_bytes());
                }
                Piece::Nanoseconds => {
                    out.extend_from_slice(format!("{:09}", utc.nanosecond).as_bytes());
                }
                Piece::Part(Part::Json(payload), _) => json::write(message, *payload, out)?,
                Piece::Part(Part::Payload, layout) => layout.write(message.payload, out),
                Piece::Part(part, layout) => {
                    layout.write(part.text(message, utc, layout.precision).as_bytes(), out);
                }
            }
        }
        Ok(())
    }
}

fn known_time(letter: char) -> Result<char, String> {
    match Utc::new(Duration::ZERO).piece(letter) {
        Some(_) => Ok(letter),
        None => Err(format!("-F: no such time @{letter}")),
    }
}

fn escaped(letter: char) -> Result<char, String> {
    Ok(match letter {
        '\\' => '\\',
        '0' => '\0',
        'a' => '\u{7}',
        'e' => '\u{1b}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        _ => return Err(format!("-F: no such escape \\{letter}")),
    })
}

/// What follows a `%`.
fn part(letters: &mut Peekable<Chars<'_>>) -> Result<Piece, String> {
    let mut layout = Layout::default();
    while let Some(flag) = letters.next_if(|letter| matches!(letter, '0' | '-')) {
        layout.zeros |= flag == '0';
        layout.left |= flag == '-';
    }
    layout.width = number(letters)?.unwrap_or(0);
    if letters.next_if_eq(&'.').is_some() {
        layout.precision = Some(number(letters)?.unwrap_or(0));
    }
    let letter = letters.next().ok_or("-F ends inside of %")?;
    let part = match letter {
        't' => Part::Topic,
        'p' => Part::Payload,
        'q' => Part::Qos,
        'r' => Part::Retain,
        'l' => Part::PayloadBytes,
        'm' => Part::PacketId,
        'x' => Part::HexLower,
        'X' => Part::HexUpper,
        'd' => Part::Double,
        'f' => Part::Float,
        'j' => Part::Json(json::Payload::Text),
        'J' => Part::Json(json::Payload::Nested),
        'A' => Part::TopicAlias,
        'C' => Part::ContentType,
        'D' => Part::CorrelationData,
        'E' => Part::Expiry,
        'F' => Part::PayloadFormat,
        'P' => Part::UserProperties,
        'R' => Part::ResponseTopic,
        'S' => Part::SubscriptionIds,
        'I' => Part::Iso8601,
        'U' => Part::Unix,
        _ => return Err(format!("-F: no such part %{letter}")),
    };
    Ok(Piece::Part(part, layout))
}

fn number(letters: &mut Peekable<Chars<'_>>) -> Result<Option<usize>, String> {
    let mut number = None;
    while let Some(digit) = letters.peek().and_then(|letter| letter.to_digit(10)) {
        letters.next();
        let digit = usize::try_from(digit).unwrap_or(0);
        let larger = number.unwrap_or(0) * 10 + digit;
        if larger > WIDTH_MAX {
            return Err(format!("-F: widths end at {WIDTH_MAX}"));
        }
        number = Some(larger);
    }
    Ok(number)
}

impl Part {
    fn text(self, message: &Message<'_>, utc: Utc, precision: Option<usize>) -> String {
        let properties = message.properties;
        let cut = |text: &str| match precision {
            Some(count) => text.chars().take(count).collect(),
            None => text.to_owned(),
        };
        let integer = |number: Option<u32>| number.map(|number| number.to_string());
        match self {
            Self::Topic => cut(message.topic),
            Self::Payload | Self::Json(_) => String::new(),
            Self::Qos => (message.qos as u8).to_string(),
            Self::Retain => u8::from(message.retain).to_string(),
            Self::PayloadBytes => message.payload.len().to_string(),
            Self::PacketId => message.packet_id.to_string(),
            Self::HexLower => hex(message.payload, precision),
            Self::HexUpper => hex(message.payload, precision).to_uppercase(),
            Self::Double => match message.payload.try_into() {
                Ok(bytes) => decimal(f64::from_ne_bytes(bytes), precision),
                Err(_) => String::new(),
            },
            Self::Float => match message.payload.try_into() {
                Ok(bytes) => decimal(f64::from(f32::from_ne_bytes(bytes)), precision),
                Err(_) => String::new(),
            },
            Self::TopicAlias => {
                integer(properties.topic_alias().map(u32::from)).unwrap_or_default()
            }
            Self::ContentType => cut(properties.content_type().unwrap_or("")),
            Self::CorrelationData => {
                String::from_utf8_lossy(properties.correlation_data().unwrap_or_default()).into()
            }
            Self::Expiry => integer(properties.message_expiry_interval()).unwrap_or_default(),
            Self::PayloadFormat => {
                integer(properties.payload_format_indicator().map(u32::from)).unwrap_or_default()
            }
            Self::UserProperties => joined(properties, |property| {
                let Property::UserProperty(name, value) = property else { return None };
                Some(format!("{name}:{value}"))
            }),
            Self::ResponseTopic => cut(properties.response_topic().unwrap_or("")),
            Self::SubscriptionIds => joined(properties, |property| {
                let Property::SubscriptionIdentifier(id) = property else { return None };
                Some(id.to_string())
            }),
            Self::Iso8601 => {
                let pieces = ['F', 'T', 'z'].map(|piece| utc.piece(piece).unwrap_or_default());
                let [date, time, zone] = pieces;
                cut(&format!("{date}T{time}{zone}"))
            }
            Self::Unix => format!("{}.{:09}", utc.seconds, utc.nanosecond),
        }
    }
}

fn joined(properties: Properties<'_>, text: impl Fn(Property<'_>) -> Option<String>) -> String {
    properties.iter().filter_map(text).collect::<Vec<_>>().join(" ")
}

/// Six digits after the point if nothing else is said, as printf has it.
fn decimal(number: f64, precision: Option<usize>) -> String {
    format!("{number:.*}", precision.unwrap_or(6))
}

/// Lower-case digits; a space after every `group` bytes.
fn hex(bytes: &[u8], group: Option<usize>) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && group.is_some_and(|group| group > 0 && index % group == 0) {
            text.push(' ');
        }
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}

impl Layout {
    /// Writes the text, filled up to the width: on the left with zeros or spaces, or on the right
    /// with spaces.
    fn write(self, text: &[u8], out: &mut Vec<u8>) {
        if self.width == 0 {
            out.extend_from_slice(text);
            return;
        }
        let columns = std::str::from_utf8(text).map_or(text.len(), |text| text.chars().count());
        let missing = self.width.saturating_sub(columns);
        let fill = if self.zeros && !self.left { b'0' } else { b' ' };
        if !self.left {
            out.resize(out.len() + missing, fill);
        }
        out.extend_from_slice(text);
        if self.left {
            out.resize(out.len() + missing, fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PropertyList;

    /// Topic `a/b`, payload `{"n": 1.50}`, QoS 1 id 7, retained, 2026-11-20 10:27:59.217541664.
    fn check(format: &str, expected: &str) {
        let mut properties = PropertyList::new();
        properties
            .push(Property::ContentType("text"))
            .push(Property::UserProperty("k", "v"))
            .push(Property::MessageExpiryInterval(100))
            .push(Property::UserProperty("k", "w \""))
            .push(Property::ResponseTopic("r/t"))
            .push(Property::CorrelationData(b"cd"))
            .push(Property::SubscriptionIdentifier(7))
            .push(Property::SubscriptionIdentifier(300));
        let message =
            Message { properties: properties.as_properties(), ..plain(br#"{"n": 1.50}"#) };
        check_message(&message, format, expected);
    }

    fn plain(payload: &[u8]) -> Message<'_> {
        Message {
            topic: "a/b",
            payload,
            qos: Qos::AtLeastOnce,
            retain: true,
            packet_id: 7,
            properties: Properties::default(),
            arrival: Duration::new(1_795_170_479, 217_541_664),
        }
    }

    fn check_message(message: &Message<'_>, format: &str, expected: &str) {
        let mut out = Vec::new();
        let format = Format::parse(format).expect("a valid format");
        format.write(message, &mut out).expect("a valid payload");
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn parts_of_the_message() {
        check("%t %p %q %r %l %m", "a/b {\"n\": 1.50} 1 1 11 7");
        check("%x|%X", "7b226e223a20312e35307d|7B226E223A20312E35307D");
        check("%.4x", "7b226e22 3a20312e 35307d");
        check("%I %U", "2026-11-20T10:27:59+0000 1795170479.217541664");
        check("@Y-@m-@d @H:@M:@S.@N @@", "2026-11-20 10:27:59.217541664 @");
        check("%% \\\\ \\n \\t \\r \\0 \\a \\e \\v", "% \\ \n \t \r \0 \u{7} \u{1b} \u{b}");
    }

    #[test]
    fn properties_of_the_message() {
        check("%A|%C|%D|%E|%F|%P|%R|%S", "|text|cd|100||k:v k:w \"|r/t|7 300");
        check_message(&plain(b""), "%A|%C|%D|%E|%F|%P|%R|%S|", "||||||||");
    }

    #[test]
    fn width_flags_and_precision() {
        check("%5q|%05q|%-5q|%10t|%-10t|", "    1|00001|1    |       a/b|a/b       |");
        check("%-12p|%012p|%2p|", "{\"n\": 1.50} |0{\"n\": 1.50}|{\"n\": 1.50}|");
        check("%.2t|%6.2C|%-6.2C|%.4I", "a/|    te|te    |2026");
    }

    #[test]
    fn json_has_the_keys_of_mosquitto() {
        check(
            "%j",
            "{\"tst\":\"2026-11-20T10:27:59.217541Z+0000\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\
             \"payloadlen\":11,\"mid\":7,\"properties\":{\"content-type\":\"text\",\
             \"message-expiry-interval\":100,\"response-topic\":\"r/t\",\"correlation-data\":\"cd\",\
             \"subscription-identifier\":7,\"subscription-identifier\":300,\
             \"user-properties\":{\"k\":\"v\",\"k\":\"w \\\"\"}},\"payload\":\"{\\\"n\\\": 1.50}\"}",
        );
        let nested = plain(b" [ \"a \\\" b\",\n 1e5 ] ");
        check_message(
            &nested,
            "%J",
            "{\"tst\":\"2026-11-20T10:27:59.217541Z+0000\",\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\
             \"payloadlen\":20,\"mid\":7,\"payload\":[\"a \\\" b\",1e5]}",
        );
        let format = Format::parse("%J").expect("valid");
        assert!(format.write(&plain(b"abc"), &mut Vec::new()).is_err());
        assert!(format.write(&plain(b""), &mut Vec::new()).is_err());
    }

    #[test]
    fn numbers_are_read_from_the_payload() {
        check_message(&plain(&1.5_f64.to_ne_bytes()), "%d|%.2d|%f", "1.500000|1.50|");
        check_message(&plain(&1.5_f32.to_ne_bytes()), "%f|%8.1f|%d", "1.500000|     1.5|");
    }

    #[test]
    fn mistakes_are_named() {
        for (format, error) in [
            ("%z", "-F: no such part %z"),
            ("%", "-F ends inside of %"),
            ("%5", "-F ends inside of %"),
            ("@q", "-F: no such time @q"),
            ("@", "-F ends with @"),
            ("\\x", "-F: no such escape \\x"),
            ("%99999t", "-F: widths end at 10000"),
        ] {
            assert_eq!(Format::parse(format), Err(error.to_owned()));
        }
    }
}
