//! Options that `pub` and `sub` share: where to connect, as whom, with which will.

use super::failure::Failure;
use super::property::{PropertyArgs, PropertySets};
use crate::codec::{Property, Qos, Version};
use crate::config::PORT;
use crate::topic::TopicName;
use clap::ArgAction;

/// Keep-alive of 3.1 and later is a number of two bytes.
const NEVER: u32 = u32::MAX;

/// Connecting.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent option")]
pub(super) struct ConnectionArgs {
    /// Host of the broker [default: localhost].
    #[arg(short = 'h', long)]
    host: Option<String>,
    /// Port of the broker [default: 1883].
    #[arg(short, long)]
    port: Option<u16>,
    /// User, password, host, port and topic in one: `mqtt://[user[:password]@]host[:port]/topic`.
    #[arg(short = 'L', long, conflicts_with_all = ["host", "port"])]
    url: Option<String>,
    /// Client identifier [default: the broker chooses one].
    #[arg(short, long, allow_hyphen_values = true)]
    id: Option<String>,
    /// Client identifier is this and the process id.
    #[arg(short = 'I', long, value_name = "PREFIX", conflicts_with = "id")]
    id_prefix: Option<String>,
    /// User name.
    #[arg(short, long, value_name = "NAME", allow_hyphen_values = true)]
    username: Option<String>,
    /// Password.
    #[arg(short = 'P', long = "pw", value_name = "PASSWORD", allow_hyphen_values = true)]
    password: Option<String>,
    /// Protocol version: 5, 311 or 31 (also mqttv5, mqttv311, mqttv31) [default: 311].
    #[arg(short = 'V', long, value_name = "VERSION", value_parser = version)]
    protocol_version: Option<Version>,
    /// Keep-alive in seconds; 0 = none.
    #[arg(short, long, value_name = "SECONDS", default_value_t = 60)]
    keepalive: u16,
    /// Keeps the session after the end (needs -i or -I).
    #[arg(short = 'c', long = "disable-clean-session")]
    persistent: bool,
    /// Seconds the session is kept after the end; -1 = for ever. Forces -V 5.
    #[arg(short = 'x', value_name = "SECONDS", value_parser = expiry, allow_hyphen_values = true)]
    session_expiry_s: Option<u32>,
    /// Messages sent and not acknowledged at most; 0 = as many as the broker allows.
    #[arg(short = 'M', value_name = "COUNT", default_value_t = 20)]
    max_inflight: u16,
    /// Topic of the will.
    #[arg(long, value_name = "TOPIC")]
    will_topic: Option<String>,
    /// Payload of the will.
    #[arg(long, value_name = "PAYLOAD", requires = "will_topic", allow_hyphen_values = true)]
    will_payload: Option<String>,
    /// QoS of the will.
    #[arg(long, value_name = "QOS", requires = "will_topic", value_parser = qos, default_value = "0")]
    will_qos: Qos,
    /// The will is retained.
    #[arg(long, requires = "will_topic")]
    will_retain: bool,
    #[command(flatten)]
    properties: PropertyArgs,
    /// Accepted for scripts; it is always so.
    #[arg(long, hide = true)]
    nodelay: bool,
    /// Prints the steps of the protocol on stderr.
    #[arg(short, long)]
    pub(super) debug: bool,
    /// Prints no errors.
    #[arg(long)]
    pub(super) quiet: bool,
    /// Prints help.
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// Prints the version.
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// What the options come to.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) version: Version,
    pub(super) client_id: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) keep_alive_s: u16,
    pub(super) clean_start: bool,
    pub(super) will: Option<OwnWill>,
    pub(super) properties: PropertySets,
    /// At most this many unacknowledged messages, whatever the server allows.
    pub(super) window: u16,
    pub(super) debug: bool,
    pub(super) quiet: bool,
    /// Topic of `-L`.
    pub(super) topic: Option<String>,
}

/// The will of the options.
#[derive(Debug)]
pub(super) struct OwnWill {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: Qos,
    pub(super) retain: bool,
}

