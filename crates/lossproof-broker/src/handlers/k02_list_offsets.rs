use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use lossproof_log::{Log, PartitionId, ReadError, TimestampedBatch};
use lossproof_wire::batch::{Found, Limits, find_record};
use lossproof_wire::{
    ErrorCode, ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest,
    ListOffsetsResponse, ListOffsetsTopicResponse, Uuid,
};

use crate::broker::{Broker, check_leader_epoch, find_partition, find_topic};
use crate::call::{Call, Reply};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// All that is here is local, so this is the same as the earliest.
const EARLIEST_LOCAL: i64 = -4;
/// Nothing is tiered.
const LATEST_TIERED: i64 = -5;

const FIRST_WITH_EPOCH: i16 = 4;

/// From which version on a client may ask for a time that is none; `None`: never.
fn first_version(timestamp: i64) -> Option<i16> {
    match timestamp {
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        LATEST | EARLIEST | 0.. => Some(1),
        _ => None,
    }
}

/// As an isolation level: only what belongs to no open transaction.
const READ_COMMITTED: i8 = 1;

const NOTHING: Found = Found { offset: -1, timestamp: -1 };

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let request: ListOffsetsRequest = call.decode()?;
        let response = look_up(&broker, request, call.version).await;
        call.late(&response)
    }))
}

async fn look_up(
    broker: &Arc<Broker>,
    request: ListOffsetsRequest,
    version: i16,
) -> ListOffsetsResponse {
    let catalog = broker.topics.catalog();
    let committed = request.isolation_level == READ_COMMITTED;
    let mut seen = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let found = find_topic(&catalog, false, &topic.name, Uuid::default());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let index = wanted.partition_index;
            let outcome = match find_partition(&found, index) {
                // As in Apache Kafka. A batch may have to be decompressed for each.
                Ok(id) if !seen.insert(id) => Err(ErrorCode::INVALID_REQUEST),
                Ok(id) if is_by_time(wanted.timestamp) => {
                    let work = move |broker: &Arc<Broker>| {
                        look_up_partition(broker, id, &wanted, version, committed)
                    };
                    broker.decode(work).await.unwrap_or_else(|panic| {
                        tracing::error!(%panic, partition = %id, "looking up an offset failed");
                        Err(ErrorCode::UNKNOWN_SERVER_ERROR)
                    })
                }
                Ok(id) => look_up_partition(broker, id, &wanted, version, committed),
                Err(error_code) => Err(error_code),
            };
            partitions.push(answer(index, outcome, version));
        }
        topics.push(ListOffsetsTopicResponse { partitions, name: topic.name });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

/// Batches are read, and decompressed, to find the record.
fn is_by_time(timestamp: i64) -> bool {
    timestamp >= 0 || timestamp == MAX_TIMESTAMP
}

fn look_up_partition(
    broker: &Broker,
    id: PartitionId,
    wanted: &ListOffsetsPartition,
    version: i16,
    committed: bool,
) -> Result<(Found, i32), ErrorCode> {
    if first_version(wanted.timestamp).is_none_or(|first| version < first) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let view = broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
    check_leader_epoch(wanted.current_leader_epoch, view.leader_epoch)?;
    let at = |offset| Found { offset, timestamp: -1 };
    let found = match wanted.timestamp {
        LATEST => at(if committed { view.last_stable } else { view.high_watermark }),
        EARLIEST | EARLIEST_LOCAL => at(view.log_start),
        MAX_TIMESTAMP => newest(&broker.log, id)?,
        LATEST_TIERED => NOTHING,
        timestamp => not_older(&broker.log, id, timestamp)?,
    };
    // What a committed reader would not be given yet is not there for it.
    let hidden = committed && is_by_time(wanted.timestamp) && found.offset >= view.last_stable;
    let found = if hidden { NOTHING } else { found };
    // The epoch with which a consumer later asks whether what it has read is still there.
    let leader_epoch = match found.offset {
        ..0 => None,
        offset => broker.log.epoch_at(id, offset).map_err(|error| unreadable(id, &error))?,
    };
    Ok((found, leader_epoch.unwrap_or(-1)))
}

