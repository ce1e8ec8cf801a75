use std::sync::Arc;

use lossproof_wire::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::code_of;
use crate::group::{GroupError, Leaving};

const FIRST_BATCHED: i16 = 3;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: LeaveGroupRequest = call.decode()?;
    if call.version < FIRST_BATCHED {
        let leaving = Leaving { member_id: request.member_id, instance: None };
        let error_code = code_of(broker.groups.leave(&request.group_id, &leaving));
        return call.ready(&LeaveGroupResponse { error_code, ..Default::default() });
    }
    let mut members = Vec::with_capacity(request.members.len());
    for member in request.members {
        let leaving = Leaving { member_id: member.member_id, instance: member.group_instance_id };
        let outcome = broker.groups.leave(&request.group_id, &leaving);
        let error_code = code_of(outcome);
        if let Err(GroupError::InvalidGroup | GroupError::CoordinatorNotAvailable) = outcome {
            // Wrong with the request or with this broker, and not with the member.
            return call.ready(&LeaveGroupResponse { error_code, ..Default::default() });
        }
        members.push(MemberResponse {
            member_id: leaving.member_id,
            group_instance_id: leaving.instance,
            error_code,
        });
    }
    call.ready(&LeaveGroupResponse { members, ..Default::default() })
}
