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
    /// Keeps what a client sent after its CONNECT. Nothing more is read until it is answered, so it
    /// is as much as was read already.
    pub(super) fn wait_for_login(&mut self, io: &mut Wire, conn: ConnId, rest: &[u8]) {
        self.pause(io, conn, PAUSED_BY_LOGIN);
        if let Some(entry) = self.conn(conn)
            && !rest.is_empty()
        {
            entry.reassembly.keep(rest);
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
        if entry.paused & PAUSED_BY_LOGIN != 0 {
            let kept = entry.reassembly.take();
            self.resume(io, conn, PAUSED_BY_LOGIN);
            if !kept.is_empty() {
                self.live(io, conn, &kept);
            }
        }
    }
}
