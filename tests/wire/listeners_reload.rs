//! Listeners that come, go and change while the broker serves.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::harness::{Authority, Broker, Client, Version, compose};

const MEMORY: &str = "durability = 'none'\n";
const LOCAL: &str = "[[listener]]\naddress = '127.0.0.1:0'\n";

fn is_foreign() -> bool {
    std::env::var("CULEX_TEST_ADDRESS").is_ok()
}

/// A TOML broker whose file tests write again.
fn start(shards: usize, listeners: &str) -> Broker {
    let directory = tempfile::tempdir().unwrap();
    let config = format!("{MEMORY}{listeners}");
    let shards = shards.to_string();
    Broker::launch(directory, "culex.toml", &config, &["--shards", &shards], &[])
}

/// Writes the file again and waits for the line that says what came of it.
fn reload(broker: &Broker, listeners: &str, line: &str) -> String {
    let config = format!("{MEMORY}{listeners}");
    std::fs::write(broker.directory().join("culex.toml"), config).unwrap();
    broker.signal("-HUP");
    broker.line(line)
}

fn connected(address: SocketAddr, id: &str) -> Client {
    let mut client = Client::open(address, Version::V5);
    client.write(&compose(&format!("connect id={id}"), Version::V5, ""));
    assert_eq!(client.packet().codes, [0], "{id}");
    client
}

fn is_alive(client: &mut Client) {
    client.write(&compose("pingreq", Version::V5, ""));
    assert_eq!(client.packet().name, "pingresp");
}

/// A port that is free now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The shards close their sockets at their next turns.
fn refuses(address: SocketAddr) {
    until(|| TcpStream::connect(address).is_err());
}

#[test]
fn one_comes_and_one_goes_and_connections_stay() {
    if is_foreign() {
        return;
    }
    for shards in 1..=2 {
        let broker = start(shards, &LOCAL.repeat(2));
        let (first, second) = (broker.listener(0), broker.listener(1));
        let mut stays: Vec<_> = (0..4).map(|n| connected(first, &format!("f{n}"))).collect();
        stays.extend((0..4).map(|n| connected(second, &format!("s{n}"))));
        let new = free();
        let more = format!("{LOCAL}{LOCAL}[[listener]]\naddress = '{new}'\nmax_connections = 2\n");
        reload(&broker, &more, &format!("listening address={new}"));
        let held = [connected(new, "n0"), connected(new, "n1")];
        let mut third = Client::open(new, Version::V5);
        third.write(&compose("connect id=n2", Version::V5, ""));
        assert_eq!(third.packet().codes, [0x97], "its own limit holds");
        drop(held);
        // Now the second goes; the third stays, with another limit.
        let less = format!("{LOCAL}[[listener]]\naddress = '{new}'\n");
        let gone =
            format!("no new connections are taken here; those there are stay address={second}");
        reload(&broker, &less, &gone);
        refuses(second);
        let _many: Vec<_> = (0..3).map(|n| connected(new, &format!("m{n}"))).collect();
        let _first = connected(first, "f9");
        stays.iter_mut().for_each(is_alive);
        // And comes back at the same port.
        let back = format!("{less}[[listener]]\naddress = '{second}'\nbacklog = 9\n");
        reload(&broker, &back, "settings read again");
        until(|| TcpStream::connect(second).is_ok());
        let _back = connected(second, "back");
    }
}

#[test]
fn an_idle_broker_accepts_at_once_where_it_listens_anew() {
    if is_foreign() {
        return;
    }
    // Nothing else wakes its shard.
    let quiet = format!("sys_interval_s = 0\n{LOCAL}");
    let broker = start(1, &quiet);
    for _ in 0..20 {
        let new = free();
        let more = format!("{quiet}[[listener]]\naddress = '{new}'\n");
        reload(&broker, &more, &format!("listening address={new}"));
        let _client = connected(new, "any");
    }
}

#[test]
fn what_cannot_be_opened_changes_nothing() {
    if is_foreign() {
        return;
    }
    let broker = start(2, LOCAL);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (taken.local_addr().unwrap(), free());
    let listeners = format!(
        "{LOCAL}[[listener]]\naddress = '{free}'\n[[listener]]\naddress = '{taken}'\n\
         [limits]\nclient_id_bytes_max = 23\n"
    );
    let line = reload(&broker, &listeners, "settings not taken");
    assert!(line.contains(&format!("cannot listen on {taken}: Address already in use")), "{line}");
    assert!(TcpStream::connect(free).is_err(), "the other new one was not opened either");
    let mut client = connected(broker.address, "a-name-with-24-characters");
    let authority = Authority::new("a");
    let own = authority.server("localhost");
    std::fs::write(&own.certificate, "nothing").unwrap();
    let listeners =
        format!("{LOCAL}[[listener]]\naddress = '{free}'\n[listener.tls]\n{}", own.lines());
    reload(&broker, &listeners, &format!("listener {free}: "));
    assert!(TcpStream::connect(free).is_err());
    is_alive(&mut client);
}

#[test]
fn files_of_unix_sockets_come_and_go() {
    if is_foreign() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let at = |path: &Path, mode: &str| {
        format!("{LOCAL}[[listener]]\naddress = 'unix:{}'\nunix_mode = {mode}\n", path.display())
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (old, new) = (place("old"), place("new"));
    let broker = start(2, &at(&old, "0o600"));
    let _stays = UnixStream::connect(&old).unwrap();
    reload(&broker, &at(&old, "0o666"), "settings read again");
    until(|| mode(&old) == 0o666);
    reload(&broker, &at(&new, "0o640"), &format!("listening address=unix:{}", new.display()));
    assert_eq!(mode(&new), 0o640);
    UnixStream::connect(&new).unwrap();
    until(|| !old.exists());
    broker.terminate();
    assert!(broker.wait().success());
    assert!(!new.exists(), "the file goes with the broker");
}

#[test]
fn an_address_may_become_wider() {
    if is_foreign() {
        return;
    }
    // On all addresses: somebody else may be at this port of another one.
    let port = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let broker = start(2, &format!("[[listener]]\naddress = '127.0.0.1:{port}'\n"));
    let mut stays = connected(broker.address, "stays");
    // Every address of the loopback network, and so the one that was there, on its port.
    let wider = format!("[[listener]]\naddress = '0.0.0.0:{port}'\nallow_anonymous = true\n");
    reload(&broker, &wider, &format!("listening address=0.0.0.0:{port}"));
    let other = SocketAddr::from(([127, 0, 0, 2], port));
    let _other = connected(other, "other");
    is_alive(&mut stays);
    let narrow = format!("[[listener]]\naddress = '127.0.0.1:{port}'\nbind_interface = 'lo'\n");
    let closed = format!("those there are stay address=0.0.0.0:{port}");
    reload(&broker, &narrow, &closed);
    refuses(other);
    let _again = connected(broker.address, "again");
    is_alive(&mut stays);
}

/// Looks every 10 ms, for 10 s at most.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    panic!("it does not come");
}
