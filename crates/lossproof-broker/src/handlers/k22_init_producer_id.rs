use std::sync::Arc;

use lossproof_wire::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::transaction::Identity;

const FIRST_WITH_FENCED: i16 = 4;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: InitProducerIdRequest = call.decode()?;
    let granted = match &request.transactional_id {
        // A producer that asks for a higher epoch gets a new id: as good, and nothing to remember.
        None => outside_of_transactions(broker).await,
        Some(_) => transactional(broker, request, call.version).await,
    };
    let response = match granted {
        Ok(Identity { producer_id, epoch }) => {
            InitProducerIdResponse { producer_id, producer_epoch: epoch, ..Default::default() }
        }
        Err(error_code) => InitProducerIdResponse {
            error_code,
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    };
    call.ready(&response)
}

async fn outside_of_transactions(broker: &Broker) -> Result<Identity, ErrorCode> {
    let producer_id = broker.producer_ids.next().await.map_err(|cause| {
        tracing::error!(%cause, "no producer id could be reserved");
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    })?;
    Ok(Identity { producer_id, epoch: 0 })
}

async fn transactional(
    broker: &Arc<Broker>,
    request: InitProducerIdRequest,
    version: i16,
) -> Result<Identity, ErrorCode> {
    let bearer = match (request.producer_id, request.producer_epoch) {
        (-1, -1) => None,
        (producer_id, epoch) if producer_id >= 0 && epoch >= 0 => {
            Some(Identity { producer_id, epoch })
        }
        _ => return Err(ErrorCode::INVALID_REQUEST),
    };
    let fenced = if version >= FIRST_WITH_FENCED {
        ErrorCode::PRODUCER_FENCED
    } else {
        ErrorCode::INVALID_PRODUCER_EPOCH
    };
    let id = request.transactional_id.unwrap_or_default();
    let timeout_ms = request.transaction_timeout_ms;
    let change = |broker: Arc<Broker>| async move {
        broker.transactions.init(&broker.producer_ids, &id, timeout_ms, bearer).await
    };
    broker.change_transaction(change).await.map_err(|error| error.code(fenced))
}
