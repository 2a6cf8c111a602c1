//! Two connections with one client identifier.

use crate::harness::{ALL, Event, V5, V311_AND_V5, check, each};

#[test]
fn the_older_connection_ends() {
    // [MQTT-3.1.4-3]; 3.1.1: [MQTT-3.1.4-2]
    check(
        ALL,
        "
        a connects id=~x
        b connects id=~x
        a ended 0x8e
        b < nothing
    ",
    );
}

#[test]
fn the_session_goes_to_the_newer_connection() {
    // [MQTT-3.1.4-3] [MQTT-3.1.2-5]; 3.1.1: [MQTT-3.1.4-2] [MQTT-3.1.2-4]
    check(
        V311_AND_V5,
        "
        pub connects
        a connects id=~x clean=0 expiry=60
        a subscribes ~/t q1
        pub publishes ~/t q1 p=1
        a < publish ~/t q1 p=1 id=$m
        b connects id=~x clean=0 expiry=60 -> present
        a ended 0x8e
        b < publish ~/t q1 dup p=1 id=$m
        b > puback $m
        pub publishes ~/t q1 p=2
        b gets ~/t q1 p=2
    ",
    );
}

#[test]
fn clean_start_takes_over_an_empty_session() {
    // [MQTT-3.1.4-3] [MQTT-3.1.2-4]
    check(
        ALL,
        "
        pub connects
        a connects id=~x clean=0 expiry=60
        a subscribes ~/t q1
        b connects id=~x
        a ended 0x8e
        pub publishes ~/t q1 p=lost
        b < nothing
    ",
    );
}

#[test]
fn take_over_publishes_the_will() {
    // [MQTT-3.1.2-8] [MQTT-3.1.4-3]: will delay 0; 3.1.1: [MQTT-3.1.2-8]
    check(
        ALL,
        "
        sub connects
        sub subscribes ~/w
        a connects id=~x will=~/w wp=gone
        b connects id=~x
        a ended 0x8e
        sub gets ~/w p=gone
        b leaves
        sub < nothing
    ",
    );
}

#[test]
fn take_over_cancels_a_delayed_will() {
    // [MQTT-3.1.3-9] [MQTT-3.1.2-8]
    check(
        V5,
        "
        sub connects
        sub subscribes ~/w
        a connects id=~x clean=0 expiry=60 will=~/w wdelay=1
        b connects id=~x clean=0 expiry=60 -> present
        a ended 0x8e
        sub silent 1500
    ",
    );
}

#[test]
fn a_fight_for_one_id_leaves_one_connection() {
    // [MQTT-3.1.4-3]; 3.1.1: [MQTT-3.1.4-2]
    each(ALL, |test| {
        let id = format!("{}x", test.prefix);
        let mut clients: Vec<_> = (0..40)
            .map(|_| {
                let mut client = crate::harness::Client::open(test.broker.address, test.version);
                client.write(&crate::harness::compose("connect", test.version, &id));
                client
            })
            .collect();
        let mut alive = 0;
        for client in &mut clients {
            client.write(&crate::harness::compose("pingreq", test.version, ""));
            let mut events = std::iter::from_fn(|| match client.next() {
                Event::Packet(packet) if packet.name == "pingresp" => None,
                Event::Packet(packet) => Some(packet.name),
                Event::Closed => Some("closed"),
                Event::Trouble(text) => panic!("{text}"),
            });
            // A loser may still have answered; who is really there shows below.
            let _ = events.by_ref().find(|name| *name == "closed");
        }
        for client in &mut clients {
            client.write(&crate::harness::compose("pingreq", test.version, ""));
            loop {
                match client.next() {
                    Event::Packet(packet) if packet.name == "pingresp" => {
                        alive += 1;
                        break;
                    }
                    Event::Packet(_) => {}
                    Event::Closed => break,
                    Event::Trouble(text) => panic!("{text}"),
                }
            }
        }
        assert_eq!(alive, 1);
    });
}

#[test]
fn a_polite_end_is_seen_before_the_next_connection() {
    // [MQTT-3.14.4-3]: DISCONNECT and the end of the stream come before the next CONNECT, whichever
    // shard the kernel gives that to.
    each(ALL, |test| {
        test.run("watcher connects\nwatcher subscribes ~/will");
        let address = test.broker.address;
        let (id, will) = (format!("{}polite", test.prefix), format!("{}/will", test.prefix));
        let connect = format!("connect will={will} wp=wrong");
        let connect = crate::harness::compose(&connect, test.version, &id);
        let disconnect = crate::harness::compose("disconnect", test.version, "");
        for _ in 0..100 {
            let mut client = crate::harness::Client::open(address, test.version);
            client.write(&connect);
            assert_eq!(client.packet().name, "connack");
            client.write(&disconnect);
        }
        test.run("watcher < nothing");
    });
}
