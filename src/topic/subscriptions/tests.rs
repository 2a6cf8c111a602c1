//! Tests of a shard's subscriptions: speaking text, and against a model.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::codec::{Qos, RetainHandling};

fn filter(text: &str) -> Filter {
    Filter::parse(text, 32).unwrap()
}

fn topic(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap()
}

fn options(qos: Qos) -> SubscribeOptions {
    let retain_handling = RetainHandling::Always;
    SubscribeOptions { qos, no_local: false, retain_as_published: false, retain_handling }
}

fn add(subscriptions: &mut Subscriptions, text: &str, client: ClientIndex) -> (bool, bool) {
    let made = subscriptions.subscribe(&filter(text), client, options(Qos::AtMostOnce), None);
    assert_eq!(subscriptions.id_of(&filter(text)), Some(made.id));
    assert_eq!(subscriptions.filter(made.id), filter(text));
    (made.was_new, made.first)
}

fn clients(subscriptions: &mut Subscriptions, text: &str) -> Vec<ClientIndex> {
    subscriptions.matches(topic(text)).direct.iter().map(|m| m.client).collect()
}

fn turns(subscriptions: &mut Subscriptions, text: &str, count: usize) -> Vec<ClientIndex> {
    let id = subscriptions.group_of(&filter(text)).unwrap();
    (0..count).map(|_| subscriptions.group_mut(id).unwrap().advance().client).collect()
}

#[test]
fn overlapping_subscriptions_are_all_found_sorted_by_client() {
    let mut subscriptions = Subscriptions::new();
    for (text, client) in [("a/b", 7), ("a/+", 2), ("#", 7), ("a/#", 5), ("b/#", 1), ("+/b", 2)] {
        assert_eq!(add(&mut subscriptions, text, client), (true, true));
    }
    assert_eq!(clients(&mut subscriptions, "a/b"), [2, 2, 5, 7, 7]);
    assert_eq!(clients(&mut subscriptions, "a"), [5, 7]);
    assert_eq!(clients(&mut subscriptions, "c"), [7]);
    assert_eq!(subscriptions.len(), 6);
}

#[test]
fn same_filter_replaces_options() {
    // [MQTT-3.8.4-3]
    let mut subscriptions = Subscriptions::new();
    assert_eq!(add(&mut subscriptions, "a", 1), (true, true));
    assert_eq!(subscriptions.matches(topic("a")).direct[0].options.qos, Qos::AtMostOnce);
    let identifier = NonZeroU32::new(9);
    let options = options(Qos::ExactlyOnce);
    let change = subscriptions.subscribe(&filter("a"), 1, options, identifier);
    assert_eq!((change.was_new, change.first), (false, false));
    let expected = Match { client: 1, options, identifier };
    assert_eq!(subscriptions.matches(topic("a")).direct, [expected]);
    assert_eq!(subscriptions.len(), 1);
}

#[test]
fn unsubscribe_needs_the_exact_filter() {
    // [MQTT-3.10.4-1] [MQTT-3.10.4-2]
    let mut subscriptions = Subscriptions::new();
    add(&mut subscriptions, "a/+", 1);
    add(&mut subscriptions, "a/+", 2);
    assert_eq!(subscriptions.unsubscribe(&filter("a/b"), 1), None);
    assert_eq!(subscriptions.unsubscribe(&filter("a/#"), 1), None);
    assert_eq!(subscriptions.unsubscribe(&filter("a/+"), 3), None);
    assert_eq!(clients(&mut subscriptions, "a/b"), [1, 2]);
    assert_eq!(subscriptions.unsubscribe(&filter("a/+"), 1), Some(Unsubscribed { last: false }));
    assert_eq!(clients(&mut subscriptions, "a/b"), [2]);
    assert_eq!(subscriptions.unsubscribe(&filter("a/+"), 2), Some(Unsubscribed { last: true }));
    assert!(clients(&mut subscriptions, "a/b").is_empty());
    assert!(subscriptions.is_empty());
    assert!(subscriptions.tree.is_empty());
}

#[test]
fn repeated_search_returns_the_same_list() {
    let mut subscriptions = Subscriptions::new();
    add(&mut subscriptions, "a/b", 1);
    let passing = subscriptions.matches(topic("a/b"));
    let first = subscriptions.matches(topic("a/b"));
    assert!(!Rc::ptr_eq(&first, &passing), "a topic that comes once is not kept");
    assert_eq!(first, passing);
    add(&mut subscriptions, "a/c", 2);
    assert!(Rc::ptr_eq(&first, &subscriptions.matches(topic("a/b"))));
    add(&mut subscriptions, "a/b", 3);
    assert_eq!(clients(&mut subscriptions, "a/b"), [1, 3]);
}

#[test]
fn many_clients_of_one_filter_stay_sorted() {
    let mut subscriptions = Subscriptions::new();
    for n in 0..2000 {
        add(&mut subscriptions, "a", n * 7 % 2000);
    }
    assert_eq!(clients(&mut subscriptions, "a"), (0..2000).collect::<Vec<_>>());
    for n in 0..1995 {
        let last = subscriptions.unsubscribe(&filter("a"), n * 3 % 2000).unwrap().last;
        assert!(!last);
    }
    assert_eq!(clients(&mut subscriptions, "a"), [1985, 1988, 1991, 1994, 1997]);
}

