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

    /// Reads and checks an affinity file. Gives the cores of the shards, then those of the other
    /// threads, if it names them.
    ///
    /// # Errors
    /// [`ConfigError`]: it cannot be read, or is not valid.
    pub fn load(path: &Path) -> Result<(Self, Option<Vec<usize>>), ConfigError> {
        let text = read(path)?;
        let file: File =
            toml::from_str(&text).map_err(|error| ConfigError::from_toml(path, &text, &error))?;
        let refuse = |key, why: String| Err(ConfigError::at_key(path, &text, Fault::new(key, why)));
        let cpus = match (file.cpus, file.node) {
            (Self::File(_), _) => {
                return refuse("cpus", "must be \"auto\" or a list of core numbers".to_owned());
            }
            (Self::Cpus(_), Some(_)) => {
                return refuse("node", "cpus already names the cores".to_owned());
            }
            (Self::Auto, Some(node)) => match cpus_of_node(node) {
                Some(cpus) => Self::Cpus(cpus),
                None => return refuse("node", format!("this machine has no memory node {node}")),
            },
            (cpus, None) => cpus,
        };
        Ok((cpus, file.helpers.map(|Cpus(helpers)| helpers)))
    }
}

/// The cores nearest to one part of the memory.
fn cpus_of_node(node: u16) -> Option<Vec<usize>> {
    let path = format!("/sys/devices/system/node/node{node}/cpulist");
    let cpus = parse_list(std::fs::read_to_string(path).ok()?.trim())?;
    (!cpus.is_empty()).then_some(cpus)
}

/// `0-3,8` as the kernel writes it.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if u64::try_from(last).ok()? > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// A list of cores that may be empty, none twice; made for `#[serde(deserialize_with)]`.
pub(super) fn cpus<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<usize>, D::Error> {
    Cpus::deserialize(deserializer).map(|Cpus(cpus)| cpus)
}

/// See [`cpus`].
struct Cpus(Vec<usize>);

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cpus: Vec<Cpu> = Vec::deserialize(deserializer)?;
        let cpus: Vec<usize> = cpus.into_iter().map(|Cpu(cpu)| cpu).collect();
        let earlier = |at: usize| cpus.iter().take(at);
        let twice =
            cpus.iter().enumerate().find(|(at, cpu)| earlier(*at).any(|other| other == *cpu));
        match twice {
            Some((_, cpu)) => Err(D::Error::custom(format_args!("core {cpu} is given twice"))),
            None => Ok(Self(cpus)),
        }
    }
}

/// An affinity file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    cpus: Affinity,
    node: Option<u16>,
    helpers: Option<Cpus>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel_are_read() {
        assert_eq!(parse_list("0-2,8,10-11"), Some(vec![0, 1, 2, 8, 10, 11]));
        assert_eq!(parse_list(""), Some(vec![]));
        for wrong in ["a", "0-", "1-99999999", "-"] {
            assert_eq!(parse_list(wrong), None, "{wrong}");
        }
    }
}
