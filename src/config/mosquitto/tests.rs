use super::*;
use crate::codec::Version;
use crate::config::{
    Acl, Address, Config, Destination, Durability, Facility, Level, Listener, MqttVersion,
    Protocol, ProxyProtocol,
};
use std::path::PathBuf;

fn read(text: &str) -> Loaded {
    parse(text, Path::new("m.conf")).expect("must be accepted")
}

fn refused(text: &str, expected: &str) {
    let error = parse(text, Path::new("m.conf")).expect_err("must be refused").to_string();
    assert!(error.contains(expected), "{error}\nhas no\n{expected}");
}

fn addresses(config: &Config) -> Vec<String> {
    config.listeners.iter().map(|listener| listener.address.to_string()).collect()
}

const TUTORIAL: &str = "\
# /etc/mosquitto/mosquitto.conf
port 1883
protocol mqtt
persistence true
persistence_location /var/lib/mosquitto/
persistence_file mosquitto.db
log_dest file /var/log/mosquitto/mosquitto.log
log_type all
allow_anonymous true
password_file /etc/mosquitto/passwd
acl_file /etc/mosquitto/acl
max_connections 1000
max_queued_messages 100
";

#[test]
fn the_file_of_the_tutorials_is_understood() {
    let Loaded { config, warnings } = read(TUTORIAL);
    assert!(matches!(&config.listeners[..], [Listener {
        address: Address::Tcp(address),
        protocol: Protocol::Mqtt,
        allow_anonymous: Some(true),
        max_connections: 1000,
        ..
    }] if address.port() == 1883 && address.ip().is_unspecified()));
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.data_dir, Some(PathBuf::from("/var/lib/mosquitto/culex")));
    assert_eq!(config.log.to, [Destination::File]);
    assert_eq!(config.log.file, Some(PathBuf::from("/var/log/mosquitto/mosquitto.log")));
    assert_eq!(config.log.level, Level::Debug);
    assert_eq!(config.auth.password_file, Some(PathBuf::from("/etc/mosquitto/passwd")));
    let file = Path::new("/etc/mosquitto/acl");
    assert!(matches!(&config.acl, Acl::Rules(rules) if rules.file.as_deref() == Some(file)));
    assert_eq!(config.limits.queue_messages_max, 100);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("m.conf:6: persistence_file: mosquitto.db is neither"));
}

#[test]
fn what_is_converted_means_the_same() {
    let certificates = "listener 8883 0.0.0.0\ncertfile /c\nkeyfile /k\ncafile /a\n\
                        require_certificate true\nuse_identity_as_username true\n\
                        tls_version tlsv1.3\nlistener 9001 127.0.0.1\nprotocol websockets\n\
                        allow_anonymous true\nwebsockets_origin https://a\n";
    for text in [TUTORIAL, "", "allow_anonymous true\n", certificates] {
        let direct = read(text).config;
        for toml in [direct.to_toml(), direct.to_short_toml()] {
            let again = Config::parse(&toml, Path::new("c.toml"));
            assert_eq!(again.expect(&toml), direct, "{toml}");
        }
    }
}

#[test]
fn no_listener_means_this_host_alone() {
    let config = read("").config;
    assert_eq!(addresses(&config), ["127.0.0.1:1883"]);
    assert_eq!(config.listeners[0].allow_anonymous, Some(true));
    assert_eq!(config.durability, Durability::None);
}

#[test]
fn a_listener_lets_nobody_in_by_itself() {
    refused("listener 1883\n", "m.conf:1: listener: address: nobody can connect");
    refused("port 1884\n", "nobody can connect");
    refused("listener 1883\nallow_anonymous false\n", "nobody can connect");
    let config = read("listener 1883 127.0.0.1\npassword_file p\n").config;
    assert_eq!(config.listeners[0].allow_anonymous, Some(false));
    assert_eq!(config.acl, Acl::AllowAll);
}

#[test]
fn listeners_have_their_own_options() {
    let config = read(
        "allow_anonymous true\nlistener 1883 127.0.0.1\nmax_connections 5\n\
         listener 9001 127.0.0.1\nprotocol websockets\nlistener_allow_anonymous false\n\
         password_file p\nlistener 0 /run/x.sock\n",
    )
    .config;
    assert_eq!(addresses(&config), ["127.0.0.1:1883", "127.0.0.1:9001", "unix:/run/x.sock"]);
    let maxima: Vec<_> = config.listeners.iter().map(|l| l.max_connections).collect();
    assert_eq!(maxima, [5, 0, 0]);
    let anonymous: Vec<_> = config.listeners.iter().map(|l| l.allow_anonymous).collect();
    assert_eq!(anonymous, [Some(true), Some(false), Some(true)]);
    assert_eq!(config.listeners[1].protocol, Protocol::WebSocket);
}

