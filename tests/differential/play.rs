//! Plays scripts on all brokers in step and makes failing ones short.

use std::cell::{Cell, RefCell};

use crate::brokers::Broker;
use crate::compare::{Difference, compare};
use crate::packet::Version;
use crate::rules::{self, Then};
use crate::script::{self, SLOTS, Step};
use crate::side::Side;

/// The brokers; Mosquitto comes first.
pub(crate) struct Arena {
    sides: RefCell<Vec<Side>>,
    plays: Cell<u32>,
}

pub(crate) struct Outcome {
    pub(crate) steps: usize,
    pub(crate) rules: Vec<&'static str>,
    pub(crate) verdict: Verdict,
}

pub(crate) enum Verdict {
    /// No difference, or each one explained.
    Explained,
    Unexplained(String),
}

impl Arena {
    pub(crate) fn start() -> Self {
        let sides = vec![
            Side::new("mosquitto", Broker::mosquitto(), 1),
            Side::new("culex on one shard", Broker::culex(1), 1),
            Side::new("culex on two shards", Broker::culex(2), 2),
        ];
        Self { sides: RefCell::new(sides), plays: Cell::new(0) }
    }

    /// Plays the script up to the first difference that no rule explains or that ends the play.
    pub(crate) fn play(&self, steps: &[Step], trace: bool) -> Outcome {
        self.plays.set(self.plays.get() + 1);
        // Names that no earlier play has used, so nothing of it is seen.
        let prefix = format!("d{}", self.plays.get());
        let mut sides = self.sides.borrow_mut();
        sides.iter_mut().for_each(|side| side.reset(SLOTS));
        let outcome = run(&mut sides, steps, &prefix, trace);
        sides.iter_mut().for_each(|side| side.reset(SLOTS));
        for step in script::clean_up() {
            sides.iter_mut().for_each(|side| side.act(&step, &prefix));
            for side in sides.iter_mut() {
                side.settle(step.slot);
            }
        }
        outcome
    }

    /// Plays a script and prints all of it.
    pub(crate) fn trace(&self, steps: &[Step]) {
        let outcome = self.play(steps, true);
        println!("explained by: {:?}", outcome.rules);
        if let Verdict::Unexplained(text) = outcome.verdict {
            panic!("{text}");
        }
    }

    /// Seed, difference and the shortest script that still differs without explanation.
    pub(crate) fn report(&self, seed: u64, text: String) -> String {
        let (steps, text) = self.shorten(script::script(seed), text);
        let script: String = steps.iter().map(|step| format!("  {step}\n")).collect();
        format!("seed {seed} (CULEX_DIFF_SEED={seed} repeats it):\n{script}{text}")
    }

    /// Leaves out steps, the last ones first, as long as an unexplained difference stays.
    fn shorten(&self, mut steps: Vec<Step>, mut text: String) -> (Vec<Step>, String) {
        let mut at = steps.len();
        while at > 0 {
            at -= 1;
            let mut shorter = steps.clone();
            shorter.remove(at);
            let outcome = self.play(&shorter, false);
            if let Verdict::Unexplained(why) = outcome.verdict {
                shorter.truncate(outcome.steps);
                at = at.min(shorter.len());
                (steps, text) = (shorter, why);
            }
        }
        (steps, text)
    }
}

fn run(sides: &mut [Side], steps: &[Step], prefix: &str, trace: bool) -> Outcome {
    let mut rules = Vec::new();
    let mut versions = [Version::V5; SLOTS];
    for (index, step) in steps.iter().enumerate() {
        let done = &steps[..=index];
        if let Some(version) = step.version() {
            versions[step.slot] = version;
        }
        sides.iter_mut().for_each(|side| side.act(step, prefix));
        let outputs: Vec<_> = sides.iter_mut().map(|side| side.settle(step.slot)).collect();
        let mut ends = false;
        let mut unexplained = Vec::new();
        for (side, output) in sides.iter().zip(&outputs).skip(1) {
            for difference in compare(done, &versions, &outputs[0], output) {
                let mut difference = plain(difference, prefix);
                for rule in rules::explain(&mut difference) {
                    rules.push(rule.name);
                    ends |= rule.then == Then::End;
                }
                if !difference.mosquitto.is_empty() || !difference.culex.is_empty() {
                    unexplained.push(format!("{}:\n{}", side.name, difference.text()));
                }
            }
        }
        if trace {
            println!("{step}");
            for (slot, lines) in &outputs[0] {
                lines.iter().for_each(|line| println!("    c{slot} {line}"));
            }
        }
        if !unexplained.is_empty() {
            let verdict = Verdict::Unexplained(unexplained.join("\n"));
            return Outcome { steps: index + 1, rules, verdict };
        }
        if ends {
            return Outcome { steps: index + 1, rules, verdict: Verdict::Explained };
        }
    }
    Outcome { steps: steps.len(), rules, verdict: Verdict::Explained }
}

/// The difference with `~` instead of the names of this play.
fn plain<'a>(mut difference: Difference<'a>, prefix: &str) -> Difference<'a> {
    let Difference { mosquitto, culex, all_mosquitto, all_culex, theirs, ours, .. } =
        &mut difference;
    for line in [mosquitto, culex, all_mosquitto, all_culex, theirs, ours].into_iter().flatten() {
        *line = line.replace(prefix, "~");
    }
    difference
}
