//! Guessing passwords, and flooding whoever checks them (rows A09, A15, A16 and A21).

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::client::{Client, DEADLINE};
use crate::compose::compose;
use crate::packet::Version;
use crate::siege::{Siege, soak, times};

/// A login that is not the attacker's, from another address, may take this long in a soak.
const LOGIN_MAX: Duration = Duration::from_secs(1);

const CANARY: &str = "user=canary pass=sings";

fn passwd(file: &Path, options: &[&str], user: &str, password: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culex"));
    command.args(["passwd", "-b"]).args(options);
    if !file.exists() {
        command.arg("-c");
    }
    let status = command.arg(file).args([user, password]).status().unwrap();
    assert!(status.success());
}

/// A broker whose users have Argon2id hashes, as new ones have.
fn siege(name: &'static str, more: &str) -> (Siege, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    passwd(&file, &[], "canary", "sings");
    passwd(&file, &[], "ada", "secret");
    let scram = folder.path().join("scram");
    passwd(&scram, &["--scram"], "ada", "pencil");
    let config = format!(
        "acl = 'allow-all'\n[auth]\npassword_file = '{}'\nscram_file = '{}'\n\
         hashing_threads = 1\n{more}",
        file.display(),
        scram.display()
    );
    (Siege::lay_with(name, &config, CANARY), folder)
}

/// A client from 127.0.0.`host`, so that attackers and others have different addresses.
fn from(siege: &Siege, host: u8) -> Client {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0)).into()).unwrap();
    let address: SocketAddr = siege.broker.address;
    socket.connect_timeout(&address.into(), DEADLINE).unwrap();
    Client::adopt(TcpStream::from(socket), Version::V5)
}

fn login(client: &mut Client, id: &str, user: &str, password: &str) -> u8 {
    let text = format!("connect id={id} user={user} pass={password}");
    client.write(&compose(&text, Version::V5, "guess"));
    client.packet().codes[0]
}

/// A16: wrong logins of one address. After some of them no password is hashed for it any more, and
/// others are let in meanwhile.
#[test]
fn one_address_that_guesses_is_refused_and_others_are_not() {
    let (siege, _folder) = siege("guesses of one address", "");
    let mut answers = [0_usize; 256];
    for number in 0..times(400, 10_000) {
        let mut client = from(&siege, 66);
        // One client identifier: one shard counts all of them.
        let code = login(&mut client, "guess", "ada", &format!("wrong{number}"));
        answers[usize::from(code)] += 1;
    }
    let (hashed, refused) = (answers[0x86], answers[0x9f]);
    println!("{hashed} hashed, {refused} refused");
    assert_eq!(hashed + refused, times(400, 10_000));
    assert!(hashed >= 10 && refused > 4 * hashed, "{hashed} hashed, {refused} refused");
    let begin = Instant::now();
    assert_eq!(login(&mut from(&siege, 7), "ada", "ada", "secret"), 0);
    assert!(!soak() || begin.elapsed() <= LOGIN_MAX, "a login took {:?}", begin.elapsed());
    siege.lifted();
}

/// A16: a storm of logins that all have to be hashed. The queue is bounded, what does not fit is
/// refused as busy, and the memory is that of one hash for each thread.
#[test]
fn a_storm_of_logins_does_not_reach_the_shards() {
    let (mut siege, _folder) =
        siege("storm of logins", "hashing_queue_max = 32\nfailures_max = 0\n");
    siege.warmed_up();
    let mut clients = Vec::new();
    for number in 0..times(300, 5_000) {
        let mut client = from(&siege, 66);
        let text = format!("connect id=s{number} user=u{number} pass=wrong");
        client.write(&compose(&text, Version::V5, "storm"));
        clients.push(client);
    }
    let codes: Vec<u8> = clients.iter_mut().map(|client| client.packet().codes[0]).collect();
    let busy = codes.iter().filter(|code| matches!(code, 0x89)).count();
    assert!(codes.iter().all(|code| [0x86, 0x89].contains(code)), "{codes:?}");
    assert!(busy > 0, "none was refused as busy");
    println!("{} of {} refused as busy", busy, codes.len());
    drop(clients);
    siege.bounded(120_000);
    siege.lifted();
}

/// Who hangs up before the answer leaves nothing behind.
#[test]
fn logins_that_hang_up_leave_nothing() {
    let (siege, _folder) = siege("logins that hang up", "failures_max = 0\n");
    for number in 0..times(100, 2_000) {
        let mut stream = siege.socket();
        let text = format!("connect id=h{number} user=ada pass=secret");
        stream.write_all(&compose(&text, Version::V5, "gone")).unwrap();
    }
    siege.bounded(120_000);
    // Where they have just filled the queue, a hash has to end before they are looked through.
    let until = Instant::now() + LOGIN_MAX;
    loop {
        let code = login(&mut siege.client(Version::V5), "after", "ada", "secret");
        match code {
            0 => break,
            // MQTT 5.0 §3.2.2.2: server busy
            0x89 => assert!(Instant::now() < until, "still busy"),
            other => panic!("refused with {other:#x}"),
        }
    }
    siege.lifted();
}

/// A21: AUTH again and again, at the wrong time, and of another method.
#[test]
fn auth_floods_end_the_connection() {
    let (siege, _folder) = siege("floods of AUTH", "failures_max = 0\n");
    for _ in 0..times(20, 1_000) {
        let mut client = siege.client(Version::V5);
        let text = "connect id=auth method=SCRAM-SHA-256 data=n,,n=ada,r=abc";
        client.write(&compose(text, Version::V5, "auth"));
        assert_eq!(client.packet().name, "auth");
        let mut flood = compose("auth 0x18 method=SCRAM-SHA-256 data=x", Version::V5, "auth");
        flood.extend(flood.repeat(100));
        client.write(&flood);
        assert!(client.ended().is_none(), "a protocol error has no CONNACK");
        let mut client = siege.client(Version::V5);
        client.write(&compose(text, Version::V5, "auth"));
        assert_eq!(client.packet().name, "auth");
        client.write(&compose("auth 0x18 method=PLAIN data=x", Version::V5, "auth"));
        assert_eq!(client.ended().expect("a CONNACK").codes, [0x8c]);
    }
    siege.lifted();
}

/// A15: an unknown user costs as much as a known one with a wrong password.
#[test]
fn the_time_of_a_refusal_does_not_tell_who_exists() {
    let (siege, _folder) = siege("times of refusals", "failures_max = 0\n");
    let mut took = [Vec::new(), Vec::new()];
    for number in 0..times(20, 1_000) {
        for (user, took) in ["ada", &format!("nobody{number}")].into_iter().zip(&mut took) {
            let mut client = siege.client(Version::V5);
            let begin = Instant::now();
            assert_eq!(login(&mut client, "time", user, "wrong"), 0x86);
            took.push(begin.elapsed());
        }
    }
    let [known, unknown] = took.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2]
    });
    println!("median of a known user {known:?}, of an unknown one {unknown:?}");
    // Without the hash an unknown user would be refused in a hundredth of the time.
    let noise = if soak() { 2 } else { 10 };
    assert!(unknown * noise >= known, "known {known:?}, unknown {unknown:?}");
    siege.lifted();
}
