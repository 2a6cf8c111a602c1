//! Filters with a value each, searched by topic.

use ahash::RandomState;

use super::filter::levels_match;
use super::name::{TopicName, split_level};
use super::slab::{Key, Slab};
use super::table::KeyTable;

/// A value per filter path, found by topic.
///
/// Filters without a wildcard live in one hash table, so a topic finds its own in O(1). The others
/// are a trie by level. A node holds no map: one hash table for the whole tree maps
/// (parent, level) to the child, so a node with one child and a node with a million cost the same
/// per child. A filter whose last levels no other filter shares hangs as `lone` below the deepest
/// shared node and needs no nodes for them.
///
/// ```text
///   a/+/c        root ─a─▶ ○ ─+─▶ ○  lone: a/+/c
///   a/+/d/#                       └─d─▶ ○  below: a/+/d/#
/// ```
///
/// The hash is keyed at random per tree; neither results nor their order depend on it.
#[derive(Debug)]
pub struct FilterTree<V> {
    entries: Slab<Entry<V>>,
    exact: KeyTable,
    nodes: Slab<Node>,
    edges: KeyTable,
    root: Key,
    wild_count: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<V> {
    path: Box<str>,
    value: V,
}

/// A trie node stands for a sequence of levels, here called P.
#[derive(Debug)]
struct Node {
    label: Box<str>,
    parent: Option<Key>,
    /// Node of P/+.
    plus: Option<Key>,
    /// Number of children other than `plus`.
    literals: u32,
    /// Entry of the filter P.
    here: Option<Key>,
    /// Entry of the filter P/#.
    below: Option<Key>,
    /// Entry of one filter P/x/…, where P has no child x.
    lone: Option<Key>,
}

impl Node {
    fn new(label: &str, parent: Option<Key>) -> Self {
        let label = Box::from(label);
        Node { label, parent, plus: None, literals: 0, here: None, below: None, lone: None }
    }

    const fn is_bare(&self) -> bool {
        let entries = self.here.is_some() || self.below.is_some() || self.lone.is_some();
        !entries && self.plus.is_none() && self.literals == 0
    }
}

/// Which of a node's three entries.
#[derive(Clone, Copy)]
enum Place {
    Here,
    Below,
    Lone,
}

/// One position of a search: a node, and where the levels after it begin.
struct Cursor {
    node: Key,
    /// Past the end (by one) when no level is left.
    topic_at: usize,
    path_at: usize,
}

impl<V> FilterTree<V> {
    /// An empty tree.
    pub fn new() -> Self {
        let mut nodes = Slab::new();
        let root = nodes.insert(Node::new("", None));
        FilterTree {
            entries: Slab::new(),
            exact: KeyTable::new(),
            nodes,
            edges: KeyTable::new(),
            root,
            wild_count: 0,
            hasher: RandomState::new(),
        }
    }

    /// Number of filters.
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Is there no filter.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a filter path. O(levels).
    pub fn get(&self, path: &str) -> Option<&V> {
        self.find(path).map(|key| &self.entries.at(key).value)
    }

    /// The value of a filter path, to change it. O(levels).
    pub fn get_mut(&mut self, path: &str) -> Option<&mut V> {
        self.find(path).map(|key| &mut self.entries.at_mut(key).value)
    }

    /// The value of a filter path; a default is put there first if it has none. O(levels).
    ///
    /// `path` is what [`Filter::path`](super::Filter::path) returns, without `$share`.
    pub fn entry(&mut self, path: &str) -> &mut V
    where
        V: Default,
    {
        let key = match self.find(path) {
            Some(key) => key,
            None => self.insert(path, V::default()),
        };
        &mut self.entries.at_mut(key).value
    }

