use std::sync::Arc;

use lossproof_wire::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: InitProducerIdRequest = call.decode()?;
    let refused = |error_code| InitProducerIdResponse {
        error_code,
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    if let Some(transactional_id) = request.transactional_id {
        tracing::warn!(transactional_id, "transactions are not served");
        // Both librdkafka and the Java client take this as final, and say so.
        let refusal = refused(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        return call.ready(&refusal);
    }
    // A producer that asks for a higher epoch gets a new id: as good, and nothing to remember.
    let response = match broker.producer_ids.next().await {
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..Default::default() }
        }
        Err(cause) => {
            tracing::error!(%cause, "no producer id could be reserved");
            refused(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
    };
    call.ready(&response)
}
