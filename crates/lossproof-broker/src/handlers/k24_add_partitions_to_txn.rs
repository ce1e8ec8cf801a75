use std::sync::Arc;

use lossproof_log::PartitionId;
use lossproof_wire::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult, ErrorCode, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::topics::Catalog;
use crate::transaction::{Identity, fenced_code};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: AddPartitionsToTxnRequest = call.decode()?;
    let found = found(&broker.topics.catalog(), &request.v3_and_below_topics);
    let unknown = found.iter().any(|(_, partitions)| partitions.iter().any(|(_, it)| it.is_err()));
    let outcome = if unknown {
        // All or nothing: a transaction that is not what its producer believes helps nobody.
        ErrorCode::OPERATION_NOT_ATTEMPTED
    } else {
        add(broker, &request, &found, call.version).await
    };
    let topics = found.into_iter().map(|(name, partitions)| {
        let results = partitions.into_iter().map(|(partition_index, id)| {
            let partition_error_code = id.map_or_else(|error| error, |_| outcome);
            AddPartitionsToTxnPartitionResult { partition_index, partition_error_code }
        });
        AddPartitionsToTxnTopicResult { name, results_by_partition: results.collect() }
    });
    let results_by_topic_v3_and_below = topics.collect();
    call.ready(&AddPartitionsToTxnResponse { results_by_topic_v3_and_below, ..Default::default() })
}

type Found = Vec<(String, Vec<(i32, Result<PartitionId, ErrorCode>)>)>;

fn found(catalog: &Catalog, topics: &[AddPartitionsToTxnTopic]) -> Found {
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let found = find_topic(catalog, false, &topic.name, Uuid::default());
        let partition = |index: &i32| (*index, find_partition(&found, *index));
        (topic.name.clone(), topic.partitions.iter().map(partition).collect())
    };
    topics.iter().map(topic).collect()
}

async fn add(
    broker: &Arc<Broker>,
    request: &AddPartitionsToTxnRequest,
    found: &Found,
    version: i16,
) -> ErrorCode {
    let partitions = found.iter().flat_map(|(_, partitions)| partitions);
    let partitions: Vec<PartitionId> =
        partitions.filter_map(|(_, id)| id.as_ref().ok().copied()).collect();
    let bearer = Identity {
        producer_id: request.v3_and_below_producer_id,
        epoch: request.v3_and_below_producer_epoch,
    };
    let id = request.v3_and_below_transactional_id.clone();
    let change = |broker: Arc<Broker>| async move {
        broker.transactions.add_partitions(&id, bearer, &partitions).await
    };
    let added = broker.change_transaction(change).await;
    added.map_or_else(|error| error.code(fenced_code(version)), |()| ErrorCode::NONE)
}
