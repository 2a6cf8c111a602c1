//! Statements of the two specifications, and those that no test proves.

use std::path::Path;

/// Protocol version with numbered statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V5,
    V311,
}

impl Version {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Version::V5 => "5.0",
            Version::V311 => "3.1.1",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Version::V5 => "tests/data/mqtt5_normative.tsv",
            Version::V311 => "tests/data/mqtt311_normative.tsv",
        }
    }
}

/// One statement.
pub(crate) struct Statement {
    pub(crate) id: String,
    pub(crate) section: String,
    /// Whether it binds a server, alone or with the client.
    pub(crate) server: bool,
    pub(crate) words: String,
}

/// All statements of one version, in the order of the specification.
pub(crate) struct Specification {
    pub(crate) version: Version,
    pub(crate) statements: Vec<Statement>,
}

impl Specification {
    pub(crate) fn read_all(root: &Path) -> [Self; 2] {
        [Version::V5, Version::V311].map(|version| {
            let path = root.join(version.table());
            let text = std::fs::read_to_string(path).expect("the table is there");
            Self::parse(version, &text)
        })
    }

    /// Rows `id section applies_to words`, apart by tabs, below a header.
    pub(crate) fn parse(version: Version, text: &str) -> Self {
        let statements = rows(text).map(|[id, section, applies_to, words]| {
            assert!(["server", "client", "both"].contains(&applies_to), "{id}: {applies_to}?");
            let server = applies_to != "client";
            assert_eq!(server, !words.is_empty(), "{id}: words are for what binds a server");
            Statement { id: id.into(), section: section.into(), server, words: words.into() }
        });
        Self { version, statements: statements.collect() }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.statements.iter().any(|statement| statement.id == id)
    }
}

/// Why there is no test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Names both sides, but only a client can break it.
    ClientSide,
    /// Cannot be seen from outside, or leaves the choice to the server.
    Untestable,
    /// Broken on purpose.
    ByDesign,
    /// Belongs to a part that is not there yet.
    Later,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] =
        [Kind::ClientSide, Kind::Untestable, Kind::ByDesign, Kind::Later];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::ClientSide => "client-side",
            Kind::Untestable => "untestable",
            Kind::ByDesign => "by-design",
            Kind::Later => "later",
        }
    }
}

/// A statement without test.
pub(crate) struct Exception {
    pub(crate) id: String,
    pub(crate) version: Version,
    pub(crate) kind: Kind,
    pub(crate) reason: String,
}

pub(crate) fn read_exceptions(root: &Path) -> Vec<Exception> {
    let path = root.join("tests/data/conformance_exceptions.tsv");
    let text = std::fs::read_to_string(path).expect("the exceptions are there");
    parse_exceptions(&text)
}

/// Rows `id version kind reason`; the version `both` stands for two exceptions.
pub(crate) fn parse_exceptions(text: &str) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for [id, versions, kind, reason] in rows(text) {
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
        let kind = kind.unwrap_or_else(|| panic!("{id}: unknown kind"));
        let versions: &[Version] = match versions {
            "5.0" => &[Version::V5],
            "3.1.1" => &[Version::V311],
            "both" => &[Version::V5, Version::V311],
            other => panic!("{id}: unknown version {other}"),
        };
        assert!(!reason.is_empty(), "{id}: no reason");
        exceptions.extend(versions.iter().map(|&version| Exception {
            id: id.into(),
            version,
            kind,
            reason: reason.into(),
        }));
    }
    exceptions
}

fn rows(text: &str) -> impl Iterator<Item = [&str; 4]> {
    text.lines().skip(1).map(|row| {
        let fields: Vec<&str> = row.split('\t').collect();
        <[&str; 4]>::try_from(fields).unwrap_or_else(|_| panic!("four fields: {row}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_for_both_versions_are_two() {
        let table = "id\tversion\tkind\treason\nA-1\tboth\tlater\tno WebSocket\n";
        let found = parse_exceptions(table);
        let versions: Vec<Version> = found.iter().map(|exception| exception.version).collect();
        assert_eq!(versions, [Version::V5, Version::V311]);
        assert!(found.iter().all(|exception| exception.kind == Kind::Later));
    }

    #[test]
    #[should_panic(expected = "unknown kind")]
    fn unknown_kind_fails() {
        parse_exceptions("head\nA-1\tboth\tperhaps\tx\n");
    }
}
