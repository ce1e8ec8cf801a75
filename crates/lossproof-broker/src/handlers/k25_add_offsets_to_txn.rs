use std::sync::Arc;

use lossproof_wire::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ErrorCode};

use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::group_error;
use crate::group::check_id;
use crate::transaction::{Identity, fenced_code};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: AddOffsetsToTxnRequest = call.decode()?;
    if let Err(error) = check_id(&request.group_id) {
        let error_code = group_error(error);
        return call.ready(&AddOffsetsToTxnResponse { error_code, ..Default::default() });
    }
    let bearer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let (id, group) = (request.transactional_id, request.group_id);
    let change = |broker: Arc<Broker>| async move {
        broker.transactions.add_group(&id, bearer, &group).await
    };
    let added = broker.change_transaction(change).await;
    let error_code =
        added.map_or_else(|error| error.code(fenced_code(call.version)), |()| ErrorCode::NONE);
    call.ready(&AddOffsetsToTxnResponse { error_code, ..Default::default() })
}
