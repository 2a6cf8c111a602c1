//! Culex.
fn main() {}
