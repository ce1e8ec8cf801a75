use std::sync::Arc;

use lossproof_log::{Commit, CommitCause, PartitionChange};
use lossproof_wire::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult, ErrorCode, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::error::produce_error;
use crate::topics::Topic;

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: DeleteRecordsRequest = call.decode()?;
    let catalog = broker.topics.catalog();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&catalog, false, &topic.name, Uuid::ZERO);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let partition_index = wanted.partition_index;
            let (low_watermark, error_code) = match delete(broker, &found, &wanted).await {
                Ok(low_watermark) => (low_watermark, ErrorCode::NONE),
                Err(error_code) => (-1, error_code),
            };
            let result =
                DeleteRecordsPartitionResult { partition_index, low_watermark, error_code };
            partitions.push(result);
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    call.ready(&DeleteRecordsResponse { topics, ..Default::default() })
}

/// The log start after it. An operator's word goes over the retention of the topic.
async fn delete(
    broker: &Arc<Broker>,
    topic: &Result<Arc<Topic>, ErrorCode>,
    wanted: &DeleteRecordsPartition,
) -> Result<i64, ErrorCode> {
    let id = find_partition(topic, wanted.partition_index)?;
    let found = || broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR);
    let high_watermark = found()?.high_watermark;
    let offset = if wanted.offset == ALL { high_watermark } else { wanted.offset };
    if !(0..=high_watermark).contains(&offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let change = PartitionChange::LogStart { id, offset };
    let committed = broker.log.commit(Commit::partition(change)).await;
    committed.map_err(|error| match error.cause {
        CommitCause::OffsetOutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
        cause => produce_error(&cause),
    })?;
    Ok(found()?.log_start)
}
