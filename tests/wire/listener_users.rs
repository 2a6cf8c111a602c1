//! Listeners with users and rules of their own.

use std::net::TcpStream;
use std::path::Path;

use crate::harness::{Broker, Client, V5, Version, compose, culex, each_with};
use crate::listeners_reload::until;

const MEMORY: &str = "durability = 'none'\nacl = 'allow-all'\n";

fn passwd(file: &Path, user: &str, password: &str) {
    let options = ["passwd", "-H", "sha512", "-c", "-b"];
    let output = culex(&options).arg(file).args([user, password]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Ada of the first listener has another password than ada of the second.
fn two_adas() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    passwd(&place("first"), "ada", "one");
    passwd(&place("second"), "ada", "two");
    std::fs::write(place("rules"), "user ada\ntopic readwrite own/#\n").unwrap();
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n";
    let (first, second, rules) = (place("first"), place("second"), place("rules"));
    let config = format!(
        "acl = 'allow-all'\n{listener}password_file = {first:?}\n\
         {listener}password_file = {second:?}\nacl_file = {rules:?}\n\
         {listener}allow_anonymous = true\n"
    );
    (folder, config)
}

fn connect(broker: &Broker, listener: usize, line: &str) -> (Client, u8) {
    let mut client = Client::open(broker.listener(listener), Version::V5);
    client.write(&compose(line, Version::V5, ""));
    let code = client.packet().codes[0];
    (client, code)
}

#[test]
fn one_name_is_two_users() {
    let (_folder, config) = two_adas();
    each_with(&config, V5, |test| {
        let code = |listener, line: &str| connect(test.broker, listener, line).1;
        assert_eq!(code(0, "connect id=x user=ada pass=two"), 0x86);
        assert_eq!(code(1, "connect id=x user=ada pass=one"), 0x86);
        assert_eq!(code(2, "connect id=x user=ada pass=any"), 0, "names mean nothing here");
        let (mut owner, code) = connect(test.broker, 0, "connect id=s user=ada pass=one expiry=60");
        assert_eq!(code, 0);
        let (_, code) = connect(test.broker, 1, "connect id=s user=ada pass=two");
        assert_eq!(code, 0x87, "the session is that of the other ada");
        owner.write(&compose("pingreq", Version::V5, ""));
        assert_eq!(owner.packet().name, "pingresp", "who is there stays");
    });
}

#[test]
fn rules_hold_at_their_listener() {
    let (_folder, config) = two_adas();
    each_with(&config, V5, |test| {
        let publish = |listener, user: &str, topic: &str| {
            let (mut client, code) = connect(test.broker, listener, &format!("connect {user}"));
            assert_eq!(code, 0);
            client.write(&compose(&format!("publish {topic} q1 id=1"), Version::V5, ""));
            client.packet().codes[0]
        };
        assert_eq!(publish(0, "user=ada pass=one", "other"), 0x10);
        assert_eq!(publish(1, "user=ada pass=two", "own/x"), 0x10);
        assert_eq!(publish(1, "user=ada pass=two", "other"), 0x87);
        assert_eq!(publish(2, "", "other"), 0x10);
    });
}

#[test]
fn a_reload_changes_rules_of_a_listener_for_who_is_there() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let (folder, config) = two_adas();
    let config = config.replace("acl = 'allow-all'\n", MEMORY);
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::launch(directory, "culex.toml", &config, &["--shards", "2"], &[]);
    let (mut ada, code) = connect(&broker, 1, "connect user=ada pass=two");
    assert_eq!(code, 0);
    let mut publish = |topic: &str| {
        ada.write(&compose(&format!("publish {topic} q1 id=1"), Version::V5, ""));
        ada.packet().codes[0]
    };
    assert_eq!((publish("own/x"), publish("new/x")), (0x10, 0x87));
    std::fs::write(folder.path().join("rules"), "user ada\ntopic write new/#\n").unwrap();
    broker.signal("-HUP");
    broker.line("settings read again");
    // A turn that had begun before may still serve by the old rules.
    until(|| publish("own/x") == 0x87);
    assert_eq!(publish("new/x"), 0x10);
    // A file that is wrong leaves everything as it was.
    std::fs::write(folder.path().join("rules"), "user ada\ntopic rite new/#\n").unwrap();
    broker.signal("-HUP");
    broker.line("rules:2:");
    assert_eq!((publish("own/x"), publish("new/x")), (0x87, 0x10));
}

#[test]
fn a_session_from_the_log_is_asked_again_when_its_client_comes() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let (folder, config) = two_adas();
    let data = folder.path().join("data");
    let config = format!("data_dir = {data:?}\nlog_segment_bytes = 1048576\n{config}");
    let launch = || {
        let directory = tempfile::tempdir().unwrap();
        Broker::launch(directory, "culex.toml", &config, &["--shards", "2"], &[])
    };
    let broker = launch();
    let again = "connect id=s user=ada pass=two clean=0 expiry=60";
    let (mut ada, code) = connect(&broker, 1, again);
    assert_eq!(code, 0);
    ada.write(&compose("subscribe 1 # q1", Version::V5, ""));
    assert_eq!(ada.packet().name, "suback");
    drop(ada);
    broker.terminate();
    assert!(broker.wait().success());
    let broker = launch();
    let (mut other, _) = connect(&broker, 2, "connect");
    for (id, topic) in [(1, "other"), (2, "own/x")] {
        other.write(&compose(&format!("publish {topic} q1 id={id}"), Version::V5, ""));
        assert_eq!(other.packet().name, "puback");
    }
    let (mut ada, code) = connect(&broker, 1, again);
    assert_eq!(code, 0);
    assert_eq!(ada.packet().topic, "own/x", "what the rules of its listener allow");
    ada.write(&compose("pingreq", Version::V5, ""));
    assert_eq!(ada.packet().name, "pingresp");
}

