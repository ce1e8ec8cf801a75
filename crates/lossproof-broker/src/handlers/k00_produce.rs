//! # Invariants
//!
//! - PRODUCE-1: an answer without error is given only after the batch is acknowledged by the log
//!   under the topic's policy, whatever `acks` says; acks=0 has no answer and keeps its order.
//! - PRODUCE-2: nothing is stored that was not read to its last record.
//! - PRODUCE-3: each partition of a request stands or falls by itself.
//! - PRODUCE-4: a transactional batch is queued only while its transaction is known to be open and
//!   to hold the partition, so that it stands before the marker that ends it, and none is left
//!   hanging.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use lossproof_log::{
    Appended, COMPACTED_BYTES_MAX, Commit, CommitError, Committed, PartitionId, Pending,
};
use lossproof_wire::batch::{
    self, BatchError, BatchHeader, BatchInfo, Compression, Limits, TimestampType,
    UNCOMPRESSED_BYTES_MAX,
};
use lossproof_wire::{
    BatchIndexAndErrorMessage, ErrorCode, PartitionProduceData, PartitionProduceResponse,
    ProduceRequest, ProduceResponse, TopicProduceData, TopicProduceResponse,
};

use super::batch_check::{self, Stamped};
use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Answer, Call, CallError, Reply};
use crate::error::produce_error;
use crate::told::Subject;
use crate::topics::{Catalog, Topic};
use crate::transaction::{Identity, TransactionError, WriteGuard};

const FIRST_WITH_ZSTD: i16 = 7;
const FIRST_WITH_IDS: i16 = 13;
/// Larger batches, and all that are compressed, are checked on a thread of their own.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// A batch may decompress to so many times what its topic takes of compressed ones: text seldom
/// shrinks to a hundredth.
const UNCOMPRESSED_PER_BYTE_MAX: u64 = 256;

/// Why one batch was refused.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    pub(super) log_start: i64,
    /// The records for which it was refused, where it was for some of them.
    pub(super) records: Vec<BatchIndexAndErrorMessage>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), log_start: -1, records: Vec::new() }
    }
}

/// One partition of a request, on its way to the disk.
struct Entry {
    index: i32,
    queued: Result<Queued, Refusal>,
}

/// A batch that the log has taken.
struct Queued {
    id: PartitionId,
    pending: Pending,
    /// -1: the timestamps are the producer's.
    append_time_ms: i64,
}

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: ProduceRequest = call.decode()?;
    let refusal = refuse_all(&request);
    let terms =
        Terms { version: call.version, refusal, transactional_id: request.transactional_id };
    let catalog = broker.topics.catalog();
    let acks = request.acks;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let (name, id) = (topic.name.clone(), topic.topic_id);
        let entries = queue_topic(broker, &catalog, topic, &terms).await;
        topics.push((name, id, entries));
    }
    let broker = Arc::clone(broker);
    Ok(Reply::Later(Box::pin(async move {
        let mut responses = Vec::with_capacity(topics.len());
        for (name, topic_id, entries) in topics {
            let mut partition_responses = Vec::with_capacity(entries.len());
            for entry in entries {
                partition_responses.push(finish(&broker, entry).await);
            }
            responses.push(TopicProduceResponse { name, topic_id, partition_responses });
        }
        if acks == 0 {
            return no_answer(&responses);
        }
        call.late(&ProduceResponse { responses, ..Default::default() })
    })))
}

/// What holds for all batches of a request.
struct Terms {
    version: i16,
    refusal: Option<(ErrorCode, String)>,
    /// In whose name the request is made.
    transactional_id: Option<String>,
}

/// What is wrong with the request as a whole.
fn refuse_all(request: &ProduceRequest) -> Option<(ErrorCode, String)> {
    let message = match (request.acks, &request.transactional_id) {
        (-1, _) | (0 | 1, None) => return None,
        (0 | 1, Some(_)) => "acks must be -1 in a transaction",
        _ => "acks must be -1, 0 or 1",
    };
    Some((ErrorCode::INVALID_REQUIRED_ACKS, message.to_owned()))
}

