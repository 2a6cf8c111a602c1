//! Abuse tests: what an attacker may try, on real sockets against the real binary.
//!
//! Every test lays [`siege`] to a broker of its own. Meanwhile a [`canary`], a pair of well-behaved
//! clients, must not notice: no disconnect, no lost message, and a round trip within bounds. After
//! the attack the same process must answer a new client at once, its log must hold no panic, and
//! its memory must have stayed within the budget that the test names.
//!
//! `CULEX_ABUSE=soak` (`make abuse-soak`) runs the attacks at full length, and with strict bounds
//! on time, which mean something only if nothing else runs on the machine. docs/security.md says
//! which defence each test is about.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails a test")]
#![expect(clippy::disallowed_methods, reason = "the rates and times of an attack are its point")]

#[expect(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/harness/broker.rs"]
mod broker;
mod canary;
#[expect(dead_code, reason = "shared with the wire tests")]
#[path = "../wire/harness/certificates.rs"]
mod certificates;
#[path = "../wire/harness/client.rs"]
mod client;
#[path = "../wire/harness/compose.rs"]
mod compose;
mod connections;
mod limits;
mod load;
mod logins;
#[path = "../wire/harness/packet.rs"]
mod packet;
mod parsing;
mod rights;
mod settings;
mod siege;
mod transports;
