//! Who may use whom (docs/ARCHITECTURE.md), and what the pure modules must not touch.

use crate::source::{File, Token, Tree};

/// How much of the crate `shards` a module may name.
#[derive(PartialEq)]
enum Engine {
    None,
    /// `Millis`: time is an argument, and it has one type.
    Time,
    /// Time, connection ids, timing wheel, output buffers; nothing that acts.
    Pure,
    Whole,
}

/// One module of `src/`.
struct Row {
    module: &'static str,
    uses: &'static [&'static str],
    engine: Engine,
    /// Takes bytes, packets, mail and time as arguments and returns effects.
    pure: bool,
}

const LADDER: &[Row] = &[
    row("codec", &[], Engine::None, true),
    row("topic", &["codec"], Engine::None, true),
    row("session", &["codec", "topic"], Engine::Time, true),
    row("access", &["codec", "topic"], Engine::None, true),
    // Session for the number of causes that its counters have; time for limits and caches.
    row("auth", &["codec", "session", "access"], Engine::Time, true),
    row("store", &["codec", "topic", "session"], Engine::Pure, true),
    row("shard", &["codec", "topic", "session", "access", "auth", "store"], Engine::Pure, true),
    // Its state is what a connection brings to a shard, so it speaks the shard's `Peer`.
    row("transport", &["access", "shard"], Engine::Pure, true),
    // Threads that wait for password hashes and for HTTP.
    row("gate", &["auth"], Engine::Whole, false),
    row(
        "edge",
        &["codec", "topic", "access", "auth", "store", "shard", "transport", "gate"],
        Engine::Whole,
        false,
    ),
    row("peer", &["codec", "topic", "shard"], Engine::Whole, false),
    row("admin", &["codec", "topic", "shard"], Engine::Whole, false),
    row(
        "config",
        &["codec", "topic", "session", "access", "store", "shard", "edge", "peer", "admin"],
        Engine::Whole,
        false,
    ),
    row(
        "broker",
        &[
            "codec",
            "session",
            "access",
            "auth",
            "store",
            "shard",
            "gate",
            "transport",
            "edge",
            "peer",
            "admin",
            "config",
        ],
        Engine::Whole,
        false,
    ),
    row(
        "cli",
        &[
            "codec", "topic", "session", "access", "auth", "store", "shard", "gate", "edge",
            "peer", "admin", "config", "broker",
        ],
        Engine::Whole,
        false,
    ),
];

const fn row(
    module: &'static str,
    uses: &'static [&'static str],
    engine: Engine,
    pure: bool,
) -> Row {
    Row { module, uses, engine, pure }
}

/// What `shards` has beyond data and pure computation.
const ENGINE_THAT_ACTS: &[&str] = &[
    "Handler",
    "Io",
    "Net",
    "Running",
    "Settings",
    "clock",
    "doorbell",
    "engine",
    "mesh",
    "net",
    "placement",
    "start",
];

/// Names that mean I/O, time, threads or shared state.
const IMPURE_NAMES: &[&str] = &[
    "Condvar",
    "Instant",
    "Mutex",
    "RwLock",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "async",
    "await",
    "eprintln",
    "println",
    "thread_rng",
];

/// The same, as modules of `std`.
const IMPURE_STD: &[&str] = &["env", "fs", "os", "process", "thread"];

/// Crates that only `shards/` may name.
const ENGINE_CRATES: &[&str] = &["glommio", "io_uring", "libc"];

/// Each module of `src/` uses only modules below it, and of the engine what its row says.
pub(crate) fn modules(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(row) = LADDER.iter().find(|row| row.module == module) else {
            findings.push(format!("{}:1: module {module} has no row in the ladder", file.path));
            continue;
        };
        for (at, token) in file.product_tokens() {
            for used in upward(file, at, token, row) {
                let Token { text, line, .. } = used;
                findings.push(format!("{}:{line}: {module} may not use {text}", file.path));
            }
        }
        findings.extend(supers_to_the_root(file));
    }
    findings
}

