use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use lossproof_env::{Planted, planted};
use lossproof_log::{Commit, CommitCause, StateChange, StateKind};
use lossproof_wire::{
    ErrorCode, OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::error::{group_error, group_storage_error};
use crate::group::CommitFence;
use crate::offsets::{
    CommittedOffset, GROUP_ID_BYTES_MAX, METADATA_BYTES_MAX, OffsetKey, is_outdated,
};
use crate::topics::{Catalog, Topic};

const FIRST_WITH_IDS: i16 = 10;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: OffsetCommitRequest = call.decode()?;
    let fence = CommitFence {
        group: request.group_id.clone(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.clone(),
        instance: request.group_instance_id.clone(),
    };
    // GATES-1.
    let entered = broker.offset_gates.enter(&request.group_id).await;
    if let Err(error) = broker.groups.check_commit(&fence) {
        return call.ready(&refusal(request, group_error(error)));
    }
    let (mut response, changes) = prepare(broker, request, call.version);
    if changes.is_empty() {
        return call.ready(&response);
    }
    let change = |(key, value)| StateChange { kind: StateKind::Offsets, key, value: Some(value) };
    let changes = changes.into_iter().map(change).collect();
    let commit = Commit { changes, outdated: Some(is_outdated), ..Commit::default() };
    // OFFSETS-1: the answer waits for the disk.
    match broker.log.enqueue(commit).await {
        Err(error) => {
            fail(&mut response, group_storage_error(&error.cause));
            call.ready(&response)
        }
        Ok(pending) => {
            // GATES-2: not until the answers before this one are taken.
            let committed = tokio::spawn(async move {
                let committed = pending.await;
                drop(entered);
                committed.map_err(|error| error.cause)
            });
            if planted(Planted::OffsetsAnsweredEarly) {
                return call.ready(&response);
            }
            Ok(Reply::Later(Box::pin(async move {
                let committed = committed.await.unwrap_or(Err(CommitCause::Closed));
                if let Err(cause) = committed {
                    fail(&mut response, group_storage_error(&cause));
                }
                call.late(&response)
            })))
        }
    }
}

/// What must be durable before it is answered. Of a partition that is named more than once the
/// last word holds, and takes no more memory than one.
pub(super) type Changes = BTreeMap<Bytes, Bytes>;

/// The answer if all goes well, and what must be durable before it is given.
fn prepare(
    broker: &Broker,
    request: OffsetCommitRequest,
    version: i16,
) -> (OffsetCommitResponse, Changes) {
    let catalog = broker.topics.catalog();
    let mut changes = Changes::new();
    let group = request.group_id;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let change = change(broker, &catalog, &group, &topic, partition, version);
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: change.map_or_else(
                    |error| error,
                    |(key, value)| {
                        changes.insert(key, value);
                        ErrorCode::NONE
                    },
                ),
            }
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic { partitions, name: topic.name, topic_id: topic.topic_id }
    });
    let topics = topics.collect();
    (OffsetCommitResponse { topics, ..Default::default() }, changes)
}

fn change(
    broker: &Broker,
    catalog: &Catalog,
    group: &str,
    topic: &OffsetCommitRequestTopic,
    partition: &OffsetCommitRequestPartition,
    version: i16,
) -> Result<(Bytes, Bytes), ErrorCode> {
    let found = find_topic(catalog, version >= FIRST_WITH_IDS, &topic.name, topic.topic_id);
    let wanted = Wanted {
        group,
        partition_index: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.as_deref(),
    };
    let (key, value) = checked(broker, &found, &wanted)?;
    Ok((key.encode(), value.encode()))
}

/// An offset that a group wants to have committed, at once or with a transaction.
pub(super) struct Wanted<'a> {
    pub(super) group: &'a str,
    pub(super) partition_index: i32,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) metadata: Option<&'a str>,
}

/// What it is to be in the journal, if it may be.
pub(super) fn checked(
    broker: &Broker,
    topic: &Result<Arc<Topic>, ErrorCode>,
    wanted: &Wanted<'_>,
) -> Result<(OffsetKey, CommittedOffset), ErrorCode> {
    if wanted.group.len() > GROUP_ID_BYTES_MAX {
        return Err(ErrorCode::INVALID_GROUP_ID);
    }
    let id = find_partition(topic, wanted.partition_index)?;
    let topic = topic.as_ref().map_err(|error| *error)?;
    let metadata = wanted.metadata.unwrap_or_default();
    if metadata.len() > METADATA_BYTES_MAX {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let view = broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
    // Nobody can have processed what is not there; once it is, it would be skipped.
    if !(0..=view.high_watermark).contains(&wanted.offset) {
        tracing::warn!(group = wanted.group, topic = %topic.name,
            partition = wanted.partition_index, offset = wanted.offset,
            high_watermark = view.high_watermark,
            "commit of an offset beyond the end of the log refused");
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let key = OffsetKey {
        group: wanted.group.to_owned(),
        topic_id: topic.id,
        partition: wanted.partition_index,
    };
    let value = CommittedOffset {
        order: broker.offset_order.next(),
        offset: wanted.offset,
        leader_epoch: wanted.leader_epoch,
        committed_at_ms: broker.log.stamp_ms(),
        metadata: metadata.to_owned(),
    };
    Ok((key, value))
}

fn refusal(request: OffsetCommitRequest, error_code: ErrorCode) -> OffsetCommitResponse {
    let topics = request.topics.into_iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name,
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
            })
            .collect(),
    });
    OffsetCommitResponse { topics: topics.collect(), ..Default::default() }
}

/// What was to be committed was not; what was refused before keeps its own reason.
fn fail(response: &mut OffsetCommitResponse, error_code: ErrorCode) {
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for partition in partitions.filter(|partition| partition.error_code.is_none()) {
        partition.error_code = error_code;
    }
}
