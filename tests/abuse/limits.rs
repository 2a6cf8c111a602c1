//! Rows R03, R04, R05, R20 to R23 and P07, P08: slots, descriptors, memory, time, properties.

use std::process::Command;
use std::time::Duration;

use crate::client::Client;
use crate::compose::{compose, frame, varint};
use crate::packet::{PROPERTIES, Version};
use crate::siege::{Siege, VERSIONS, crowd, pause, soak, times};

#[test]
fn keep_alive_has_a_cap_for_every_version() {
    // R03, SlowITe: a client that asks for no keep-alive or a long one, and falls silent.
    let siege = Siege::lay("R03", "[limits]\nkeep_alive_s_max = 60\n");
    for version in VERSIONS {
        let mut client = siege.client(version);
        let connack = client.ask("connect id=r03 keep=65535", "connack");
        assert_eq!(connack.codes, [0]);
        if version == Version::V5 {
            assert_eq!(connack.value("keep"), Some("60"));
        }
    }
    siege.lifted();
    let siege = Siege::lay_tolerant("R03 end", "[limits]\nkeep_alive_s_max = 2\n");
    let clients: Vec<Client> = VERSIONS
        .iter()
        .flat_map(|version| {
            ["keep=0", "keep=65535"].map(|keep| {
                siege.connected(*version, &format!("id=r03-{}-{keep} {keep}", *version as u8))
            })
        })
        .collect();
    // 1.5 times the cap, within the time that anything may take.
    for client in clients {
        drop(client.ended());
    }
    siege.lifted();
}

#[test]
fn idle_and_stalled_connections_cost_no_time() {
    // R04
    let siege = Siege::lay("R04", "[limits]\nconnect_timeout_s = 60\n");
    let count = times(200, 10_000);
    let _silent: Vec<_> = (0..count).map(|_| siege.socket()).collect();
    let _idle: Vec<Client> = (0..count / 2)
        .map(|n| siege.connected(VERSIONS[n % 3], &format!("id=r04-{n} keep=600")))
        .collect();
    let _stalled: Vec<Client> = (0..20)
        .map(|n| {
            let mut client = siege.connected(Version::V311, &format!("id=r04-s{n}"));
            // Longer than a receive buffer, and never finished.
            client.write(&frame(3, 0, &vec![0; 100_000])[..50_000]);
            client
        })
        .collect();
    let before = siege.processor();
    let time = Duration::from_millis(u64::try_from(times(2_000, 60_000)).unwrap());
    pause(time);
    let used = siege.processor().saturating_sub(before);
    println!("R04: {used:?} of the processor in {time:?}, with the canary's 100 messages a second");
    // A shard that turns without work takes a whole processor, in any build.
    let most = if soak() { time / 3 } else { time * 3 / 4 };
    assert!(used < most, "{used:?} in {time:?}");
    siege.bounded(u64::try_from(count).unwrap() * 16 + 4_000);
    siege.lifted();
}

#[test]
fn connections_beyond_the_limit_are_told_why() {
    // R05
    let siege = Siege::lay(
        "R05",
        "[limits]\nconnections_max = 42\n[[listener]]\naddress = \"127.0.0.1:0\"\n",
    );
    let mut kept = Vec::new();
    let mut refused = 0;
    for number in 0..90 {
        let version = VERSIONS[number % 3];
        let mut client = siege.client(version);
        let connack = client.ask(&format!("connect id=r05-{number}"), "connack");
        match (connack.codes[0], version) {
            (0, _) => kept.push(client),
            (0x97, Version::V5) | (3, Version::V31 | Version::V311) => refused += 1,
            (code, version) => panic!("{version:?}: {code:#04x}"),
        }
    }
    assert_eq!((kept.len(), refused), (40, 50), "the canary has two");
    drop(kept);
    siege.lifted();
}

