//! Listeners in the file system.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::harness::{ALL, Broker, Carrier, Test, Tunnel, culex};

fn config(path: &Path) -> String {
    let path = path.display();
    format!(
        "[[listener]]\naddress = '127.0.0.1:0'\n\
         [[listener]]\naddress = 'unix:{path}'\nunix_mode = 0o640\n"
    )
}

#[test]
fn clients_come_in_by_a_file() {
    let directory = tempfile::tempdir().unwrap();
    for shards in 1..=2 {
        let path = directory.path().join(format!("{shards}.sock"));
        let broker = Broker::start(shards, &config(&path));
        assert_eq!(broker.addresses[1], format!("unix:{}", path.display()));
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o640);
        for version in ALL {
            let tunnel = Tunnel::open(broker.addresses[1].clone(), Carrier::default());
            let behind = Broker::behind(tunnel.address);
            let mut test = Test::new(&behind, *version, shards, format!("u{version:?}"));
            for name in ["a", "b", "c", "d"] {
                test.run(&format!("{name} connects\n {name} subscribes ~/t q1"));
            }
            test.run("a publishes ~/t q1 p=x\n d gets ~/t q1 p=x\n a gets ~/t q1 p=x\n a leaves");
        }
        broker.terminate();
        assert!(broker.wait().success());
        assert!(!path.exists(), "the file goes with the broker");
    }
}

#[test]
fn what_a_killed_broker_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    // A socket nobody listens on any more.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let broker = Broker::start(1, &config(&path));
    let tunnel = Tunnel::open(broker.addresses[1].clone(), Carrier::default());
    let behind = Broker::behind(tunnel.address);
    Test::new(&behind, ALL[1], 1, "u".to_owned()).run("a connects");
}

#[test]
fn nothing_else_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let fails = |path: &Path| {
        let file = directory.path().join("culex.toml");
        std::fs::write(&file, format!("[[listener]]\naddress = 'unix:{}'\n", path.display()))
            .unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["serve", "-c", file, "--durability", "none"];
        let output = culex(&arguments).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let expected = format!("cannot listen on unix:{}: Address already in use", path.display());
        assert!(text.contains(&expected), "{text}");
        assert!(path.exists());
    };
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    fails(&file);
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let socket = directory.path().join("served");
    let _served = UnixListener::bind(&socket).unwrap();
    fails(&socket);
}
