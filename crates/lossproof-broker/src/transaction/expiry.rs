//! Aborts transactions and forgets ids in time.
//!
//! # Invariants
//!
//! - EXPIRY-1: one transaction whose turn has not come does not keep others from timing out.

use std::sync::Arc;
use std::time::Duration;

use lossproof_log::Commit;

use super::coordinator::TransactionCoordinator;
use super::ending;
use super::state::{Outcome, Transaction, TransactionError};

/// Each waits for its transaction's turn, and then for the disk.
pub(super) const EXPIRED_AT_ONCE: usize = 64;

/// After a timed-out transaction could not be aborted, or an id not be forgotten, it is tried
/// again so much later.
const RETRY_PAUSE: Duration = Duration::from_secs(10);

impl TransactionCoordinator {
    /// Runs until it is dropped.
    pub(crate) async fn run(self: &Arc<Self>) {
        loop {
            let changed = self.changed.notified();
            match self.expire_due().await {
                Some(deadline) => tokio::select! {
                    () = self.clock.sleep(deadline.saturating_sub(self.clock.monotonic())) => {}
                    () = changed => {}
                },
                None => changed.await,
            }
        }
    }

    /// Begins with what is due (EXPIRY-1), and tells when the next will be.
    pub(super) async fn expire_due(self: &Arc<Self>) -> Option<Duration> {
        loop {
            let due = self.lock().deadlines.first().cloned()?;
            if due.0 > self.clock.monotonic() {
                return Some(due.0);
            }
            // Never closed.
            let place = Arc::clone(&self.expiring).acquire_owned().await;
            if !self.lock().deadlines.remove(&due) {
                continue; // It has gone on in the meantime.
            }
            let this = Arc::clone(self);
            // On its own: a drain that ends the caller must not cut a change in two.
            tokio::spawn(async move {
                let ((_, id), expiring) = (due, Arc::clone(&this));
                let name = id.clone();
                if tokio::spawn(async move { expiring.expire(&name).await }).await.is_err() {
                    // The panic has been told of.
                    let again = this.clock.monotonic().saturating_add(RETRY_PAUSE);
                    this.lock().deadlines.insert((again, id));
                    this.changed.notify_one();
                }
                drop(place);
            });
        }
    }

    async fn expire(&self, id: &str) {
        let Ok((mut slot, current)) = self.change(id).await else { return };
        let now = self.clock.monotonic();
        if slot.deadline.is_none_or(|deadline| deadline > now) {
            return; // It has gone on in the meantime.
        }
        let done = if current.is_ongoing() {
            tracing::warn!(
                transactional_id = id,
                timeout_ms = current.timeout_ms,
                "transaction timed out: it is aborted and its producer fenced"
            );
            let ended = current.ended(Outcome::Abort);
            let next = Transaction { identity: current.identity.next(), ..ended };
            self.abort(id, &mut slot, &current, next).await
        } else {
            let changes = vec![ending::state_of(id, None)];
            let forgotten = self.commit(Commit { changes, ..Commit::default() }).await;
            forgotten.map(|()| self.remove(id, &mut slot)).map_err(TransactionError::Storage)
        };
        if let Err(error) = done {
            tracing::error!(transactional_id = id, %error, "transactional id not expired");
            self.set_deadline(id, &mut slot, Some(now.saturating_add(RETRY_PAUSE)));
        }
    }
}
