use std::fmt::Debug;

use bytes::Bytes;
use lossproof_log::{CommitCause, StateChange, StateKind};

/// What a reporter needs of a journal: `lossproof_log::Log` is one.
pub trait ReceiptStore: Debug + Send + Sync {
    /// Names the directory, for ever.
    fn directory_id(&self) -> u64;

    /// All entries of one kind.
    fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)>;

    /// Makes all changes durable in one frame; blocks until they are.
    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause>;
}
