//! Who the clients of a run are, and what each of them does in one millisecond of load.

use crate::client::{Client, Phase, Plan, Want};
use crate::ledger::{Kind, Ledger};
use crate::packet::Version;
use crate::rng::Rng;

/// Session Expiry Interval that no run outlives.
pub(crate) const LONG_S: u32 = 3_600;

/// Messages that everybody's filters match, retained messages, messages for groups.
const COMMON: usize = 6;
const RETAINED: usize = 4;
const GROUPED: usize = 2;

const VERSIONS: &[Version] = &[Version::V311, Version::V5];

/// Topics and clients of one run.
pub(crate) struct Load {
    pub(crate) topics: Vec<String>,
    pub(crate) plans: Vec<Plan>,
}

/// A client that does nothing yet.
pub(crate) fn plan(name: &str, version: Version, expiry_s: u32) -> Plan {
    Plan {
        name: name.into(),
        version,
        expiry_s,
        topics: Vec::new(),
        window: 20,
        lazy_ms: 0,
        restless: 0,
        rest_ms: 400,
        will: None,
        wants: Vec::new(),
    }
}

pub(crate) fn want(filter: &str, qos: u8, churn: bool) -> Want {
    Want { filter: filter.into(), qos, churn, phase: Phase::Off }
}

/// Draws the clients of a run.
pub(crate) fn draw(seed: u64) -> Load {
    let mut rng = Rng::new(seed, "clients");
    let mut topics = Vec::new();
    topics.extend((0..COMMON).map(|at| format!("t/{at}")));
    topics.extend((0..RETAINED).map(|at| format!("r/{at}")));
    topics.extend((0..GROUPED).map(|at| format!("g/x/{at}")));
    let everything: Vec<usize> = (0..topics.len()).collect();
    let mut plans = Vec::new();
    for at in 0..6 {
        let expiry_s = if at < 4 { LONG_S } else { 0 };
        let mut own = plan(&format!("pub{at}"), *rng.pick(VERSIONS), expiry_s);
        own.topics.clone_from(&everything);
        own.window = rng.between(1, 40);
        own.restless = *rng.pick(&[0, 0, 5]);
        plans.push(own);
    }
    plans.extend((0..8).map(|at| subscriber(at, &mut rng)));
    for at in 0..3 {
        let mut own = plan(&format!("group{at}"), *rng.pick(VERSIONS), LONG_S);
        own.wants.push(want("$share/workers/g/x/+", u8::try_from(1 + at % 2).unwrap(), false));
        own.lazy_ms = *rng.pick(&[0, 20]);
        own.restless = *rng.pick(&[0, 5]);
        plans.push(own);
    }
    for at in 0..2 {
        let mut own =
            plan(&format!("short{at}"), Version::V5, rng.between(2, 3).try_into().unwrap());
        own.wants.push(want("t/+", 1, false));
        own.restless = 5;
        own.rest_ms = 6_000;
        plans.push(own);
    }
    for at in 0..3 {
        let mut own = plan(&format!("will{at}"), *rng.pick(VERSIONS), LONG_S);
        own.will = Some((topics.len(), u8::try_from(at).unwrap()));
        own.topics.push(rng.below(COMMON));
        own.restless = *rng.pick(&[2, 5]);
        topics.push(format!("w/{at}"));
        plans.push(own);
    }
    // Somebody is away most of the time, so that every crash finds something queued.
    let mut sleeper = plan("sleeper", *rng.pick(VERSIONS), LONG_S);
    sleeper.wants.push(want("t/+", 1, false));
    sleeper.restless = 300;
    sleeper.rest_ms = 1_500;
    plans.push(sleeper);
    let mut watcher = plan("watcher", Version::V5, LONG_S);
    watcher.wants = vec![want("w/+", 2, false), want("t/0", 2, false)];
    plans.push(watcher);
    // The last two act when all is at rest: one tries the topics, one reads what is retained.
    let mut prober = plan("prober", Version::V5, 0);
    prober.window = 1000;
    plans.push(prober);
    let mut reader = plan("reader", Version::V5, 0);
    reader.wants.push(want("r/+", 1, true));
    plans.push(reader);
    Load { topics, plans }
}

fn subscriber(at: usize, rng: &mut Rng) -> Plan {
    let expiry_s = if at < 6 { LONG_S } else { 0 };
    let mut own = plan(&format!("sub{at}"), *rng.pick(VERSIONS), expiry_s);
    let qos = |rng: &mut Rng| u8::try_from(rng.between(0, 2)).unwrap();
    // The first two want everything at the highest QoS all the time.
    if at < 2 {
        own.wants = vec![want("t/#", 2, false), want("r/+", 2, false)];
    } else {
        for topic in 0..COMMON {
            if rng.chance(400) {
                own.wants.push(want(&format!("t/{topic}"), qos(rng), rng.chance(300)));
            }
        }
        if rng.chance(500) {
            own.wants.push(want("t/+", qos(rng), rng.chance(500)));
        }
        own.wants.push(want("+/1", qos(rng).max(1), rng.chance(500)));
    }
    own.lazy_ms = *rng.pick(&[0, 0, 5, 50]);
    // One is never away by its own wish, and nothing it was owed ends with a session.
    own.restless = if at == 0 { 0 } else { *rng.pick(&[0, 5, 10]) };
    own
}

/// One millisecond of a connected client.
pub(crate) fn act(client: &mut Client, ledger: &mut Ledger, rng: &mut Rng) {
    if !client.plan.topics.is_empty() && rng.chance(100) {
        for _ in 0..rng.between(1, 3) {
            if client.has_room() {
                publish(client, ledger, rng);
            }
        }
    }
    for at in 0..client.wants.len() {
        if client.wants[at].churn && rng.chance(5) {
            client.toggle(at, ledger);
        }
    }
    if rng.below(10_000) < client.plan.restless {
        leave(client, ledger, rng);
    }
}

fn publish(client: &mut Client, ledger: &mut Ledger, rng: &mut Rng) {
    let topic = *rng.pick(&client.plan.topics);
    let qos = u8::try_from(*rng.pick(&[0, 1, 1, 2, 2])).unwrap();
    let padding = if rng.chance(10) { rng.between(1000, 40_000) } else { rng.below(200) };
    let retained = ledger.topics[topic].starts_with("r/") && qos > 0 && rng.chance(500);
    let kind = if retained && rng.chance(200) { Kind::Deletion } else { Kind::Publish };
    client.publish(topic, qos, (kind, retained, padding), ledger);
}

fn leave(client: &mut Client, ledger: &mut Ledger, rng: &mut Rng) {
    match rng.below(10) {
        0..4 => client.disconnect(ledger),
        4..7 => client.closed(ledger),
        7..9 => client.abandon(ledger),
        // A session that its client wants no more must not come back. Of long absences
        // nothing would be left to judge.
        _ if client.plan.rest_ms <= 400 => {
            client.disconnect(ledger);
            client.fresh = true;
        }
        _ => client.disconnect(ledger),
    }
    let rest = if rng.chance(500) { 0 } else { rng.spread(1, client.plan.rest_ms) as u64 };
    client.rest_until = ledger.ms + rest;
}
