use super::*;
use std::path::Path;

/// Expects `text` to be refused with exactly this line.
fn refused(text: &str, line: &str) {
    let error = Config::parse(text, Path::new("culex.toml")).expect_err("must be refused");
    assert_eq!(error.to_string(), line);
}

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("culex.toml")).expect("must be accepted")
}

#[test]
fn sample_states_every_default() {
    let sample = include_str!("../../conf/culex.toml");
    assert_eq!(parse(sample), Config::default());
    // The sample must name the keys, not rely on their defaults.
    let table: toml::Table = sample.parse().expect("valid TOML");
    let defaults = toml::Table::try_from(Config::default()).expect("can be written");
    let shown = |table: &toml::Table| -> Vec<String> { paths("", table) };
    assert_eq!(shown(&table), shown(&defaults));
}

/// All keys with their tables, sorted.
fn paths(above: &str, table: &toml::Table) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in table {
        let path = format!("{above}{key}");
        match value {
            toml::Value::Table(below) => all.extend(paths(&format!("{path}."), below)),
            toml::Value::Array(list) => {
                let tables = list.iter().filter_map(toml::Value::as_table);
                all.extend(tables.flat_map(|below| paths(&format!("{path}."), below)));
                all.push(path);
            }
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_) => all.push(path),
        }
    }
    all.sort();
    all
}

/// What the sample shows commented out is valid as well.
#[test]
fn sample_states_what_has_no_default() {
    let sample = include_str!("../../conf/culex.toml");
    let mut text = String::new();
    for line in sample.lines() {
        let bare = line.strip_prefix("# ").filter(|bare| {
            let key = bare.split(['=', ' ']).next().unwrap_or_default();
            let is_key =
                !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            bare.starts_with('[') || (is_key && bare[key.len()..].starts_with(" = "))
        });
        // Both forms of `acl` cannot stand in one file.
        if bare.is_none_or(|bare| !bare.starts_with("acl = \"allow")) {
            text.push_str(bare.unwrap_or(line));
        }
        text.push('\n');
    }
    let text = text
        .replace("protocol = \"mqtt\"", "protocol = \"websocket\"")
        .replace("proxy_protocol = \"off\"", "proxy_protocol = \"v1\"")
        .replace("client_auth = \"none\"", "client_auth = \"optional\"")
        .replace("to = [\"stderr\"]", "to = [\"file\"]");
    let config = parse(&text);
    let listener = &config.listeners[0];
    assert!(listener.tls.as_ref().is_some_and(|tls| tls.sni.len() == 1));
    assert!(listener.websocket.is_some() && listener.bind_interface.is_some());
    assert!(config.auth.jwt.is_some() && config.auth.http.is_some());
    assert!(matches!(&config.acl, Acl::Rules(rules) if rules.roles.len() == 1));
    assert!(config.process.user.is_some() && config.log.audit_file.is_some());
    assert_eq!(config.log.targets.len(), 1);
}

#[test]
fn affinity_sample_is_auto() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/affinity.toml");
    assert_eq!(Affinity::load(&path).expect("sample is valid"), (Affinity::Auto, Some(vec![])));
}

#[test]
fn empty_file_is_the_default() {
    assert_eq!(parse(""), Config::default());
}

#[test]
fn values_are_taken() {
    let config = parse(
        "shards = 2\naffinity = [3, 1]\ndata_dir = 'd'\n[[listener]]\naddress = '[::]:0'\n\
         allow_anonymous = true\n[[listener]]\nallow_anonymous = true\n\
         address = '0.0.0.0:1884'\nbacklog = 1\n[log]\nlevel = 'trace'\n\
         [limits]\nqueue_bytes_max = 9223372036854775807\n[mqtt]\nqueue_qos0 = true\n",
    );
    assert_eq!(config.shards_wanted(), Some(2));
    assert_eq!(config.affinity.cpus(), Some(&[3, 1][..]));
    assert_eq!(config.data_dir, Some(PathBuf::from("d")));
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(config.listeners[1].backlog, 1);
    assert_eq!(config.log.level, Level::Trace);
    assert_eq!(config.limits.queue_bytes_max, u64::try_from(i64::MAX).expect("positive"));
    assert!(config.mqtt.queue_qos0);
    assert_eq!(config.limits.inflight_max, 100);
}

