//! # Invariants
//!
//! - EPOCH-END-1: an answer never looks like truncation where none is known of: an epoch above the
//!   present one is an error that clients ask again on, not "undefined", on which they would begin
//!   somewhere else.

use std::sync::Arc;

use lossproof_log::EpochEnd;
use lossproof_wire::{
    ErrorCode, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderPartitionResult, OffsetForLeaderTopicResult, Uuid,
};

use crate::broker::{Broker, check_leader_epoch, find_partition, find_topic};
use crate::call::{Call, Reply};
use crate::topics::Topic;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut turn = broker.turns.next().await;
        let request: OffsetForLeaderEpochRequest = call.decode()?;
        let catalog = broker.topics.catalog();
        let mut topics = Vec::new();
        for topic in request.topics {
            turn.looked_at(1).await;
            let found = find_topic(&catalog, false, &topic.topic, Uuid::ZERO);
            let mut partitions = Vec::new();
            for wanted in topic.partitions {
                turn.looked_at(1).await;
                partitions.push(answer(&broker, &found, &wanted));
            }
            topics.push(OffsetForLeaderTopicResult { partitions, topic: topic.topic });
        }
        call.late(&OffsetForLeaderEpochResponse { topics, ..Default::default() })
    }))
}

fn answer(
    broker: &Broker,
    topic: &Result<Arc<Topic>, ErrorCode>,
    wanted: &OffsetForLeaderPartition,
) -> OffsetForLeaderPartitionResult {
    let undefined =
        OffsetForLeaderPartitionResult { partition: wanted.partition, ..Default::default() };
    match epoch_end(broker, topic, wanted) {
        Ok(end) => OffsetForLeaderPartitionResult {
            leader_epoch: end.leader_epoch,
            end_offset: end.end_offset,
            ..undefined
        },
        Err(error_code) => OffsetForLeaderPartitionResult { error_code, ..undefined },
    }
}

fn epoch_end(
    broker: &Broker,
    topic: &Result<Arc<Topic>, ErrorCode>,
    wanted: &OffsetForLeaderPartition,
) -> Result<EpochEnd, ErrorCode> {
    let id = find_partition(topic, wanted.partition)?;
    let view = broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
    check_leader_epoch(wanted.current_leader_epoch, view.leader_epoch)?;
    if wanted.leader_epoch < 0 {
        return Ok(EpochEnd { leader_epoch: -1, end_offset: -1 });
    }
    let end = broker.log.epoch_end(id, wanted.leader_epoch);
    // EPOCH-END-1.
    end.map_err(|_| ErrorCode::KAFKA_STORAGE_ERROR)?.ok_or(ErrorCode::UNKNOWN_LEADER_EPOCH)
}