#[test]
fn what_a_listener_offers() {
    let config = read(
        "allow_anonymous true\nmessage_size_limit 100\nlog_facility 5\nauto_id_prefix all-\n\
         listener 1883 127.0.0.1\nmax_qos 1\n\
         mount_point plant/\naccept_protocol_versions 5, 4\nmax_topic_alias 3\n\
         listener 1884 127.0.0.1\nmaximum_qos 0\n\
         listener_auto_id_prefix own-\n",
    )
    .config;
    assert_eq!(config.limits.payload_bytes_max, 100);
    assert_eq!(config.log.syslog_facility, Facility::Local5);
    let [first, second] = &config.listeners[..] else { panic!("two listeners") };
    assert_eq!((first.max_qos, second.max_qos), (1, 0));
    let prefixes = [&first.auto_id_prefix, &second.auto_id_prefix].map(|one| one.as_deref());
    assert_eq!(prefixes, [Some("all-"), Some("own-")]);
    assert_eq!(first.mount_point.as_deref(), Some("plant/"));
    assert_eq!(first.mqtt_versions, [MqttVersion(Version::V5), MqttVersion(Version::V311)]);
    assert_eq!((first.topic_alias_maximum, second.topic_alias_maximum), (Some(3), None));
    assert_eq!((second.mount_point.as_deref(), config.limits.topic_alias_maximum), (None, 10));
    assert_eq!(Config::parse(&config.to_toml(), Path::new("c.toml")).expect("valid"), config);
}

#[test]
fn settings_of_one_listener_stay_there() {
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\nallow_anonymous true\n\
                auto_id_prefix one-\n\
                listener 1884 127.0.0.1\n";
    refused(text, "nobody can connect");
    let both = format!("{text}allow_anonymous true\n");
    let [first, second] = &read(&both).config.listeners[..] else { panic!("two listeners") };
    assert_eq!(second.allow_anonymous, Some(true));
    assert_eq!((first.auto_id_prefix.as_deref(), &second.auto_id_prefix), (Some("one-"), &None));
    let [first, second] =
        &read(&format!("{both}password_file p\nacl_file a\n")).config.listeners[..]
    else {
        panic!("two listeners")
    };
    assert_eq!((&first.password_file, &first.acl_file), (&None, &None));
    let own = second.password_file.as_ref().zip(second.acl_file.as_ref());
    let own = own.map(|(users, rules)| (users.ends_with("p"), rules.ends_with("a")));
    assert_eq!(own, Some((true, true)));
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\npassword_file /p\n\
                acl_file /a\nlistener 1884 127.0.0.1\nacl_file /a\n";
    let config = read(&format!("{text}password_file /p\n")).config;
    assert_eq!(config.auth.password_file, Some(PathBuf::from("/p")), "what is common is one");
    assert_eq!(config.listeners[0].password_file, None);
    refused(text, "nobody can connect");
}

#[test]
fn security_above_all_listeners_is_not_lost() {
    let alone = |text: &str| read(&format!("per_listener_settings true\n{text}")).config;
    refused("per_listener_settings true\nallow_anonymous false\n", "nobody can connect");
    let config = alone("acl_file /a\nauto_id_prefix x-\n");
    assert_eq!(addresses(&config), ["127.0.0.1:1883"]);
    let file = Path::new("/a");
    assert!(matches!(&config.acl, Acl::Rules(rules) if rules.file.as_deref() == Some(file)));
    assert_eq!(config.listeners[0].auto_id_prefix.as_deref(), Some("x-"));
    for text in
        ["password_file /p\n", "plugin mosquitto_password_file.so\nplugin_opt_password_file /p\n"]
    {
        let config = alone(text);
        let [listener] = &config.listeners[..] else { panic!("one listener") };
        assert!(!listener.is_local(), "Mosquitto serves everywhere then");
        assert_eq!(listener.allow_anonymous, Some(false));
        assert_eq!(config.auth.password_file, Some(PathBuf::from("/p")));
        let config = alone(&format!("{text}listener 1884 127.0.0.1\nallow_anonymous true\n"));
        assert_eq!(config.listeners.len(), 2);
        assert_eq!(config.listeners[0].password_file, Some(PathBuf::from("/p")));
    }
    let text = "per_listener_settings true\nacl_file /a\nlistener 1883 127.0.0.1\n\
                allow_anonymous true\n";
    let Loaded { config, warnings } = read(text);
    assert_eq!((config.listeners.len(), &config.listeners[0].acl_file), (1, &None));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("m.conf:2: acl_file: without effect: "), "{warnings:?}");
}