/// Why a transaction takes no records, as its producer is told.
fn transaction_error(error: &TransactionError) -> ErrorCode {
    match error.code(ErrorCode::INVALID_PRODUCER_EPOCH) {
        // A code of coordinators; this one is of partitions, and retried as well.
        ErrorCode::COORDINATOR_NOT_AVAILABLE => ErrorCode::NOT_ENOUGH_REPLICAS,
        code => code,
    }
}

async fn queue_topic(
    broker: &Arc<Broker>,
    catalog: &Catalog,
    topic: TopicProduceData,
    terms: &Terms,
) -> Vec<Entry> {
    let by_id = terms.version >= FIRST_WITH_IDS;
    let found = find_topic(catalog, by_id, &topic.name, topic.topic_id);
    let mut entries = Vec::with_capacity(topic.partition_data.len());
    for partition in topic.partition_data {
        let index = partition.index;
        let queued = match (&terms.refusal, &found, find_partition(&found, index)) {
            (Some((code, message)), _, _) => Err(Refusal::new(*code, message)),
            (None, Ok(topic), Ok(id)) => queue(broker, topic, id, partition, terms).await,
            (None, Err(code), _) => Err(Refusal::new(*code, "no such topic")),
            (None, _, Err(code)) => Err(Refusal::new(code, "no such partition")),
        };
        entries.push(Entry { index, queued });
    }
    entries
}

/// Checks one batch and queues it for the disk.
async fn queue(
    broker: &Arc<Broker>,
    topic: &Topic,
    id: PartitionId,
    partition: PartitionProduceData,
    terms: &Terms,
) -> Result<Queued, Refusal> {
    let records = partition.records.unwrap_or_default();
    let limit = topic.settings.message_bytes_max;
    // What compaction would not take apart.
    let is_compacted = topic.settings.cleanup.compact;
    let read_max = if is_compacted { COMPACTED_BYTES_MAX } else { UNCOMPRESSED_BYTES_MAX };
    let info = validate(broker, records.clone(), limit, read_max).await?;
    let header = info.header;
    if header.attributes.is_control() {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, "control batch from a client"));
    }
    check_transactional(&header, terms)?;
    let zstd = header.attributes.compression() == Ok(Compression::Zstd);
    if zstd && terms.version < FIRST_WITH_ZSTD {
        let message = "zstd needs produce version 7";
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    }
    let Stamped { records, append_time_ms } =
        batch_check::check(broker, &topic.settings, &info, records).await?;
    // Not while batches are decoded: the transaction waits for who holds it (EXPIRY-1).
    let guard = guard(broker, &header, id, terms).await?;
    let queued = broker.log.enqueue(Commit::append(id, records)).await;
    drop(guard);
    let pending = queued.map_err(|error| refusal_of(broker, id, &error))?;
    Ok(Queued { id, pending, append_time_ms })
}

fn check_transactional(header: &BatchHeader, terms: &Terms) -> Result<(), Refusal> {
    let refused = |message| Err(Refusal::new(ErrorCode::INVALID_TXN_STATE, message));
    match (&terms.transactional_id, header.attributes.is_transactional()) {
        (None, true) => refused("transactional batch without a transactional id"),
        (Some(_), false) => refused("batch outside of the transaction that the request names"),
        (None, false) | (Some(_), true) => Ok(()),
    }
}

/// PRODUCE-4. To be held until the batch is queued.
async fn guard(
    broker: &Broker,
    header: &BatchHeader,
    id: PartitionId,
    terms: &Terms,
) -> Result<Option<WriteGuard>, Refusal> {
    let Some(transactional_id) = &terms.transactional_id else { return Ok(None) };
    let refused = |error: TransactionError| Refusal::new(transaction_error(&error), error);
    let guard = broker.transactions.guard(transactional_id).await.map_err(refused)?;
    let bearer = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
    guard.check(bearer, id).map_err(refused)?;
    Ok(Some(guard))
}

