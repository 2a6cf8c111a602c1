//! `-D COMMAND NAME [KEY] VALUE`: properties of MQTT 5.0 from the command line.

use crate::codec::{Property, PropertyList};
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};
use std::num::NonZeroU16;

/// Strings and binary values have a length of two bytes on the wire.
const TEXT_BYTES_MAX: usize = 65_535;
/// Variable byte integers end here (MQTT 5.0 §1.5.5).
const VARIABLE_MAX: u32 = 268_435_455;

/// The words of every `-D`, not looked at yet.
#[derive(Clone, Debug, Default)]
pub(super) struct PropertyArgs(Vec<Vec<String>>);

impl FromArgMatches for PropertyArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let occurrences = matches.get_occurrences::<String>("property").into_iter().flatten();
        Ok(Self(occurrences.map(|words| words.cloned().collect()).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

// Written by hand because a derived `Vec` would lose where one `-D` ends and the next begins.
impl clap::Args for PropertyArgs {
    fn augment_args(command: Command) -> Command {
        command.arg(
            Arg::new("property")
                .short('D')
                .long("property")
                .num_args(3..=4)
                .value_names(["COMMAND", "NAME", "[KEY] VALUE"])
                .allow_negative_numbers(true)
                .action(ArgAction::Append)
                .help(
                    "MQTT 5.0 property of connect, publish, subscribe, unsubscribe, disconnect or \
                     will; forces -V 5",
                ),
        )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The properties of each packet a tool sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PropertySets {
    pub(super) connect: PropertyList,
    pub(super) publish: PropertyList,
    pub(super) subscribe: PropertyList,
    pub(super) unsubscribe: PropertyList,
    pub(super) disconnect: PropertyList,
    pub(super) will: PropertyList,
    /// Alias of `publish`, not in its list: later messages carry it without the topic.
    pub(super) topic_alias: Option<NonZeroU16>,
}

impl PropertyArgs {
    /// Was `-D` given at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks everything: packet, property, value, and that nothing is there twice.
    pub(super) fn parse(&self) -> Result<PropertySets, String> {
        let mut sets = PropertySets::default();
        let mut seen = Vec::new();
        for words in &self.0 {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let (command, name, value) = match *words.as_slice() {
                [command, name, value] => (command, name, Value::One(value)),
                [command, name, key, value] => (command, name, Value::Pair(key, value)),
                _ => return Err("-D takes COMMAND NAME [KEY] VALUE".to_owned()),
            };
            if name != "user-property" && seen.contains(&(command, name)) {
                return Err(format!("-D {command} {name} is given twice"));
            }
            seen.push((command, name));
            sets.add(command, name, value).map_err(|why| format!("-D {command} {name}: {why}"))?;
        }
        Ok(sets)
    }
}

#[derive(Clone, Copy)]
enum Value<'a> {
    One(&'a str),
    Pair(&'a str, &'a str),
}

impl PropertySets {
    fn add(&mut self, command: &str, name: &str, value: Value<'_>) -> Result<(), String> {
        let places = places(name).ok_or("no such property")?;
        let list = match command {
            "connect" => &mut self.connect,
            "publish" => &mut self.publish,
            "subscribe" => &mut self.subscribe,
            "unsubscribe" => &mut self.unsubscribe,
            "disconnect" => &mut self.disconnect,
            "will" => &mut self.will,
            _ => return Err("no such packet".to_owned()),
        };
        if !places.contains(&command) {
            return Err(format!("not allowed in {command}"));
        }
        let property = property(name, value)?;
        if let Property::TopicAlias(alias) = property {
            self.topic_alias = NonZeroU16::new(alias);
        } else {
            list.push(property);
        }
        Ok(())
    }
}

/// The packets that a property may stand in (MQTT 5.0 §2.2.2.2), as far as a client sends them.
fn places(name: &str) -> Option<&'static [&'static str]> {
    Some(match name {
        "payload-format-indicator"
        | "message-expiry-interval"
        | "content-type"
        | "response-topic"
        | "correlation-data" => &["publish", "will"],
        "subscription-identifier" => &["subscribe"],
        "session-expiry-interval" => &["connect", "disconnect"],
        "will-delay-interval" => &["will"],
        "reason-string" => &["disconnect"],
        "topic-alias" => &["publish"],
        "authentication-method"
        | "authentication-data"
        | "request-problem-information"
        | "request-response-information"
        | "receive-maximum"
        | "topic-alias-maximum"
        | "maximum-packet-size" => &["connect"],
        "user-property" => {
            &["connect", "publish", "subscribe", "unsubscribe", "disconnect", "will"]
        }
        _ => return None,
    })
}

fn property<'a>(name: &str, value: Value<'a>) -> Result<Property<'a>, String> {
    let value = match value {
        Value::Pair(key, value) if name == "user-property" => {
            return Ok(Property::UserProperty(text(key)?, text(value)?));
        }
        Value::One(_) if name == "user-property" => return Err("takes KEY VALUE".to_owned()),
        Value::Pair(..) => return Err("takes one value".to_owned()),
        Value::One(value) => value,
    };
    Ok(match name {
        "payload-format-indicator" => {
            Property::PayloadFormatIndicator(u8::from(number(value, 0, 1)? == 1))
        }
        "message-expiry-interval" => Property::MessageExpiryInterval(number(value, 0, u32::MAX)?),
        "content-type" => Property::ContentType(text(value)?),
        "response-topic" => Property::ResponseTopic(text(value)?),
        "correlation-data" => Property::CorrelationData(text(value)?.as_bytes()),
        "subscription-identifier" => {
            Property::SubscriptionIdentifier(number(value, 1, VARIABLE_MAX)?)
        }
        "session-expiry-interval" => Property::SessionExpiryInterval(number(value, 0, u32::MAX)?),
        "will-delay-interval" => Property::WillDelayInterval(number(value, 0, u32::MAX)?),
        "reason-string" => Property::ReasonString(text(value)?),
        "topic-alias" => Property::TopicAlias(short(value, 1)?),
        "authentication-method" => Property::AuthenticationMethod(text(value)?),
        "authentication-data" => Property::AuthenticationData(text(value)?.as_bytes()),
        "request-problem-information" => {
            Property::RequestProblemInformation(number(value, 0, 1)? == 1)
        }
        "request-response-information" => {
            Property::RequestResponseInformation(number(value, 0, 1)? == 1)
        }
        "receive-maximum" => Property::ReceiveMaximum(short(value, 1)?),
        "topic-alias-maximum" => Property::TopicAliasMaximum(short(value, 0)?),
        "maximum-packet-size" => Property::MaximumPacketSize(number(value, 1, u32::MAX)?),
        _ => return Err("no such property".to_owned()),
    })
}

fn number(value: &str, min: u32, max: u32) -> Result<u32, String> {
    let number = value.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("{value} is no number from {min} to {max}"))
}

