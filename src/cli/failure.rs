//! How a command ends when it does not end well.

use std::fmt::Display;

/// Exit statuses, those of Mosquitto's tools.
///
/// A refused CONNECT ends with its code instead: 1 to 5 before 5.0 (5 = not authorised), the reason
/// code from 128 on in 5.0.
pub(super) mod status {
    /// The reader of stdout closed it: the end of the work, not a failure.
    pub(crate) const READER_GONE: u8 = 0;
    /// Wrong options, wrong configuration, or no way to start.
    pub(crate) const USAGE: u8 = 1;
    /// The peer broke the protocol.
    pub(crate) const PROTOCOL: u8 = 2;
    /// The connection was lost or ended by the server.
    pub(crate) const CONNECTION_LOST: u8 = 7;
    /// Every subscription was refused.
    pub(crate) const DENIED: u8 = 12;
    /// The system refused something.
    pub(crate) const ERRNO: u8 = 14;
    /// The host has no address.
    pub(crate) const LOOKUP: u8 = 15;
    /// The server does not support the QoS.
    pub(crate) const QOS_NOT_SUPPORTED: u8 = 24;
    /// The packet is larger than the server accepts.
    pub(crate) const PACKET_TOO_LARGE: u8 = 25;
    /// The time given by `-W` is over, or the server does not answer.
    pub(crate) const TIMEOUT: u8 = 27;
    /// The data directory is damaged (`EX_DATAERR`).
    pub(crate) const DATA: u8 = 65;
    /// The data directory cannot be used (`EX_CANTCREAT`).
    pub(crate) const UNUSABLE: u8 = 73;
    /// The disk failed (`EX_IOERR`).
    pub(crate) const IO: u8 = 74;
    /// The system failed while the broker ran.
    pub(crate) const SYSTEM: u8 = 71;
    /// The host lacks what the broker needs (`EX_CONFIG`).
    pub(crate) const HOST: u8 = 78;
    /// The server keeps no retained messages.
    pub(crate) const RETAIN_NOT_SUPPORTED: u8 = 28;
}

/// One line for the user and the exit status.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// Exit status; 0 only for a reader that closed our output.
    pub(super) status: u8,
    /// What to print; nothing if empty.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(status: u8, message: impl Into<String>) -> Self {
        Self { status, message: without_numbers(&message.into()) }
    }

    /// Options that make no sense.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(status::USAGE, message)
    }

    /// The system refused to do `what`.
    pub(super) fn system(what: impl Display, error: &std::io::Error) -> Self {
        Self::new(status::ERRNO, format!("{what}: {error}"))
    }

    /// The connection is gone.
    pub(super) fn lost(why: impl Display) -> Self {
        Self::new(status::CONNECTION_LOST, format!("connection lost: {why}"))
    }
}

/// The system's words without `(os error 2)`.
fn without_numbers(message: &str) -> String {
    let mut parts = message.split(" (os error ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once(')').map_or("", |(_, after)| after));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_are_left_out() {
        for (given, printed) in [
            ("x: No such file or directory (os error 2)", "x: No such file or directory"),
            ("a (os error 1): b (os error 22); c", "a: b; c"),
            ("plain (text)", "plain (text)"),
        ] {
            assert_eq!(Failure::usage(given).message, printed);
        }
    }
}
