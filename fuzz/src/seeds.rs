//! First inputs of the targets: every kind of packet, and sequences like those of the tests.
//!
//! The fuzzer finds its own way from there; without seeds it would spend its time on lengths and
//! protocol names.

use culex::codec::{
    self, Ack, Auth, Connack, Connect, Disconnect, Packet, PacketId, Properties, Property,
    PropertyList, Publish, Qos, Reason, Suback, Subscribe, SubscribeFilter, SubscribeOptions,
    Unsuback, Unsubscribe, Version, Will,
};
use std::fs;
use std::num::NonZeroU16;
use std::path::Path;

/// Writes the seeds of all targets below `corpus/`.
pub fn write_all() {
    for (target, version) in
        [("decode_v31", Version::V31), ("decode_v311", Version::V311), ("decode_v5", Version::V5)]
    {
        write(target, &streams(version));
    }
    write("properties", &blocks());
    write("topic_filter", &texts(TOPICS));
    write("session_sequence", &sequences());
    let sample = include_str!("../../conf/culex.toml");
    write("config_toml", &texts(&[sample, CONFIG, "shards = 2\naffinity = [3, 1]\n"]));
    write("mosquitto_conf", &texts(MOSQUITTO));
    write("cli_format", &texts(FORMATS));
    write("acl", &texts(RULES));
    write("record_decode", &logs());
    write("log_scan", &SCANS.iter().map(|seed| seed.to_vec()).collect::<Vec<_>>());
    write("proxy_header", &texts(PROXY_LINES));
    write("websocket", &[frames(0x80), frames(0x83), request()]);
    // Deliver all, answer, deliver all, talk both ways; with fragments and without.
    write("tls_records", &[TLS_STEPS.to_vec(), [&[64], &TLS_STEPS[1..]].concat()]);
    write("login_password_file", &texts(PASSWORDS));
    write("login_token", &texts(TOKENS));
    write("login_scram", &texts(SCRAM));
    write("login_answer", &texts(ANSWERS));
}

/// The life of a session, each record as `record_decode` reads it, and all of them in one.
fn logs() -> Vec<Vec<u8>> {
    let records: &[(u8, &[u8])] = &[
        (0x81, b"\x03\x05\x01c\x02me\x3c\xac\x02\x02"),
        (0x84, b"\x05\x0c$share/g/a/+\x2d\x07"),
        (0x84, b"\x05\x03a/#\x01\x00"),
        (0x83, b"\x05\x03\x07\x09\x06\x03a/b\x03pub\x02\x01\x01\x02hi"),
        (0x86, b"\x06\x03a/b\x03pub\x02\x01\x01\x02hi\x05\x05\x01\x01\x00\x0a\x02"),
        (
            0x86,
            b"\x0e\x03a/b\x03pub\x80\x08\x02\x01\x01\x02hi\x08\x02\x01\x0a\x04\
            \x1f\x00\x02\x02\x01\x80\x01\x0a$share/g/a\x04\x02\
            \x01\x01\x01\x0a$share/g/a\x02\x02\x00",
        ),
        (0x86, b"\x01\x01t\x00\x00\x01x\x07\x01\x02\x00"),
        (0x89, b"\x05\x02"),
        (0x87, b"\x05\x09"),
        (0x88, b"\x05\x01"),
        (0x8a, b"\x05\x03"),
        (0x8b, b"\x01t"),
        (0x8c, b"\x01\x04"),
        (0x8d, b"\x04\x01"),
        (0x0e, b"\xac\x02"),
        (0x85, b"\x05\x03a/#"),
        (0x82, b"\x05"),
    ];
    let frame = |(kind, body): &(u8, &[u8])| {
        let body_bytes = u16::try_from(body.len()).expect("short").to_le_bytes();
        [&[*kind][..], &body_bytes, body].concat()
    };
    let mut all: Vec<Vec<u8>> = records.iter().map(frame).collect();
    let last = all.len() - 1;
    all.push(all[..last].concat());
    all.push(all[..=last].concat());
    all
}

/// Manifest, mark, first segment, then batches: all as it should be, with a second opening, and
/// with a flipped bit.
const SCANS: &[&[u8]] = &[
    b"\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x04\x01\x00\x04\x00\x02\x01\x03abc\x02\x02de",
    b"\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x04\x00\x01\x01\x03abc\x00\x04\x01\x02\x04\x01\x00\
      \x04\x00\x01\x05\x01x\x04\x02\x00",
    b"\x00\x02\x00\x00\x00\x03\x00\x02\x02\x00\x04\x00\x01\x01\x03abc\x04\x00\x01\x02\x01z\
      \x03\x00\x02\x08\x00\x02",
];

