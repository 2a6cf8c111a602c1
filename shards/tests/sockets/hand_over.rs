//! A connection moves to another shard with every byte, read or not.

use shards::ConnId;

use crate::common::{Act, Base, Seen, TestIo, pattern, read, read_to_end, settings, start, write};

/// The first byte names the home; the rest of it travels as luggage.
struct ByFirstByte;

impl Act for ByFirstByte {
    fn accept(&mut self, _: &mut Base, _: &mut TestIo, _: ConnId) {}

    fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        if bytes[0] >= 2 {
            return base.write(conn, bytes);
        }
        let home = usize::from(bytes[0]);
        if home == io.shard() {
            io.start_stream(conn);
            base.write(conn, &bytes[1..]);
        } else {
            base.open.retain(|&open| open != conn);
            io.hand_over(conn, home, bytes[1..].to_vec());
            assert!(!io.is_sending(conn));
            io.close(conn);
        }
    }
}

/// Bytes that do not look like the name of a home.
fn letters(count: usize) -> Vec<u8> {
    pattern(count).into_iter().map(|byte| byte | 0x80).collect()
}

#[test]
fn bytes_behind_the_first_arrive_in_order() {
    let rig = start(settings(2), |_| ByFirstByte);
    let bytes = letters(50_000);
    let mut clients: Vec<_> = (0..40).map(|_| rig.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        write(client, &[u8::try_from(index % 2).expect("small")]);
        write(client, &bytes);
    }
    for client in &mut clients {
        assert!(read(client, bytes.len()) == bytes);
    }
}

/// Hands over when the clock says so, while a receive is armed and bytes come in.
struct ByClock;

impl Act for ByClock {
    fn accept(&mut self, base: &mut Base, io: &mut TestIo, _: ConnId) {
        base.deadline = Some(io.now().after(1));
    }

    fn bytes(&mut self, base: &mut Base, _: &mut TestIo, conn: ConnId, bytes: &[u8]) {
        base.write(conn, bytes);
    }

    fn tick(&mut self, base: &mut Base, io: &mut TestIo) {
        for conn in std::mem::take(&mut base.open) {
            if io.shard() == 1 || !base.is_idle(io, conn) {
                base.open.push(conn);
                base.deadline = (io.shard() == 0).then(|| io.now().after(1));
            } else {
                io.hand_over(conn, 1, Vec::new());
            }
        }
    }
}

#[test]
fn an_armed_receive_loses_nothing() {
    let rig = start(settings(2), |_| ByClock);
    let bytes = letters(1 << 20);
    let work: Vec<_> = (0..8)
        .map(|_| {
            let mut client = rig.connect();
            let bytes = bytes.clone();
            std::thread::spawn(move || {
                let mut writer = client.try_clone().expect("a descriptor");
                let sent = bytes.clone();
                let writing = std::thread::spawn(move || {
                    write(&mut writer, &sent);
                    writer.shutdown(std::net::Shutdown::Write).expect("connected");
                });
                assert!(read_to_end(&mut client) == bytes);
                writing.join().expect("all was written");
            })
        })
        .collect();
    for client in work {
        client.join().expect("an echo");
    }
}

#[test]
fn a_silent_connection_moves_too() {
    struct Away;
    impl Act for Away {
        fn accept(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId) {
            base.open.retain(|&open| open != conn);
            io.hand_over(conn, 1 - io.shard(), b"hello".to_vec());
        }
    }
    let rig = start(settings(2), |_| Away);
    for _ in 0..10 {
        let mut client = rig.connect();
        assert_eq!(read(&mut client, 5), b"hello");
    }
    let both = [0, 1].map(Seen::Adopted);
    rig.wait(|seen| both.contains(seen).then_some(()));
}

#[test]
fn who_gave_a_connection_away_is_not_told_of_its_end() {
    /// What a peer that ends just before its connection is handed over comes to.
    struct TooLate;
    impl Act for TooLate {
        fn bytes(&mut self, base: &mut Base, io: &mut TestIo, conn: ConnId, _: &[u8]) {
            io.close(conn);
            base.open.retain(|&open| open != conn);
            io.hand_over(conn, 1 - io.shard(), Vec::new());
        }
    }
    let mut rig = start(settings(2), |_| TooLate);
    for _ in 0..10 {
        let mut client = rig.connect();
        write(&mut client, b"x");
        assert_eq!(read_to_end(&mut client), b"");
    }
    let seen = rig.stop();
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Adopted(_) | Seen::Closed(..))));
}
