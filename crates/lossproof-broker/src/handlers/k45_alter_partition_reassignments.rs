use std::collections::HashSet;
use std::sync::Arc;

use lossproof_wire::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ErrorCode,
    ReassignablePartitionResponse, ReassignableTopicResponse, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};

/// There is one node: what is to be on it is there, and nothing can be elsewhere.
pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: AlterPartitionReassignmentsRequest = call.decode()?;
    let node = broker.node_id();
    let catalog = broker.topics.catalog();
    let mut seen = HashSet::new();
    let topics = request.topics.into_iter().map(|topic| {
        let found = find_topic(&catalog, false, &topic.name, Uuid::ZERO);
        let partitions = topic.partitions.into_iter().filter_map(|wanted| {
            let index = wanted.partition_index;
            let (error_code, error_message) = match (find_partition(&found, index), wanted.replicas)
            {
                (Err(error_code), _) => (error_code, None),
                (Ok(id), _) if !seen.insert(id) => return None, // BUDGET-6
                (Ok(_), None) => {
                    let message = "no partition is being moved".to_owned();
                    (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, Some(message))
                }
                (Ok(_), Some(replicas)) if replicas == [node] => (ErrorCode::NONE, None),
                (Ok(_), Some(_)) => {
                    let message = format!("there is one broker, {node}");
                    (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some(message))
                }
            };
            Some(ReassignablePartitionResponse {
                partition_index: index,
                error_code,
                error_message,
            })
        });
        ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name }
    });
    call.ready(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses: topics.collect(),
        ..Default::default()
    })
}
