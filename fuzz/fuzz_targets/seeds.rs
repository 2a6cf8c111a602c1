//! No target: writes the seeds of all targets into `corpus/` and ends. Run it with `-runs=0`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: culex_fuzz::seeds::write_all(), |bytes: &[u8]| {
    let _nothing_to_check = bytes;
});
