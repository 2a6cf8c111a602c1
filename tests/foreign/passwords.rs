//! Password files go both ways between Culex and Mosquitto.

use crate::broker::Broker;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// Kind of hash, user, password.
const USERS: [(&str, &str, &str); 2] =
    [("sha512", "ada", "secret-a"), ("sha512-pbkdf2", "bob", "secret b: $7$")];

/// Makes a file of [`USERS`] with one of the two programs.
fn make(program: &[&str], file: &Path) {
    for (index, (hash, user, password)) in USERS.iter().enumerate() {
        let (name, args) = program.split_first().expect("a program");
        let mut command = Command::new(name);
        command.args(args);
        if index == 0 {
            command.arg("-c");
        }
        let output = command.args(["-b", "-H", hash]).arg(file).args([user, password]).output();
        let output = output.unwrap_or_else(|error| panic!("{program:?}: {error}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Exit status of `mosquitto_pub` with this name and password.
fn publish(address: &str, version: &str, user: &str, password: &str) -> Option<i32> {
    let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
    let client = ["-h", host, "-p", port, "-V", version, "-u", user, "-P", password];
    let message = ["-t", "t", "-m", "x", "-q", "1"];
    let output = Command::new("mosquitto_pub").args(client).args(message).output();
    output.expect("mosquitto_pub is installed").status.code()
}

#[track_caller]
fn check(address: &str) {
    for version in ["31", "311", "5"] {
        for (hash, user, password) in USERS {
            assert_eq!(publish(address, version, user, password), Some(0), "{hash}, {version}");
            assert_ne!(publish(address, version, user, "wrong"), Some(0), "{hash}, {version}");
        }
        assert_ne!(publish(address, version, "nobody", "secret-a"), Some(0), "{version}");
    }
}

#[test]
fn culex_reads_what_mosquitto_passwd_writes() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("passwd");
    make(&["mosquitto_passwd"], &file);
    // It leaves the file readable by everybody, which is refused.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).expect("an own file");
    for shards in [1, 2] {
        let settings = format!(
            "acl = 'allow-all'\n[[listener]]\naddress = '127.0.0.1:0'\n[auth]\n\
             password_file = {file:?}\nfailures_max = 0\n"
        );
        let broker = Broker::start_with(shards, &settings);
        check(broker.address(0));
        broker.stop();
    }
}

#[test]
fn mosquitto_reads_what_culex_passwd_writes() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("passwd");
    make(&[env!("CARGO_BIN_EXE_culex"), "passwd"], &file);
    // Started as root it reads the file as another user.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&file, mode).expect("an own file");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), mode).expect("an own folder");
    // It takes no port 0, so a port that was free a moment ago has to do.
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let address = free.expect("a port").to_string();
    let port = address.rsplit_once(':').expect("HOST:PORT").1;
    let config = folder.path().join("mosquitto.conf");
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\n",
        file.display()
    );
    std::fs::write(&config, text).expect("the folder can be written");
    let mut broker = Command::new("mosquitto")
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mosquitto is installed");
    let log = BufReader::new(broker.stderr.take().expect("it is piped"));
    let mut lines = log.lines().map_while(Result::ok);
    let runs = lines.any(|line| line.contains("running"));
    let checked = std::panic::catch_unwind(|| {
        assert!(runs, "mosquitto does not start");
        check(&address);
    });
    broker.kill().expect("it is our child");
    broker.wait().expect("it is our child");
    if let Err(panic) = checked {
        std::panic::resume_unwind(panic);
    }
}
