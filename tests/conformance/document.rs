//! The document, and what is wrong with the list.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::List;
use crate::statements::{Exception, Kind, Specification, Statement, Version};

/// Statement without test and exception, exception with test, or a name that does not exist.
pub(crate) fn findings(list: &List) -> Vec<String> {
    let mut findings = Vec::new();
    for specification in &list.specifications {
        let version = specification.version;
        for statement in specification.statements.iter().filter(|statement| statement.server) {
            let (id, tests) = (&statement.id, !tests(list, version, &statement.id).is_empty());
            let exceptions = exceptions(list, version, id).count();
            match (tests, exceptions) {
                (false, 0) => findings.push(format!("{id} of {}: no test", version.name())),
                (false, 1) | (true, 0) => {}
                (true, _) => findings.push(format!("{id} of {}: has a test", version.name())),
                (false, _) => findings.push(format!("{id} of {}: excepted twice", version.name())),
            }
        }
        let bound = |exception: &&Exception| {
            let same = |statement: &Statement| statement.server && statement.id == exception.id;
            exception.version == version && !specification.statements.iter().any(same)
        };
        for exception in list.exceptions.iter().filter(bound) {
            findings.push(format!("{} of {}: binds no server", exception.id, version.name()));
        }
        let unknown = list.proofs.iter().filter(|proof| proof.version() == version);
        for proof in unknown.filter(|proof| !specification.has(&proof.id)) {
            let name = version.name();
            findings.push(format!("{}: {}: no {} in {name}", proof.file, proof.test, proof.id));
        }
    }
    findings
}

fn exceptions<'a>(
    list: &'a List,
    version: Version,
    id: &'a str,
) -> impl Iterator<Item = &'a Exception> {
    list.exceptions
        .iter()
        .filter(move |exception| exception.version == version && exception.id == id)
}

/// Names of the tests that cite the statement, by file.
fn tests<'a>(list: &'a List, version: Version, id: &str) -> BTreeMap<&'a str, Vec<&'a str>> {
    let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let citing = list.proofs.iter().filter(|proof| proof.version() == version && proof.id == id);
    for proof in citing {
        files.entry(&proof.file).or_default().push(&proof.test);
    }
    for names in files.values_mut() {
        names.sort_unstable();
        names.dedup();
    }
    files
}

/// The whole document.
pub(crate) fn write(list: &List) -> String {
    let mut text = include_str!("head.md").trim_end().to_owned();
    text.push_str("\n\n## Figures\n\n| | ");
    let columns = ["bind a server", "tested"].into_iter().chain(Kind::ALL.map(Kind::name));
    let columns: Vec<&str> = columns.chain(["open", "bind clients alone"]).collect();
    let _ = writeln!(text, "{} |\n|---{}|", columns.join(" | "), "|---:".repeat(columns.len()));
    for specification in &list.specifications {
        let figures: Vec<String> = figures(list, specification).map(|n| n.to_string()).into();
        let _ =
            writeln!(text, "| MQTT {} | {} |", specification.version.name(), figures.join(" | "));
    }
    for specification in &list.specifications {
        let version = specification.version;
        let _ = write!(text, "\n## MQTT {}\n", version.name());
        let mut section = "";
        for statement in specification.statements.iter().filter(|statement| statement.server) {
            if statement.section != section {
                section = &statement.section;
                let _ = write!(text, "\n### {section}\n\n");
            }
            let _ = writeln!(text, "- **{}** {}", statement.id, statement.words);
            for (file, names) in tests(list, version, &statement.id) {
                let _ = writeln!(text, "  - `{file}`: {}", names.join(", "));
            }
            for Exception { kind, reason, .. } in exceptions(list, version, &statement.id) {
                let _ = writeln!(text, "  - *{}*: {reason}", kind.name());
            }
        }
    }
    text
}

/// Bound, tested, excepted by kind, open, and not bound.
fn figures(list: &List, specification: &Specification) -> [usize; 8] {
    let version = specification.version;
    let mut figures = [0; 8];
    for statement in &specification.statements {
        if !statement.server {
            figures[7] += 1;
            continue;
        }
        figures[0] += 1;
        let exception = exceptions(list, version, &statement.id).next();
        let kind = exception.and_then(|found| Kind::ALL.iter().position(|k| *k == found.kind));
        if !tests(list, version, &statement.id).is_empty() {
            figures[1] += 1;
        } else if let Some(kind) = kind {
            figures[2 + kind] += 1;
        } else {
            figures[6] += 1;
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::citations::Proof;
    use crate::statements::parse_exceptions;

    /// One statement for both sides in 5.0, one for clients, and none in 3.1.1.
    fn list(cited: &[&str], exceptions: &str) -> List {
        let table = "head\nA-1\t1 One\tboth\twords\nA-2\t1 One\tclient\t\n";
        let proof = |id: &&str| Proof {
            id: (*id).into(),
            old: false,
            file: "a.rs".into(),
            test: "t".into(),
        };
        List {
            specifications: [
                Specification::parse(Version::V5, table),
                Specification::parse(Version::V311, "head\n"),
            ],
            exceptions: parse_exceptions(&format!("head\n{exceptions}")),
            proofs: cited.iter().map(proof).collect(),
        }
    }

    #[test]
    fn statement_needs_a_test_or_an_exception_and_not_both() {
        let excepted = "A-1\t5.0\tlater\twhy";
        assert_eq!(findings(&list(&[], "")), ["A-1 of 5.0: no test"]);
        assert_eq!(findings(&list(&["A-1"], "")), [""; 0]);
        assert_eq!(findings(&list(&[], excepted)), [""; 0]);
        assert_eq!(findings(&list(&["A-1"], excepted)), ["A-1 of 5.0: has a test"]);
    }

    #[test]
    fn names_must_exist_in_their_version() {
        let found = findings(&list(&["A-1", "A-3"], "A-2\t5.0\tlater\tx\nA-1\t3.1.1\tlater\tx"));
        let wanted = [
            "A-2 of 5.0: binds no server",
            "a.rs: t: no A-3 in 5.0",
            "A-1 of 3.1.1: binds no server",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn document_counts_and_lists() {
        let text = write(&list(&["A-1", "A-2"], ""));
        assert!(text.contains("| MQTT 5.0 | 1 | 1 | 0 | 0 | 0 | 0 | 0 | 1 |"), "{text}");
        assert!(text.ends_with("### 1 One\n\n- **A-1** words\n  - `a.rs`: t\n\n## MQTT 3.1.1\n"));
    }
}
