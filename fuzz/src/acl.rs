//! The access rule file: it is read or refused in words, never otherwise; what it allows is what
//! its lines say one by one; and no name of a client reaches a topic that its own place does not
//! cover.
//!
//! Input: user name, client identifier, some topics, an empty line, the file.

use culex::access::{Action, Builder, Verdict, Who, authorise};
use culex::topic::{Filter, TopicName};

/// One line as the manual reads it.
struct Line<'a> {
    /// `None` = pattern.
    of: Option<Option<&'a str>>,
    deny: bool,
    publish: bool,
    receive: bool,
    filter: &'a str,
}

/// Reads the input and checks every topic for the client, for everybody else and for nobody.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some((head, file)) = text.split_once("\n\n") else { return };
    let mut head = head.split('\n');
    let (Some(user), Some(client_id)) = (head.next(), head.next()) else { return };
    let topics: Vec<&str> = head.filter(|line| TopicName::parse(line).is_ok()).take(8).collect();
    let mut builder = Builder::new();
    if let Err(error) = builder.file(file) {
        assert!(error.line >= 1 && error.line <= file.lines().count().max(1), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        return;
    }
    let access = builder.build();
    let lines = lines(file);
    for user in [Some(user), None, Some("other")] {
        let who = Who { client_id, user, ..Who::default() };
        for topic in &topics {
            for action in [Action::Publish, Action::Receive] {
                let found = authorise(&access, who, action, topic) == Verdict::Allow;
                let expected = slowly(&lines, who, action, topic);
                assert_eq!(found, expected, "{who:?} {action:?} {topic:?}\n{file}");
            }
            let receives = authorise(&access, who, Action::Receive, topic) == Verdict::Allow;
            let subscribes = authorise(&access, who, Action::Subscribe, topic) == Verdict::Allow;
            assert_eq!(subscribes, receives, "a filter without wildcards is its topic");
            let all = authorise(&access, who, Action::Subscribe, "#") == Verdict::Allow;
            let denied = lines.iter().any(|line| line.deny);
            assert!(all || !receives || topic.starts_with('$') || denied, "{topic:?}\n{file}");
        }
    }
}

/// The lines of a file that was accepted.
fn lines(file: &str) -> Vec<Line<'_>> {
    let mut user = None;
    let mut lines = Vec::new();
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let line = line.trim_end().trim_start_matches(' ');
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start_matches(' ');
        let (right, filter) = match rest.split_once(' ') {
            Some((right, filter)) => (right, filter.trim_start_matches(' ')),
            None => ("readwrite", rest),
        };
        let of = match word {
            "user" => {
                user = Some(rest);
                continue;
            }
            "topic" => Some(user),
            "pattern" => None,
            _ => continue,
        };
        let deny = right == "deny";
        let publish = matches!(right, "write" | "readwrite" | "deny");
        let receive = matches!(right, "read" | "readwrite" | "deny");
        lines.push(Line { of, deny, publish, receive, filter });
    }
    lines
}

/// Two stages; in each a denial wins.
fn slowly(lines: &[Line<'_>], who: Who<'_>, action: Action, topic: &str) -> bool {
    let tree = topic.split('/').next();
    if tree == Some("$CONTROL") || (tree == Some("$SYS") && action == Action::Publish) {
        return false;
    }
    for patterns in [false, true] {
        let said = |deny: bool| {
            lines.iter().any(|line| {
                let stage = match line.of {
                    None => patterns,
                    Some(user) => !patterns && user == who.user,
                };
                let right = if action == Action::Publish { line.publish } else { line.receive };
                stage && line.deny == deny && right && matches(line, who, topic, deny)
            })
        };
        if said(true) {
            return false;
        }
        if said(false) {
            return true;
        }
    }
    false
}

fn matches(line: &Line<'_>, who: Who<'_>, topic: &str, deny: bool) -> bool {
    let topic = TopicName::parse(topic).expect("checked before");
    if line.of.is_some() {
        return Filter::parse(line.filter, usize::MAX).is_ok_and(|filter| filter.matches(topic));
    }
    let plain = |name: &str| !name.is_empty() && !name.contains(['/', '+', '#', '\0']);
    let mut levels = Vec::new();
    for level in line.filter.split('/') {
        let (of_client, of_user) = (level.contains("%c"), level.contains("%u"));
        if level.contains("%u") && who.user.is_none() && (!of_client || plain(who.client_id)) {
            return false;
        }
        let unusable = (of_client && !plain(who.client_id))
            || (of_user && who.user.is_some_and(|user| !plain(user)));
        if unusable {
            // It could be anything from here on: denied if denying, else not allowed.
            let head: Vec<&str> = levels.iter().map(String::as_str).collect();
            return deny && begins(&head, level, topic);
        }
        levels.push(substituted(level, who));
    }
    if topic.is_dollar() && !line.filter.starts_with('$') {
        return false;
    }
    let path = levels.join("/");
    // A name with a wildcard was left out above, so these are the rule's own.
    Filter::parse(&path, usize::MAX).is_ok_and(|filter| filter.matches(topic))
}

/// The topic goes on after these levels; `$` is reached by a rule that names it alone.
fn begins(head: &[&str], level: &str, topic: TopicName<'_>) -> bool {
    let first = head.first().copied().unwrap_or(level);
    if topic.is_dollar() && !first.starts_with('$') {
        return false;
    }
    let mut found = topic.as_str().split('/');
    let mut same = |wanted: &&str| found.next().is_some_and(|l| *wanted == "+" || l == *wanted);
    let all = head.iter().all(&mut same);
    all && found.next().is_some()
}

/// From left to right; what a name brings is not looked at again.
fn substituted(level: &str, who: Who<'_>) -> String {
    let mut out = String::new();
    let mut rest = level;
    while let Some(at) = rest.find('%') {
        let (text, name) = rest.split_at(at);
        out.push_str(text);
        let (name, after) = match name.get(..2) {
            Some("%c") => (who.client_id, 2),
            Some("%u") => (who.user.unwrap_or_default(), 2),
            _ => ("%", 1),
        };
        out.push_str(name);
        rest = &rest[at + after..];
    }
    out + rest
}
