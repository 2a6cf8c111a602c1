//! Malformed packets end their own connection and touch nobody else.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::harness::{ALL, Client, Prng, Test, Version, compose, each, each_alone, varint};

/// One good packet of each kind that a client sends.
fn packets(version: Version) -> Vec<Vec<u8>> {
    [
        "connect will=m/w wp=x wq=1 wdelay=1 wup=a:b user=u pass=p expiry=5 rmax=3 up=a:b keep=9",
        "publish m/t p=payload ct=c up=a:b mexp=9 resp=m/r corr=k pf=1 alias=1",
        "publish m/t q1 id=1 p=payload up=a:b",
        "publish m/t q2 id=2 p=payload retain",
        "puback 1 0x10 up=a:b",
        "pubrec 1 0x10 rs=why",
        "pubrel 1 0x92 rs=why",
        "pubcomp 1 0x92 up=a:b",
        "subscribe 3 m/t q1 m/+/x q2 rh=1 $share/g/m/# sid=5 up=a:b",
        "unsubscribe 4 m/t m/+/x up=a:b",
        "pingreq",
        "disconnect 0x04 expiry=3 rs=bye",
        "auth 0x18 method=m data=d",
    ]
    .iter()
    .filter(|text| version == Version::V5 || !text.starts_with("auth"))
    .map(|text| compose(text, version, "m-prefix"))
    .collect()
}

/// Sends these bytes on a connection of their own, ends it, and waits until the broker has, too.
fn inflict(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the broker is alive");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed: {bytes:02x?}");
    }
}

/// Another client, connected all the while, notices nothing.
fn bystander(test: &mut Test<'_>, round: usize) {
    test.run(&format!(
        "
        a publishes ~/t q1 p={round}
        a gets ~/t q1 p={round}
    "
    ));
}

#[test]
fn truncated_packets_are_never_acted_on() {
    // [MQTT-4.13.1-1]; 3.1.1: [MQTT-4.8.0-1]
    each_alone(ALL, |test| {
        test.run(
            "
            a connects
            a subscribes ~/t q1 m/# q1
        ",
        );
        let address = test.broker.address;
        let connect = compose("connect id=m", test.version, "");
        for (kind, packet) in packets(test.version).iter().enumerate() {
            let first = if kind == 0 { &[][..] } else { &connect[..] };
            // The whole packet does not come, so there is nothing to act on.
            for count in 0..packet.len() {
                inflict(address, &[first, &packet[..count]].concat());
            }
            bystander(test, kind);
        }
    });
}

#[test]
fn cut_packets_with_matching_length_harm_nobody() {
    // [MQTT-4.13.1-1]; 3.1.1: [MQTT-4.8.0-1]
    each_alone(ALL, |test| {
        test.run(
            "
            a connects
            a subscribes ~/t q1
        ",
        );
        let address = test.broker.address;
        let connect = compose("connect id=m", test.version, "");
        for (kind, packet) in packets(test.version).iter().enumerate() {
            let first = if kind == 0 { &[][..] } else { &connect[..] };
            assert!(packet[1] < 0x80, "short packets have one byte of length");
            for count in 2..packet.len() {
                let mut cut = vec![packet[0]];
                cut.extend(varint(count - 2));
                cut.extend(&packet[2..count]);
                inflict(address, &[first, &cut].concat());
            }
            bystander(test, kind);
        }
    });
}

#[test]
fn inner_lengths_that_lie_are_malformed() {
    // [MQTT-4.13.1-1]
    each_alone(ALL, |test| {
        test.run(
            "
            a connects
            a subscribes ~/t q1
        ",
        );
        let address = test.broker.address;
        let connect = compose("connect id=m", test.version, "");
        for (kind, packet) in packets(test.version).iter().enumerate() {
            let first = if kind == 0 { &[][..] } else { &connect[..] };
            for position in 2..packet.len() {
                for value in [0, 0x7f, 0x80, 0xff] {
                    let mut lie = packet.clone();
                    lie[position] = value;
                    inflict(address, &[first, &lie].concat());
                }
            }
            bystander(test, kind);
        }
    });
}

/// Changes one to four bytes, or cuts, doubles, or inserts some.
fn mutate(bytes: &mut Vec<u8>, random: &mut Prng) {
    for _ in 0..=random.below(3) {
        let position = random.below(bytes.len());
        let byte = u8::try_from(random.below(256)).unwrap();
        match random.below(6) {
            0 => bytes[position] = byte,
            1 => bytes[position] ^= 1 << random.below(8),
            2 => bytes.insert(position, byte),
            3 if bytes.len() > 1 => drop(bytes.remove(position)),
            4 => bytes.extend_from_within(position..),
            _ => bytes[position] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        }
    }
}

#[test]
fn random_mutations_harm_nobody() {
    // [MQTT-4.13.1-1]; CULEX_TEST_SEED and CULEX_TEST_ROUNDS choose others
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
    };
    let seed = number("CULEX_TEST_SEED", 1);
    let rounds = number("CULEX_TEST_ROUNDS", 1500);
    each_alone(ALL, |test| {
        test.run(
            "
            a connects
            a subscribes ~/t q1
        ",
        );
        let good = packets(test.version);
        let connect = compose("connect id=m", test.version, "");
        for round in 0..rounds {
            let case = seed.wrapping_mul(1 << 32).wrapping_add(round);
            let mut random = Prng(case);
            let mut bytes = if random.below(8) > 0 { connect.clone() } else { Vec::new() };
            for _ in 0..=random.below(5) {
                let mut packet = good[random.below(good.len())].clone();
                if random.below(3) > 0 {
                    mutate(&mut packet, &mut random);
                }
                bytes.extend(packet);
            }
            println!("seed {seed} round {round}");
            inflict(test.broker.address, &bytes);
            if round % 100 == 0 {
                bystander(test, usize::try_from(round).unwrap());
            }
        }
        bystander(test, 1_000_000);
    });
}

#[test]
fn noise_is_closed() {
    // [MQTT-3.1.4-1]
    each(ALL, |test| {
        test.run("a connects\n a subscribes ~/t q1");
        let mut random = Prng(7);
        for round in 0..100 {
            let count = 1 + random.below(200);
            let bytes: Vec<u8> = (0..count).map(|_| random.next().to_be_bytes()[0]).collect();
            inflict(test.broker.address, &bytes);
            bystander(test, round);
        }
    });
}

#[test]
fn subscriber_never_sees_an_illegal_packet() {
    // [MQTT-3.3.2-1]: what is legal but odd is delivered and decodes
    each(ALL, |test| {
        test.run("a connects\n a subscribes ~/# q2");
        let odd = ["~/", "~//", "~/ ", "~/$", "~/\u{ffff}", "~/\u{1}", "~/\u{10ffff}", "~/%s%n"];
        for topic in odd.map(|topic| topic.replace('~', &test.prefix)) {
            let mut body = u16::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
            body.extend(topic.as_bytes());
            if test.version == Version::V5 {
                body.push(0);
            }
            let mut client = Client::open(test.broker.address, test.version);
            client.write(&compose("connect", test.version, &format!("{}o", test.prefix)));
            client.packet();
            client.write(&crate::harness::frame(3, 0, &body));
            assert_eq!(test.client("a").packet().topic, topic);
        }
    });
}
