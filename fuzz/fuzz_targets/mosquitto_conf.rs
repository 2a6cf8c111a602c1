//! See `culex_fuzz::mosquitto_conf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| culex_fuzz::mosquitto_conf::check(bytes));
