//! The settings while a file of Mosquitto is read.

use super::block::Block;
use super::line::Line;
use super::lists::{IGNORED, KNOWN, REFUSED, REFUSED_KINDS};
use crate::config::logging::time_format_fault;
use crate::config::{
    Acl, AclRules, Config, ConfigError, Destination, Durability, Facility, Level, Listener, Loaded,
    PORT, SecretModes,
};
use std::path::{Path, PathBuf};

const U16: i64 = u16::MAX as i64;
const U32: i64 = u32::MAX as i64;
const PAYLOAD: i64 = crate::codec::PACKET_BYTES_MAX as i64;
/// Accounts that Debian's package makes, and the one that is always there.
const ACCOUNTS: [&str; 2] = ["mosquitto", "nobody"];
const HOUR_S: i64 = 3600;

/// See the module.
pub(super) struct Draft<'a> {
    path: &'a Path,
    config: Config,
    warnings: Vec<String>,
    /// The first is what stands before all `listener` lines.
    blocks: Vec<Block>,
    per_listener: bool,
    persistence: bool,
    location: Option<PathBuf>,
    allow_anonymous: Option<bool>,
    user: Option<String>,
    /// The first option of those that say who may come in and do what.
    security: Option<Line>,
    /// Such options above all listeners, if they are bound to a listener.
    unbound: Vec<Line>,
    /// The lines are those of this plugin.
    plugin: Option<(Plugin, Scope)>,
    level: Option<Level>,
    destinations: Option<Vec<Destination>>,
    /// Of listeners that have none of their own.
    id_prefix: Option<String>,
    /// Connections are logged with the level of notices.
    connections: bool,
}

/// Plugins whose work the broker does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plugin {
    Passwords,
    Rules,
}

/// Where an option holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Listener,
}

/// Options that `per_listener_settings` may bind to a listener, and so have to come after it.
const SECURITY: [&str; 8] = [
    "allow_anonymous",
    "allow_zero_length_clientid",
    "password_file",
    "acl_file",
    "plugin",
    "global_plugin",
    "auto_id_prefix",
    "clientid_prefixes",
];
/// Those of them that do not make a listener of what stands above all of them.
const UNBOUND: [&str; 3] = ["allow_anonymous", "acl_file", "auto_id_prefix"];