/// User, client, topics, an empty line, the file.
const RULES: &[&str] = &[
    "alice\nc-1\na/x\nnews\n$SYS/x\n\n# comment\ntopic read news\nuser alice\ntopic a/#\n\
     topic deny a/secret/+\n",
    "a/b\n+\nx/a/b\nx/+\n\npattern readwrite x/%u/%c\npattern deny x/%u\ntopic write #\n",
    "u\nc\ndev/c/u-c\n$x/u\n\npattern read dev/%c/%u-%c\npattern write $x/%u\nuser u\n\
     topic readwrite +/c/#\n",
];

fn write(target: &str, seeds: &[Vec<u8>]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder).expect("the corpus can be made");
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:03}")), seed)
            .expect("the corpus can be written");
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

const MOSQUITTO: &[&str] = &[
    "port 1883\nprotocol mqtt\npersistence true\npersistence_location /var/lib/mosquitto/\n\
     persistence_file mosquitto.db\nlog_dest file /l\nlog_type all\nallow_anonymous true\n\
     password_file /p\nacl_file /a\nmax_connections 1000\nmax_queued_messages 100\n",
    "per_listener_settings true\nlistener 8883 0.0.0.0\nallow_anonymous true\ncertfile /c\n\
     keyfile /k\ncafile /a\nrequire_certificate true\nuse_identity_as_username true\n\
     tls_version tlsv1.3\nlistener 9001\nprotocol websockets\nallow_anonymous true\n\
     websockets_origin https://a\nlistener 0 /run/x\nallow_anonymous true\n",
    "allow_anonymous true\nmax_inflight_messages 0\nmax_packet_size 300\nmemory_limit 5\n\
     persistent_client_expiration 2w\nlog_dest none\nlog_dest syslog\nlog_type debug\n\
     plugin /x/mosquitto_acl_file.so\nplugin_opt_acl_file /a\nuser root\nsys_interval 3\n",
];

const TOPICS: &[&str] = &[
    "a/b\na/+\n+/b\n+/+\na/#\n#\na/b/#\na/b/c\n+\na/b/+",
    "$SYS/a\n#\n+/a\n$SYS/#\n$SYS/+",
    "/\n//\n+/+\n/+\n+/\n/#\n+//+\n//#",
    "t\n$share/g/t\n$share/g/#\n$share//t\n$share/g\n$share/+/t\n$share/g/",
    "a/b/c/d/e/f/g/h\na/b/c/d/e/f/g/h/i\n+/+/+/+/+/+/+/+\na+\n#/a\na#",
    "é/ü\n+/ü\né/+\né/#",
];

const CONFIG: &str = "shards = 2\ndata_dir = 'd'\n[[listener]]\naddress = '[::]:0'\n\
    [[listener]]\naddress = '0.0.0.0:1884'\nbacklog = 1\n[log]\nlevel = 'trace'\nansi = 'never'\n\
    [limits]\nqueue_bytes_max = 9223372036854775807\n[mqtt]\nqueue_qos0 = true\n";

const FORMATS: &[&str] = &[
    "%t %p %q %r %l %m\n{\"n\": 1.50}",
    "%x|%X|%.4x\npayload",
    "%I %U @Y-@m-@d @H:@M:@S.@N @@\npayload",
    "%% \\\\ \\n \\t \\r \\0 \\a \\e \\v\n",
    "%A|%C|%D|%E|%F|%P|%R|%S\n",
    "%5q|%05q|%-5q|%10t|%-10t|%.2t|%6.2C|%-6.2C|%.4I\npayload",
    "%j\n{\"a\": [1, 2.5e3, null, true, \"x\\n\"]}",
    "%J\n{\"a\": [1, 2.5e3, null, true, \"x\\u00e9\"]}",
    "%d|%.2d\n12345678",
    "%f|%8.1f\n1234",
];

fn id(number: u16) -> PacketId {
    PacketId::new(number).expect("not 0")
}

