//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod broker_check;
mod broker_settings;
mod broker_signals;
mod broker_start;
mod demo;
mod fuzz_targets;
mod hostile;
mod hostile_input;
mod hostile_repeats;
mod hostile_requests;
mod librdkafka_transactions;
mod many_partitions;
mod output;
mod produce_input;
mod produce_kills;
mod receipts_topic;
mod support;
mod unknown_producer;