#[test]
fn one_address_and_one_second_have_limits() {
    // R02, R05: the canary and the test come from the same address.
    let siege = Siege::lay("R05 address", "[limits]\nconnections_per_address_max = 10\n");
    let (answers, clients): (Vec<u8>, Vec<Client>) = (0..12)
        .map(|n| {
            let mut client = siege.client(Version::V5);
            (client.ask(&format!("connect id=r05-{n}"), "connack").codes[0], client)
        })
        .unzip();
    assert_eq!(answers.iter().filter(|code| matches!(code, 0)).count(), 8, "{answers:02x?}");
    assert!(answers.iter().all(|code| matches!(code, 0 | 0x97)), "{answers:02x?}");
    clients.into_iter().for_each(Client::lose);
    siege.lifted();
    let siege = Siege::lay("R05 rate", "[limits]\naccepts_per_s_max = 20\n");
    let mut codes = Vec::new();
    for number in 0..120 {
        let mut client = siege.client(Version::V5);
        codes.push(client.ask(&format!("connect id=r05-{number}"), "connack").codes[0]);
    }
    assert!(codes.contains(&0x9f), "{codes:02x?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 0x9f)), "{codes:02x?}");
    pause(Duration::from_millis(1_100));
    siege.lifted();
    // Those without CONNECT: the canary's are let in already.
    let siege = Siege::lay("R02 limit", "[limits]\nconnecting_max = 30\nconnect_timeout_s = 2\n");
    let sockets: Vec<_> = (0..100).map(|_| siege.socket()).collect();
    let closed = sockets
        .into_iter()
        .filter(|socket| {
            socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            matches!(std::io::Read::read(&mut &*socket, &mut [0; 4]), Ok(0))
                || matches!(std::io::Read::read(&mut &*socket, &mut [0; 4]),
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset)
        })
        .count();
    assert!(closed >= 70, "{closed} of 100 were closed at once");
    siege.lifted();
}

#[test]
fn descriptors_that_run_out_come_back() {
    // R20
    let siege = Siege::lay("R20", "");
    let pid = siege.broker.pid.unwrap().to_string();
    let limit = |soft: usize| {
        let limit = format!("--nofile={soft}:");
        let done = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        done.is_ok_and(|status| status.success())
    };
    let (open, _) = siege.broker.descriptors_and_memory();
    if !limit(open + 20) {
        return println!("SKIPPED: no prlimit");
    }
    let sockets: Vec<_> = (0..60).map(|_| siege.socket()).collect();
    pause(Duration::from_millis(300));
    drop(sockets);
    assert!(limit(1024));
    siege.lifted();
}

#[test]
fn above_the_memory_limit_nothing_new_is_taken_in() {
    // R21
    let before = Siege::lay("R21 base", "");
    let (_, memory_kb) = before.broker.descriptors_and_memory();
    before.lifted();
    let limit = (memory_kb + 40_000) * 1024;
    let config = format!(
        "[limits]\nmemory_bytes_max = {limit}\nqueue_bytes_max = 1000000000\n\
         queue_messages_max = 1000000\n"
    );
    let siege = Siege::lay_tolerant("R21", &config);
    let mut keeper = siege.connected(Version::V5, "id=r21-keeper clean=0 expiry=600");
    keeper.ask("subscribe 1 r21/q q1", "suback");
    keeper.say("disconnect");
    keeper.ended();
    let mut client = siege.connected(Version::V5, "id=r21");
    let mut publish = |number: usize| {
        let text = format!("publish r21/q q1 id={number} p=*50000");
        client.ask(&text, "puback").codes[0]
    };
    let (number, code) = (1..=3_000)
        .map(|number| (number, publish(number)))
        .find(|(_, code)| *code != 0)
        .expect("a limit before 150 MB");
    assert_eq!(code, 0x97);
    let taken = number - 1;
    // New sessions are refused, old ones come back; acknowledgements and deletions go on.
    let mut stranger = siege.client(Version::V5);
    assert_eq!(stranger.ask("connect id=r21-new", "connack").codes, [0x97]);
    assert_eq!(client.ask("publish r21/r q1 id=9 retain p=", "puback").codes, [0x10]);
    assert_eq!(client.ask("subscribe 1 r21/x", "suback").codes, [0x97]);
    siege.bounded(80_000);
    let mut keeper = siege.connected(Version::V5, "id=r21-keeper clean=0 expiry=600");
    keeper.say("pingreq");
    let mut kept = 0;
    while kept < taken {
        let packet = keeper.packet();
        if packet.name == "publish" {
            keeper.say(&format!("puback {}", packet.id));
            kept += 1;
        }
    }
    // What was taken is given back, and then there is room again.
    let room = (0..100).find(|_| {
        pause(Duration::from_millis(100));
        client.ask("publish r21/none q1 id=10 p=x", "puback").codes == [0x10]
    });
    assert!(room.is_some(), "{} kB more than at the start", siege.growth_kb());
    siege.lifted();
}

#[test]
fn a_storm_of_wills_and_capped_delays() {
    // R22, R23
    // The watcher wants all of them, however slowly it reads.
    let config = "[limits]\nwill_delay_s_max = 1\nsession_expiry_s_max = 600\n\
                  output_bytes_max = 67108864\n";
    let siege = Siege::lay("R22", config);
    let mut watcher = siege.connected(Version::V5, "id=r22-watch");
    watcher.ask("subscribe 1 r22/# q0", "suback");
    let wills = crowd(300, 20_000);
    let clients: Vec<Client> = (0..wills)
        .map(|n| {
            let words = format!("id=r22-{n} will=r22/{n} wp=*500 wretain");
            siege.connected(VERSIONS[n % 3], &words)
        })
        .collect();
    let slow = "id=r22-slow will=r22/slow wp=late wdelay=4294967295 expiry=4294967295";
    let mut late = siege.client(Version::V5);
    let connack = late.ask(&format!("connect {slow}"), "connack");
    assert_eq!(connack.value("expiry"), Some("600"));
    late.reset();
    clients.into_iter().for_each(Client::reset);
    for _ in 0..=wills {
        assert_eq!(watcher.packet().name, "publish");
    }
    siege.lifted();
}

/// The block of properties, with its length.
fn block(bytes: &[u8]) -> Vec<u8> {
    [&varint(bytes.len()), bytes].concat()
}

#[test]
fn every_property_in_every_packet() {
    // P07: valid, twice, and with an odd value, in the packets of a client and in its will.
    let siege = Siege::lay("P07", "[limits]\ntakeovers_per_min_max = 0\n");
    for round in 0..times(1, 200) {
        for id in 0..=0x7f_u8 {
            let value: &[u8] = match PROPERTIES.iter().find(|row| row.0 == id).map(|row| row.2) {
                Some(crate::packet::Layout::Byte) => b"\x01",
                Some(crate::packet::Layout::Two) => b"\x00\x05",
                Some(crate::packet::Layout::Four) => b"\x00\x00\x00\x05",
                Some(crate::packet::Layout::Varint) => b"\x05",
                None | Some(crate::packet::Layout::Text | crate::packet::Layout::Binary) => {
                    b"\x00\x01a"
                }
                Some(crate::packet::Layout::Pair) => b"\x00\x01a\x00\x01b",
            };
            let once = [&[id][..], value].concat();
            let odd = [&[id][..], &vec![0xff; value.len()]].concat();
            let zero = [&[id][..], &vec![0; value.len()]].concat();
            for bytes in [once.clone(), once.repeat(2), odd, zero, once[..1].to_vec()] {
                one_block(&siege, &block(&bytes));
            }
        }
        if round == 0 {
            siege.bounded(4_000);
        }
    }
    siege.bounded(6_000);
    siege.lifted();
}

/// Each packet with this block, on one connection each; the broker answers or ends it.
fn one_block(siege: &Siege, block: &[u8]) {
    let id = b"\x00\x01";
    let name = b"\x00\x04MQTT\x05\x02\x00\x3c";
    let will = b"\x00\x04MQTT\x05\x06\x00\x3c\x00\x00\x03p07";
    let packets = [
        frame(1, 0, &[&name[..], block, b"\x00\x03p07"].concat()),
        frame(1, 0, &[&will[..], block, b"\x00\x03p07\x00\x01w"].concat()),
    ];
    for packet in packets {
        let mut client = siege.client(Version::V5);
        client.write(&packet);
        client.reset();
    }
    let connect = compose("connect id=p07", Version::V5, "");
    for packet in [
        frame(3, 0, &[&b"\x00\x01t"[..], block, b"x"].concat()),
        frame(4, 0, &[&id[..], b"\x00", block].concat()),
        frame(8, 2, &[&id[..], block, b"\x00\x01f\x00"].concat()),
        frame(10, 2, &[&id[..], block, b"\x00\x01f"].concat()),
        frame(14, 0, &[b"\x00", block].concat()),
        frame(15, 0, &[b"\x18", block].concat()),
    ] {
        let mut client = siege.client(Version::V5);
        client.write(&[&connect[..], &packet, &[0xc0, 0x00]].concat());
        // CONNACK, and then an answer or the end.
        let connack = client.packet();
        assert_eq!((connack.name, connack.codes[0]), ("connack", 0));
        if let crate::client::Event::Packet(packet) = client.next() {
            let fair = !matches!(packet.name, "disconnect")
                || packet
                    .codes
                    .first()
                    .is_none_or(|code| matches!(code, 0x81 | 0x82 | 0x8c | 0x94));
            assert!(fair, "{}", packet.text());
        }
    }
}

#[test]
fn user_properties_are_bounded_and_linear() {
    // P08
    let config = "[limits]\nuser_properties_max = 20\nuser_property_bytes_max = 4000\n\
                  packet_bytes_max = 2000000\ntakeovers_per_min_max = 0\n";
    let siege = Siege::lay("P08", config);
    let pair = |value: usize| {
        let length = u16::try_from(value).unwrap().to_be_bytes();
        [&b"\x26\x00\x01k"[..], &length, &vec![b'v'; value]].concat()
    };
    for (count, value, fits) in [(20, 1, true), (21, 1, false), (4, 900, true), (5, 900, false)] {
        let mut client = siege.connected(Version::V5, "id=p08");
        let body = [&b"\x00\x01t"[..], &block(&pair(value).repeat(count)), b"x"].concat();
        client.write(&frame(3, 0, &body));
        if fits {
            client.alive();
        } else {
            assert_eq!(client.ended().expect("DISCONNECT").codes, [0x97], "{count} of {value}");
        }
    }
    let mut client = siege.client(Version::V5);
    let words = vec!["up=k:v"; 21].join(" ");
    assert_eq!(client.ask(&format!("connect {words}"), "connack").codes, [0x97]);
    // A megabyte of the smallest ones takes no longer than a megabyte of payload.
    let rounds = times(20, 500);
    let time = |body: &[u8], fits: bool| {
        let before = siege.processor();
        for _ in 0..rounds {
            let mut client = siege.connected(Version::V5, "id=p08");
            client.write(&frame(3, 0, body));
            if fits { client.alive() } else { drop(client.ended()) }
        }
        siege.processor().saturating_sub(before)
    };
    let plain = time(&[&b"\x00\x01t\x00"[..], &vec![b'x'; 1_000_000]].concat(), true);
    let bomb = b"\x26\x00\x00\x00\x00".repeat(200_000);
    let bombs = time(&[&b"\x00\x01t"[..], &block(&bomb), b"x"].concat(), false);
    println!("P08: {plain:?} for plain packets, {bombs:?} for properties");
    let slack = Duration::from_millis(if soak() { 500 } else { 10_000 });
    assert!(bombs < plain * 3 + slack, "{plain:?}, {bombs:?}");
    siege.lifted();
}
