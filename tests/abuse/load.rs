//! Rows R06 to R18: what clients that were let in can pile up.

use std::time::Duration;

use crate::client::{Client, Event};
use crate::compose::compose;
use crate::packet::Version;
use crate::siege::{Siege, VERSIONS, pause, pour, times};

#[test]
fn an_identifier_that_is_never_released_is_one() {
    // R06, R17, D02: the same QoS 2 PUBLISH again and again; PUBREC each time, delivered once.
    let siege = Siege::lay("R06", "");
    for version in VERSIONS {
        let mut sub = siege.connected(version, "id=r06-sub");
        sub.ask("subscribe 1 r06 q2", "suback");
        let mut client = siege.connected(version, "id=r06");
        let packet = compose("publish r06 q2 id=9 dup p=x", version, "");
        let burst = packet.repeat(100);
        // One that comes while the first waits for its acknowledgement is answered with it.
        client.write(&packet);
        assert_eq!(client.packet().name, "pubrec");
        for _ in 0..times(100, 10_000) {
            client.write(&burst);
            for _ in 0..100 {
                let answer = client.packet();
                assert_eq!((answer.name, answer.id), ("pubrec", 9));
            }
        }
        client.ask("pubrel 9", "pubcomp");
        assert_eq!(sub.packet().name, "publish");
        sub.alive();
        // Identifier 0 does not exist; one of QoS 1 may be used again at once.
        for _ in 0..10 {
            client.ask("publish r06 q1 id=9 p=x", "puback");
        }
        client.say("publish r06 q1 id=0 p=x");
        client.ended();
    }
    siege.bounded(4_000);
    siege.lifted();
}

#[test]
fn who_reads_nothing_costs_what_the_limits_say() {
    // R07: subscribers that never read, publishers at full rate.
    const LIMITS: &str = "[limits]\noutput_bytes_max = 1000000\nqueue_messages_max = 100\n\
                          queue_bytes_max = 1000000\n";
    let siege = Siege::lay("R07", LIMITS);
    let _slow: Vec<Client> = (0..4)
        .map(|n| {
            let mut client = siege.connected(Version::V5, &format!("id=r07-{n} expiry=60"));
            client.ask("subscribe 1 r07 q1", "suback");
            client
        })
        .collect();
    let mut publisher = siege.connected(Version::V5, "id=r07-pub");
    for number in 0..times(500, 20_000) {
        publisher.say("publish r07 p=*30000");
        publisher.ask(&format!("publish r07 q1 id={} p=*30000", number % 60_000 + 1), "puback");
    }
    // Four times output, queue and what sockets hold in the broker's own memory.
    siege.bounded(20_000);
    siege.lifted();
}

#[test]
fn retained_messages_have_a_ceiling() {
    // R08
    let siege =
        Siege::lay("R08", "[limits]\nretained_messages_max = 2000\nretained_bytes_max = 2000000\n");
    let mut publisher = siege.connected(Version::V5, "id=r08-pub");
    for number in 0..times(20_000, 1_000_000) {
        publisher.say(&format!("publish r08/{number}/{} retain p=x", "deep/".repeat(number % 20)));
    }
    publisher.alive();
    // The 2,000, and the caches of recent topics, which hold 14,336 on each shard.
    siege.bounded(14_000);
    for number in 0..times(50, 1_000) {
        publisher.say(&format!("publish r08/big/{number} retain p=*100000"));
    }
    publisher.alive();
    siege.bounded(20_000);
    for version in VERSIONS {
        let mut reader = siege.connected(version, "id=r08-sub");
        reader.say("subscribe 1 r08/#");
        let mut found = 0;
        reader.stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
        while let Event::Packet(packet) = reader.next() {
            found += usize::from(packet.name == "publish");
        }
        assert!((1_000..=2_000).contains(&found), "{found} retained messages");
    }
    siege.lifted();
}

