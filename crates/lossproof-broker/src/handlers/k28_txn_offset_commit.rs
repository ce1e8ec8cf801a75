use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, TxnOffsetCommitRequest, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponse,
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic, Uuid,
};
use tokio::sync::OwnedRwLockReadGuard;

use super::k08_offset_commit::{Changes, Wanted, checked};
use crate::broker::{Broker, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::error::group_error;
use crate::group::CommitFence;
use crate::topics::Catalog;
use crate::transaction::{Identity, TransactionError};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: TxnOffsetCommitRequest = call.decode()?;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut offsets = Changes::new();
    let catalog = broker.topics.catalog();
    for topic in &request.topics {
        topics.push(check_topic(broker, &catalog, &request.group_id, topic, &mut offsets));
    }
    let outcome = add(broker, request, offsets).await;
    let mut response = TxnOffsetCommitResponse { topics, ..Default::default() };
    if let Err(error_code) = outcome {
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code.is_none()) {
            partition.error_code = error_code;
        }
    }
    call.ready(&response)
}

/// The answer for a topic if all goes well, and what must be durable before it is given.
fn check_topic(
    broker: &Broker,
    catalog: &Catalog,
    group: &str,
    topic: &TxnOffsetCommitRequestTopic,
    offsets: &mut Changes,
) -> TxnOffsetCommitResponseTopic {
    let found = find_topic(catalog, false, &topic.name, Uuid::default());
    let partitions = topic.partitions.iter().map(|partition| {
        let wanted = Wanted {
            group,
            partition_index: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition.committed_metadata.as_deref(),
        };
        let checked = checked(broker, &found, &wanted);
        TxnOffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: checked.map_or_else(
                |error| error,
                |(key, value)| {
                    offsets.insert(key.encode(), value.encode());
                    ErrorCode::NONE
                },
            ),
        }
    });
    let partitions = partitions.collect();
    TxnOffsetCommitResponseTopic { name: topic.name.clone(), partitions }
}

async fn add(
    broker: &Arc<Broker>,
    request: TxnOffsetCommitRequest,
    offsets: Changes,
) -> Result<(), ErrorCode> {
    let fence = CommitFence {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance: request.group_instance_id,
    };
    let bearer = Identity { producer_id: request.producer_id, epoch: request.producer_epoch };
    let id = request.transactional_id;
    let offsets = offsets.into_iter().collect();
    let change = |broker: Arc<Broker>| async move {
        let admit = admit(&broker, &fence);
        broker.transactions.add_offsets(&id, bearer, &fence.group, offsets, admit).await
    };
    let added = broker.change_transaction(change).await;
    // No version of this request knows PRODUCER_FENCED.
    added.map_err(|error| error.code(ErrorCode::INVALID_PRODUCER_EPOCH))
}

/// Who names no member is fenced by the producer's epoch alone: older clients, and those that are
/// told only the group's id. The gate is entered once the transaction's turn has come (GATES-2).
async fn admit(
    broker: &Broker,
    fence: &CommitFence,
) -> Result<OwnedRwLockReadGuard<()>, TransactionError> {
    let entered = broker.offset_gates.enter(&fence.group).await;
    let names_member =
        fence.generation >= 0 || !fence.member_id.is_empty() || fence.instance.is_some();
    if names_member {
        let checked = broker.groups.check_commit(fence);
        checked.map_err(|error| TransactionError::NotAdmitted(group_error(error)))?;
    }
    Ok(entered)
}