/// What the path beginning at `token` names although `row` does not allow it.
fn upward<'a>(file: &'a File, at: usize, token: &'a Token, row: &Row) -> Vec<&'a Token> {
    let mut heads = file.path_heads(at);
    match token.text.as_str() {
        "crate" => heads.retain(|head| {
            let name = head.text.as_str();
            name != row.module && !row.uses.contains(&name)
        }),
        "shards" if file.begins_path(at) => match row.engine {
            Engine::None => {}
            Engine::Time => heads.retain(|head| head.text != "Millis"),
            Engine::Pure => heads.retain(|head| ENGINE_THAT_ACTS.contains(&head.text.as_str())),
            Engine::Whole => heads.clear(),
        },
        _ => heads.clear(),
    }
    heads
}

/// `super::` chains that leave the module: they would hide a use from the check above.
fn supers_to_the_root(file: &File) -> Vec<String> {
    let parts = file.path.split('/').count() - 1;
    let file_depth = if file.path.ends_with("/mod.rs") { parts - 1 } else { parts };
    let mut findings = Vec::new();
    let mut blocks = Vec::new();
    let mut supers = 0;
    for (at, token) in file.tokens.iter().enumerate() {
        match token.text.as_str() {
            "{" => blocks.push(at >= 2 && file.is(at - 2, "mod")),
            "}" => {
                blocks.pop();
            }
            _ => {}
        }
        match token.text.as_str() {
            "super" => supers += 1,
            ":" => {}
            _ => supers = 0,
        }
        let depth = file_depth + blocks.iter().filter(|inline| **inline).count();
        if supers >= depth && token.text == "super" {
            let Token { line, .. } = token;
            findings.push(format!("{}:{line}: super:: leaves the module, say crate::", file.path));
        }
    }
    findings
}

/// The core modules have no I/O, no clock, no threads and no shared state.
pub(crate) fn purity(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust() {
        let row = module_of(&file.path).and_then(|m| LADDER.iter().find(|row| row.module == m));
        if !row.is_some_and(|row| row.pure) {
            continue;
        }
        for (at, token) in file.product_tokens() {
            let name = token.text.as_str();
            let mut impure = Vec::new();
            if IMPURE_NAMES.contains(&name) || name.starts_with("Atomic") || is_engine(file, at) {
                impure.push(token);
            }
            if name == "std" && file.begins_path(at) {
                impure.extend(file.path_heads(at));
                impure.retain(|head| IMPURE_STD.contains(&head.text.as_str()));
            }
            for Token { text, line, .. } in impure {
                findings.push(format!("{}:{line}: {text} in a pure module", file.path));
            }
        }
    }
    findings
}

/// glommio, io-uring and libc stay in `shards/`; tests and tools obey too.
pub(crate) fn confinement(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| !file.path.starts_with("shards/")) {
        for (at, Token { text, line, .. }) in file.tokens.iter().enumerate() {
            if is_engine(file, at) {
                findings.push(format!("{}:{line}: {text} outside shards/", file.path));
            }
        }
    }
    findings
}

/// Is it one of the engine's crates, rather than a field or function of the same name?
fn is_engine(file: &File, at: usize) -> bool {
    let named = ENGINE_CRATES.iter().any(|name| file.is(at, name));
    let imported = at > 0 && (file.is(at - 1, "use") || file.is(at - 1, "crate"));
    named && file.begins_path(at) && (imported || !file.path_heads(at).is_empty())
}