#[test]
fn errors_name_line_and_key() {
    refused(
        "shards = 2\nshard = 1\n",
        "culex.toml:2: shard: unknown key `shard`; did you mean `shards`?",
    );
    refused("\n[limits]\nfoo = 1\n", "culex.toml:3: limits.foo: unknown key `foo`");
    refused(
        "[limits]\n\n# a\nreceive_maximum = 0\n",
        "culex.toml:4: limits.receive_maximum: invalid value: integer `0`, expected a whole \
         number from 1 to 65535",
    );
    refused(
        "[limits]\nqueue_messages_max = \"many\"\n",
        "culex.toml:2: limits.queue_messages_max: invalid type: string \"many\", expected a whole \
         number from 1 to 4294967295",
    );
    refused(
        "sys_interval_s = -1",
        "culex.toml:1: sys_interval_s: invalid value: integer `-1`, expected a whole number from \
         0 to 86400",
    );
    refused(
        "[log]\nlevel = \"loud\"\n",
        "culex.toml:2: log.level: unknown variant `loud`, expected one of `error`, `warn`, \
         `info`, `debug`, `trace`",
    );
    refused("[[listener]]\nbacklog = 3\n", "culex.toml:1: listener: missing key `address`");
    refused(
        "[[listener]]\naddress = \"localhost\"\n",
        "culex.toml:2: listener.address: must be IP:PORT, [IPV6]:PORT or unix:PATH",
    );
    refused("affinity = [\n 1,\n 1]\n", "culex.toml:1: affinity: core 1 is given twice");
    refused(
        "shards = 129\n",
        "culex.toml:1: shards: invalid value: integer `129`, expected a whole number from 0 to 128",
    );
    refused("affinity = []\n", "culex.toml:1: affinity: the list of cores is empty");
    refused("listener = []\n", "culex.toml:1: listener: there must be at least one");
    refused("shards = 1\n\ndata_dir = ''\n", "culex.toml:3: data_dir: must not be empty");
    refused(
        "log_segment_bytes = 65537",
        "culex.toml:1: log_segment_bytes: must be a multiple of 4096",
    );
    refused(
        "[[listener]]\naddress = \"[::1]:1\"\n[[listener]]\naddress = \"[::1]:1\"\n",
        "culex.toml:4: address: is given twice",
    );
}

#[test]
fn syntax_error_is_one_line() {
    let error = Config::parse("shards = \n[", Path::new("x/culex.toml")).expect_err("refused");
    let text = error.to_string();
    assert!(text.starts_with("x/culex.toml:1: shards: "), "{text}");
    assert!(!text.contains('\n'), "{text}");
}

#[test]
fn limits_hold_at_their_edges() {
    for (key, min, max) in [
        ("packet_bytes_max", 256, 268_435_460),
        ("client_id_bytes_max", 23, 65_535),
        ("topic_alias_maximum", 0, 65_535),
        ("session_expiry_s_max", 0, 4_294_967_295),
        ("output_bytes_max", 4096, 1_073_741_824),
    ] {
        let read = |number: i64| {
            Config::parse(&format!("[limits]\n{key} = {number}\n"), Path::new("culex.toml"))
        };
        assert!(read(min).is_ok() && read(max).is_ok(), "{key}");
        assert!(read(min - 1).is_err() && read(max + 1).is_err(), "{key}");
    }
}

#[test]
fn relative_paths_start_at_the_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("culex.toml");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("can write");
    };
    write("culex.toml", "affinity = 'cores.toml'\ndata_dir = 'data'\nshards = 2\n");
    let missing = Config::load(&path).expect_err("no affinity file yet").to_string();
    assert!(missing.ends_with("cores.toml: No such file or directory (os error 2)"), "{missing}");

    write("cores.toml", "cpus = [0, 5]\nhelpers = [7]\n");
    let config = Config::load(&path).expect("valid");
    assert_eq!(config.affinity, Affinity::Cpus(vec![0, 5]));
    assert_eq!(config.helpers, [7]);
    assert_eq!(config.data_dir, Some(directory.path().join("data")));

    write("cores.toml", "cpus = [0, 5]\nnode = 0\n");
    let error = Config::load(&path).expect_err("both").to_string();
    assert!(error.ends_with("cores.toml:2: node: cpus already names the cores"), "{error}");

    write("cores.toml", "node = 4711\n");
    let error = Config::load(&path).expect_err("no such node").to_string();
    assert!(error.ends_with("cores.toml:1: node: this machine has no memory node 4711"), "{error}");

    write("cores.toml", "cpus = [5]\n");
    let error = Config::load(&path).expect_err("one core for two shards").to_string();
    let expected = "culex.toml:3: shards: 2 shards need 2 cores, but affinity names 1";
    assert!(error.ends_with(expected), "{error}");

    write("cores.toml", "cpus = \"other.toml\"\n");
    let error = Config::load(&path).expect_err("no chain of files").to_string();
    assert!(
        error.ends_with("cores.toml:1: cpus: must be \"auto\" or a list of core numbers"),
        "{error}"
    );
}