#[test]
fn sessions_have_a_ceiling() {
    // R09
    let siege = Siege::lay("R09", "[limits]\nsessions_max = 200\nsession_expiry_s_max = 60\n");
    let mut accepted = 0;
    for number in 0..times(600, 100_000) {
        let version = VERSIONS[number % 3];
        let mut client = siege.client(version);
        let answer =
            client.ask(&format!("connect id=r09-{number} clean=0 expiry=4294967295"), "connack");
        match (answer.codes[0], version) {
            (0, _) => accepted += 1,
            (0x97, Version::V5) | (3, Version::V31 | Version::V311) => {}
            (code, version) => panic!("{version:?}: {code:#04x}"),
        }
        if version == Version::V5 && answer.codes == [0] {
            assert_eq!(answer.value("expiry"), Some("60"));
        }
    }
    // The canary has two; where one shard's part is used up the other may have room.
    assert!((150..=198).contains(&accepted), "{accepted} sessions");
    siege.bounded(4_000);
    // Who has a session gets in.
    drop(siege.connected(Version::V311, "id=r09-1 clean=0"));
    siege.lifted_by("canary-sub-2", false);
}

#[test]
fn subscriptions_have_a_ceiling_and_leave_nothing() {
    // R10
    let mut siege = Siege::lay("R10", "[limits]\nsubscriptions_per_session_max = 1000\n");
    let churn = |siege: &Siege, rounds: usize| {
        let mut client = siege.connected(Version::V5, "id=r10");
        for round in 0..rounds {
            for part in 0..12 {
                let filters: Vec<String> =
                    (0..100).map(|n| format!("r10/{round}/+/{part}/{n}/#")).collect();
                let suback = client.ask(&format!("subscribe 1 {}", filters.join(" ")), "suback");
                let expected = if part < 10 { 0 } else { 0x97 };
                assert!(suback.codes.iter().all(|code| *code == expected), "{:?}", suback.codes);
            }
            for part in 0..10 {
                let filters: Vec<String> =
                    (0..100).map(|n| format!("r10/{round}/+/{part}/{n}/#")).collect();
                client.ask(&format!("unsubscribe 2 {}", filters.join(" ")), "unsuback");
            }
        }
    };
    churn(&siege, 2);
    siege.warmed_up();
    churn(&siege, times(10, 1_000));
    siege.bounded(2_000);
    siege.lifted();
}

#[test]
fn overlapping_wildcards_cost_one_delivery_each() {
    // R11: every filter of every client matches the one topic.
    let siege = Siege::lay("R11", "");
    let mut clients: Vec<Client> = (0..times(40, 400))
        .map(|n| {
            let mut client = siege.connected(VERSIONS[n % 3], &format!("id=r11-{n}"));
            for mask in 0..64 {
                let levels = (0..6).map(|bit| if mask >> bit & 1 == 1 { "+" } else { "a" });
                let filter = levels.collect::<Vec<_>>().join("/");
                client.ask(&format!("subscribe 1 {filter} q1 {filter}/#"), "suback");
            }
            client
        })
        .collect();
    let mut publisher = siege.connected(Version::V311, "id=r11-pub");
    for number in 1..=times(20, 500) {
        publisher.ask(&format!("publish a/a/a/a/a/a q1 id={number} p=x"), "puback");
        for client in &mut clients {
            let packet = client.packet();
            assert_eq!((packet.name, packet.qos), ("publish", 1), "{}", packet.text());
            client.say(&format!("puback {}", packet.id));
        }
    }
    clients.iter_mut().for_each(Client::alive);
    siege.bounded(12_000);
    siege.lifted();
}

