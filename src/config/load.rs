//! From files and the environment to settings, and back to text.

use super::error::Fault;
use super::{Affinity, Config, ConfigError, mosquitto, overlay};
use std::path::{Path, PathBuf};
use toml::Table;

/// Settings, and what should be said about them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// One line each: what was read but means nothing here.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Reads a file of either kind, or takes the defaults, and lays variables of the environment
    /// over it.
    ///
    /// # Errors
    /// [`ConfigError`]: something cannot be read or is not valid.
    pub fn new(
        path: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut loaded = match path {
            None => Self::default(),
            Some(path) if is_mosquitto(path)? => mosquitto::load(path)?,
            Some(path) => Self { config: Config::load(path)?, warnings: Vec::new() },
        };
        loaded.config = overlay::lay_over(loaded.config, variables)?;
        Ok(loaded)
    }
}

impl Config {
    /// Reads and checks a TOML file. Relative paths in it are taken from its directory.
    ///
    /// # Errors
    /// [`ConfigError`]: the file, or the affinity file it names, cannot be read or is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let mut config = Self::parse(&text, path)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        config.resolve(directory);
        if let Affinity::File(file) = &config.affinity {
            let (cpus, helpers) = Affinity::load(&directory.join(file))?;
            config.affinity = cpus;
            config.helpers = helpers.unwrap_or(config.helpers);
        }
        config
            .check_shards()
            .map_err(|message| ConfigError::at_key(path, &text, Fault::new("shards", message)))?;
        Ok(config)
    }

    /// Reads and checks the text of a file; `path` is for error messages.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with the first thing that is wrong.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self =
            toml::from_str(text).map_err(|error| ConfigError::from_toml(path, text, &error))?;
        match config.fault() {
            Some(fault) => Err(ConfigError::at_key(path, text, fault)),
            None => Ok(config),
        }
    }

    /// Makes relative paths those below `directory`.
    fn resolve(&mut self, directory: &Path) {
        if let Some(data_dir) = &mut self.data_dir {
            *data_dir = directory.join(&*data_dir);
        }
        self.acl.resolve(directory);
        self.auth.resolve(directory);
        self.log.resolve(directory);
        self.process.resolve(directory);
        for listener in &mut self.listeners {
            listener.resolve(directory);
        }
    }

    /// The settings as a file: all of them. It holds no secrets, because settings do not.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// The settings as a file: those that are not the default.
    pub fn to_short_toml(&self) -> String {
        let table = |config: &Self| Table::try_from(config).unwrap_or_default();
        let mut own = table(self);
        without(&mut own, &table(&Self::default()));
        let listeners = own.get_mut("listener").and_then(toml::Value::as_array_mut);
        for listener in listeners.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            if let Ok(mut usual) = Table::try_from(super::Listener::local(super::PORT)) {
                usual.remove("address");
                without(listener, &usual);
            }
        }
        toml::to_string(&own).unwrap_or_else(|error| format!("# {error}\n"))
    }

    /// Where sessions and messages are kept: the setting, or where the system keeps such things.
    /// `None` with `durability = "none"`.
    ///
    /// # Errors
    /// There is neither a setting nor a home directory.
    pub fn data_directory(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        is_root: bool,
    ) -> Result<Option<PathBuf>, String> {
        if self.durability == super::Durability::None {
            return Ok(None);
        }
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let chosen = if let Some(directory) = &self.data_dir {
            Some(directory.clone())
        } else if let Some(directories) = variable("STATE_DIRECTORY") {
            directories.split(':').next().map(PathBuf::from)
        } else if is_root {
            Some(PathBuf::from("/var/lib/culex"))
        } else if let Some(state) = variable("XDG_STATE_HOME") {
            Some(Path::new(&state).join("culex"))
        } else {
            variable("HOME").map(|home| Path::new(&home).join(".local/state/culex"))
        };
        let none = "no data_dir is set, and there is no $HOME: name one, or durability = \"none\"";
        chosen.map(Some).ok_or_else(|| none.to_owned())
    }
}

/// Removes what both tables say.
fn without(table: &mut Table, usual: &Table) {
    for (key, usual) in usual {
        match (table.get_mut(key), usual) {
            (Some(toml::Value::Table(own)), toml::Value::Table(usual)) => {
                without(own, usual);
                if own.is_empty() {
                    table.remove(key);
                }
            }
            (Some(own), usual) if own == usual => {
                table.remove(key);
            }
            (Some(_) | None, _) => {}
        }
    }
}

/// Is the file one of Mosquitto? The name tells, or the first line that says something.
fn is_mosquitto(path: &Path) -> Result<bool, ConfigError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("conf") => Ok(true),
        Some("toml") => Ok(false),
        Some(_) | None => {
            let text = read(path)?;
            let mut lines = text.lines().map(str::trim);
            let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
            Ok(first.is_some_and(|line| !line.starts_with('[') && !line.contains('=')))
        }
    }
}

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}
