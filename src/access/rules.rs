//! One set of rules, searched by topic or filter.
//!
//! Promise: what a set says is what its rules say one by one. Rules are sorted by level, so those
//! that begin alike are neighbours: a search narrows a range of them level by level, and takes in
//! turn the ranges of the level itself, of `+`, of levels with `%c` or `%u`, and of `#`.
//!
//! A level with `%c` or `%u` is compared with the topic's level piece by piece; the name of the
//! client is never made part of a filter. So `a/b`, `+` or `#` as a name can't reach another level.
//! Such a name gives nothing by these rules, while denials with it hold for everything below: in
//! doubt it is denied.

use super::{AclFault, Action, Rights, Verdict, Who};
use crate::topic::Filter;
use std::cmp::Ordering;
use std::ops::Range;

/// Rules for some users.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Ascending by level; a path occurs once.
    rules: Vec<Rule>,
    /// `%c` and `%u` stand for names.
    patterns: bool,
}

#[derive(Clone, Debug)]
struct Rule {
    path: Box<str>,
    allow: Rights,
    deny: Rights,
    /// Rules before this one that allow to subscribe.
    subscribable_before: u32,
}

/// What rules say about one topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    allow: Rights,
    deny: Rights,
}

impl Found {
    pub(super) fn with(self, other: Found) -> Found {
        Found { allow: self.allow.with(other.allow), deny: self.deny.with(other.deny) }
    }

    /// A denial wins; `None` = nothing was said about the action.
    pub(super) fn verdict(self, action: Action) -> Option<Verdict> {
        if self.deny.has(action) {
            Some(Verdict::Deny)
        } else if self.allow.has(action) {
            Some(Verdict::Allow)
        } else {
            None
        }
    }
}

/// How a rule's level relates to what is searched for, in the order of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Literal,
    Plus,
    Pattern,
    Hash,
}

/// Rules that begin alike: their place, and where the levels that differ begin.
#[derive(Clone, Debug)]
struct Branch {
    rules: Range<usize>,
    /// Past the end (by one) when no level is left.
    path_at: usize,
    /// The same in the text that is searched for.
    text_at: usize,
}

/// What is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Search {
    /// Rules that match a topic, or take in a filter as a whole.
    Covers,
    /// Rules that match some topic of a filter.
    Overlaps,
}

/// Branches that wait; most searches have one at a time, and then nothing is allocated.
#[derive(Debug, Default)]
struct Open {
    next: Option<Branch>,
    waiting: Vec<Branch>,
}

impl Open {
    fn push(&mut self, branch: Branch) {
        if !branch.rules.is_empty() {
            self.waiting.extend(self.next.replace(branch));
        }
    }

    fn pop(&mut self) -> Option<Branch> {
        self.next.take().or_else(|| self.waiting.pop())
    }
}

/// Part of a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece<'a> {
    /// Literal text, or a name that may be used.
    Text(&'a str),
    /// `%u` of an anonymous client.
    Absent,
    /// A name that is no level, and no part of one.
    Unusable,
}

/// How a level with names relates to a topic's level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Same,
    Other,
    /// A name can't be used, so nobody can say.
    Unknown,
}