impl<'a> Draft<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        let mut config = Config::default();
        // What the numbers are in Mosquitto when the file does not say.
        config.limits.inflight_max = 20;
        config.limits.receive_maximum = 20;
        config.limits.packet_bytes_max = 2_000_000;
        config.limits.topic_alias_maximum = 10;
        config.limits.topic_alias_out_maximum = 10;
        config.limits.inflight_bytes_max = 0;
        config.limits.topic_bytes_max = u16::MAX;
        config.limits.keep_alive_s_max = u16::MAX;
        config.limits.session_expiry_s_max = u32::MAX;
        config.process.secret_modes = SecretModes::Warn;
        Self {
            path,
            config,
            warnings: Vec::new(),
            blocks: vec![Block::default_listener()],
            per_listener: false,
            persistence: false,
            location: None,
            allow_anonymous: None,
            user: None,
            security: None,
            unbound: Vec::new(),
            plugin: None,
            level: None,
            destinations: None,
            id_prefix: None,
            connections: true,
        }
    }

    /// Takes one option.
    pub(super) fn take(&mut self, line: &Line) -> Result<(), ConfigError> {
        if line.name == "listener" {
            self.blocks.push(Block::new(line)?);
            return Ok(());
        }
        if SECURITY.contains(&line.name.as_str()) {
            self.security.get_or_insert_with(|| line.clone());
        }
        if self.per_listener && self.blocks.len() == 1 && UNBOUND.contains(&line.name.as_str()) {
            self.unbound.push(line.clone());
        }
        let taken = self.security(line)?
            || self.limit(line)?
            || self.kept(line)?
            || self.log(line)?
            || self.block()?.take(line)?;
        if taken {
            return Ok(());
        }
        let named = |(name, _): &&(&str, &str)| *name == line.name;
        if let Some((_, why)) = IGNORED.iter().find(named) {
            self.warnings.push(line.remark(format_args!("without effect: {why}")));
            return Ok(());
        }
        let kind = |(kind, _): &&(&str, &str)| line.name.starts_with(kind);
        let refused = REFUSED.iter().find(named).or(REFUSED_KINDS.iter().find(kind));
        if let Some((_, why)) = refused {
            return Err(line.fault(why));
        }
        if line.name == "include_dir" {
            return Err(line.fault("not possible here"));
        }
        let lists = [IGNORED, REFUSED].into_iter().flatten().map(|(name, _)| *name);
        Err(line.unknown(KNOWN.iter().copied().chain(lists)))
    }

    /// The listener that options belong to now.
    fn block(&mut self) -> Result<&mut Block, ConfigError> {
        self.blocks.last_mut().ok_or_else(|| unreachable_block(self.path))
    }

    /// Who may come in; bound to a listener with `per_listener_settings`.
    fn security(&mut self, line: &Line) -> Result<bool, ConfigError> {
        match line.name.as_str() {
            "per_listener_settings" => self.per_listener = self.per_listener_settings(line)?,
            "allow_anonymous" if self.per_listener => {
                self.block()?.allow_anonymous = Some(line.flag()?);
            }
            "allow_anonymous" => self.allow_anonymous = Some(line.flag()?),
            "password_file" => self.password_file(line.path()?, self.scope())?,
            "acl_file" => self.acl_file(line.path()?, self.scope())?,
            "plugin" => {
                self.plugin = Some((stock_plugin(line)?, self.scope()));
                self.block()?.used |= self.per_listener;
            }
            "global_plugin" => self.plugin = Some((stock_plugin(line)?, Scope::All)),
            name if name.starts_with("plugin_opt_") => match (name, self.plugin) {
                ("plugin_opt_password_file", Some((Plugin::Passwords, scope))) => {
                    self.password_file(line.path()?, scope)?;
                }
                ("plugin_opt_acl_file", Some((Plugin::Rules, scope))) => {
                    self.acl_file(line.path()?, scope)?;
                }
                _ => return Err(line.fault("no plugin of this option is supported")),
            },
            "allow_zero_length_clientid" => self.config.mqtt.allow_empty_client_id = line.flag()?,
            "clientid_prefixes" => {
                self.config.mqtt.client_id_prefixes = vec![line.text()?.to_owned()];
            }
            "user" => self.user = Some(line.text()?.to_owned()),
            "pid_file" => self.config.process.pid_file = Some(line.path()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What is bound to listeners is not so by halves.
    fn per_listener_settings(&self, line: &Line) -> Result<bool, ConfigError> {
        let flag = line.flag()?;
        match &self.security {
            Some(before) if flag != self.per_listener => {
                Err(line.fault(format_args!("must stand before {}", before.name)))
            }
            Some(_) | None => Ok(flag),
        }
    }

    /// Where options hold that may be bound to listeners.
    fn scope(&self) -> Scope {
        if self.per_listener { Scope::Listener } else { Scope::All }
    }

    fn password_file(&mut self, path: PathBuf, scope: Scope) -> Result<(), ConfigError> {
        match scope {
            Scope::All => self.config.auth.password_file = Some(path),
            Scope::Listener => {
                let block = self.block()?;
                block.password_file = Some(path);
                // Mosquitto makes a listener of it where there is none.
                block.used = true;
            }
        }
        Ok(())
    }

    fn acl_file(&mut self, path: PathBuf, scope: Scope) -> Result<(), ConfigError> {
        match scope {
            Scope::All => {
                self.config.acl = Acl::Rules(AclRules { file: Some(path), ..AclRules::default() });
            }
            Scope::Listener => self.block()?.acl_file = Some(path),
        }
        Ok(())
    }

    fn limit(&mut self, line: &Line) -> Result<bool, ConfigError> {
        let limits = &mut self.config.limits;
        match line.name.as_str() {
            "max_inflight_messages" => {
                limits.inflight_max = line.number_or(U16, u16::MAX)?;
                limits.receive_maximum = limits.inflight_max;
            }
            "max_keepalive" => limits.keep_alive_s_max = line.number_or(U16, u16::MAX)?,
            "max_packet_size" => {
                let max = crate::codec::PACKET_BYTES_MAX;
                limits.packet_bytes_max = line.number_or(max.into(), max)?;
                if limits.packet_bytes_max < 256 {
                    return Err(line.fault("must be 0 or at least 256"));
                }
                limits.connect_packet_bytes_max =
                    limits.connect_packet_bytes_max.min(limits.packet_bytes_max);
            }
            "message_size_limit" => {
                limits.payload_bytes_max = line.number_or(PAYLOAD, 0)?;
            }
            "max_inflight_bytes" => limits.inflight_bytes_max = line.number_or(i64::MAX, 0)?,
            "max_queued_bytes" => {
                let all = u64::try_from(i64::MAX).unwrap_or(u64::MAX);
                limits.queue_bytes_max = line.number_or(i64::MAX, all)?.max(1024);
            }
            "max_queued_messages" => limits.queue_messages_max = line.number_or(U32, u32::MAX)?,
            "max_topic_alias_broker" => {
                limits.topic_alias_out_maximum =
                    u16::try_from(line.number(0, U16)?).unwrap_or(u16::MAX);
            }
            "memory_limit" => limits.memory_bytes_max = line.number_or(i64::MAX, 0)?,
            "global_max_clients" => {
                let max = line.number(-1, U32)?;
                limits.sessions_max = u32::try_from(max.max(1)).unwrap_or(u32::MAX);
                if max < 0 {
                    limits.sessions_max = u32::MAX;
                }
            }
            "global_max_connections" => {
                limits.connections_max = u32::try_from(line.number(-1, U32)?).unwrap_or(0);
            }
            "persistent_client_expiration" => limits.session_expiry_s_max = duration_s(line)?,
            "retain_available" => self.config.mqtt.retain_available = line.flag()?,
            "queue_qos0_messages" => self.config.mqtt.queue_qos0 = line.flag()?,
            "sys_interval" => {
                self.config.sys_interval_s =
                    u32::try_from(line.number(0, 86_400)?).unwrap_or_default();
            }
            // Output is put together here before it leaves, so nothing is won by the other way.
            "set_tcp_nodelay" => drop(line.flag()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn kept(&mut self, line: &Line) -> Result<bool, ConfigError> {
        match line.name.as_str() {
            "persistence" | "retained_persistence" => self.persistence = line.flag()?,
            "persistence_location" => self.location = Some(line.path()?),
            "persistence_file" => {
                let why = "is neither read nor written: Culex keeps its own files";
                self.warnings.push(line.remark(format_args!("{} {why}", line.text()?)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn log(&mut self, line: &Line) -> Result<bool, ConfigError> {
        match line.name.as_str() {
            "log_type" => {
                let level = match line.text()? {
                    "none" => None,
                    "error" => Some(Level::Error),
                    "warning" => Some(Level::Warn),
                    "notice" | "information" => Some(Level::Info),
                    "debug" | "subscribe" | "unsubscribe" | "websockets" | "all" => {
                        Some(Level::Debug)
                    }
                    "internal" => Some(Level::Trace),
                    other => return Err(line.fault(format!("there is no type `{other}`"))),
                };
                self.level = self.level.max(level);
                if level.is_none() {
                    self.destinations = Some(Vec::new());
                }
            }
            "log_dest" => self.destination(line)?,
            "log_timestamp" => self.config.log.timestamps = line.flag()?,
            "log_timestamp_format" => {
                let text = line.text()?;
                if let Some(why) = time_format_fault(text) {
                    return Err(line.fault(why));
                }
                self.config.log.time_format = Some(text.to_owned());
            }
            "connection_messages" => self.connections = line.flag()?,
            "log_facility" => {
                use Facility::{Local0, Local1, Local2, Local3, Local4, Local5, Local6, Local7};
                let facilities = [Local0, Local1, Local2, Local3, Local4, Local5, Local6, Local7];
                let number = usize::try_from(line.number(0, 7)?).unwrap_or_default();
                self.config.log.syslog_facility =
                    facilities.get(number).copied().unwrap_or_default();
            }
            "auto_id_prefix" if self.per_listener => {
                self.block()?.id_prefix = Some(super::block::id_prefix(line)?);
            }
            "auto_id_prefix" => self.id_prefix = Some(super::block::id_prefix(line)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn destination(&mut self, line: &Line) -> Result<(), ConfigError> {
        let text = line.text()?.to_owned();
        let (kind, rest) = text.split_once([' ', '\t']).unwrap_or((&text, ""));
        let list = self.destinations.get_or_insert_default();
        match (kind, rest.trim()) {
            ("none", "") => list.clear(),
            ("stderr", "") => list.push(Destination::Stderr),
            ("stdout", "") => {
                self.warnings.push(line.remark("the log goes to standard error instead"));
                list.push(Destination::Stderr);
            }
            ("syslog", "") => list.push(Destination::Syslog),
            ("file", "") => return Err(line.fault("needs a path")),
            ("file", path) => {
                let path = std::path::absolute(path).map_err(|error| line.fault(error))?;
                self.config.log.file = Some(path);
                list.push(Destination::File);
            }
            ("topic" | "dlt" | "android", _) => {
                self.warnings.push(line.remark("without effect: the log does not go there"));
            }
            _ => return Err(line.fault("must be none, stderr, stdout, syslog or file PATH")),
        }
        list.sort_by_key(|destination| *destination as u8);
        list.dedup();
        Ok(())
    }

    /// All options are known: the settings they mean.
    pub(super) fn finish(mut self) -> Result<Loaded, ConfigError> {
        self.finish_log();
        self.finish_kept();
        let blocks = self.finish_listeners()?;
        self.config.process.user = match self.user.take() {
            Some(user) if user == "root" || user.is_empty() => None,
            Some(user) => Some(user),
            None => usual_account(),
        };
        if self.config.asks() && self.config.acl == Acl::Unset {
            self.config.acl = Acl::AllowAll;
        }
        match self.config.fault() {
            Some(fault) => {
                let at = fault.listener.and_then(|nth| blocks.get(nth)).copied();
                let block = self.blocks.get(at.unwrap_or(self.blocks.len() - 1));
                let text = fault.to_string();
                Err(match block {
                    Some(block) => block.fault(self.path, &text),
                    None => unreachable_block(self.path),
                })
            }
            None => Ok(Loaded { config: self.config, warnings: self.warnings }),
        }
    }

    fn finish_log(&mut self) {
        let log = &mut self.config.log;
        log.level = self.level.unwrap_or(Level::Info);
        // Connections are notices there and details here.
        let level = if self.connections { Level::Debug } else { Level::Info };
        if log.level >= Level::Info && level != log.level {
            log.targets.insert(crate::shard::CONNECTIONS.to_owned(), level);
        }
        if let Some(destinations) = self.destinations.take() {
            log.to = destinations;
        }
        if !log.to.contains(&Destination::File) {
            log.file = None;
        }
    }

    fn finish_kept(&mut self) {
        if self.persistence {
            // A folder of its own: Mosquitto's database stays what it is.
            self.config.data_dir = self.location.take().map(|location| location.join("culex"));
        } else {
            self.config.durability = Durability::None;
        }
    }

    /// Makes the listeners; gives the block of each.
    fn finish_listeners(&mut self) -> Result<Vec<usize>, ConfigError> {
        self.check_global()?;
        let is_alone = self.blocks.len() == 1;
        if !is_alone && self.blocks.first().is_some_and(|block| !block.used) {
            let why = "without effect: with per_listener_settings it is that of the listener above";
            self.warnings.extend(self.unbound.iter().map(|line| line.remark(why)));
        }
        let (mut listeners, mut blocks) = (Vec::new(), Vec::new());
        for (index, block) in self.blocks.iter().enumerate() {
            if index == 0 && !block.used {
                continue;
            }
            let anonymous = block.allow_anonymous.or(self.allow_anonymous).unwrap_or(false);
            let files = (block.password_file.clone(), block.acl_file.clone());
            let more = block.listeners(self.path)?;
            let more = more
                .into_iter()
                .map(|listener| Listener {
                    allow_anonymous: Some(anonymous),
                    password_file: files.0.clone(),
                    acl_file: files.1.clone(),
                    ..listener
                })
                .map(|listener| self.with_id_prefix(listener));
            listeners.extend(more);
            blocks.resize(listeners.len(), index);
        }
        if let (true, true, Some(block)) = (listeners.is_empty(), is_alone, self.blocks.first()) {
            // Mosquitto without a listener serves its own host alone, and everybody there.
            let listener = Listener {
                allow_anonymous: block.allow_anonymous.or(self.allow_anonymous).or(Some(true)),
                topic_alias_maximum: block.alias_max,
                acl_file: block.acl_file.clone(),
                auto_id_prefix: block.id_prefix.clone(),
                ..Listener::local(PORT)
            };
            listeners.push(self.with_id_prefix(listener));
            blocks.push(0);
        }
        self.config.listeners = listeners;
        self.same_for_all();
        Ok(blocks)
    }

    /// Files of a `global_plugin` hold at every listener, also beside its own; here one holds.
    fn check_global(&self) -> Result<(), ConfigError> {
        let (users, rules) = (self.config.auth.is_on(), self.config.acl != Acl::Unset);
        for block in &self.blocks {
            if users && block.password_file.is_some() || rules && block.acl_file.is_some() {
                let why = "a file of a global_plugin and one of the listener are not possible here";
                return Err(block.fault(self.path, why));
            }
        }
        Ok(())
    }

    fn with_id_prefix(&self, listener: Listener) -> Listener {
        let auto_id_prefix = listener.auto_id_prefix.or_else(|| self.id_prefix.clone());
        Listener { auto_id_prefix, ..listener }
    }

    /// Files that all listeners name are those of the broker.
    fn same_for_all(&mut self) {
        let listeners = &mut self.config.listeners;
        let Some(first) = listeners.first().cloned() else { return };
        if listeners.iter().all(|one| one.password_file == first.password_file)
            && let Some(file) = &first.password_file
        {
            self.config.auth.password_file = Some(file.clone());
            for one in listeners.iter_mut() {
                one.password_file = None;
            }
        }
        if listeners.iter().all(|one| one.acl_file == first.acl_file)
            && let Some(file) = first.acl_file
        {
            let rules = AclRules { file: Some(file), ..AclRules::default() };
            self.config.acl = Acl::Rules(rules);
            for one in listeners.iter_mut() {
                one.acl_file = None;
            }
        }
    }
}

/// A plugin that comes with Mosquitto and whose work is done here without it.
fn stock_plugin(line: &Line) -> Result<Plugin, ConfigError> {
    let path = line.text()?;
    match path.rsplit('/').next() {
        Some("mosquitto_password_file.so") => Ok(Plugin::Passwords),
        Some("mosquitto_acl_file.so") => Ok(Plugin::Rules),
        Some(_) | None => Err(line.fault(
            "plugins are not supported, but for mosquitto_password_file.so and \
             mosquitto_acl_file.so, which are built in",
        )),
    }
}

/// `2h`, `14d`, `3w`, `6m`, `1y`, or seconds.
fn duration_s(line: &Line) -> Result<u32, ConfigError> {
    let text = line.text()?;
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match text.strip_prefix(digits) {
        Some("") => 1,
        Some("h") => HOUR_S,
        Some("d") => 24 * HOUR_S,
        Some("w") => 7 * 24 * HOUR_S,
        Some("m") => 30 * 24 * HOUR_S,
        Some("y") => 365 * 24 * HOUR_S,
        Some(_) | None => return Err(line.fault("must be a number and h, d, w, m or y")),
    };
    let number = digits.parse::<i64>().ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| line.fault("must be a number and h, d, w, m or y"))?;
    // The largest number means never.
    Ok(number.checked_mul(unit_s).and_then(|s| u32::try_from(s).ok()).unwrap_or(u32::MAX))
}

/// Whom Mosquitto becomes when it is not told.
fn usual_account() -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let known = |name: &&str| accounts.lines().any(|line| line.split(':').next() == Some(*name));
    ACCOUNTS.into_iter().find(known).map(str::to_owned)
}

/// There is always a block; this is said if not.
fn unreachable_block(path: &Path) -> ConfigError {
    ConfigError::Invalid {
        path: path.to_owned(),
        line: 1,
        key: String::new(),
        message: "no listener".to_owned(),
    }
}
