use std::fmt::Debug;

use bytes::Bytes;
use lossproof_log::{Commit, CommitCause, Log, StateChange, StateKind};

/// What a reporter needs of a journal: `lossproof_log::Log` is one.
pub trait ReceiptStore: Debug + Send + Sync {
    /// Names the directory, for ever.
    fn directory_id(&self) -> u64;

    /// All entries of one kind.
    fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)>;

    /// Entries of this kind may be missing: recovery has found damage.
    fn state_is_damaged(&self, kind: StateKind) -> bool;

    /// Makes all changes durable in one frame; blocks until they are.
    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause>;
}

impl ReceiptStore for Log {
    fn directory_id(&self) -> u64 {
        Self::directory_id(self)
    }

    fn state(&self, kind: StateKind) -> Vec<(Bytes, Bytes)> {
        Self::state(self, kind)
    }

    fn state_is_damaged(&self, kind: StateKind) -> bool {
        Self::state_is_damaged(self, kind)
    }

    fn commit(&self, changes: Vec<StateChange>) -> Result<(), CommitCause> {
        let commit = Commit { changes, ..Commit::default() };
        self.commit_blocking(commit).map(|_| ()).map_err(|error| error.cause)
    }
}
