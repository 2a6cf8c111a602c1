//! What is owed at rest, and what the whole history comes to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use crate::ledger::{Finding, Kind, Ledger, Message, Recipient, Session, What, Wrong};
use crate::ledger::{matches, shared};

/// Cases that a failing run tells in full, and events told of each.
const CASES: usize = 3;
const EVENTS: usize = 60;

/// Deliveries that must have happened and have not.
pub(crate) fn owed(ledger: &Ledger) -> BTreeSet<(Recipient, usize)> {
    let mut owed = BTreeSet::new();
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, session) in ledger.sessions.iter().enumerate() {
        if !session.durable || (session.ended.is_some() && session.vanished.is_none()) {
            continue;
        }
        let fitting = fitting(ledger, session);
        for (number, message) in ledger.messages.iter().enumerate() {
            let given = session.copies.get(&number).is_some_and(|copies| copies.live > 0);
            if !given && demands(session, message, &fitting[message.topic]) {
                owed.insert((Recipient::Session(at), number));
            }
        }
        let of_group = session.subscriptions.iter().filter_map(|s| shared(&s.filter));
        for (group, _) in of_group {
            groups.entry(group).or_default().push(at);
        }
    }
    for (group, members) in groups {
        owed_to_group(ledger, group, &members, &mut owed);
    }
    owed
}

/// For each topic the session's subscriptions that match it and are its own.
fn fitting(ledger: &Ledger, session: &Session) -> Vec<Vec<usize>> {
    let own = session.subscriptions.iter().enumerate();
    let own: Vec<_> = own.filter(|(_, s)| shared(&s.filter).is_none()).collect();
    let of_topic = |topic: &String| {
        own.iter().filter(|(_, s)| matches(&s.filter, topic)).map(|(at, _)| *at).collect()
    };
    ledger.topics.iter().map(of_topic).collect()
}

/// Is there a moment between sending and acknowledgement when the session could not have the
/// message without breaking a promise?
fn demands(session: &Session, message: &Message, fitting: &[usize]) -> bool {
    let Some(acked) = message.acked.filter(|_| message.kind == Kind::Publish) else { return false };
    if session.vanished.is_some_and(|vanished| vanished < acked) {
        return false;
    }
    let subscriptions = fitting.iter().map(|at| &session.subscriptions[*at]);
    let certain = subscriptions.filter(|s| s.certain(message.invoked, acked));
    certain.map(|s| s.qos).max().is_some_and(|qos| qos.min(message.qos) > 0)
}

fn owed_to_group(
    ledger: &Ledger,
    group: &str,
    members: &[usize],
    owed: &mut BTreeSet<(Recipient, usize)>,
) {
    for (number, message) in ledger.messages.iter().enumerate() {
        let Some(acked) = message.acked.filter(|_| message.qos > 0) else { continue };
        let topic = &ledger.topics[message.topic];
        let certain = members.iter().any(|at| {
            let subscriptions = ledger.sessions[*at].subscriptions.iter();
            subscriptions
                .filter(|s| shared(&s.filter).is_some_and(|(name, _)| name == group))
                .any(|s| matches(s.topic_filter(), topic) && s.certain(message.invoked, acked))
        });
        let given = |session: &Session| session.copies.contains_key(&number);
        let began = |session: &Session| may_have_begun(ledger, session, group, message);
        if certain && !ledger.sessions.iter().any(|one| given(one) || began(one)) {
            owed.insert((Recipient::Group(group.to_owned()), number));
        }
    }
}

/// A delivery at `QoS` 2 that began at a member ends with the member's session: nobody else gets
/// the message, though the member may not have read it. [MQTT-4.8.2-5]
fn may_have_begun(ledger: &Ledger, session: &Session, group: &str, message: &Message) -> bool {
    let has_ended = session.ended.is_some_and(|ended| ended > message.invoked);
    let topic = &ledger.topics[message.topic];
    has_ended
        && message.qos == 2
        && session.subscriptions.iter().any(|s| {
            s.qos == 2
                && shared(&s.filter).is_some_and(|(name, _)| name == group)
                && matches(s.topic_filter(), topic)
                && s.possible(message.invoked)
        })
}

/// The counts of one run, or of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) faults: u32,
    pub(crate) acked: usize,
    pub(crate) delivered: u64,
    pub(crate) repeated_at_qos1: u64,
    pub(crate) late: u64,
    pub(crate) found: BTreeMap<Wrong, usize>,
    pub(crate) restarts_ms: Vec<u64>,
    /// The first cases in full.
    pub(crate) story: String,
}

