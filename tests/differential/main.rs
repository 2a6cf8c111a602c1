//! The same random client script against Culex and against Debian's Mosquitto.
//!
//! A script ([`script`]) is made from a seed and played packet by packet on three brokers at once:
//! Mosquitto, Culex on one shard, Culex on two ([`side`]). After each step everything that any
//! client got is collected, normalised and compared ([`compare`]). What differs must be explained
//! by a rule ([`rules`]; `docs/differences.md` says why), otherwise the test fails with the seed
//! and a script that was made as short as possible.
//!
//! `CULEX_DIFF_SEED=N` plays one seed and prints every step, `CULEX_DIFF_SCRIPT=FILE` does that
//! with a script as failures print it, `CULEX_DIFF_RUNS=N` plays so many seeds; `make
//! differential` knows all three.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails a test")]
#![expect(
    clippy::format_push_string,
    clippy::format_collect,
    clippy::needless_for_each,
    clippy::match_same_arms,
    clippy::struct_excessive_bools,
    reason = "scripts are text that is put together, and features are switches"
)]
#![expect(clippy::disallowed_methods, reason = "deadlines for processes that are not ours")]

mod brokers;
#[expect(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/harness/client.rs"]
mod client;
mod compare;
#[path = "../wire/harness/compose.rs"]
mod compose;
mod conf;
#[expect(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/harness/packet.rs"]
mod packet;
mod play;
mod rules;
mod script;
mod side;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use play::{Arena, Verdict};

/// Seeds of the test command.
const RUNS: u64 = 150;
/// What a slow machine may take for them; the seeds it does not reach are left to a faster one.
const TIME: Duration = Duration::from_secs(20);

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn differences_to_mosquitto_are_explained() {
    if !brokers::mosquitto_is_there() {
        return println!("SKIPPED: no {}, nothing to compare with", brokers::MOSQUITTO);
    }
    let arena = Arena::start();
    if let Ok(path) = std::env::var("CULEX_DIFF_SCRIPT") {
        return arena.trace(&script::written(&std::fs::read_to_string(path).unwrap()));
    }
    if let Some(seed) = variable("CULEX_DIFF_SEED") {
        return arena.trace(&script::script(seed));
    }
    let runs = variable("CULEX_DIFF_RUNS");
    let begin = Instant::now();
    let mut rules: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let (mut played, mut steps) = (0, 0);
    let mut failures = Vec::new();
    for seed in 1..=runs.unwrap_or(RUNS) {
        if runs.is_none() && begin.elapsed() > TIME {
            break;
        }
        played += 1;
        let outcome = arena.play(&script::script(seed), false);
        steps += outcome.steps;
        for rule in outcome.rules {
            rules.entry(rule).or_insert((0, seed)).0 += 1;
        }
        if let Verdict::Unexplained(text) = outcome.verdict {
            failures.push(arena.report(seed, text));
            println!("{}", failures.last().unwrap());
            if failures.len() > 9 {
                break;
            }
        }
    }
    println!("{played} seeds, {steps} steps in {:?}", begin.elapsed());
    for (rule, (count, seed)) in rules {
        println!("{count:6} {rule} (first: seed {seed})");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