/// `src/topic/tree.rs` and `src/topic.rs` belong to `topic`; the crate roots to nobody.
fn module_of(path: &str) -> Option<&str> {
    let below = path.strip_prefix("src/")?;
    if matches!(below, "lib.rs" | "main.rs") || below.starts_with("bin/") {
        return None;
    }
    Some(below.split_once('/').map_or(below.trim_end_matches(".rs"), |(module, _)| module))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "mod codec; mod topic; mod session; mod shard; mod edge; mod util;";

    fn plant(path: &str, text: &str) -> Tree {
        Tree::planted(&[("src/lib.rs", ROOT), (path, text)])
    }

    #[track_caller]
    fn check(found: &[String], expected: &[&str]) {
        assert_eq!(found, expected);
    }

    #[test]
    fn upward_use_is_found() {
        let tree = plant("src/topic/mod.rs", "use crate::codec::Qos;\nuse crate::shard::Shard;");
        check(&modules(&tree), &["src/topic/mod.rs:2: topic may not use shard"]);
    }

    #[test]
    fn upward_use_in_a_group_or_path_is_found() {
        let tree = plant(
            "src/session/mod.rs",
            "use crate::{codec::{Qos, Version}, edge::tcp};\nfn f() { crate::shard::g() }",
        );
        let expected = [
            "src/session/mod.rs:1: session may not use edge",
            "src/session/mod.rs:2: session may not use shard",
        ];
        check(&modules(&tree), &expected);
    }

    #[test]
    fn module_without_a_row_is_found() {
        let tree = plant("src/util.rs", "");
        check(&modules(&tree), &["src/util.rs:1: module util has no row in the ladder"]);
    }

    #[test]
    fn engine_is_allowed_by_row() {
        let text = "use shards::{Millis, Io};\nuse crate::session::shards::Io as Other;";
        check(&modules(&plant("src/edge/mod.rs", "use shards::Io;")), &[]);
        check(
            &modules(&plant("src/shard/mod.rs", text)),
            &["src/shard/mod.rs:1: shard may not use Io"],
        );
        let text = "use shards::{Millis, ConnId};";
        let found = modules(&plant("src/session/mod.rs", text));
        check(&found, &["src/session/mod.rs:1: session may not use ConnId"]);
        let found = modules(&plant("src/topic/mod.rs", "fn f(now: shards::Millis) {}"));
        check(&found, &["src/topic/mod.rs:1: topic may not use Millis"]);
    }

    #[test]
    fn super_may_not_reach_the_root() {
        let tree = plant(
            "src/topic/mod.rs",
            "use super::shard;\nmod a {\n use super::b; }\nmod c { use super::super::edge; }",
        );
        let expected = [
            "src/topic/mod.rs:1: super:: leaves the module, say crate::",
            "src/topic/mod.rs:4: super:: leaves the module, say crate::",
        ];
        check(&modules(&tree), &expected);
    }

    #[test]
    fn tests_may_look_around() {
        let text = "#[cfg(test)]\nmod tests { use crate::edge::x; use std::fs; }";
        check(&modules(&plant("src/topic/mod.rs", text)), &[]);
        check(&purity(&plant("src/topic/mod.rs", text)), &[]);
    }

    #[test]
    fn impurity_is_found() {
        let text = "use std::net::SocketAddr;\nuse std::{fs, net::TcpStream};\n\
                    async fn f() { std::time::Instant::now(); }\nuse std::sync::atomic::AtomicU8;";
        let expected = [
            "src/shard/mod.rs:2: fs in a pure module",
            "src/shard/mod.rs:2: TcpStream in a pure module",
            "src/shard/mod.rs:3: async in a pure module",
            "src/shard/mod.rs:3: Instant in a pure module",
            "src/shard/mod.rs:4: AtomicU8 in a pure module",
        ];
        check(&purity(&plant("src/shard/mod.rs", text)), &expected);
        check(&purity(&plant("src/edge/mod.rs", text)), &[]);
    }

    #[test]
    fn engine_crates_are_confined() {
        let text = "use glommio::Task;\nfn f() { libc::getpid(); host.io_uring; }\nlet libc = 1;";
        let expected = [
            "src/edge/mod.rs:1: glommio outside shards/",
            "src/edge/mod.rs:2: libc outside shards/",
        ];
        check(&confinement(&plant("src/edge/mod.rs", text)), &expected);
        check(&confinement(&Tree::planted(&[("shards/src/lib.rs", text)])), &[]);
    }
}
