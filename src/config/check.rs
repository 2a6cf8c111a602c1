//! What cannot be although every value by itself can.

use super::error::Fault;
use super::{Acl, Address, ClientAuth, Config, Listener};
use crate::shard;
use std::path::Path;

impl Config {
    /// The first thing that cannot be.
    pub fn fault(&self) -> Option<Fault> {
        if self.listeners.is_empty() {
            return Some(Fault::new("listener", "there must be at least one"));
        }
        for (nth, listener) in self.listeners.iter().enumerate() {
            let address = &listener.address;
            let twice = self.listeners.iter().take(nth).any(|other| other.address == *address);
            let any_port = matches!(address, Address::Tcp(address) if address.port() == 0);
            if twice && !any_port {
                return Some(Fault::new("address", "is given twice").of(nth));
            }
            if let Some(fault) = listener.fault() {
                return Some(fault.of(nth));
            }
        }
        if self.data_dir.as_deref() == Some(Path::new("")) {
            return Some(Fault::new("data_dir", "must not be empty"));
        }
        if !self.log_segment_bytes.is_multiple_of(4096) {
            return Some(Fault::new("log_segment_bytes", "must be a multiple of 4096"));
        }
        self.auth.fault().or_else(|| self.log.fault()).or_else(|| self.open_to_all())
    }

    /// The secure defaults: nobody is let in by a key that was forgotten.
    fn open_to_all(&self) -> Option<Fault> {
        let at = |nth, message: &str| Some(Fault::new("address", message).of(nth));
        for (nth, listener) in self.listeners.iter().enumerate() {
            let asked = self.is_asked(listener);
            let lets_in = self.allows_anonymous(listener);
            match listener.allow_anonymous {
                None if !asked && !listener.is_local() => {
                    let why = "without [auth] the whole network may use it: write \
                               `allow_anonymous = true` for this listener if it should";
                    return at(nth, why);
                }
                Some(false) if !asked => {
                    let why = "nobody can connect: `allow_anonymous = false` needs [auth] or a \
                               password_file";
                    return at(nth, why);
                }
                None if !asked && !lets_in => {
                    let why = "nobody can connect: others are asked who they are, but here nobody \
                               is: write `allow_anonymous = true` or name a password_file";
                    return at(nth, why);
                }
                Some(_) | None => {}
            }
        }
        if self.acl != Acl::Unset {
            return None;
        }
        let unruled = |one: &Listener| self.asks_at(one) && one.acl_file.is_none();
        let nth = self.listeners.iter().position(unruled)?;
        let what = "but nothing says what they may do: add [acl], or write `acl = \"allow-all\"`";
        if self.auth.is_on() {
            return Some(Fault::new("auth", format!("[auth] says who clients are, {what}")));
        }
        let why = format!("says who clients are, {what}, or name an acl_file");
        Some(Fault::new("password_file", why).of(nth))
    }

    /// Does the broker learn who the clients of this listener are?
    fn is_asked(&self, listener: &Listener) -> bool {
        let named = |tls: &super::Tls| {
            tls.client_auth == ClientAuth::Required
                && (tls.use_identity_as_username || tls.use_subject_as_username)
        };
        self.asks_at(listener) || listener.tls.as_ref().is_some_and(named)
    }

    /// Can credentials of clients of this listener be checked?
    pub fn asks_at(&self, listener: &Listener) -> bool {
        self.auth.is_on() || listener.password_file.is_some()
    }

    /// Can credentials be checked at some listener?
    pub fn asks(&self) -> bool {
        self.listeners.iter().any(|listener| self.asks_at(listener))
    }

    /// May clients without a user name come in here?
    pub fn allows_anonymous(&self, listener: &Listener) -> bool {
        let usual = listener.is_local() && !self.asks();
        listener.allow_anonymous.unwrap_or(usual)
    }

    /// Listeners that let everybody in who can reach them from another host.
    pub fn open_listeners(&self) -> impl Iterator<Item = &Listener> {
        let open = |listener: &&Listener| !listener.is_local() && self.allows_anonymous(listener);
        self.listeners.iter().filter(open)
    }

    /// Are there not too many shards, and a core for each, if both are named.
    ///
    /// # Errors
    /// What is wrong, in words; the caller knows where the numbers come from.
    pub fn check_shards(&self) -> Result<(), String> {
        match self.affinity.cpus() {
            _ if self.shards > shard::SHARDS_MAX => Err(format!(
                "{} shards are too many, the maximum is {}",
                self.shards,
                shard::SHARDS_MAX
            )),
            Some(cpus) if self.shards > cpus.len() => {
                let (shards, cpus) = (self.shards, cpus.len());
                Err(format!("{shards} shards need {shards} cores, but affinity names {cpus}"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The number of shards asked for; `None` = one per core.
    pub fn shards_wanted(&self) -> Option<usize> {
        (self.shards > 0).then_some(self.shards)
    }
}
