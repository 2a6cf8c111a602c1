//! Filters with a value each, searched by topic.

use std::sync::Arc;

use ahash::RandomState;

use super::filter::{Filter, levels_match};
use super::name::{TopicName, split_level};
use super::slab::{Key, Slab};
use super::table::KeyTable;

/// A value per filter path, found by topic.
///
/// Filters without a wildcard live in one hash table, so a topic finds its own in O(1). The others
/// are a trie by level. A node holds no map: one hash table for the whole tree maps
/// (parent, level) to the child, so a node with one child and a node with a million cost the same
/// per child. A child is a node only if several filters begin with its levels; a filter that is
/// alone there is a *leaf*, whatever levels follow.
///
/// ```text
///   a/+/c        root ─a─▶ ○ ─+─▶ ○ ─c─▶ leaf a/+/c
///   a/+/d/#                       └─d─▶ leaf a/+/d/#
/// ```
///
/// What a filter costs: 32 bytes and its value, 10 to 16 bytes in a hash table, and its text, which
/// it shares with the [`Filter`] it was made from. With a million of them a search misses the
/// processor's caches for the table, the entry and the text.
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
    path: Arc<str>,
    /// Node it hangs from; `None` without a wildcard.
    parent: Option<Key>,
    value: V,
}

const _: () = assert!(size_of::<Entry<[u32; 3]>>() == 32, "two entries in a cache line");

/// A trie node stands for a sequence of levels, here called P.
#[derive(Debug)]
struct Node {
    label: Box<str>,
    parent: Option<Key>,
    /// What follows P/+.
    plus: Option<Child>,
    /// Number of children other than `plus`.
    literals: u32,
    /// Entry of the filter P.
    here: Option<Key>,
    /// Entry of the filter P/#.
    below: Option<Key>,
}

impl Node {
    fn new(label: &str, parent: Option<Key>) -> Self {
        let label = Box::from(label);
        Node { label, parent, plus: None, literals: 0, here: None, below: None }
    }

    const fn is_bare(&self) -> bool {
        let entries = self.here.is_some() || self.below.is_some();
        !entries && self.plus.is_none() && self.literals == 0
    }
}

/// What follows a node: the key of a node, or with a mark that of an entry, in four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Child(Key);

/// The same in words.
#[derive(Clone, Copy)]
enum Kind {
    /// Several filters go on from here.
    Node(Key),
    /// One filter does.
    Leaf(Key),
}

impl Child {
    const fn node(key: Key) -> Child {
        Child(key)
    }

    const fn leaf(entry: Key) -> Child {
        Child(entry.marked())
    }

    const fn kind(self) -> Kind {
        match self.0.unmarked() {
            Some(entry) => Kind::Leaf(entry),
            None => Kind::Node(self.0),
        }
    }
}

