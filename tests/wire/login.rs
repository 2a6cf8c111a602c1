//! Who is let in: passwords, tokens, an HTTP service, SCRAM, and what comes in between.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::{digest, hmac, pbkdf2};

use crate::harness::{
    ALL, Broker, Client, V5, V311_AND_V5, Version, allow, check_with, culex, each_with,
};

/// Runs `culex passwd` with `-b`.
#[track_caller]
fn passwd(file: &Path, options: &[&str], user: &str, password: &str) {
    let mut command = culex(&["passwd", "-b"]);
    if !file.exists() {
        command.arg("-c");
    }
    let output = command.args(options).arg(file).args([user, password]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A folder with a password file: `ada`, `bob` and `eve`, one of each kind.
fn users() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    passwd(&file, &["-H", "sha512"], "ada", "secret-a");
    passwd(&file, &["-H", "sha512-pbkdf2"], "bob", "secret-b");
    passwd(&file, &[], "eve", "secret-e");
    folder
}

/// Listener 0 wants users, listener 1 lets others in too.
fn with_users(folder: &tempfile::TempDir, more: &str) -> String {
    let file = folder.path().join("passwd");
    format!(
        "acl = 'allow-all'\n[[listener]]\naddress = '127.0.0.1:0'\n[[listener]]\n\
         address = '127.0.0.1:0'\nallow_anonymous = true\n[auth]\npassword_file = {file:?}\n{more}"
    )
}

#[test]
fn users_of_a_password_file_are_let_in_and_others_are_not() {
    let folder = users();
    each_with(&with_users(&folder, ""), ALL, |test| {
        let wrong = if test.version == Version::V5 { "0x86" } else { "4" };
        let nobody = if test.version == Version::V5 { "0x87" } else { "5" };
        test.run(&format!(
            "
            a > connect user=ada pass=secret-a
            a < connack 0
            b > connect user=bob pass=secret-b
            b < connack 0
            e > connect user=eve pass=secret-e
            e < connack 0
            c > connect user=ada pass=secret-b
            c < connack {wrong}
            c < closed
            d > connect user=eve pass=
            d < connack {wrong}
            d < closed
            f > connect user=nobody pass=secret-a
            f < connack {wrong}
            f < closed
            g > connect user= pass=secret-a
            g < connack {wrong}
            g < closed
            h > connect user=ada
            h < connack {wrong}
            h < closed
            i > connect
            i < connack {nobody}
            i < closed
            a > subscribe 1 t q1
            a < suback 1 1
            b > publish t q1 id=1 p=x
            a < publish t q1 p=x
        "
        ));
    });
}

#[test]
fn a_password_alone_is_no_user() {
    let folder = users();
    check_with(
        &with_users(&folder, ""),
        V5,
        "
        a > connect pass=secret-a
        a < connack 0x86
        a < closed
        b > connect user=ada pass=*60000
        b < connack 0x86
        b < closed
    ",
    );
}

/// What follows CONNECT in the same segment is kept until CONNACK, and done then.
#[test]
fn packets_behind_connect_wait_for_the_login() {
    let folder = users();
    each_with(&with_users(&folder, ""), V311_AND_V5, |test| {
        let mut client = Client::open(test.broker.address, test.version);
        let compose = |text: &str| crate::harness::compose(text, test.version, "pipelined");
        let mut bytes = compose("connect user=eve pass=secret-e");
        bytes.extend(compose("subscribe 1 t q1"));
        for id in 1..=20 {
            bytes.extend(compose(&format!("publish t q1 id={id} p={id}")));
        }
        bytes.extend(compose("pingreq"));
        client.write(&bytes);
        // SUBACK waits for the other shard, if there is one, so its place is not known.
        let names: Vec<&str> = (0..43).map(|_| client.packet().name).collect();
        assert_eq!(names[0], "connack");
        let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
        let counts = ["suback", "puback", "publish", "pingresp"].map(count);
        assert_eq!(counts, [1, 20, 20, 1], "{names:?}");
    });
}

#[test]
fn packets_behind_a_wrong_login_do_nothing() {
    let folder = users();
    each_with(&with_users(&folder, ""), V311_AND_V5, |test| {
        test.run(
            "w > connect user=ada pass=secret-a\nw < connack 0\nw > subscribe 1 t\nw < suback 1 0",
        );
        let mut client = Client::open(test.broker.address, test.version);
        let compose = |text: &str| crate::harness::compose(text, test.version, "intruder");
        let mut bytes = compose("connect user=eve pass=wrong will=t wp=will");
        bytes.extend(compose("publish t p=smuggled"));
        client.write(&bytes);
        assert_ne!(client.packet().codes, [0]);
        assert!(matches!(client.next(), crate::harness::Event::Closed));
        test.run("w > publish t p=last\nw < publish t p=last");
    });
}

#[test]
fn a_session_belongs_to_its_user() {
    let folder = users();
    each_with(&with_users(&folder, ""), ALL, |test| {
        let refused = if test.version == Version::V5 { "0x87" } else { "5" };
        test.run(&format!(
            "
            a > connect id=shared user=ada pass=secret-a clean=0 expiry=100
            a < connack 0
            b > connect id=shared user=bob pass=secret-b
            b < connack {refused}
            b < closed
            c > connect id=shared user=bob pass=secret-b clean=0
            c < connack {refused}
            c < closed
            a > pingreq
            a < pingresp
        "
        ));
    });
}

#[test]
fn broken_files_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    let config = folder.path().join("culex.toml");
    let text = with_users(&folder, "");
    std::fs::write(&config, text).unwrap();
    let good = "$6$hzEkgrHUDXh36EfB$9MnRaPl/0yO21juflUZ/W9IgNb2cFAYfz6INEO4Eir4VPOjK9AMmFszQIVD4x\
                p5gI4r05kl1jZj8hwtT0Pw36Q==";
    for (content, problem) in [
        ("ada\n".to_owned(), "passwd:1: the line has no ':'"),
        ("ada:plain\n".into(), "passwd:1: the password is not hashed"),
        (format!("ada:{good}\r\nbob"), "passwd:2: the line has no ':'"),
        (format!("ada:{good}\nada:{good}\n"), "passwd:2: this user is there twice"),
        (format!("ada:{}", &good[..60]), "passwd:1: "),
        (format!("#\n\n:{good}"), "passwd:3: the user name is empty"),
        (format!("a\0a:{good}"), "passwd:1: the line holds U+0000"),
    ] {
        std::fs::write(&file, content).unwrap();
        allow(&file, 0o600);
        let mut command = culex(&["serve", "--shards", "1", "--durability", "none", "-c"]);
        let output = command.arg(&config).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(problem), "{problem}: {errors}");
    }
}