fn with(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Loaded::new(None, variables).map(|loaded| loaded.config)
}

#[test]
fn the_environment_wins() {
    let config = with(&[
        ("CULEX_LIMITS__QUEUE_MESSAGES_MAX", "5"),
        ("CULEX_LISTENER__0__ADDRESS", "127.0.0.1:7"),
        ("CULEX_LISTENER__1__ADDRESS", "[::1]:8"),
        ("CULEX_LOG__TARGETS", "{ \"culex::edge\" = \"debug\" }"),
        ("CULEX_DATA_DIR", "d"),
        ("CULEX_PROCESS__USER", "123"),
        ("CULEX_ACL", "allow-all"),
        ("CULEX_AUTH__PASSWORD_FILE", "p"),
        ("CULEX_PORT_1883_TCP", "tcp://10.0.0.1:1883"),
        ("HOME", "h"),
    ])
    .expect("valid");
    assert_eq!(config.limits.queue_messages_max, 5);
    assert_eq!(config.listeners[0], Listener::local(7));
    assert_eq!(config.listeners[1].address.to_string(), "[::1]:8");
    assert_eq!(config.log.targets.len(), 1);
    assert_eq!(config.data_dir, Some(PathBuf::from("d")));
    assert_eq!(config.process.user.as_deref(), Some("123"), "a string, as the key wants it");
    assert!(config.auth.is_on());
}