#[test]
fn global_plugins_hold_at_every_listener() {
    let text = "per_listener_settings true\nglobal_plugin mosquitto_acl_file.so\n\
                plugin_opt_acl_file /a\nglobal_plugin mosquitto_password_file.so\n\
                plugin_opt_password_file /p\nlistener 1883 127.0.0.1\n\
                listener 1884 127.0.0.1\nallow_anonymous true\n";
    let config = read(text).config;
    let file = Path::new("/a");
    assert!(matches!(&config.acl, Acl::Rules(rules) if rules.file.as_deref() == Some(file)));
    assert_eq!(config.auth.password_file, Some(PathBuf::from("/p")));
    assert_eq!(config.listeners.len(), 2, "they make no listener");
    refused(&format!("{text}acl_file /b\n"), "m.conf:7: listener: a file of a global_plugin");
    refused(&format!("{text}password_file /b\n"), "m.conf:7: listener: a file of a global_plugin");
}

#[test]
fn settings_are_not_bound_to_listeners_by_halves() {
    let text = "listener 1883 127.0.0.1\nacl_file /a\n";
    let expected = "m.conf:3: per_listener_settings: must stand before acl_file";
    refused(&format!("{text}per_listener_settings true\n"), expected);
    let text = "per_listener_settings true\nallow_anonymous true\nper_listener_settings";
    let expected = "m.conf:3: per_listener_settings: must stand before allow_anonymous";
    refused(&format!("{text} false\n"), expected);
    read(&format!("{text} true\n"));
}

#[test]
fn what_is_wrong_is_said_of_its_listener() {
    let rest = "listener 1884 127.0.0.1\nallow_anonymous true\n";
    let text = "per_listener_settings true\nlistener 1883 127.0.0.1\n";
    refused(&format!("{text}{rest}"), "m.conf:2: listener: address: nobody can connect");
    refused(&format!("{rest}listener 1884 127.0.0.1\n{rest}"), "m.conf:3: listener: address: is");
}

#[test]
fn what_is_so_anyway_makes_no_listener() {
    let alone = read("max_topic_alias 5\nmax_qos 2\nprotocol mqtt\n").config.listeners;
    let local = Listener { allow_anonymous: Some(true), ..Listener::local(1883) };
    assert_eq!(alone, [Listener { topic_alias_maximum: Some(5), ..local }]);
    let text = "allow_anonymous true\nlistener 1884 127.0.0.1\n";
    let before = |line: &str| read(&format!("{line}\n{text}")).config.listeners.len();
    assert_eq!((before("max_topic_alias 5"), before("max_qos 2"), before("max_qos 1")), (1, 1, 2));
}

#[test]
fn errors_name_the_line_and_what_is_meant() {
    refused("\nlistner 1883\n", "m.conf:2: listner: unknown option; did you mean `listener`?");
    refused("pasword_file p\n", "did you mean `password_file`?");
    refused("max_keepalive soon\n", "must be a whole number from 0 to 65535");
    refused("persistence yes\n", "m.conf:1: persistence: must be true or false");
    refused("connection up\n", "bridges are not supported by this version");
    refused("bridge_cafile x\n", "bridges are not supported by this version");
    refused("psk_file x\n", "pre-shared keys is not supported");
    refused("plugin /usr/lib/x.so\n", "plugins are not supported");
    refused("listener 1883\nmount_point x/#\n", "m.conf:2: mount_point: must be the beginning");
    refused("listener 1883\nmount_point $share/g/\n", "mount_point: must be the beginning");
    refused("mount_point x/\n", "m.conf:1: mount_point: must stand below a listener");
    refused("listener 1883\naccept_protocol_versions 4,6\n", "there is no version `6`");
    refused("listener 1883\nmax_qos 3\n", "must be a whole number from 0 to 2");
    refused("listener 8883\ncertfile c\n", "needs both certfile and keyfile");
    refused("log_dest file\n", "needs a path");
    refused("include_dir d\n", "not possible here");
}

