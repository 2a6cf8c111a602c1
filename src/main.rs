//! The `culex` command; see [`culex::cli`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

// The sanitizer has to see every allocation, so it gets its own allocator.
#[cfg(not(asan))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    culex::cli::run(std::env::args_os())
}
