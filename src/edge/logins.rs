//! Logins on their way between the shard and the gate.

use super::conns::PAUSED_BY_LOGIN;
use super::driver::{Driver, Wire};
use crate::auth::{Credentials, Outcome, Refusal};
use crate::gate::{Answer, Gate};
use crate::shard::Input;
use shards::ConnId;
use std::sync::Arc;

/// Logins of one shard that may be checked at the same time; further ones are refused as busy. The
/// shard's line for answers has to be as long.
pub const LOGINS_MAX: usize = 4096;

/// From so many bytes on that a client has sent behind its CONNECT it is not read until CONNACK.
const EARLY_BYTES_MAX: usize = 8192;

/// See the module.
#[derive(Debug)]
pub(super) struct Logins {
    gate: Option<Arc<Gate>>,
    /// Taken by the gate and not answered.
    asked: usize,
    /// Not taken.
    refused: Vec<Answer>,
}

impl Logins {
    pub(super) fn new(gate: Option<Arc<Gate>>) -> Logins {
        Logins { gate, asked: 0, refused: Vec::new() }
    }

    /// Logins are checked by this from now on; those on their way by the former one.
    pub(super) fn set_gate(&mut self, gate: Option<Arc<Gate>>) {
        self.gate = gate;
    }

    /// Has a login checked, or refuses it if too many wait.
    pub(super) fn ask(&mut self, shard: usize, conn: ConnId, credentials: Box<Credentials>) {
        let suspect = credentials.suspect;
        let gate = self.gate.as_deref().filter(|_| self.asked < LOGINS_MAX);
        let asked = match gate {
            Some(gate) => gate.submit(shard, conn, credentials),
            None => Err(Answer { conn, suspect, outcome: Outcome::Refused(Refusal::Busy) }),
        };
        match asked {
            Ok(()) => self.asked += 1,
            Err(answer) => self.refused.push(answer),
        }
    }
}

impl Driver {
    /// Keeps what a client sends after its CONNECT until it is answered. It is read meanwhile, so
    /// that its end is seen and nothing is checked in vain, but not more than [`EARLY_BYTES_MAX`].
    pub(super) fn wait_for_login(&mut self, io: &mut Wire, conn: ConnId, bytes: &[u8]) {
        let Some(entry) = self.conn(conn) else { return };
        entry.awaits_login = true;
        if !bytes.is_empty() {
            entry.reassembly.keep(bytes);
        }
        if entry.reassembly.bytes().len() >= EARLY_BYTES_MAX {
            self.pause(io, conn, PAUSED_BY_LOGIN);
        }
    }

    /// The gate has answered.
    pub(super) fn login_answered(&mut self, io: &mut Wire, answer: Answer) {
        assert!(self.logins.asked > 0, "every answer was asked for");
        self.logins.asked -= 1;
        self.answered(io, answer);
    }

    /// Answers what the gate did not take. True if there was anything.
    pub(super) fn answer_refused(&mut self, io: &mut Wire) -> bool {
        let refused = std::mem::take(&mut self.logins.refused);
        let any = !refused.is_empty();
        for answer in refused {
            self.answered(io, answer);
        }
        any
    }

    /// The connection goes on with what it sent meanwhile, or ends.
    fn answered(&mut self, io: &mut Wire, answer: Answer) {
        let Answer { conn, suspect, outcome } = answer;
        self.shard.handle(Input::Authenticated { conn, suspect, outcome }, io.now());
        let admitted = self.shard.is_admitted(conn);
        let Some(entry) = self.conn(conn) else { return };
        entry.admitted |= admitted;
        if std::mem::take(&mut entry.awaits_login) {
            let kept = entry.reassembly.take();
            self.resume(io, conn, PAUSED_BY_LOGIN);
            if !kept.is_empty() {
                self.live(io, conn, &kept);
            }
        }
    }
}