#[test]
fn passwd_has_the_options_of_mosquitto() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passwd");
    let run = |options: &[&str], input: &str| {
        let mut child = culex(&["passwd"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who does not want input has ended perhaps.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let path = file.to_str().unwrap();
    assert_eq!(run(&[path, "ada"], "x\n").0, 1, "there is no file yet");
    assert_eq!(run(&["-c", path, "ada"], "from standard input\n"), (0, String::new()));
    assert_eq!(run(&["-b", "-H", "sha512-pbkdf2", "-I", "5", path, "bob", "b"], "").0, 0);
    assert_eq!(run(&[path, "bob"], "").0, 1, "an empty password");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("ada:$argon2id$") && text.contains("\nbob:$7$5$"), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(run(&["-D", path, "ada"], "").0, 0);
    assert_eq!(run(&["-D", path, "ada"], "").0, 1);
    std::fs::write(&file, format!("{text}plain:text\n")).unwrap();
    assert_eq!(run(&["-U", path], "").0, 0);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\nplain:$argon2id$") && text.contains("\nbob:$7$5$"), "{text}");
    for wrong in [
        &["-b", path, "a:b", "x"][..],
        &["-b", path, "a"],
        &["-c", "-D", path, "a"],
        &["-H", "md5", path, "a"],
        &["-I", "0", path, "a"],
        &["-I", "5", "-b", path, "a", "x"],
        &["-U", path, "a"],
        &[path],
    ] {
        assert_eq!(run(wrong, "x\n").0, 1, "{wrong:?}");
    }
}

/// A token of `claims`, signed with the secret of [`with_tokens`].
fn token(claims: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(br#"{"alg":"HS256"}"#), encode(claims.as_bytes()));
    format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

const SECRET: &[u8] = b"a secret of thirty-two bytes....";

fn unix_s() -> u64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()
}

#[test]
fn tokens_bring_name_rights_and_end() {
    let folder = users();
    std::fs::write(folder.path().join("key"), SECRET).unwrap();
    allow(&folder.path().join("key"), 0o600);
    let key = folder.path().join("key");
    let more = format!(
        "[auth.jwt]\nalgorithms = ['HS256']\nkey = 'file:{}'\nacl_claim = 'acl'\n",
        key.display()
    );
    each_with(&with_users(&folder, &more), V5, |test| {
        let late = unix_s() + 1000;
        let acl = r#","acl":{"publish":["up"],"subscribe":["down/#"]}"#;
        let good = token(&format!(r#"{{"sub":"dev","exp":{late}{acl}}}"#));
        let short = token(&format!(r#"{{"sub":"dev","exp":{}}}"#, unix_s() + 2));
        let old = token(r#"{"sub":"dev","exp":1}"#);
        test.run(&format!(
            "
            a > connect pass={good}
            a < connack 0
            a > subscribe 1 down/x up
            a < suback 1 0 0x87
            a > publish up q1 id=1 p=x
            a < puback 1 0x10
            a > publish down/x q1 id=2 p=x
            a < puback 2 0x87
            b > connect user=dev pass={good}
            b < connack 0
            c > connect user=other pass={good}
            c < connack 0x86
            c < closed
            d > connect pass={old}
            d < connack 0x86
            d < closed
            e > connect user=ada pass=secret-a
            e < connack 0
            f > connect pass={short}
            f < connack 0
            f < disconnect 0xa0
            f < closed
        "
        ));
    });
}

/// A service that answers with what `answer` makes of the body of each request.
struct Service {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Service {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let last = Arc::new(Mutex::new(String::new()));
        let (count, request) = (Arc::clone(&asked), Arc::clone(&last));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream);
                let (mut head, mut bytes) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) < 3 {
                        break;
                    }
                    let line = line.to_ascii_lowercase();
                    if let Some(length) = line.strip_prefix("content-length:") {
                        bytes = length.trim().parse().unwrap();
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; bytes];
                if reader.read_exact(&mut body).is_err() {
                    continue;
                }
                let body = String::from_utf8(body).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&body);
                *request.lock().unwrap() = head + &body;
                let _ = reader.get_mut().write_all(answer.as_bytes());
            }
        });
        Self { address, asked, last }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn with_service(address: SocketAddr, more: &str) -> String {
    format!(
        "acl = 'allow-all'\n[[listener]]\naddress = '127.0.0.1:0'\n[auth]\nfailures_max = 0\n\
         [auth.http]\nurl = 'http://{address}/login'\n{more}"
    )
}

#[test]
fn a_service_decides_and_brings_rights() {
    let service = Service::start(|body| {
        if body.contains(r#""password":"good""#) {
            ok(r#"{"result":"allow","acl":{"publish":["up"],"subscribe":["down"]}}"#)
        } else if body.contains("denied") {
            "HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: 0\r\n\r\n".into()
        } else if body.contains("moved") {
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\
             content-length: 0\r\n\r\n"
                .into()
        } else if body.contains("strange") {
            ok(r#"{"result":true}"#)
        } else {
            ok(r#"{"result":"deny"}"#)
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let bearer = folder.path().join("token");
    std::fs::write(&bearer, "tell-nobody\n").unwrap();
    allow(&bearer, 0o600);
    let config = with_service(service.address, &format!("token = 'file:{}'", bearer.display()));
    each_with(&config, V5, |test| {
        test.run(
            "
            a > connect id=me user=dev pass=good
            a < connack 0
            a > subscribe 1 down up
            a < suback 1 0 0x87
            b > connect user=dev pass=bad
            b < connack 0x86
            b < closed
            c > connect user=dev pass=denied
            c < connack 0x86
            c < closed
            d > connect user=dev pass=strange
            d < connack 0x88
            d < closed
            f > connect user=dev pass=x:ff00
            f < connack 0x86
            f < closed
            e > connect id=me2 user=dev pass=moved
            e < connack 0x88
            e < closed
        ",
        );
        let last = service.last.lock().unwrap().clone();
        assert!(last.starts_with("post /login http/1.1"), "{last}");
        assert!(last.contains("authorization: bearer tell-nobody"), "{last}");
        assert!(last.contains(r#""client_id":"me2","user":"dev","password":"moved","#), "{last}");
        assert!(last.contains(r#""address":"127.0.0.1","listener":0"#), "{last}");
    });
}

#[test]
fn a_yes_is_remembered_and_a_no_is_not() {
    for shards in [1, 2] {
        let service = Service::start(|body| {
            let yes = body.contains("good");
            ok(if yes { r#"{"result":"allow"}"# } else { r#"{"result":"deny"}"# })
        });
        let broker = Broker::start(shards, &with_service(service.address, "cache_s = 60"));
        let connect = |password: &str| {
            let mut client = Client::open(broker.address, Version::V5);
            let text = format!("connect user=dev pass={password}");
            client.write(&crate::harness::compose(&text, Version::V5, "same"));
            client.packet().codes
        };
        assert_eq!(
            (connect("good"), connect("good"), connect("good")),
            (vec![0], vec![0], vec![0])
        );
        assert_eq!(service.asked(), 1);
        assert_eq!((connect("bad"), connect("bad")), (vec![0x86], vec![0x86]));
        assert_eq!(service.asked(), 3);
    }
}

/// A service that does not answer: nobody gets in, and after some failures nobody waits for it.
#[test]
fn a_dead_service_lets_nobody_in() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = with_service(silent.local_addr().unwrap(), "timeout_ms = 100\nthreads = 1");
    let broker = Broker::start(1, &config);
    for _ in 0..8 {
        let mut client = Client::open(broker.address, Version::V5);
        client.write(&crate::harness::compose("connect user=dev pass=x", Version::V5, "c"));
        assert_eq!(client.packet().codes, [0x88]);
    }
    broker.line("the login service fails, it rests");
}

/// The client's last message for `ada`/`pencil` and the nonce `abc`.
fn proof(server_first: &str) -> String {
    let fields: Vec<&str> = server_first.split(',').map(|field| &field[2..]).collect();
    let salt = STANDARD.decode(fields[1]).unwrap();
    let mut salted = [0; 32];
    let iterations = fields[2].parse().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, b"pencil", &mut salted);
    let mac = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    };
    let client_key = mac(&salted, "Client Key");
    let stored_key = digest::digest(&digest::SHA256, &client_key);
    let without_proof = format!("c=biws,r={}", fields[0]);
    let signed = format!("n=ada,r=abc,{server_first},{without_proof}");
    let signature = mac(stored_key.as_ref(), &signed);
    let proof: Vec<u8> = client_key.iter().zip(signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

fn data_of(packet: &crate::harness::Packet) -> String {
    let text = packet.text();
    let (_, rest) = text.split_once("data=").expect("there is data");
    let word = rest.split_whitespace().next().unwrap_or_default();
    let bytes = word.strip_prefix("x:").map(crate::harness::hex);
    bytes.map_or_else(|| word.to_owned(), |bytes| String::from_utf8(bytes).unwrap())
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-4.12.1-1]
#[test]
fn scram_logs_in_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("scram");
    passwd(&file, &["--scram"], "ada", "pencil");
    let config = format!(
        "acl = 'allow-all'\n[[listener]]\naddress = '127.0.0.1:0'\n[auth]\nscram_file = {file:?}\n"
    );
    each_with(&config, V5, |test| {
        let mut client = Client::open(test.broker.address, Version::V5);
        let method = "method=SCRAM-SHA-256";
        let say = |client: &mut Client, text: &str| {
            client.write(&crate::harness::compose(text, Version::V5, "scram"));
            client.packet()
        };
        let challenge = say(&mut client, &format!("connect {method} data=n,,n=ada,r=abc"));
        assert_eq!((challenge.name, &challenge.codes[..]), ("auth", &[0x18][..]));
        let answer = proof(&data_of(&challenge));
        let connack = say(&mut client, &format!("auth 0x18 {method} data={answer}"));
        assert_eq!((connack.name, &connack.codes[..]), ("connack", &[0][..]));
        assert!(connack.text().contains("method=SCRAM-SHA-256"), "{}", connack.text());
        assert!(data_of(&connack).starts_with("v="));
        let challenge = say(&mut client, &format!("auth 0x19 {method} data=n,,n=ada,r=abc"));
        let answer = proof(&data_of(&challenge));
        let done = say(&mut client, &format!("auth 0x18 {method} data={answer}"));
        assert_eq!((done.name, &done.codes[..]), ("auth", &[0][..]));
        // [MQTT-4.12.1-2]
        say(&mut client, &format!("auth 0x19 {method} data=n,,n=ada,r=abc"));
        let end = say(&mut client, &format!("auth 0x18 {method} data=c=biws,r=abc,p=AAAA"));
        assert_eq!((end.name, &end.codes[..]), ("disconnect", &[0x87][..]));
        test.run("p > connect method=PLAIN data=x\np < connack 0x8c\np < closed");
    });
}

/// What a login tells nobody: the log and the answers hold no password.
#[test]
fn the_log_says_who_and_why_but_no_secret() {
    let folder = users();
    let broker = Broker::start(1, &with_users(&folder, "[log]\nlevel = 'trace'\n"));
    let mut client = Client::open(broker.address, Version::V5);
    let text = "connect user=ada pass=hunter-two";
    client.write(&crate::harness::compose(text, Version::V5, "who"));
    assert_eq!(client.packet().codes, [0x86]);
    client.lose();
    let line = broker.line("login refused");
    assert!(line.contains("bad_credentials") && line.contains("ada"), "{line}");
    let log = broker.log();
    assert!(!log.contains("hunter-two"), "{log}");
}