/// Starts a broker with the first file, and reads the second one in its place when it is asked to.
struct Reloading {
    broker: Broker,
    next: String,
}

impl Reloading {
    /// `head` and the first listener stay; the second goes.
    fn new(head: &str, stays: &str, goes: &str) -> Reloading {
        let listener = "[[listener]]\naddress = '127.0.0.1:0'\n";
        let next = format!("{head}{listener}{stays}");
        let directory = tempfile::tempdir().unwrap();
        let first = format!("{next}{listener}{goes}");
        // One shard takes connections in their order.
        let broker = Broker::launch(directory, "culex.toml", &first, &["--shards", "1"], &[]);
        Reloading { broker, next }
    }

    /// The second listener goes, and no shard listens there any more.
    fn close(&self) {
        std::fs::write(self.broker.directory().join("culex.toml"), &self.next).unwrap();
        self.broker.signal("-HUP");
        let address = self.broker.listener(1);
        self.broker.line(&format!("those there are stay address={address}"));
        until(|| TcpStream::connect(address).is_err());
    }
}

#[test]
fn nobody_comes_in_where_a_listener_was() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let (folder, _) = two_adas();
    let file = |name: &str| format!("password_file = {:?}\n", folder.path().join(name));
    let auth = format!("[auth]\n{}", file("second"));
    let anonymous = "connect id=a";
    // What would be let in at the other listener, or by the users of the broker.
    for (auth, stays) in [("", "allow_anonymous = true\n"), (&*auth, "")] {
        let head = format!("{MEMORY}{auth}");
        let reloading = Reloading::new(&head, stays, &file("first"));
        let broker = &reloading.broker;
        let mut before: Vec<_> =
            (0..3).map(|_| Client::open(broker.listener(1), Version::V5)).collect();
        assert_eq!(connect(broker, 1, anonymous).1, 0x87, "those before were taken too");
        let (mut stays, code) = connect(broker, 1, "connect id=s user=ada pass=one");
        assert_eq!(code, 0);
        reloading.close();
        let lines = [anonymous, "connect id=a user=ada pass=two", "connect id=a user=ada pass=one"];
        for (client, line) in before.iter_mut().zip(lines) {
            client.write(&compose(line, Version::V5, ""));
            assert_eq!(client.packet().codes, [0x88], "{line}");
        }
        stays.write(&compose("pingreq", Version::V5, ""));
        assert_eq!(stays.packet().name, "pingresp", "who is there stays");
    }
}

#[test]
fn a_session_from_the_log_is_that_of_its_owner_among_those_of_one_name() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let (folder, config) = two_adas();
    passwd(&folder.path().join("third"), "ada", "three");
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n";
    let third = folder.path().join("third");
    let data = folder.path().join("data");
    // The fourth listener has the users of the broker.
    let config = format!(
        "data_dir = {data:?}\nlog_segment_bytes = 1048576\n{config}{listener}\
         [auth]\npassword_file = {third:?}\n"
    );
    let launch = |shards: &str| {
        let directory = tempfile::tempdir().unwrap();
        Broker::launch(directory, "culex.toml", &config, &["--shards", shards], &[])
    };
    let line = |id, password| format!("connect id={id} user=ada pass={password} clean=0 expiry=60");
    let owners = [(0, "one"), (1, "two"), (3, "three")];
    let mut broker = launch("2");
    for (listener, password) in owners {
        assert_eq!(connect(&broker, listener, &line(password, password)).1, 0);
    }
    // The second time they move to other shards.
    for shards in ["2", "3"] {
        broker.terminate();
        assert!(broker.wait().success());
        broker = launch(shards);
        for (listener, password) in owners {
            for (owner, id) in owners {
                let (client, code) = connect(&broker, listener, &line(id, password));
                assert_eq!(code, if owner == listener { 0 } else { 0x87 }, "{id} by {password}");
                drop(client);
            }
        }
    }
}

#[test]
fn a_retained_message_goes_with_the_right_that_its_listener_gave() {
    if std::env::var("CULEX_TEST_ADDRESS").is_ok() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules");
    let file = |right| std::fs::write(&rules, format!("topic {right} own/#\n")).unwrap();
    file("readwrite");
    // The rules of the broker allow everything, and no listener follows them.
    let config = format!(
        "{MEMORY}[[listener]]\naddress = '127.0.0.1:0'\nallow_anonymous = true\n\
         acl_file = {rules:?}\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let broker = Broker::launch(directory, "culex.toml", &config, &["--shards", "1"], &[]);
    let (mut writer, code) = connect(&broker, 0, "connect");
    assert_eq!(code, 0);
    writer.write(&compose("publish own/x q1 id=1 retain p=kept", Version::V5, ""));
    assert_eq!(writer.packet().name, "puback");
    let is_kept = || {
        let (mut reader, code) = connect(&broker, 0, "connect");
        assert_eq!(code, 0);
        reader.write(&compose("subscribe 1 own/x", Version::V5, ""));
        assert_eq!(reader.packet().codes, [0]);
        reader.write(&compose("pingreq", Version::V5, ""));
        reader.packet().name == "publish"
    };
    until(is_kept);
    file("read");
    broker.signal("-HUP");
    until(|| !is_kept());
}
