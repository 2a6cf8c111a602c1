//! Rules about the source tree that neither rustc nor clippy checks.
//!
//! Each check takes the tree and returns its findings as `path:line: what is wrong`; each has a
//! test of its own that plants a violation. Function length is left to clippy (`too_many_lines`).
#![expect(clippy::indexing_slicing, reason = "in a test a panic is a failure like any other")]

mod ladder;
mod shape;
mod source;
mod words;

use std::path::Path;

use source::Tree;

#[track_caller]
fn nothing_found(check: impl Fn(&Tree) -> Vec<String>) {
    let tree = Tree::read(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(tree.file("src/lib.rs").is_some(), "the tree was not read");
    let findings = check(&tree);
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn modules_use_only_what_is_below_them() {
    nothing_found(ladder::modules);
}

#[test]
fn core_is_pure() {
    nothing_found(ladder::purity);
}

#[test]
fn engine_crates_are_named_in_shards_only() {
    nothing_found(ladder::confinement);
}

#[test]
fn files_and_lines_are_short() {
    nothing_found(shape::lengths);
}

#[test]
fn every_rust_file_is_compiled() {
    nothing_found(shape::orphans);
}

#[test]
fn comments_hold_no_code() {
    nothing_found(words::commented_out_code);
}

#[test]
fn reminders_have_a_number() {
    nothing_found(words::reminders);
}

#[test]
fn cited_statements_exist() {
    nothing_found(words::statement_ids);
}

#[test]
fn text_names_no_private_path_and_no_registry() {
    nothing_found(words::places);
}
