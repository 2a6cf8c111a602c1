//! The known differences: what explains them, who is right, and whether the play can go on.
//!
//! A rule takes out of a difference the lines that it explains. Each has a section of the same name
//! in `docs/differences.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::take;

use crate::compare::Difference;
use crate::packet::Version;
use crate::script::{BAD_FILTERS, BAD_SHARES, SLOTS, Step, matches};

/// Who is right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Right {
    /// Mosquitto breaks a rule that Culex keeps.
    Culex,
    /// The specification allows both.
    Both,
    /// Culex departs from the letter of the specification, knowingly.
    Mosquitto,
}

/// Whether the brokers are still in the same state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Then {
    Continue,
    End,
}

pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) right: Right,
    pub(crate) then: Then,
    pub(crate) explain: fn(&mut Difference<'_>),
}

const fn rule(
    name: &'static str,
    right: Right,
    then: Then,
    explain: fn(&mut Difference<'_>),
) -> Rule {
    Rule { name, right, then, explain }
}

use Right::{Both, Culex, Mosquitto};
use Then::{Continue, End};

/// In this order each takes out what it explains; nothing may be left.
pub(crate) const RULES: &[Rule] = &[
    rule("keep-alive-cap", Both, Continue, |d| {
        if !d.step().text.contains("keep=") {
            pair(d, |line| starts(line, "connack"), |line| line.replace(" keep=65535", ""));
        }
    }),
    rule("unknown-protocol", Both, Continue, |d| {
        let text = &d.step().text;
        if has(text, "level=9") || has(text, "name=MQTX") {
            d.culex.retain(|line| !starts(line, "connack") && !starts(line, "trouble"));
            d.mosquitto.retain(|line| !starts(line, "connack") && !starts(line, "trouble"));
        }
    }),
    rule("reason-of-the-refusal", Both, Continue, |d| {
        if starts(&d.step().text, "connect") && d.both_closed {
            d.culex.retain(|line| !starts(line, "connack 0x8") && !starts(line, "connack 0x9"));
            d.mosquitto.retain(|line| !starts(line, "connack 0x8"));
        }
    }),
    rule("taken-over", Culex, Continue, |d| {
        d.culex.retain(|line| line != "replaced: disconnect 0x8e");
    }),
    rule("no-subscribers", Both, Continue, |d| {
        pair(d, |line| starts(line, "pubrec"), |line| line.replace("0x10", "0x00"));
    }),
    rule("unknown-pubrel", Both, Continue, |d| {
        pair(d, |line| starts(line, "pubcomp"), |line| line.replace("0x92", "0x00"));
    }),
    rule("unknown-pubrec", Both, Continue, |d| {
        pair(d, |line| starts(line, "pubrel of-nothing"), |line| line.replace("0x92", "0x00"));
    }),
    rule("unsubscribed-nothing", Culex, Continue, |d| {
        pair(d, |line| starts(line, "unsuback"), |line| line.replace("0x11", "0x00"));
    }),
    rule("malformed-accepted", Culex, End, |d| {
        let ends = |line: &String| line == "closed" || starts(line, "disconnect 0x8");
        let closed = d.culex.iter().any(|line| line == "closed");
        let raw = d.step().is_illegal();
        d.mosquitto.retain(|line| !(raw && starts(line, "trouble")));
        if raw && closed && d.culex.iter().all(ends) && !d.mosquitto.contains(&"closed".into()) {
            d.culex.clear();
            d.mosquitto.clear();
        } else if raw && d.all_culex.iter().any(|line| line == "closed") {
            let lost = wills(d, |_| true);
            d.culex.retain(|line| !word(line, "p").is_some_and(|payload| lost.contains(&payload)));
        }
    }),
    rule("malformed-subscribe", Culex, End, |d| {
        let broken = |step: &&Step| {
            let bad = ["x:610062", "x:ff"].iter().any(|filter| has(&step.text, filter));
            bad && step.slot == d.slot && starts(&step.text, "subscribe")
        };
        if d.steps.iter().any(|step| broken(&step)) {
            d.mosquitto.retain(|line| !starts(line, "publish"));
        }
    }),
    rule("shared-dollar", Culex, End, |d| {
        if filters(d).any(|filter| starts(filter, "$~")) {
            d.culex.retain(|line| !starts(line, "publish $~"));
        }
    }),
    rule("shared-retained", Culex, End, |d| {
        if d.step().text.contains("$share/") {
            d.mosquitto.retain(|line| !(starts(line, "publish") && has(line, "retain")));
        }
    }),
    rule("share-name", Culex, End, |d| {
        if BAD_SHARES.iter().any(|share| d.step().text.contains(share)) {
            pair(d, |line| starts(line, "suback"), |_| String::new());
        }
    }),
    rule("second-connect", Culex, End, |d| {
        let own = |step: &&Step| step.slot == d.slot && starts(&step.text, "again");
        if starts(&d.step().text, "connect") && d.steps.iter().any(|step| own(&step)) {
            pair(d, |line| starts(line, "connack"), |line| line.replace(" present", ""));
        }
    }),
    rule("will-to-itself", Both, End, |d| {
        let own = wills(d, |_| true);
        d.mosquitto.retain(|line| {
            let will = word(line, "p").is_some_and(|payload| own.contains(&payload));
            !(will && starts(line, "replaced: publish"))
        });
    }),
    rule("will-delay", Culex, End, |d| {
        let delayed = wills(d, |text| has(text, "wdelay=5000"));
        d.culex.retain(|line| !word(line, "p").is_some_and(|p| delayed.contains(&p)));
        if !delayed.is_empty() {
            pair(d, |line| starts(line, "puback"), |line| line.replace("0x10", "0x00"));
        }
    }),
    rule("malformed-filter", Mosquitto, End, |d| {
        let text = &d.step().text;
        let refused =
            |line: &String| has(line, "0x80") || has(line, "0x8f") || starts(line, "publish");
        let bad = text.split_whitespace().any(|word| BAD_FILTERS.contains(&unshared(word)));
        if bad && text.contains("subscribe ") && d.culex.iter().all(refused) {
            d.culex.clear();
            let lost = wills(d, |_| true);
            let will = |line: &String| word(line, "p").is_some_and(|p| lost.contains(&p));
            d.mosquitto
                .retain(|line| !(line == "closed" || starts(line, "disconnect 0x8") || will(line)));
        }
    }),
    rule("window-passed", Culex, End, |d| {
        if starts(&d.step().text, "ack") && connected_with(d, " rmax=") {
            d.mosquitto.retain(|line| !starts(line, "publish"));
        }
    }),
    rule("retained-in-the-window", Both, End, |d| {
        let retained = |line: &String| starts(line, "publish") && has(line, "retain");
        if connected_with(d, " rmax=") {
            let text = d.step().text.clone();
            if text.contains("subscribe ") {
                d.mosquitto.retain(|line| !retained(line));
            } else if starts(&text, "ack") {
                d.culex.retain(|line| !retained(line));
            }
        }
    }),
    rule("too-large-keeps-its-place", Culex, End, |d| {
        if connected_with(d, " max=") && connected_with(d, " rmax=") {
            d.culex
                .retain(|line| !(starts(line, "publish") && (has(line, "q1") || has(line, "q2"))));
        }
    }),
    rule("will-of-taken-over", Culex, End, |d| {
        let lost = wills_of_replaced(d);
        d.culex.retain(|line| !word(line, "p").is_some_and(|payload| lost.contains(&payload)));
    }),
    rule("subscribed-again", Culex, End, |d| {
        let again: Vec<String> = filters(d)
            .filter(|filter| filters(d).filter(|other| other == filter).count() > 1)
            .map(str::to_owned)
            .collect();
        let hit = |line: &str| {
            let topic = line.split_whitespace().nth(1).unwrap_or_default();
            starts(line, "publish") && again.iter().any(|filter| matches(filter, topic))
        };
        d.culex.retain(|line| !hit(line));
        d.mosquitto.retain(|line| !hit(line));
    }),
    rule("overlapping-copies", Both, End, |d| {
        let topics: Vec<String> = d.ours.iter().filter_map(|line| topic(line)).collect();
        for topic in topics {
            let count = filters(d).filter(|filter| matches(filter, &topic)).count();
            if count > 1 && best(&d.ours, &topic) == best(&d.theirs, &topic) {
                let same = |line: &String| self::topic(line).as_deref() == Some(&*topic);
                d.culex.retain(|line| !same(line));
                d.mosquitto.retain(|line| !same(line));
            }
        }
    }),
    rule("own-message-only", Both, Continue, |d| {
        if d.steps.iter().any(|step| step.slot == d.slot && has(&step.text, "nl")) {
            pair(d, |line| starts(line, "puback"), |line| line.replace("0x10", "0x00"));
        }
    }),
    rule("qos2-release", Both, End, |d| {
        let (mut theirs, mut ours) = (take(&mut d.mosquitto), take(&mut d.culex));
        theirs.retain(|line| !is_late(d, line));
        ours.retain(|line| !is_late(d, line));
        (d.mosquitto, d.culex) = (theirs, ours);
    }),
    rule("shared-member", Both, End, |d| {
        if d.steps.iter().any(|step| step.text.contains("$share/")) && same_messages(d) {
            d.culex.retain(|line| !starts(line, "publish"));
            d.mosquitto.retain(|line| !starts(line, "publish"));
        }
    }),
    rule("shared-lost-member", Both, End, |d| {
        let shared = d.steps.iter().any(|step| step.text.contains("$share/"));
        let fresh =
            |line: &String| word(line, "p").is_some_and(|p| word(&d.step().text, "p") == Some(p));
        if shared && !d.culex.iter().any(fresh) {
            d.culex.retain(|line| !starts(line, "publish"));
        }
    }),
    rule("answers-before-the-end", Both, Continue, |d| {
        if d.both_closed && d.step().text.contains(" & ") {
            let answer =
                |line: &str| ["puback", "pubrec", "pubcomp"].iter().any(|n| starts(line, n));
            d.mosquitto.retain(|line| !answer(line));
            d.culex.retain(|line| !answer(line));
        }
    }),
    rule("reason-of-the-end", Both, Continue, |d| {
        if d.version == Version::V5 && d.both_closed {
            d.culex.retain(|line| !starts(line, "disconnect"));
            d.mosquitto.retain(|line| !starts(line, "disconnect"));
        }
    }),
];

/// Takes everything out that a rule explains; gives the rules.
pub(crate) fn explain(difference: &mut Difference<'_>) -> Vec<&'static Rule> {
    let count = |d: &Difference<'_>| d.mosquitto.len() + d.culex.len();
    let explains = |rule: &&'static Rule| {
        let before = count(difference);
        (rule.explain)(difference);
        count(difference) < before
    };
    RULES.iter().filter(explains).collect()
}

#[test]
fn documented_differences_are_the_known_ones() {
    let text = include_str!("../../docs/differences.md");
    let verdict = |right| match right {
        Culex => "Verdict: Mosquitto's fault.",
        Both => "Verdict: free choice.",
        Mosquitto => "Verdict: ours.",
    };
    let sections: Vec<&str> = text.split("\n### ").skip(1).collect();
    for section in &sections {
        let name = section.lines().next().unwrap_or_default();
        let rule = RULES.iter().find(|rule| rule.name == name);
        let rule = rule.unwrap_or_else(|| panic!("no rule for {name}"));
        assert!(section.contains(verdict(rule.right)), "another verdict on {name}");
    }
    assert_eq!(sections.len(), RULES.len(), "a rule without a section");
}

fn starts(line: &str, name: &str) -> bool {
    line.starts_with(name)
}

fn has(line: &str, word: &str) -> bool {
    line.split_whitespace().any(|other| other == word)
}

/// Value of the first `key=value`.
fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Topic of a PUBLISH.
fn topic(line: &str) -> Option<String> {
    let rest = line.strip_prefix("publish ")?;
    rest.split(' ').next().map(str::to_owned)
}

/// The filter without `$share/NAME/`.
fn unshared(filter: &str) -> &str {
    filter.strip_prefix("$share/~/").unwrap_or(filter)
}

/// Filters that the client has ever subscribed to in the script, each as often as it did.
fn filters<'a>(d: &Difference<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    let slot = d.slot;
    let steps = d.steps.iter().filter(move |step| step.slot == slot);
    steps.filter(|step| starts(&step.text, "subscribe ")).flat_map(|step| {
        let words = step.text.split_whitespace().skip(2).map(unshared);
        words.filter(|word| !matches!(*word, "q1" | "q2" | "nl" | "rap") && !word.contains('='))
    })
}

