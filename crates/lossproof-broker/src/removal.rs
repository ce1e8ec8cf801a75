//! Removal of committed offsets.
//!
//! # Invariants
//!
//! - REMOVAL-1: what is removed was judged while nobody could join the group (GROUP-7), and goes in
//!   one commit; it is told as gone only after that is durable.
//! - REMOVAL-2: a removal comes to its end even if the client goes away: the group is open again.

use std::sync::Arc;

use lossproof_log::{Commit, StateChange, StateKind};
use lossproof_wire::ErrorCode;

use crate::broker::Broker;
use crate::error::{group_error, group_storage_error, offsets_error};
use crate::group::Inside;
use crate::offsets::{OffsetKey, keys_of};

/// A group of which offsets are to be removed.
pub(crate) struct ClosedGroup {
    pub(crate) inside: Inside,
    pub(crate) keys: Vec<OffsetKey>,
}

/// Removes the offsets that `choose` names, and returns what it returned besides.
pub(crate) async fn remove_offsets<T: Send + 'static, C>(
    broker: &Arc<Broker>,
    group: String,
    choose: C,
) -> Result<T, ErrorCode>
where
    C: FnOnce(&Broker, ClosedGroup) -> Result<(Vec<OffsetKey>, T), ErrorCode> + Send + 'static,
{
    let broker = Arc::clone(broker);
    let removal = tokio::spawn(async move {
        let inside = broker.groups.close(&group).map_err(group_error)?;
        let removed = remove_from_closed(&broker, &group, inside, choose).await;
        broker.groups.reopen(&group);
        removed
    });
    // REMOVAL-2: only the end of the process or a panic cuts it off.
    removal.await.unwrap_or(Err(ErrorCode::COORDINATOR_NOT_AVAILABLE))
}

async fn remove_from_closed<T>(
    broker: &Broker,
    group: &str,
    inside: Inside,
    choose: impl FnOnce(&Broker, ClosedGroup) -> Result<(Vec<OffsetKey>, T), ErrorCode>,
) -> Result<T, ErrorCode> {
    let keys = keys_of(&broker.log, group).map_err(offsets_error)?;
    if inside == Inside::Unknown && keys.is_empty() {
        return Err(ErrorCode::GROUP_ID_NOT_FOUND);
    }
    let (chosen, outcome) = choose(broker, ClosedGroup { inside, keys })?;
    if chosen.is_empty() {
        return Ok(outcome);
    }
    let removed = chosen.len();
    let changes = chosen.iter().map(|key| StateChange {
        kind: StateKind::Offsets,
        key: key.encode(),
        value: None,
    });
    let commit = Commit { changes: changes.collect(), ..Commit::default() };
    let refused = |error: lossproof_log::CommitError| group_storage_error(&error.cause);
    broker.log.enqueue(commit).await.map_err(refused)?.await.map_err(refused)?; // REMOVAL-1
    tracing::info!(group, removed, "committed offsets removed");
    Ok(outcome)
}