impl Rules {
    /// Rules of a token or role; `%c` and `%u` stand for names. What is in no list is not allowed.
    ///
    /// # Errors
    /// The first text that is no topic filter, and why.
    pub fn new<'a>(
        publish: impl IntoIterator<Item = &'a str>,
        subscribe: impl IntoIterator<Item = &'a str>,
        deny: impl IntoIterator<Item = &'a str>,
    ) -> Result<Rules, AclFault> {
        let mut draft = Draft::default();
        for (texts, allow, deny) in [
            (&mut publish.into_iter() as &mut dyn Iterator<Item = &'a str>, Rights::PUBLISH, false),
            (&mut subscribe.into_iter(), Rights::READ, false),
            (&mut deny.into_iter(), Rights::ALL, true),
        ] {
            for text in texts {
                draft.add(text, allow, deny)?;
            }
        }
        Ok(draft.compile(true))
    }

    /// Is there no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Number of different filters.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// What the rules say about an action.
    pub(super) fn decide(&self, who: Who<'_>, action: Action, topic: &str) -> Found {
        match action {
            Action::Publish | Action::Receive => self.search(who, topic, Search::Covers),
            Action::Subscribe => {
                let deny = self.search(who, topic, Search::Covers).deny;
                Found { allow: self.search(who, topic, Search::Overlaps).allow, deny }
            }
        }
    }

    fn search(&self, who: Who<'_>, text: &str, search: Search) -> Found {
        let open = Open::default();
        let mut walk = Walk { rules: self, who, text, search, open, found: Found::default() };
        walk.open.push(Branch { rules: 0..self.rules.len(), path_at: 0, text_at: 0 });
        while let Some(branch) = walk.open.pop() {
            if search == Search::Overlaps && walk.found.allow.has(Action::Subscribe) {
                break;
            }
            walk.step(&branch);
        }
        walk.found
    }

    /// Does a rule of the range allow to subscribe. O(1).
    fn subscribable(&self, range: &Range<usize>) -> bool {
        let before = |at: usize| self.rules.get(at).map(|rule| rule.subscribable_before);
        let last = range.end.checked_sub(1).and_then(|at| self.rules.get(at));
        let Some(last) = last.filter(|_| !range.is_empty()) else { return false };
        last.allow.has(Action::Subscribe)
            || before(range.start).is_some_and(|first| last.subscribable_before > first)
    }

    /// The rule of the branch that has no further level, if there is one: the first.
    fn ended(&self, branch: &Branch) -> Range<usize> {
        let start = branch.rules.start;
        let rule = self.rules.get(start).filter(|_| !branch.rules.is_empty());
        let ends = rule.is_some_and(|rule| branch.path_at > rule.path.len());
        start..start + usize::from(ends)
    }

    /// The rules of a branch that go on with this level.
    fn level(&self, branch: &Branch, kind: Kind, level: &str) -> Range<usize> {
        let Some(rules) = self.rules.get(branch.rules.clone()) else { return 0..0 };
        let order = |rule: &Rule| match level_at(&rule.path, branch.path_at, self.patterns) {
            None => Ordering::Less,
            Some((own_kind, own)) => (own_kind, own).cmp(&(kind, level)),
        };
        let start = rules.partition_point(|rule| order(rule) == Ordering::Less);
        let rest = rules.get(start..).unwrap_or_default();
        let count = rest.partition_point(|rule| order(rule) == Ordering::Equal);
        let start = branch.rules.start + start;
        start..start + count
    }

    /// Every level with `%c` or `%u` that rules of the branch go on with, and these rules.
    fn for_each_pattern(&self, branch: &Branch, mut visit: impl FnMut(Range<usize>, &str)) {
        if !self.patterns {
            return;
        }
        // No level is empty and a pattern, so this finds where the patterns begin.
        let mut at = self.level(branch, Kind::Pattern, "").start;
        while at < branch.rules.end {
            let Some((Kind::Pattern, level)) = self.kind_at(at, branch.path_at) else { return };
            let rest = Branch { rules: at..branch.rules.end, ..*branch };
            let range = self.level(&rest, Kind::Pattern, level);
            at = range.end.max(at + 1);
            visit(range, level);
        }
    }

    fn kind_at(&self, rule: usize, path_at: usize) -> Option<(Kind, &str)> {
        level_at(&self.rules.get(rule)?.path, path_at, self.patterns)
    }
}

/// One search under way.
struct Walk<'a> {
    rules: &'a Rules,
    who: Who<'a>,
    text: &'a str,
    search: Search,
    open: Open,
    found: Found,
}

