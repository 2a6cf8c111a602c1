//! The engine on real loopback sockets. No sleeps, no fixed ports.

mod common;
mod echo;