#[test]
fn wrong_variables_are_named() {
    for (name, text, expected) in [
        (
            "CULEX_LIMITS__QUEUE_MESSAGE_MAX",
            "5",
            "unknown key `queue_message_max`; did you mean `queue_messages_max`?",
        ),
        (
            "CULEX_LIMITS__INFLIGHT_MAX",
            "0",
            "invalid value: integer `0`, expected a whole number from 1 to 65535",
        ),
        ("CULEX_LIMIT__INFLIGHT_MAX", "1", "there is no [limit]; did you mean `limits`?"),
        ("CULEX_LISTENER__7__ADDRESS", "[::1]:8", "there is no entry 7, the next one is 1"),
        ("CULEX_SHARDS__X", "1", "names something below a single value"),
        ("CULEX_LISTENER__0__ADDRESS", "0.0.0.0:1", "address: without [auth] the whole network"),
    ] {
        let error = with(&[(name, text)]).expect_err(name).to_string();
        let expected = format!("{name} in the environment: {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn what_is_wrong_with_a_listener_is_said_of_that_one() {
    let first = "[[listener]]\naddress = '127.0.0.1:1'\nproxy_protocol = 'v2'\n\
                 trusted_proxies = ['::/0']\n";
    let second = "[[listener]]\naddress = '127.0.0.1:2'\nproxy_protocol = 'v1'\n";
    let expected = "culex.toml:7: proxy_protocol: needs trusted_proxies";
    refused(&format!("{first}{second}"), expected);
    refused(&format!("{first}{second}[[listener]]\naddress = '[::1]:2'\n"), expected);
    let cut = format!("{first}[[listener]]\naddress = '127.0.0.1:2'\n[listener.websocket]\n");
    refused(&cut, "culex.toml:5: websocket: needs protocol = \"websocket\"");
}

#[test]
fn open_doors_must_be_meant() {
    let open = "[[listener]]\naddress = '127.0.0.1:1'\n[[listener]]\n\naddress = '0.0.0.0:1'\n";
    refused(
        open,
        "culex.toml:5: address: without [auth] the whole network may use it: write \
         `allow_anonymous = true` for this listener if it should",
    );
    let meant = parse(&format!("{open}allow_anonymous = true\n"));
    assert_eq!(meant.open_listeners().count(), 1);
    refused(
        "[[listener]]\naddress = '127.0.0.1:1'\nallow_anonymous = false\n",
        "culex.toml:2: address: nobody can connect: `allow_anonymous = false` needs [auth] \
         or a password_file",
    );
    let auth = "[[listener]]\naddress = '0.0.0.0:1'\n[auth]\npassword_file = 'p'\n";
    let error = Config::parse(auth, Path::new("c.toml")).expect_err("no rules").to_string();
    assert!(error.starts_with("c.toml:3: auth: [auth] says who clients are"), "{error}");
    refused(
        "[[listener]]\naddress = '127.0.0.1:1'\nallow_anonymous = true\n[[listener]]\n\
         address = '127.0.0.1:2'\npassword_file = 'p'\n",
        "culex.toml:6: password_file: says who clients are, but nothing says what they may do: add \
         [acl], or write `acl = \"allow-all\"`, or name an acl_file",
    );
    let config = parse(&format!("acl = 'allow-all'\n{auth}"));
    assert!(!config.allows_anonymous(&config.listeners[0]));
    assert_eq!(config.open_listeners().count(), 0);
}

#[test]
fn secrets_are_named_not_stated() {
    let auth = |key: &str| {
        format!("acl = 'allow-all'\n[auth.jwt]\nalgorithms = ['HS256']\nkey = '{key}'\n")
    };
    refused(
        &auth("hunter2"),
        "culex.toml:4: auth.jwt.key: must be file:PATH, env:NAME or cred:NAME",
    );
    for key in ["file:/k", "env:KEY", "cred:jwt"] {
        let text = parse(&auth(key)).to_toml();
        assert!(text.contains(key), "{text}");
    }
    for key in ["file:", "cred:../x", "hunter:2"] {
        assert_eq!(SecretRef::parse(key), None, "{key}");
    }
}

#[test]
fn what_is_printed_is_read_again() {
    let sample = include_str!("../../conf/culex.toml");
    let config = parse(sample);
    assert_eq!(parse(&config.to_toml()), config);
    assert_eq!(config.to_short_toml(), "");
    let changed =
        parse("shards = 1\n[limits]\ninflight_max = 2\n[[listener]]\naddress = '[::1]:2'\n");
    let short = changed.to_short_toml();
    assert_eq!(parse(&short), changed);
    assert_eq!(short.lines().filter(|line| line.contains('=')).count(), 3, "{short}");
}

#[test]
fn the_data_directory_is_where_the_system_keeps_such_things() {
    let place = |config: &Config, variables: &[(&str, &str)], is_root| {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let place = config.data_directory(variable, is_root);
        place.map(|place| place.map(|place| place.display().to_string()))
    };
    let usual = Config::default();
    let is = |place: Result<Option<String>, String>, expected: &str| {
        assert_eq!(place.as_ref().map(Option::as_deref), Ok(Some(expected)));
    };
    is(place(&usual, &[], true), "/var/lib/culex");
    is(place(&usual, &[("STATE_DIRECTORY", "/s:/t")], true), "/s");
    is(place(&usual, &[("HOME", "/h")], false), "/h/.local/state/culex");
    is(place(&usual, &[("HOME", "/h"), ("XDG_STATE_HOME", "/x")], false), "/x/culex");
    assert!(place(&usual, &[], false).is_err());
    assert_eq!(place(&parse("durability = 'none'\n"), &[], false), Ok(None));
    is(place(&parse("data_dir = '/d'\n"), &[("STATE_DIRECTORY", "/s")], true), "/d");
}

#[test]
fn who_may_speak_for_others_has_to_be_said() {
    let proxied = "[[listener]]\naddress = '127.0.0.1:1'\nproxy_protocol = 'v2'\n";
    refused(proxied, "culex.toml:3: proxy_protocol: needs trusted_proxies");
    parse(&format!("{proxied}trusted_proxies = ['10.0.0.0/8']\n"));
    parse("[[listener]]\naddress = 'unix:a'\nproxy_protocol = 'v2'\n");
}
