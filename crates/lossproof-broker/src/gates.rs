//! Keeps the removal of a group's offsets and commits to it apart.
//!
//! # Invariants
//!
//! - GATES-1: while a group's offsets are removed no commit to it is under way, from its check
//!   until it is durable: a removal never takes what has been committed since it was judged. The
//!   end of a transaction is no such commit: its offsets show as pending from before their check
//!   on, and whether they become durable just before a removal, and go with it, or after it,
//!   nobody can tell. Expiry leaves them alone (OFFSET-EXPIRY-2).
//! - GATES-2: a removal never waits for a commit; commits wait for a removal. Both are under way
//!   only for as long as the disk takes, whatever their clients do: offsets of a transaction wait
//!   for its turn first, and enter then.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Groups share gates, so that their number is bounded.
const GATES: usize = 1_024;

#[derive(Debug)]
pub(crate) struct OffsetGates(Vec<Arc<RwLock<()>>>);

impl OffsetGates {
    pub(crate) fn new() -> Self {
        Self((0..GATES).map(|_| Arc::default()).collect())
    }

    fn of(&self, group: &str) -> Arc<RwLock<()>> {
        let mut hasher = DefaultHasher::new();
        group.hash(&mut hasher);
        let gate = self.0.get(hasher.finish() as usize % GATES);
        gate.cloned().unwrap_or_default()
    }

    /// For a commit; to be held until it is durable.
    pub(crate) async fn enter(&self, group: &str) -> OwnedRwLockReadGuard<()> {
        self.of(group).read_owned().await
    }

    /// For a removal; `None` while somebody commits.
    pub(crate) fn close(&self, group: &str) -> Option<OwnedRwLockWriteGuard<()>> {
        self.of(group).try_write_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GATES-1, GATES-2.
    #[tokio::test]
    async fn a_removal_and_commits_exclude_each_other() {
        let gates = OffsetGates::new();
        let commits = (gates.enter("g").await, gates.enter("g").await);
        assert!(gates.close("g").is_none());
        drop(commits);
        let removal = gates.close("g").expect("nobody commits");
        let mut commit = Box::pin(gates.enter("g"));
        assert!(futures_pending(commit.as_mut()));
        drop(removal);
        drop(commit.await);
    }

    fn futures_pending<F: Future>(future: core::pin::Pin<&mut F>) -> bool {
        let mut context = core::task::Context::from_waker(core::task::Waker::noop());
        future.poll(&mut context).is_pending()
    }
}
