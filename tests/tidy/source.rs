//! The tree as the checks see it: files, tokens, comments, and which of it is test code.
//!
//! The scanner knows just enough Rust to tell code from comments and strings. It does not parse.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Folders that hold no source of ours.
const SKIPPED_NAMES: &[&str] = &[".git", "target", "node_modules", "__pycache__", ".venv"];

/// The same, where the name alone would say too little.
const SKIPPED_PATHS: &[&str] = &["fuzz/corpus", "fuzz/artifacts", "perf/out"];

/// One word, number, literal or punctuation mark outside comments.
pub(crate) struct Token {
    /// As written; string literals keep their quotes.
    pub(crate) text: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// Part of an item under `#[cfg(test)]`.
    pub(crate) test: bool,
}

/// One line comment, or one line of a block comment.
pub(crate) struct Comment {
    /// Without the comment marks, trimmed.
    pub(crate) text: String,
    /// Line, from 1.
    pub(crate) line: usize,
    /// `///` or `//!`.
    pub(crate) doc: bool,
}

/// One text file.
pub(crate) struct File {
    /// Relative to the root of the repository, with `/`.
    pub(crate) path: String,
    /// Everything.
    pub(crate) text: String,
    /// Empty unless it is Rust.
    pub(crate) tokens: Vec<Token>,
    /// Empty unless it is Rust.
    pub(crate) comments: Vec<Comment>,
    /// Reached by a `mod` from a crate root (Rust only).
    pub(crate) reached: bool,
    /// Reached only by `#[cfg(test)] mod`, or belongs to a test or fuzz target.
    pub(crate) test: bool,
}

impl File {
    /// Rust source?
    pub(crate) fn is_rust(&self) -> bool {
        is_rust(&self.path)
    }

    /// What follows the last dot of the file name; empty without one.
    pub(crate) fn extension(&self) -> &str {
        extension(&self.path)
    }

    /// The tokens that are not test code.
    pub(crate) fn product_tokens(&self) -> impl Iterator<Item = (usize, &Token)> {
        let whole_file = self.test;
        self.tokens.iter().enumerate().filter(move |(_, token)| !whole_file && !token.test)
    }

    /// Does the token at `index` read `text`?
    pub(crate) fn is(&self, index: usize, text: &str) -> bool {
        self.tokens.get(index).is_some_and(|token| token.text == text)
    }

    /// Does the token at `index` begin a path, rather than stand in the middle of one?
    pub(crate) fn begins_path(&self, index: usize) -> bool {
        let after_colons = index >= 2 && self.is(index - 1, ":") && self.is(index - 2, ":");
        let after_name = index >= 3
            && self.tokens[index - 3].text.chars().all(|c| c.is_alphanumeric() || c == '_');
        !(after_colons && after_name)
    }

    /// Names that follow `tokens[index]::`, those in braces too: `x::{a, b::c}` gives `a` and `b`.
    pub(crate) fn path_heads(&self, index: usize) -> Vec<&Token> {
        if !self.is(index + 1, ":") || !self.is(index + 2, ":") {
            return Vec::new();
        }
        if !self.is(index + 3, "{") {
            return self.tokens.get(index + 3).into_iter().collect();
        }
        let mut heads = Vec::new();
        let mut depth = 0;
        for (at, token) in self.tokens.iter().enumerate().skip(index + 3) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ if depth == 1 && (self.is(at - 1, "{") || self.is(at - 1, ",")) => {
                    heads.push(token);
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        heads
    }
}

/// All text files of the repository.
pub(crate) struct Tree {
    /// In the order of their paths.
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads the repository.
    pub(crate) fn read(root: &Path) -> Self {
        let mut texts = Vec::new();
        collect(root, root, &mut texts);
        Self::new(texts)
    }

    /// A tree of planted files.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Self {
        Self::new(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
    }

    fn new(mut texts: Vec<(String, String)>) -> Self {
        texts.sort();
        let mut files: Vec<File> = texts
            .into_iter()
            .map(|(path, text)| {
                let (tokens, comments) =
                    if is_rust(&path) { scan(&text) } else { (Vec::new(), Vec::new()) };
                File { path, text, tokens, comments, reached: false, test: true }
            })
            .collect();
        follow_modules(&mut files);
        Self { files }
    }