/// Every kind of packet of one version, with the two bytes in front that choose the pieces.
fn streams(version: Version) -> Vec<Vec<u8>> {
    let lists: Vec<PropertyList> = property_lists();
    let v5 = version == Version::V5;
    let of = |index: usize| if v5 { lists[index].as_properties() } else { Properties::default() };
    let ack = |number, reason| Ack {
        packet_id: id(number),
        reason: if v5 { reason } else { Reason::Success },
        properties: of(9),
    };
    let options = SubscribeOptions::with_qos(Qos::AtLeastOnce);
    let filter = |filter| SubscribeFilter { filter, options };
    let failure = if v5 { Reason::NotAuthorized } else { Reason::UnspecifiedError };
    let packets = [
        Packet::Connect(connect(version, of(0), None)),
        Packet::Connect(connect(
            version,
            of(0),
            Some(Will {
                qos: Qos::AtLeastOnce,
                retain: true,
                properties: of(1),
                topic: "w/t",
                payload: b"gone",
            }),
        )),
        Packet::Connack(Connack {
            session_present: version != Version::V31,
            reason: Reason::Success,
            properties: of(2),
        }),
        Packet::Publish(publish(Qos::AtMostOnce, of(3))),
        Packet::Publish(publish(Qos::AtLeastOnce, of(4))),
        Packet::Publish(publish(Qos::ExactlyOnce, of(11))),
        Packet::Puback(ack(1, Reason::Success)),
        Packet::Pubrec(ack(2, Reason::QuotaExceeded)),
        Packet::Pubrel(ack(3, Reason::PacketIdentifierNotFound)),
        Packet::Pubcomp(ack(65_535, Reason::Success)),
        Packet::Subscribe(Subscribe {
            packet_id: id(10),
            properties: of(5),
            filters: vec![filter("a/+/#"), filter("$share/g/t")],
        }),
        Packet::Suback(Suback {
            packet_id: id(10),
            properties: of(9),
            reasons: vec![Reason::GrantedQos1, failure],
        }),
        Packet::Unsubscribe(Unsubscribe {
            packet_id: id(11),
            properties: of(10),
            filters: vec!["a/+/#", "b"],
        }),
        Packet::Unsuback(Unsuback {
            packet_id: id(11),
            properties: of(9),
            reasons: if v5 { vec![Reason::Success, Reason::NotAuthorized] } else { Vec::new() },
        }),
        Packet::Pingreq,
        Packet::Pingresp,
        Packet::Disconnect(Disconnect { reason: Reason::Success, properties: of(6) }),
    ];
    let mut seeds: Vec<Vec<u8>> = packets.iter().map(|packet| stream(&[packet], version)).collect();
    if v5 {
        let reason = Reason::ContinueAuthentication;
        let auth = Packet::Auth(Auth { reason, properties: of(7) });
        seeds.push(stream(&[&auth], version));
    }
    seeds.push(stream(&packets.iter().collect::<Vec<_>>(), version));
    seeds
}

fn stream(packets: &[&Packet<'_>], version: Version) -> Vec<u8> {
    let mut bytes = vec![0, 7];
    for packet in packets {
        codec::encode(packet, version, &mut bytes);
    }
    bytes
}

fn connect<'a>(
    version: Version,
    properties: Properties<'a>,
    will: Option<Will<'a>>,
) -> Connect<'a> {
    Connect {
        version,
        bridge: false,
        clean_start: true,
        keep_alive_s: 60,
        properties,
        client_id: "client",
        will,
        username: Some("user"),
        password: Some(b"secret"),
    }
}

