//! Runs one script and turns its output into the result of a test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// `timeout` ends a driver that hangs; every case in it has deadlines of its own.
const DEADLINE_S: &str = "400";

/// One script.
#[derive(Clone, Copy)]
pub(crate) enum Driver {
    Paho,
    Mqttjs,
    Mosquitto,
    /// mqtt.js in Chromium.
    Browser,
}

impl Driver {
    /// Runs all its cases; panics with the output if one fails.
    #[track_caller]
    pub(crate) fn run(self, address: &str, variables: &[(&str, PathBuf)]) {
        let clients = installed_clients();
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/foreign");
        let (program, script) = match self {
            Self::Paho => (clients.join("venv/bin/python"), "paho_cases.py"),
            Self::Mqttjs => (PathBuf::from("node"), "mqttjs_cases.js"),
            Self::Mosquitto => (PathBuf::from("python3"), "mosquitto_cases.py"),
            Self::Browser => (PathBuf::from("node"), "browser_cases.js"),
        };
        let output = Command::new("timeout")
            .args(["--kill-after=5", DEADLINE_S])
            .arg(program)
            .arg(scripts.join(script))
            .arg(address)
            .arg(std::env::var("CULEX_TEST_SKIP").unwrap_or_default())
            // Node finds the module `mqtt` from here; Python must not write beside the sources.
            .current_dir(clients)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("timeout is part of coreutils");
        let (status, text) = (output.status, String::from_utf8_lossy(&output.stdout));
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("{text}{errors}");
        assert!(status.success(), "{script}: {status}\n{}", failures(&text));
        assert!(text.contains(", 0 failed"), "{script} ended before its last case");
    }
}

fn failures(text: &str) -> String {
    text.lines().filter(|line| line.starts_with("FAIL")).collect::<Vec<_>>().join("\n")
}

/// Where the pinned clients are; installs them at the first call of a process.
fn installed_clients() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/foreign.sh");
        let output = Command::new(script).arg(&folder).output().expect("the script can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "scripts/foreign.sh (is `make deps` done?):\n{errors}");
        folder
    })
}
