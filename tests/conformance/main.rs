//! The statement list: which test proves which statement of the specifications.
//!
//! `docs/conformance.md` is written from three sources: the tables of statements, the citations at
//! the tests, and the exceptions. `make conformance` writes it; this target fails if it is stale,
//! if a statement that binds a server has neither test nor exception, and if it has both.
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure like any other")]

mod citations;
mod document;
mod statements;

use std::path::Path;

use citations::Proof;
use statements::{Exception, Specification};

const DOCUMENT: &str = "docs/conformance.md";

/// Everything the document is made of.
struct List {
    specifications: [Specification; 2],
    exceptions: Vec<Exception>,
    proofs: Vec<Proof>,
}

impl List {
    fn read(root: &Path) -> Self {
        Self {
            specifications: Specification::read_all(root),
            exceptions: statements::read_exceptions(root),
            proofs: citations::read(root),
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn document_is_current() {
    let path = root().join(DOCUMENT);
    let due = document::write(&List::read(root()));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, due).expect("the document can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(due.lines()).position(|(found, due)| found != due);
    let line = line.unwrap_or_else(|| found.lines().count().min(due.lines().count()));
    assert!(found == due, "{DOCUMENT}:{} is stale: run `make conformance`", line + 1);
}

#[test]
fn every_statement_is_proven_or_excepted() {
    let findings = document::findings(&List::read(root()));
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}
