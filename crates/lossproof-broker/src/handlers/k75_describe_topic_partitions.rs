use std::collections::BTreeSet;
use std::sync::Arc;

use lossproof_wire::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, ErrorCode,
    Uuid,
};

use crate::broker::Broker;
use crate::call::{Call, Reply};
use crate::topics::{Catalog, Topic};
use crate::turn::Turn;

/// As `max.request.partition.size.limit` of Apache Kafka: no answer describes more partitions.
const PARTITIONS_PER_ANSWER_MAX: usize = 2_000;

pub(super) fn start(broker: &Arc<Broker>, mut call: Call) -> Reply {
    let broker = Arc::clone(broker);
    Reply::Later(Box::pin(async move {
        let mut turn = broker.turns.next().await;
        let request: DescribeTopicPartitionsRequest = call.decode()?;
        let response = page(&broker, &mut turn, request).await;
        call.late(&response)
    }))
}

/// Topics by name from the cursor on, until there are as many partitions as were asked for. At
/// least one is given, or a client would ask for ever.
async fn page(
    broker: &Broker,
    turn: &mut Turn,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let catalog = broker.topics.catalog();
    let mut left = usize::try_from(request.response_partition_limit).unwrap_or(0);
    left = left.clamp(1, PARTITIONS_PER_ANSWER_MAX);
    let cursor = request.cursor.unwrap_or_default();
    let names = names(&catalog, request.topics);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.range(cursor.topic_name.clone()..) {
        turn.looked_at(1).await; // The partitions of all of them together are few.
        let Some(topic) = catalog.by_name(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let continued = if *name == cursor.topic_name { cursor.partition_index } else { 0 };
        let first = usize::try_from(continued).unwrap_or(0);
        let end = topic.partitions.len().min(first.saturating_add(left));
        if left == 0 || end < topic.partitions.len() {
            let partition_index = i32::try_from(end.max(first)).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: name.clone(), partition_index });
        }
        if left > 0 {
            response.topics.push(describe(broker, topic, first, end));
            left -= end.saturating_sub(first);
        }
        if response.next_cursor.is_some() {
            break;
        }
    }
    response
}

/// An empty list means all topics.
fn names(
    catalog: &Catalog,
    wanted: Vec<lossproof_wire::DescribeTopicPartitionsTopic>,
) -> BTreeSet<String> {
    if wanted.is_empty() {
        return catalog.iter().map(|topic| topic.name.clone()).collect();
    }
    wanted.into_iter().map(|topic| topic.name).collect()
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error_code = match crate::topics::check_name(name) {
        Ok(()) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Err(error) => crate::error::topic_error(&error),
    };
    DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name.to_owned()),
        ..Default::default()
    }
}

fn describe(
    broker: &Broker,
    topic: &Topic,
    first: usize,
    end: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let wanted = (0..).zip(&topic.partitions).take(end).skip(first);
    let partitions = wanted.map(|(partition_index, id)| {
        let common = DescribeTopicPartitionsResponsePartition {
            partition_index,
            replica_nodes: vec![broker.node_id()],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            ..Default::default()
        };
        match broker.log.partition(*id) {
            Some(view) => DescribeTopicPartitionsResponsePartition {
                leader_id: broker.node_id(),
                leader_epoch: view.leader_epoch,
                isr_nodes: vec![broker.node_id()],
                ..common
            },
            None => DescribeTopicPartitionsResponsePartition {
                error_code: ErrorCode::LEADER_NOT_AVAILABLE,
                leader_id: -1,
                offline_replicas: vec![broker.node_id()],
                ..common
            },
        }
    });
    DescribeTopicPartitionsResponseTopic {
        name: Some(topic.name.clone()),
        topic_id: Uuid(topic.id.0),
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..Default::default()
    }
}
