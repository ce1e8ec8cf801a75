use std::collections::BTreeSet;
use std::sync::Arc;

use lossproof_wire::{
    ErrorCode, OffsetDeleteRequest, OffsetDeleteRequestTopic, OffsetDeleteResponse,
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic, Uuid,
};

use crate::broker::{Broker, find_partition, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::group::Inside;
use crate::offsets::OffsetKey;
use crate::removal::{ClosedGroup, remove_offsets};

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: OffsetDeleteRequest = call.decode()?;
    let topics = request.topics;
    let removed = remove_offsets(broker, request.group_id, |broker, group| {
        let in_use = in_use(&group)?;
        Ok(choose(broker, &group, &in_use, topics))
    });
    match removed.await {
        Ok(topics) => call.ready(&OffsetDeleteResponse { topics, ..Default::default() }),
        Err(error_code) => call.ready(&OffsetDeleteResponse { error_code, ..Default::default() }),
    }
}

/// The topics whose offsets members need.
enum InUse {
    Only(BTreeSet<String>),
    Any,
}

fn in_use(group: &ClosedGroup) -> Result<InUse, ErrorCode> {
    match &group.inside {
        Inside::Unknown | Inside::Nobody => Ok(InUse::Only(BTreeSet::new())),
        Inside::Consumers(Some(topics)) => Ok(InUse::Only(topics.clone())),
        // What cannot be read may be a subscription to every topic.
        Inside::Consumers(None) => Ok(InUse::Any),
        Inside::Others => Err(ErrorCode::NON_EMPTY_GROUP),
    }
}

/// The offsets to remove, and the answer if that succeeds.
fn choose(
    broker: &Broker,
    group: &ClosedGroup,
    in_use: &InUse,
    wanted: Vec<OffsetDeleteRequestTopic>,
) -> (Vec<OffsetKey>, Vec<OffsetDeleteResponseTopic>) {
    let catalog = broker.topics.catalog();
    let mut chosen = Vec::new();
    let topics = wanted.into_iter().map(|topic| {
        let found = find_topic(&catalog, false, &topic.name, Uuid::ZERO);
        let used = match in_use {
            InUse::Only(topics) => topics.contains(&topic.name),
            InUse::Any => true,
        };
        let partitions = topic.partitions.into_iter().map(|partition| {
            let index = partition.partition_index;
            let error_code = match (find_partition(&found, index), &found) {
                (Err(error_code), _) => error_code,
                (Ok(_), Err(error_code)) => *error_code,
                (Ok(_), Ok(_)) if used => ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC,
                (Ok(_), Ok(found)) => {
                    let of = |key: &&OffsetKey| key.topic_id == found.id && key.partition == index;
                    chosen.extend(group.keys.iter().find(of).cloned());
                    ErrorCode::NONE
                }
            };
            OffsetDeleteResponsePartition { partition_index: index, error_code }
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic { name: topic.name, partitions }
    });
    let topics = topics.collect();
    (chosen, topics)
}