fn publish(qos: Qos, properties: Properties<'_>) -> Publish<'_> {
    Publish {
        dup: qos == Qos::ExactlyOnce,
        qos,
        retain: qos == Qos::AtMostOnce,
        topic: "a/b",
        packet_id: (qos != Qos::AtMostOnce).then(|| id(7)),
        properties,
        topic_alias: properties.topic_alias().and_then(NonZeroU16::new),
        message_expiry_s: properties.message_expiry_interval(),
        payload: b"payload",
    }
}

/// By packet: CONNECT, will, CONNACK, PUBLISH twice, SUBSCRIBE, DISCONNECT, AUTH, nothing, reason
/// string, user property, PUBLISH of a server.
fn property_lists() -> Vec<PropertyList> {
    use Property as P;
    let lists: [&[Property<'_>]; 12] = [
        &[
            P::SessionExpiryInterval(100),
            P::ReceiveMaximum(10),
            P::MaximumPacketSize(1000),
            P::TopicAliasMaximum(5),
            P::RequestResponseInformation(true),
            P::RequestProblemInformation(false),
            P::UserProperty("k", "v"),
            P::AuthenticationMethod("SCRAM"),
            P::AuthenticationData(b"data"),
        ],
        &[P::WillDelayInterval(5), P::PayloadFormatIndicator(1), P::ContentType("text")],
        &[
            P::MaximumQos(1),
            P::RetainAvailable(true),
            P::AssignedClientIdentifier("id"),
            P::WildcardSubscriptionAvailable(true),
            P::SubscriptionIdentifierAvailable(true),
            P::SharedSubscriptionAvailable(false),
            P::ServerKeepAlive(30),
            P::ResponseInformation("r"),
            P::ServerReference("other"),
        ],
        &[P::PayloadFormatIndicator(1), P::MessageExpiryInterval(60), P::TopicAlias(3)],
        &[P::ResponseTopic("r/t"), P::CorrelationData(b"1"), P::UserProperty("k", "v")],
        &[P::SubscriptionIdentifier(300), P::UserProperty("k", "v")],
        &[P::SessionExpiryInterval(0), P::ReasonString("bye"), P::ServerReference("x")],
        &[P::AuthenticationMethod("SCRAM"), P::AuthenticationData(b"data")],
        &[],
        &[P::ReasonString("why"), P::UserProperty("a", "b"), P::UserProperty("a", "b")],
        &[P::UserProperty("", "")],
        &[P::SubscriptionIdentifier(1), P::SubscriptionIdentifier(0x0fff_ffff)],
    ];
    let list = |properties: &[Property<'_>]| {
        let mut list = PropertyList::new();
        for property in properties {
            list.push(*property);
        }
        list
    };
    lists.into_iter().map(list).collect()
}

/// Each list in the packet it is for; the first byte is that of `properties::check`.
fn blocks() -> Vec<Vec<u8>> {
    const PACKETS: [u8; 12] = [0, 1, 2, 3, 4, 9, 12, 13, 5, 6, 11, 3];
    let lists = property_lists();
    let block = |(packet, list): (u8, &PropertyList)| {
        let mut bytes = vec![packet];
        bytes.extend_from_slice(list.as_properties().raw());
        bytes
    };
    PACKETS.into_iter().zip(&lists).map(block).collect()
}

/// Commands of `session_sequence`: three bytes of settings, then one sequence.
///
/// ```text
/// connect    00 version flags client allowed [expiry] …      peer in the upper two bits
/// publish    02 flags topic id …       subscribe 08 id count (filter flags)… identifier
/// ```
fn sequences() -> Vec<Vec<u8>> {
    let settings: [[u8; 3]; 6] =
        [[0, 0, 0], [1, 0, 0], [1, 0x30, 0], [1, 0x38, 0xff], [0, 0x01, 0x6b], [1, 0x08, 0x20]];
    let bodies: [&[u8]; 7] = [
        // A subscriber at QoS 2, a publisher at each QoS, acknowledgements, the end.
        &[
            0x00, 0, 1, 0, 0, 2, 0x40, 0, 1, 1, 0, 2, 0x08, 0, 0, 2, 2, 0, 0x42, 0, 0, 0, 1, 0x42,
            1, 0, 1, 1, 0x42, 2, 0, 2, 1, 12, 0, 12, 0, 12, 0, 12, 0, 0x51, 2, 0x53, 0, 0x13, 0,
        ],
        // A session that is resumed with a message in flight and one in the queue.
        &[
            0x00, 0, 0, 0, 1, 2, 0x40, 0, 1, 1, 0, 2, 0x08, 0, 0, 2, 2, 0, 0x42, 2, 0, 0, 1, 0x42,
            2, 0, 1, 1, 0x14, 0x42, 1, 0, 2, 1, 0x00, 0, 0, 0, 1, 2, 12, 0, 12, 0, 12, 0, 12, 0,
        ],
        // Take-over by a second connection, with a will.
        &[0x00, 0, 0x02, 0, 0, 2, 0x40, 0, 1, 1, 0, 2, 0x48, 0, 0, 10, 2, 0, 0x80, 0, 0, 0, 0, 2],
        // Shared subscriptions of two members, one of which goes.
        &[
            0x00, 0, 0, 0, 0, 2, 0x40, 0, 1, 1, 0, 2, 0x80, 0, 1, 2, 0, 2, 0x08, 0, 0, 7, 1, 0,
            0x48, 0, 0, 7, 1, 0, 0x82, 1, 0, 0, 1, 0x82, 1, 0, 1, 1, 0x82, 1, 0, 2, 1, 0x14,
        ],
        // Retained messages, then a subscription with every retain handling.
        &[
            0x00, 0, 0, 0, 0, 2, 0x02, 0x11, 0, 0, 0, 0x02, 0x10, 1, 1, 0, 0x40, 0, 1, 1, 0, 2,
            0x48, 0, 2, 2, 1, 2, 0x11, 2, 0x21, 1, 1, 0x02, 0x90, 0, 0, 0x0b, 0, 0, 2,
        ],
        // A slow reader, letters one by one, time.
        &[
            0x00, 0, 1, 0, 0, 2, 0x40, 0, 1, 1, 0, 2, 0x08, 0, 0, 4, 2, 0, 0x15, 0x42, 1, 0, 0, 4,
            0x42, 1, 0, 1, 4, 0x17, 1, 0x18, 2, 0x16, 3, 0x15, 12, 0, 0x1a, 0x1b, 0x16, 5,
        ],
        // All four connections of the same clients, one of them a cheat.
        &[
            0x00, 1, 0, 0, 0, 0x40, 2, 0, 1, 0, 0x80, 0, 1, 2, 0x15, 1, 0xc0, 0, 0, 0, 0, 3, 0x10,
            0, 0, 0x50, 1, 3, 0xd2, 2, 0xc0, 0, 0x11, 5, 0xdb, 0x9b,
        ],
    ];
    let with = |settings: &[u8; 3]| {
        bodies.iter().map(|body| [&settings[..], body].concat()).collect::<Vec<_>>()
    };
    settings.iter().flat_map(with).collect()
}

const PROXY_LINES: &[&str] = &[
    "PROXY TCP4 192.0.2.1 198.51.100.2 40000 1883\r\n",
    "PROXY TCP6 2001:db8::1 ::1 65535 0\r\n",
    "PROXY UNKNOWN\r\n",
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\0\0\0\0\0\0\0\0\0\0\0\0",
    "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\x20\0\x01x",
    "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

const TLS_STEPS: &[u8] = &[0, 1, 0, 7, 0, 1, 0, 7, 0, 5, 0, 1, 0, 6, 30, 7, 0, 0x85, 0, 0, 9, 1, 0];

/// Frames after the request; the first byte is the length of the pieces.
fn frames(choice: u8) -> Vec<u8> {
    let mut bytes = vec![choice];
    bytes.extend(b"\x02\x82\0\0\0\0\x10\x0c\x89\x81\0\0\0\0p\x80\x81\x01\x02\x03\x04\0");
    bytes.extend(b"\x82\xfe\0\x7e\0\0\0\0");
    bytes.extend([7; 126]);
    bytes.extend(b"\x88\x82\0\0\0\0\x03\xe8");
    bytes
}

fn request() -> Vec<u8> {
    let text = "\x05GET /mqtt?a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt, mqttv3.1\r\n\
        Origin: https://a\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n\r\n\u{2}";
    text.as_bytes().to_vec()
}

const PASSWORDS: &[&str] = &[
    "# users\nada:$6$hzEkgrHUDXh36EfB$9MnRaPl/0yO21juflUZ/W9IgNb2cFAYfz6INEO4Eir4VPOjK9AMmFszQIVD4x\
     p5gI4r05kl1jZj8hwtT0Pw36Q==\n",
    "$7$101$1kuNfGDo56u7+O/R$w1zIWsfWe4koxb4xXlDv/U2KEOEd9UqClfTttiZTIqJQDau+gFvnKcVRbA5JizVqRt2V6b\
     ATZ6Kt9SpDpSmo7g==",
    "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    "SCRAM-SHA-256$4096:AQEBAQEBAQEBAQEBAQEBAQ==$D3pTn18vUstYHb5B4uAQCcSVhMfCDQR1yBbHBNpkIOs=:\
     66wr80958xyj52kPrVghVUux7lrFm58fgCoT2B8InSs=",
];

const TOKENS: &[&str] = &[
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.AAAA",
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEiLCJleHAiOjQxMDI0NDQ4MDB9.",
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","alg":"EdDSA","use":"sig","x":"AAAA"},
       {"kty":"EC","crv":"P-256","x":"AA","y":"AA"},{"kty":"RSA","n":"AA","e":"AQAB"}]}"#,
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
     -----END PUBLIC KEY-----\n",
];

const SCRAM: &[&str] = &[
    "n,,n=ada,r=abc\0c=biws,r=abcBwcHBwcHBwcHBwcHBwcHBwcH,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\
        AAAAAAAA\
     AAA=",
    "y,,n=a=2Cb=3D,r=x,ext=1",
    "p=tls-unique,,n=ada,r=abc",
];

const ANSWERS: &[&str] = &[
    r#"{"result":"allow","expires_s":60,"acl":{"publish":["a/#"],"subscribe":["+"],"deny":["b"]}}"#,
    r#"{"result":"deny"}"#,
];