#[test]
fn share_group_is_found_beside_direct_subscriptions() {
    let mut subscriptions = Subscriptions::new();
    add(&mut subscriptions, "a", 1);
    for (text, client, first) in
        [("$share/g/a", 1, true), ("$share/g/a", 2, false), ("$share/h/a", 2, true)]
    {
        assert_eq!(add(&mut subscriptions, text, client), (true, first));
    }
    let matches = subscriptions.matches(topic("a"));
    assert_eq!(matches.direct.len(), 1);
    let ids = [filter("$share/g/a"), filter("$share/h/a")].map(|f| subscriptions.group_of(&f));
    assert_eq!(matches.groups.iter().copied().map(Some).collect::<Vec<_>>(), ids);
    assert_eq!((subscriptions.len(), subscriptions.shared_len()), (1, 3));

    let gone = ids[0].unwrap();
    for (client, last) in [(2, false), (1, true)] {
        let change = subscriptions.unsubscribe(&filter("$share/g/a"), client);
        assert_eq!(change, Some(Unsubscribed { last }));
    }
    assert!(subscriptions.group(gone).is_none());
    assert_eq!(subscriptions.matches(topic("a")).groups, [ids[1].unwrap()]);
}

#[test]
fn share_group_rotation_survives_changes() {
    let mut subscriptions = Subscriptions::new();
    let text = "$share/g/a";
    for client in [10, 20, 30] {
        add(&mut subscriptions, text, client);
    }
    assert_eq!(turns(&mut subscriptions, text, 4), [10, 20, 30, 10]);
    add(&mut subscriptions, text, 5);
    assert_eq!(turns(&mut subscriptions, text, 1), [20], "newcomer in front takes no turn away");
    subscriptions.unsubscribe(&filter(text), 10);
    assert_eq!(turns(&mut subscriptions, text, 1), [30], "leaver behind gives no second turn");
    add(&mut subscriptions, text, 25);
    assert_eq!(turns(&mut subscriptions, text, 2), [5, 20]);
    subscriptions.unsubscribe(&filter(text), 25);
    assert_eq!(turns(&mut subscriptions, text, 1), [30], "leaver's turn passes to the next");
    subscriptions.unsubscribe(&filter(text), 5);
    assert_eq!(turns(&mut subscriptions, text, 2), [20, 30]);
}

/// What the model applies: client and filter, subscribe or not, and then a topic to search.
type Change = (bool, ClientIndex, String, u8, String);

fn change() -> impl Strategy<Value = Change> {
    // Texts that are not valid, `$share/g/` and nothing, become `a`.
    let filter = "(\\$share/[gh]/)?([ab+]|\\$S)?(/[ab+]?){0,3}(/#)?"
        .prop_map(|text| if Filter::parse(&text, 32).is_ok() { text } else { "a".into() });
    let topic = "([ab]|\\$S)?(/[ab]?){0,4}"
        .prop_map(|text| if text.is_empty() { "a".into() } else { text });
    (prop::bool::weighted(0.6), 0..6_u32, filter, 0..2_u8, topic)
}

proptest! {
    #[test]
    fn results_are_those_of_a_linear_scan(changes in prop::collection::vec(change(), 1..120)) {
        let mut subscriptions = Subscriptions::new();
        let mut model: BTreeMap<(Filter, ClientIndex), Match> = BTreeMap::new();
        for (add, client, text, qos, searched) in changes {
            let filter = filter(&text);
            let had = model.keys().filter(|(f, _)| *f == filter).count();
            let options = options(if qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce });
            let new = Match { client, options, identifier: None };
            if add {
                let got = subscriptions.subscribe(&filter, client, options, None);
                let was_new = model.insert((filter.clone(), client), new).is_none();
                prop_assert_eq!((got.was_new, got.first), (was_new, had == 0));
                prop_assert_eq!(subscriptions.filter(got.id), filter.clone());
            } else {
                let got = subscriptions.unsubscribe(&filter, client);
                let expected = model.remove(&(filter, client)).map(|_| had == 1);
                prop_assert_eq!(got, expected.map(|last| Unsubscribed { last }));
            }
            let searched = topic(&searched);
            let found = subscriptions.matches(searched);
            prop_assert!(found.direct.is_sorted_by_key(|m| m.client));
            let sorted = |mut list: Vec<Match>| {
                list.sort_by_key(|m| (m.client, m.options.qos));
                list
            };
            let matching = model.iter().filter(|((f, _), _)| f.matches(searched));
            let (shared, direct): (Vec<_>, Vec<_>) =
                matching.partition(|((f, _), _)| f.share().is_some());
            let direct = direct.into_iter().map(|(_, m)| *m).collect();
            prop_assert_eq!(sorted(found.direct.clone()), sorted(direct));
            let members: Vec<(Filter, Match)> = found
                .groups
                .iter()
                .map(|id| subscriptions.group(*id).expect("a found group has members"))
                .flat_map(|g| g.members().iter().map(|m| (g.filter().clone(), *m)))
                .collect();
            let expected: Vec<_> = shared.into_iter().map(|((f, _), m)| (f.clone(), *m)).collect();
            prop_assert_eq!(members.len(), expected.len());
            prop_assert!(expected.iter().all(|pair| members.contains(pair)));
            let shared_count = model.keys().filter(|(f, _)| f.share().is_some()).count();
            prop_assert_eq!(subscriptions.shared_len(), shared_count);
            prop_assert_eq!(subscriptions.len() + shared_count, model.len());
        }
        for (filter, client) in model.keys() {
            prop_assert!(subscriptions.unsubscribe(filter, *client).is_some());
        }
        prop_assert!(subscriptions.is_empty() && subscriptions.tree.is_empty());
    }
}
