//! What listeners offer, at a real broker: from `mosquitto.conf`, and changed by a reload.

use std::net::{SocketAddr, TcpListener};

use crate::harness::{Broker, Client, V5, Version, compose, each_with};

fn is_foreign() -> bool {
    std::env::var("CULEX_TEST_ADDRESS").is_ok()
}

fn launch(name: &str, config: &str) -> Broker {
    let directory = tempfile::tempdir().unwrap();
    Broker::launch(directory, name, config, &["--shards", "2"], &[])
}

/// A client, and the text of its CONNACK.
fn connect(address: SocketAddr, version: Version, id: &str) -> (Client, String) {
    let mut client = Client::open(address, version);
    client.write(&compose(&format!("connect id={id}"), version, ""));
    let text = client.packet().text();
    (client, text)
}

fn send(client: &mut Client, text: &str) -> String {
    client.write(&compose(text, Version::V5, ""));
    client.packet().text()
}

#[test]
fn options_of_a_mosquitto_listener() {
    if is_foreign() {
        return;
    }
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let held = [free(), free(), free(), free()];
    let at = held.map(|socket| socket.local_addr().unwrap());
    let config = format!(
        "allow_anonymous true\nauto_id_prefix all-\nmessage_size_limit 5\nlistener {} 127.0.0.1\n\
         listener {} 127.0.0.1\nmount_point plant/\nmax_qos 1\nmax_topic_alias 3\n\
         listener {} 127.0.0.1\naccept_protocol_versions 4\nlistener_auto_id_prefix third-\n\
         listener {} 127.0.0.1\n",
        at[0].port(),
        at[1].port(),
        at[2].port(),
        at[3].port()
    );
    let _broker = launch("mosquitto.conf", &config);
    let (mut plain, connack) = connect(at[0], Version::V5, "plain");
    assert!(connack.contains("amax=10") && !connack.contains("maxq"), "{connack}");
    // [MQTT-3.2.2-9]
    let (mut inside, connack) = connect(at[1], Version::V5, "inside");
    assert!(connack.contains("amax=3") && connack.contains("maxq=1"), "{connack}");
    assert_eq!(send(&mut plain, "subscribe 1 # q2"), "suback 1 0x02");
    assert_eq!(send(&mut inside, "subscribe 1 a/+ q2"), "suback 1 0x01");
    inside.write(&compose("publish a/b q1 id=7 p=x", Version::V5, ""));
    let mut got = [inside.packet().text(), inside.packet().text()];
    got.sort();
    assert!(got[0].starts_with("puback 7") && got[1].starts_with("publish a/b q1"), "{got:?}");
    let at_plain = plain.packet().text();
    assert!(at_plain.starts_with("publish plant/a/b q1"), "{at_plain}");
    // MQTT 5.0 §3.4.2.1: 0x97; nobody gets it.
    let refused = send(&mut plain, "publish a q1 id=9 p=123456");
    assert!(refused.starts_with("puback 9") && refused.contains("0x97"), "{refused}");
    // [MQTT-3.2.2-11]: the client may not; 0x9b
    let ended = send(&mut inside, "publish a q2 id=8 p=x");
    assert!(ended.starts_with("disconnect") && ended.contains("0x9b"), "{ended}");
    let (_, connack) = connect(at[2], Version::V5, "five");
    assert!(connack.contains("0x84"), "{connack}");
    let (_, connack) = connect(at[2], Version::V311, "four");
    assert!(connack.starts_with("connack"), "{connack}");
    let (_, connack) = connect(at[3], Version::V5, "");
    assert!(connack.contains("assigned=all-"), "{connack}");
}

#[test]
fn what_connack_says_changes_for_those_who_come_then() {
    if is_foreign() {
        return;
    }
    let listener = "durability = 'none'\n[[listener]]\naddress = '127.0.0.1:0'\n";
    let with = |listener_keys: &str, packet: u32, window: u16, aliases: u16| {
        format!(
            "{listener}{listener_keys}[limits]\npacket_bytes_max = {packet}\n\
             receive_maximum = {window}\ntopic_alias_maximum = {aliases}\n"
        )
    };
    let broker = launch("culex.toml", &with("", 5000, 50, 5));
    let (mut old, connack) = connect(broker.address, Version::V5, "old");
    assert!(connack.contains("max=5000") && connack.contains("rmax=50"), "{connack}");
    let file = broker.directory().join("culex.toml");
    std::fs::write(&file, with("max_qos = 0\n", 1000, 10, 0)).unwrap();
    broker.signal("-HUP");
    let line = broker.line("settings read again");
    assert!(!line.contains("keys"), "{line}");
    let (mut new, connack) = connect(broker.address, Version::V5, "new");
    let words = ["max=1000", "rmax=10", "maxq=0"];
    assert!(words.iter().all(|word| connack.contains(word)), "{connack}");
    assert!(!connack.contains("amax"), "{connack}");
    let large = format!("publish a q1 id=1 alias=5 p={}", "x".repeat(3000));
    assert!(send(&mut old, &large).starts_with("puback 1"), "what was promised holds");
    let ended = send(&mut new, &format!("publish a p={}", "x".repeat(3000)));
    assert!(ended.contains("0x95"), "{ended}");
}

#[test]
fn versions_have_to_be_spoken() {
    let config = "[[listener]]\naddress = '127.0.0.1:0'\nmqtt_versions = ['3.1', '3.1.1']\n";
    // [MQTT-3.1.2-2]
    each_with(config, V5, |test| test.run("a > connect id=~a\n a < connack 0x84\n a < closed"));
}
