//! What goes in comes out, on one and two shards.

use crate::common::{echo, pattern, read, write};

fn echoes(shards: usize) {
    let rig = echo(shards);
    let mut clients: Vec<_> = (0..20).map(|_| rig.connect()).collect();
    for round in 0..5 {
        for (index, client) in clients.iter_mut().enumerate() {
            write(client, format!("{index}:{round}").as_bytes());
        }
        for (index, client) in clients.iter_mut().enumerate() {
            let expected = format!("{index}:{round}");
            assert_eq!(read(client, expected.len()), expected.as_bytes());
        }
    }
}

#[test]
fn one_shard_echoes() {
    echoes(1);
}

#[test]
fn two_shards_echo() {
    echoes(2);
}

#[test]
fn single_bytes_keep_their_order() {
    let rig = echo(1);
    let mut client = rig.connect();
    let bytes = pattern(3000);
    for byte in &bytes {
        write(&mut client, std::slice::from_ref(byte));
    }
    assert_eq!(read(&mut client, bytes.len()), bytes);
}

#[test]
fn sixteen_megabytes_come_back_whole() {
    let rig = echo(1);
    let mut client = rig.connect();
    let bytes = pattern(16 << 20);
    let mut writer = client.try_clone().expect("a descriptor");
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || write(&mut writer, &sent));
    assert!(read(&mut client, bytes.len()) == bytes);
    writing.join().expect("all was written");
}

#[test]
fn accepted_sockets_send_without_delay() {
    // Inherited from the listener; a delayed second piece would take 40 ms per round.
    let rig = echo(1);
    let mut client = rig.connect();
    let start = shards::clock::unix_ms();
    for _ in 0..100 {
        write(&mut client, b"a");
        write(&mut client, b"b");
        assert_eq!(read(&mut client, 2), b"ab");
    }
    assert!(shards::clock::unix_ms() - start < 100 * 40);
}
