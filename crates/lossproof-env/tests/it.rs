//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disks_against_a_model;
mod forgetful_disk;
mod memory_net;
mod planted;
mod real_disk;
mod scratch_disk;
mod sim_disk;
