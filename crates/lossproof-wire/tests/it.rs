//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches_agree_with_the_oracle;
mod broken_batches_are_refused;
mod bytes_are_kafkas;
mod hostile_bytes_do_no_harm;
mod messages_agree_with_the_oracle;
mod support;