impl Walk<'_> {
    /// Follows one branch by one level.
    fn step(&mut self, branch: &Branch) {
        // [MQTT-4.7.2-1] Wildcards at the first level do not match what begins with `$`.
        let dollar = branch.text_at == 0 && self.text.starts_with('$');
        if !dollar {
            // `a/#` matches `a` too.
            self.take(self.rules.level(branch, Kind::Hash, "#"));
        }
        let Some(rest) = self.text.get(branch.text_at..) else {
            return self.take(self.rules.ended(branch));
        };
        let level = rest.split('/').next().unwrap_or_default();
        match (self.search, level) {
            (Search::Overlaps, "#") => self.take_reachable(branch),
            (Search::Overlaps, "+") => self.follow_all(branch),
            // Only `#` takes in `#`.
            (Search::Covers, "#") => {}
            (Search::Covers | Search::Overlaps, level) => {
                // A filter's own `+` is no literal level, so only `+` takes it in.
                let literal = self.rules.level(branch, Kind::Literal, level);
                self.open.push(branch.next(literal, level, level));
                if !dollar {
                    self.open.push(branch.next(
                        self.rules.level(branch, Kind::Plus, "+"),
                        "+",
                        level,
                    ));
                }
                self.follow_patterns(branch, level, dollar);
            }
        }
    }

    /// Levels with names that this level may be.
    fn follow_patterns(&mut self, branch: &Branch, level: &str, dollar: bool) {
        let rules = self.rules;
        rules.for_each_pattern(branch, |range, pattern| {
            if dollar && !pattern.starts_with('$') {
                return;
            }
            match likeness(pattern, self.who, level) {
                Likeness::Same => self.open.push(branch.next(range, pattern, level)),
                Likeness::Other => {}
                Likeness::Unknown => self.take_denials(range),
            }
        });
    }

    /// A filter's `+`: all levels that rules name here.
    fn follow_all(&mut self, branch: &Branch) {
        let rules = self.rules;
        let mut at = rules.ended(branch).end;
        while at < branch.rules.end {
            let Some((kind, level)) = rules.kind_at(at, branch.path_at) else { return };
            let rest = Branch { rules: at..branch.rules.end, ..*branch };
            let range = rules.level(&rest, kind, level);
            at = range.end.max(at + 1);
            let barred = branch.path_at == 0 && level.starts_with('$');
            let usable =
                kind != Kind::Hash && (kind != Kind::Pattern || is_usable(level, self.who));
            if usable && !barred && rules.subscribable(&range) {
                self.open.push(branch.next(range, level, "+"));
            }
        }
    }

    /// A filter's `#`: every rule of the branch, those that end here too.
    fn take_reachable(&mut self, branch: &Branch) {
        let (rules, first) = (self.rules, branch.path_at == 0);
        let reached = if rules.patterns || first {
            let usable = |rule: &&Rule| {
                rule.allow.has(Action::Subscribe)
                    && !(first && rule.path.starts_with('$'))
                    && (!rules.patterns
                        || rule.path.split('/').all(|level| is_usable(level, self.who)))
            };
            let range = rules.rules.get(branch.rules.clone()).unwrap_or_default();
            range.iter().any(|rule| usable(&rule))
        } else {
            rules.subscribable(&branch.rules)
        };
        if reached {
            self.found.allow = self.found.allow.with(Rights::SUBSCRIBE);
        }
    }

    fn take(&mut self, range: Range<usize>) {
        for rule in self.rules.rules.get(range).unwrap_or_default() {
            self.found = self.found.with(Found { allow: rule.allow, deny: rule.deny });
        }
    }

    fn take_denials(&mut self, range: Range<usize>) {
        for rule in self.rules.rules.get(range).unwrap_or_default() {
            self.found.deny = self.found.deny.with(rule.deny);
        }
    }
}

impl Branch {
    /// Its rules that go on with this level, where the text goes on with that one.
    fn next(&self, rules: Range<usize>, path_level: &str, text_level: &str) -> Branch {
        Branch {
            rules,
            path_at: self.path_at + path_level.len() + 1,
            text_at: self.text_at + text_level.len() + 1,
        }
    }
}

/// The level of a path that begins at a byte; `None` behind the last.
fn level_at(path: &str, at: usize, patterns: bool) -> Option<(Kind, &str)> {
    let level = path.get(at..)?.split('/').next().unwrap_or_default();
    let kind = match level {
        "+" => Kind::Plus,
        "#" => Kind::Hash,
        _ if patterns && has_name(level) => Kind::Pattern,
        _ => Kind::Literal,
    };
    Some((kind, level))
}

