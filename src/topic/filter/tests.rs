//! Tests of topic filters.

use super::*;

fn parse(text: &str) -> Result<Filter, FilterError> {
    Filter::parse(text, 8)
}

fn matches(filter: &str, topic: &str) -> bool {
    parse(filter).unwrap().matches(TopicName::parse(topic).unwrap())
}

#[test]
fn multi_level_wildcard_is_the_last_level_alone() {
    // [MQTT-4.7.1-1]
    for text in ["#", "/#", "a/#", "a//#", "+/#"] {
        assert!(parse(text).is_ok_and(|f| f.has_wildcard()), "{text}");
    }
    for text in ["a#", "#a", "a/#/b", "#/", "##", "a/b#"] {
        assert_eq!(parse(text), Err(FilterError::MultiLevel), "{text}");
    }
}

#[test]
fn single_level_wildcard_fills_its_level() {
    // [MQTT-4.7.1-2]
    for text in ["+", "+/", "/+", "a/+/b", "+/+"] {
        assert!(parse(text).is_ok_and(|f| f.has_wildcard()), "{text}");
    }
    for text in ["a+", "+a", "a/b+", "++", "a/+b/c"] {
        assert_eq!(parse(text), Err(FilterError::SingleLevel), "{text}");
    }
}

#[test]
fn filter_needs_a_character() {
    // [MQTT-4.7.3-1]
    assert_eq!(parse(""), Err(FilterError::Empty));
    assert!(parse("/").is_ok());
}

#[test]
fn filter_has_no_null_character() {
    // [MQTT-4.7.3-2]
    assert_eq!(parse("a/\0"), Err(FilterError::Null));
}

#[test]
fn filter_length_is_limited() {
    // [MQTT-4.7.3-3]
    assert!(parse(&"x".repeat(65_535)).is_ok());
    assert_eq!(parse(&"x".repeat(65_536)), Err(FilterError::TooLong { bytes: 65_536 }));
}

#[test]
fn filter_levels_are_limited() {
    assert!(parse("1/2/3/4/5/6/7/8").is_ok());
    assert_eq!(parse("1/2/3/4/5/6/7/8/9"), Err(FilterError::TooManyLevels { max: 8 }));
    assert!(parse("$share/g/1/2/3/4/5/6/7/8").is_ok());
}

#[test]
fn share_name_is_split_off() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    let filter = parse("$share/g/a/+").unwrap();
    assert_eq!((filter.share(), filter.path()), (Some("g"), "a/+"));
    assert_eq!(filter.as_str(), "$share/g/a/+");
    let filter = parse("$share/g//").unwrap();
    assert_eq!((filter.share(), filter.path()), (Some("g"), "/"));
    let filter = parse("a/$share/g").unwrap();
    assert_eq!((filter.share(), filter.path()), (None, "a/$share/g"));
    assert_eq!(parse("$share").unwrap().share(), None);
}

#[test]
fn share_name_has_characters_and_no_wildcards() {
    // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    for text in ["$share/", "$share//", "$share//a", "$share/g+/a", "$share/#/a", "$share/+/a"] {
        assert_eq!(parse(text), Err(FilterError::ShareName), "{text}");
    }
    for text in ["$share/g", "$share/g/"] {
        assert_eq!(parse(text), Err(FilterError::ShareWithoutFilter), "{text}");
    }
}

#[test]
fn examples_of_the_specification_hold() {
    for topic in
        ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/a/b"]
    {
        assert!(matches("sport/tennis/player1/#", topic), "{topic}");
        assert!(matches("sport/#", topic), "{topic}");
    }
    assert!(matches("sport/#", "sport"));
    assert!(!matches("sport/#", "sports"));
    assert!(matches("sport/tennis/+", "sport/tennis/player1"));
    assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matches("sport/+", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(matches("+/+", "/finance"));
    assert!(matches("/+", "/finance"));
    assert!(!matches("+", "/finance"));
    assert!(matches("$share/g/sport/+", "sport/x"));
}

#[test]
fn wildcard_in_front_does_not_match_dollar_topics() {
    // [MQTT-4.7.2-1]
    assert!(!matches("#", "$SYS/x"));
    assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/#", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(matches("+/$x", "a/$x"));
}

#[test]
fn comparison_is_by_character() {
    // [MQTT-4.7.3-4]
    assert!(!matches("ACCOUNTS", "Accounts"));
    assert!(!matches("\u{e9}", "e\u{301}"));
    assert!(!matches("a", "a/"));
    assert!(matches("a//b", "a//b"));
}

#[test]
fn filters_are_equal_by_whole_text() {
    assert_ne!(parse("$share/g/a").unwrap(), parse("a").unwrap());
    assert_eq!(parse("$share/g/a").unwrap(), parse("$share/g/a").unwrap());
    assert!(parse("a").unwrap() < parse("b").unwrap());
}
