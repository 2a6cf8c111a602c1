//! Lengths of files and lines, and files that nobody compiles.

use crate::source::{File, Tree};

const PRODUCT_LINES_MAX: usize = 600;
const TEST_FILE_LINES_MAX: usize = 1500;
const LINE_CHARS_MAX: usize = 100;

/// Files stay under 600 lines without their tests, files of tests under 1500, lines under 100.
pub(crate) fn lengths(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let (lines, lines_max) = (product_lines(file), PRODUCT_LINES_MAX);
        if !file.test && lines > lines_max {
            findings.push(format!("{}:1: {lines} lines, at most {lines_max}", file.path));
        }
        let (lines, lines_max) = (file.text.lines().count(), TEST_FILE_LINES_MAX);
        if lines > lines_max {
            findings
                .push(format!("{}:1: {lines} lines with tests, at most {lines_max}", file.path));
        }
    }
    let written = |file: &&File| {
        matches!(file.extension(), "rs" | "py" | "js" | "sh") || file.text.starts_with("#!")
    };
    for file in tree.files.iter().filter(written) {
        for (above, line) in file.text.lines().enumerate() {
            let chars = line.chars().count();
            if chars > LINE_CHARS_MAX {
                let number = above + 1;
                let path = &file.path;
                findings
                    .push(format!("{path}:{number}: {chars} columns, at most {LINE_CHARS_MAX}"));
            }
        }
    }
    findings
}

/// Lines outside items under `#[cfg(test)]`.
fn product_lines(file: &File) -> usize {
    let mut test_lines = 0;
    let mut run: Option<(usize, usize)> = None;
    for token in &file.tokens {
        run = match (token.test, run) {
            (true, None) => Some((token.line, token.line)),
            (true, Some((first, _))) => Some((first, token.line)),
            (false, Some((first, last))) => {
                test_lines += last + 1 - first;
                None
            }
            (false, None) => None,
        };
    }
    test_lines += run.map_or(0, |(first, last)| last + 1 - first);
    file.text.lines().count() - test_lines
}

/// Every Rust file is reached by `mod` from a crate root.
pub(crate) fn orphans(tree: &Tree) -> Vec<String> {
    let lost = tree.rust().filter(|file| !file.reached);
    lost.map(|file| format!("{}:1: no crate has this file", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let root = "mod a; #[cfg(test)] mod tests;";
        lengths(&Tree::planted(&[("src/lib.rs", root), (path, text)]))
    }

    #[test]
    fn long_file_is_found() {
        let at_max = "//\n".repeat(PRODUCT_LINES_MAX);
        assert_eq!(findings("src/a.rs", &at_max), [""; 0]);
        let above = format!("{at_max}//\n");
        assert_eq!(findings("src/a.rs", &above), ["src/a.rs:1: 601 lines, at most 600"]);
    }

    #[test]
    fn tests_are_not_counted() {
        let inside = "fn t() {}\n".repeat(PRODUCT_LINES_MAX);
        let text = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{inside}}}\nfn b() {{}}\n");
        assert_eq!(findings("src/a.rs", &text), [""; 0]);
        assert_eq!(product_lines(&Tree::planted(&[("src/a.rs", &text)]).files[0]), 2);
    }

    #[test]
    fn long_test_file_is_found() {
        let at_max = "//\n".repeat(TEST_FILE_LINES_MAX);
        assert_eq!(findings("src/tests.rs", &at_max), [""; 0]);
        let above = format!("{at_max}//\n");
        let expected = ["src/tests.rs:1: 1501 lines with tests, at most 1500"];
        assert_eq!(findings("src/tests.rs", &above), expected);
    }

    #[test]
    fn long_line_is_found() {
        let at_max = format!("//{}", "ü".repeat(LINE_CHARS_MAX - 2));
        assert_eq!(findings("src/a.rs", &at_max), [""; 0]);
        let above = format!("\n{at_max}x");
        assert_eq!(findings("src/a.rs", &above), ["src/a.rs:2: 101 columns, at most 100"]);
        let script = format!("#!/bin/sh\n#{}", "x".repeat(LINE_CHARS_MAX));
        assert_eq!(findings(".ci/run", &script), [".ci/run:2: 101 columns, at most 100"]);
    }

    #[test]
    fn orphan_is_found() {
        let tree = Tree::planted(&[("src/lib.rs", "mod a { mod b; }"), ("src/a.rs", "")]);
        assert_eq!(orphans(&tree), ["src/a.rs:1: no crate has this file"]);
    }
}
