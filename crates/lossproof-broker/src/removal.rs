//! Removal of committed offsets.
//!
//! # Invariants
//!
//! - REMOVAL-1: what is removed was judged while nobody could join the group (GROUP-7), and goes in
//!   one commit; it is told as gone only after that is durable.
//!   Nobody commits meanwhile (GATES-1).
//! - REMOVAL-2: a removal comes to its end even if the client goes away: the group is open again.

use std::sync::Arc;

use lossproof_log::{Commit, StateChange, StateKind};
use lossproof_wire::ErrorCode;

use crate::broker::Broker;
use crate::error::{group_error, group_storage_error, offsets_error};
use crate::group::{Inside, stored};
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
        let gate = broker.offset_gates.close(&group).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
        let inside = broker.groups.close(&group).map_err(group_error)?;
        let removed = remove_from_closed(&broker, &group, inside, choose).await;
        broker.groups.reopen(&group);
        drop(gate);
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
    let is_left = matches!(inside, Inside::Unknown | Inside::Nobody);
    if inside == Inside::Unknown && keys.is_empty() {
        remove(broker, group, &[], is_left).await?;
        return Err(ErrorCode::GROUP_ID_NOT_FOUND);
    }
    let all = keys.len();
    let (chosen, outcome) = choose(broker, ClosedGroup { inside, keys })?;
    remove(broker, group, &chosen, is_left && chosen.len() == all).await?;
    Ok(outcome)
}

/// With the last offset of a group without members what was kept of the group itself goes too.
async fn remove(
    broker: &Broker,
    group: &str,
    chosen: &[OffsetKey],
    is_last: bool,
) -> Result<(), ErrorCode> {
    let own_key = stored::key_of(group);
    let own = (is_last && broker.log.state_value(StateKind::Offsets, &own_key).is_some())
        .then_some(own_key);
    let keys = chosen.iter().map(OffsetKey::encode).chain(own);
    let removal = |key| StateChange { kind: StateKind::Offsets, key, value: None };
    let commit = Commit { changes: keys.map(removal).collect(), ..Commit::default() };
    if commit.changes.is_empty() {
        return Ok(());
    }
    let refused = |error: lossproof_log::CommitError| group_storage_error(&error.cause);
    broker.log.enqueue(commit).await.map_err(refused)?.await.map_err(refused)?; // REMOVAL-1
    tracing::info!(group, removed = chosen.len(), "committed offsets removed");
    Ok(())
}
