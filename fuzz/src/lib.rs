//! What is fuzzed, as plain functions: each takes any bytes and panics where a promise is broken.
//! `crates/lossproof/tests/fuzz_targets.rs` runs them on some seeds with a stable compiler.

pub mod journal;
pub mod messages;
pub mod receipt;
pub mod record_batch;
