//! # Invariants
//!
//! - OFFSET-FETCH-1: what cannot be read or cannot be true is an error, never "no offset": a
//!   consumer would begin somewhere else and call it right.
//! - OFFSET-FETCH-2: who asks for stable offsets is not told one that an open transaction is about
//!   to change: it would process again what that transaction has.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use lossproof_log::StateKind;
use lossproof_wire::{
    ErrorCode, OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics, Uuid,
};

use super::once;
use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, Reply};
use crate::error::offsets_error;
use crate::offsets::{CommittedOffset, OffsetKey, is_damaged, keys_of};
use crate::topics::{Catalog, Topic};
use crate::turn::Turn;

const FIRST_BATCHED: i16 = 8;
const FIRST_WITH_IDS: i16 = 10;

type Partitions = Vec<OffsetFetchResponsePartitions>;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut turn = broker.turns.next().await;
        let request: OffsetFetchRequest = call.decode()?;
        let terms = Terms { version: call.version, stable: request.require_stable };
        let response = if call.version < FIRST_BATCHED {
            let group = as_group(request);
            as_single(fetch_group(&broker, &mut turn, group, terms).await)
        } else {
            let mut groups = Vec::new();
            for group in once(request.groups, |group| group.group_id.clone()) {
                groups.push(fetch_group(&broker, &mut turn, group, terms).await);
            }
            OffsetFetchResponse { groups, ..Default::default() }
        };
        call.late(&response)
    }))
}

/// What holds for all groups of a request.
#[derive(Clone, Copy)]
struct Terms {
    version: i16,
    /// OFFSET-FETCH-2.
    stable: bool,
}

/// The request of the older versions in the form of the newer ones.
fn as_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..Default::default()
        });
        topics.collect()
    });
    OffsetFetchRequestGroup { group_id: request.group_id, topics, ..Default::default() }
}

fn as_single(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|one| OffsetFetchResponsePartition {
            partition_index: one.partition_index,
            committed_offset: one.committed_offset,
            committed_leader_epoch: one.committed_leader_epoch,
            metadata: one.metadata,
            error_code: one.error_code,
        });
        OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..Default::default()
    }
}

async fn fetch_group(
    broker: &Broker,
    turn: &mut Turn,
    group: OffsetFetchRequestGroup,
    terms: Terms,
) -> OffsetFetchResponseGroup {
    let catalog = broker.topics.catalog();
    let id = group.group_id;
    turn.looked_at(1).await;
    let topics = match group.topics {
        Some(wanted) => Ok(named_topics(broker, turn, &catalog, &id, wanted, terms).await),
        None => all_topics(broker, turn, &catalog, &id, terms).await,
    };
    let response = OffsetFetchResponseGroup { group_id: id, ..Default::default() };
    match topics {
        Ok(topics) => OffsetFetchResponseGroup { topics, ..response },
        Err(error_code) => OffsetFetchResponseGroup { error_code, ..response },
    }
}

async fn named_topics(
    broker: &Broker,
    turn: &mut Turn,
    catalog: &Catalog,
    group: &str,
    wanted: Vec<OffsetFetchRequestTopics>,
    terms: Terms,
) -> Vec<OffsetFetchResponseTopics> {
    let by_id = terms.version >= FIRST_WITH_IDS;
    let mut seen = HashSet::new();
    let mut topics = Vec::new();
    for topic in wanted {
        turn.looked_at(1).await;
        let found = find_topic(catalog, by_id, &topic.name, topic.topic_id);
        let mut partitions = Vec::new();
        for index in topic.partition_indexes {
            turn.looked_at(1).await;
            // BUDGET-6: each comes with what was committed beside the offset.
            if found.as_ref().is_ok_and(|topic| !seen.insert((topic.id, index))) {
                continue;
            }
            partitions.push(answer(index, of_named(broker, catalog, group, &found, index, terms)));
        }
        let (name, topic_id) = (topic.name, topic.topic_id);
        topics.push(OffsetFetchResponseTopics { name, topic_id, partitions });
    }
    topics
}