    /// Removes a filter path and the nodes only it needed. O(levels).
    pub fn remove(&mut self, path: &str) -> Option<V> {
        let key = if is_wild(path) {
            let (node, place, key) = self.find_wild(path)?;
            *self.place_mut(node, place) = None;
            self.wild_count -= 1;
            self.prune(node);
            key
        } else {
            let key = self.find_exact(path)?;
            self.exact.remove(self.hasher.hash_one(path), key);
            key
        };
        self.entries.remove(key).map(|entry| entry.value)
    }

    /// All filter paths with their values, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.entries.iter().map(|entry| (&*entry.path, &entry.value))
    }

    /// Visits the value of each filter that matches a topic, once.
    ///
    /// The order depends on the history of the tree only. Visits at most two nodes per node
    /// visited one level higher, and only nodes that the topic's first levels match; allocates
    /// only if `+` and a literal level must both be followed.
    pub fn for_each_match(&self, topic: TopicName<'_>, mut visit: impl FnMut(&V)) {
        if let Some(key) = self.find_exact(topic.as_str()) {
            visit(&self.entries.at(key).value);
        }
        if self.wild_count == 0 {
            return;
        }
        let mut visit_key = |key: Key| visit(&self.entries.at(key).value);
        let mut waiting: Vec<Cursor> = Vec::new();
        let mut next = Some(Cursor { node: self.root, topic_at: 0, path_at: 0 });
        while let Some(cursor) = next.take().or_else(|| waiting.pop()) {
            let node = self.nodes.at(cursor.node);
            // [MQTT-4.7.2-1] A wildcard at the first level does not match `$` topics.
            let barred = cursor.node == self.root && topic.is_dollar();
            if !barred {
                node.below.into_iter().for_each(&mut visit_key);
            }
            let Some(rest) = topic.as_str().get(cursor.topic_at..) else {
                node.here.into_iter().for_each(&mut visit_key);
                continue;
            };
            if let Some(key) = node.lone {
                let lone = self.entries.at(key).path.get(cursor.path_at..).unwrap_or_default();
                if !(barred && lone.starts_with(['+', '#'])) && levels_match(lone, rest) {
                    visit_key(key);
                }
            }
            let level = split_level(rest).0;
            let topic_at = cursor.topic_at + level.len() + 1;
            next = self.literal(cursor.node, node, level).map(|node| {
                let path_at = cursor.path_at + level.len() + 1;
                Cursor { node, topic_at, path_at }
            });
            if let Some(node) = node.plus.filter(|_| !barred) {
                let plus = Cursor { node, topic_at, path_at: cursor.path_at + "+/".len() };
                waiting.extend(next.replace(plus));
            }
        }
    }

    fn find(&self, path: &str) -> Option<Key> {
        if is_wild(path) {
            self.find_wild(path).map(|(_, _, key)| key)
        } else {
            self.find_exact(path)
        }
    }

    fn find_exact(&self, path: &str) -> Option<Key> {
        if self.entries.len() == self.wild_count {
            return None;
        }
        self.exact.find(self.hasher.hash_one(path), |key| *self.entries.at(key).path == *path)
    }

    /// Where in the trie a filter is, and its entry.
    fn find_wild(&self, path: &str) -> Option<(Key, Place, Key)> {
        let mut key = self.root;
        let mut at = 0;
        loop {
            let node = self.nodes.at(key);
            match path.get(at..) {
                None => return node.here.map(|entry| (key, Place::Here, entry)),
                Some("#") => return node.below.map(|entry| (key, Place::Below, entry)),
                Some(rest) => {
                    // Up to here the paths are the same, since they lead to the same node.
                    let is_lone = |e: &Key| self.entries.at(*e).path.get(at..) == Some(rest);
                    if let Some(entry) = node.lone.filter(is_lone) {
                        return Some((key, Place::Lone, entry));
                    }
                    let level = split_level(rest).0;
                    key = self.child(key, level)?;
                    at += level.len() + 1;
                }
            }
        }
    }

    /// Adds a filter that is not there.
    fn insert(&mut self, path: &str, value: V) -> Key {
        let entry = self.entries.insert(Entry { path: Box::from(path), value });
        if is_wild(path) {
            self.wild_count += 1;
            self.hang(path, entry);
        } else {
            self.exact.insert(self.hasher.hash_one(path), entry);
        }
        entry
    }

