//! Where is each record? Identity, receipts, ledger, verdict.

pub mod identity;
pub mod interval;
pub mod receipt;
pub mod report;