async fn validate(
    broker: &Arc<Broker>,
    records: Bytes,
    bytes_max: usize,
    read_max: u64,
) -> Result<BatchInfo, Refusal> {
    let uncompressed = (bytes_max as u64).saturating_mul(UNCOMPRESSED_PER_BYTE_MAX);
    let limits =
        Limits { batch_bytes_max: bytes_max, uncompressed_bytes_max: uncompressed.min(read_max) };
    let plain = BatchHeader::parse(&records)
        .is_ok_and(|header| header.attributes.compression() == Ok(Compression::None));
    let validated = if plain && records.len() <= INLINE_BYTES_MAX {
        batch::validate(&records, &limits)
    } else {
        let finished = broker.decode(move |_| batch::validate(&records, &limits)).await;
        finished.map_err(|error| Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, error))?
    };
    validated.map_err(|error| invalid(&error))
}

pub(super) fn invalid(error: &BatchError) -> Refusal {
    tracing::warn!(%error, "record batch refused");
    Refusal::new(error.error_code(), error)
}

fn refusal_of(broker: &Broker, id: PartitionId, error: &CommitError) -> Refusal {
    if broker.told.is_due(Subject::Append(id), broker.env.clock.monotonic()) {
        let partition = broker.name_of(id).unwrap_or_default();
        tracing::warn!(cause = %error.cause, partition, "append refused; told once a minute");
    }
    // The Java client starts over on an unknown producer only if it is told the log's start.
    let log_start = broker.log.partition(id).map_or(-1, |view| view.log_start);
    Refusal { log_start, ..Refusal::new(produce_error(&error.cause), &error.cause) }
}

/// PRODUCE-1: the end of the wait for the disk.
async fn finish(broker: &Broker, entry: Entry) -> PartitionProduceResponse {
    let outcome = match entry.queued {
        Ok(Queued { id, pending, append_time_ms }) => {
            let committed = pending.await;
            let committed = committed.map_err(|error| refusal_of(broker, id, &error));
            let appended = committed.and_then(only_append);
            appended.map(|appended| (appended, append_time(broker, id, &appended, append_time_ms)))
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok((appended, log_append_time_ms)) => PartitionProduceResponse {
            index: entry.index,
            base_offset: appended.base_offset,
            log_append_time_ms,
            log_start_offset: appended.log_start,
            ..Default::default()
        },
        Err(refusal) => {
            broker.counters.batches_refused.fetch_add(1, Ordering::Relaxed);
            PartitionProduceResponse {
                index: entry.index,
                error_code: refusal.code,
                base_offset: -1,
                log_start_offset: refusal.log_start,
                error_message: Some(refusal.message),
                record_errors: refusal.records,
                ..Default::default()
            }
        }
    }
}

/// The time in the stored batch (CHECK-2): that of the original, if this one was a duplicate.
fn append_time(broker: &Broker, id: PartitionId, appended: &Appended, stamped_ms: i64) -> i64 {
    if !appended.duplicate {
        return stamped_ms;
    }
    let original = broker.log.read(id, appended.base_offset, 1).ok();
    let header = original.and_then(|slice| BatchHeader::parse(&slice.batches.first()?.bytes).ok());
    header.map_or(-1, |header| match header.attributes.timestamp_type() {
        TimestampType::LogAppend => header.max_timestamp,
        TimestampType::Create => -1,
    })
}

fn only_append(committed: Committed) -> Result<Appended, Refusal> {
    let [appended] = committed.appended.as_slice() else {
        let message = "the log answered for another commit";
        return Err(Refusal::new(ErrorCode::UNKNOWN_SERVER_ERROR, message));
    };
    assert!(appended.base_offset <= appended.last_offset, "PRODUCE-1: a batch has records");
    Ok(*appended)
}

/// Nobody waits for an answer: the one way to tell of a failure is to close the connection, as
/// Apache Kafka does.
fn no_answer(responses: &[TopicProduceResponse]) -> Result<Option<Answer>, CallError> {
    let partitions = responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.into_iter().find(|partition| !partition.error_code.is_none()) {
        None => Ok(None),
        Some(failed) => {
            Err(CallError::UnacknowledgedProduce(failed.error_message.clone().unwrap_or_default()))
        }
    }
}
