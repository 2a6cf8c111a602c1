//! Topic names and filters: the rules of parsing, and matching by [`Filter::matches`], by the tree
//! and by a naive matcher that is written from the specification's text.

use culex::topic::{Filter, FilterTree, TopicName};

const LEVELS_MAX: usize = 8;

/// Lines: those that are topics are topics, those that are filters are filters; all are compared.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.split('\n').take(24).collect();
    let filters: Vec<Filter> = lines.iter().filter_map(|line| filter(line)).collect();
    let mut tree = FilterTree::<usize>::new();
    for filter in &filters {
        *tree.entry(filter) += 1;
    }
    for line in &lines {
        let topic = TopicName::parse(line);
        assert_eq!(topic.is_ok(), !line.is_empty() && !line.contains(['+', '#', '\0']), "{line:?}");
        let Ok(topic) = topic else { continue };
        assert_eq!((topic.as_str(), topic.is_dollar()), (*line, line.starts_with('$')));
        compare(topic, &filters, &tree);
    }
    // The tree forgets one filter after the other and is right at each step.
    for (index, filter) in filters.iter().enumerate() {
        match tree.get_mut(filter.path()) {
            Some(count) if *count > 1 => *count -= 1,
            _ => assert_eq!(tree.remove(filter.path()), Some(1)),
        }
        if let Some(topic) = lines.first().and_then(|line| TopicName::parse(line).ok()) {
            compare(topic, &filters[index + 1..], &tree);
        }
    }
    assert!(tree.is_empty());
}

fn compare(topic: TopicName<'_>, filters: &[Filter], tree: &FilterTree<usize>) {
    let mut expected = 0;
    for filter in filters {
        let naive = naive(filter.path(), topic.as_str());
        assert_eq!(filter.matches(topic), naive, "{filter} {topic:?}");
        expected += usize::from(naive);
    }
    let mut found = 0;
    tree.for_each_match(topic, |count| found += count);
    assert_eq!(found, expected, "{topic:?} {filters:?}");
}

/// Parses, and says whether that is right.
fn filter(text: &str) -> Option<Filter> {
    let parsed = Filter::parse(text, LEVELS_MAX);
    let (share, path) = match text.strip_prefix("$share/") {
        Some(shared) => match shared.split_once('/') {
            Some((name, path)) => (Some(name), path),
            None => {
                assert!(parsed.is_err(), "{text:?}");
                return None;
            }
        },
        None => (None, text),
    };
    let levels: Vec<&str> = path.split('/').collect();
    let hash_at_end = path.matches('#').count() == usize::from(levels.last() == Some(&"#"));
    let plus_alone = levels.iter().all(|level| *level == "+" || !level.contains('+'));
    let legal = !path.is_empty()
        && !text.contains('\0')
        && hash_at_end
        && plus_alone
        && levels.len() <= LEVELS_MAX
        && share.is_none_or(|name| !name.is_empty() && !name.contains(['+', '#']));
    assert_eq!(parsed.is_ok(), legal, "{text:?}: {parsed:?}");
    let filter = parsed.ok()?;
    assert_eq!((filter.as_str(), filter.share(), filter.path()), (text, share, path));
    assert_eq!(filter.has_wildcard(), path.contains(['+', '#']));
    Some(filter)
}

/// MQTT 5.0 §4.7, word by word.
fn naive(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    if let Some((&"#", parent)) = filter.split_last() {
        return topic.len() >= parent.len()
            && parent.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t);
    }
    filter.len() == topic.len() && filter.iter().zip(&topic).all(|(f, t)| *f == "+" || f == t)
}
