//! Where is each record? Identity, receipts, ledger, verdict.

pub mod identity;