/// Messages on a topic, each with the highest QoS and all subscription identifiers of its copies.
fn best(lines: &[String], topic: &str) -> BTreeMap<String, (u8, BTreeSet<String>)> {
    let mut messages: BTreeMap<String, (u8, BTreeSet<String>)> = BTreeMap::new();
    for line in lines.iter().filter(|line| self::topic(line).as_deref() == Some(topic)) {
        let entry = messages.entry(word(line, "p").unwrap_or_default().to_owned()).or_default();
        let qos = if has(line, "q2") { 2 } else { u8::from(has(line, "q1")) };
        entry.0 = entry.0.max(qos);
        entry
            .1
            .extend(line.split_whitespace().filter(|w| w.starts_with("sid=")).map(str::to_owned));
    }
    messages
}

/// Takes out pairs of lines that are equal when what `plain` takes away does not count.
fn pair(d: &mut Difference<'_>, which: fn(&str) -> bool, plain: fn(&str) -> String) {
    d.culex.retain(|ours| {
        let same = |theirs: &String| plain(theirs) == plain(ours);
        let partner = d.mosquitto.iter().position(|theirs| which(theirs) && same(theirs));
        partner.map(|at| d.mosquitto.remove(at)).is_none()
    });
}

/// The client has ever connected with such an option.
fn connected_with(d: &Difference<'_>, option: &str) -> bool {
    let mut own = d.steps.iter().filter(|step| step.slot == d.slot);
    own.any(|step| starts(&step.text, "connect") && step.text.contains(option))
}

