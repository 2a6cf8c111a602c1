//! See `culex_fuzz::topic_filter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::topic_filter::check(bytes));
