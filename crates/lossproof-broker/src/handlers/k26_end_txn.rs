use std::sync::Arc;

use lossproof_wire::{EndTxnRequest, EndTxnResponse, ErrorCode};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::transaction::{Identity, Outcome, fenced_code};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: EndTxnRequest = call.decode()?;
    let bearer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let outcome = if request.committed { Outcome::Commit } else { Outcome::Abort };
    let id = request.transactional_id;
    let change = |broker: Arc<Broker>| async move {
        broker.transactions.end(&broker.topics.catalog(), &id, bearer, outcome).await
    };
    let ended = broker.change_transaction(change).await;
    let error_code =
        ended.map_or_else(|error| error.code(fenced_code(call.version)), |()| ErrorCode::NONE);
    call.ready(&EndTxnResponse { error_code, ..Default::default() })
}
