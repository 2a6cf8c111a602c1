//! Bytes of a connection with this version: see `culex_fuzz::decode`.
#![no_main]

use culex::codec::Version;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::decode::check(bytes, Version::V31));
