//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod accepted_loss;
mod alter_configs;
mod common;
mod compaction;
mod connection_bounds;
mod decay;
mod delete_records;
mod describe_configs;
mod documented;
mod fetch_sessions;
mod full_disk;
mod group_admin;
mod group_model;
mod group_offsets;
mod group_requests;
mod group_restart;
mod group_room;
mod group_storing;
mod groups;
mod hostile_bytes;
mod leader_epochs;
mod list_offsets;
mod long_poll;
mod produce_rules;
mod protocol_traps;
mod restart;
mod retention;
mod settings_enforced;
mod topic_admin;
mod topic_requests;
mod transaction_offsets;
mod transactions;
mod versions;
mod waiting_requests;
