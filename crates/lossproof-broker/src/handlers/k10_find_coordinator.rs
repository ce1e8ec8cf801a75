use std::sync::Arc;

use lossproof_wire::{Coordinator, ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse};

use super::once;
use crate::broker::Broker;
use crate::call::{Call, Reply};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const FIRST_BATCHED: i16 = 4;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: FindCoordinatorRequest = call.decode()?;
        let response = find(&broker, request, call.version);
        call.late(&response)
    }))
}

/// The one node is the coordinator of everything.
fn find(broker: &Broker, request: FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
    let known = matches!(request.key_type, GROUP | TRANSACTION);
    let error_code = if known { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
    let error_message =
        (!known).then(|| "only groups and transactions have coordinators here".to_owned());
    let (host, port) = (broker.host.clone(), i32::from(broker.port));
    if version < FIRST_BATCHED {
        return FindCoordinatorResponse {
            error_code,
            error_message,
            node_id: broker.node_id(),
            host,
            port,
            ..Default::default()
        };
    }
    let keys = once(request.coordinator_keys, String::clone);
    let coordinators = keys.into_iter().map(|key| Coordinator {
        key,
        node_id: broker.node_id(),
        host: host.clone(),
        port,
        error_code,
        error_message: error_message.clone(),
    });
    FindCoordinatorResponse { coordinators: coordinators.collect(), ..Default::default() }
}
