//! Which cores the shards run on.

use super::ConfigError;
use super::error::Fault;
use super::load::read;
use serde::de::{Deserializer, Error, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};

/// Linux knows no more (`CPU_SETSIZE` of its default masks).
const CPU_MAX: u64 = 1023;

/// The cores shards are pinned to, shard 0 to the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// Cores this process may use, chosen at start.
    #[default]
    Auto,
    /// These cores; not empty, none twice.
    Cpus(Vec<usize>),
    /// As a file of its own says (`conf/affinity.toml`). Gone after [`Config::load`].
    ///
    /// [`Config::load`]: super::Config::load
    File(PathBuf),
}

impl Affinity {
    /// The cores, if they are named.
    pub fn cpus(&self) -> Option<&[usize]> {
        match self {
            Self::Cpus(cpus) => Some(cpus),
            Self::Auto | Self::File(_) => None,
        }
    }

    /// Reads and checks an affinity file.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be read, or is not valid.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        let file: File =
            toml::from_str(&text).map_err(|error| ConfigError::from_toml(path, &text, &error))?;
        match file.cpus {
            Self::File(_) => {
                let fault = Fault::new("cpus", "must be \"auto\" or a list of core numbers");
                Err(ConfigError::at_key(path, &text, fault))
            }
            cpus @ (Self::Auto | Self::Cpus(_)) => Ok(cpus),
        }
    }

    pub(super) fn resolve(self, directory: &Path) -> Result<Self, ConfigError> {
        match self {
            Self::File(path) => Self::load(&directory.join(path)),
            Self::Auto | Self::Cpus(_) => Ok(self),
        }
    }
}

/// An affinity file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cpus: Affinity,
}

impl Serialize for Affinity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Cpus(cpus) => cpus.serialize(serializer),
            Self::File(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Affinity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AffinityVisitor)
    }
}

struct AffinityVisitor;

impl<'de> Visitor<'de> for AffinityVisitor {
    type Value = Affinity;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("\"auto\", a list of core numbers, or the path of an affinity file")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Affinity, E> {
        match text {
            "auto" => Ok(Affinity::Auto),
            "" => Err(E::invalid_value(Unexpected::Str(text), &self)),
            path => Ok(Affinity::File(PathBuf::from(path))),
        }
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Affinity, S::Error> {
        let mut cpus = Vec::new();
        while let Some(Cpu(cpu)) = list.next_element()? {
            if cpus.contains(&cpu) {
                return Err(S::Error::custom(format_args!("core {cpu} is given twice")));
            }
            cpus.push(cpu);
        }
        if cpus.is_empty() {
            return Err(S::Error::custom("the list of cores is empty"));
        }
        Ok(Affinity::Cpus(cpus))
    }
}

struct Cpu(usize);

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::within::<_, _, 0, CPU_MAX>(deserializer).map(Cpu)
    }
}