#[test]
fn lines_of_the_log_look_as_they_are_wanted() {
    let log = |text: &str| read(&format!("allow_anonymous true\n{text}")).config.log;
    let connections = |text: &str| log(text).targets.get("culex::connections").copied();
    assert_eq!(connections(""), Some(Level::Debug), "they are notices");
    assert_eq!(connections("log_type error\n"), None);
    assert_eq!(connections("log_type all\n"), None);
    assert_eq!(connections("connection_messages false\n"), None);
    assert_eq!(connections("connection_messages false\nlog_type all\n"), Some(Level::Info));
    assert!(!log("log_timestamp false\n").timestamps);
    let text = "log_timestamp_format %Y-%m-%dT%H:%M:%S\n";
    assert_eq!(log(text).time_format.as_deref(), Some("%Y-%m-%dT%H:%M:%S"));
    let wrong = "allow_anonymous true\nlog_timestamp_format %H:%Q\n";
    refused(wrong, "m.conf:2: log_timestamp_format: has `%Q`; there are");
}

#[test]
fn proxies_may_have_to_come_by_tls() {
    let proxy = |text: &str| {
        let text = format!("allow_anonymous true\nlistener 1883 127.0.0.1\n{text}");
        read(&text).config.listeners[0].proxy_protocol
    };
    let text = "proxy_protocol_v2_require_tls true\nenable_proxy_protocol 2\n";
    assert_eq!(proxy(text), ProxyProtocol::V2Tls);
    assert_eq!(proxy("enable_proxy_protocol 2\n"), ProxyProtocol::V2);
    assert_eq!(proxy("proxy_protocol_v2_require_tls true\n"), ProxyProtocol::Off);
}

#[test]
fn what_means_nothing_is_said_once() {
    let Loaded { warnings, .. } =
        read("allow_anonymous true\nupgrade_outgoing_qos true\nautosave_interval 5\n");
    assert_eq!(warnings.len(), 2);
    assert!(warnings[0].starts_with("m.conf:2: upgrade_outgoing_qos: without effect: "));
}

#[test]
fn stock_plugins_are_built_in() {
    let config = read(
        "listener 1883\nplugin /usr/lib/mosquitto_password_file.so\n\
         plugin_opt_password_file /p\nplugin /usr/lib/mosquitto_acl_file.so\n\
         plugin_opt_acl_file /a\n",
    )
    .config;
    assert_eq!(config.auth.password_file, Some(PathBuf::from("/p")));
    assert!(matches!(config.acl, Acl::Rules(_)));
}

#[test]
fn durations_have_units() {
    let expiry = |text: &str| {
        let text = format!("allow_anonymous true\npersistent_client_expiration {text}\n");
        read(&text).config.limits.session_expiry_s_max
    };
    assert_eq!([expiry("2h"), expiry("14d"), expiry("1w")], [7200, 1_209_600, 604_800]);
    assert_eq!([expiry("30"), expiry("1000y")], [30, u32::MAX]);
    refused("persistent_client_expiration 1x\n", "must be a number and");
}

#[test]
fn directories_are_included_in_order() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = |name: &str| directory.path().join(name);
    std::fs::create_dir(place("conf.d")).expect("can write");
    let write = |name: &str, text: &str| std::fs::write(place(name), text).expect("can write");
    let include = format!("include_dir {}\n", place("conf.d").display());
    write("mosquitto.conf", &format!("allow_anonymous true\n{include}"));
    write("conf.d/b.conf", "max_queued_messages 2\n");
    write("conf.d/a.conf", "max_queued_messages 1\nmax_keepalive 60\n");
    write("conf.d/c.txt", "nonsense\n");
    let config = load(&place("mosquitto.conf")).expect("valid").config;
    assert_eq!(config.limits.queue_messages_max, 2);
    assert_eq!(config.limits.keep_alive_s_max, 60);
    write("conf.d/b.conf", "\nnonsense 2\n");
    let error = load(&place("mosquitto.conf")).expect_err("an unknown option").to_string();
    assert!(error.contains("conf.d/b.conf:2: nonsense: unknown option"), "{error}");
    write("conf.d/b.conf", &include);
    let error = load(&place("mosquitto.conf")).expect_err("a circle").to_string();
    assert!(error.contains("without end"), "{error}");
}

#[test]
fn every_option_of_the_manual_is_known() {
    let manual = include_str!("../../../docs/mosquitto.md");
    let rows = manual.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut count = 0;
    for name in rows.filter_map(|row| row.split('`').next()) {
        count += 1;
        let text = format!("{name} 1\n");
        if let Err(error) = parse(&text, Path::new("m.conf")) {
            assert!(!error.to_string().contains("unknown option"), "{error}");
        }
    }
    assert!(count > 100, "{count} options in docs/mosquitto.md");
}
