//! See `culex_fuzz::cli_format`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::cli_format::check(bytes));
