use std::sync::Arc;

use lossproof_wire::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse, ErrorCode,
    Uuid,
};

use crate::broker::{Broker, find_topic};
use crate::call::{Call, CallError, Reply};
use crate::error::topic_error;

const FIRST_WITH_IDS: i16 = 6;

pub(super) async fn start(broker: &Arc<Broker>, mut call: Call) -> Result<Reply, CallError> {
    let request: DeleteTopicsRequest = call.decode()?;
    let wanted = if call.version < FIRST_WITH_IDS {
        let by_name = |name| DeleteTopicState { name: Some(name), ..Default::default() };
        request.topic_names.into_iter().map(by_name).collect()
    } else {
        request.topics
    };
    let mut responses = Vec::with_capacity(wanted.len());
    for topic in wanted {
        responses.push(delete(broker, topic).await);
    }
    call.ready(&DeleteTopicsResponse { responses, ..Default::default() })
}

async fn delete(broker: &Arc<Broker>, wanted: DeleteTopicState) -> DeletableTopicResult {
    if wanted.name.is_some() != wanted.topic_id.is_zero() {
        // Both may be of two topics, and a deletion must not have to guess.
        return DeletableTopicResult {
            name: wanted.name,
            topic_id: wanted.topic_id,
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("either a name or an id is wanted".to_owned()),
        };
    }
    let catalog = broker.topics.catalog();
    let by_id = wanted.name.is_none();
    let name = wanted.name.clone().unwrap_or_default();
    let topic = match find_topic(&catalog, by_id, &name, wanted.topic_id) {
        Ok(topic) => topic,
        Err(error_code) => {
            return DeletableTopicResult {
                name: wanted.name,
                topic_id: wanted.topic_id,
                error_code,
                ..Default::default()
            };
        }
    };
    let result = DeletableTopicResult {
        name: Some(topic.name.clone()),
        topic_id: Uuid(topic.id.0),
        ..Default::default()
    };
    match broker.delete_topic(topic.id).await {
        Ok(()) => result,
        Err(error) => DeletableTopicResult {
            error_code: topic_error(&error),
            error_message: Some(error.to_string()),
            ..result
        },
    }
}
