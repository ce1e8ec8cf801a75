use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::group::Inside;
use crate::offsets::OffsetKey;
use crate::removal::remove_offsets;
use crate::topics::TopicId;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: OffsetDeleteRequest = call.decode()?;
    let topics = request.topics;
    let removed = remove_offsets(broker, request.group_id, |broker, group| {
        let used = subscribed(&group.inside)?;
        Ok(choose(broker, group.keys, used, topics))
    });
    match removed.await {
        Ok(topics) => call.ready(&OffsetDeleteResponse { topics, ..Default::default() }),
        Err(error_code) => call.ready(&OffsetDeleteResponse { error_code, ..Default::default() }),
    }
}

/// The topics whose offsets members need; `None`: all.
fn subscribed(inside: &Inside) -> Result<Option<BTreeSet<String>>, ErrorCode> {
    match inside {
        Inside::Unknown | Inside::Nobody => Ok(Some(BTreeSet::new())),
        // What cannot be read may be a subscription to every topic.
        Inside::Consumers(topics) => Ok(topics.clone()),
        Inside::Others => Err(ErrorCode::NON_EMPTY_GROUP),
    }
}

/// The offsets to remove, and the answer if that succeeds.
fn choose(
    broker: &Broker,
    mut keys: Vec<OffsetKey>,
    used: Option<BTreeSet<String>>,
    wanted: Vec<OffsetDeleteRequestTopic>,
) -> (Vec<OffsetKey>, Vec<OffsetDeleteResponseTopic>) {
    let catalog = broker.topics.catalog();
    let known: HashSet<(TopicId, i32)> = keys.iter().map(place).collect();
    // However often a request names one (BUDGET-6).
    let mut chosen = HashSet::new();
    let topics = wanted.into_iter().map(|topic| {
        let found = find_topic(&catalog, false, &topic.name, Uuid::ZERO);
        let is_used = used.as_ref().is_none_or(|topics| topics.contains(&topic.name));
        let partitions = topic.partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            let error_code = match (&found, find_partition(&found, index)) {
                (Err(error_code), _) => *error_code,
                (Ok(_), Err(error_code)) => error_code,
                (Ok(_), Ok(_)) if is_used => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                (Ok(found), Ok(_)) => {
                    chosen.extend(known.get(&(found.id, index)).copied());
                    ErrorCode::NONE
                }
            };
            OffsetDeleteResponsePartition { partition_index: index, error_code }
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic { name: topic.name, partitions }
    });
    let topics = topics.collect();
    keys.retain(|key| chosen.contains(&place(key)));
    (keys, topics)
}

fn place(key: &OffsetKey) -> (TopicId, i32) {
    (key.topic_id, key.partition)
}