fn short(value: &str, min: u16) -> Result<u16, String> {
    let number = value.parse().ok().filter(|number| *number >= min);
    number.ok_or_else(|| format!("{value} is no number from {min} to 65535"))
}

fn text(value: &str) -> Result<&str, String> {
    if value.len() > TEXT_BYTES_MAX {
        return Err("longer than 65535 bytes".to_owned());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-D` options separated by `;`.
    fn parse(text: &str) -> Result<PropertySets, String> {
        let words = |one: &str| one.split_whitespace().map(str::to_owned).collect();
        PropertyArgs(text.split(';').map(words).collect()).parse()
    }

    #[test]
    fn properties_go_to_their_packets() {
        let sets = parse(
            "connect receive-maximum 3; connect user-property a b; connect user-property a c; \
             publish topic-alias 9; publish content-type text; will will-delay-interval 4; \
             subscribe subscription-identifier 268435455; disconnect session-expiry-interval 0",
        )
        .expect("valid");
        let connect: Vec<_> = sets.connect.as_properties().iter().collect();
        assert_eq!(
            connect,
            [
                Property::ReceiveMaximum(3),
                Property::UserProperty("a", "b"),
                Property::UserProperty("a", "c"),
            ]
        );
        assert_eq!(sets.publish.as_properties().content_type(), Some("text"));
        assert_eq!(sets.publish.as_properties().topic_alias(), None);
        assert_eq!(sets.topic_alias, NonZeroU16::new(9));
        assert_eq!(sets.will.as_properties().will_delay_interval(), Some(4));
        let subscribe = sets.subscribe.as_properties();
        assert_eq!(subscribe.subscription_identifier(), Some(268_435_455));
        assert_eq!(sets.disconnect.as_properties().session_expiry_interval(), Some(0));
    }

    #[test]
    fn errors_name_packet_and_property() {
        for (options, error) in [
            ("publish foo 1", "-D publish foo: no such property"),
            ("pub content-type a", "-D pub content-type: no such packet"),
            ("publish receive-maximum 1", "-D publish receive-maximum: not allowed in publish"),
            (
                "connect receive-maximum 0",
                "-D connect receive-maximum: 0 is no number from 1 to 65535",
            ),
            (
                "publish payload-format-indicator 2",
                "-D publish payload-format-indicator: 2 is no number from 0 to 1",
            ),
            ("publish user-property a", "-D publish user-property: takes KEY VALUE"),
            ("publish content-type a b", "-D publish content-type: takes one value"),
            (
                "publish content-type a; publish content-type b",
                "-D publish content-type is given twice",
            ),
        ] {
            assert_eq!(parse(options), Err(error.to_owned()));
        }
    }
}
