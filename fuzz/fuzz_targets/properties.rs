//! See `culex_fuzz::properties`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::properties::check(bytes));
