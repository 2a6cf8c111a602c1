//! Thread-per-core engine.
