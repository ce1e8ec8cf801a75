use std::sync::Arc;

use lossproof_wire::{HeartbeatRequest, HeartbeatResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::code_of;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: HeartbeatRequest = call.decode()?;
    let outcome = broker.groups.heartbeat(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_deref(),
        request.generation_id,
    );
    call.ready(&HeartbeatResponse { error_code: code_of(outcome), ..Default::default() })
}
