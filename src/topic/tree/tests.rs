//! Tests of the filter tree: its shape, and its results against a linear scan.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::topic::Filter;

fn tree(paths: &[&str]) -> FilterTree<String> {
    let mut tree = FilterTree::new();
    for path in paths {
        (*path).clone_into(tree.entry(&filter(path)));
    }
    tree
}

fn filter(path: &str) -> Filter {
    Filter::parse(path, usize::MAX).unwrap()
}

fn matches(tree: &FilterTree<String>, topic: &str) -> Vec<String> {
    let mut found = Vec::new();
    tree.for_each_match(TopicName::parse(topic).unwrap(), |path| found.push(path.clone()));
    found.sort();
    found
}

#[test]
fn every_kind_of_filter_is_found() {
    let tree = tree(&["a/b", "a/+", "+/b", "+/+", "a/#", "#", "a/b/#", "a/b/c", "+", "a/b/+"]);
    let expected = ["#", "+/+", "+/b", "a/#", "a/+", "a/b", "a/b/#"];
    assert_eq!(matches(&tree, "a/b"), expected);
    assert_eq!(matches(&tree, "a"), ["#", "+", "a/#"]);
    assert_eq!(matches(&tree, "x/y/z"), ["#"]);
}

#[test]
fn wildcard_in_front_does_not_match_dollar_topics() {
    // [MQTT-4.7.2-1], for filters in a node and for one that hangs alone.
    let nodes = tree(&["#", "+/#", "+/a", "+/b", "$S/#", "$S/+"]);
    assert_eq!(matches(&nodes, "$S/a"), ["$S/#", "$S/+"]);
    assert!(matches(&tree(&["+/a/#"]), "$S/a").is_empty());
    assert!(matches(&tree(&["#"]), "$S").is_empty());
    assert_eq!(matches(&tree(&["a/+"]), "a/$S"), ["a/+"]);
}

#[test]
fn empty_levels_are_levels() {
    let tree = tree(&["+/+", "/+", "+/", "/#", "+//+", "//#"]);
    assert_eq!(matches(&tree, "/"), ["+/", "+/+", "/#", "/+", "//#"]);
    assert_eq!(matches(&tree, "//"), ["+//+", "/#", "//#"]);
}

#[test]
fn filter_alone_in_its_branch_needs_no_nodes() {
    let mut tree = tree(&["a/+/b/c/d/e/f"]);
    assert_eq!(tree.nodes.len(), 1);
    tree.entry(&filter("a/+/b/c/x/#"));
    assert_eq!(tree.nodes.len(), 5, "one per shared level");
    assert!(tree.remove("a/+/b/c/x/#").is_some());
    assert_eq!(matches(&tree, "a/-/b/c/d/e/f"), ["a/+/b/c/d/e/f"]);
    assert!(tree.remove("a/+/b/c/d/e/f").is_some());
    assert_eq!(tree.nodes.len(), 1);
    assert_eq!(tree.edges.len(), 0);
}

#[test]
fn removed_filters_leave_nothing_behind() {
    let mut tree = FilterTree::<u32>::new();
    let paths: Vec<String> = (0..5000)
        .flat_map(|n| {
            [format!("d/{n}/#"), format!("d/{n}/+/x"), format!("d/+/{n}"), format!("{n}")]
        })
        .collect();
    for path in &paths {
        *tree.entry(&filter(path)) += 1;
    }
    assert_eq!((tree.len(), tree.iter().count()), (20_000, 20_000));
    for path in &paths {
        assert_eq!(tree.remove(path), Some(1), "{path}");
        assert_eq!(tree.remove(path), None, "{path}");
    }
    assert!(tree.is_empty());
    assert_eq!((tree.nodes.len(), tree.edges.len(), tree.exact.len()), (1, 0, 0));
}

#[test]
fn deepest_filter_and_topic_need_no_recursion() {
    let filters = [format!("{}#", "a/".repeat(32_767)), format!("+{}", "/+".repeat(32_767))];
    let mut tree = tree(&[&filters[0], &filters[1], &format!("{}+", "a/".repeat(32_767))]);
    let topic = format!("{}a", "a/".repeat(32_767));
    assert_eq!(matches(&tree, &topic).len(), 3);
    for path in &filters {
        assert!(tree.remove(path).is_some());
    }
    assert_eq!(matches(&tree, &topic).len(), 1);
}

#[test]
fn value_is_reached_by_its_path_only() {
    let mut tree = tree(&["a/+/c", "a/+/d"]);
    for path in ["a", "a/+", "a/b/c", "a/+/#", "a/+/c/", "#", "+"] {
        assert!(tree.get(path).is_none() && tree.get_mut(path).is_none(), "{path}");
        assert!(tree.remove(path).is_none(), "{path}");
    }
    assert_eq!(tree.get("a/+/c").map(String::as_str), Some("a/+/c"));
}

proptest! {
    #[test]
    fn matches_are_those_of_a_linear_scan(
        changes in prop::collection::vec(
            (prop::bool::weighted(0.7), "([ab+]|\\$S)?(/[ab+]?){0,4}(/#)?"), 1..80),
        topics in prop::collection::vec("([ab]|\\$S)?(/[ab]?){0,5}", 1..20),
    ) {
        let mut tree = FilterTree::new();
        let mut model = BTreeMap::new();
        for (add, path) in changes {
            let Ok(filter) = Filter::parse(&path, 32) else { continue };
            if add {
                path.clone_into(tree.entry(&filter));
                model.insert(path, filter);
            } else {
                prop_assert_eq!(tree.remove(&path).is_some(), model.remove(&path).is_some());
            }
            for path in model.keys() {
                prop_assert_eq!(tree.get(path), Some(path));
            }
        }
        prop_assert_eq!(tree.len(), model.len());
        for topic in topics.iter().filter_map(|text| TopicName::parse(text).ok()) {
            let scan = model.iter().filter(|(_, filter)| filter.matches(topic));
            let expected: Vec<String> = scan.map(|(path, _)| path.clone()).collect();
            prop_assert_eq!(matches(&tree, topic.as_str()), expected);
        }
        for path in model.keys() {
            prop_assert_eq!(tree.remove(path), Some(path.clone()));
        }
        prop_assert_eq!((tree.nodes.len(), tree.edges.len(), tree.exact.len()), (1, 0, 0));
    }
}