impl ConnectionArgs {
    /// Checks what no single option can know.
    pub(super) fn target(&self) -> Result<Target, Failure> {
        let url = match &self.url {
            Some(url) => Url::parse(url).map_err(Failure::usage)?,
            None => Url::default(),
        };
        let client_id = match (&self.id, &self.id_prefix) {
            (Some(id), _) => id.clone(),
            (None, Some(prefix)) => format!("{prefix}{}", std::process::id()),
            (None, None) => String::new(),
        };
        let version = self.version();
        if self.persistent && client_id.is_empty() {
            return Err(Failure::usage("-c needs a client identifier (-i or -I)"));
        }
        let username = self.username.clone().or(url.username);
        let password = self.password.clone().or(url.password);
        if password.is_some() && username.is_none() && version != Version::V5 {
            return Err(Failure::usage("-P needs -u before MQTT 5.0"));
        }
        for text in
            [&client_id, username.as_deref().unwrap_or(""), password.as_deref().unwrap_or("")]
        {
            check_length(text)?;
        }
        Ok(Target {
            host: self.host.clone().or(url.host).unwrap_or_else(|| "localhost".to_owned()),
            port: self.port.or(url.port).unwrap_or(PORT),
            version,
            // 3.1 has no empty identifiers, and no server to choose one.
            client_id: match version {
                Version::V31 if client_id.is_empty() => format!("culex-{}", std::process::id()),
                Version::V31 | Version::V311 | Version::V5 => client_id,
            },
            username,
            password,
            keep_alive_s: self.keepalive,
            clean_start: !self.persistent,
            will: self.will()?,
            properties: self.properties()?,
            window: if self.max_inflight == 0 { u16::MAX } else { self.max_inflight },
            debug: self.debug,
            quiet: self.quiet,
            topic: url.topic,
        })
    }

    fn version(&self) -> Version {
        if self.session_expiry_s.is_some() || !self.properties.is_empty() {
            return Version::V5;
        }
        self.protocol_version.unwrap_or(Version::V311)
    }

    fn will(&self) -> Result<Option<OwnWill>, Failure> {
        let Some(topic) = &self.will_topic else { return Ok(None) };
        TopicName::parse(topic)
            .map_err(|error| Failure::usage(format!("--will-topic {topic}: {error}")))?;
        let payload = self.will_payload.clone().unwrap_or_default();
        check_length(&payload)?;
        let (qos, retain) = (self.will_qos, self.will_retain);
        Ok(Some(OwnWill { topic: topic.clone(), payload, qos, retain }))
    }

    fn properties(&self) -> Result<PropertySets, Failure> {
        let mut sets = self.properties.parse().map_err(Failure::usage)?;
        if sets.connect.as_properties().session_expiry_interval().is_none() {
            // A 5.0 session ends with its connection unless it is given a time.
            match self.session_expiry_s {
                Some(seconds) => {
                    sets.connect.push(Property::SessionExpiryInterval(seconds));
                }
                None if self.persistent => {
                    sets.connect.push(Property::SessionExpiryInterval(NEVER));
                }
                None => {}
            }
        }
        Ok(sets)
    }
}

/// A string of CONNECT must fit into its length field.
fn check_length(text: &str) -> Result<(), Failure> {
    if text.len() > usize::from(u16::MAX) {
        return Err(Failure::usage("an option is longer than 65535 bytes"));
    }
    Ok(())
}

/// `0`, `1` or `2`.
pub(super) fn qos(text: &str) -> Result<Qos, String> {
    text.parse().ok().and_then(Qos::from_u8).ok_or_else(|| "QoS is 0, 1 or 2".to_owned())
}

fn version(text: &str) -> Result<Version, String> {
    match text {
        "5" | "mqttv5" => Ok(Version::V5),
        "311" | "mqttv311" => Ok(Version::V311),
        "31" | "mqttv31" => Ok(Version::V31),
        _ => Err("versions are 5, 311 and 31".to_owned()),
    }
}

fn expiry(text: &str) -> Result<u32, String> {
    match text {
        "-1" | "∞" => Ok(NEVER),
        _ => text.parse().map_err(|_| "-1, or a number from 0 to 4294967295".to_owned()),
    }
}

/// The parts of `-L`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Url {
    username: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    topic: Option<String>,
}

