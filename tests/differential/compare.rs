//! What differs between two brokers' outputs of one step.

use crate::packet::Version;
use crate::script::Step;
use crate::side::Output;

/// What one client got from one broker and not from the other.
#[derive(Debug)]
pub(crate) struct Difference<'a> {
    /// The steps so far; the last one made the difference.
    pub(crate) steps: &'a [Step],
    pub(crate) slot: usize,
    /// Version of the client that got something else.
    pub(crate) version: Version,
    pub(crate) mosquitto: Vec<String>,
    pub(crate) culex: Vec<String>,
    /// What all clients together got from one broker and not from the other.
    pub(crate) all_mosquitto: Vec<String>,
    pub(crate) all_culex: Vec<String>,
    /// All that this client got.
    pub(crate) theirs: Vec<String>,
    pub(crate) ours: Vec<String>,
    /// Both brokers ended the connection.
    pub(crate) both_closed: bool,
}

impl Difference<'_> {
    pub(crate) fn step(&self) -> &Step {
        self.steps.last().expect("a difference follows a step")
    }

    pub(crate) fn text(&self) -> String {
        let list = |name: &str, lines: &[String]| -> String {
            lines.iter().map(|line| format!("\n    only {name}: {line}")).collect()
        };
        let (theirs, ours) = (list("mosquitto", &self.mosquitto), list("culex", &self.culex));
        format!("  c{} {:?} after {}{theirs}{ours}", self.slot, self.version, self.step())
    }
}

/// The differences, one for each client that has any.
pub(crate) fn compare<'a>(
    steps: &'a [Step],
    versions: &[Version],
    mosquitto: &Output,
    culex: &Output,
) -> Vec<Difference<'a>> {
    let none = Vec::new();
    let mut differences = Vec::new();
    for (slot, version) in versions.iter().enumerate() {
        let theirs = mosquitto.get(&slot).unwrap_or(&none);
        let ours = culex.get(&slot).unwrap_or(&none);
        let (mut mosquitto, mut culex) = (without(theirs, ours), without(ours, theirs));
        if mosquitto.is_empty() && culex.is_empty() && streams(theirs) != streams(ours) {
            mosquitto = theirs.iter().map(|line| format!("in this order: {line}")).collect();
            culex = ours.iter().map(|line| format!("in this order: {line}")).collect();
        }
        if !mosquitto.is_empty() || !culex.is_empty() {
            let closed = |lines: &Vec<String>| lines.iter().any(|line| line == "closed");
            differences.push(Difference {
                steps,
                slot,
                version: *version,
                mosquitto,
                culex,
                all_mosquitto: Vec::new(),
                all_culex: Vec::new(),
                theirs: theirs.clone(),
                ours: ours.clone(),
                both_closed: closed(theirs) && closed(ours),
            });
        }
    }
    let all_mosquitto: Vec<String> = differences.iter().flat_map(|d| d.mosquitto.clone()).collect();
    let all_culex: Vec<String> = differences.iter().flat_map(|d| d.culex.clone()).collect();
    for difference in &mut differences {
        difference.all_mosquitto.clone_from(&all_mosquitto);
        difference.all_culex.clone_from(&all_culex);
    }
    differences
}

/// The lines that the other list has not, each as often as it lacks there.
fn without(lines: &[String], others: &[String]) -> Vec<String> {
    let mut others: Vec<&String> = others.iter().collect();
    let mut left = Vec::new();
    for line in lines {
        match others.iter().position(|other| *other == line) {
            Some(at) => drop(others.swap_remove(at)),
            None => left.push(line.clone()),
        }
    }
    left
}

/// Lines grouped by what MQTT keeps in order: a topic at one QoS, acknowledgements, the end last.
fn streams(lines: &[String]) -> Vec<(String, Vec<&String>)> {
    let mut streams: Vec<(String, Vec<&String>)> = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = match words[0] {
            "publish" => {
                let qos = words.iter().find(|word| matches!(**word, "q1" | "q2"));
                format!("{} {}", words[1], qos.unwrap_or(&"q0"))
            }
            other => other.to_owned(),
        };
        match streams.iter_mut().find(|stream| stream.0 == key) {
            Some(stream) => stream.1.push(line),
            None => streams.push((key, vec![line])),
        }
    }
    streams.sort();
    streams
}

/// A rig that sees nothing would pass: what must be seen.
#[test]
fn planted_differences_are_seen() {
    let steps = [Step { slot: 0, text: "publish a".into() }];
    for (theirs, ours, seen) in [
        ("publish a p=1", "publish a p=1", false),
        ("publish a p=1", "", true),
        ("", "publish a p=1", true),
        ("publish a p=1", "publish a p=1;publish a p=1", true),
        ("publish a p=1;publish a p=2", "publish a p=2;publish a p=1", true),
        ("publish a p=1;publish b p=2", "publish b p=2;publish a p=1", false),
        ("publish a q1 p=1", "publish a q2 p=1", true),
        ("puback 1 0x00;puback 2 0x00", "puback 2 0x00;puback 1 0x00", true),
        ("suback 1 0x00;publish a p=1", "publish a p=1;suback 1 0x00", false),
        ("closed", "disconnect 0x82;closed", true),
    ] {
        let output = |text: &str| {
            let lines = text.split(';').filter(|line| !line.is_empty()).map(str::to_owned);
            Output::from([(0, lines.collect())])
        };
        let found = compare(&steps, &[Version::V5], &output(theirs), &output(ours));
        assert_eq!(!found.is_empty(), seen, "{theirs} and {ours}: {found:?}");
    }
}
