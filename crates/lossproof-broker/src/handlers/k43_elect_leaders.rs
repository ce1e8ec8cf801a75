use std::collections::HashSet;
use std::sync::Arc;

use lossproof_wire::{
    ElectLeadersPartitionResult, ElectLeadersRequest, ElectLeadersResponse, ErrorCode,
    ReplicaElectionResult, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// There is one node, which leads all that it has: nothing is ever elected.
pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: ElectLeadersRequest = call.decode()?;
    let unavailable = match request.election_type {
        PREFERRED => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        UNCLEAN => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        _ => {
            let error_code = ErrorCode::INVALID_REQUEST;
            return call.ready(&ElectLeadersResponse { error_code, ..Default::default() });
        }
    };
    let catalog = broker.topics.catalog();
    let mut seen = HashSet::new();
    // Where all are asked for, only those where something was done are told of: none.
    let topics = request.topic_partitions.unwrap_or_default().into_iter().map(|wanted| {
        let found = find_topic(&catalog, false, &wanted.topic, Uuid::ZERO);
        let partitions = wanted.partitions.into_iter().filter_map(|partition_id| {
            let (error_code, message) = match find_partition(&found, partition_id) {
                Err(error_code) => (error_code, None),
                Ok(id) if !seen.insert(id) => return None, // BUDGET-6
                Ok(id) if broker.log.partition(id).is_none() => {
                    let message = "the only replica is not in the journal: see the broker's log";
                    (unavailable, Some(message))
                }
                Ok(_) => (ErrorCode::ELECTION_NOT_NEEDED, Some("the only replica leads already")),
            };
            let error_message = message.map(str::to_owned);
            Some(ElectLeadersPartitionResult { partition_id, error_code, error_message })
        });
        ReplicaElectionResult { partition_result: partitions.collect(), topic: wanted.topic }
    });
    let replica_election_results = topics.collect();
    call.ready(&ElectLeadersResponse { replica_election_results, ..Default::default() })
}
