use std::sync::Arc;

use lossproof_wire::{Coordinator, ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const FIRST_BATCHED: i16 = 4;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: FindCoordinatorRequest = call.decode()?;
    let known = matches!(request.key_type, GROUP | TRANSACTION);
    let error_code = if known { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST };
    let error_message =
        (!known).then(|| "only groups and transactions have coordinators here".to_owned());
    let (host, port) = (broker.host.clone(), i32::from(broker.port));
    if call.version < FIRST_BATCHED {
        return call.ready(&FindCoordinatorResponse {
            error_code,
            error_message,
            node_id: broker.node_id(),
            host,
            port,
            ..Default::default()
        });
    }
    let coordinators = request.coordinator_keys.into_iter().map(|key| Coordinator {
        key,
        node_id: broker.node_id(),
        host: host.clone(),
        port,
        error_code,
        error_message: error_message.clone(),
    });
    let coordinators = coordinators.collect();
    call.ready(&FindCoordinatorResponse { coordinators, ..Default::default() })
}