fn has_name(level: &str) -> bool {
    level.contains("%c") || level.contains("%u")
}

/// A level, cut into text and names.
fn pieces<'a>(level: &'a str, who: Who<'a>) -> impl Iterator<Item = Piece<'a>> {
    let mut rest = level;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let name = match rest.get(..2) {
            Some("%c") => Some(Some(who.client_id)),
            Some("%u") => Some(who.user),
            Some(_) | None => None,
        };
        if let Some(name) = name {
            rest = rest.get(2..).unwrap_or_default();
            return Some(name.map_or(Piece::Absent, piece_of));
        }
        let after = rest.char_indices().skip(1).find(|(_, c)| *c == '%').map(|(at, _)| at);
        let (piece, remaining) = rest.split_at(after.unwrap_or(rest.len()));
        rest = remaining;
        Some(Piece::Text(piece))
    })
}

/// A name can be one level of a topic, or part of it, or it is of no use.
fn piece_of(name: &str) -> Piece<'_> {
    if name.is_empty() || name.contains(['/', '+', '#', '\0']) {
        Piece::Unusable
    } else {
        Piece::Text(name)
    }
}

/// All names of a level may be used.
fn is_usable(level: &str, who: Who<'_>) -> bool {
    !has_name(level) || pieces(level, who).all(|piece| matches!(piece, Piece::Text(_)))
}

/// Compares a level with names with one of a topic, piece by piece.
fn likeness(pattern: &str, who: Who<'_>, level: &str) -> Likeness {
    let mut rest = Some(level);
    let mut absent = false;
    for piece in pieces(pattern, who) {
        match piece {
            Piece::Text(text) => rest = rest.and_then(|rest| rest.strip_prefix(text)),
            Piece::Absent => absent = true,
            Piece::Unusable => return Likeness::Unknown,
        }
    }
    if !absent && rest.is_some_and(str::is_empty) { Likeness::Same } else { Likeness::Other }
}

/// Rules as they are written, not yet in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    rules: Vec<Rule>,
}

impl Draft {
    /// Adds a rule that allows, or denies, these rights.
    pub(super) fn add(&mut self, filter: &str, rights: Rights, deny: bool) -> Result<(), AclFault> {
        let parsed = Filter::parse(filter, usize::MAX)
            .map_err(|error| AclFault::Filter { text: filter.to_owned(), error })?;
        if parsed.share().is_some() {
            return Err(AclFault::Shared { text: filter.to_owned() });
        }
        let (allow, deny) = if deny { (Rights::NONE, rights) } else { (rights, Rights::NONE) };
        self.rules.push(Rule { path: Box::from(filter), allow, deny, subscribable_before: 0 });
        Ok(())
    }

    /// Adds the rules of another.
    pub(super) fn append(&mut self, mut other: Draft) {
        self.rules.append(&mut other.rules);
    }

    /// Puts the rules in order. O(n log n).
    pub(super) fn compile(self, patterns: bool) -> Rules {
        let mut rules = self.rules;
        rules.sort_by(|a, b| compare(&a.path, &b.path, patterns));
        rules.dedup_by(|later, first| {
            let same = later.path == first.path;
            if same {
                first.allow = first.allow.with(later.allow);
                first.deny = first.deny.with(later.deny);
            }
            same
        });
        let mut count = 0;
        for rule in &mut rules {
            rule.subscribable_before = count;
            count += u32::from(rule.allow.has(Action::Subscribe));
        }
        rules.shrink_to_fit();
        Rules { rules, patterns }
    }
}

/// The order of rules: level by level, the shorter path first.
fn compare(a: &str, b: &str, patterns: bool) -> Ordering {
    let mut at = 0;
    loop {
        match (level_at(a, at, patterns), level_at(b, at, patterns)) {
            (None, None) => return Ordering::Equal,
            (mine, theirs) if mine == theirs => at += mine.map_or(0, |(_, l)| l.len()) + 1,
            (mine, theirs) => return mine.cmp(&theirs),
        }
    }
}
