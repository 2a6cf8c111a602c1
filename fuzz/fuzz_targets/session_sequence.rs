//! See `culex_fuzz::session_sequence`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::session_sequence::check(bytes));
