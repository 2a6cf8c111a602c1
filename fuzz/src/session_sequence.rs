//! Up to four connections, three client identifiers and two shards, in any order of events.
//!
//! Every command is a few bytes: connect, packets, drops, time, letters between shards, slow
//! readers, durable log positions. Promise checked, whatever the clients do: no panic; what they
//! are sent decodes and keeps the rules that need no knowledge of the broker (see `Peer`); at the
//! end, when all clients read and acknowledge, everything comes to rest, every request of a
//! connection that is still open was answered, and sessions that end leave nothing behind.

mod commands;
mod peer;
mod rig;

use crate::taker::Taker;
use rig::Rig;

/// Longer inputs are cut: what they could show, a shorter one shows faster.
const COMMANDS_MAX: usize = 300;

/// Runs the commands, then brings everything to rest.
pub fn check(bytes: &[u8]) {
    let mut taker = Taker::new(bytes);
    let mut rig = Rig::new(&mut taker);
    for _ in 0..COMMANDS_MAX {
        if taker.is_empty() {
            break;
        }
        rig.command(&mut taker);
    }
    rig.come_to_rest();
    rig.end_everything();
}
