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

use bytes::Bytes;
use lossproof_log::{Appended, Commit, CommitError, Committed, PartitionId, Pending};
use lossproof_wire::batch::{
    self, BatchError, BatchHeader, BatchInfo, Compression, Limits, UNCOMPRESSED_BYTES_MAX,
};
use lossproof_wire::{
    ErrorCode, PartitionProduceData, PartitionProduceResponse, ProduceRequest, ProduceResponse,
    TopicProduceData, TopicProduceResponse,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Answer, Call, CallError, Reply};
use crate::error::produce_error;
use crate::topics::{Catalog, Topic};
use crate::transaction::{Identity, TransactionError, WriteGuard};

const FIRST_WITH_ZSTD: i16 = 7;
const FIRST_WITH_IDS: i16 = 13;
/// Larger batches, and all that are compressed, are checked on a thread of their own.
const INLINE_BYTES_MAX: usize = 128 << 10;

/// Why one batch was refused.
#[derive(Debug)]
struct Refusal {
    code: ErrorCode,
    message: String,
    log_start: i64,
}

impl Refusal {
    fn new(code: ErrorCode, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), log_start: -1 }
    }
}

/// One partition of a request, on its way to the disk.
struct Entry {
    index: i32,
    queued: Result<(PartitionId, Pending), Refusal>,
}

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: ProduceRequest = call.decode()?;
    let mut refusal = refuse_all(&request);
    // Held until all of the request is queued (PRODUCE-4).
    let mut guard = None;
    if let Some(id) = &request.transactional_id {
        match broker.transactions.guard(id).await {
            Ok(found) => guard = Some(found),
            Err(error) => refusal = Some((transaction_error(&error), error.to_string())),
        }
    }
    let terms = Terms { version: call.version, refusal, guard };
    let catalog = broker.topics.catalog();
    let acks = request.acks;
    let mut topics = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let (name, id) = (topic.name.clone(), topic.topic_id);
        let entries = queue_topic(broker, &catalog, topic, &terms).await;
        topics.push((name, id, entries));
    }
    drop(terms);
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
    /// Of the transaction in whose name the request is made.
    guard: Option<WriteGuard>,
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
            (None, Ok(topic), Ok(id)) => {
                let queued = queue(broker, topic, id, partition, terms).await;
                queued.map(|pending| (id, pending))
            }
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
) -> Result<Pending, Refusal> {
    let records = partition.records.unwrap_or_default();
    let limit = topic.config.message_bytes_max().unwrap_or(broker.config.message_bytes_max);
    let limit = limit.min(broker.config.message_bytes_max);
    let BatchInfo { header, max_timestamp, .. } = validate(broker, records.clone(), limit).await?;
    if header.attributes.is_control() {
        return Err(Refusal::new(ErrorCode::INVALID_RECORD, "control batch from a client"));
    }
    check_transaction(&header, id, terms.guard.as_ref())?;
    let zstd = header.attributes.compression() == Ok(Compression::Zstd);
    if zstd && terms.version < FIRST_WITH_ZSTD {
        let message = "zstd needs produce version 7";
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    }
    // The index of timestamps believes the header: a claim below the truth would hide records from
    // whoever seeks by time.
    let records = if max_timestamp == header.max_timestamp {
        records
    } else {
        batch::with_max_timestamp(&records, max_timestamp).map_err(|error| invalid(&error))?
    };
    let queued = broker.log.enqueue(Commit::append(id, records)).await;
    queued.map_err(|error| refusal_of(broker, id, &error))
}

/// PRODUCE-4.
fn check_transaction(
    header: &BatchHeader,
    id: PartitionId,
    guard: Option<&WriteGuard>,
) -> Result<(), Refusal> {
    let refused = |message| Err(Refusal::new(ErrorCode::INVALID_TXN_STATE, message));
    match (guard, header.attributes.is_transactional()) {
        (None, false) => Ok(()),
        (None, true) => refused("transactional batch without a transactional id"),
        (Some(_), false) => refused("batch outside of the transaction that the request names"),
        (Some(guard), true) => {
            let bearer = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
            let checked = guard.check(bearer, id);
            checked.map_err(|error| Refusal::new(transaction_error(&error), error))
        }
    }
}

async fn validate(
    broker: &Arc<Broker>,
    records: Bytes,
    bytes_max: usize,
) -> Result<BatchInfo, Refusal> {
    let limits =
        Limits { batch_bytes_max: bytes_max, uncompressed_bytes_max: UNCOMPRESSED_BYTES_MAX };
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

fn invalid(error: &BatchError) -> Refusal {
    tracing::warn!(%error, "record batch refused");
    Refusal::new(error.error_code(), error)
}

fn refusal_of(broker: &Broker, id: PartitionId, error: &CommitError) -> Refusal {
    tracing::warn!(cause = %error.cause, partition = %id, "append refused");
    // The Java client starts over on an unknown producer only if it is told the log's start.
    let log_start = broker.log.partition(id).map_or(-1, |view| view.log_start);
    Refusal { code: produce_error(&error.cause), message: error.cause.to_string(), log_start }
}

/// PRODUCE-1: the end of the wait for the disk.
async fn finish(broker: &Broker, entry: Entry) -> PartitionProduceResponse {
    let outcome = match entry.queued {
        Ok((id, pending)) => {
            let committed = pending.await;
            committed.map_err(|error| refusal_of(broker, id, &error)).and_then(only_append)
        }
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(appended) => PartitionProduceResponse {
            index: entry.index,
            base_offset: appended.base_offset,
            log_start_offset: appended.log_start,
            ..Default::default()
        },
        Err(refusal) => PartitionProduceResponse {
            index: entry.index,
            error_code: refusal.code,
            base_offset: -1,
            log_start_offset: refusal.log_start,
            error_message: Some(refusal.message),
            ..Default::default()
        },
    }
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
