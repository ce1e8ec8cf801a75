//! Where is each record? Identity, receipts, ledger, verdict.

pub mod auditor;
pub mod identity;
pub mod interval;
pub mod ledger;
pub mod receipt;
pub mod report;
pub mod verdict;
