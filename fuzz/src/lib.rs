//! What the fuzz targets check; each target is one function over bytes.
//!
//! Promise: a check panics exactly if the product breaks a rule, whatever the bytes are, and gives
//! the same answer for the same bytes, so that a finding can be replayed and shortened.

pub mod acl;
pub mod cli_format;
pub mod config_toml;
pub mod decode;
pub mod log_scan;
pub mod logins;
pub mod mosquitto_conf;
pub mod properties;
pub mod record_decode;
pub mod seeds;
pub mod session_sequence;
pub mod taker;
pub mod topic_filter;
pub mod transport;