    /// The Rust files.
    pub(crate) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

fn extension(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

fn is_rust(path: &str) -> bool {
    extension(path) == "rs"
}

fn collect(root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) {
    let entries = fs::read_dir(folder).expect("the repository can be listed");
    for entry in entries {
        let path = entry.expect("the repository can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let relative = path.strip_prefix(root).expect("it was found below the root");
        let relative = relative.to_string_lossy().into_owned();
        let skipped = SKIPPED_NAMES.contains(&name.as_str())
            || SKIPPED_PATHS.contains(&relative.as_str())
            || path.is_symlink();
        if skipped {
            continue;
        }
        if path.is_dir() {
            collect(root, &path, texts);
        } else if let Ok(text) = fs::read_to_string(&path) {
            texts.push((relative, text));
        }
    }
}

/// Marks what the crate roots reach through `mod name;`, and what of it is test code only.
fn follow_modules(files: &mut [File]) {
    let index: BTreeMap<String, usize> =
        files.iter().enumerate().map(|(at, file)| (file.path.clone(), at)).collect();
    let mut open: Vec<(usize, bool)> = files
        .iter()
        .enumerate()
        .filter_map(|(at, file)| crate_root(&file.path).map(|test| (at, test)))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some((at, test)) = open.pop() {
        if !seen.insert((at, test)) {
            continue;
        }
        files[at].reached = true;
        files[at].test &= test;
        for (paths, module_test) in modules(&files[at]) {
            let found = paths.iter().find_map(|path| index.get(path));
            open.extend(found.map(|&next| (next, test || module_test)));
        }
    }
}

/// `Some(is test code)` if cargo compiles the file without a `mod` naming it.
fn crate_root(path: &str) -> Option<bool> {
    let below_src = path.rsplit_once("src/").map_or("", |(_, below)| below);
    let folders: Vec<&str> = path.split('/').collect();
    match folders.as_slice() {
        [.., "tests" | "benches" | "examples", _]
        | [.., "tests" | "benches" | "examples", _, "main.rs"]
            if below_src.is_empty() =>
        {
            Some(true)
        }
        ["fuzz", "fuzz_targets", _] => Some(true),
        _ if matches!(below_src, "lib.rs" | "main.rs") || below_src.starts_with("bin/") => {
            Some(false)
        }
        _ => None,
    }
}

/// For each `mod name;`: the files it may mean, and whether it is under `#[cfg(test)]`.
fn modules(file: &File) -> Vec<(Vec<String>, bool)> {
    let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let own = name == "mod.rs" || crate_root(&file.path).is_some();
    let children =
        if own { folder.to_owned() } else { file.path.trim_end_matches(".rs").to_owned() };
    let mut modules = Vec::new();
    for (at, token) in file.tokens.iter().enumerate() {
        if token.text != "mod" || !file.is(at + 2, ";") {
            continue;
        }
        let child = &file.tokens[at + 1].text;
        let named = at
            .checked_sub(2)
            .filter(|&before| file.is(before + 1, "]") && file.is(before - 1, "="))
            .map(|before| format!("{folder}/{}", file.tokens[before].text.trim_matches('"')));
        let usual = [format!("{children}/{child}.rs"), format!("{children}/{child}/mod.rs")];
        modules.push((named.into_iter().chain(usual).collect(), token.test));
    }
    modules
}

/// Splits Rust source into tokens and comments.
fn scan(text: &str) -> (Vec<Token>, Vec<Comment>) {
    let mut scanner = Scanner { rest: text, line: 1, tokens: Vec::new(), comments: Vec::new() };
    while !scanner.rest.is_empty() {
        scanner.step();
    }
    mark_tests(&mut scanner.tokens);
    (scanner.tokens, scanner.comments)
}

struct Scanner<'a> {
    rest: &'a str,
    line: usize,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
}

impl<'a> Scanner<'a> {
    /// Consumes one token, comment or run of white space.
    fn step(&mut self) {
        let rest = self.rest;
        let first = rest.chars().next().unwrap_or_default();
        if rest.starts_with("//") {
            let doc =
                rest.starts_with("//!") || (rest.starts_with("///") && !rest.starts_with("////"));
            let line = self.line;
            let bytes = rest.find('\n').unwrap_or(rest.len());
            let text = self.take(bytes).trim_start_matches(['/', '!']).trim().to_owned();
            self.comments.push(Comment { text, line, doc });
        } else if rest.starts_with("/*") {
            let line = self.line;
            let block = self.take(block_comment_bytes(rest));
            for (below, text) in block.lines().enumerate() {
                let text = text.trim().trim_matches(['/', '*']).trim().to_owned();
                self.comments.push(Comment { text, line: line + below, doc: false });
            }
        } else if let Some(bytes) = string_bytes(rest).or_else(|| char_bytes(rest)) {
            self.token(bytes);
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            self.token(end.unwrap_or(rest.len()));
        } else if first.is_whitespace() {
            self.take(first.len_utf8());
        } else {
            self.token(first.len_utf8());
        }
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn token(&mut self, bytes: usize) {
        let line = self.line;
        let text = self.take(bytes).to_owned();
        self.tokens.push(Token { text, line, test: false });
    }
}

/// Block comments nest in Rust.
fn block_comment_bytes(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
        } else {
            at += 1;
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of the string literal at the start of `text`: plain, byte, C or raw.
fn string_bytes(text: &str) -> Option<usize> {
    let body = text.trim_start_matches(['b', 'c']);
    if text.len() - body.len() > 1 {
        return None;
    }
    let prefix = text.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let inner = raw.trim_start_matches('#').strip_prefix('"')?;
        let close = format!("\"{}", "#".repeat(hashes));
        let end = inner.find(&close).map_or(inner.len(), |end| end + close.len());
        return Some(prefix + 1 + hashes + 1 + end);
    }
    let inner = body.strip_prefix('"')?;
    let mut escaped = false;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return Some(prefix + 1 + at + 1),
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    Some(text.len())
}

/// Bytes of the char literal or lifetime at the start of `text`.
fn char_bytes(text: &str) -> Option<usize> {
    let prefix = usize::from(text.starts_with("b'"));
    let inner = text[prefix..].strip_prefix('\'')?;
    let mut chars = inner.chars();
    let first = chars.next()?;
    if first == '\\' {
        // The character after the backslash may itself be a quote.
        let escape = 1 + chars.next()?.len_utf8();
        let end = inner[escape..].find('\'')? + escape;
        return Some(prefix + 1 + end + 1);
    }
    if chars.next() == Some('\'') {
        return Some(prefix + 1 + first.len_utf8() + 1);
    }
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    Some(prefix + 1 + end)
}

/// Marks every item that stands under an attribute `#[cfg(… test …)]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        let Some(attribute_end) = test_attribute_end(tokens, at) else {
            at += 1;
            continue;
        };
        let end = item_end(tokens, attribute_end + 1);
        for token in &mut tokens[at..=end] {
            token.test = true;
        }
        at = end + 1;
    }
}

fn test_attribute_end(tokens: &[Token], start: usize) -> Option<usize> {
    let texts: Vec<&str> =
        tokens[start..].iter().take(40).map(|token| token.text.as_str()).collect();
    if !texts.starts_with(&["#", "[", "cfg", "("]) {
        return None;
    }
    let end = texts.iter().position(|&text| text == "]")?;
    let inside = &texts[..end];
    (inside.contains(&"test") && !inside.contains(&"not")).then_some(start + end)
}

/// Last token of the item that begins at `start`: its `;`, or its outermost closing brace.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        let ends_item = matches!(token.text.as_str(), "}" | ";");
        if depth == 0 && ends_item {
            return at;
        }
    }
    tokens.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_not_code() {
        let source =
            "let a = \"crate::x // no\"; // crate::y\nlet b = r#\"\"crate::z\"#; /* a\nb */ c";
        let (tokens, comments) = scan(source);
        assert!(tokens.iter().all(|token| token.text != "crate"));
        let comments: Vec<_> = comments.iter().map(|c| (c.text.as_str(), c.line)).collect();
        assert_eq!(comments, [("crate::y", 1), ("a", 2), ("b", 3)]);
        assert_eq!(tokens.last().map(|token| (token.text.as_str(), token.line)), Some(("c", 3)));
    }

    #[test]
    fn chars_are_told_from_lifetimes() {
        let (tokens, _) = scan(r#"fn f<'a>(x: &'a str) { '"'; '\''; b'{'; '\u{7f}'; '"' }"#);
        let braces = tokens.iter().filter(|token| token.text == "{").count();
        assert_eq!(braces, 1);
    }

    #[test]
    fn items_under_cfg_test_are_marked_to_their_end() {
        let source = "#[cfg(test)] #[path = \"x.rs\"] mod a; fn b() {}\n\
                      #[cfg(all(test, unix))] fn c(x: [u8; 2]) { { } } fn d() {}\n\
                      #[cfg(not(test))] fn e() {}";
        let (tokens, _) = scan(source);
        let functions = tokens.iter().zip(&tokens[1..]).filter(|(before, _)| before.text == "fn");
        let marks: Vec<_> = functions.map(|(_, name)| (name.text.as_str(), name.test)).collect();
        assert_eq!(marks, [("b", false), ("c", true), ("d", false), ("e", false)]);
        assert!(tokens.iter().any(|token| token.text == "mod" && token.test));
    }

    #[test]
    fn modules_are_followed() {
        let tree = Tree::planted(&[
            ("src/lib.rs", "mod a;\n#[cfg(test)]\nmod b;"),
            ("src/a/mod.rs", "#[path = \"odd.rs\"] mod c;"),
            ("src/a/odd.rs", ""),
            ("src/b.rs", "mod d;"),
            ("src/b/d.rs", ""),
            ("src/lost.rs", ""),
        ]);
        let state = |path| tree.file(path).map(|file| (file.reached, file.test));
        assert_eq!(state("src/a/odd.rs"), Some((true, false)));
        assert_eq!(state("src/b/d.rs"), Some((true, true)));
        assert_eq!(state("src/lost.rs"), Some((false, true)));
    }
}
