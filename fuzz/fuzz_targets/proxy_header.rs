//! See `culex_fuzz::transport`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::transport::proxy_header(bytes));
