use std::sync::Arc;

use lossproof_wire::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
    CreatePartitionsTopicResult, ErrorCode,
};

use super::alteration::named_twice;
use crate::broker::Broker;
use crate::call::{Call, CallError, Reply};
use crate::error::topic_error;
use crate::topics::TopicError;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: CreatePartitionsRequest = call.decode()?;
    let twice = named_twice(request.topics.iter().map(|topic| topic.name.clone()));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let grown = if twice.contains(&name) {
            Err((ErrorCode::INVALID_REQUEST, "the request names this topic twice".to_owned()))
        } else {
            grow(broker, topic, request.validate_only).await
        };
        let (error_code, message) = match grown {
            Ok(()) => (ErrorCode::NONE, None),
            Err((error_code, message)) => (error_code, Some(message)),
        };
        results.push(CreatePartitionsTopicResult { name, error_code, error_message: message });
    }
    call.ready(&CreatePartitionsResponse { results, ..Default::default() })
}

async fn grow(
    broker: &Arc<Broker>,
    wanted: CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), (ErrorCode, String)> {
    let refusal = |error: TopicError| (topic_error(&error), error.to_string());
    let topic = broker.topics.check_growth(&wanted.name, wanted.count).map_err(refusal)?;
    if let Some(assignments) = wanted.assignments {
        let new = usize::try_from(wanted.count).unwrap_or(0).saturating_sub(topic.partitions.len());
        let node = broker.node_id();
        let here = assignments.iter().all(|one| one.broker_ids == [node]);
        if assignments.len() != new || !here {
            let message = format!("each of {new} new partitions must be on broker {node}");
            return Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        }
    }
    if validate_only {
        return Ok(());
    }
    broker.grow_topic(wanted.name, wanted.count).await.map_err(refusal)
}