impl Url {
    fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("mqtt://").ok_or("-L takes mqtt:// only")?;
        let (authority, topic) = match rest.split_once('/') {
            Some((authority, topic)) => (authority, Some(topic).filter(|topic| !topic.is_empty())),
            None => (rest, None),
        };
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (username, password) = match user.and_then(|user| user.split_once(':')) {
            Some((username, password)) => (Some(username), Some(password)),
            None => (user, None),
        };
        // The colons of an IPv6 address stand in brackets.
        let (host, port) = match place.rsplit_once(':').filter(|(_, port)| !port.contains(']')) {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = port.map(str::parse).transpose().map_err(|_| "-L: the port is no number")?;
        if host.is_empty() {
            return Err("-L: the host is missing".to_owned());
        }
        let own = |text: &str| text.to_owned();
        Ok(Self {
            username: username.map(own),
            password: password.map(own),
            host: Some(own(host)),
            port,
            topic: topic.map(own),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    #[command(disable_help_flag = true, disable_version_flag = true, version)]
    struct Test {
        #[command(flatten)]
        connection: ConnectionArgs,
    }

    fn target(line: &str) -> Result<Target, String> {
        let words = std::iter::once("culex").chain(line.split_whitespace());
        let test = Test::try_parse_from(words).map_err(|error| error.to_string())?;
        test.connection.target().map_err(|failure| failure.message)
    }

    #[test]
    fn defaults_are_those_of_mosquitto() {
        let target = target("").expect("valid");
        assert_eq!((target.host.as_str(), target.port), ("localhost", 1883));
        assert_eq!(target.version, Version::V311);
        assert_eq!((target.client_id.as_str(), target.keep_alive_s), ("", 60));
        assert_eq!((target.clean_start, target.window), (true, 20));
    }

    #[test]
    fn letters_mean_what_they_mean_in_mosquitto() {
        let target = target(
            "-h h -p 1 -i -x -u u -P -p -V mqttv31 -k 0 -c -M 0 --will-topic w --will-payload -m \
             --will-qos 2 --will-retain -d --quiet",
        )
        .expect("valid");
        assert_eq!((target.host.as_str(), target.port), ("h", 1));
        assert_eq!((target.client_id.as_str(), target.version), ("-x", Version::V31));
        assert_eq!(target.username.as_deref(), Some("u"));
        assert_eq!(target.password.as_deref(), Some("-p"));
        assert_eq!((target.keep_alive_s, target.clean_start), (0, false));
        assert_eq!((target.window, target.debug), (u16::MAX, true));
        let will = target.will.expect("a will");
        assert_eq!((will.topic.as_str(), will.payload.as_str()), ("w", "-m"));
        assert_eq!((will.qos, will.retain), (Qos::ExactlyOnce, true));
    }

    #[test]
    fn properties_and_expiry_force_version_5() {
        let with = |line| target(line).expect("valid");
        assert_eq!(with("-V 311 -D connect receive-maximum 3 -d").version, Version::V5);
        let expiry = |target: &Target| {
            (target.version, target.properties.connect.as_properties().session_expiry_interval())
        };
        assert_eq!(expiry(&with("-x -1")), (Version::V5, Some(u32::MAX)));
        assert_eq!(expiry(&with("-x ∞")), (Version::V5, Some(u32::MAX)));
        assert_eq!(expiry(&with("-x 7 -c -i a")), (Version::V5, Some(7)));
        assert_eq!(expiry(&with("-V 5 -c -i a")), (Version::V5, Some(u32::MAX)));
        assert_eq!(expiry(&with("-V 5")), (Version::V5, None));
        let both = with("-x 7 -D connect session-expiry-interval 8");
        assert_eq!(expiry(&both), (Version::V5, Some(8)));
    }

    #[test]
    fn contradictions_are_refused() {
        for (line, part) in [
            ("-c", "-c needs a client identifier"),
            ("-P x", "-P needs -u"),
            ("-i a -I b", "cannot be used with"),
            ("-L mqtt://h -p 1", "cannot be used with"),
            ("--will-qos 1", "--will-topic"),
            ("--will-topic a/#", "no wildcards"),
            ("-V 4", "versions are 5, 311 and 31"),
            ("-x -2", "-1, or a number"),
            ("-k 65536", "65536"),
            ("-L mqtts://h", "mqtt:// only"),
        ] {
            let error = target(line).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn url_is_split() {
        let target = target("-L mqtt://u:p@h:99/a/b").expect("valid");
        assert_eq!((target.host.as_str(), target.port), ("h", 99));
        assert_eq!(target.username.as_deref(), Some("u"));
        assert_eq!(target.password.as_deref(), Some("p"));
        assert_eq!(target.topic.as_deref(), Some("a/b"));
        let url = Url::parse("mqtt://[::1]").expect("valid");
        assert_eq!((url.host.as_deref(), url.port, url.topic), (Some("::1"), None, None));
        let url = Url::parse("mqtt://[::1]:7/").expect("valid");
        assert_eq!((url.host.as_deref(), url.port, url.topic), (Some("::1"), Some(7), None));
        assert!(Url::parse("mqtt://:7/").is_err());
        assert!(Url::parse("mqtt://h:x/").is_err());
    }
}