/// The first record of that time or later. A batch whose header claims a timestamp that no record
/// has, or none that is left, gives its first record, and a damaged range that may have held it its
/// first offset, where a fetch is told of that: too early is safe, too late would skip. Where there
/// is no record the time is the one that was asked for: the Java client takes no negative one.
fn not_older(log: &Log, id: PartitionId, timestamp: i64) -> Result<Found, ErrorCode> {
    let batch = match log.offset_for_timestamp(id, timestamp) {
        Err(ReadError::Damaged { range, .. }) => {
            let log_start = log.partition(id).map_or(0, |view| view.log_start);
            return Ok(Found { offset: range.first.max(log_start), timestamp });
        }
        batch => batch.map_err(|error| unreadable(id, &error))?,
    };
    let Some(batch) = batch else { return Ok(NOTHING) };
    let found = find_in(log, id, &batch, |it| it.timestamp >= timestamp)?;
    let first = || find_in(log, id, &batch, |_| true);
    let found = found.map_or_else(first, |found| Ok(Some(found)))?;
    let found = found.unwrap_or(Found { offset: batch.last_offset, timestamp });
    // The first record may be of no time, and was not sought.
    let timestamp = if found.timestamp < 0 { timestamp } else { found.timestamp };
    Ok(Found { timestamp, ..found })
}

/// The record with the highest timestamp. Where it is gone, and only the header of its batch still
/// has its time, the newest of what is left of that batch and of the newest one behind it.
fn newest(log: &Log, id: PartitionId) -> Result<Found, ErrorCode> {
    let (mut from, newest) = (0, Cell::new(NOTHING));
    for _ in 0..2 {
        let batch = log.max_timestamp(id, from).map_err(|error| unreadable(id, &error))?;
        let Some(batch) = batch else { break };
        find_in(log, id, &batch, |it| {
            if it.timestamp > newest.get().timestamp {
                newest.set(it);
            }
            it.timestamp >= batch.max_timestamp
        })?;
        if newest.get().timestamp >= batch.max_timestamp {
            break;
        }
        from = batch.last_offset + 1;
    }
    Ok(newest.get())
}

/// The first record that is sought of what is left of a batch.
fn find_in(
    log: &Log,
    id: PartitionId,
    batch: &TimestampedBatch,
    sought: impl Fn(Found) -> bool,
) -> Result<Option<Found>, ErrorCode> {
    // It may begin below the log start: of that nothing is left.
    let log_start = log.partition(id).map_or(0, |view| view.log_start);
    let first = batch.base_offset.max(log_start);
    let slice = log.read(id, first, 0).map_err(|error| unreadable(id, &error))?;
    let Some(stored) = slice.batches.first() else {
        return Err(unreadable(id, &"it is not there any more"));
    };
    let wanted = |it: Found| it.offset >= first && sought(it);
    let found = find_record(&stored.bytes, &Limits::default(), wanted);
    found.map_err(|error| unreadable(id, &error))
}

fn unreadable(id: PartitionId, error: &dyn std::fmt::Display) -> ErrorCode {
    tracing::error!(%error, partition = %id, "cannot look up an offset");
    ErrorCode::KAFKA_STORAGE_ERROR
}

fn answer(
    partition_index: i32,
    outcome: Result<(Found, i32), ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    match outcome {
        Ok((found, leader_epoch)) => ListOffsetsPartitionResponse {
            partition_index,
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: if version >= FIRST_WITH_EPOCH { leader_epoch } else { -1 },
            ..Default::default()
        },
        Err(error_code) => {
            ListOffsetsPartitionResponse { partition_index, error_code, ..Default::default() }
        }
    }
}
