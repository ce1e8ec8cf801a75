use lossproof_wire::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use crate::call::{Call, CallError, Reply};

/// There is one node: no partition is ever moved.
pub(super) fn start(mut call: Call) -> Result<Reply, CallError> {
    let _: ListPartitionReassignmentsRequest = call.decode()?;
    call.ready(&ListPartitionReassignmentsResponse::default())
}
