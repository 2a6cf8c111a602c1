//! Rows A03, A06, A10, A17 and A19, with rules for clients without a user name. Not what the broker
//! says is looked at, but what reaches whom.

use std::process::Stdio;

use crate::broker::culex;
use crate::client::{Client, Event};
use crate::packet::Version;
use crate::siege::{Siege, VERSIONS};

const ROLES: &str = "
[acl.roles.public]
users = [\"anonymous\"]
publish = [\"open/#\", \"own/%c/#\", \"canary/#\"]
subscribe = [\"open/#\", \"own/%c/#\", \"canary/#\", \"mixed/#\"]
deny = [\"open/secret/#\", \"mixed/secret\"]
[acl.roles.boss]
users = [\"boss\"]
publish = [\"#\"]
";

/// Everything that has arrived.
fn topics(client: &mut Client) -> Vec<String> {
    client.say("pingreq");
    let mut topics = Vec::new();
    loop {
        match client.next() {
            Event::Packet(packet) if packet.name == "pingresp" => return topics,
            Event::Packet(packet) => {
                if packet.name == "publish" && packet.topic != "canary/song" {
                    topics.push(packet.topic);
                }
            }
            other @ (Event::Closed | Event::Trouble(_)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn wildcards_reach_nothing_that_is_denied() {
    // A06
    let siege = Siege::lay("A06", ROLES);
    for version in VERSIONS {
        let mut reader = siege.connected(version, "id=a06");
        let refused = if version == Version::V5 { 0x87 } else { 0x80 };
        for (filter, code) in [
            ("#", 0),
            ("+/#", 0),
            ("+/secret", 0),
            ("open/+/x", 0),
            ("$share/g/open/#", 0),
            ("open/secret/#", refused),
            ("open/secret/+", refused),
            ("$share/g/open/secret/x", refused),
            ("$SYS/#", refused),
            ("$CONTROL/#", refused),
            ("$x/#", refused),
            ("own/other/#", refused),
            ("closed/x", refused),
        ] {
            let suback = reader.ask(&format!("subscribe 1 {filter} q0"), "suback");
            assert_eq!(suback.codes, [code], "{version:?} {filter}");
        }
        topics(&mut reader);
        let mut writer = siege.connected(version, "id=a06-w");
        for topic in ["open/secret/x", "own/other/x", "closed/x", "mixed/x", "$x/y"] {
            writer.say(&format!("publish {topic} p=x retain"));
        }
        writer.ask("publish open/x q1 id=1 p=x", "puback");
        let mut found = topics(&mut reader);
        found.sort();
        found.dedup();
        assert_eq!(found, ["open/x"], "{version:?}");
        let mut late = siege.connected(version, "id=a06-late");
        late.ask("subscribe 1 #", "suback");
        assert!(topics(&mut late).is_empty(), "nothing was retained");
    }
    siege.lifted();
}

#[test]
fn refusals_have_their_codes_and_leave_no_trace() {
    // A02, A03, A17, A19
    let siege = Siege::lay("A17", ROLES);
    for topic in ["$SYS/broker/x", "$CONTROL/x", "closed/x", "open/secret/x", "own/#/x"] {
        let mut client = siege.client(Version::V5);
        let connack = client.ask(&format!("connect id=a02 will={topic} wp=x wretain"), "connack");
        assert!(matches!(connack.codes[..], [0x87 | 0x90]), "{topic}: {}", connack.text());
        let mut client = siege.client(Version::V311);
        client.say(&format!("connect id=a02 will={topic} wp=x wretain"));
        let last = client.ended();
        assert!(last.is_none_or(|packet| packet.codes == [5]), "{topic}");
    }
    let mut client = siege.connected(Version::V5, "id=a17");
    for topic in ["$SYS/broker/x", "$CONTROL/x", "closed/x", "open/secret/x"] {
        let puback = client.ask(&format!("publish {topic} q1 id=1 p=x retain"), "puback");
        assert_eq!(puback.codes, [0x87], "{topic}");
        let pubrec = client.ask(&format!("publish {topic} q2 id=2 p=x retain"), "pubrec");
        assert_eq!(pubrec.codes, [0x87], "{topic}");
    }
    client.alive();
    siege.lifted();
}

#[test]
fn names_widen_nothing() {
    // A01
    let siege = Siege::lay("A01", ROLES);
    for name in ["#", "+", "a/b", "/", "a/#", "other/"] {
        for version in VERSIONS {
            let mut client = siege.connected(version, &format!("id={name}"));
            client.ask("subscribe 1 # q0", "suback");
            let code = client.ask(&format!("subscribe 2 own/{name}/x"), "suback").codes[0];
            assert!(code >= 0x80, "{version:?} {name}: {code:#04x}");
            let code = client.ask("subscribe 2 own/+/x", "suback").codes[0];
            assert!(code >= 0x80, "{version:?} {name}: {code:#04x}");
            let mut owner = siege.connected(version, "id=other");
            owner.ask("publish own/other/x q1 id=1 p=x", "puback");
            assert!(topics(&mut client).is_empty(), "{version:?} {name}");
        }
    }
    siege.lifted();
}

#[test]
fn a_file_that_is_not_whole_stops_the_start() {
    // A10
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("culex.toml");
    std::fs::write(&config, "[acl]\nfile = \"acl\"\n").unwrap();
    let acl = directory.path().join("acl");
    let start = || {
        let data = directory.path().join("data");
        let output = culex(&["serve", "-p", "0", "-c", config.to_str().unwrap(), "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (text, error) in [
        (&b"user alice\ntopic readwrite a/#\ntopic read"[..], "acl:3: "),
        (b"user alice\ntop", "acl:2: "),
        (b"topic read a\0b\n", "acl:1: "),
        (b"topic read \xff\n", "acl: "),
        (b"password alice\n", "acl:1: "),
    ] {
        std::fs::write(&acl, text).unwrap();
        let (status, stderr) = start();
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains(error) && !stderr.contains("panicked"), "{stderr}");
    }
    std::fs::remove_file(&acl).unwrap();
    assert_eq!(start().0, Some(1));
    // An empty file is valid, and allows nothing.
    std::fs::write(&acl, "").unwrap();
    let text = format!("[acl]\nfile = \"{}\"\n", acl.display());
    let siege = Siege::lay_tolerant("A10", &text);
    let mut client = siege.connected(Version::V5, "id=a10");
    assert_eq!(client.ask("subscribe 1 #", "suback").codes, [0x87]);
    assert_eq!(client.ask("publish a q1 id=1 p=x", "puback").codes, [0x87]);
    siege.lifted();
}
