//! Settings from the environment, laid over those of the file.
//!
//! `CULEX_LIMITS__QUEUE_MESSAGES_MAX=50` is `queue_messages_max = 50` below `[limits]`: upper case,
//! two underscores between table and key. A number counts entries of a list
//! (`CULEX_LISTENER__0__ADDRESS`). The value is read as in TOML, or else taken as a string.

use super::error::{one_line, suggestion};
use super::{Config, ConfigError};
use serde::Deserialize;
use toml::{Table, Value};

const PREFIX: &str = "CULEX_";
/// Tables and lists are not nested deeper.
const DEPTH_MAX: usize = 8;
/// No list of the settings is longer.
const ENTRIES_MAX: usize = 1024;
/// Keys that are left out where they have no value.
const UNSET: [&str; 2] = ["acl", "data_dir"];

/// Lays the variables that name settings over `config`.
///
/// Names of one word that is no setting are left alone: service managers make such names up
/// (`CULEX_PORT`), and tests use them.
///
/// # Errors
/// [`ConfigError::Variable`] with the first one that names nothing or has an impossible value.
pub(super) fn lay_over(
    config: Config,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    if variables.is_empty() {
        return Ok(config);
    }
    variables.sort();
    let mut table = match Table::try_from(&config) {
        Ok(table) => table,
        Err(error) => return Err(fault("CULEX_*", error.to_string())),
    };
    let mut result = config;
    for (name, text) in variables {
        let path = name.strip_prefix(PREFIX).unwrap_or_default().to_lowercase();
        let path: Vec<&str> = path.split("__").collect();
        let first = path.first().copied().unwrap_or_default();
        if !table.contains_key(first) && !UNSET.contains(&first) {
            if path.len() == 1 {
                continue;
            }
            let known = table.keys().map(String::as_str).chain(UNSET);
            return Err(fault(&name, format!("there is no [{first}]{}", suggestion(first, known))));
        }
        (table, result) = set(&table, &path, &text).map_err(|message| fault(&name, message))?;
    }
    Ok(result)
}

/// The table with one value changed, and what it says; as TOML if that can be, else as a string.
fn set(table: &Table, path: &[&str], text: &str) -> Result<(Table, Config), String> {
    let string = Value::String(text.to_owned());
    let typed = format!("value = {text}").parse::<Table>().ok();
    let typed = typed.filter(|table| table.len() == 1).and_then(|mut one| one.remove("value"));
    let attempt = |value: Value| -> Result<(Table, Config), String> {
        let mut table = table.clone();
        put(&mut table, path, value)?;
        let config =
            Config::deserialize(table.clone()).map_err(|error| one_line(error.message()))?;
        match config.fault() {
            Some(fault) => Err(fault.to_string()),
            None => Ok((table, config)),
        }
    };
    match typed {
        Some(value) => attempt(value).or_else(|why| attempt(string).map_err(|_| why)),
        None => attempt(string),
    }
}

/// Puts a value where the path leads; tables that are not there yet are made.
fn put(table: &mut Table, path: &[&str], value: Value) -> Result<(), String> {
    let (&key, rest) = path.split_first().ok_or("names nothing")?;
    if path.len() > DEPTH_MAX || key.is_empty() {
        return Err("names nothing".to_owned());
    }
    if rest.is_empty() {
        table.insert(key.to_owned(), value);
        return Ok(());
    }
    let below = table.entry(key).or_insert_with(|| match rest.first() {
        Some(index) if index.parse::<usize>().is_ok() => Value::Array(Vec::new()),
        Some(_) | None => Value::Table(Table::new()),
    });
    put_below(below, rest, value)
}

fn put_below(below: &mut Value, path: &[&str], value: Value) -> Result<(), String> {
    match below {
        Value::Table(table) => put(table, path, value),
        Value::Array(list) => {
            let (&index, rest) = path.split_first().ok_or("names nothing")?;
            let index: usize =
                index.parse().map_err(|_| format!("`{index}` is no number of an entry"))?;
            if index > list.len() || index >= ENTRIES_MAX {
                return Err(format!("there is no entry {index}, the next one is {}", list.len()));
            }
            if index == list.len() {
                list.push(if rest.is_empty() { value.clone() } else { Value::Table(Table::new()) });
            }
            match list.get_mut(index) {
                Some(entry) if rest.is_empty() => {
                    *entry = value;
                    Ok(())
                }
                Some(entry) => put_below(entry, rest, value),
                None => Ok(()),
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Datetime(_) => Err("names something below a single value".to_owned()),
    }
}

fn fault(name: &str, message: String) -> ConfigError {
    ConfigError::Variable { name: name.to_owned(), message }
}
