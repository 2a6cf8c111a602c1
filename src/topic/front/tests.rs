//! Tests of the front cache.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::Filter;

fn topic(text: &str) -> TopicName<'_> {
    TopicName::parse(text).unwrap()
}

fn filled(topics: &[&str]) -> FrontCache<()> {
    let mut front = FrontCache::new(100, 100);
    for text in topics {
        front.insert(topic(text), Rc::new(()), 1);
    }
    front
}

fn left<'a>(front: &mut FrontCache<()>, topics: &[&'a str]) -> Vec<&'a str> {
    topics.iter().copied().filter(|text| front.get(topic(text)).is_some()).collect()
}

#[test]
fn exact_filter_drops_its_own_topic() {
    let topics = ["a", "a/b", "a/c", "b"];
    let mut front = filled(&topics);
    front.invalidate("a/b");
    front.invalidate("x");
    assert_eq!(left(&mut front, &topics), ["a", "a/c", "b"]);
    assert_eq!((front.len(), front.weight), (3, 3));
}

#[test]
fn wildcard_filter_drops_all_it_matches() {
    let topics = ["a", "a/b", "a/b/c", "a/b/c/d", "/", "//", "$S/a/b"];
    for path in ["#", "+/#", "a/#", "a/+/#", "a/b/#", "a/b/+", "a/b/c/#", "/#", "//#", "$S/a/#"] {
        let mut front = filled(&topics);
        front.invalidate(path);
        let filter = Filter::parse(path, 9).unwrap();
        for text in left(&mut front, &topics) {
            assert!(!filter.matches(topic(text)), "{path} {text}");
        }
    }
}

#[test]
fn wildcard_filters_of_other_branches_drop_little() {
    let texts: Vec<String> = (0..1000).map(|n| format!("dev/{n}/state")).collect();
    let mut front = FrontCache::new(1000, 1000);
    for text in &texts {
        front.insert(topic(text), Rc::new(()), 1);
    }
    for n in 1000..1100 {
        front.invalidate(&format!("dev/{n}/#"));
    }
    let kept = texts.iter().filter(|text| front.get(topic(text)).is_some()).count();
    assert!(kept > 800, "{kept}");
    front.invalidate_all();
    assert!(texts.iter().all(|text| front.get(topic(text)).is_none()));
}

#[test]
fn full_cache_keeps_what_is_in_use() {
    let mut front = FrontCache::new(64, usize::MAX);
    front.insert(topic("hot"), Rc::new(0), 1);
    for n in 1..1000 {
        assert!(front.get(topic("hot")).is_some(), "lost after {n} others");
        // Nobody asks for the others: if all were in use, the one the hand is at would give way.
        front.insert(topic(&n.to_string()), Rc::new(n), 1);
        assert!(front.len() <= 64);
    }
    assert_eq!(front.get(topic("999")).as_deref(), Some(&999), "the newest is there");
    assert_eq!(front.len(), 64);
}

#[test]
fn weight_is_limited() {
    let mut front = FrontCache::new(100, 40);
    front.insert(topic("heavy"), Rc::new(()), 10);
    front.insert(topic("heavier"), Rc::new(()), 11);
    assert_eq!(left(&mut front, &["heavy", "heavier"]), ["heavy"]);
    for n in 0..50 {
        front.insert(topic(&n.to_string()), Rc::new(()), 9);
        assert!(front.weight <= 40);
    }
    assert!(front.len() >= 4);
}

#[test]
fn long_topics_are_not_kept() {
    let longest = "x".repeat(256);
    let longer = "x".repeat(257);
    let mut front = filled(&[&longest, &longer]);
    assert_eq!(left(&mut front, &[&longest, &longer]), [&longest]);
}

#[test]
fn insert_replaces() {
    let mut front = FrontCache::new(4, 100);
    front.insert(topic("a"), Rc::new(1), 20);
    front.insert(topic("a"), Rc::new(2), 3);
    assert_eq!(front.get(topic("a")).as_deref(), Some(&2));
    assert_eq!((front.len(), front.weight), (1, 3));
}

proptest! {
    /// The index is a map from filter to the time of its last change; what a topic should yield
    /// is the latest time of the filters that match it.
    #[test]
    fn hits_are_what_the_index_says_under_churn(
        steps in prop::collection::vec(
            ("([ab+]|\\$S)?(/[ab+]?){0,3}(/#)?", "([ab]|\\$S)?(/[ab]?){0,4}", 0..9_usize), 1..300),
    ) {
        let mut front = FrontCache::new(16, 32);
        let mut index: BTreeMap<Filter, usize> = BTreeMap::new();
        for (now, (path, text, weight)) in steps.into_iter().enumerate() {
            if let Ok(filter) = Filter::parse(&path, 32) {
                front.invalidate(filter.path());
                index.insert(filter, now);
            }
            let Ok(topic) = TopicName::parse(&text) else { continue };
            let changes = index.iter().filter(|(filter, _)| filter.matches(topic));
            let latest = changes.map(|(_, time)| *time).max();
            match front.get(topic) {
                Some(found) => prop_assert_eq!(*found, latest),
                None => front.insert(topic, Rc::new(latest), weight),
            }
            prop_assert!(front.len() <= 16 && front.weight <= 32);
            let sum: usize = front.table.iter().map(|entry| entry.weight as usize).sum();
            prop_assert_eq!(sum, front.weight);
        }
    }
}

#[test]
fn a_topic_is_worth_keeping_when_it_comes_again_soon() {
    let mut front = filled(&[]);
    assert!(!front.is_worth_keeping(topic("a/b")));
    assert!(front.is_worth_keeping(topic("a/b")));
    // A hundred times as many topics as are remembered: next to nothing is left of the first.
    let topics: Vec<String> = (0..100 * MISSED).map(|n| format!("t/{n}")).collect();
    let known = |front: &mut FrontCache<()>| {
        topics.iter().filter(|text| front.is_worth_keeping(topic(text))).count()
    };
    assert!(known(&mut front) < topics.len() / 1000);
    assert!(known(&mut front) < topics.len() / 1000);
}
