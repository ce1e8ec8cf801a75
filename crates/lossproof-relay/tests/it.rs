//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod relay_faults;
mod spool_crash;
