use std::sync::Arc;

use lossproof_wire::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse, ErrorCode};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::group::Inside;
use crate::removal::remove_offsets;

/// A group without members is its offsets: once they are gone, so is the group.
pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: DeleteGroupsRequest = call.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group_id in once(request.groups_names, String::clone) {
        let removed = remove_offsets(broker, group_id.clone(), |_, group| match group.inside {
            Inside::Unknown | Inside::Nobody => Ok((group.keys, ())),
            Inside::Consumers(_) | Inside::Others => Err(ErrorCode::NON_EMPTY_GROUP),
        });
        let error_code = removed.await.err().unwrap_or_default();
        results.push(DeletableGroupResult { group_id, error_code });
    }
    call.ready(&DeleteGroupsResponse { results, ..Default::default() })
}
