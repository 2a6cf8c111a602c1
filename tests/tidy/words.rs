//! What comments and texts may say.

use std::collections::BTreeSet;

use crate::source::Tree;

/// The statements of the two specifications, one id at the start of each line.
const STATEMENTS: &[&str] = &["tests/data/mqtt5_normative.tsv", "tests/data/mqtt311_normative.tsv"];

/// Words that open a Rust statement or item.
const OPENING: &[&str] = &[
    "#[", "const", "enum", "fn", "for", "if", "impl", "let", "loop", "match", "mod", "pub",
    "return", "static", "struct", "use", "while", "}",
];

/// Folders that exist on one machine only. In pieces, because this file is checked as well.
const PRIVATE_FOLDERS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Hosts of package registries; which one is used is the business of each tool's configuration.
const REGISTRIES: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("proxy.golang", ".org"),
];

/// Comments are sentences; code that is not compiled belongs to history.
pub(crate) fn commented_out_code(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        for comment in file.comments.iter().filter(|c| !c.doc && is_code(&c.text)) {
            findings.push(format!("{}:{}: commented-out code", file.path, comment.line));
        }
    }
    findings
}

fn is_code(text: &str) -> bool {
    if !text.is_empty() && text.chars().all(|c| "{}()[];,".contains(c)) {
        return true;
    }
    if text.starts_with("#[") && text.ends_with(']') {
        return true;
    }
    if !text.ends_with([';', '{', '}']) {
        return false;
    }
    let first = text.split_whitespace().next().unwrap_or_default();
    if OPENING.contains(&first) {
        return true;
    }
    // A call, a macro or an assignment: what stands before it is one path without spaces.
    let end = text.find(['(', '=', '!']).unwrap_or_default();
    let target = text[..end].trim_end_matches(['+', '-', '*', '/', '|', '&', ' ']);
    !target.is_empty() && !target.contains(' ')
}

/// A reminder names the issue that will remove it: `TODO(#12)`. Other markers are not used.
pub(crate) fn reminders(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in &tree.files {
        let mut look = |line: usize, text: &str| {
            if has_bare_reminder(text) {
                findings.push(format!("{}:{line}: reminder without a number", file.path));
            }
        };
        match file.extension() {
            "rs" => file.comments.iter().for_each(|comment| look(comment.line, &comment.text)),
            "py" | "js" | "sh" | "toml" | "md" | "yml" | "" => {
                file.text.lines().enumerate().for_each(|(above, text)| look(above + 1, text));
            }
            _ => {}
        }
    }
    findings
}

fn has_bare_reminder(text: &str) -> bool {
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    words.iter().any(|word| {
        text.match_indices(word).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = &text[at + word.len()..];
            let inside_a_word = before.is_some_and(char::is_alphanumeric)
                || after.starts_with(|c: char| c.is_alphanumeric());
            let number = after.strip_prefix("(#").and_then(|rest| rest.split_once(')'));
            let numbered = number.is_some_and(|(digits, _)| {
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            });
            !inside_a_word && (!numbered || *word != words[0])
        })
    })
}

/// Every statement that is cited stands in one of the two tables.
pub(crate) fn statement_ids(tree: &Tree) -> Vec<String> {
    let tables = STATEMENTS.iter().filter_map(|path| tree.file(path));
    let known: BTreeSet<&str> = tables
        .flat_map(|table| table.text.lines())
        .filter_map(|row| row.split('\t').next())
        .collect();
    let mut findings = Vec::new();
    for file in &tree.files {
        for (above, line) in file.text.lines().enumerate() {
            for id in cited(line).into_iter().filter(|id| !known.contains(id)) {
                findings.push(format!("{}:{}: there is no {id}", file.path, above + 1));
            }
        }
    }
    findings
}

/// The ids in `line`: the letters, then digits with dots, a hyphen, digits.
fn cited(line: &str) -> Vec<&str> {
    let mut ids = Vec::new();
    for (at, prefix) in line.match_indices(concat!("MQ", "TT-")) {
        let rest = &line[at + prefix.len()..];
        let section = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Some(number) = rest[section..].strip_prefix('-') else { continue };
        let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        if rest.starts_with(|c: char| c.is_ascii_digit()) && digits > 0 {
            ids.push(&line[at..at + prefix.len() + section + 1 + digits]);
        }
    }
    ids
}

