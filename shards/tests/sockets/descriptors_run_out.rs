//! Without descriptors new clients are turned away; those inside are served, and later ones too.

use std::io::{Read, Write};
use std::net::TcpStream;

use socket2::{Domain, Socket, Type};

use crate::common::{
    PATIENCE, Plain, Rig, Seen, alone, assert_passed, echo, is_alone, read, settings, start,
    wait_over, write,
};

#[test]
fn descriptors_short_pauses_accepting() {
    if !is_alone() {
        let name = "descriptors_run_out::descriptors_short_pauses_accepting";
        return assert_passed(&alone(name, "ulimit -n 128;"));
    }
    let rig = echo(1);
    let (inside, refused) = fill(&rig);
    assert!(inside.len() > 10 && refused, "{} inside", inside.len());
    let mut inside = inside;
    for client in &mut inside {
        write(client, b"still here");
        assert_eq!(read(client, 10), b"still here");
    }
    drop(inside);
    let (_, stats) = rig.wait_closed();
    assert!(stats.accept_errors > 0 && stats.refused > 0);
    // Accepting goes on after the pause; until descriptors are back a client may be turned away.
    while !is_served(&rig) {}
}

fn is_served(rig: &Rig) -> bool {
    let Ok(mut client) = TcpStream::connect(rig.address) else { return false };
    client.write_all(b"x").is_ok() && matches!(client.read(&mut [0]), Ok(1))
}

/// Connects until a client is turned away. Both ends share this process and its limit, so the
/// clients take their descriptors first.
fn fill(rig: &Rig) -> (Vec<TcpStream>, bool) {
    let clients: Vec<_> = (0..70)
        .map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor"))
        .collect();
    let mut inside = Vec::new();
    for client in clients {
        client.connect(&rig.address.into()).expect("the engine listens");
        let mut client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        if client.write_all(b"x").is_err() || !matches!(client.read(&mut [0]), Ok(1)) {
            return (inside, true);
        }
        inside.push(client);
    }
    (inside, false)
}

#[test]
fn connections_max_is_kept() {
    for max in [1, 3] {
        let mut settings = settings(1);
        settings.connections_max = max;
        let rig = start(settings, |_| Plain);
        let mut inside: Vec<_> = (0..max).map(|_| rig.connect()).collect();
        for _ in 0..max {
            rig.wait(|seen| matches!(seen, Seen::Accepted(_)).then_some(()));
        }
        wait_over(&mut rig.connect());
        for client in &mut inside {
            write(client, b"in");
            assert_eq!(read(client, 2), b"in");
        }
        inside.pop();
        rig.wait_closed();
        write(&mut rig.connect(), b"x");
        rig.wait(|seen| matches!(seen, Seen::Bytes(1)).then_some(()));
    }
}
