//! Certificates of listeners that come to their end: a warning on time, and their end in `$SYS`.

use super::{Shard, Timer};
use shards::Millis;
use tracing::warn;

const DAY_MS: u64 = 86_400_000;
/// Warned of from so many days before the end; certificates that renew themselves have a new one by
/// then.
const WARNED_DAYS: u64 = 21;

/// The certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Address of the listener.
    pub listener: String,
    /// Last second in which all its certificates are valid, since 1970.
    pub not_after_s: u64,
}

impl Shard {
    /// There may be other certificates now: looks at once, and then every day.
    pub(super) fn watch_certificates(&mut self, now: Millis) {
        self.certificates_due = None;
        if self.place.shard == 0 && !self.settings.certificates.is_empty() {
            self.certificates_due = Some(now);
            self.timers.insert(now, Timer::Certificates);
        }
    }

    pub(super) fn certificates_due(&mut self, now: Millis) {
        if self.certificates_due.is_none_or(|due| now < due) {
            return;
        }
        let next = now.after(DAY_MS);
        self.certificates_due = Some(next);
        self.timers.insert(next, Timer::Certificates);
        for Certified { listener, not_after_s } in &self.settings.certificates {
            let left_ms = not_after_s.saturating_mul(1000).checked_sub(self.wall_ms(now));
            match left_ms.map(|ms| ms / DAY_MS) {
                None => warn!(listener, "a certificate has expired: new connections fail"),
                Some(days) if days < WARNED_DAYS => {
                    warn!(listener, days, "a certificate expires soon: replace it and reload");
                }
                Some(_) => {}
            }
        }
    }

    /// The first end among all certificates, if there are any.
    pub(super) fn first_certificate_end_s(&self) -> Option<u64> {
        self.settings.certificates.iter().map(|certified| certified.not_after_s).min()
    }
}