    /// Hangs a new entry into the trie, making nodes only as far as other filters share its levels.
    fn hang(&mut self, path: &str, entry: Key) {
        let mut node = self.root;
        let mut at = 0;
        loop {
            let place = place_of(path.get(at..));
            let Some(level) = path.get(at..).map(|rest| split_level(rest).0) else {
                *self.place_mut(node, place) = Some(entry);
                return;
            };
            let child = match place {
                Place::Here | Place::Below => {
                    *self.place_mut(node, place) = Some(entry);
                    return;
                }
                Place::Lone => self.child(node, level),
            };
            let child = if let Some(child) = child {
                child
            } else if self.nodes.at(node).lone.is_none() {
                self.nodes.at_mut(node).lone = Some(entry);
                return;
            } else {
                self.add_child(node, level, at)
            };
            node = child;
            at += level.len() + 1;
        }
    }

    /// Makes the node of one more level; a lone filter that begins with it moves down.
    ///
    /// `at` is where the levels after `parent` begin, in every filter below it.
    fn add_child(&mut self, parent: Key, level: &str, at: usize) -> Key {
        let child = self.nodes.insert(Node::new(level, Some(parent)));
        if level == "+" {
            self.nodes.at_mut(parent).plus = Some(child);
        } else {
            self.edges.insert(self.edge_hash(parent, level), child);
            self.nodes.at_mut(parent).literals += 1;
        }
        if let Some(lone) = self.nodes.at(parent).lone {
            let path = &self.entries.at(lone).path;
            if path.get(at..).is_some_and(|rest| split_level(rest).0 == level) {
                let place = place_of(path.get(at + level.len() + 1..));
                self.nodes.at_mut(parent).lone = None;
                *self.place_mut(child, place) = Some(lone);
            }
        }
        child
    }

    /// Removes a node, and those above it, as long as they hold nothing.
    fn prune(&mut self, mut key: Key) {
        while self.nodes.at(key).is_bare() {
            let Some(parent) = self.nodes.at(key).parent else { return };
            let node = self.nodes.remove(key).expect("a node is bare, so it exists");
            if *node.label == *"+" {
                self.nodes.at_mut(parent).plus = None;
            } else {
                self.edges.remove(self.edge_hash(parent, &node.label), key);
                self.nodes.at_mut(parent).literals -= 1;
            }
            key = parent;
        }
    }

    /// The child of a level of a filter.
    fn child(&self, key: Key, level: &str) -> Option<Key> {
        let node = self.nodes.at(key);
        if level == "+" { node.plus } else { self.literal(key, node, level) }
    }

    fn literal(&self, key: Key, node: &Node, level: &str) -> Option<Key> {
        if node.literals == 0 {
            return None;
        }
        self.edges.find(self.edge_hash(key, level), |child| {
            let child = self.nodes.at(child);
            child.parent == Some(key) && *child.label == *level
        })
    }

    fn edge_hash(&self, parent: Key, level: &str) -> u64 {
        self.hasher.hash_one((parent, level))
    }

    fn place_mut(&mut self, node: Key, place: Place) -> &mut Option<Key> {
        let node = self.nodes.at_mut(node);
        match place {
            Place::Here => &mut node.here,
            Place::Below => &mut node.below,
            Place::Lone => &mut node.lone,
        }
    }
}

impl<V> Default for FilterTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// The place of a filter at the node above these last levels of it.
fn place_of(rest: Option<&str>) -> Place {
    match rest {
        None => Place::Here,
        Some("#") => Place::Below,
        Some(_) => Place::Lone,
    }
}

/// Has a filter path a wildcard; in a valid one these characters are always wildcards.
fn is_wild(path: &str) -> bool {
    path.bytes().any(|b| b == b'+' || b == b'#')
}

#[cfg(test)]
mod tests;
