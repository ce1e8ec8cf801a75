//! Where is each record? Identity, receipts, ledger, verdict.
//!
//! Each record has a number in a lane; each stage reports intervals of numbers in numbered
//! receipts; the ledger compares them with what lies in the topic itself.
//!
//! ```
//! use lossproof_audit::ledger::{Ledger, VerdictOptions};
//! use lossproof_audit::verdict::Outcome;
//!
//! let ledger = Ledger::new();
//! let options = VerdictOptions { now_ms: 0, heard_until_ms: 0, all_ended: false };
//! let verdict = ledger.verdict(&options);
//! // Nobody has reported, so nobody can say that all is well.
//! assert_eq!((verdict.outcome, verdict.exit_code()), (Outcome::Unknown, 1));
//! ```

pub mod auditor;
pub mod identity;
pub mod interval;
pub mod ledger;
pub mod receipt;
pub mod report;
pub mod verdict;
