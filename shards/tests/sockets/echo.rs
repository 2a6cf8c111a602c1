//! What goes in comes out, on one and two shards.

use crate::common::{Behaviour, Seen, pattern, read, write};

fn echoes(shards: usize) {
    let rig = crate::common::echo(shards);
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
    let rig = crate::common::echo(1);
    let mut client = rig.connect();
    let bytes = pattern(3000);
    for byte in &bytes {
        write(&mut client, std::slice::from_ref(byte));
    }
    assert_eq!(read(&mut client, bytes.len()), bytes);
}

#[test]
fn sixteen_megabytes_come_back_whole() {
    let rig = crate::common::echo(1);
    let mut client = rig.connect();
    let bytes = pattern(16 << 20);
    let mut writer = client.try_clone().expect("a descriptor");
    let sent = bytes.clone();
    let writing = std::thread::spawn(move || write(&mut writer, &sent));
    assert!(read(&mut client, bytes.len()) == bytes);
    writing.join().expect("all was written");
}

#[test]
fn handed_over_connections_keep_their_bytes() {
    let mut settings = crate::common::settings(2);
    settings.buffers = 8;
    let mut rig = crate::common::with(settings, Behaviour { homes: Some(2), echo: true });
    let mut clients: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let home = u8::try_from(index % 2).expect("small");
        write(client, &[home]);
        write(client, b"after");
        write(client, &vec![b'x'; 20_000]);
        write(client, b"end");
    }
    for client in &mut clients {
        let all = read(client, 20_008);
        assert!(all.starts_with(b"after") && all.ends_with(b"end"));
    }
    rig.wait(|seen| matches!(seen, Seen::Adopted(..)).then_some(()));
}