#[test]
fn aliases_have_bounds_in_both_directions() {
    // R13
    let siege = Siege::lay("R13", "[limits]\ntopic_alias_maximum = 32\n");
    for alias in ["alias=0", "alias=33", "alias=65535"] {
        let mut client = siege.connected(Version::V5, "id=r13");
        client.say(&format!("publish r13 p=x {alias}"));
        assert_eq!(client.ended().expect("DISCONNECT").codes, [0x94], "{alias}");
    }
    let mut client = siege.connected(Version::V5, "id=r13");
    client.say("publish '' p=x alias=7");
    assert_eq!(client.ended().expect("DISCONNECT").codes, [0x82]);
    let long = "x".repeat(4_000);
    let _clients: Vec<Client> = (0..times(20, 1_000))
        .map(|n| {
            let words = format!("id=r13-{n} amax=65535");
            let mut client = siege.connected(Version::V5, &words);
            client.ask("subscribe 1 r13/#", "suback");
            for round in 0..3 {
                for alias in 1..=32 {
                    client
                        .say(&format!("publish r13-own/{round}/{long}/{alias} p=x alias={alias}"));
                }
            }
            client.alive();
            client
        })
        .collect();
    // 32 topics of 4 kB for each of 20 clients.
    siege.bounded(u64::try_from(times(20, 1_000)).unwrap() * 32 * 5 + 4_000);
    siege.lifted();
}

#[test]
fn more_than_the_receive_maximum_ends_the_connection() {
    // R14
    let siege = Siege::lay("R14", "[limits]\nreceive_maximum = 10\n");
    let mut client = siege.connected(Version::V5, "id=r14");
    for id in 1..=10 {
        client.ask(&format!("publish r14 q2 id={id} p=x"), "pubrec");
    }
    client.say("publish r14 q2 id=11 p=x");
    assert_eq!(client.ended().expect("DISCONNECT").codes, [0x93]);
    siege.lifted();
}

#[test]
fn floods_do_not_starve_others() {
    // R15: PINGREQ, SUBSCRIBE and PUBLISH as fast as the sockets take them, answers not read.
    let siege = Siege::lay("R15", "");
    std::thread::scope(|scope| {
        for (number, text) in
            ["pingreq", "subscribe 1 r15/x", "publish r15/x p=x", "publish r15/x q1 id=1 p=x"]
                .iter()
                .enumerate()
        {
            let siege = &siege;
            scope.spawn(move || {
                let version = VERSIONS[number % 3];
                let mut client = siege.connected(version, &format!("id=r15-{number}"));
                let chunk = compose(text, version, "").repeat(500);
                let most = times(2, 2_000) << 20;
                pour(&mut client.stream, &chunk, Duration::from_millis(300), most);
            });
        }
    });
    // Outputs of 4 MB, answers, and what is on its way to the log and between the shards.
    siege.bounded(80_000);
    siege.lifted();
}

#[test]
fn a_rate_is_kept_by_reading_slowly() {
    // R15, with limits: the client stays, and what it sent is not lost.
    // The canary would be held up too.
    let siege = Siege::lay_tolerant("R15 rate", "[limits]\npackets_per_s_max = 200\n");
    for version in VERSIONS {
        let mut sub = siege.connected(version, "id=r15-sub");
        sub.ask("subscribe 1 r15", "suback");
        let mut client = siege.connected(version, "id=r15-fast keep=1");
        let begin = std::time::Instant::now();
        let flood: Vec<u8> =
            (0..600).flat_map(|n| compose(&format!("publish r15 p={n:03}"), version, "")).collect();
        client.write(&flood);
        client.alive();
        client.write(&flood);
        client.alive();
        let taken = begin.elapsed();
        // What has been received is taken and has to be paid back before more is: of the first 600
        // packets 200 passed at once, the others at 200 a second, before the next 600 were read.
        assert!(taken >= Duration::from_millis(1_900), "{version:?} {taken:?}");
        for number in (0..600).chain(0..600) {
            assert_eq!(sub.packet().payload, format!("{number:03}").into_bytes());
        }
    }
    siege.lifted();
}