fn of_named(
    broker: &Broker,
    catalog: &Catalog,
    group: &str,
    found: &Result<Arc<Topic>, ErrorCode>,
    partition: i32,
    terms: Terms,
) -> Result<Option<CommittedOffset>, ErrorCode> {
    match found {
        // Where metadata is damaged the topic may exist and only not be known.
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) if is_damaged(&broker.log) => {
            Err(ErrorCode::COORDINATOR_NOT_AVAILABLE)
        }
        // A topic that does not exist has no offsets, as in Apache Kafka; an id that does not exist
        // is an error there too.
        Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => Ok(None),
        Err(error) => Err(*error),
        Ok(found) => {
            let key = OffsetKey { group: group.to_owned(), topic_id: found.id, partition };
            committed(broker, catalog, &key, terms)
        }
    }
}

/// Everything the group has committed, for topics that exist.
async fn all_topics(
    broker: &Broker,
    turn: &mut Turn,
    catalog: &Catalog,
    group: &str,
    terms: Terms,
) -> Result<Vec<OffsetFetchResponseTopics>, ErrorCode> {
    let mut topics: BTreeMap<_, Partitions> = BTreeMap::new();
    let mut keys: BTreeSet<OffsetKey> = BTreeSet::new();
    if terms.stable {
        // Before the committed ones: what a transaction commits meanwhile is among these then.
        let pending = broker.transactions.pending(&OffsetKey::group_prefix(group));
        for key in pending.map_err(|error| error.code(ErrorCode::PRODUCER_FENCED))? {
            keys.insert(OffsetKey::decode(key).map_err(offsets_error)?);
        }
    }
    keys.extend(keys_of(&broker.log, group).map_err(offsets_error)?);
    for key in keys {
        turn.looked_at(1).await;
        if catalog.by_id(key.topic_id).is_some() {
            let outcome = committed(broker, catalog, &key, terms);
            topics.entry(key.topic_id).or_default().push(answer(key.partition, outcome));
        }
    }
    let topics = topics.into_iter().map(|(id, partitions)| OffsetFetchResponseTopics {
        name: catalog.by_id(id).map(|topic| topic.name.clone()).unwrap_or_default(),
        topic_id: Uuid(id.0),
        partitions,
    });
    Ok(topics.collect())
}

/// OFFSET-FETCH-1.
fn committed(
    broker: &Broker,
    catalog: &Catalog,
    key: &OffsetKey,
    terms: Terms,
) -> Result<Option<CommittedOffset>, ErrorCode> {
    if is_damaged(&broker.log) {
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    if terms.stable {
        let pending = broker.transactions.is_pending(key);
        if pending.map_err(|error| error.code(ErrorCode::PRODUCER_FENCED))? {
            return Err(ErrorCode::UNSTABLE_OFFSET_COMMIT);
        }
    }
    let Some(value) = broker.log.state_value(StateKind::Offsets, &key.encode()) else {
        return Ok(None);
    };
    let committed = CommittedOffset::decode(value).map_err(|error| {
        tracing::error!(group = %key.group, %error, "committed offset is damaged");
        ErrorCode::COORDINATOR_NOT_AVAILABLE
    })?;
    let topic = catalog.by_id(key.topic_id).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID);
    let id = find_partition(&topic, key.partition)?;
    let view = broker.log.partition(id).ok_or(ErrorCode::KAFKA_STORAGE_ERROR)?;
    if committed.offset > view.high_watermark {
        tracing::error!(group = %key.group, topic = %topic?.name, partition = key.partition,
            committed = committed.offset, high_watermark = view.high_watermark,
            "committed offset is above the end of the log: records are missing there");
        return Err(ErrorCode::KAFKA_STORAGE_ERROR);
    }
    Ok(Some(committed))
}

fn answer(
    partition_index: i32,
    outcome: Result<Option<CommittedOffset>, ErrorCode>,
) -> OffsetFetchResponsePartitions {
    let none = OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        metadata: Some(String::new()),
        ..Default::default()
    };
    match outcome {
        Ok(None) => none,
        Ok(Some(committed)) => OffsetFetchResponsePartitions {
            committed_offset: committed.offset,
            committed_leader_epoch: committed.leader_epoch,
            metadata: Some(committed.metadata),
            ..none
        },
        Err(error_code) => OffsetFetchResponsePartitions { error_code, ..none },
    }
}
