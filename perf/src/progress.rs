//! One line on a terminal that tells how far a run is.

use crate::clock::{SECOND_NS, float, quotient};
use std::io::{IsTerminal, Write};

/// Time between two lines.
const EVERY_NS: u64 = SECOND_NS / 4;

/// The line; silent where nobody looks.
#[derive(Debug)]
pub(crate) struct Progress {
    shown: bool,
    next_ns: u64,
    last: (u64, u64),
}

impl Progress {
    /// A line on stderr, if that is a terminal.
    pub(crate) fn on_terminal() -> Self {
        Self { shown: std::io::stderr().is_terminal(), next_ns: 0, last: (0, 0) }
    }

    /// No line.
    pub(crate) fn none() -> Self {
        Self { shown: false, next_ns: 0, last: (0, 0) }
    }

    /// Writes the line anew, a few times per second: what happens, and `count` things so far.
    pub(crate) fn tell(&mut self, now_ns: u64, phase: &str, count: u64) {
        if !self.shown || now_ns < self.next_ns {
            return;
        }
        let line = line(self.last, (now_ns, count), phase);
        self.last = (now_ns, count);
        self.next_ns = now_ns + EVERY_NS;
        let mut stderr = std::io::stderr();
        // The line is a courtesy; a terminal that is gone is no reason to fail.
        write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()).ok();
    }

    /// Takes the line away.
    pub(crate) fn clear(&mut self) {
        if self.shown {
            self.shown = false;
            eprint!("\r\x1b[K");
        }
    }
}

fn line(last: (u64, u64), now: (u64, u64), phase: &str) -> String {
    let seconds = quotient(float(now.0), float(SECOND_NS));
    let passed = quotient(float(now.0.saturating_sub(last.0)), float(SECOND_NS));
    let per_s = quotient(float(now.1.saturating_sub(last.1)), passed);
    format!("{seconds:6.1} s  {phase:<10} {:>12}  {per_s:>11.0}/s", now.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_the_rate_since_the_last_one() {
        let text = line((SECOND_NS, 100), (SECOND_NS * 3 / 2, 600), "measure");
        assert_eq!(text, "   1.5 s  measure             600         1000/s");
    }
}
