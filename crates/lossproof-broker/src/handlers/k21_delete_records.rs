use std::sync::Arc;

use lossproof_log::{Commit, CommitError, PartitionChange, PartitionId, PartitionView, Pending};
use lossproof_wire::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest,
    DeleteRecordsResponse, DeleteRecordsTopicResult, ErrorCode, Uuid,
};

use super::last_words;
use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::error::produce_error;
use crate::topics::Topic;

/// Stands for the high watermark.
const ALL: i64 = -1;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let mut request: DeleteRecordsRequest = call.decode()?;
    last_words(
        &mut request.topics,
        |topic| (&topic.name, Uuid::ZERO, &mut topic.partitions),
        |wanted| wanted.partition_index,
    );
    let catalog = broker.topics.catalog();
    // All are queued before one is waited for, so that they share what the disk takes.
    let mut queued = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&catalog, false, &topic.name, Uuid::ZERO);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let deletion = delete(broker, &found, &wanted).await;
            partitions.push((wanted.partition_index, deletion));
        }
        queued.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(queued.len());
    for (name, deletions) in queued {
        let mut partitions = Vec::with_capacity(deletions.len());
        for (partition_index, deletion) in deletions {
            let (low_watermark, error_code) = match deleted(broker, deletion).await {
                Ok(low_watermark) => (low_watermark, ErrorCode::NONE),
                Err(error_code) => (-1, error_code),
            };
            let result =
                DeleteRecordsPartitionResult { partition_index, low_watermark, error_code };
            partitions.push(result);
        }
        topics.push(DeleteRecordsTopicResult { name, partitions });
    }
    call.ready(&DeleteRecordsResponse { topics, ..Default::default() })
}

/// A deletion that is queued.
struct Deletion {
    id: PartitionId,
    pending: Pending,
}

/// An operator's word goes over the retention of the topic, and not over its being compacted only:
/// as in Apache Kafka, of such a one nothing goes but what a later record of its key replaces.
async fn delete(
    broker: &Broker,
    topic: &Result<Arc<Topic>, ErrorCode>,
    wanted: &DeleteRecordsPartition,
) -> Result<Deletion, ErrorCode> {
    let id = find_partition(topic, wanted.partition_index)?;
    if topic.as_ref().is_ok_and(|topic| !topic.settings.cleanup.delete) {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let high_watermark = view(broker, id)?.high_watermark;
    let offset = if wanted.offset == ALL { high_watermark } else { wanted.offset };
    if !(0..=high_watermark).contains(&offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let change = PartitionChange::LogStart { id, offset };
    let pending = broker.log.enqueue(Commit::partition(change)).await.map_err(refusal)?;
    Ok(Deletion { id, pending })
}

/// The log start after it.
async fn deleted(broker: &Broker, deletion: Result<Deletion, ErrorCode>) -> Result<i64, ErrorCode> {
    let Deletion { id, pending } = deletion?;
    pending.await.map_err(refusal)?;
    Ok(view(broker, id)?.log_start)
}

fn view(broker: &Broker, id: PartitionId) -> Result<PartitionView, ErrorCode> {
    broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)
}

fn refusal(error: CommitError) -> ErrorCode {
    produce_error(&error.cause)
}