#[test]
fn aborted_conversations_leave_nothing() {
    // R16: each sequence many times; memory does not rise after the first rounds.
    let mut siege = Siege::lay("R16", "");
    let round = |siege: &Siege, number: usize| {
        let version = VERSIONS[number % 3];
        let words = ["clean=1 will=r16/w wp=*1000 wq=1", "clean=0 expiry=0", "clean=1 wdelay=9"];
        let mut client =
            siege.connected(version, &format!("id=r16-{} {}", number % 7, words[number % 3]));
        client.say("subscribe 1 r16/# q2 r16/+/x q1");
        client.say("publish r16/a q2 id=1 p=*2000");
        client.say("publish r16/b q1 id=2 p=*2000 retain");
        client.say("publish r16/b q1 id=3 p= retain");
        match number % 4 {
            0 => client.reset(),
            1 => client.lose(),
            2 => {
                client.write(&[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]);
                client.ended();
            }
            _ => {
                client.say("disconnect");
                client.ended();
            }
        }
    };
    let rounds = times(1_000, 200_000);
    (0..rounds / 2).for_each(|number| round(&siege, number));
    siege.warmed_up();
    (0..rounds).for_each(|number| round(&siege, number));
    siege.bounded(3_000);
    siege.lifted();
}

#[test]
fn a_fight_for_one_name_is_ended() {
    // R18: from a rate on who comes is refused, and who is there is left in peace.
    let siege = Siege::lay("R18 rate", "[limits]\ntakeovers_per_min_max = 10\n");
    let clients: Vec<_> = (0..11).map(|_| siege.connected(Version::V5, "id=r18")).collect();
    for version in VERSIONS {
        let mut late = siege.client(version);
        let connack = late.ask("connect id=r18", "connack");
        let code = if version == Version::V5 { 0x9f } else { 3 };
        assert_eq!(connack.codes, [code], "{}", connack.text());
    }
    for (number, mut client) in clients.into_iter().enumerate() {
        if number == 10 {
            client.alive();
        } else {
            // MQTT 5.0 §3.14.2.1: taken over
            assert_eq!(client.ended().expect("a DISCONNECT").codes, [0x8e]);
        }
    }
    siege.lifted();
}

#[test]
fn two_clients_fight_for_one_name() {
    // R18: take-overs without a pause, with subscriptions, messages and wills; nothing of it
    // reaches another session, and the names are as usable after it as before.
    let siege = Siege::lay("R18", "[limits]\ntakeovers_per_min_max = 0\n");
    std::thread::scope(|scope| {
        for side in 0..4 {
            let siege = &siege;
            scope.spawn(move || {
                for number in 0..times(200, 50_000) {
                    let version = VERSIONS[(number + side) % 3];
                    let words = format!(
                        "connect id=r18-{} clean={} expiry=5 will=r18/w wp=x",
                        side % 2,
                        number % 2
                    );
                    let mut client = siege.client(version);
                    client.say(&words);
                    client.say("subscribe 1 r18/+ q1 canary/none");
                    client.say("publish r18/x q1 id=1 p=x");
                    client.say("unsubscribe 2 r18/+");
                    if number % 3 == 0 {
                        client.reset();
                    } else if number % 3 == 1 {
                        // May have been taken over meanwhile.
                        let _ = client.next();
                    }
                }
            });
        }
    });
    for name in ["r18-0", "r18-1"] {
        siege.connected(Version::V5, &format!("id={name} clean=1")).alive();
    }
    siege.bounded(6_000);
    siege.lifted();
}

#[test]
fn queues_that_are_full_drain_at_once() {
    // R24: everybody comes back at the same time.
    let siege = Siege::lay("R24", "");
    let sessions = times(60, 2_000);
    let words = |n: usize| format!("id=r24-{n} clean=0 expiry=600");
    for number in 0..sessions {
        let mut client = siege.connected(Version::V5, &words(number));
        client.ask("subscribe 1 r24 q1", "suback");
        client.say("disconnect");
        client.ended();
    }
    let mut publisher = siege.connected(Version::V5, "id=r24-pub");
    for number in 1..=200 {
        publisher.ask(&format!("publish r24 q1 id={number} p=*500"), "puback");
    }
    let mut clients: Vec<Client> =
        (0..sessions).map(|n| siege.connected(Version::V5, &words(n))).collect();
    for client in &mut clients {
        for number in 1..=200 {
            let packet = client.packet();
            assert_eq!((packet.name, packet.id), ("publish", number));
            client.say(&format!("puback {number}"));
        }
    }
    pause(Duration::from_millis(50));
    siege.lifted();
}
