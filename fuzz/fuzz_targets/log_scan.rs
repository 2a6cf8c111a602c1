//! See `culex_fuzz::log_scan`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::log_scan::check(bytes));