/// No text depends on one machine's folders or on one package registry.
pub(crate) fn places(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in &tree.files {
        for (above, line) in file.text.lines().enumerate() {
            let folder = PRIVATE_FOLDERS.iter().find(|folder| names_folder(line, folder));
            if let Some(place) = folder.copied().or_else(|| registry(line)) {
                findings.push(format!("{}:{}: names {place}", file.path, above + 1));
            }
        }
    }
    findings
}

/// `/x/` at the start of a path, not in the middle of one.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "._-*{}+#".contains(c))
    })
}

fn registry(line: &str) -> Option<&'static str> {
    line.match_indices("://").find_map(|(at, _)| {
        let host = line[at + 3..].split(['/', ':', '"', ' ', ')', '>']).next().unwrap_or_default();
        REGISTRIES.iter().copied().find(|name| host == *name || host.ends_with(&format!(".{name}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plant(path: &str, text: &str) -> Tree {
        Tree::planted(&[(path, text), (STATEMENTS[0], "MQTT-1.5.4-2\tsection\tboth\n")])
    }

    #[test]
    fn code_in_comments_is_found() {
        for code in [
            "let x = 1;",
            "self.queue.push(message);",
            "if a { return; }",
            "}",
            "use std::fs;",
            "#[inline]",
            "count += 1;",
            "println!(\"x\");",
            "fn f() {",
        ] {
            let found = commented_out_code(&plant("src/a.rs", &format!("fn f() {{}}\n// {code}")));
            assert_eq!(found, ["src/a.rs:2: commented-out code"], "{code}");
        }
    }

    #[test]
    fn sentences_in_comments_are_not_code() {
        for prose in [
            "The alias is resolved before the check (see above);",
            "if the window is full, queue",
            "[MQTT-1.5.4-2] no U+0000",
            "a == b holds here.",
            "0..2 length, 2..6 crc",
        ] {
            let found = commented_out_code(&plant("src/a.rs", &format!("// {prose}")));
            assert_eq!(found, [""; 0], "{prose}");
        }
        assert_eq!(commented_out_code(&plant("src/a.rs", "/// let x = 1;")), [""; 0]);
    }

    #[test]
    fn bare_reminder_is_found() {
        let mark = concat!("TO", "DO");
        let at = |text: &str| reminders(&plant("src/a.rs", text)).len();
        assert_eq!(at(&format!("// {mark}: later")), 1);
        assert_eq!(at(&format!("// {mark}(#x) later")), 1);
        assert_eq!(at(concat!("// FIX", "ME(#3) later")), 1);
        assert_eq!(at(&format!("// {mark}(#12) later")), 0);
        assert_eq!(at(&format!("let a = \"{mark}\";")), 0);
        assert_eq!(reminders(&plant("a.sh", &format!("# {mark}"))).len(), 1);
    }

    #[test]
    fn unknown_statement_is_found() {
        let wrong = concat!("MQ", "TT-9.9.9-9");
        let text = format!("// [MQTT-1.5.4-2]\n// [{wrong}] and MQTT-5.0");
        let found = statement_ids(&plant("src/a.rs", &text));
        assert_eq!(found, [format!("src/a.rs:2: there is no {wrong}")]);
    }

    #[test]
    fn private_folder_is_found() {
        for folder in PRIVATE_FOLDERS {
            let found = places(&plant("README.md", &format!("x\nsee {folder}a")));
            assert_eq!(found, [format!("README.md:2: names {folder}")]);
        }
        assert_eq!(places(&plant("README.md", &format!("a{}b", PRIVATE_FOLDERS[0]))), [""; 0]);
    }

    #[test]
    fn registry_is_found() {
        for host in REGISTRIES {
            let found = places(&plant("a.json", &format!("\"https://static.{host}/x\"")));
            assert_eq!(found, [format!("a.json:1: names {host}")]);
        }
        let index = format!("registry+https://github.com/x/{}-index", REGISTRIES[0]);
        assert_eq!(places(&plant("Cargo.lock", &index)), [""; 0]);
    }
}
