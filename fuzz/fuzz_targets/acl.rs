//! See `culex_fuzz::acl`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::acl::check(bytes));
