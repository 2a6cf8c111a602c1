//! See `culex_fuzz::record_decode`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::record_decode::check(bytes));
