//! The integration tests of this crate, as one program: a program for each file takes longer to
//! build than to run.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod auditor;
mod interval_sets;
mod kept_receipts;
mod ledger_histories;
mod loss_classes;
mod readers_of_dead_letters;
mod receipt_format;
mod removed_receipts;
mod reporter;
mod support;
mod unstamped;
mod what_groups_read;
