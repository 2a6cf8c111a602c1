//! Tests of the retained tree.

use proptest::prelude::*;

use super::*;

fn filter(text: &str) -> Filter {
    Filter::parse(text, 32).unwrap()
}

fn tree<T: AsRef<str>>(topics: impl IntoIterator<Item = T>) -> RetainedTree<()> {
    let mut tree = RetainedTree::new();
    for text in topics {
        tree.insert(&Arc::from(text.as_ref()), ());
    }
    tree
}

/// All matches in slices, and how many slices there were.
fn all(tree: &RetainedTree<()>, text: &str, matches: usize, visits: usize) -> (Vec<String>, usize) {
    let (mut found, mut slices, mut after) = (Vec::new(), 0, None);
    loop {
        let slice = tree.slice(&filter(text), after.as_deref(), matches, visits);
        assert!(slice.matches.len() <= matches);
        found.extend(slice.matches.iter().map(|(topic, ())| (*topic).to_owned()));
        slices += 1;
        after = slice.next;
        if after.is_none() {
            return (found, slices);
        }
    }
}

fn found(tree: &RetainedTree<()>, text: &str) -> Vec<String> {
    all(tree, text, usize::MAX, usize::MAX).0
}

#[test]
fn values_are_kept_by_topic() {
    let mut tree = RetainedTree::new();
    let a = TopicName::parse("a").unwrap();
    let text = Arc::from("a");
    assert_eq!((tree.insert(&text, 1), tree.insert(&text, 2), tree.len()), (None, Some(1), 1));
    *tree.get_mut(a).unwrap() += 1;
    assert_eq!(tree.get(a), Some(&3));
    assert_eq!(tree.iter().collect::<Vec<_>>(), [("a", &3)]);
    assert_eq!((tree.remove(a), tree.remove(a), tree.is_empty()), (Some(3), None, true));
}

#[test]
fn filters_find_their_topics_in_order() {
    let tree = tree(["a", "a/b", "a/b/c", "a-b", "a0", "ab", "b/b", "/", "a/", "$S", "$S/a"]);
    assert_eq!(found(&tree, "a"), ["a"]);
    assert_eq!(found(&tree, "c"), [""; 0]);
    assert_eq!(found(&tree, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
    assert_eq!(found(&tree, "a/+"), ["a/", "a/b"]);
    assert_eq!(found(&tree, "+/b"), ["a/b", "b/b"]);
    assert_eq!(found(&tree, "+"), ["a", "a-b", "a0", "ab"]);
    assert_eq!(found(&tree, "$share/g/+/b/#"), ["a/b", "a/b/c", "b/b"]);
}

#[test]
fn wildcard_in_front_does_not_find_dollar_topics() {
    // [MQTT-4.7.2-1]
    let tree = tree(["!", "$S", "$S/a", "%", "a"]);
    assert_eq!(found(&tree, "#"), ["!", "%", "a"]);
    assert_eq!(found(&tree, "+/#"), ["!", "%", "a"]);
    assert_eq!(found(&tree, "$S/#"), ["$S", "$S/a"]);
}

#[test]
fn slices_end_at_either_limit() {
    let tree = tree((0..100).map(|n| format!("d/{n:02}/{}", if n % 2 == 0 { "x" } else { "y" })));
    let (whole, slices) = all(&tree, "d/+/x", usize::MAX, usize::MAX);
    assert_eq!((whole.len(), slices), (50, 1));
    assert_eq!(all(&tree, "d/+/x", 10, usize::MAX), (whole.clone(), 6), "d/99/y is left over");
    assert_eq!(all(&tree, "d/+/x", 50, usize::MAX).0, whole);
    assert_eq!(all(&tree, "d/+/x", usize::MAX, 10), (whole, 10));
    assert_eq!(all(&tree, "d/#", 100, 100).1, 1);
}

#[test]
fn search_jumps_over_what_cannot_match() {
    let mut topics: Vec<String> = (0..10_000).map(|n| format!("d/a/m/{n}")).collect();
    topics.extend(["d/a/x".to_owned(), "d/b/x".to_owned()]);
    topics.extend((0..10_000).map(|n| format!("d/a-b/{n}")));
    let tree = tree(&topics);
    assert_eq!(all(&tree, "d/+/x", usize::MAX, 6), (vec!["d/a/x".into(), "d/b/x".into()], 1));
    assert_eq!(all(&tree, "+/b/#", usize::MAX, 3), (vec!["d/b/x".into()], 1));
    assert_eq!(all(&tree, "d/a/x", usize::MAX, 1), (vec!["d/a/x".into()], 1));
    assert_eq!(all(&tree, "e/#", usize::MAX, 1).1, 1);
}

#[test]
fn level_of_a_wildcard_may_be_the_start_of_another() {
    // `-` is before `/`, so `a-/x` stands between `a` and `a/x`.
    let tree = tree(["a", "a-", "a-/x", "a/x", "b/", "b/-/", "b//"]);
    assert_eq!(found(&tree, "+/x"), ["a-/x", "a/x"]);
    assert_eq!(found(&tree, "b/+/"), ["b/-/", "b//"]);
}

#[test]
fn tree_may_change_between_slices() {
    let mut tree = tree(["a/1", "a/2", "a/3", "b"]);
    let after = tree.slice(&filter("a/+"), None, 1, 9).next;
    assert_eq!(after.as_deref(), Some("a/1"));
    tree.remove(TopicName::parse("a/1").unwrap());
    tree.remove(TopicName::parse("a/2").unwrap());
    let slice = tree.slice(&filter("a/+"), after.as_deref(), 9, 9);
    assert_eq!(slice.matches, [("a/3", &())]);
    assert_eq!(slice.next, None);
}

proptest! {
    #[test]
    fn slices_are_those_of_a_linear_scan(
        topics in prop::collection::vec("([ab.0-]{1,2}|\\$S)?(/[ab.0-]{0,2}){0,3}", 0..60),
        path in "([ab+]|\\$S)?(/[ab+]?){0,3}(/#)?",
        matches_max in 1..5_usize,
        visits_max in 1..8_usize,
    ) {
        let path = if path.is_empty() { "#".to_owned() } else { path };
        let tree = tree(topics.iter().filter(|text| !text.is_empty()));
        let filter = filter(&path);
        let scan = tree.iter().map(|(topic, ())| topic);
        let scan = scan.filter(|topic| filter.matches(TopicName::parse(topic).unwrap()));
        let expected: Vec<String> = scan.map(str::to_owned).collect();
        prop_assert_eq!(&found(&tree, &path), &expected);
        prop_assert_eq!(&all(&tree, &path, matches_max, visits_max).0, &expected);
    }
}