impl Report {
    pub(crate) fn count(&self, wrong: Wrong) -> usize {
        self.found.get(&wrong).copied().unwrap_or_default()
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.found.is_empty()
    }

    /// Adds another run; the first story is kept.
    pub(crate) fn add(&mut self, other: Report) {
        self.faults += other.faults;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.repeated_at_qos1 += other.repeated_at_qos1;
        self.late += other.late;
        for (wrong, count) in other.found {
            *self.found.entry(wrong).or_default() += count;
        }
        self.restarts_ms.extend(other.restarts_ms);
        if self.story.is_empty() {
            self.story = other.story;
        }
    }

    /// One line of figures.
    pub(crate) fn line(&self) -> String {
        let mut restarts = self.restarts_ms.clone();
        restarts.sort_unstable();
        let middle = restarts.get(restarts.len() / 2).copied().unwrap_or_default();
        let longest = restarts.last().copied().unwrap_or_default();
        let mut line = format!(
            "faults={} acked={} delivered={} lost={} qos2_duplicates={} order_breaks={} \
             phantoms={} qos1_duplicates={} late={} \
             restart_ms_p50={middle} restart_ms_max={longest}",
            self.faults,
            self.acked,
            self.delivered,
            self.count(Wrong::Lost),
            self.count(Wrong::Duplicate),
            self.count(Wrong::Order),
            self.count(Wrong::Phantom),
            self.repeated_at_qos1,
            self.late,
        );
        let named = [Wrong::Lost, Wrong::Duplicate, Wrong::Order, Wrong::Phantom];
        for (wrong, count) in self.found.iter().filter(|(wrong, _)| !named.contains(wrong)) {
            let _ = write!(line, " {wrong:?}={count}");
        }
        line
    }
}

/// Judges a history at rest. `retained` is what a new subscriber was given, by topic.
pub(crate) fn judge(ledger: &mut Ledger, retained: &HashMap<String, usize>) -> Report {
    for (recipient, message) in owed(ledger) {
        let (client, text) = match &recipient {
            Recipient::Session(at) => {
                (Some(ledger.sessions[*at].client), "is not delivered".into())
            }
            Recipient::Group(group) => (None, format!("is not delivered to {group}")),
        };
        let finding = Finding { wrong: Wrong::Lost, text, message: Some(message), client };
        ledger.findings.push(finding);
    }
    check_groups(ledger);
    check_retained(ledger, retained);
    sum_up(ledger)
}

/// The figures of a history, with what was found so far.
pub(crate) fn sum_up(ledger: &Ledger) -> Report {
    let mut report = Report {
        faults: ledger.faults,
        acked: ledger.messages.iter().filter(|message| message.acked.is_some()).count(),
        delivered: ledger.delivered,
        repeated_at_qos1: ledger.repeated_at_qos1,
        late: ledger.late,
        ..Report::default()
    };
    for finding in &ledger.findings {
        *report.found.entry(finding.wrong).or_default() += 1;
    }
    report.story = tell(ledger);
    report
}

/// A QoS 2 message goes to one member of a group, once.
fn check_groups(ledger: &mut Ledger) {
    let mut given: HashMap<usize, u32> = HashMap::new();
    for session in &ledger.sessions {
        for (message, copies) in &session.copies {
            let topic = &ledger.topics[ledger.messages[*message].topic];
            if topic.starts_with("g/") && ledger.messages[*message].qos == 2 {
                *given.entry(*message).or_default() += copies.live;
            }
        }
    }
    let qos1 = |at: &usize| {
        let members = ledger.sessions.iter().filter(|session| session.copies.contains_key(at));
        members.flat_map(|s| &s.subscriptions).any(|s| shared(&s.filter).is_some() && s.qos < 2)
    };
    let mut twice: Vec<usize> =
        given.iter().filter(|(_, copies)| **copies > 1).map(|(at, _)| *at).collect();
    twice.retain(|at| !qos1(at));
    twice.sort_unstable();
    for at in twice {
        let text = format!("{} times to one group", given[&at]);
        let finding = Finding { wrong: Wrong::Duplicate, text, message: Some(at), client: None };
        ledger.findings.push(finding);
    }
}

/// What may be retained for a topic.
struct Choices {
    /// Everything that was written.
    writes: Vec<usize>,
    /// Those of them that are not known to be older than another one.
    candidates: Vec<usize>,
    /// It may have no retained message.
    none: bool,
}

