use std::sync::Arc;
use std::time::Duration;

use lossproof_wire::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::group_error;
use crate::group::{ClientName, GroupError, Join, JoinAnswer};

/// From here on a client without a member id is given one first.
const FIRST_WITH_KNOWN_ID: i16 = 4;
/// From here on protocol names may be null.
const FIRST_WITH_NULL_PROTOCOL: i16 = 7;
/// From here on a returning leader can be told not to assign.
const FIRST_WITH_SKIP: i16 = 9;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: JoinGroupRequest = call.decode()?;
    let session_timeout = milliseconds(request.session_timeout_ms);
    let join = Join {
        group: request.group_id,
        member_id: request.member_id,
        instance: request.group_instance_id,
        client: ClientName { id: call.client_id.clone(), host: format!("/{}", call.peer) },
        fresh_member_id: broker.groups.fresh_member_id(&call.client_id),
        requires_known_member_id: call.version >= FIRST_WITH_KNOWN_ID,
        can_skip_assignment: call.version >= FIRST_WITH_SKIP,
        session_timeout,
        rebalance_timeout: if request.rebalance_timeout_ms < 0 {
            session_timeout
        } else {
            milliseconds(request.rebalance_timeout_ms)
        },
        protocol_type: request.protocol_type,
        protocols: request
            .protocols
            .into_iter()
            .map(|protocol| (protocol.name, protocol.metadata))
            .collect(),
    };
    let waiting = broker.groups.join(join);
    call.release();
    Ok(Reply::Later(Box::pin(async move {
        let stopped = GroupError::CoordinatorNotAvailable;
        let answer = waiting.await.unwrap_or_else(|_| JoinAnswer::refusal(stopped, ""));
        let response = response(answer, call.version);
        call.late(&response)
    })))
}

fn milliseconds(milliseconds: i32) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

fn response(answer: JoinAnswer, version: i16) -> JoinGroupResponse {
    let null_protocol = version >= FIRST_WITH_NULL_PROTOCOL;
    let members = answer.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        error_code: answer.error.map(group_error).unwrap_or_default(),
        generation_id: answer.generation,
        protocol_type: answer.protocol_type,
        protocol_name: answer.protocol.or_else(|| (!null_protocol).then(String::new)),
        leader: answer.leader,
        skip_assignment: answer.skip_assignment,
        member_id: answer.member_id,
        members: members.collect(),
        ..Default::default()
    }
}
