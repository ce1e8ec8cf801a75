use std::sync::Arc;

use lossproof_wire::{ErrorCode, SyncGroupRequest, SyncGroupResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::group_error;
use crate::group::{GroupError, Sync, SyncAnswer};

/// From here on a member must say which protocol it takes its assignment to be of.
const FIRST_WITH_PROTOCOL: i16 = 5;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: SyncGroupRequest = call.decode()?;
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= FIRST_WITH_PROTOCOL && !names_protocol {
        let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
        return call.ready(&SyncGroupResponse { error_code, ..Default::default() });
    }
    let assignments = request.assignments.into_iter();
    let waiting = broker.groups.sync(Sync {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance: request.group_instance_id,
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        assignments: assignments.map(|part| (part.member_id, part.assignment)).collect(),
    });
    call.release();
    Ok(Reply::Later(Box::pin(async move {
        let stopped = GroupError::CoordinatorNotAvailable;
        let answer = waiting.await.unwrap_or_else(|_| SyncAnswer::refusal(stopped));
        let response = SyncGroupResponse {
            error_code: answer.error.map(group_error).unwrap_or_default(),
            protocol_type: answer.protocol_type,
            protocol_name: answer.protocol,
            assignment: answer.assignment,
            ..Default::default()
        };
        call.late(&response)
    })))
}