/// Payloads of the wills of such CONNECT packets.
fn wills<'a>(d: &Difference<'a>, which: fn(&str) -> bool) -> Vec<&'a str> {
    let steps = d.steps.iter().filter(|step| which(&step.text));
    steps.filter_map(|step| word(&step.text, "wp")).collect()
}

/// Payloads of the wills of connections that another one of the same client has replaced.
fn wills_of_replaced<'a>(d: &Difference<'a>) -> Vec<&'a str> {
    let mut open = [None; SLOTS];
    let mut lost = Vec::new();
    for step in d.steps {
        let will = &mut open[step.slot];
        match step.text.split_whitespace().next() {
            Some("connect") => {
                lost.extend(*will);
                *will = word(&step.text, "wp");
            }
            Some("disconnect" | "drop") => *will = None,
            _ => {}
        }
    }
    lost
}

/// Whether the line is a message on a topic to which a QoS 2 message was published in one step and
/// released in another.
fn is_late(d: &Difference<'_>, line: &str) -> bool {
    let released = |publish: &str, step: &Step| {
        let release = format!("pubrel {}", word(publish, "id").unwrap_or_default());
        step.text.split(" & ").any(|text| text == release)
    };
    d.steps.iter().any(|step| {
        let mut late = step.text.split(" & ").filter(|text| has(text, "q2"));
        // With a window, what follows comes at another time as well.
        let follows = has(line, "q1") || has(line, "q2");
        late.any(|text| {
            let same = || topic(text) == topic(line.trim_start_matches("replaced: "));
            !released(text, step) && (follows || same())
        })
    })
}

/// All clients together got the same messages.
fn same_messages(d: &Difference<'_>) -> bool {
    let messages = |lines: &[String]| {
        let publishes = lines.iter().filter(|line| starts(line, "publish"));
        let mut messages: Vec<String> = publishes
            .map(|line| {
                let words = line.split_whitespace();
                words.filter(|word| !matches!(*word, "q1" | "q2" | "retain")).collect()
            })
            .collect();
        messages.sort();
        messages
    };
    messages(&d.all_mosquitto) == messages(&d.all_culex)
}
