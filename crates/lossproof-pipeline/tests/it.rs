//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod any_faults;
mod breaker;
mod bulk_answers;
mod common;
mod config;
mod deep_values;
mod end_to_end;
mod flow;
mod frontier;
mod lines_sink;
mod losses_of_others;
mod reported;
mod service_faults;
mod sink_read;
