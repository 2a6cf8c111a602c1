//! See `culex_fuzz::logins`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::logins::password_file(bytes));
