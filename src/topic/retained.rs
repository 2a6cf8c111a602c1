//! Retained messages, ordered by topic.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::ops::Bound;
use std::sync::Arc;

use super::filter::Filter;
use super::name::{TopicName, split_level};

/// One value per topic; a filter's matches are read in slices.
///
/// The order is that of the bytes. A search begins at the levels before the first wildcard and
/// jumps over topics that cannot match, so it looks at few topics beside those that do.
#[derive(Debug)]
pub struct RetainedTree<M> {
    topics: BTreeMap<Arc<str>, M>,
}

/// Some of the matches of a filter.
#[derive(Debug, PartialEq, Eq)]
pub struct Slice<'t, M> {
    /// Topics and their values, in the order of the tree.
    pub matches: Vec<(&'t str, &'t M)>,
    /// Pass this as `after` to go on; `None` when there is no more.
    pub next: Option<Box<str>>,
}

/// Where a search stands with a topic.
enum Step {
    /// The topic matches.
    Match,
    /// It does not; the next that could is not before this one.
    Seek(String),
    /// No later topic can match.
    Done,
}

impl<M> RetainedTree<M> {
    /// An empty tree.
    pub const fn new() -> Self {
        RetainedTree { topics: BTreeMap::new() }
    }

    /// Number of topics.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Is there no topic.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Sets the value of a topic, which its owner knows to be a topic name; returns the one before.
    /// The text is shared with its owner; a topic that is there keeps the one that it has.
    pub fn insert(&mut self, topic: &Arc<str>, value: M) -> Option<M> {
        debug_assert!(TopicName::parse(topic).is_ok(), "{topic:?} is no topic name");
        match self.topics.get_mut(topic) {
            Some(old) => Some(std::mem::replace(old, value)),
            None => self.topics.insert(Arc::clone(topic), value),
        }
    }

    /// Removes the value of a topic.
    pub fn remove(&mut self, topic: TopicName<'_>) -> Option<M> {
        self.topics.remove(topic.as_str())
    }

    /// The value of a topic.
    pub fn get(&self, topic: TopicName<'_>) -> Option<&M> {
        self.topics.get(topic.as_str())
    }

    /// The value of a topic, to change it.
    pub fn get_mut(&mut self, topic: TopicName<'_>) -> Option<&mut M> {
        self.topics.get_mut(topic.as_str())
    }

    /// All topics with their values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &M)> {
        self.topics.iter().map(|(topic, value)| (&**topic, value))
    }

    /// The matches of a filter's path after `after`, until `matches_max` matched or `visits_max`
    /// were looked at.
    ///
    /// `after` is `None` at first, then the `next` of the slice before; the tree may change in
    /// between. Slices then give each topic that is there all the time exactly once. Each visit
    /// costs O(log n) at most.
    ///
    /// # Panics
    /// If a limit is 0, since the search would not get on.
    pub fn slice(
        &self,
        filter: &Filter,
        after: Option<&str>,
        matches_max: usize,
        visits_max: usize,
    ) -> Slice<'_, M> {
        assert!(matches_max > 0);
        assert!(visits_max > 0);
        let mut slice = Slice { matches: Vec::new(), next: None };
        let path = filter.path();
        if !filter.has_wildcard() {
            if after.is_none() {
                slice.matches.extend(self.topics.get_key_value(path).map(|(t, v)| (&**t, v)));
            }
            return slice;
        }
        let mut entries = match after {
            None => self.from(Bound::Included(first(path))),
            Some(after) => match step(path, after) {
                Step::Match => self.from(Bound::Excluded(after)),
                Step::Seek(target) => self.from(Bound::Included(&target)),
                Step::Done => return slice,
            },
        };
        let mut visits = 0;
        let mut entry = entries.next();
        while let Some((topic, value)) = entry {
            visits += 1;
            match step(path, topic) {
                Step::Match => {
                    slice.matches.push((&**topic, value));
                    entry = entries.next();
                }
                Step::Seek(target) => {
                    // The target is often the very next topic, which the iterator has at hand.
                    entry = entries.next();
                    if entry.is_some_and(|(topic, _)| **topic < *target) {
                        entries = self.from(Bound::Included(&target));
                        entry = entries.next();
                    }
                }
                Step::Done => return slice,
            }
            if entry.is_some() && (slice.matches.len() == matches_max || visits == visits_max) {
                slice.next = Some(Box::from(&**topic));
                return slice;
            }
        }
        slice
    }

    fn from(&self, low: Bound<&str>) -> Range<'_, Arc<str>, M> {
        self.topics.range::<str, _>((low, Bound::Unbounded))
    }
}

impl<M> Default for RetainedTree<M> {
    fn default() -> Self {
        Self::new()
    }
}

/// The first text that a path could match: what stands before its first wildcard.
fn first(path: &str) -> &str {
    let wildcard_at = path.find(['+', '#']).unwrap_or(path.len());
    let literal = path.get(..wildcard_at).unwrap_or_default();
    match path.get(wildcard_at..) {
        // `a/#` matches `a` too.
        Some("#") => literal.strip_suffix('/').unwrap_or(literal),
        Some(_) | None => literal,
    }
}

/// Compares a topic with a path; if it does not match, finds where the next match can be.
fn step(path: &str, topic: &str) -> Step {
    // [MQTT-4.7.2-1] Wildcards in front do not match `$` topics, which end before `%`.
    if topic.starts_with('$') && path.starts_with(['+', '#']) {
        return Step::Seek("%".to_owned());
    }
    // Where the topic's part up to the latest `+` ends; that level may still grow.
    let mut growing_end = None;
    let mut path_rest = Some(path);
    let mut at = 0;
    loop {
        let Some(path_here) = path_rest else {
            return if at > topic.len() { Step::Match } else { beyond(topic, growing_end) };
        };
        if path_here == "#" {
            return Step::Match;
        }
        let Some(topic_here) = topic.get(at..) else {
            // If `+` stands for the topic's last level, `a-/…` comes before `a/…`.
            let low = if growing_end == Some(topic.len()) { '\0' } else { '/' };
            return Step::Seek(format!("{topic}{low}"));
        };
        let (wanted, wanted_rest) = split_level(path_here);
        let found = split_level(topic_here).0;
        if wanted == "+" {
            growing_end = Some(at + found.len());
        } else if wanted != found {
            let ahead = ahead(wanted, wanted_rest, topic_here);
            return match ahead {
                Some(text) => Step::Seek(format!("{}{text}", topic.get(..at).unwrap_or_default())),
                None => beyond(topic, growing_end),
            };
        }
        at += found.len() + 1;
        path_rest = wanted_rest;
    }
}

/// The first text after `topic_here` that begins with the level `wanted` as the path asks for it.
fn ahead(wanted: &str, wanted_rest: Option<&str>, topic_here: &str) -> Option<String> {
    let ends_here = wanted_rest.is_none_or(|rest| rest == "#");
    if ends_here && topic_here.cmp(wanted) == Ordering::Less {
        return Some(wanted.to_owned());
    }
    // `a-b` stands between `a` and `a/`, since `-` is before `/`.
    let deeper = format!("{wanted}/");
    (wanted_rest.is_some() && *topic_here < *deeper).then_some(deeper)
}

/// Goes past all topics that have the same level as this one where the latest `+` stands.
fn beyond(topic: &str, growing_end: Option<usize>) -> Step {
    match growing_end.and_then(|end| topic.get(..end)) {
        // `0` is the character after `/`.
        Some(head) => Step::Seek(format!("{head}0")),
        None => Step::Done,
    }
}

#[cfg(test)]
mod tests;
