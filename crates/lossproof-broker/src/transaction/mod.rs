//! The transaction coordinator: who may write in which transaction, and how one ends.
//!
//! The journal makes a commit atomic over all partitions and keyed entries, so there is no phase
//! of preparing: a transaction ends in one commit, with its markers in every partition, its
//! offsets, and the new state of its id.

use lossproof_wire::ErrorCode;

mod codec;
mod coordinator;
mod ending;
mod expiry;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use coordinator::{TransactionCoordinator, WriteGuard, pending_offsets};
pub(crate) use ending::abort_marker;
#[cfg(test)]
pub(crate) use ending::state_of;
pub use state::TransactionSettings;
pub(crate) use state::{Identity, Outcome, Transaction, TransactionError};

/// The first version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn whose clients know
/// PRODUCER_FENCED.
const FIRST_WITH_FENCED: i16 = 2;

/// What a fenced producer is told by them.
pub(crate) fn fenced_code(version: i16) -> ErrorCode {
    if version >= FIRST_WITH_FENCED {
        ErrorCode::PRODUCER_FENCED
    } else {
        ErrorCode::INVALID_PRODUCER_EPOCH
    }
}