/// The retained message of a topic is the last acknowledged one, or one whose time is not known to
/// have been before that.
fn choices(ledger: &Ledger, topic: usize) -> Choices {
    let writes: Vec<usize> = (0..ledger.messages.len())
        .filter(|at| {
            let message = &ledger.messages[*at];
            message.retain && message.topic == topic && !message.refused
        })
        .collect();
    let acked = |at: &usize| ledger.messages[*at].acked;
    let known = writes.iter().filter(|at| acked(at).is_some());
    let latest = known.map(|at| ledger.messages[*at].invoked).max();
    let is_candidate =
        |at: &usize| acked(at).is_none_or(|acked| latest.is_none_or(|latest| acked >= latest));
    let candidates: Vec<usize> = writes.iter().copied().filter(is_candidate).collect();
    let deletes = |at: &usize| ledger.messages[*at].kind == Kind::Deletion;
    let none = latest.is_none() || candidates.iter().any(deletes);
    Choices { writes, candidates, none }
}

/// Topics that have to have a retained message, whichever it is.
pub(crate) fn retained_topics(ledger: &Ledger) -> Vec<String> {
    let topics = (0..ledger.topics.len()).filter(|topic| !choices(ledger, *topic).none);
    topics.map(|topic| ledger.topics[topic].clone()).collect()
}

fn check_retained(ledger: &mut Ledger, read: &HashMap<String, usize>) {
    for topic in 0..ledger.topics.len() {
        let Choices { writes, candidates, none } = choices(ledger, topic);
        let seen = read.get(&ledger.topics[topic]).copied();
        if !seen.map_or(none, |seen| candidates.contains(&seen)) {
            let name = &ledger.topics[topic];
            let text = seen.map_or_else(
                || format!("{name} has none"),
                |_| format!("{name} has one that was replaced"),
            );
            let last = writes.iter().max_by_key(|at| ledger.messages[**at].acked).copied();
            let message = seen.or(last);
            let reader = ledger.sessions.iter().map(|session| session.client).max();
            let finding = Finding { wrong: Wrong::Retained, text, message, client: reader };
            ledger.findings.push(finding);
        }
    }
}

/// The first cases with the events that belong to them: one case of each kind before a second.
fn tell(ledger: &Ledger) -> String {
    let mut order: Vec<(usize, &Finding)> = Vec::new();
    let mut seen: BTreeMap<Wrong, usize> = BTreeMap::new();
    for finding in &ledger.findings {
        let rank = seen.entry(finding.wrong).or_default();
        *rank += 1;
        order.push((*rank, finding));
    }
    order.sort_by_key(|(rank, finding)| (*rank, finding.wrong));
    let mut text = String::new();
    for (_, finding) in order.into_iter().take(CASES) {
        tell_case(ledger, finding, &mut text);
    }
    text
}

fn tell_case(ledger: &Ledger, finding: &Finding, text: &mut String) {
    let _ = write!(text, "{:?}", finding.wrong);
    if let Some(at) = finding.client {
        let _ = write!(text, ", client {at}");
    }
    if let Some(at) = finding.message {
        let message = &ledger.messages[at];
        let topic = &ledger.topics[message.topic];
        let _ = write!(
            text,
            ", m{at} = number {} of client {} to {topic} QoS {} {:?}",
            message.sequence, message.publisher, message.qos, message.kind
        );
    }
    let _ = writeln!(text, ": {}", finding.text);
    let publisher = finding.message.map(|at| ledger.messages[at].publisher);
    let begin = finding.message.map_or(0, |at| ledger.messages[at].invoked);
    let chosen: Vec<_> = ledger
        .events
        .iter()
        .enumerate()
        .filter(|(step, event)| {
            let own = event.message.is_some() && event.message == finding.message;
            let of_link = matches!(
                event.what,
                What::Connect
                    | What::ConnackNew
                    | What::ConnackPresent
                    | What::Closed
                    | What::Disconnect
                    | What::Suback
                    | What::Subscribe
                    | What::Unsubscribe
                    | What::Unsuback
            );
            let named = event.client.is_some()
                && (event.client == finding.client || event.client == publisher);
            let late = *step as u64 >= begin.saturating_sub(2000);
            own || (late && ((of_link && named) || event.client.is_none()))
        })
        .take(EVENTS)
        .collect();
    for (step, event) in chosen {
        let client = event.client.map_or_else(|| "broker".into(), |at| format!("client {at}"));
        let message = event.message.map_or_else(String::new, |at| format!(" m{at}"));
        let _ = writeln!(
            text,
            "  {step:>7} {:>6} ms {client:<9} {:?}{message} {}",
            event.ms, event.what, event.number
        );
    }
}