/// How an entry hangs from its node.
#[derive(Clone, Copy)]
enum Place {
    Here,
    Below,
    Leaf,
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
        self.find(path).map(|key| self.at(key))
    }

    /// The value of a filter path, to change it. O(levels).
    pub fn get_mut(&mut self, path: &str) -> Option<&mut V> {
        self.find(path).map(|key| self.at_mut(key))
    }

    /// The value of a filter's path; a default is put there first if it has none. O(levels).
    ///
    /// The share name does not count.
    pub fn entry(&mut self, filter: &Filter) -> &mut V
    where
        V: Default,
    {
        let key = self.key(filter);
        self.at_mut(key)
    }

    /// The key of a filter's path until it is removed; a default is put there if it has no value.
    pub(super) fn key(&mut self, filter: &Filter) -> Key
    where
        V: Default,
    {
        match self.find(filter.path()) {
            Some(key) => key,
            None => self.insert(filter, V::default()),
        }
    }

    /// The key of a filter path, if it is there.
    pub(super) fn find(&self, path: &str) -> Option<Key> {
        if is_wild(path) {
            self.find_wild(path).map(|(_, _, key)| key)
        } else {
            self.find_exact(path)
        }
    }

    /// The value of a key in use.
    pub(super) fn at(&self, key: Key) -> &V {
        &self.entries.at(key).value
    }

    /// The value of a key in use, to change it.
    pub(super) fn at_mut(&mut self, key: Key) -> &mut V {
        &mut self.entries.at_mut(key).value
    }

    /// The filter path of a key in use.
    pub(super) fn path(&self, key: Key) -> &Arc<str> {
        &self.entries.at(key).path
    }

    /// Removes a filter path and the nodes only it needed. O(levels).
    pub fn remove(&mut self, path: &str) -> Option<V> {
        let key = if is_wild(path) {
            let (node, place, key) = self.find_wild(path)?;
            self.unhang(node, place, key);
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
            visit(self.at(key));
        }
        if self.wild_count == 0 {
            return;
        }
        let mut waiting: Vec<Cursor> = Vec::new();
        let mut next = Some(Cursor { node: self.root, topic_at: 0, path_at: 0 });
        while let Some(cursor) = next.take().or_else(|| waiting.pop()) {
            let node = self.nodes.at(cursor.node);
            // [MQTT-4.7.2-1] A wildcard at the first level does not match `$` topics.
            let barred = cursor.node == self.root && topic.is_dollar();
            if !barred {
                node.below.into_iter().for_each(|key| visit(self.at(key)));
            }
            let Some(rest) = topic.as_str().get(cursor.topic_at..) else {
                node.here.into_iter().for_each(|key| visit(self.at(key)));
                continue;
            };
            let level = split_level(rest).0;
            let topic_at = cursor.topic_at + level.len() + 1;
            let mut follow = |child: Child, label: &str| match child.kind() {
                Kind::Node(node) => {
                    Some(Cursor { node, topic_at, path_at: cursor.path_at + label.len() + 1 })
                }
                Kind::Leaf(key) => {
                    let entry = self.entries.at(key);
                    let path = entry.path.get(cursor.path_at..).unwrap_or_default();
                    if levels_match(path, rest) {
                        visit(&entry.value);
                    }
                    None
                }
            };
            next = self
                .literal(cursor.node, node, level, cursor.path_at)
                .and_then(|child| follow(child, level));
            if let Some(child) = node.plus.filter(|_| !barred)
                && let Some(plus) = follow(child, "+")
            {
                waiting.extend(next.replace(plus));
            }
        }
    }

    fn find_exact(&self, path: &str) -> Option<Key> {
        if self.entries.len() == self.wild_count {
            return None;
        }
        self.exact.find(self.hasher.hash_one(path), |key| **self.path(key) == *path)
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
                    let level = split_level(rest).0;
                    match self.child(key, level, at)?.kind() {
                        Kind::Node(child) => key = child,
                        Kind::Leaf(entry) => {
                            let is_it = **self.path(entry) == *path;
                            return is_it.then_some((key, Place::Leaf, entry));
                        }
                    }
                    at += level.len() + 1;
                }
            }
        }
    }

    /// Adds a filter that is not there.
    fn insert(&mut self, filter: &Filter, value: V) -> Key {
        let path = filter.path_text();
        let key = self.entries.insert(Entry { path: Arc::clone(&path), parent: None, value });
        if is_wild(&path) {
            self.wild_count += 1;
            self.hang(&path, key);
        } else {
            self.exact.insert(self.hasher.hash_one(&*path), key);
        }
        key
    }

    /// Hangs a new entry into the trie, making nodes only as far as other filters share its levels.
    fn hang(&mut self, path: &str, entry: Key) {
        let mut node = self.root;
        let mut at = 0;
        while let Place::Leaf = place_of(path.get(at..)) {
            let level = level_at(path, at);
            match self.child(node, level, at).map(Child::kind) {
                None => break,
                Some(Kind::Node(child)) => node = child,
                Some(Kind::Leaf(other)) => node = self.split(node, level, at, other),
            }
            at += level.len() + 1;
        }
        self.hang_at(node, path, at, entry);
    }

    /// Hangs an entry directly below a node, where no child is in its way.
    ///
    /// `at` is where the levels after the node begin, in every filter below it.
    fn hang_at(&mut self, node: Key, path: &str, at: usize, entry: Key) {
        self.entries.at_mut(entry).parent = Some(node);
        match place_of(path.get(at..)) {
            Place::Here => self.nodes.at_mut(node).here = Some(entry),
            Place::Below => self.nodes.at_mut(node).below = Some(entry),
            Place::Leaf => self.attach(node, level_at(path, at), Child::leaf(entry)),
        }
    }

    fn unhang(&mut self, node: Key, place: Place, entry: Key) {
        match place {
            Place::Here => self.nodes.at_mut(node).here = None,
            Place::Below => self.nodes.at_mut(node).below = None,
            Place::Leaf => {
                let path = Arc::clone(self.path(entry));
                let level = level_at(&path, self.levels_end(node));
                self.detach(node, level, Child::leaf(entry));
            }
        }
    }

    /// Where the levels after a node begin, in every filter below it.
    fn levels_end(&self, mut key: Key) -> usize {
        let mut end = 0;
        while let Some(parent) = self.nodes.at(key).parent {
            end += self.nodes.at(key).label.len() + 1;
            key = parent;
        }
        end
    }

    /// Puts a node in the place of a leaf, which moves below it.
    fn split(&mut self, parent: Key, level: &str, at: usize, leaf: Key) -> Key {
        let child = self.nodes.insert(Node::new(level, Some(parent)));
        self.detach(parent, level, Child::leaf(leaf));
        self.attach(parent, level, Child::node(child));
        let path = Arc::clone(self.path(leaf));
        self.hang_at(child, &path, at + level.len() + 1, leaf);
        child
    }

    fn attach(&mut self, parent: Key, level: &str, child: Child) {
        if level == "+" {
            self.nodes.at_mut(parent).plus = Some(child);
        } else {
            self.edges.insert(self.edge_hash(parent, level), child.0);
            self.nodes.at_mut(parent).literals += 1;
        }
    }

    fn detach(&mut self, parent: Key, level: &str, child: Child) {
        if level == "+" {
            self.nodes.at_mut(parent).plus = None;
        } else {
            self.edges.remove(self.edge_hash(parent, level), child.0);
            self.nodes.at_mut(parent).literals -= 1;
        }
    }

    /// Removes a node, and those above it, as long as they hold nothing.
    fn prune(&mut self, mut key: Key) {
        while self.nodes.at(key).is_bare() {
            let Some(parent) = self.nodes.at(key).parent else { return };
            let node = self.nodes.remove(key).expect("a node is bare, so it exists");
            self.detach(parent, &node.label, Child::node(key));
            key = parent;
        }
    }

    /// The child of a level of a filter.
    fn child(&self, key: Key, level: &str, at: usize) -> Option<Child> {
        let node = self.nodes.at(key);
        if level == "+" { node.plus } else { self.literal(key, node, level, at) }
    }

    /// The child of a level without wildcard; `at` is where it begins in every filter below.
    fn literal(&self, key: Key, node: &Node, level: &str, at: usize) -> Option<Child> {
        if node.literals == 0 {
            return None;
        }
        let found =
            self.edges.find(self.edge_hash(key, level), |child| match Child(child).kind() {
                Kind::Node(child) => {
                    let child = self.nodes.at(child);
                    child.parent == Some(key) && *child.label == *level
                }
                Kind::Leaf(entry) => {
                    let entry = self.entries.at(entry);
                    entry.parent == Some(key) && level_at(&entry.path, at) == level
                }
            });
        found.map(Child)
    }

    fn edge_hash(&self, parent: Key, level: &str) -> u64 {
        self.hasher.hash_one((parent, level))
    }
}

impl<V> Default for FilterTree<V> {
    fn default() -> Self {
        Self::new()
    }
}

/// How a filter hangs from the node above these last levels of it, if it is alone there.
fn place_of(rest: Option<&str>) -> Place {
    match rest {
        None => Place::Here,
        Some("#") => Place::Below,
        Some(_) => Place::Leaf,
    }
}

/// The level that begins at a place of a path.
fn level_at(path: &str, at: usize) -> &str {
    split_level(path.get(at..).unwrap_or_default()).0
}

/// Has a filter path a wildcard; in a valid one these characters are always wildcards.
fn is_wild(path: &str) -> bool {
    path.bytes().any(|b| b == b'+' || b == b'#')
}

#[cfg(test)]
mod tests;
