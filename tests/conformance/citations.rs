//! Citations of statements at tests.
//!
//! A test cites with `[id]` in the comments above it or anywhere inside. Such an id is one of MQTT
//! 5.0. It is one of MQTT 3.1.1 if it is written `[id of 3.1.1]`, or if `3.1.1:` stands before it
//! in the same comment, on its line or a line above.

use std::path::Path;

use crate::statements::Version;

/// Where tests are looked for.
const PLACES: &[&str] = &["src", "tests/core", "tests/sim", "tests/wire"];

/// One test and one statement that it cites.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Proof {
    pub(crate) id: String,
    pub(crate) old: bool,
    pub(crate) file: String,
    pub(crate) test: String,
}

impl Proof {
    pub(crate) fn version(&self) -> Version {
        if self.old { Version::V311 } else { Version::V5 }
    }
}

/// All citations, ordered by file.
pub(crate) fn read(root: &Path) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for place in PLACES {
        collect(root, &root.join(place), &mut proofs);
    }
    proofs.sort_by(|a, b| (&a.file, &a.test).cmp(&(&b.file, &b.test)));
    proofs.dedup();
    proofs
}

fn collect(root: &Path, folder: &Path, proofs: &mut Vec<Proof>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("the repository can be listed").path();
        if path.is_dir() {
            collect(root, &path, proofs);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it was found below the root");
            let text = std::fs::read_to_string(&path).expect("a source file is text");
            proofs.extend(in_file(&name.to_string_lossy(), &text));
        }
    }
}

/// The citations in one formatted source file.
pub(crate) fn in_file(file: &str, text: &str) -> Vec<Proof> {
    let lines: Vec<&str> = text.lines().collect();
    let mut proofs = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.trim() != "#[test]" {
            continue;
        }
        let above = lines[..at].iter().rev().take_while(|line| is_head(line)).count();
        let Some(name) = lines[at..].iter().position(|line| line.trim().starts_with("fn ")) else {
            continue;
        };
        let signature = lines[at + name].trim().trim_start_matches("fn ");
        let name = signature.split(['(', '<']).next().unwrap_or_default();
        // A formatted function ends where a brace stands as deep as its attribute.
        let depth = line.len() - line.trim_start().len();
        let end = lines[at..].iter().position(|line| {
            line.len() - line.trim_start().len() == depth && line.trim_start().starts_with('}')
        });
        let body = &lines[at - above..=at + end.unwrap_or_default()];
        let new = cited(body).into_iter().map(|(id, old)| Proof {
            id,
            old,
            file: file.into(),
            test: name.into(),
        });
        proofs.extend(new);
    }
    proofs
}

fn is_head(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("//") || line.starts_with("#[")
}

/// Ids in these lines, with whether each is one of 3.1.1.
fn cited(lines: &[&str]) -> Vec<(String, bool)> {
    let mut ids = Vec::new();
    let mut old = false;
    for line in lines {
        let Some((_, comment)) = line.split_once("//") else {
            old = false;
            continue;
        };
        let mut rest = comment;
        while let Some((head, tail)) = rest.split_once('[') {
            old |= head.contains("3.1.1:");
            rest = tail;
            let Some((inside, _)) = tail.split_once(']') else { break };
            let (id, suffix) = inside.split_once(' ').unwrap_or((inside, ""));
            if id.starts_with(concat!("MQ", "TT-")) {
                ids.push((id.to_owned(), old || suffix == "of 3.1.1"));
            }
        }
        old |= rest.contains("3.1.1:");
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, bool, String)> {
        let text = text.replace('@', concat!("MQ", "TT-"));
        let short = |proof: Proof| (proof.id[5..].to_owned(), proof.old, proof.test);
        in_file("a.rs", &text).into_iter().map(short).collect()
    }

    fn proof(id: &str, old: bool, test: &str) -> (String, bool, String) {
        (id.into(), old, test.into())
    }

    #[test]
    fn citations_above_and_inside_count() {
        let text =
            "// [@1-1]\n#[test]\nfn a() {\n    x(); // [@1-2]\n}\n\nfn b() {\n // [@1-3]\n}\n";
        assert_eq!(found(text), [proof("1-1", false, "a"), proof("1-2", false, "a")]);
    }

    #[test]
    fn old_version_is_marked_in_two_ways() {
        let text = "#[test]\nfn a() {\n    // [@1-1] [@1-2 of 3.1.1]; 3.1.1: [@1-3]\n    \
                    // [@1-4]\n    x();\n    // [@1-5]\n}\n";
        let wanted = [("1-1", false), ("1-2", true), ("1-3", true), ("1-4", true), ("1-5", false)];
        assert_eq!(found(text), wanted.map(|(id, old)| proof(id, old, "a")));
    }

    #[test]
    fn only_tests_prove() {
        let text = "// [@1-1]\nfn a() {}\n// [@1-2]\n#[expect(x)]\n#[test]\nfn b() {\n}\n";
        assert_eq!(found(text), [proof("1-2", false, "b")]);
    }

    #[test]
    fn nested_braces_do_not_end_a_test() {
        let text = "    #[test]\n    fn a() {\n        {\n        }\n        // [@1-1]\n    }\n";
        assert_eq!(found(text), [proof("1-1", false, "a")]);
    }
}
