use super::*;

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
            _ => all.push(path),
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
    assert_eq!(Affinity::load(&path).expect("sample is valid"), Affinity::Auto);
}

#[test]
fn empty_file_is_the_default() {
    assert_eq!(parse(""), Config::default());
}

#[test]
fn values_are_taken() {
    let config = parse(
        "shards = 2\naffinity = [3, 1]\ndata_dir = 'd'\n[[listener]]\naddress = '[::]:0'\n\
         [[listener]]\naddress = '0.0.0.0:1884'\nbacklog = 1\n[log]\nlevel = 'trace'\n\
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
        "[[listener]]\naddress = \"[::1]:1\"\n[[listener]]\naddress = \"[::1]:1\"\n",
        "culex.toml:1: listener: [::1]:1 is given twice",
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

    write("cores.toml", "cpus = [0, 5]\n");
    let config = Config::load(&path).expect("valid");
    assert_eq!(config.affinity, Affinity::Cpus(vec![0, 5]));
    assert_eq!(config.data_dir, Some(directory.path().join("data")));

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
